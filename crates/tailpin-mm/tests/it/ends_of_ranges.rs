//! Every public function that takes a number, with the ends of its range: an answer each time, and
//! nothing lost.

use tailpin::{Order, Pfn};
use tailpin_mm::{
    Access, Advice, CollapseLimits, FaultError, Map, MapError, Mm, MmConfig, ObjectConfig, PinError, Prot,
    VirtAddr, VirtRange,
};

use crate::common::*;

const USER_END: u64 = (1 << 47) - PAGE;

const ENDS: [u64; 18] = [
    0,
    1,
    PAGE - 1,
    PAGE,
    HUGE - PAGE,
    HUGE,
    u32::MAX as u64,
    USER_END - HUGE,
    USER_END - PAGE,
    USER_END,
    0xffff_8000_0000_0000,
    i64::MAX as u64 - 4095,
    i64::MAX as u64,
    i64::MAX as u64 + 1,
    u64::MAX - HUGE + 1,
    u64::MAX - PAGE + 1,
    u64::MAX - PAGE,
    u64::MAX,
];

const PROTS: Prot = Prot::READ_WRITE;

#[test]
fn addresses_and_lengths_where_nothing_is_mapped() {
    machine(16 * MIB, MmConfig::default(), |mm, _, _| {
        let space = mm.space().unwrap();
        let mut buf = [0; 3 * PAGE as usize];
        for at in ENDS.map(VirtAddr::new) {
            assert_eq!(space.fault(at, Access::Write), Err(FaultError::Unmapped { addr: at }));
            assert_eq!(space.read(at, &mut buf), Err(FaultError::Unmapped { addr: at }));
            assert_eq!(space.write(at, &buf), Err(FaultError::Unmapped { addr: at }));
            assert_eq!(space.fault_in(at, Access::Read), Err(FaultError::Unmapped { addr: at }));
            assert!(space.load_u32(at).is_err() && space.store_u32(at, 1).is_err());
            assert!(space.compare_exchange_u32(at, 0, 1).is_err());
            assert!(space.fetch_update_u32(at, Some).is_err());
            assert!(space.identify(at, Access::Read).is_err());
            assert!(space.pin_base_page(at, Access::Read).is_err());
            assert!(space.mapping(at).is_none());
            assert!(space.collapse(at, CollapseLimits::NONE).is_err());
            assert!(space.split_mapping(at).is_err());
            assert!(space.split_page(at, Order::PAGE).is_err());
            for len in ENDS {
                assert!(space.pin_pages(at, len, Access::Read).is_err(), "{at} {len:#x}");
                assert!(space.pin_long_term(at, len, Access::Write).is_err());
                assert!(space.pin_present(at, len, Access::Read).is_err());
                assert!(space.protect(at, len, PROTS).is_err());
                for to in [None, Some(VirtAddr::new(0)), Some(at), Some(VirtAddr::new(u64::MAX))] {
                    assert!(space.remap(at, len, to).is_err());
                }
                for advice in [Advice::Huge, Advice::NoHuge, Advice::DontNeed, Advice::Free, Advice::Collapse]
                {
                    assert!(space.advise(at, len, advice).is_err());
                }
                // Unmapping nothing is fine, as long as it is a range of users.
                let range = VirtRange::new(at, len);
                let good = len > 0
                    && (at.get() | len) % PAGE == 0
                    && range.len() == len
                    && range.end.get() <= USER_END;
                assert_eq!(space.unmap(at, len).is_ok(), good, "{at} {len:#x}");
            }
        }
        assert_eq!(space.usage(), tailpin_mm::Usage::default());
    });
}

#[test]
fn mappings_anywhere_of_any_length_and_offset() {
    machine(16 * MIB, MmConfig::default(), |mm, _, _| {
        for unit in [None, Some(Order::HUGE), Some(Order::MAX)] {
            let config = ObjectConfig::new(0);
            let config = if let Some(unit) = unit { config.hugetlb(unit) } else { config };
            let object = mm.object(config).unwrap();
            for (at, len) in ENDS.into_iter().flat_map(|at| ENDS.map(|len| (at, len))) {
                let space = mm.space().unwrap();
                let at = VirtAddr::new(at);
                let maps = ENDS.into_iter().flat_map(|offset| {
                    [Map::shared(&object, offset, len, PROTS), Map::private(&object, offset, len, PROTS)]
                });
                for map in maps.chain([Map::anonymous(len, PROTS), Map::guard(len)]) {
                    let done = space.map(map.at(at));
                    if let Ok(addr) = done {
                        assert!(addr == at && at.get() > 0 && at.get().checked_add(len).unwrap() <= USER_END);
                        space.unmap(addr, len).unwrap();
                    }
                }
            }
        }
        // Beside what is there: the search for a gap goes past the end of users' addresses.
        let space = mm.space().unwrap();
        assert!(matches!(space.map(Map::guard(u64::MAX - PAGE + 1)), Err(MapError::NoRoom { .. })));
        let all = space.map(Map::guard(USER_END - HUGE)).unwrap();
        assert!(matches!(space.map(Map::guard(HUGE)), Err(MapError::NoRoom { .. })));
        assert!(matches!(space.remap(all, HUGE, None), Err(MapError::NoRoom { .. })));
        space.unmap(all, USER_END - HUGE).unwrap();
    });
}

