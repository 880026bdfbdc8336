//! Mapping, unmapping, protection, moving: what a single space does.

use crate::common;

use common::*;
use tailpin::Order;
use tailpin_mm::{
    Access, Advice, AdviseError, CollapseError, CollapseLimits, CollapseOutcome, FaultError, FrameInfo,
    FrameInfos, HugePages, Map, MapError, Mm, MmConfig, MmError, NotPresent, ObjectConfig, PageIdentity,
    Prot, Ram, VirtAddr,
};

#[test]
fn what_is_written_is_read_back() {
    machine(32 * MIB, MmConfig::default(), |mm, _, _| {
        let space = mm.space().unwrap();
        for huge in [HugePages::Always, HugePages::Never] {
            let addr = space.map(Map::anonymous(8 * MIB, Prot::READ_WRITE).huge(huge)).unwrap();
            let data = pattern(3, 3 * MIB as usize + 77);
            space.write(addr.offset(MIB + 5), &data).unwrap();
            assert_eq!(bytes(&space, addr.offset(MIB + 5), data.len() as u64), data);
            assert_eq!(bytes(&space, addr.offset(MIB), 5), [0; 5]);
            assert_eq!(is_huge(&space, addr.offset(2 * MIB)), huge == HugePages::Always);
            space.unmap(addr, 8 * MIB).unwrap();
            assert_eq!(space.usage(), Default::default());
        }
    });
}

#[test]
fn a_reader_gets_zeroes_without_memory() {
    machine(32 * MIB, MmConfig::default(), |mm, zone, _| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(16 * MIB, Prot::READ_WRITE)).unwrap();
        assert_eq!(byte(&space, addr), 0);
        let used = zone.used_frames();
        for i in 0..8 {
            assert_eq!(byte(&space, addr.offset(i * HUGE + 4711)), 0);
        }
        assert_eq!(zone.used_frames(), used, "one page of zeroes serves all");
        assert_eq!(space.usage().zero_bytes, 16 * MIB);
        // Never writable, never dirty (H26); a write makes a page of its own.
        assert!(!space.mapping(addr).unwrap().writable && !space.mapping(addr).unwrap().dirty);
        space.write(addr, &[7]).unwrap();
        assert_eq!((byte(&space, addr), byte(&space, addr.offset(HUGE))), (7, 0));
    });
}

#[test]
fn partial_unmap_frees_at_once_also_beside_a_pin() {
    machine(16 * MIB, MmConfig::default(), |mm, zone, _| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
        space.write(addr, &pattern(9, HUGE as usize)).unwrap();
        assert!(is_huge(&space, addr));
        let pins = space.pin_pages(addr.offset(10 * PAGE), PAGE, Access::Read).unwrap();
        let victim = frame(&space, addr.offset(300 * PAGE));
        let used = zone.used_frames();
        space.unmap(addr.offset(300 * PAGE), PAGE).unwrap();
        // Linux would have queued the split, and the pin would have refused it. One frame more is
        // the page table.
        assert!(is_free(zone, victim), "the page is free when the call returns");
        assert_eq!(zone.used_frames(), used - 1 + 1);
        assert_eq!(bytes(&space, addr, 300 * PAGE), pattern(9, HUGE as usize)[..300 * PAGE as usize]);
        let mut kept = [0; 8];
        pins.read(0, &mut kept);
        assert_eq!(kept, pattern(9, HUGE as usize)[10 * PAGE as usize..][..8]);
        // Everything but the pinned page goes with the rest.
        space.unmap(addr, HUGE).unwrap();
        assert_eq!(zone.used_frames(), 3, "the pinned page, the root table, the page of zeroes");
        drop(pins);
        assert_eq!(zone.used_frames(), 2);
    });
}

#[test]
fn any_part_can_be_unmapped_and_the_rest_stays() {
    machine(32 * MIB, MmConfig::default(), |mm, _, _| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(6 * MIB, Prot::READ_WRITE)).unwrap();
        let data = pattern(5, 6 * MIB as usize);
        space.write(addr, &data).unwrap();
        let (from, to) = (MIB + 3 * PAGE, 5 * MIB - PAGE);
        space.unmap(addr.offset(from), to - from).unwrap();
        assert_eq!(bytes(&space, addr, from), data[..from as usize]);
        assert_eq!(bytes(&space, addr.offset(to), 6 * MIB - to), data[to as usize..]);
        for gone in [from, 3 * MIB, to - 1] {
            let gone = addr.offset(gone);
            assert_eq!(space.read(gone, &mut [0]), Err(FaultError::Unmapped { addr: gone }));
        }
    });
}

