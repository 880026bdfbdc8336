//! The kernel's own tests of huge pages (`tools/testing/selftests/mm`), as far as they mean
//! something here: S1 to S7 of splitting and giving back, S7 to S15 of collapse. `scenarios_cow.rs`
//! has those of copy-on-write and pins. docs/scenarios.md says what each stands for and which do
//! not apply.

use crate::common;

use std::collections::BTreeSet;

use common::*;
use tailpin::Order;
use tailpin_mm::{
    Access, Advice, CollapseError, CollapseLimits, CollapseOutcome, HugePages, Map, MmConfig, ObjectConfig,
    Prot, VirtAddr,
};

fn usual() -> MmConfig {
    MmConfig::default()
}

/// The kernel's tests fill with a byte for each offset; a pattern tells more.
fn fill(space: &Sp<'_>, addr: VirtAddr, len: u64) -> Vec<u8> {
    let data = pattern(0xa5, len as usize);
    space.write(addr, &data).unwrap();
    data
}

/// Fills 4 KiB pages in an order that gives frames out of order.
fn fill_scattered(space: &Sp<'_>, addr: VirtAddr, len: u64) -> Vec<u8> {
    let data = pattern(0xc3, len as usize);
    for page in (0..len / PAGE).rev() {
        let bytes = &data[(page * PAGE) as usize..][..PAGE as usize];
        space.write(addr.offset(page * PAGE), bytes).unwrap();
    }
    data
}

#[test]
fn s01_splitting_huge_pages_of_zeroes_leaves_zeroes() {
    machine(32 * MIB, usual(), |mm, zone, _| {
        let space = mm.space().unwrap();
        // Pages that a reader made are the shared page of zeroes before and after, and cost only
        // their tables.
        let addr = space.map(Map::anonymous(4 * HUGE, Prot::READ_WRITE)).unwrap();
        (0..4).for_each(|i| assert_eq!(byte(&space, addr.offset(i * HUGE)), 0));
        assert_eq!(space.usage().zero_bytes, 4 * HUGE);
        let used = zone.used_frames();
        for i in 0..4 {
            space.split_page(addr.offset(i * HUGE), Order::PAGE).unwrap();
        }
        assert_eq!(zone.used_frames(), used + 4, "four tables");
        assert!((0..4 * 512).all(|page| !is_huge(&space, addr.offset(page * PAGE))));
        assert_eq!((space.usage().zero_bytes, space.usage().present_bytes), (4 * HUGE, 0));
        assert_eq!(bytes(&space, addr, 4 * HUGE), vec![0; 4 * HUGE as usize]);
        // Pages that were written to with zeroes are split and keep their frames: contents are not
        // looked at here.
        let written = space.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
        space.write(written, &vec![0; HUGE as usize]).unwrap();
        space.split_page(written, Order::PAGE).unwrap();
        assert_eq!(space.usage().huge_bytes, 0);
        assert_eq!(bytes(&space, written, HUGE), vec![0; HUGE as usize]);
    });
}

#[test]
fn s02_splitting_filled_huge_pages_keeps_every_byte() {
    machine(32 * MIB, usual(), |mm, zone, _| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(4 * HUGE, Prot::READ_WRITE)).unwrap();
        let data = fill(&space, addr, 4 * HUGE);
        assert_eq!(space.usage().huge_bytes, 4 * HUGE);
        for i in 0..4 {
            assert_eq!(space.split_page(addr.offset(i * HUGE + 5 * PAGE), Order::PAGE), Ok(Order::PAGE));
        }
        assert_eq!(space.usage().huge_bytes, 0);
        let whole = |page| zone.head_of(frame(&space, addr.offset(page * PAGE))).unwrap().1 > Order::PAGE;
        assert!(!(0..4 * 512).any(whole), "a block is left");
        assert_eq!(bytes(&space, addr, 4 * HUGE), data);
    });
}

