//! Pins by address (gup).

use crate::common;

use common::*;
use tailpin::{Kind, Order};
use tailpin_mm::{
    Access, FaultError, HugePages, Map, MmConfig, ObjectConfig, PageSplitError, PinError, Prot, VirtAddr,
};

#[test]
fn the_frames_are_those_of_the_addresses_asked_for() {
    machine(32 * MIB, MmConfig::default(), |mm, _, _| {
        for huge in [HugePages::Always, HugePages::Never] {
            let space = mm.space().unwrap();
            let addr = space.map(Map::anonymous(6 * MIB, Prot::READ_WRITE).huge(huge)).unwrap();
            for (from, len) in [(0, 1), (5, 4096), (4095, 2), (HUGE - 3, HUGE + 6), (0, 6 * MIB)] {
                let pins = space.pin_pages(addr.offset(from), len, Access::Write).unwrap();
                let first = from / PAGE;
                let last = (from + len - 1) / PAGE;
                let expected: Vec<_> =
                    (first..=last).map(|page| frame(&space, addr.offset(page * PAGE))).collect();
                assert_eq!(pins.frames().collect::<Vec<_>>(), expected);
                assert_eq!((pins.offset(), pins.len(), pins.is_empty()), (from % PAGE, len, false));
                let present = space.pin_present(addr.offset(from), len, Access::Write).unwrap();
                assert_eq!(present.frames().collect::<Vec<_>>(), expected);
                let data = pattern(from, len as usize);
                pins.write(0, &data);
                assert_eq!(bytes(&space, addr.offset(from), len), data);
                let mut seen = vec![0; len as usize];
                pins.read(0, &mut seen);
                assert_eq!(seen, data);
            }
        }
    });
}

#[test]
fn a_page_made_for_a_pin_is_dirty_when_it_is_pinned_for_writing() {
    machine(32 * MIB, MmConfig::default(), |mm, _, _| {
        for huge in [HugePages::Always, HugePages::Never] {
            let space = mm.space().unwrap();
            let addr = space.map(Map::anonymous(HUGE, Prot::READ_WRITE).huge(huge)).unwrap();
            let read = space.pin_pages(addr, PAGE, Access::Read).unwrap();
            let dirty = || space.mapping(addr).map(|page| page.dirty);
            assert_eq!(dirty(), Some(false));
            let written = space.pin_pages(addr, PAGE, Access::Write).unwrap();
            assert!(read.frames().eq(written.frames()), "it was this mapping's alone already");
            space.write(addr, &[1]).unwrap();
            assert_eq!(dirty(), Some(true));
        }
    });
}

#[test]
fn a_batch_over_a_huge_page_is_one_reference_on_the_block() {
    machine(32 * MIB, MmConfig::default(), |mm, zone, _| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(2 * HUGE, Prot::READ_WRITE)).unwrap();
        space.write(addr, &[1]).unwrap();
        let head = frame(&space, addr);
        let pins = space.pin_pages(addr, HUGE, Access::Write).unwrap();
        let state = zone.state(head).unwrap();
        assert_eq!((state.refs, state.pins), (2, 0));
        assert_eq!(zone.state(head.offset(7)).unwrap().pins, 0);
        // After a split it is one on each page, so all stay.
        space.split_page(addr, Order::PAGE).unwrap();
        assert!(pins.frames().all(|frame| zone.state(frame).unwrap().kind == Kind::Page));
        pins.write(HUGE - 5, b"tail!");
        assert_eq!(bytes(&space, addr.offset(HUGE - 5), 5), b"tail!");
        let used = zone.used_frames();
        space.unmap(addr, HUGE).unwrap();
        assert_eq!(zone.used_frames(), used - 3, "the pins keep all 512, only tables go");
        drop(pins);
        assert_eq!(zone.used_frames(), used - 515);
    });
}

#[test]
fn a_batch_over_part_of_a_huge_page_keeps_just_that_part() {
    machine(32 * MIB, MmConfig::default(), |mm, zone, _| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
        space.write(addr, &[1]).unwrap();
        let base = zone.used_frames();
        let pins = space.pin_pages(addr.offset(17 * PAGE), 5 * PAGE, Access::Read).unwrap();
        space.unmap(addr, HUGE).unwrap();
        assert_eq!(zone.used_frames(), base - 512 - 2 + 5, "512 pages and two tables go, five pages stay");
        drop(pins);
    });
}

#[test]
fn counts_are_as_before_after_unpinning() {
    machine(32 * MIB, MmConfig::default(), |mm, zone, _| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(2 * HUGE, Prot::READ_WRITE)).unwrap();
        space.write(addr, &[1]).unwrap();
        let head = frame(&space, addr);
        let before: Vec<_> = (0..512).map(|i| zone.state(head.offset(i)).unwrap()).collect();
        let all: Vec<_> = [(0, HUGE), (PAGE, PAGE), (PAGE, 100), (HUGE - PAGE, 2 * PAGE)]
            .iter()
            .map(|(from, len)| space.pin_pages(addr.offset(*from), *len, Access::Read).unwrap())
            .collect();
        assert!(zone.state(head).unwrap().pins > 0);
        drop(all);
        for (i, before) in before.into_iter().enumerate() {
            let after = zone.state(head.offset(i as u64)).unwrap();
            // A tail that was pinned remembers its block's order.
            assert_eq!((after.pins, after.refs), (before.pins, before.refs), "page {i}");
        }
    });
}

