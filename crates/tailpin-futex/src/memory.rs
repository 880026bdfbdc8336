//! What futexes ask of an address space.
//!
//! A table of futexes needs no address spaces of `tailpin-mm`, so addresses, accesses and
//! identities have small types here. Each says which type of that crate it is made from, by
//! [`Memory`] of a `tailpin_mm::Space`.

use core::fmt;

use tailpin::PAGE_BYTES;

/// A virtual address; of a `tailpin_mm::VirtAddr`, the number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Address(u64);

impl Address {
    /// The address with this number.
    #[inline]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The address as a number.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Address of the base page it lies in.
    #[inline]
    pub const fn page(self) -> Self {
        Self(self.0 & !(PAGE_BYTES - 1))
    }

    /// Its distance from the beginning of that page: 0 to 4095.
    #[inline]
    pub const fn offset(self) -> u16 {
        (self.0 & (PAGE_BYTES - 1)) as u16
    }

    /// Whether a 32-bit word may lie here.
    #[inline]
    pub const fn is_aligned(self) -> bool {
        self.0 & 3 == 0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({:#x})", self.0)
    }
}

/// Which address space: a number that is never used again, that of a `tailpin_mm::SpaceId`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct SpaceId(pub u64);

/// Which object (file, shared memory, hugetlb): a number that is never used again, that of
/// a `tailpin_mm::ObjectId`. A holder of the number keeps no reference to the object (kernel commit
/// 8019ad13ef7f).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct ObjectId(pub u64);

/// What a page is wanted for: a `tailpin_mm::Access` but to be executed, as no futex is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// To be read.
    Read,
    /// To be written: a private copy is made first where one is due.
    Write,
}

/// Whose a page is: a `tailpin_mm::PageIdentity` without the place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageOwner {
    /// The address space that maps it.
    Anonymous,
    /// An object, of which every process that maps it sees the same page.
    Object(ObjectId),
    /// None any more: the page was taken out of its object or address space after it was pinned.
    Gone,
    /// The system: the zero page, a device, a gate page. No futex may live there.
    Special,
}

/// The page table does not allow the access now (`tailpin_mm::NotPresent`). It says nothing about
/// whether a fault would change that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NotPresent;

impl fmt::Display for NotPresent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no page is there for this access now")
    }
}

impl core::error::Error for NotPresent {}

/// Why a page can't be made present: what of a `tailpin_mm::FaultError` a futex can tell its
/// caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Nothing is mapped there, or nothing that may be read.
    Unmapped,
    /// It is mapped, but may not be written.
    NotWritable,
    /// The object ends before it.
    BeyondEnd,
    /// There is no page left.
    OutOfMemory,
}

/// An address space, as far as futexes need it.
///
/// The first group of methods is for keys: pin the base page that an address means at this moment,
/// ask *that page* whose it is, unpin it. The second is for the word itself, which is always
/// reached through its address: between two calls the page behind it may be another one.
pub trait Memory: Sync {
    /// A pinned base page. A type that can't be copied is unpinned once, and not used after that.
    type Page;
    /// Which base page it is, also when it is no longer pinned.
    type PageName: Copy + PartialEq;

    /// Which address space this is.
    fn space(&self) -> SpaceId;

    /// Pins the base page that `at` is mapped to, if the page table allows `access` as it stands.
    /// Takes no lock.
    ///
    /// The pin must hold the page where it is known to be the one mapped: after it was taken, the
    /// place where the page was found has been looked at again (H13).
    ///
    /// # Errors
    /// [`NotPresent`] if it does not; then [`fault`](Self::fault) is asked.
    fn pin(&self, at: Address, access: Access) -> Result<Self::Page, NotPresent>;

    /// Gives the pin back.
    fn unpin(&self, page: Self::Page);

    /// Which page this is. Two pages with one name that were pinned one after the other may be the
    /// same page.
    fn name(&self, page: &Self::Page) -> Self::PageName;

    /// Whose the page is. Under a pin it changes at most once, to [`PageOwner::Gone`].
    fn owner(&self, page: &Self::Page) -> PageOwner;

    /// Index of this base page in its object, in base pages. Under a pin it does not change.
    fn index(&self, page: &Self::Page) -> u64;

    /// Makes the page present for `access`: what it has granted, the next [`pin`](Self::pin) for
    /// the same access finds, unless another thread has changed the mapping in between.
    ///
    /// # Errors
    /// Why it can't.
    fn fault(&self, at: Address, access: Access) -> Result<(), Fault>;

    /// Reads the word at `at`, which is aligned. Acquire. Never faults.
    ///
    /// # Errors
    /// [`NotPresent`] if the page table has nothing to read there.
    fn load(&self, at: Address) -> Result<u32, NotPresent>;

    /// Writes `new` if the word is `old`; the word found is returned either way. Acquire and
    /// Release. Never faults.
    ///
    /// # Errors
    /// [`NotPresent`] if the page table has nothing to write there.
    fn compare_exchange(&self, at: Address, old: u32, new: u32) -> Result<Result<u32, u32>, NotPresent>;
}
