//! Objects: shared and private mappings, truncation, holes, hugetlb.

use crate::common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::*;
use tailpin::Order;
use tailpin_mm::{
    Access, CollapseError, CollapseLimits, CollapseOutcome, FaultError, Map, MapError, MmConfig, MmError,
    ObjectConfig, ObjectSource, PageIdentity, Prot, VirtAddr,
};

#[test]
fn spaces_that_map_an_object_see_the_same_bytes() {
    for config in [ObjectConfig::new(4 * MIB), ObjectConfig::new(4 * MIB).huge()] {
        machine(32 * MIB, MmConfig::default(), |mm, _, _| {
            let object = mm.object(config.clone()).unwrap();
            let (a, b) = (mm.space().unwrap(), mm.space().unwrap());
            let here = a.map(Map::shared(&object, 0, 4 * MIB, Prot::READ_WRITE)).unwrap();
            let there = VirtAddr::new(0x5000_0000 + PAGE);
            b.map(Map::shared(&object, MIB, 2 * MIB, Prot::READ).at(there)).unwrap();
            let data = pattern(3, 3 * MIB as usize);
            a.write(here, &data).unwrap();
            assert_eq!(bytes(&b, there, 2 * MIB), data[MIB as usize..]);
            // Mapped whole where it fits, by pages where it does not.
            assert!(!is_huge(&b, there));
            assert_eq!(frame(&a, here.offset(MIB)), frame(&b, there));
            let c = a.fork().unwrap();
            c.write(here, b"shared by fork too").unwrap();
            assert_eq!(bytes(&a, here, 18), b"shared by fork too");
        });
    }
}

#[test]
fn a_private_mapping_copies_what_it_writes_and_follows_the_rest() {
    for config in [ObjectConfig::new(4 * MIB), ObjectConfig::new(4 * MIB).huge()] {
        machine(32 * MIB, MmConfig::default(), |mm, _, _| {
            let object = mm.object(config.clone()).unwrap();
            let space = mm.space().unwrap();
            let shared = space.map(Map::shared(&object, 0, 4 * MIB, Prot::READ_WRITE)).unwrap();
            let private = space.map(Map::private(&object, 0, 4 * MIB, Prot::READ_WRITE)).unwrap();
            space.write(shared, &pattern(1, 4 * MIB as usize)).unwrap();
            space.write(private.offset(5 * PAGE), b"private").unwrap();
            space.write(shared.offset(5 * PAGE), b"SHARED!").unwrap();
            space.write(shared.offset(6 * PAGE), b"SHARED!").unwrap();
            assert_eq!(bytes(&space, private.offset(5 * PAGE), 7), b"private");
            assert_eq!(bytes(&space, private.offset(6 * PAGE), 7), b"SHARED!");
            let child = space.fork().unwrap();
            child.write(private.offset(5 * PAGE), b"childs!").unwrap();
            assert_eq!(bytes(&space, private.offset(5 * PAGE), 7), b"private");
        });
    }
}

#[test]
fn a_source_fills_pages_when_they_are_first_used() {
    struct Numbers;
    impl ObjectSource for Numbers {
        fn fill(&self, index: u64, page: &mut [u8; 4096]) {
            page[..8].copy_from_slice(&index.to_le_bytes());
        }
    }
    machine(32 * MIB, MmConfig::default(), |mm, _, _| {
        let file = mm.object(ObjectConfig::new(4 * MIB).huge().source(Arc::new(Numbers))).unwrap();
        let space = mm.space().unwrap();
        let addr = space.map(Map::shared(&file, 0, 4 * MIB, Prot::READ)).unwrap();
        for page in [0, 1, 511, 512, 1023] {
            assert_eq!(bytes(&space, addr.offset(page * PAGE), 8), page.to_le_bytes());
        }
    });
}

