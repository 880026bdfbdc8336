//! What a page-table entry looks like: the one place that knows an architecture's bits.

mod aarch64;
mod riscv;
mod x86_64;

pub use aarch64::Aarch64;
pub use riscv::{Sv39, Sv48};
pub use x86_64::{X86_64, X86_64La57};

use tailpin::Pfn;

use crate::addr::{Level, VirtAddr};

/// What a leaf, an entry that maps memory, says besides where the memory is.
///
/// The first five are the hardware's, and so are the two of how memory is cached; the others are
/// this crate's, in bits that the hardware ignores.
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
    /// The shared page of zeroes, which is not counted; always with [`Flags::ANON`].
    pub const ZERO: Self = Self(1 << 8);
    /// Frames that the crate doesn't count, read, write or pin (`pte_special`): of devices, of the
    /// kernel. Never with [`Flags::ANON`].
    #[doc(alias = "pte_special")]
    pub const FOREIGN: Self = Self(1 << 9);
    /// Registers of a device: not cached, each access as it is made.
    pub const UNCACHED: Self = Self(1 << 10);
    /// Memory that is not cached; writes may be joined and late. Never with [`Flags::UNCACHED`].
    pub const WRITE_COMBINING: Self = Self(1 << 11);

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

    /// Whether the leaf stands for a count on the memory that it maps.
    pub const fn is_counted(self) -> bool {
        self.0 & (Self::ZERO.0 | Self::FOREIGN.0) == 0
    }
}

impl core::fmt::Debug for Flags {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        const NAMES: [&str; 12] = [
            "write",
            "user",
            "exec",
            "accessed",
            "dirty",
            "anon",
            "exclusive",
            "by-pin",
            "zero",
            "foreign",
            "uncached",
            "write-combining",
        ];
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
    #[expect(clippy::arithmetic_side_effects, reason = "a level's bytes are not 0")]
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

/// The software flags of a leaf in a format that has four bits for them: [`Flags::ANON`],
/// [`Flags::EXCLUSIVE`], [`Flags::BY_PIN`], and that the leaf isn't counted, which is
/// [`Flags::ZERO`] for anonymous memory and [`Flags::FOREIGN`] for other.
fn software_bits([anon, exclusive, by_pin, uncounted]: [u64; 4], flags: Flags) -> u64 {
    let has = |flag, bit| if flags.has(flag) { bit } else { 0 };
    let counted = if flags.is_counted() { 0 } else { uncounted };
    has(Flags::ANON, anon) | has(Flags::EXCLUSIVE, exclusive) | has(Flags::BY_PIN, by_pin) | counted
}

fn software_flags([anon, exclusive, by_pin, uncounted]: [u64; 4], bits: u64) -> Flags {
    let (anon, uncounted) = (bits & anon != 0, bits & uncounted != 0);
    Flags::NONE
        .with_if(Flags::ANON, anon)
        .with_if(Flags::EXCLUSIVE, bits & exclusive != 0)
        .with_if(Flags::BY_PIN, bits & by_pin != 0)
        .with_if(Flags::ZERO, anon && uncounted)
        .with_if(Flags::FOREIGN, !anon && uncounted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All flags that a leaf may have.
    pub(super) fn all_flags() -> impl Iterator<Item = Flags> {
        let both = |flags: Flags, a: Flags, b: Flags| flags.has(a) && flags.has(b);
        (0..1 << 12).map(Flags).filter(move |flags| {
            !(both(*flags, Flags::ANON, Flags::FOREIGN)
                || flags.has(Flags::ZERO) && !flags.has(Flags::ANON)
                || both(*flags, Flags::UNCACHED, Flags::WRITE_COMBINING)
                || flags.has(Flags::EXEC) && !flags.has(Flags::USER))
        })
    }

    fn reads_back<A: Arch>() {
        for level in [Level::PTE, Level::PMD, Level::PUD] {
            let last = Pfn::new(A::FRAMES_END.get() - 1).head(level.order());
            for frame in [Pfn::new(0), Pfn::new(0x2_468a_c000).head(level.order()), last] {
                for flags in all_flags() {
                    let leaf = Leaf { frame, flags };
                    let bits = A::leaf(level, leaf);
                    assert_eq!(A::decode(level, bits), TableEntry::Leaf(leaf));
                    assert_eq!(A::decode(level, bits & !A::PRESENT), TableEntry::Empty);
                    let noted = flags.with(Flags::ACCESSED).with(Flags::DIRTY);
                    let by_hardware = A::leaf(level, Leaf { frame, flags: noted });
                    assert_eq!(A::stable_bits(by_hardware), A::stable_bits(bits), "{flags:?}");
                }
                let table = A::table(frame);
                assert_ne!(table & A::PRESENT, 0);
                for above in [Level::PMD, A::TOP] {
                    assert_eq!(A::decode(above, table), TableEntry::Table(frame));
                }
            }
        }
        assert_eq!(A::decode(Level::PTE, 0), TableEntry::Empty);
        // The users' part ends within the lower entries of the root.
        let last = VirtAddr::new(A::USER_END.get() - 1);
        assert!(A::index(last, A::TOP) < A::KERNEL_ENTRIES);
        assert!(A::TOP.bytes().checked_mul(512).is_none_or(|reach| reach >= A::USER_END.get()));
        // Entries that differ in one address bit of a level are different entries.
        let addr = VirtAddr::new(0x0012_3456_789a_b000 % A::USER_END.get());
        for level in [Level::PTE, Level::PMD, Level::PUD] {
            let next = addr.align_down(level.bytes()).offset(level.bytes());
            assert_eq!(A::index(next, level), (A::index(addr, level) + 1) % 512);
        }
    }

    #[test]
    fn entries_of_every_format_read_back_as_written() {
        reads_back::<X86_64>();
        reads_back::<X86_64La57>();
        reads_back::<Sv39>();
        reads_back::<Sv48>();
        reads_back::<Aarch64>();
    }
}
