//! The AArch64 format with a granule of 4 KiB (Arm ARM, chapter D8: VMSAv8-64, stage 1).

use tailpin::Pfn;

use super::{Arch, Flags, Leaf, TableEntry, software_bits, software_flags};
use crate::addr::{Level, VirtAddr};

/// Four levels for the lower half of the addresses, which `TTBR0_EL1` names; the kernel has
/// `TTBR1_EL1`.
///
/// A leaf that may be written and is clean is read-only with the dirty bit modifier set: a
/// processor that manages the dirty state (`FEAT_HAFDBS`) makes it writable at the first write, any
/// other faults, and the fault does. [`Aarch64::MAIR`] has the kinds of memory that leaves name.
/// `TCR_EL1.HWU059` has to be clear, as it is after a reset: bit 59 is software's.
#[derive(Clone, Copy, Debug)]
pub enum Aarch64 {}

const VALID: u64 = 1;
/// A table, or a page at the last level.
const TABLE: u64 = 1 << 1;
/// Index into the memory attribute registers, from bit 2 on.
const ATTRIBUTE: u64 = 1 << 2;
const USER: u64 = 1 << 6;
const READ_ONLY: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const ACCESSED: u64 = 1 << 10;
const NOT_GLOBAL: u64 = 1 << 11;
/// The dirty bit modifier: it may be written, and read-only means clean.
const MAY_WRITE: u64 = 1 << 51;
const KERNEL_NEVER_EXECUTES: u64 = 1 << 53;
const USER_NEVER_EXECUTES: u64 = 1 << 54;
/// Dirty, and may not be written now.
const WAS_DIRTY: u64 = 1 << 59;
/// Bits 12 to 47.
const FRAME: u64 = 0x0000_ffff_ffff_f000;
/// Bits 55 to 58 are software's.
const SOFTWARE: [u64; 4] = [1 << 55, 1 << 56, 1 << 57, 1 << 58];

/// Kinds of memory, as indices into [`Aarch64::MAIR`].
const NORMAL: u64 = 0;
const NOT_CACHED: u64 = 1;
const DEVICE: u64 = 2;

impl Aarch64 {
    /// What `MAIR_EL1` has to have in its three lowest bytes: memory that is cached (write-back),
    /// memory that is not, and devices (nGnRE).
    pub const MAIR: u64 = 0x04_44_ff;
}

impl Arch for Aarch64 {
    const TOP: Level = Level::P4D;
    const PRESENT: u64 = VALID;
    const KERNEL_ENTRIES: usize = 512;
    const USER_END: VirtAddr = VirtAddr::new(1 << 48);
    const FRAMES_END: Pfn = Pfn::new(1 << 36);