#[test]
fn protection_is_in_force_on_return_and_contents_stay() {
    machine(32 * MIB, MmConfig::default(), |mm, _, _| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(4 * MIB, Prot::READ_WRITE)).unwrap();
        let data = pattern(6, 4 * MIB as usize);
        space.write(addr, &data).unwrap();
        let middle = addr.offset(HUGE - 5 * PAGE);
        space.protect(middle, 10 * PAGE, Prot::READ).unwrap();
        assert_eq!(space.write(middle, &[1]), Err(FaultError::NotWritable { addr: middle }));
        space.protect(middle, 5 * PAGE, Prot::NONE).unwrap();
        assert_eq!(space.read(middle, &mut [0]), Err(FaultError::NotReadable { addr: middle }));
        assert_eq!(space.load_u32(middle), Err(NotPresent { addr: middle }));
        space.write(middle.offset(10 * PAGE), &data[(HUGE + 5 * PAGE) as usize..][..8]).unwrap();
        space.protect(middle, 10 * PAGE, Prot::READ_WRITE).unwrap();
        assert_eq!(bytes(&space, addr, 4 * MIB), data);
        space.write(middle, &[1]).unwrap();
        assert_eq!(byte(&space, middle), 1);
        let gap = addr.offset(4 * MIB);
        assert_eq!(space.protect(addr, 8 * MIB, Prot::READ), Err(MapError::Unmapped { addr: gap }));
    });
}

#[test]
fn moving_keeps_contents_and_huge_pages_in_all_four_alignments() {
    machine(64 * MIB, MmConfig::default(), |mm, _, _| {
        for (from, to) in [(0, 0), (0, 3 * PAGE), (5 * PAGE, 0), (5 * PAGE, 9 * PAGE)] {
            let space = mm.space().unwrap();
            let (from, to) = (VirtAddr::new(0x4000_0000 + from), VirtAddr::new(0x8000_0000 + to));
            space.map(Map::anonymous(8 * MIB, Prot::READ_WRITE).at(from)).unwrap();
            let data = pattern(8, 8 * MIB as usize);
            space.write(from, &data).unwrap();
            assert_eq!(space.remap(from, 8 * MIB, Some(to)), Ok(to));
            assert_eq!(bytes(&space, to, 8 * MIB), data);
            assert_eq!(space.read(from, &mut [0]), Err(FaultError::Unmapped { addr: from }));
            let same = (to.get() - from.get()) % HUGE == 0;
            assert_eq!(space.usage().huge_bytes > 0, same);
            // And back, to wherever there is room.
            let back = space.remap(to, 8 * MIB, None).unwrap();
            assert_eq!(bytes(&space, back, 8 * MIB), data);
        }
    });
}

#[test]
fn what_is_not_needed_is_free_at_once_and_reads_as_zeroes() {
    machine(32 * MIB, MmConfig::default(), |mm, zone, _| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(4 * MIB, Prot::READ_WRITE)).unwrap();
        space.write(addr, &pattern(2, 4 * MIB as usize)).unwrap();
        let used = zone.used_frames();
        space.advise(addr.offset(MIB), 2 * MIB, Advice::DontNeed).unwrap();
        assert_eq!(zone.used_frames(), used - 512 + 2, "two tables in their place");
        assert_eq!(bytes(&space, addr.offset(MIB), 2 * MIB), vec![0; 2 * MIB as usize]);
        assert_eq!(byte(&space, addr.offset(MIB - 1)), pattern(2, MIB as usize)[MIB as usize - 1]);
        space.advise(addr, 4 * MIB, Advice::Free).unwrap();
        assert_eq!(byte(&space, addr), 0);
        space.advise(addr, 4 * MIB, Advice::NoHuge).unwrap();
        space.write(addr, &[1]).unwrap();
        assert!(!is_huge(&space, addr));
        let beyond = space.advise(addr, 5 * MIB, Advice::DontNeed);
        assert_eq!(beyond, Err(AdviseError::Map(MapError::Unmapped { addr: addr.offset(4 * MIB) })));
    });
}

