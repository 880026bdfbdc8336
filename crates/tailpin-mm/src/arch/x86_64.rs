//! The x86-64 format (Intel SDM volume 3, 4.5: four-level paging).

use tailpin::Pfn;

use super::{Arch, Flags, Leaf, TableEntry};
use crate::addr::{Level, PAGE_BYTES, VirtAddr};

/// Four-level paging of x86-64, with leaves of 4 KiB, 2 MiB and 1 GiB.
#[derive(Clone, Copy, Debug)]
pub enum X86_64 {}

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const PAGE_SIZE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// Bits 12 to 51.
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// Each flag and its bit: 9, 10, 11 and 52 are free for software.
const BITS: [(Flags, u64); 8] = [
    (Flags::WRITE, WRITE),
    (Flags::USER, USER),
    (Flags::ACCESSED, ACCESSED),
    (Flags::DIRTY, DIRTY),
    (Flags::BY_PIN, 1 << 9),
    (Flags::EXCLUSIVE, 1 << 10),
    (Flags::ANON, 1 << 11),
    (Flags::ZERO, 1 << 52),
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
        if level != Level::PTE && bits & PAGE_SIZE == 0 {
            return TableEntry::Table(frame);
        }
        let start = Flags::NONE.with_if(Flags::EXEC, bits & NO_EXECUTE == 0);
        let flags = BITS.iter().fold(start, |flags, (flag, bit)| flags.with_if(*flag, bits & bit != 0));
        TableEntry::Leaf(Leaf { frame, flags })
    }

    #[inline]
    fn leaf(level: Level, leaf: Leaf) -> u64 {
        let size = if level == Level::PTE { 0 } else { PAGE_SIZE };
        let no_execute = if leaf.flags.has(Flags::EXEC) { 0 } else { NO_EXECUTE };
        let flags =
            BITS.iter().filter(|(flag, _)| leaf.flags.has(*flag)).fold(0, |bits, (_, bit)| bits | bit);
        leaf.frame.get() << 12 & FRAME | PRESENT | size | no_execute | flags
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_of_every_level_read_back_as_written() {
        for level in [Level::PTE, Level::PMD, Level::PUD] {
            for bits in 0..512u16 {
                let frame = Pfn::new(0x0abc_de00_0000 >> 12 << 2).head(level.order());
                let flags = Flags(bits);
                let leaf = Leaf { frame, flags };
                assert_eq!(X86_64::decode(level, X86_64::leaf(level, leaf)), TableEntry::Leaf(leaf));
            }
        }
    }

    #[test]
    fn the_bits_are_where_the_processor_looks() {
        let flags = Flags::WRITE.with(Flags::USER).with(Flags::EXEC);
        let leaf = Leaf { frame: Pfn::new(0x200), flags };
        assert_eq!(X86_64::leaf(Level::PTE, leaf), 0x20_0007);
        assert_eq!(X86_64::leaf(Level::PMD, leaf), 0x20_0087);
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
