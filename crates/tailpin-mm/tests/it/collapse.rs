//! Collapse of anonymous memory.

use crate::common;

use common::*;
use tailpin::Order;
use tailpin_mm::{
    Access, Advice, AdviseError, CollapseError, CollapseLimits, CollapseOutcome, Cow, HugePages, Map,
    MmConfig, ObjectConfig, Prot, VirtAddr,
};

/// Huge pages where they are asked for, and only there.
fn by_pages() -> MmConfig {
    MmConfig { huge_by_default: false, ..MmConfig::default() }
}

#[test]
fn frames_in_order_are_merged_in_place_under_pins() {
    machine(32 * MIB, MmConfig::default(), |mm, zone, _| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
        let data = pattern(3, HUGE as usize);
        space.write(addr, &data).unwrap();
        let head = frame(&space, addr);
        let pins = space.pin_pages(addr.offset(33 * PAGE), 2 * PAGE, Access::Write).unwrap();
        space.split_page(addr, Order::PAGE).unwrap();
        assert_eq!(
            space.collapse(addr.offset(PAGE), CollapseLimits::default()),
            Ok(CollapseOutcome::InPlace)
        );
        assert_eq!(zone.head_of(head.offset(5)), Some((head, Order::HUGE)));
        assert!(is_huge(&space, addr));
        assert_eq!(bytes(&space, addr, HUGE), data);
        pins.write(0, b"still the same page");
        assert_eq!(bytes(&space, addr.offset(33 * PAGE), 19), b"still the same page");
        assert_eq!(space.collapse(addr, CollapseLimits::default()), Ok(CollapseOutcome::AlreadyHuge));
    });
}

#[test]
fn others_are_copied_unless_pinned() {
    machine(32 * MIB, by_pages(), |mm, zone, _| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
        let data = pattern(3, HUGE as usize);
        for page in (0..512).rev() {
            space.write(addr.offset(page * PAGE), &data[(page * PAGE) as usize..][..PAGE as usize]).unwrap();
        }
        let pinned = addr.offset(44 * PAGE);
        let pins = space.pin_pages(pinned, PAGE, Access::Read).unwrap();
        let used = zone.used_frames();
        let refused = CollapseError::Pinned { addr: pinned };
        assert_eq!(space.collapse(addr, CollapseLimits::default()), Err(refused));
        assert_eq!(zone.used_frames(), used);
        assert_eq!(bytes(&space, addr, HUGE), data);
        drop(pins);
        assert_eq!(space.collapse(addr, CollapseLimits::default()), Ok(CollapseOutcome::ByCopy));
        assert_eq!(bytes(&space, addr, HUGE), data);
        assert_eq!(zone.used_frames(), used - 1);
    });
}

#[test]
fn absent_pages_become_zeroes_up_to_the_limit() {
    machine(32 * MIB, by_pages(), |mm, _, _| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(2 * HUGE, Prot::READ_WRITE)).unwrap();
        let nothing = CollapseError::Nothing { addr };
        assert_eq!(space.collapse(addr, CollapseLimits::default()), Err(nothing));
        byte(&space, addr); // a page of zeroes counts as absent
        assert_eq!(space.collapse(addr, CollapseLimits::default()), Err(nothing));
        space.write(addr.offset(5 * PAGE), b"one").unwrap();
        let tight = CollapseLimits { max_ptes_none: 510, ..CollapseLimits::default() };
        assert_eq!(space.collapse(addr, tight), Err(CollapseError::TooManyAbsent { addr, absent: 511 }));
        assert_eq!(space.collapse(addr, CollapseLimits::default()), Ok(CollapseOutcome::ByCopy));
        let mut expected = vec![0; HUGE as usize];
        expected[5 * PAGE as usize..][..3].copy_from_slice(b"one");
        assert_eq!(bytes(&space, addr, HUGE), expected);
        let second = CollapseError::Nothing { addr: addr.offset(HUGE) };
        assert_eq!(space.advise(addr, 2 * HUGE, Advice::Collapse), Err(AdviseError::Collapse(second)));
        let small = space.map(Map::anonymous(MIB, Prot::READ_WRITE)).unwrap();
        let around = small.align_down(HUGE);
        assert_eq!(
            space.collapse(small, CollapseLimits::NONE),
            Err(CollapseError::NotEligible { addr: around })
        );
    });
}

#[test]
fn shared_pages_collapse_in_the_child_and_the_parent_keeps_its_own() {
    machine(32 * MIB, by_pages(), |mm, _, _| {
        let parent = mm.space().unwrap();
        let addr = parent.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
        let data = pattern(8, HUGE as usize);
        parent.write(addr, &data).unwrap();
        let child = parent.fork().unwrap();
        child.write(addr, b"child").unwrap();
        let shared = CollapseError::TooManyShared { addr, shared: 511 };
        assert_eq!(child.collapse(addr, CollapseLimits::default()), Err(shared));
        let before = frame(&parent, addr.offset(9 * PAGE));
        assert_eq!(child.collapse(addr, CollapseLimits::NONE), Ok(CollapseOutcome::ByCopy));
        assert_eq!(bytes(&parent, addr, HUGE), data);
        assert_eq!(frame(&parent, addr.offset(9 * PAGE)), before);
        assert_eq!(bytes(&child, addr, 5), b"child");
        assert_eq!(bytes(&child, addr.offset(5), HUGE - 5), data[5..]);
        child.write(addr, &[0; 4096]).unwrap();
        assert_eq!(bytes(&parent, addr, HUGE), data);
    });
}