#[test]
fn no_leaf_reaches_over_the_border_of_a_region() {
    machine(32 * MIB, MmConfig::default(), |mm, _, _| {
        for advice in [Advice::Huge, Advice::NoHuge] {
            let space = mm.space().unwrap();
            let addr = space.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
            space.write(addr, &pattern(4, HUGE as usize)).unwrap();
            space.advise(addr.offset(MIB), MIB, advice).unwrap();
            // A fork goes region by region: a leaf in two of them would count twice.
            let child = space.fork().unwrap();
            assert_eq!(bytes(&child, addr, HUGE), pattern(4, HUGE as usize));
            drop(space);
            child.unmap(addr, MIB).unwrap();
            assert_eq!(bytes(&child, addr.offset(MIB), MIB), pattern(4, HUGE as usize)[MIB as usize..]);
        }
    });
}

#[test]
fn a_page_protected_and_back_leaves_no_border() {
    machine(32 * MIB, MmConfig::default(), |mm, _, _| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(2 * HUGE, Prot::READ_WRITE)).unwrap();
        let page = addr.offset(5 * PAGE);
        space.write(addr, &pattern(6, HUGE as usize)).unwrap();
        space.protect(page, PAGE, Prot::READ).unwrap();
        let not_eligible = Err(CollapseError::NotEligible { addr });
        assert_eq!(space.collapse(addr, CollapseLimits::NONE), not_eligible, "three regions");
        space.protect(page, PAGE, Prot::READ_WRITE).unwrap();
        assert_eq!(space.collapse(addr, CollapseLimits::NONE), Ok(CollapseOutcome::InPlace));
        assert!(is_huge(&space, page));
        assert_eq!(bytes(&space, addr, HUGE), pattern(6, HUGE as usize));
        // And by a fault, after advice that was taken back.
        space.advise(page, PAGE, Advice::NoHuge).unwrap();
        space.advise(page, PAGE, Advice::Huge).unwrap();
        space.advise(addr, 2 * HUGE, Advice::DontNeed).unwrap();
        space.write(page, &[1]).unwrap();
        assert!(!is_huge(&space, page), "advised to be huge, its neighbours not");
        space.advise(addr, 2 * HUGE, Advice::Huge).unwrap();
        space.advise(addr, 2 * HUGE, Advice::DontNeed).unwrap();
        space.write(page, &[1]).unwrap();
        assert!(is_huge(&space, page));
        // And after parts were moved away and back.
        let away = space.remap(addr.offset(MIB), HUGE, None).unwrap();
        space.remap(away, HUGE, Some(addr.offset(MIB))).unwrap();
        space.advise(addr, 2 * HUGE, Advice::DontNeed).unwrap();
        space.write(page, &[1]).unwrap();
        assert!(is_huge(&space, page));
    });
}

#[test]
fn an_objects_pages_are_one_region_only_in_order() {
    machine(32 * MIB, MmConfig::default(), |mm, _, _| {
        let object = mm.object(ObjectConfig::new(2 * HUGE)).unwrap();
        let at = VirtAddr::new(0x4000_0000);
        let half = |offset, by| Map::shared(&object, offset, MIB, Prot::READ_WRITE).at(at.offset(by));
        let swapped = mm.space().unwrap();
        swapped.map(half(MIB, 0)).unwrap();
        swapped.map(half(0, MIB)).unwrap();
        swapped.write(at, &[2]).unwrap();
        swapped.write(at.offset(MIB), &[1]).unwrap();
        assert_eq!(swapped.collapse(at, CollapseLimits::NONE), Err(CollapseError::NotEligible { addr: at }));
        let space = mm.space().unwrap();
        space.map(half(MIB, MIB)).unwrap();
        space.map(half(0, 0)).unwrap();
        space.write(at, &[1]).unwrap();
        assert!(space.collapse(at, CollapseLimits::NONE).is_ok());
        assert!(space.mapping(at).is_none(), "mapped as a whole from the next fault on");
        assert_eq!((byte(&space, at), byte(&space, at.offset(MIB))), (1, 2));
        assert!(is_huge(&space, at));
        assert_eq!(space.collapse(at, CollapseLimits::NONE), Ok(CollapseOutcome::AlreadyHuge));
        assert!(is_huge(&space, at), "what was huge was left alone");
        assert_eq!((byte(&swapped, at), byte(&swapped, at.offset(MIB))), (2, 1));
    });
}