#[test]
fn objects_as_long_as_can_be_said() {
    machine(32 * MIB, MmConfig::default(), |mm, zone, _| {
        let last = u64::MAX - PAGE + 1; // where the last page begins
        for huge in [false, true] {
            let config = ObjectConfig::new(u64::MAX);
            let object = mm.object(if huge { config.huge() } else { config }).unwrap();
            let space = mm.space().unwrap();
            let first = space.map(Map::shared(&object, 0, HUGE, PROTS)).unwrap();
            let end = space.map(Map::shared(&object, u64::MAX - HUGE + 1, HUGE, PROTS)).unwrap();
            let beyond = space.map(Map::shared(&object, last, 2 * PAGE, PROTS)).unwrap();
            let before = zone.used_frames();
            space.write(first, b"first").unwrap();
            space.write(end.offset(HUGE - PAGE), b"last").unwrap();
            assert_eq!(bytes(&space, beyond, 4), b"last");
            let addr = beyond.offset(PAGE);
            assert_eq!(space.fault(addr, Access::Read), Err(FaultError::BeyondEnd { addr }));
            // Holes at the very end, and of everything.
            object.punch_hole(u64::MAX - 1..u64::MAX);
            object.punch_hole(last + 1..u64::MAX);
            assert_eq!(bytes(&space, beyond, 4), b"l\0\0\0");
            object.punch_hole(u64::MAX..u64::MAX);
            #[allow(clippy::reversed_empty_ranges, reason = "as a caller may give it")]
            object.punch_hole(u64::MAX..0);
            object.punch_hole(0..u64::MAX);
            assert_eq!(bytes(&space, first, 5), [0; 5]);
            assert_eq!(bytes(&space, beyond, 4), [0; 4]);
            space.write(beyond, b"last").unwrap();
            for len in ENDS.into_iter().rev() {
                object.truncate(len).unwrap();
                assert_eq!(object.len(), len);
                if len <= last {
                    assert!(space.fault(beyond, Access::Read).is_err(), "the last page is left at {len:#x}");
                }
            }
            assert!(object.blocks().is_empty());
            object.truncate(u64::MAX).unwrap();
            assert_eq!(bytes(&space, beyond, 4), [0; 4]);
            drop(space);
            drop(object);
            assert!(zone.used_frames() <= before);
        }
        for (unit, bytes) in [(Order::HUGE, HUGE), (Order::MAX, 1 << 30)] {
            for len in ENDS {
                let made = mm.object(ObjectConfig::new(len).hugetlb(unit));
                assert_eq!(made.is_ok(), len % bytes == 0);
                if let Ok(object) = made {
                    object.truncate(u64::MAX - bytes + 1).unwrap();
                    assert!(object.truncate(u64::MAX).is_err());
                    object.punch_hole(0..u64::MAX);
                    object.punch_hole(1..u64::MAX - 1);
                    object.truncate(0).unwrap();
                }
            }
        }
    });
}

#[test]
fn offsets_into_pins() {
    machine(16 * MIB, MmConfig::default(), |mm, _, _| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(HUGE, PROTS)).unwrap();
        let pins = space.pin_pages(addr.offset(5), 2 * PAGE, Access::Write).unwrap();
        for at in ENDS {
            let mut buf = [0; 2];
            let good = at.checked_add(2).is_some_and(|end| end <= 2 * PAGE);
            let catch =
                |f: &mut dyn FnMut()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_ok();
            assert_eq!(catch(&mut || pins.read(at, &mut buf)), good, "{at:#x}");
            assert_eq!(catch(&mut || pins.write(at, &buf)), good, "{at:#x}");
        }
        assert!(matches!(space.pin_pages(addr, USER_END, Access::Read), Err(PinError::BadRange { .. })));
    });
}

#[test]
fn a_kernels_table_that_is_elsewhere_and_values_of_addresses() {
    let ram = tailpin_mm::Ram::new(4 * MIB);
    let zone = ram.zone().unwrap();
    for frame in [0, zone.span().end.get(), 1 << 40, u64::MAX].map(Pfn::new) {
        let config = MmConfig { kernel_root: Some(frame), ..MmConfig::default() };
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            Mm::new(&zone, ram.env(), ram.infos(), config).err()
        }));
        assert!(made.is_err(), "the environment has no such frame, and says so at once");
    }
    assert_eq!(zone.used_frames(), 0);
    for (value, by) in ENDS.into_iter().flat_map(|value| ENDS.map(|by| (value, by))) {
        let addr = VirtAddr::new(value);
        assert_eq!(addr.offset(by).get(), value.saturating_add(by));
        assert_eq!(addr.page(), value / PAGE);
        let range = VirtRange::new(addr, by);
        assert_eq!(range.len(), by.min(u64::MAX - value));
        assert_eq!(range.is_empty(), by == 0 || value == u64::MAX);
        assert!(range.covers(range) && !range.contains(range.end));
        let down = std::panic::catch_unwind(|| addr.align_down(by)).ok();
        assert_eq!(down.is_some(), by.is_power_of_two(), "{by:#x}");
        assert!(
            down.is_none_or(|down| addr.is_aligned(by) == (down == addr) && addr.get() - down.get() < by)
        );
    }
    for after in ENDS {
        ram.env().fail_after(Some(after));
        let made = Mm::new(&zone, ram.env(), ram.infos(), MmConfig::default());
        assert_eq!(made.is_ok(), after > 0, "{after:#x}");
    }
    ram.env().fail_after(None);
    for frames in [u64::MAX, 1 << 60, 1 << 59] {
        assert!(std::panic::catch_unwind(|| tailpin_mm::FrameInfos::new(frames)).is_err());
    }
}