#[test]
fn s03_huge_pages_split_through_the_one_page_that_is_mapped_elsewhere() {
    machine(32 * MIB, usual(), |mm, zone, _| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(4 * HUGE, Prot::READ_WRITE)).unwrap();
        let mut data = fill(&space, addr, 4 * HUGE);
        // The fork keeps the blocks whole, as the kernel does without one.
        let other = space.fork().unwrap();
        let there = |i: u64| VirtAddr::new(0x6000_0000 + i * PAGE);
        for i in 0..4 {
            space.remap(addr.offset(i * HUGE + 7 * PAGE), PAGE, Some(there(i))).unwrap();
            assert_eq!(zone.head_of(frame(&space, there(i))).unwrap().1, Order::HUGE, "still a huge page");
        }
        for i in 0..4 {
            space.split_page(there(i), Order::PAGE).unwrap();
            assert_eq!(zone.head_of(frame(&space, there(i))).unwrap().1, Order::PAGE);
            let moved = (i * HUGE + 7 * PAGE) as usize;
            assert_eq!(bytes(&space, there(i), PAGE), data[moved..][..PAGE as usize]);
        }
        assert_eq!(other.usage().huge_bytes, 0, "split for everybody");
        assert_eq!(bytes(&other, addr, 4 * HUGE), data);
        drop(other);
        for i in 0..4 {
            space.remap(there(i), PAGE, Some(addr.offset(i * HUGE + 7 * PAGE))).unwrap();
        }
        space.write(addr, &[1]).unwrap();
        data[0] = 1;
        assert_eq!(bytes(&space, addr, 4 * HUGE), data);
    });
}

#[test]
fn s04_a_huge_page_that_reaches_beyond_the_end_of_its_file_splits_and_goes() {
    machine(32 * MIB, usual(), |mm, zone, _| {
        let base = zone.used_frames();
        let file = mm.object(ObjectConfig::new(10_000).huge()).unwrap();
        let space = mm.space().unwrap();
        let addr = space.map(Map::shared(&file, 0, 3 * PAGE, Prot::READ_WRITE)).unwrap();
        let data = fill(&space, addr, 10_000);
        assert_eq!(file.blocks().len(), 1);
        assert_eq!(file.blocks()[0].2, Order::HUGE, "one huge page, most of it beyond the end");
        let pins = space.pin_pages(addr.offset(PAGE), PAGE, Access::Read).unwrap();
        assert_eq!(space.split_page(addr, Order::PAGE), Ok(Order::PAGE));
        assert_eq!(bytes(&space, addr, 10_000), data);
        // What is beyond the end goes with a truncation to the same length, the rest with the file.
        file.truncate(10_000).unwrap();
        assert_eq!(file.blocks().len(), 3);
        drop(pins);
        drop((space, file));
        assert_eq!(zone.used_frames(), base);
    });
}

#[test]
fn s05_split_in_the_page_cache_to_each_order() {
    for order in (0..=8).rev().map(|order| Order::new(order).unwrap()) {
        machine(32 * MIB, usual(), |mm, zone, _| {
            let file = mm.object(ObjectConfig::new(2 * HUGE).huge()).unwrap();
            let (space, other) = (mm.space().unwrap(), mm.space().unwrap());
            let addr = space.map(Map::shared(&file, 0, 2 * HUGE, Prot::READ_WRITE)).unwrap();
            let there = other.map(Map::private(&file, 0, 2 * HUGE, Prot::READ_WRITE)).unwrap();
            let data = fill(&space, addr, 2 * HUGE);
            assert_eq!(bytes(&other, there, 2 * HUGE), data);
            assert_eq!((space.usage().huge_bytes, other.usage().huge_bytes), (2 * HUGE, 2 * HUGE));
            for i in 0..2 {
                assert_eq!(space.split_page(addr.offset(i * HUGE), order), Ok(order));
            }
            assert_eq!((space.usage().huge_bytes, other.usage().huge_bytes), (0, 0));
            let blocks = file.blocks();
            assert_eq!(blocks.len() as u64, 2 * 512 / order.frames());
            for (i, (index, head, found)) in blocks.into_iter().enumerate() {
                assert_eq!((found, index), (order, i as u64 * order.frames()));
                assert_eq!(zone.head_of(head), Some((head, order)));
            }
            assert_eq!(bytes(&space, addr, 2 * HUGE), data);
            assert_eq!(bytes(&other, there, 2 * HUGE), data);
        });
    }
}