/// Advice that a stretch is to have no huge pages holds whatever is done to it.
#[test]
fn what_is_to_have_no_huge_pages_has_none_after_every_operation() {
    machine(64 * MIB, MmConfig { cow: Cow::Whole, ..MmConfig::default() }, |mm, _, _| {
        let object = mm.object(ObjectConfig::new(4 * HUGE).huge()).unwrap();
        let (space, len) = (mm.space().unwrap(), 2 * HUGE);
        let shared = Map::shared(&object, 0, len, Prot::READ_WRITE);
        let private = Map::private(&object, 2 * HUGE, len, Prot::READ_WRITE);
        for (kind, map) in
            [("anonymous", Map::anonymous(len, Prot::READ_WRITE)), ("shared", shared), ("private", private)]
        {
            let addr = space.map(map.huge(HugePages::Never)).unwrap();
            let refused = |space: &Sp<'_>, addr, what: &str| {
                let done = space.collapse(addr, CollapseLimits::NONE);
                let no = CollapseError::NoHugePages { addr };
                assert_eq!(done, Err(no), "{kind} {what}");
                let advised = space.advise(addr, len, Advice::Collapse);
                assert_eq!(advised, Err(AdviseError::Collapse(no)), "{kind} {what}");
                assert_eq!(space.usage().huge_bytes, 0, "{kind} {what}");
                assert_eq!(space.usage().zero_bytes % HUGE, space.usage().zero_bytes, "{kind} {what}");
            };
            let write = |space: &Sp<'_>, addr: VirtAddr| {
                (0..len / PAGE)
                    .for_each(|page| space.write(addr.offset(page * PAGE), &[page as u8]).unwrap());
            };
            byte(&space, addr); // first read: zeroes, or the object's page
            refused(&space, addr, "read");
            write(&space, addr);
            refused(&space, addr, "written");
            let child = space.fork().unwrap();
            write(&child, addr);
            refused(&child, addr, "in the child");
            write(&space, addr);
            refused(&space, addr, "after a fork");
            space.protect(addr, len, Prot::READ).unwrap();
            refused(&space, addr, "protected");
            space.protect(addr, len, Prot::READ_WRITE).unwrap();
            let addr = space.remap(addr, len, None).unwrap();
            refused(&space, addr, "moved");
            space.advise(addr, len, Advice::DontNeed).unwrap();
            write(&space, addr);
            refused(&space, addr, "given away and written");
            drop(space.pin_pages(addr, len, Access::Write).unwrap());
            refused(&space, addr, "pinned");
            // A part of it is to have huge pages, and has one; its neighbour has none.
            space.advise(addr, HUGE, Advice::Huge).unwrap();
            let done = space.collapse(addr, CollapseLimits::NONE);
            assert_eq!(done.is_ok(), kind != "private", "{kind}: {done:?}");
            let no = CollapseError::NoHugePages { addr: addr.offset(HUGE) };
            assert_eq!(space.collapse(addr.offset(HUGE), CollapseLimits::NONE), Err(no));
            assert!(!is_huge(&space, addr.offset(HUGE)));
            space.unmap(addr, len).unwrap();
        }
        // Nor does the object get a huge block by a region that is to have no huge pages.
        let fresh = mm.object(ObjectConfig::new(HUGE).huge()).unwrap();
        let map = |huge| space.map(Map::shared(&fresh, 0, HUGE, Prot::READ_WRITE).huge(huge)).unwrap();
        let never = map(HugePages::Never);
        space.write(never, b"one page").unwrap();
        assert_eq!(fresh.blocks().iter().map(|block| block.2).collect::<Vec<_>>(), [Order::PAGE]);
        let may = map(HugePages::Default);
        assert_eq!(space.collapse(may, CollapseLimits::NONE), Ok(CollapseOutcome::ByCopy));
        byte(&space, may);
        byte(&space, never);
        assert!(is_huge(&space, may) && !is_huge(&space, never));
        assert_eq!(
            space.collapse(never, CollapseLimits::NONE),
            Err(CollapseError::NoHugePages { addr: never })
        );
    });
}

/// Without advice, a region gets huge pages when they are asked for, whatever is the default.
#[test]
fn a_collapse_needs_no_default() {
    machine(32 * MIB, by_pages(), |mm, _, _| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
        space.write(addr, b"one page").unwrap();
        assert!(!is_huge(&space, addr));
        assert_eq!(space.advise(addr, HUGE, Advice::Collapse), Ok(()));
        assert!(is_huge(&space, addr));
    });
}