#[test]
fn truncation_reaches_every_mapping_and_leaves_pinned_pages() {
    for config in [ObjectConfig::new(4 * MIB), ObjectConfig::new(4 * MIB).huge()] {
        machine(32 * MIB, MmConfig::default(), |mm, zone, _| {
            let object = mm.object(config.clone()).unwrap();
            let (a, b) = (mm.space().unwrap(), mm.space().unwrap());
            let here = a.map(Map::shared(&object, 0, 4 * MIB, Prot::READ_WRITE)).unwrap();
            let there = b.map(Map::private(&object, 0, 4 * MIB, Prot::READ_WRITE)).unwrap();
            let data = pattern(5, 4 * MIB as usize);
            a.write(here, &data).unwrap();
            b.write(there.offset(3 * MIB), b"copied").unwrap();
            byte(&b, there);
            let pinned = here.offset(2 * MIB + 7 * PAGE);
            let pins = a.pin_pages(pinned, PAGE, Access::Read).unwrap();
            let victim = frame(&a, here.offset(3 * MIB));
            let len = MIB + 5 * PAGE + 100;
            object.truncate(len).unwrap();
            assert_eq!(object.len(), len);
            assert!(is_free(zone, victim));
            assert_eq!(bytes(&a, here, len), data[..len as usize]);
            for (space, start) in [(&a, here), (&b, there)] {
                for gone in [MIB + 6 * PAGE, 2 * MIB, 3 * MIB] {
                    let addr = start.offset(gone);
                    assert_eq!(space.read(addr, &mut [0]), Err(FaultError::BeyondEnd { addr }));
                }
            }
            let mut kept = [0; 64];
            pins.read(0, &mut kept);
            assert_eq!(kept, data[(2 * MIB + 7 * PAGE) as usize..][..64]);
            // What comes back is zeroes, in the page that was cut in two as well.
            object.truncate(4 * MIB).unwrap();
            assert_eq!(bytes(&a, here.offset(len), 4 * MIB - len), vec![0; (4 * MIB - len) as usize]);
            let blocks = object.blocks();
            assert!(
                blocks
                    .iter()
                    .all(|(index, head, order)| index % order.frames() == 0 && head.is_aligned(*order))
            );
        });
    }
}

#[test]
fn a_hole_reads_as_zeroes_and_private_copies_stay() {
    machine(32 * MIB, MmConfig::default(), |mm, zone, _| {
        let object = mm.object(ObjectConfig::new(4 * MIB).huge()).unwrap();
        let space = mm.space().unwrap();
        let shared = space.map(Map::shared(&object, 0, 4 * MIB, Prot::READ_WRITE)).unwrap();
        let private = space.map(Map::private(&object, 0, 4 * MIB, Prot::READ_WRITE)).unwrap();
        let mut data = pattern(5, 4 * MIB as usize);
        space.write(shared, &data).unwrap();
        space.write(private.offset(10 * PAGE), b"mine").unwrap();
        let used = zone.used_frames();
        let (from, to) = (4 * PAGE + 50, 20 * PAGE + 10);
        object.punch_hole(from..to);
        data[from as usize..to as usize].fill(0);
        assert_eq!(zone.used_frames(), used - 15 + 1, "15 pages go, a page table comes");
        assert_eq!(bytes(&space, shared, 4 * MIB), data);
        assert_eq!(bytes(&space, private.offset(10 * PAGE), 4), b"mine");
        assert_eq!(byte(&space, private.offset(11 * PAGE)), 0);
        object.punch_hole(100..200);
        data[100..200].fill(0);
        assert_eq!(bytes(&space, shared, PAGE), data[..PAGE as usize]);
    });
}

