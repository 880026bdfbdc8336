//! The RISC-V formats Sv39 and Sv48 (Privileged Architecture, chapter "Supervisor-Level ISA").

use tailpin::Pfn;

use super::{Arch, Flags, Leaf, TableEntry, software_bits, software_flags};
use crate::addr::{Level, VirtAddr};

const VALID: u64 = 1;
const READ: u64 = 1 << 1;
const WRITE: u64 = 1 << 2;
const EXECUTE: u64 = 1 << 3;
const USER: u64 = 1 << 4;
const ACCESSED: u64 = 1 << 6;
const DIRTY: u64 = 1 << 7;
/// Bits 61 and 62 (Svpbmt): 1 for memory that isn't cached, 2 for devices.
const NOT_CACHED: u64 = 1 << 61;
const DEVICE: u64 = 2 << 61;
/// Bits 10 to 53.
const FRAME: u64 = 0x003f_ffff_ffff_fc00;

/// The bits of software: two that the format has always had, and 59 and 60 (extension Svrsw60t59b).
const SOFTWARE: [u64; 4] = [1 << 8, 1 << 9, 1 << 59, 1 << 60];

/// Each flag and its bit.
const BITS: [(Flags, u64); 5] = [
    (Flags::WRITE, WRITE),
    (Flags::EXEC, EXECUTE),
    (Flags::USER, USER),
    (Flags::ACCESSED, ACCESSED),
    (Flags::DIRTY, DIRTY),
];

/// Three levels, a root with entries of 1 GiB: 256 GiB for users.
///
/// The processor has to leave bits 59 and 60 of a leaf to software (extension Svrsw60t59b), since
/// two bits can't tell whose a page is and how it is counted. Cache types need Svpbmt. A processor
/// that doesn't set accessed and dirty itself faults, and the fault sets them.
#[derive(Clone, Copy, Debug)]
pub enum Sv39 {}

/// Four levels, a root with entries of 512 GiB: 128 TiB for users. Needs what [`Sv39`] needs.
#[derive(Clone, Copy, Debug)]
pub enum Sv48 {}

fn decode(level: Level, bits: u64) -> TableEntry {
    if bits & VALID == 0 {
        return TableEntry::Empty;
    }
    let frame = Pfn::new((bits & FRAME) >> 10);
    if level != Level::PTE && bits & (READ | WRITE | EXECUTE) == 0 {
        return TableEntry::Table(frame);
    }
    let flags = BITS
        .iter()
        .fold(software_flags(SOFTWARE, bits), |flags, (flag, bit)| flags.with_if(*flag, bits & bit != 0));
    let flags = flags
        .with_if(Flags::WRITE_COMBINING, bits & NOT_CACHED != 0)
        .with_if(Flags::UNCACHED, bits & DEVICE != 0);
    TableEntry::Leaf(Leaf { frame, flags })
}

fn leaf(leaf: Leaf) -> u64 {
    let memory = match leaf.flags {
        flags if flags.has(Flags::UNCACHED) => DEVICE,
        flags if flags.has(Flags::WRITE_COMBINING) => NOT_CACHED,
        _ => 0,
    };
    // Readable always: an entry without any right would lead to a table. Users may not use it
    // without `USER`.
    let start = VALID | READ | memory | software_bits(SOFTWARE, leaf.flags);
    let flags =
        BITS.iter().filter(|(flag, _)| leaf.flags.has(*flag)).fold(start, |bits, (_, bit)| bits | bit);
    leaf.frame.get() << 10 & FRAME | flags
}

macro_rules! format {
    ($name:ident, $top:expr, $bits:literal) => {
        impl Arch for $name {
            const TOP: Level = $top;
            const PRESENT: u64 = VALID;
            const USER_END: VirtAddr = VirtAddr::new(1 << $bits);
            const FRAMES_END: Pfn = Pfn::new(1 << 44);

            #[inline]
            fn decode(level: Level, bits: u64) -> TableEntry {
                decode(level, bits)
            }

            #[inline]
            fn leaf(_level: Level, entry: Leaf) -> u64 {
                leaf(entry)
            }

            #[inline]
            fn table(frame: Pfn) -> u64 {
                frame.get() << 10 & FRAME | VALID
            }

            #[inline]
            fn stable_bits(bits: u64) -> u64 {
                bits & !(ACCESSED | DIRTY)
            }
        }
    };
}

format!(Sv39, Level::PUD, 38);
format!(Sv48, Level::P4D, 47);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_are_where_the_processor_looks() {
        let flags = Flags::WRITE.with(Flags::USER).with(Flags::EXEC);
        let leaf = Leaf { frame: Pfn::new(0x200), flags };
        for level in [Level::PTE, Level::PMD, Level::PUD] {
            assert_eq!(Sv39::leaf(level, leaf), 0x200 << 10 | 0b1_1111);
        }
        let used = Flags::ACCESSED.with(Flags::DIRTY).with(Flags::USER);
        assert_eq!(Sv48::leaf(Level::PTE, Leaf { frame: Pfn::new(1), flags: used }), 0x4d3);
        let device = Flags::USER.with(Flags::UNCACHED);
        assert_eq!(Sv39::leaf(Level::PTE, Leaf { frame: Pfn::new(1), flags: device }) >> 61, 2);
        // An entry with no right at all leads to a table.
        assert_eq!(Sv39::table(Pfn::new(7)), 7 << 10 | 1);
        assert_eq!(Sv39::decode(Level::PMD, 7 << 10 | 1), TableEntry::Table(Pfn::new(7)));
        let nothing = Leaf { frame: Pfn::new(0x200), flags: Flags::NONE };
        assert_eq!(Sv39::decode(Level::PMD, Sv39::leaf(Level::PMD, nothing)), TableEntry::Leaf(nothing));
    }

    #[test]
    fn the_reserved_bits_are_zero() {
        for flags in super::super::tests::all_flags() {
            let bits = Sv48::leaf(Level::PTE, Leaf { frame: Pfn::new((1 << 44) - 1), flags });
            assert_eq!(bits & 0b11_1111 << 53 & !(1 << 53), 0, "{flags:?}: bits 54 to 58");
            assert_eq!(bits >> 63, 0, "{flags:?}: N");
            assert_eq!(bits & 1 << 5, 0, "{flags:?}: global");
        }
    }
}
