//! Frames that a space maps and doesn't count: of devices, and pages of the kernel's own.

use std::sync::atomic::Ordering;

use tailpin::{FrameRange, Order, Pfn};
use tailpin_mm::arch::{Arch, Flags, Leaf, TableEntry, X86_64};
use tailpin_mm::{
    Access, Advice, CacheType, CollapseError, CollapseLimits, FaultError, HugePages, Map, MapError, MmConfig,
    NotPresent, PageSplitError, PinError, Prot, StdEnv, VirtAddr,
};

use crate::common::accounts::entries;
use crate::common::*;

const BASE: VirtAddr = VirtAddr::new(0x4000_0000);
/// A device's registers, beyond all memory.
const DEVICE: Pfn = Pfn::new(0x10_0000);

fn foreign<'z>(frames: FrameRange, cache: CacheType, prot: Prot) -> Map<'z, StdEnv> {
    // SAFETY: no processor walks these tables.
    unsafe { Map::foreign(frames, cache, prot) }
}

/// The leaf that the processor finds.
fn leaf(space: &Sp<'_>, env: &StdEnv, addr: VirtAddr) -> Option<Leaf> {
    let (mut table, mut level) = (space.load().root(), X86_64::TOP);
    loop {
        let bits = entries(env, table)[X86_64::index(addr, level)].load(Ordering::Relaxed);
        match X86_64::decode(level, bits) {
            TableEntry::Table(next) => table = next,
            TableEntry::Leaf(leaf) => return Some(leaf),
            TableEntry::Empty => return None,
        }
        level = below(level);
    }
}

fn below(level: tailpin_mm::Level) -> tailpin_mm::Level {
    use tailpin_mm::Level;
    [Level::PTE, Level::PMD, Level::PUD][usize::from(level.get()) - 1]
}

#[test]
fn the_processor_has_them_with_their_cache_type_and_nothing_else_does() {
    machine(32 * MIB, MmConfig::default(), |mm, zone, env| {
        let space = mm.space().unwrap();
        for (cache, flag) in [
            (CacheType::Uncached, Flags::UNCACHED),
            (CacheType::WriteCombining, Flags::WRITE_COMBINING),
            (CacheType::WriteBack, Flags::NONE),
        ] {
            for huge in [HugePages::Default, HugePages::Never] {
                let before = zone.used_frames();
                let map = foreign(FrameRange::new(DEVICE, 1024), cache, Prot::READ_WRITE).huge(huge).at(BASE);
                space.map(map).unwrap();
                let addr = BASE.offset(3 * PAGE);
                space.fault(addr, Access::Read).unwrap();
                let page = space.mapping(addr).unwrap();
                assert_eq!((page.frame, page.foreign), (DEVICE.offset(3), true));
                assert_eq!(page.order == Order::HUGE, huge == HugePages::Default);
                let found = leaf(&space, env, addr).unwrap().flags;
                let both = Flags::UNCACHED.with(Flags::WRITE_COMBINING);
                assert_eq!(found.without(found.without(both)), flag);
                space.fault(addr, Access::Write).unwrap();
                assert!(space.mapping(addr).is_some_and(|page| page.writable && page.dirty));
                assert_eq!(space.usage().present_bytes, 0);
                assert_eq!(space.usage().foreign_bytes, page.order.bytes());
                // Everything that would go through the direct map or a count.
                let refused = FaultError::Foreign { addr };
                assert_eq!(space.read(addr, &mut [0]), Err(refused));
                assert_eq!(space.write(addr, &[0]), Err(refused));
                assert_eq!(space.fault_in(addr, Access::Read), Err(refused));
                assert_eq!(space.identify(addr, Access::Read), Err(refused));
                let pins = space.pin_pages(addr, PAGE, Access::Write).err();
                assert_eq!(pins, Some(PinError::Fault(refused)));
                assert!(space.pin_present(addr, PAGE, Access::Read).is_err());
                assert!(space.pin_base_page(addr, Access::Read).is_err());
                assert_eq!(space.load_u32(addr), Err(NotPresent { addr }));
                assert_eq!(space.store_u32(addr, 1), Err(NotPresent { addr }));
                assert_eq!(
                    space.collapse(addr, CollapseLimits::NONE),
                    Err(match huge {
                        HugePages::Never => CollapseError::NoHugePages { addr: BASE },
                        _ => CollapseError::NotEligible { addr: BASE },
                    })
                );
                assert_eq!(space.split_page(addr, Order::PAGE), Err(PageSplitError::Unsplittable { addr }));
                // A part of it goes, the rest stays what it is; the mapping splits for that.
                space.unmap(BASE.offset(PAGE), PAGE).unwrap();
                assert_eq!(
                    space
                        .mapping(addr)
                        .or_else(|| {
                            space.fault(addr, Access::Read).unwrap();
                            space.mapping(addr)
                        })
                        .map(|page| page.frame),
                    Some(DEVICE.offset(3))
                );
                assert!(leaf(&space, env, addr).unwrap().flags.has(flag));
                // A fork finds them again.
                let child = space.fork().unwrap();
                child.fault(addr, Access::Write).unwrap();
                assert_eq!(child.mapping(addr).unwrap().frame, DEVICE.offset(3));
                drop(child);
                let moved = space.remap(addr, PAGE, None).unwrap();
                assert_eq!(space.mapping(moved).map(|page| page.frame), Some(DEVICE.offset(3)));
                space.protect(moved, PAGE, Prot::READ).unwrap();
                assert!(space.fault(moved, Access::Write).is_err());
                space.advise(moved, PAGE, Advice::DontNeed).unwrap();
                space.fault(moved, Access::Read).unwrap();
                assert_eq!(space.mapping(moved).map(|page| page.frame), Some(DEVICE.offset(3)));
                space.unmap(moved, PAGE).unwrap();
                space.unmap(BASE, 1024 * PAGE).unwrap();
                assert_eq!(zone.used_frames(), before);
            }
        }
    });
}

