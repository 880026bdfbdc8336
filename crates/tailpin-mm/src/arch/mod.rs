//! What a page-table entry looks like: the one place that knows an architecture's bits.

mod x86_64;

pub use x86_64::X86_64;

use tailpin::Pfn;

use crate::addr::{Level, VirtAddr};

/// What a leaf, an entry that maps memory, says besides where the memory is.
///
/// The first five are the hardware's; the others are this crate's, in bits that the hardware
/// ignores.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(u16);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// Writing is allowed.
    pub const WRITE: Self = Self(1);
    /// User code may use it; a mapping that allows nothing has the flag clear and keeps its page
    /// (`PROT_NONE`).
    pub const USER: Self = Self(1 << 1);
    /// Execution is allowed.
    pub const EXEC: Self = Self(1 << 2);
    /// The page was used since the flag was cleared.
    pub const ACCESSED: Self = Self(1 << 3);
    /// The page was written to since the flag was cleared.
    pub const DIRTY: Self = Self(1 << 4);
    /// The page is anonymous memory, not an object's.
    pub const ANON: Self = Self(1 << 5);
    /// Exclusive (anon-exclusive, `PageAnonExclusive`): the page stays under this mapping, as it is
    /// an anonymous page that no other mapping has, or an object's page mapped shared. Only through
    /// such an entry may a page be pinned, so that the pin and the mapping never part (H21).
    #[doc(alias = "anon-exclusive")]
    #[doc(alias = "PageAnonExclusive")]
    pub const EXCLUSIVE: Self = Self(1 << 6);
    /// The mapping's count is a pin on the page; otherwise it is one reference on each block in its
    /// reach.
    pub const BY_PIN: Self = Self(1 << 7);
    /// The shared page of zeroes, which is not counted.
    pub const ZERO: Self = Self(1 << 8);

    /// The flags of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These flags without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// These flags, and those of `other` if `on`.
    #[must_use]
    pub const fn with_if(self, other: Self, on: bool) -> Self {
        if on { self.with(other) } else { self }
    }

    /// Whether all flags of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl core::fmt::Debug for Flags {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        const NAMES: [&str; 9] =
            ["write", "user", "exec", "accessed", "dirty", "anon", "exclusive", "by-pin", "zero"];
        let mut set = f.debug_set();
        for (bit, name) in NAMES.iter().enumerate().filter(|(bit, _)| self.0 >> bit & 1 != 0) {
            let _ = bit;
            set.entry(name);
        }
        set.finish()
    }
}

/// An entry that maps memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// First frame mapped.
    pub frame: Pfn,
    /// What the mapping allows, and what is known of the page.
    pub flags: Flags,
}

/// An entry of a page table (`pte`, `pmd`, `pud`), decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "pte")]
pub enum TableEntry {
    /// Nothing is mapped.
    Empty,
    /// The next level is in this frame.
    Table(Pfn),
    /// Memory is mapped.
    Leaf(Leaf),
}

/// The format of page tables: levels of 512 entries of 64 bits. An entry that is zero is empty.
pub trait Arch: 'static {
    /// Level of the table that a root register names.
    const TOP: Level;
    /// The bit without which the processor ignores an entry and all its other bits.
    const PRESENT: u64;
    /// First entry of a top-level table that is the kernel's; 512 if the kernel has a root register
    /// of its own.
    const KERNEL_ENTRIES: usize = 256;
    /// First address after the part of a space that users have.
    const USER_END: VirtAddr;
    /// First frame that an entry has no room for.
    const FRAMES_END: Pfn;

    /// Index of the entry for `addr` in a table of `level`, 0 to 511.
    fn index(addr: VirtAddr, level: Level) -> usize {
        (addr.get() / level.bytes()) as usize % 512
    }

    /// What the bits of an entry say, in a table of `level`.
    fn decode(level: Level, bits: u64) -> TableEntry;
    /// Bits of a leaf in a table of `level` (4 KiB, 2 MiB or 1 GiB).
    fn leaf(level: Level, leaf: Leaf) -> u64;
    /// Bits of an entry that leads to the table in `frame`.
    fn table(frame: Pfn) -> u64;
    /// The bits of an entry without accessed and dirty, which the hardware sets at any time.
    fn stable_bits(bits: u64) -> u64;
}