#[test]
fn s06_all_but_the_last_page_of_each_huge_page_go_and_huge_pages_go_on_coming() {
    machine(32 * MIB, usual(), |mm, zone, _| {
        let space = mm.space().unwrap();
        let mut blocks = BTreeSet::new();
        let mut kept = Vec::new();
        for round in 0..200u64 {
            let addr = space.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
            let last = addr.offset(HUGE - PAGE);
            space.write(last, &round.to_le_bytes()).unwrap();
            let huge = is_huge(&space, last);
            if huge {
                blocks.insert(frame(&space, addr));
            }
            let free = zone.free_frames();
            space.unmap(addr, HUGE - PAGE).unwrap();
            let back = if huge { 511 - 1 } else { 0 };
            assert_eq!(zone.free_frames(), free + back, "511 pages are back, one table is taken");
            kept.push((last, round));
            if kept.len() > 64 {
                let (gone, _) = kept.remove((round % 64) as usize);
                space.unmap(gone, PAGE).unwrap();
            }
            for (addr, round) in &kept {
                assert_eq!(bytes(&space, *addr, 8), round.to_le_bytes());
            }
        }
        assert!(blocks.len() > 4, "{} different blocks were huge pages", blocks.len());
    });
}

/// Anonymous memory in small pages, and an object's: what khugepaged and `MADV_COLLAPSE` are tested
/// on.
fn small_pages<'z>(mm: &Mem<'z>, space: &Sp<'z>, of_object: bool) -> VirtAddr {
    if of_object {
        let object = mm.object(ObjectConfig::new(2 * HUGE)).unwrap();
        space.map(Map::shared(&object, 0, 2 * HUGE, Prot::READ_WRITE)).unwrap()
    } else {
        space.map(Map::anonymous(2 * HUGE, Prot::READ_WRITE).huge(HugePages::Never)).unwrap()
    }
}

fn on_each_kind(test: impl for<'z> Fn(&Mem<'z>, Sp<'z>, VirtAddr)) {
    for of_object in [false, true] {
        machine(32 * MIB, usual(), |mm, _, _| {
            let space = mm.space().unwrap();
            let addr = small_pages(mm, &space, of_object);
            test(mm, space, addr);
        });
    }
}

/// Whether it is one huge page now, touching it.
fn became_huge(space: &Sp<'_>, addr: VirtAddr) -> bool {
    byte(space, addr);
    is_huge(space, addr)
}

#[test]
fn s07_full_collapses_and_keeps_its_contents() {
    on_each_kind(|_, space, addr| {
        let data = fill_scattered(&space, addr, HUGE);
        assert_eq!(common::collapse(&space, addr, CollapseLimits::default()), Ok(CollapseOutcome::ByCopy));
        assert!(became_huge(&space, addr));
        assert_eq!(bytes(&space, addr, HUGE), data);
    });
}

#[test]
fn s08_empty_does_not_collapse() {
    on_each_kind(|_, space, addr| {
        let nothing = Err(CollapseError::Nothing { addr });
        assert_eq!(common::collapse(&space, addr, CollapseLimits::NONE), nothing);
        assert_eq!(space.usage().huge_bytes, 0);
        // Present next door changes nothing.
        space.write(addr.offset(HUGE), &[1]).unwrap();
        assert_eq!(common::collapse(&space, addr, CollapseLimits::NONE), nothing);
    });
}