#[test]
fn the_index_is_that_of_the_page_itself_whatever_is_split() {
    machine(32 * MIB, MmConfig::default(), |mm, _, _| {
        let object = mm.object(ObjectConfig::new(8 * MIB).huge()).unwrap();
        let (a, b) = (mm.space().unwrap(), mm.space().unwrap());
        let here = a.map(Map::shared(&object, HUGE, 4 * MIB, Prot::READ_WRITE)).unwrap();
        let there =
            b.map(Map::shared(&object, HUGE, 4 * MIB, Prot::READ).at(VirtAddr::new(0x1234_5000))).unwrap();
        let check = |what| {
            for page in [0, 1, 300, 511, 512, 1023] {
                let place =
                    |writable| PageIdentity::Object { object: object.id(), index: 512 + page, writable };
                let offset = page * PAGE + 8;
                assert_eq!(a.identify(here.offset(offset), Access::Write), Ok(place(true)), "{what}");
                assert_eq!(b.identify(there.offset(offset), Access::Read), Ok(place(false)), "{what}");
            }
        };
        check("whole");
        a.split_mapping(here).unwrap();
        check("mapping split");
        for order in [8, 5, 1, 0] {
            let order = Order::new(order).unwrap();
            assert_eq!(a.split_page(here.offset(3 * PAGE), order), Ok(order));
            assert_eq!(a.usage().huge_bytes, if is_huge(&a, here.offset(HUGE)) { HUGE } else { 0 });
            check("page split");
        }
        assert_eq!(a.collapse(here, CollapseLimits::NONE), Ok(CollapseOutcome::InPlace));
        check("collapsed");
        assert!(is_huge(&a, here));
        // A private mapping of it: the file's page until written to.
        let private = b.map(Map::private(&object, 0, HUGE, Prot::READ_WRITE)).unwrap();
        let place = PageIdentity::Object { object: object.id(), index: 0, writable: false };
        assert_eq!(b.identify(private, Access::Read), Ok(place));
        assert_eq!(b.identify(private, Access::Write), Ok(PageIdentity::Anonymous { writable: true }));
    });
}

#[test]
fn a_cached_block_splits_to_any_order_under_pins() {
    for order in (0..9).rev() {
        machine(32 * MIB, MmConfig::default(), |mm, zone, _| {
            let order = Order::new(order).unwrap();
            let object = mm.object(ObjectConfig::new(4 * MIB).huge()).unwrap();
            let space = mm.space().unwrap();
            let addr = space.map(Map::shared(&object, 0, 4 * MIB, Prot::READ_WRITE)).unwrap();
            let data = pattern(6, 4 * MIB as usize);
            space.write(addr, &data).unwrap();
            let pins = space.pin_pages(addr.offset(99 * PAGE), 3 * PAGE, Access::Write).unwrap();
            let frames: Vec<_> = pins.frames().collect();
            assert_eq!(space.split_page(addr, order), Ok(order));
            assert_eq!(space.split_page(addr.offset(HUGE), order), Ok(order));
            assert_eq!(space.usage().huge_bytes, 0);
            assert_eq!(bytes(&space, addr, 4 * MIB), data);
            for (index, head, found) in object.blocks() {
                assert_eq!(found, order);
                assert_eq!((index % order.frames(), head.is_aligned(order)), (0, true));
                assert_eq!(zone.head_of(head), Some((head, order)));
            }
            assert_eq!(frames, (99..102).map(|i| frame(&space, addr.offset(i * PAGE))).collect::<Vec<_>>());
            pins.write(0, b"through the pin");
            assert_eq!(bytes(&space, addr.offset(99 * PAGE), 15), b"through the pin");
        });
    }
}

#[test]
fn an_object_collapses_by_copy_unless_a_page_that_would_move_is_pinned() {
    machine(32 * MIB, MmConfig::default(), |mm, zone, _| {
        let object = mm.object(ObjectConfig::new(4 * MIB)).unwrap();
        let (a, b) = (mm.space().unwrap(), mm.space().unwrap());
        let here = a.map(Map::shared(&object, 0, 4 * MIB, Prot::READ_WRITE)).unwrap();
        let there = b.map(Map::shared(&object, 0, 4 * MIB, Prot::READ_WRITE)).unwrap();
        // Out of order, so not in place.
        let data = pattern(6, 4 * MIB as usize);
        for page in (0..1024).rev() {
            b.write(there.offset(page * PAGE), &data[(page * PAGE) as usize..][..PAGE as usize]).unwrap();
        }
        let pins = a.pin_pages(here.offset(PAGE), PAGE, Access::Read).unwrap();
        let pinned = CollapseError::Pinned { addr: here.offset(PAGE) };
        assert_eq!(a.collapse(here, CollapseLimits::NONE), Err(pinned));
        assert_eq!(bytes(&a, here, 4 * MIB), data);
        drop(pins);
        assert_eq!(a.collapse(here, CollapseLimits::NONE), Ok(CollapseOutcome::ByCopy));
        assert_eq!(a.collapse(here, CollapseLimits::NONE), Ok(CollapseOutcome::AlreadyHuge));
        assert_eq!(bytes(&a, here, 4 * MIB), data);
        assert_eq!(bytes(&b, there, 4 * MIB), data);
        assert!(is_huge(&a, here));
        assert_eq!(zone.head_of(frame(&b, there)).unwrap().1, Order::HUGE);
        assert_eq!(frame(&a, here), frame(&b, there));
    });
}

