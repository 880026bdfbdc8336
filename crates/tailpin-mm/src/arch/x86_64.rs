//! The x86-64 formats (Intel SDM volume 3, 4.5: four-level and five-level paging).

use tailpin::Pfn;

use super::{Arch, Flags, Leaf, TableEntry};
use crate::addr::{Level, PAGE_BYTES, VirtAddr};

/// Four-level paging of x86-64, with leaves of 4 KiB, 2 MiB and 1 GiB.
#[derive(Clone, Copy, Debug)]
pub enum X86_64 {}

/// Five-level paging of x86-64 (CR4.LA57): the entries of [`X86_64`], and 64 PiB for users.
#[doc(alias = "LA57")]
#[derive(Clone, Copy, Debug)]
pub enum X86_64La57 {}

impl X86_64 {
    /// What the page attribute table (`IA32_PAT`) has to be for the cache types of leaves to mean
    /// what they say: entry 1 is write-combining, entry 3 uncached. It is what Linux sets; after a
    /// reset entry 1 is write-through.
    pub const PAT: u64 = 0x0407_0506_0007_0106;
}

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
/// Two bits of an index into the page attribute table.
const PWT: u64 = 1 << 3;
const PCD: u64 = 1 << 4;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE_PAGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// Bits 12 to 51.
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// Each flag and its bit: 9, 10, 11, 52 and 53 are free for software.
const BITS: [(Flags, u64); 9] = [
    (Flags::WRITE, WRITE),
    (Flags::USER, USER),
    (Flags::ACCESSED, ACCESSED),
    (Flags::DIRTY, DIRTY),
    (Flags::BY_PIN, 1 << 9),
    (Flags::EXCLUSIVE, 1 << 10),
    (Flags::ANON, 1 << 11),
    (Flags::ZERO, 1 << 52),
    (Flags::FOREIGN, 1 << 53),
];

impl Arch for X86_64 {
    const TOP: Level = Level::P4D;
    const PRESENT: u64 = PRESENT;
    /// Less the last page: the processor would go on behind a `syscall` in its last bytes at an
    /// address that is not canonical, and fault in the kernel.
    const USER_END: VirtAddr = VirtAddr::new((1 << 47) - PAGE_BYTES);
    const FRAMES_END: Pfn = Pfn::new(1 << 40);

    #[inline]
    fn decode(level: Level, bits: u64) -> TableEntry {
        if bits & PRESENT == 0 {
            return TableEntry::Empty;
        }
        let frame = Pfn::new((bits & FRAME) >> 12);
        if level != Level::PTE && bits & LARGE_PAGE == 0 {
            return TableEntry::Table(frame);
        }
        let start = Flags::NONE.with_if(Flags::EXEC, bits & NO_EXECUTE == 0);
        let flags = BITS.iter().fold(start, |flags, (flag, bit)| flags.with_if(*flag, bits & bit != 0));
        let flags = flags
            .with_if(Flags::UNCACHED, bits & PCD != 0)
            .with_if(Flags::WRITE_COMBINING, bits & (PCD | PWT) == PWT);
        TableEntry::Leaf(Leaf { frame, flags })
    }

    #[inline]
    fn leaf(level: Level, leaf: Leaf) -> u64 {
        let size = if level == Level::PTE { 0 } else { LARGE_PAGE };
        let no_execute = if leaf.flags.has(Flags::EXEC) { 0 } else { NO_EXECUTE };
        let cache = match leaf.flags {
            flags if flags.has(Flags::UNCACHED) => PCD | PWT,
            flags if flags.has(Flags::WRITE_COMBINING) => PWT,
            _ => 0,
        };
        let flags =
            BITS.iter().filter(|(flag, _)| leaf.flags.has(*flag)).fold(0, |bits, (_, bit)| bits | bit);
        leaf.frame.get() << 12 & FRAME | PRESENT | size | no_execute | cache | flags
    }

    #[inline]
    fn table(frame: Pfn) -> u64 {
        // What user code may do is decided by the leaf.
        frame.get() << 12 & FRAME | PRESENT | WRITE | USER
    }

    #[inline]
    fn stable_bits(bits: u64) -> u64 {
        bits & !(ACCESSED | DIRTY)
    }
}

impl Arch for X86_64La57 {
    const TOP: Level = Level::PGD;
    const PRESENT: u64 = PRESENT;
    /// Less the last page, as that of [`X86_64`].
    const USER_END: VirtAddr = VirtAddr::new((1 << 56) - PAGE_BYTES);
    const FRAMES_END: Pfn = X86_64::FRAMES_END;

    #[inline]
    fn decode(level: Level, bits: u64) -> TableEntry {
        X86_64::decode(level, bits)
    }

    #[inline]
    fn leaf(level: Level, leaf: Leaf) -> u64 {
        X86_64::leaf(level, leaf)
    }

    #[inline]
    fn table(frame: Pfn) -> u64 {
        X86_64::table(frame)
    }

    #[inline]
    fn stable_bits(bits: u64) -> u64 {
        X86_64::stable_bits(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_are_where_the_processor_looks() {
        let flags = Flags::WRITE.with(Flags::USER).with(Flags::EXEC);
        let leaf = Leaf { frame: Pfn::new(0x200), flags };
        assert_eq!(X86_64::leaf(Level::PTE, leaf), 0x20_0007);
        assert_eq!(X86_64::leaf(Level::PMD, leaf), 0x20_0087);
        let device = Leaf { frame: Pfn::new(2), flags: Flags::UNCACHED };
        assert_eq!(X86_64::leaf(Level::PTE, device) & 0xfff, 0b1_1001);
        let screen = Leaf { frame: Pfn::new(2), flags: Flags::WRITE_COMBINING };
        assert_eq!(X86_64::leaf(Level::PTE, screen) & 0xfff, 0b0_1001);
        let read_only = Leaf { frame: Pfn::new(1), flags: Flags::NONE };
        assert_eq!(X86_64::leaf(Level::PTE, read_only), 0x8000_0000_0000_1001);
        assert_eq!(X86_64::decode(Level::PMD, X86_64::table(Pfn::new(7))), TableEntry::Table(Pfn::new(7)));
        assert_eq!(X86_64::decode(Level::PTE, 0), TableEntry::Empty);
    }

    #[test]
    fn indices_take_nine_bits_each() {
        let addr = VirtAddr::new((1 << 39) + (2 << 30) + (3 << 21) + (4 << 12) + 5);
        let index = |level| X86_64::index(addr, level);
        assert_eq!(
            [index(Level::P4D), index(Level::PUD), index(Level::PMD), index(Level::PTE)],
            [1, 2, 3, 4]
        );
    }
}