#[test]
fn s09_a_single_present_page_collapses() {
    on_each_kind(|_, space, addr| {
        space.write(addr.offset(77 * PAGE), b"alone").unwrap();
        assert_eq!(common::collapse(&space, addr, CollapseLimits::default()), Ok(CollapseOutcome::ByCopy));
        assert!(became_huge(&space, addr));
        let mut expected = vec![0; HUGE as usize];
        expected[77 * PAGE as usize..][..5].copy_from_slice(b"alone");
        assert_eq!(bytes(&space, addr, HUGE), expected);
    });
}

#[test]
fn s10_one_page_more_than_may_be_absent_refuses_and_advice_knows_no_limit() {
    on_each_kind(|_, space, addr| {
        let (limit, present) =
            (CollapseLimits { max_ptes_none: 256, ..CollapseLimits::default() }, 512 - 257);
        let data = fill_scattered(&space, addr, present * PAGE);
        let refused = CollapseError::TooManyAbsent { addr, absent: 257 };
        assert_eq!(common::collapse(&space, addr, limit), Err(refused));
        assert!(!became_huge(&space, addr));
        assert_eq!(bytes(&space, addr, present * PAGE), data);
        // One more, and it is within the limit.
        space.write(addr.offset(present * PAGE), &[9]).unwrap();
        assert_eq!(common::collapse(&space, addr, limit), Ok(CollapseOutcome::ByCopy));
        assert_eq!(bytes(&space, addr, present * PAGE), data);
    });
    on_each_kind(|_, space, addr| {
        space.write(addr, &[7]).unwrap();
        space.advise(addr, HUGE, Advice::Huge).unwrap();
        space.advise(addr, HUGE, Advice::Collapse).unwrap();
        assert!(became_huge(&space, addr));
        assert_eq!(byte(&space, addr), 7);
    });
}

#[test]
fn s12_pages_of_huge_blocks_collapse() {
    // Full of pages of one block: back in place, no copy.
    machine(32 * MIB, usual(), |mm, _, _| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
        let data = fill(&space, addr, HUGE);
        space.split_mapping(addr).unwrap();
        assert_eq!(common::collapse(&space, addr, CollapseLimits::default()), Ok(CollapseOutcome::InPlace));
        assert_eq!(bytes(&space, addr, HUGE), data);
        // A single page of a block.
        space.split_mapping(addr).unwrap();
        space.unmap(addr, 9 * PAGE).unwrap();
        space.map(Map::anonymous(9 * PAGE, Prot::READ_WRITE).at(addr)).unwrap();
        let there = space.map(Map::anonymous(HUGE, Prot::READ_WRITE).huge(HugePages::Never)).unwrap();
        space.write(there, &[1]).unwrap();
        assert_eq!(common::collapse(&space, there, CollapseLimits::default()), Ok(CollapseOutcome::ByCopy));
        assert_eq!(byte(&space, there), 1);
    });
    // A page, or each page, from a block that another space has whole.
    for pages in [1, 512] {
        machine(32 * MIB, usual(), |mm, zone, _| {
            let parent = mm.space().unwrap();
            let addr = parent.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
            let mut data = fill(&parent, addr, HUGE);
            let child = parent.fork().unwrap();
            child.split_mapping(addr).unwrap();
            let rest = HUGE - pages * PAGE;
            if rest > 0 {
                child.advise(addr.offset(pages * PAGE), rest, Advice::DontNeed).unwrap();
                data[(pages * PAGE) as usize..].fill(0);
            }
            assert_eq!(zone.head_of(frame(&child, addr)).unwrap().1, Order::HUGE);
            assert_eq!(common::collapse(&child, addr, CollapseLimits::NONE), Ok(CollapseOutcome::ByCopy));
            assert!(is_huge(&child, addr) && frame(&child, addr) != frame(&parent, addr));
            assert_eq!(bytes(&child, addr, HUGE), data);
            assert_eq!(bytes(&parent, addr, HUGE), pattern(0xa5, HUGE as usize));
        });
    }
    // Each page from another block: moved together they stay mappings of their own, which do not
    // become one.
    machine(64 * MIB, usual(), |mm, _, _| {
        let space = mm.space().unwrap();
        let parts = 8;
        let from = space.map(Map::anonymous(parts * HUGE, Prot::READ_WRITE)).unwrap();
        let data = fill(&space, from, parts * HUGE);
        let others = space.fork().unwrap(); // keeps the blocks whole
        let to = VirtAddr::new(0x7000_0000);
        let place = |page| (page % parts) * HUGE + page * PAGE;
        for page in 0..512 {
            space.remap(from.offset(place(page)), PAGE, Some(to.offset(page * PAGE))).unwrap();
        }
        assert_eq!(
            common::collapse(&space, to, CollapseLimits::NONE),
            Err(CollapseError::NotEligible { addr: to })
        );
        for page in 0..512 {
            let expected = &data[place(page) as usize..][..PAGE as usize];
            assert_eq!(bytes(&space, to.offset(page * PAGE), PAGE), expected);
        }
        assert_eq!(bytes(&others, from, parts * HUGE), data);
    });
}