#[test]
fn an_object_collapses_while_everybody_reads() {
    machine(32 * MIB, MmConfig::default(), |mm, _, _| {
        for round in 0..20 {
            let object = mm.object(ObjectConfig::new(HUGE)).unwrap();
            let spaces = [mm.space().unwrap(), mm.space().unwrap()];
            for space in &spaces {
                space
                    .map(Map::shared(&object, 0, HUGE, Prot::READ_WRITE).at(VirtAddr::new(0x4000_0000)))
                    .unwrap();
            }
            let addr = VirtAddr::new(0x4000_0000);
            for page in (0..512).rev() {
                spaces[0].write(addr.offset(page * PAGE), &page.to_le_bytes()).unwrap();
            }
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                for space in &spaces {
                    let stop = &stop;
                    scope.spawn(move || {
                        while !stop.load(Ordering::Relaxed) {
                            for page in 0..512 {
                                assert_eq!(bytes(space, addr.offset(page * PAGE), 8), page.to_le_bytes());
                            }
                        }
                    });
                }
                let done = spaces[0].collapse(addr, CollapseLimits::NONE);
                stop.store(true, Ordering::Relaxed);
                // A page that is only mapped is no reason to refuse, however often other threads
                // fault it in during the collapse.
                assert_eq!(done, Ok(CollapseOutcome::ByCopy), "round {round}");
            });
        }
    });
}

#[test]
fn hugetlb_comes_in_units_only_and_never_splits() {
    machine(64 * MIB, MmConfig::default(), |mm, zone, _| {
        let object = mm.object(ObjectConfig::new(8 * MIB).hugetlb(Order::HUGE)).unwrap();
        let space = mm.space().unwrap();
        let addr = space.map(Map::shared(&object, 0, 8 * MIB, Prot::READ_WRITE)).unwrap();
        let private = space.map(Map::private(&object, 0, 8 * MIB, Prot::READ_WRITE)).unwrap();
        let data = pattern(3, 8 * MIB as usize);
        space.write(addr, &data).unwrap();
        assert_eq!(space.usage().huge_bytes, 8 * MIB);
        let misaligned = |value| Err(MapError::Misaligned { value, unit: HUGE });
        assert_eq!(space.unmap(addr, PAGE), misaligned(addr.get() + PAGE));
        assert_eq!(space.protect(addr, HUGE + PAGE, Prot::READ), misaligned(addr.get() + HUGE + PAGE));
        assert!(space.split_page(addr, Order::PAGE).is_err() && space.split_mapping(addr).is_err());
        assert_eq!(object.truncate(PAGE), Err(MmError::Misaligned { value: PAGE, unit: HUGE }));
        // A pin on any page is a pin on the unit.
        let pins = space.pin_pages(addr.offset(5 * PAGE), PAGE, Access::Write).unwrap();
        assert_eq!(zone.state(frame(&space, addr)).unwrap().pins, 1);
        // Copied whole, shared by fork whole; pinned ones are copied at once.
        space.write(private, b"mine").unwrap();
        assert_eq!(bytes(&space, private.offset(4), HUGE - 4), data[4..HUGE as usize]);
        let own = space.pin_pages(private, PAGE, Access::Write).unwrap();
        let child = space.fork().unwrap();
        assert_ne!(frame(&child, private), frame(&space, private));
        child.write(private, b"childs").unwrap();
        assert_eq!(bytes(&space, private, 4), b"mine");
        drop((own, child));
        let free = zone.free_frames();
        object.punch_hole(HUGE..3 * HUGE);
        assert_eq!(zone.free_frames(), free + 2 * 512);
        space.unmap(addr, 8 * MIB).unwrap();
        assert_eq!(space.identify(private.offset(HUGE + 3 * PAGE), Access::Read), {
            Ok(PageIdentity::Object { object: object.id(), index: 512 + 3, writable: false })
        });
        drop(pins);
    });
}