#[test]
fn a_failed_batch_pins_nothing() {
    machine(32 * MIB, MmConfig::default(), |mm, zone, env| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
        space.write(addr, &[1]).unwrap();
        let beyond = addr.offset(HUGE);
        let error = space.pin_pages(addr, HUGE + PAGE, Access::Read).unwrap_err();
        assert_eq!(error, PinError::Fault(FaultError::Unmapped { addr: beyond }));
        space.map(Map::anonymous(HUGE, Prot::READ).at(beyond)).unwrap();
        let error = space.pin_pages(addr, HUGE + PAGE, Access::Write).unwrap_err();
        assert_eq!(error, PinError::Fault(FaultError::NotWritable { addr: beyond }));
        env.fail_after(Some(0));
        let error = space.pin_pages(addr, HUGE + PAGE, Access::Read).unwrap_err();
        assert_eq!(error, PinError::Fault(FaultError::OutOfMemory { addr: beyond, order: Order::PAGE }));
        env.fail_after(None);
        assert_eq!(zone.state(frame(&space, addr)).unwrap().refs, 1);
        let bad = PinError::BadRange { addr };
        assert_eq!(space.pin_pages(addr, 0, Access::Read).unwrap_err(), bad);
        assert!(space.pin_pages(VirtAddr::new(u64::MAX - 5), 100, Access::Read).is_err());
    });
}

#[test]
fn long_term_pins_are_refused_where_every_write_counts() {
    machine(32 * MIB, MmConfig::default(), |mm, _, _| {
        let space = mm.space().unwrap();
        let file = mm.object(ObjectConfig::new(MIB).tracks_writes()).unwrap();
        let memory = mm.object(ObjectConfig::new(MIB)).unwrap();
        let tracked = space.map(Map::shared(&file, 0, MIB, Prot::READ_WRITE)).unwrap();
        let copied = space.map(Map::private(&file, 0, MIB, Prot::READ_WRITE)).unwrap();
        let plain = space.map(Map::shared(&memory, 0, MIB, Prot::READ_WRITE)).unwrap();
        let own = space.map(Map::anonymous(MIB, Prot::READ_WRITE)).unwrap();
        let refused = PinError::LongTerm { addr: tracked };
        assert_eq!(space.pin_long_term(tracked, PAGE, Access::Write).unwrap_err(), refused);
        space.pin_long_term(tracked, PAGE, Access::Read).unwrap();
        space.pin_pages(tracked, PAGE, Access::Write).unwrap();
        for addr in [copied, plain, own] {
            for access in [Access::Read, Access::Write] {
                space.pin_long_term(addr, PAGE, access).unwrap();
            }
        }
    });
}

#[test]
fn a_pin_of_a_private_file_page_stays_with_the_mapping() {
    machine(32 * MIB, MmConfig::default(), |mm, _, _| {
        let space = mm.space().unwrap();
        let file = mm.object(ObjectConfig::new(MIB)).unwrap();
        let addr = space.map(Map::private(&file, 0, MIB, Prot::READ_WRITE)).unwrap();
        let pins = space.pin_pages(addr, PAGE, Access::Read).unwrap();
        space.write(addr, b"written").unwrap();
        let mut seen = [0; 7];
        pins.read(0, &mut seen);
        assert_eq!(&seen, b"written");
    });
}

#[test]
fn the_page_splits_from_any_space_and_pins_stay_where_they_are() {
    machine(32 * MIB, MmConfig::default(), |mm, zone, _| {
        let parent = mm.space().unwrap();
        let addr = parent.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
        let data = pattern(21, HUGE as usize);
        parent.write(addr, &data).unwrap();
        let child = parent.fork().unwrap();
        let grandchild = child.fork().unwrap();
        grandchild.remap(addr, HUGE, Some(VirtAddr::new(0x7000_0000_0000))).unwrap();
        assert!(is_huge(&grandchild, VirtAddr::new(0x7000_0000_0000)));
        let order = child.split_page(addr.offset(77 * PAGE), Order::PAGE);
        assert_eq!(order, Ok(Order::PAGE));
        for (space, addr) in [(&parent, addr), (&child, addr), (&grandchild, VirtAddr::new(0x7000_0000_0000))]
        {
            assert_eq!(space.usage().huge_bytes, 0, "all mappings are rewritten");
            assert_eq!(bytes(space, addr, HUGE), data);
        }
        assert_eq!(zone.head_of(frame(&parent, addr)).unwrap().1, Order::PAGE);
        let unmapped = VirtAddr::new(0x1000);
        assert_eq!(
            child.split_page(unmapped, Order::PAGE),
            Err(PageSplitError::NotPresent { addr: unmapped })
        );
    });
}

#[test]
fn a_mapping_splits_by_itself_and_the_block_stays_whole_for_the_others() {
    machine(32 * MIB, MmConfig::default(), |mm, zone, _| {
        let parent = mm.space().unwrap();
        let addr = parent.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
        parent.write(addr, &pattern(2, HUGE as usize)).unwrap();
        let child = parent.fork().unwrap();
        child.split_mapping(addr).unwrap();
        assert!(!is_huge(&child, addr) && is_huge(&parent, addr));
        assert_eq!(zone.head_of(frame(&child, addr)).unwrap().1, Order::HUGE);
        child.split_mapping(addr).unwrap(); // nothing left to do
        drop(parent);
        assert_eq!(bytes(&child, addr, HUGE), pattern(2, HUGE as usize));
    });
}
