//! Virtual addresses, ranges of them, levels of the page table, and what may be done with memory.

use core::fmt;
use core::ops::Add;

use tailpin::Order;

pub use tailpin::PAGE_BYTES;

/// An address in a space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct VirtAddr(u64);

impl VirtAddr {
    /// The address with this value.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The address as a number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The address `bytes` further on, at most `u64::MAX`.
    pub const fn offset(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }

    /// Number of the base page that the address lies in.
    pub const fn page(self) -> u64 {
        self.0 / PAGE_BYTES
    }

    /// Whether the address is a multiple of `bytes`.
    ///
    /// # Panics
    /// If `bytes` is no power of two.
    pub const fn is_aligned(self, bytes: u64) -> bool {
        self.align_down(bytes).0 == self.0
    }

    /// The last multiple of `bytes` that is not above the address.
    ///
    /// # Panics
    /// If `bytes` is no power of two.
    pub const fn align_down(self, bytes: u64) -> Self {
        assert!(bytes.is_power_of_two(), "alignments are powers of two");
        Self(self.0 & bytes.wrapping_neg())
    }
}

impl Add<u64> for VirtAddr {
    type Output = Self;

    /// As [`VirtAddr::offset`]: at most `u64::MAX`.
    fn add(self, bytes: u64) -> Self {
        self.offset(bytes)
    }
}

impl From<VirtAddr> for u64 {
    fn from(addr: VirtAddr) -> Self {
        addr.get()
    }
}

impl fmt::Display for VirtAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for VirtAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VirtAddr({:#x})", self.0)
    }
}

/// A run of addresses, `start` included, `end` excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VirtRange {
    /// First address.
    pub start: VirtAddr,
    /// First address after it.
    pub end: VirtAddr,
}

impl VirtRange {
    /// `len` bytes from `start`.
    pub const fn new(start: VirtAddr, len: u64) -> Self {
        Self { start, end: start.offset(len) }
    }

    /// The aligned 2 MiB around `addr`.
    pub(crate) const fn huge_around(addr: VirtAddr) -> Self {
        Self::new(addr.align_down(Level::PMD.bytes()), Level::PMD.bytes())
    }

    /// The range's length in bytes.
    pub const fn len(self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// Whether the range has no bytes.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether `addr` is in the range.
    pub const fn contains(self, addr: VirtAddr) -> bool {
        self.start.0 <= addr.0 && addr.0 < self.end.0
    }

    /// Whether all of `other` is in this range.
    pub const fn covers(self, other: Self) -> bool {
        self.start.0 <= other.start.0 && other.end.0 <= self.end.0
    }

    /// What the two ranges have in common, perhaps nothing.
    pub(crate) fn meet(self, other: Self) -> Self {
        let start = self.start.max(other.start);
        Self { start, end: self.end.min(other.end).max(start) }
    }

    /// Both ranges and what lies between them.
    pub(crate) fn join(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A level of the page table, named by the size of one entry's reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Level(u8);

impl Level {
    /// Entries for 4 KiB.
    pub const PTE: Self = Self(0);
    /// Entries for 2 MiB.
    pub const PMD: Self = Self(1);
    /// Entries for 1 GiB.
    pub const PUD: Self = Self(2);
    /// Entries for 512 GiB: the root where there are four levels.
    pub const P4D: Self = Self(3);
    /// Entries for 256 TiB: the root where there are five.
    pub const PGD: Self = Self(4);

    /// Bytes that one entry of this level reaches.
    pub const fn bytes(self) -> u64 {
        // At most 48 bits: there are five levels.
        PAGE_BYTES.wrapping_shl(9_u32.wrapping_mul(self.0 as u32))
    }

    /// 0 for the last level, one more for each level above.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The level of the tables that this level's entries lead to.
    pub(crate) const fn below(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// Order of the block that a leaf at this level maps. Leaves are at most 1 GiB.
    pub const fn order(self) -> Order {
        match self.0 {
            0 => Order::PAGE,
            1 => Order::HUGE,
            _ => Order::MAX,
        }
    }

    /// The level whose leaves map blocks of `order`.
    pub(crate) const fn of(order: Order) -> Self {
        Self(order.get() / 9)
    }
}

/// Identity of an address space; never used for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceId(pub(crate) u64);

impl SpaceId {
    /// The identity as a number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// What a thread wants to do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Read from it.
    Read,
    /// Write to it.
    Write,
    /// Fetch instructions from it.
    Execute,
}

/// How the processor caches memory that is mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[doc(alias = "PAT")]
pub enum CacheType {
    /// As all memory (write-back).
    #[default]
    WriteBack,
    /// Not, but writes may be joined and late: a framebuffer (`ioremap_wc`).
    WriteCombining,
    /// Not at all: registers of a device.
    Uncached,
}

/// What a mapping allows. Writing and execution include reading, as on x86-64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prot {
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
    /// Execution.
    pub exec: bool,
}

impl Prot {
    /// Nothing: the contents stay, every access is an error.
    pub const NONE: Self = Self { read: false, write: false, exec: false };
    /// Reading only.
    pub const READ: Self = Self { read: true, write: false, exec: false };
    /// Reading and writing.
    pub const READ_WRITE: Self = Self { read: true, write: true, exec: false };
    /// Reading and execution.
    pub const READ_EXEC: Self = Self { read: true, write: false, exec: true };

    pub(crate) const fn allows(self, access: Access) -> bool {
        match access {
            Access::Read => self.read || self.write || self.exec,
            Access::Write => self.write,
            Access::Execute => self.exec,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_orders_agree() {
        for level in [Level::PTE, Level::PMD, Level::PUD] {
            assert_eq!(level.order().bytes(), level.bytes());
            assert_eq!(Level::of(level.order()), level);
        }
    }

    #[test]
    fn disjoint_ranges_have_nothing_in_common() {
        let a = VirtRange::new(VirtAddr::new(0x1000), 0x1000);
        let b = VirtRange::new(VirtAddr::new(0x5000), 0x1000);
        assert!(a.meet(b).is_empty() && b.meet(a).is_empty());
        assert_eq!(a.join(b), VirtRange::new(VirtAddr::new(0x1000), 0x5000));
    }
}