#[test]
fn guards_and_rights_that_differ_stay_apart() {
    machine(16 * MIB, MmConfig::default(), |mm, _, _| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(3 * PAGE, Prot::READ_WRITE)).unwrap();
        space.map(Map::guard(PAGE).at(addr.offset(3 * PAGE))).unwrap();
        space.protect(addr.offset(PAGE), PAGE, Prot::READ).unwrap();
        space.protect(addr, PAGE, Prot::READ).unwrap();
        let refused = |page| space.fault(addr.offset(page * PAGE), Access::Write).is_err();
        assert_eq!([0, 1, 2, 3].map(refused), [true, true, false, true]);
        space.unmap(addr.offset(PAGE), PAGE).unwrap();
        assert_eq!([0, 1, 2, 3].map(refused), [true, true, false, true]);
        space.protect(addr, PAGE, Prot::READ_WRITE).unwrap();
        assert_eq!([0, 1, 2, 3].map(refused), [false, true, false, true]);
    });
}

#[test]
fn bad_ranges_are_refused_and_nothing_changes() {
    machine(16 * MIB, MmConfig::default(), |mm, _, _| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(MIB, Prot::READ_WRITE)).unwrap();
        space.write(addr, b"here").unwrap();
        assert_eq!(space.map(Map::anonymous(0, Prot::READ)), Err(MapError::Empty));
        assert_eq!(
            space.map(Map::anonymous(5, Prot::READ)),
            Err(MapError::Misaligned { value: 5, unit: PAGE })
        );
        assert_eq!(space.map(Map::anonymous(PAGE, Prot::READ).at(addr)), Err(MapError::Occupied { addr }));
        assert_eq!(space.map(Map::anonymous(1 << 47, Prot::READ)), Err(MapError::NoRoom { len: 1 << 47 }));
        let kernel = VirtAddr::new(0xffff_8000_0000_0000);
        let there = Map::anonymous(PAGE, Prot::READ).at(kernel);
        assert_eq!(space.map(there), Err(MapError::OutOfRange { addr: kernel }));
        assert_eq!(space.unmap(addr, 0), Err(MapError::Empty));
        assert_eq!(
            space.unmap(addr.offset(1), PAGE),
            Err(MapError::Misaligned { value: addr.get() + 1, unit: PAGE })
        );
        assert_eq!(space.remap(addr, MIB, Some(addr)), Err(MapError::Occupied { addr }));
        assert_eq!(space.fault(kernel, Access::Read), Err(FaultError::Unmapped { addr: kernel }));
        assert_eq!(space.load_u32(kernel), Err(NotPresent { addr: kernel }));
        assert_eq!(space.mapping(kernel), None);
        assert_eq!(bytes(&space, addr, 4), b"here");
        space.unmap(addr.offset(MIB), MIB).unwrap(); // nothing there: nothing to do
    });
}

#[test]
fn a_guard_keeps_its_addresses_and_lets_nobody_in() {
    machine(16 * MIB, MmConfig::default(), |mm, _, _| {
        let space = mm.space().unwrap();
        let stack = space.map(Map::anonymous(64 * 1024, Prot::READ_WRITE)).unwrap();
        let guard = stack.offset(64 * 1024);
        space.map(Map::guard(4 * PAGE).at(guard)).unwrap();
        assert_eq!(space.write(guard, &[1]), Err(FaultError::Unmapped { addr: guard }));
        assert!(space.map(Map::anonymous(PAGE, Prot::READ).at(guard)).is_err());
        let next = space.map(Map::anonymous(PAGE, Prot::READ)).unwrap();
        assert!(next >= guard.offset(4 * PAGE));
        space.unmap(guard, 4 * PAGE).unwrap();
        space.map(Map::anonymous(PAGE, Prot::READ).at(guard)).unwrap();
    });
}