#[test]
fn s13_shared_pages_collapse_in_the_child_and_the_parent_notices_nothing() {
    for limit in [256, 255] {
        machine(32 * MIB, usual(), |mm, _, _| {
            let parent = mm.space().unwrap();
            let addr = parent.map(Map::anonymous(HUGE, Prot::READ_WRITE).huge(HugePages::Never)).unwrap();
            let data = fill_scattered(&parent, addr, HUGE);
            let child = parent.fork().unwrap();
            child.write(addr, &vec![1; HUGE as usize / 2]).unwrap();
            let limits = CollapseLimits { max_ptes_shared: limit, ..CollapseLimits::default() };
            if limit < 256 {
                let refused = CollapseError::TooManyShared { addr, shared: 256 };
                assert_eq!(common::collapse(&child, addr, limits), Err(refused));
                child.write(addr.offset(HUGE - PAGE), &[1; 4096]).unwrap();
            }
            assert_eq!(common::collapse(&child, addr, limits), Ok(CollapseOutcome::ByCopy));
            assert!(is_huge(&child, addr) && !is_huge(&parent, addr));
            assert_eq!(bytes(&parent, addr, HUGE), data);
            let half = HUGE as usize / 2;
            assert_eq!(bytes(&child, addr, HUGE / 2), vec![1; half]);
            assert_eq!(bytes(&child, addr.offset(HUGE / 2), HUGE / 2 - PAGE), data[half..2 * half - 4096]);
            drop(parent);
            child.write(addr.offset(HUGE - 1), &[3]).unwrap();
            assert_eq!(byte(&child, addr.offset(HUGE - 1)), 3);
        });
    }
    // A single page that is shared, and a whole block.
    machine(32 * MIB, usual(), |mm, _, _| {
        let parent = mm.space().unwrap();
        let single = parent.map(Map::anonymous(HUGE, Prot::READ_WRITE).huge(HugePages::Never)).unwrap();
        parent.write(single, b"single").unwrap();
        let whole = parent.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
        let data = fill(&parent, whole, HUGE);
        let child = parent.fork().unwrap();
        child.split_mapping(whole).unwrap();
        for addr in [single, whole] {
            assert_eq!(common::collapse(&child, addr, CollapseLimits::NONE), Ok(CollapseOutcome::ByCopy));
            assert_ne!(frame(&child, addr), frame(&parent, addr));
            child.write(addr, b"CHILD!").unwrap();
        }
        assert_eq!(bytes(&parent, single, 6), b"single");
        assert_eq!(bytes(&parent, whole, HUGE), data);
        assert_eq!(bytes(&child, whole.offset(6), HUGE - 6), data[6..]);
    });
}