#[test]
fn frames_out_of_alignment_are_mapped_one_by_one() {
    machine(32 * MIB, MmConfig::default(), |mm, _, _| {
        let space = mm.space().unwrap();
        let map = foreign(FrameRange::new(DEVICE.offset(1), 512), CacheType::Uncached, Prot::READ);
        space.map(map.at(BASE)).unwrap();
        space.fault(BASE.offset(511 * PAGE), Access::Read).unwrap();
        let page = space.mapping(BASE.offset(511 * PAGE)).unwrap();
        assert_eq!((page.frame, page.order), (DEVICE.offset(512), Order::PAGE));
    });
}

/// A page of the zone that the kernel has, for users to read (vDSO).
#[test]
fn a_page_of_the_kernels_own_is_not_counted() {
    machine(32 * MIB, MmConfig::default(), |mm, zone, _| {
        let page = zone.alloc(Order::PAGE).unwrap();
        let space = mm.space().unwrap();
        let frames = FrameRange::new(page.pfn(), 1);
        let addr = space.map(foreign(frames, CacheType::WriteBack, Prot::READ_EXEC)).unwrap();
        space.fault(addr, Access::Execute).unwrap();
        let state = zone.state(page.pfn()).unwrap();
        assert_eq!((state.refs, state.pins), zone.state(page.pfn()).map(|state| (state.refs, 0)).unwrap());
        drop(space);
        assert_eq!(zone.state(page.pfn()), Some(state), "still the kernel's, with the counts it had");
    });
}

#[test]
fn frames_that_no_entry_can_name_and_ranges_that_no_space_has_are_refused() {
    machine(32 * MIB, MmConfig::default(), |mm, _, _| {
        let space = mm.space().unwrap();
        let most = X86_64::FRAMES_END;
        let high = FrameRange::new(Pfn::new(most.get() - 1), 2);
        let refused = space.map(foreign(high, CacheType::Uncached, Prot::READ));
        assert_eq!(refused, Err(MapError::FrameTooHigh { frames: high.end, most }));
        let all = FrameRange { start: Pfn::new(0), end: Pfn::new(u64::MAX) };
        assert!(space.map(foreign(all, CacheType::Uncached, Prot::READ)).is_err());
        let many = FrameRange { start: Pfn::new(0), end: most };
        let refused = space.map(foreign(many, CacheType::Uncached, Prot::READ));
        assert_eq!(refused, Err(MapError::NoRoom { len: 1 << 52 }));
        let none = FrameRange { start: DEVICE, end: DEVICE };
        assert_eq!(space.map(foreign(none, CacheType::Uncached, Prot::READ)), Err(MapError::Empty));
    });
}