#[test]
fn without_a_free_huge_block_small_pages_do() {
    machine(16 * MIB, MmConfig::default(), |mm, zone, _| {
        let space = mm.space().unwrap();
        let mut held: Vec<_> = std::iter::from_fn(|| zone.alloc(Order::HUGE).ok()).collect();
        let pieces = held.pop().unwrap().split().unwrap();
        let mut pieces: Vec<_> = pieces.collect();
        pieces.truncate(8); // the rest of these 2 MiB is free, but not whole
        let addr = space.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
        space.write(addr, b"small").unwrap();
        assert!(!is_huge(&space, addr));
        assert_eq!(bytes(&space, addr, 5), b"small");
    });
}

#[test]
fn words_change_in_one_step_and_never_fault() {
    machine(16 * MIB, MmConfig::default(), |mm, _, _| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(PAGE, Prot::READ_WRITE)).unwrap().offset(12);
        assert_eq!(space.load_u32(addr), Err(NotPresent { addr }));
        space.fault(addr, Access::Read).unwrap();
        assert_eq!(space.load_u32(addr), Ok(0));
        assert_eq!(space.compare_exchange_u32(addr, 0, 1), Err(NotPresent { addr }), "zeroes are read-only");
        space.fault(addr, Access::Write).unwrap();
        assert_eq!(space.compare_exchange_u32(addr, 0, 1), Ok(Ok(0)));
        assert_eq!(space.compare_exchange_u32(addr, 0, 2), Ok(Err(1)));
        assert_eq!(space.fetch_update_u32(addr, |old| Some(old + 41)), Ok(Ok(1)));
        space.store_u32(addr.offset(4), 5).unwrap();
        assert_eq!((space.load_u32(addr), space.load_u32(addr.offset(4))), (Ok(42), Ok(5)));
        assert_eq!(space.load_u32(addr.offset(1)), Err(NotPresent { addr: addr.offset(1) }));
    });
}

#[test]
fn frame_information_serves_one_mm_at_a_time() {
    let entries = 4 * MIB / PAGE;
    let mut few: Vec<FrameInfo> = (1..entries).map(|_| FrameInfo::new()).collect();
    let few = FrameInfos::from(few.as_mut_slice());
    let (first, second) = (Ram::new(4 * MIB), Ram::new(2 * MIB));
    let (zone, other) = (first.zone().unwrap(), second.zone().unwrap());
    let make = |infos| Mm::new(&zone, first.env(), infos, MmConfig::default());
    let mm = make(first.infos()).unwrap();
    // For this zone or another. That a part of them serves another is refused by the types.
    assert_eq!(make(first.infos()).err(), Some(MmError::InfosInUse));
    let made = Mm::new(&other, second.env(), first.infos(), MmConfig::default());
    assert_eq!(made.err(), Some(MmError::InfosInUse));
    // Pages at both ends are described as any others, and what is refused changes nothing.
    let object = mm.object(ObjectConfig::new(3 * MIB)).unwrap();
    let space = mm.space().unwrap();
    let addr = space.map(Map::shared(&object, 0, 3 * MIB, Prot::READ_WRITE)).unwrap();
    for page in 0..3 * MIB / PAGE {
        let found = space.identify(addr.offset(page * PAGE), Access::Write).unwrap();
        let right = PageIdentity::Object { object: object.id(), index: page, writable: true };
        assert_eq!(found, right);
    }
    assert_eq!(make(first.infos()).err(), Some(MmError::InfosInUse));
    let short = MmError::TooFewInfos { needed: entries, given: entries - 1 };
    assert_eq!(make(&few).err(), Some(short));
    drop((space, object, mm));
    // When the last handle is gone, they may serve another.
    drop(make(first.infos()).unwrap());
    // Nor does one that could not be made keep them.
    first.env().fail_after(Some(0));
    assert!(matches!(make(first.infos()).err(), Some(MmError::OutOfMemory { .. })));
    first.env().fail_after(None);
    assert!(make(first.infos()).is_ok());
    assert!(!few.is_empty() && FrameInfos::new(0).is_empty());
}