#[test]
fn s14_where_a_huge_page_is_nothing_changes() {
    for of_object in [false, true] {
        machine(32 * MIB, usual(), |mm, zone, env| {
            let space = mm.space().unwrap();
            let addr = if of_object {
                let object = mm.object(ObjectConfig::new(HUGE).huge()).unwrap();
                space.map(Map::shared(&object, 0, HUGE, Prot::READ_WRITE)).unwrap()
            } else {
                space.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap()
            };
            let data = fill(&space, addr, HUGE);
            let before = (frame(&space, addr), zone.used_frames(), env.allocations());
            assert_eq!(
                common::collapse(&space, addr, CollapseLimits::default()),
                Ok(CollapseOutcome::AlreadyHuge)
            );
            assert!(became_huge(&space, addr));
            assert_eq!((frame(&space, addr), zone.used_frames()), (before.0, before.1));
            // Of an object at most the tables are made anew.
            assert!(env.allocations() - before.2 <= if of_object { 2 } else { 0 });
            assert_eq!(bytes(&space, addr, HUGE), data);
        });
    }
}

#[test]
fn s15_with_the_page_tables_gone_an_object_still_collapses() {
    machine(32 * MIB, usual(), |mm, _, _| {
        let object = mm.object(ObjectConfig::new(HUGE)).unwrap();
        let space = mm.space().unwrap();
        let addr = space.map(Map::shared(&object, 0, HUGE, Prot::READ_WRITE)).unwrap();
        let data = fill_scattered(&space, addr, HUGE);
        space.advise(addr, HUGE, Advice::DontNeed).unwrap();
        assert_eq!(space.mapping(addr), None);
        assert_eq!(common::collapse(&space, addr, CollapseLimits::default()), Ok(CollapseOutcome::ByCopy));
        // Once more, by a space that maps it by pages and by one that does not map it yet.
        space.advise(addr, HUGE, Advice::DontNeed).unwrap();
        assert_eq!(
            common::collapse(&space, addr, CollapseLimits::default()),
            Ok(CollapseOutcome::AlreadyHuge)
        );
        let other = mm.space().unwrap();
        let there = other.map(Map::shared(&object, 0, HUGE, Prot::READ)).unwrap();
        assert_eq!(other.collapse(there, CollapseLimits::default()), Ok(CollapseOutcome::AlreadyHuge));
        assert!(became_huge(&space, addr) && became_huge(&other, there));
        assert_eq!(bytes(&other, there, HUGE), data);
    });
}

/// Linux queues a huge page of which a part is unmapped, splits it when memory runs short, and
/// refuses while a page of it is pinned: until then the whole block stays in use. Here it is back
/// when the call returns.
#[test]
fn a_part_that_is_unmapped_is_free_at_once_whatever_else_is_pinned() {
    machine(32 * MIB, usual(), |mm, zone, _| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
        let data = fill(&space, addr, HUGE);
        space.split_mapping(addr).unwrap(); // so that no call below needs a frame for a table
        common::collapse(&space, addr, CollapseLimits::NONE).unwrap();
        let pins: Vec<_> = [0, 13, 255, 257, 511]
            .into_iter()
            .map(|page| (page, space.pin_pages(addr.offset(page * PAGE), PAGE, Access::Write).unwrap()))
            .collect();
        space.split_mapping(addr).unwrap();
        for (done, page) in [256u64, 1, 510, 300].into_iter().enumerate() {
            let (victim, free) = (frame(&space, addr.offset(page * PAGE)), zone.free_frames());
            space.unmap(addr.offset(page * PAGE), PAGE).unwrap();
            assert_eq!(zone.free_frames(), free + 1, "the free count rises at once, page {done}");
            assert!(is_free(zone, victim));
        }
        // And in one call from a whole huge mapping: 512 pages less five pinned ones, and the table
        // with them.
        let free = zone.free_frames();
        space.unmap(addr, HUGE).unwrap();
        let tables = 3; // of levels 1 to 3
        assert_eq!(zone.free_frames(), free + 512 - 4 - 5 + tables);
        for (page, pins) in pins {
            let mut kept = vec![0; PAGE as usize];
            pins.read(0, &mut kept);
            assert_eq!(kept, data[(page * PAGE) as usize..][..PAGE as usize]);
        }
    });
}