    #[inline]
    fn decode(level: Level, bits: u64) -> TableEntry {
        if bits & VALID == 0 {
            return TableEntry::Empty;
        }
        let frame = Pfn::new((bits & FRAME) >> 12);
        if level != Level::PTE && bits & TABLE != 0 {
            return TableEntry::Table(frame);
        }
        let write = bits & MAY_WRITE != 0;
        let kind = bits / ATTRIBUTE % 8;
        let flags = software_flags(SOFTWARE, bits)
            .with_if(Flags::WRITE, write)
            .with_if(Flags::USER, bits & USER != 0)
            .with_if(Flags::EXEC, bits & USER_NEVER_EXECUTES == 0)
            .with_if(Flags::ACCESSED, bits & ACCESSED != 0)
            .with_if(Flags::DIRTY, bits & WAS_DIRTY != 0 || write && bits & READ_ONLY == 0)
            .with_if(Flags::WRITE_COMBINING, kind == NOT_CACHED)
            .with_if(Flags::UNCACHED, kind == DEVICE);
        TableEntry::Leaf(Leaf { frame, flags })
    }

    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "an attribute's number is below 8")]
    fn leaf(level: Level, leaf: Leaf) -> u64 {
        let has = |flag, bit| if leaf.flags.has(flag) { bit } else { 0 };
        let kind = match leaf.flags {
            flags if flags.has(Flags::UNCACHED) => DEVICE,
            flags if flags.has(Flags::WRITE_COMBINING) => NOT_CACHED,
            _ => NORMAL,
        };
        let dirty = match (leaf.flags.has(Flags::WRITE), leaf.flags.has(Flags::DIRTY)) {
            (true, true) => MAY_WRITE,
            (true, false) => MAY_WRITE | READ_ONLY,
            (false, true) => READ_ONLY | WAS_DIRTY,
            (false, false) => READ_ONLY,
        };
        let execute = if leaf.flags.has(Flags::EXEC) { 0 } else { USER_NEVER_EXECUTES };
        let size = if level == Level::PTE { TABLE } else { 0 };
        let fixed = VALID | INNER_SHAREABLE | NOT_GLOBAL | KERNEL_NEVER_EXECUTES;
        (leaf.frame.get() << 12 & FRAME)
            | fixed
            | size
            | (kind * ATTRIBUTE)
            | dirty
            | execute
            | has(Flags::USER, USER)
            | has(Flags::ACCESSED, ACCESSED)
            | software_bits(SOFTWARE, leaf.flags)
    }

    #[inline]
    fn table(frame: Pfn) -> u64 {
        frame.get() << 12 & FRAME | TABLE | VALID
    }

    #[inline]
    fn stable_bits(bits: u64) -> u64 {
        // The hardware says that a page is dirty by making it writable.
        (bits | READ_ONLY) & !(ACCESSED | WAS_DIRTY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_are_where_the_processor_looks() {
        let flags = Flags::WRITE.with(Flags::DIRTY).with(Flags::USER).with(Flags::ACCESSED);
        let leaf = Leaf { frame: Pfn::new(0x200), flags };
        // Valid page, EL0 may write, inner shareable, accessed, not global, DBM, PXN, UXN.
        assert_eq!(Aarch64::leaf(Level::PTE, leaf), 0x0068_0000_0020_0f43);
        assert_eq!(Aarch64::leaf(Level::PMD, leaf), 0x0068_0000_0020_0f41);
        let clean = Leaf { flags: flags.without(Flags::DIRTY), ..leaf };
        assert_eq!(Aarch64::leaf(Level::PTE, clean), 0x0068_0000_0020_0fc3);
        let code = Leaf { flags: Flags::USER.with(Flags::EXEC), ..leaf };
        assert_eq!(Aarch64::leaf(Level::PTE, code), 0x0020_0000_0020_0bc3);
        assert_eq!(Aarch64::table(Pfn::new(7)), 0x7003);
        assert_eq!(Aarch64::decode(Level::PMD, 0x7003), TableEntry::Table(Pfn::new(7)));
    }

    #[test]
    fn a_page_that_the_hardware_makes_dirty_is_the_same_entry() {
        let flags = Flags::WRITE.with(Flags::USER);
        let clean = Aarch64::leaf(Level::PTE, Leaf { frame: Pfn::new(9), flags });
        let by_hardware = clean & !READ_ONLY | ACCESSED;
        let dirty = flags.with(Flags::DIRTY).with(Flags::ACCESSED);
        let leaf = Leaf { frame: Pfn::new(9), flags: dirty };
        assert_eq!(Aarch64::decode(Level::PTE, by_hardware), TableEntry::Leaf(leaf));
        assert_eq!(Aarch64::stable_bits(by_hardware), Aarch64::stable_bits(clean));
        // It stays dirty when it may no longer be written.
        let read_only = Leaf { flags: dirty.without(Flags::WRITE), ..leaf };
        let bits = Aarch64::leaf(Level::PTE, read_only);
        assert_ne!(bits & READ_ONLY, 0);
        assert_eq!(Aarch64::decode(Level::PTE, bits), TableEntry::Leaf(read_only));
    }
}