#[test]
fn hugetlb_of_a_gigabyte_is_one_leaf() {
    machine((1 << 30) + 16 * MIB + (1 << 30), MmConfig::default(), |mm, zone, _| {
        let object = mm.object(ObjectConfig::new(1 << 30).hugetlb(Order::MAX)).unwrap();
        let space = mm.space().unwrap();
        let addr = space.map(Map::shared(&object, 0, 1 << 30, Prot::READ_WRITE)).unwrap();
        assert!(addr.is_aligned(1 << 30));
        let far = addr.offset((1 << 30) - 3 * PAGE);
        space.write(far, b"far").unwrap();
        assert_eq!(space.mapping(far).unwrap().order, Order::MAX);
        let index = (1 << 18) - 3;
        let place = PageIdentity::Object { object: object.id(), index, writable: true };
        assert_eq!(space.identify(far, Access::Read), Ok(place));
        let head = frame(&space, addr);
        let pins = space.pin_pages(far, 2 * PAGE, Access::Write).unwrap();
        assert_eq!(pins.frames().collect::<Vec<_>>(), [head.offset(index), head.offset(index + 1)]);
        assert_eq!(zone.state(head).unwrap().pins, 2);
        space.unmap(addr, 1 << 30).unwrap();
        drop(object);
        let mut bytes = [0; 3];
        pins.read(0, &mut bytes);
        assert_eq!(&bytes, b"far");
    });
}

#[test]
fn the_object_goes_with_its_last_mapping() {
    machine(32 * MIB, MmConfig::default(), |mm, zone, _| {
        let space = mm.space().unwrap();
        let base = zone.used_frames();
        let object = mm.object(ObjectConfig::new(4 * MIB)).unwrap();
        let first = object.id();
        let addr = space.map(Map::shared(&object, 0, MIB, Prot::READ_WRITE)).unwrap();
        drop(object);
        space.write(addr, b"alive").unwrap();
        assert_eq!(bytes(&space, addr, 5), b"alive");
        space.unmap(addr, MIB).unwrap();
        assert_eq!(zone.used_frames(), base);
        assert_ne!(mm.object(ObjectConfig::new(1)).unwrap().id(), first);
    });
}

#[test]
fn a_source_that_panics_loses_nothing() {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    struct Failing(std::sync::atomic::AtomicU32);
    impl tailpin_mm::ObjectSource for Failing {
        fn fill(&self, index: u64, page: &mut [u8; 4096]) {
            let left = &self.0;
            let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            assert!(taken.is_err() || index % 7 != 3, "as the test asks");
            page.fill((index as u8).wrapping_add(1));
        }
    }
    machine(16 * MIB, MmConfig::default(), |mm, zone, _| {
        for config in [ObjectConfig::new(HUGE), ObjectConfig::new(HUGE).huge()] {
            let source = std::sync::Arc::new(Failing(5.into()));
            let object = mm.object(config.source(source)).unwrap();
            let space = mm.space().unwrap();
            let addr = space.map(Map::shared(&object, 0, HUGE, Prot::READ_WRITE)).unwrap().offset(3 * PAGE);
            let before = zone.used_frames();
            let read = || catch_unwind(AssertUnwindSafe(|| space.fault(addr, Access::Read)));
            assert!(read().is_err());
            assert!(object.blocks().is_empty());
            assert_eq!(zone.used_frames(), before, "a block is lost");
            // Neither the object nor the space is locked for good.
            while read().is_err() {}
            assert_eq!(byte(&space, addr), 4);
            object.truncate(0).unwrap();
        }
    });
}
