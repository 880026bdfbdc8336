//! What leads to uncoalesced pages, pageblocks and parked blocks.

use super::*;
use crate::alloc::ids::{PageblockId, Place, RowId, Rows};
use crate::alloc::parked::parked_orders;

/// That no uncoalesced page, pageblock or parked block is forgotten, and that they are counted.
fn check(allocator: &OneWords<'_>, free: u64) {
    let hints = &allocator.uncoalesced;
    let pages = uncoalesced(allocator, Order::PAGE);
    for page in &pages {
        let row = RowId::of_frame(*page);
        assert!(hints.pages(row) >> (page % 64) & 1 != 0, "page {page} is noted");
        let reserved = allocator.all_caches().any(|cache| cache.row() == Some(row));
        assert!(reserved || hints.rows.leads_to(row), "page {page} is led to");
    }
    let pageblocks = uncoalesced(allocator, Order::HUGE);
    for head in &pageblocks {
        assert!(hints.pageblocks.leads_to(PageblockId::of_frame(*head)), "pageblock at {head}");
    }
    let mut parked = 0;
    for order in parked_orders() {
        let blocks = uncoalesced(allocator, order);
        for head in &blocks {
            let mut names = allocator.all_caches().flat_map(|cache| {
                let numbers: Vec<_> = cache.all_parked(order).map(|(number, _)| number).collect();
                numbers
            });
            assert!(names.any(|number| number == *head), "block of order {order} at {head}");
        }
        parked += blocks.len() as u64 * order.frames();
    }
    let uncoalesced = pages.len() as u64 + 512 * pageblocks.len() as u64;
    assert_eq!(allocator.uncoalesced_frames(), uncoalesced);
    assert_eq!(allocator.uncoalesced_pageblocks(), pageblocks.len() as u64);
    assert_eq!(allocator.parked_frames(), parked);
    assert_eq!(allocator.pool.free_frames(), free - uncoalesced - parked);
    assert_eq!(allocator.free_frames(), free);
    for id in allocator.pool.pageblocks() {
        assert_eq!(allocator.pool.fault(id), None);
    }
}

#[test]
fn whatever_is_freed_and_taken_nothing_that_is_uncoalesced_is_forgotten() {
    let mut below = random(5);
    for round in 0..6 {
        let total = (2 + round % 3) * 512;
        on_an_allocator(2 + round % 3, |allocator| {
            let (mut blocks, mut free_now) = (Vec::new(), total);
            let mut target = 0;
            for turn in 0..500 {
                if turn % 50 == 0 {
                    target = [40, 300, 900, total][below(4) as usize];
                }
                CPU.set(below(CPUS as u64) as usize);
                if below(40) == 0 {
                    match below(5) {
                        0 => allocator.drain(),
                        1 => allocator.drain_unhinted(),
                        2 => {
                            let hinted = allocator.uncoalesced.rows.iter().next().is_some();
                            assert_eq!(allocator.coalesce_some(), hinted);
                        }
                        3 => {
                            allocator.coalesce_all_parked();
                            assert_eq!(allocator.parked_frames(), 0);
                        }
                        _ => {
                            let mut rows = Rows::NONE;
                            if let Some((row, pages)) =
                                allocator.uncoalesced_row(&mut rows, below(700) as usize)
                            {
                                let all = uncoalesced(allocator, Order::PAGE);
                                let of_row = all.into_iter().filter(|page| RowId::of_frame(*page) == row);
                                assert_eq!(of_row.fold(0, |all, page| all | 1 << (page % 64)), pages);
                                allocator.hint_at_row(row);
                                rows.for_each(|row| allocator.hint_at_row(row));
                            }
                        }
                    }
                } else if total - free_now < target && (below(4) != 0 || blocks.is_empty()) {
                    let order = order([0, 0, 0, 0, 0, 1, 2, 3, 3, 6, 8, 9][below(12) as usize]);
                    match take(allocator, order) {
                        Some(number) => {
                            free_now -= order.frames();
                            blocks.push((number, order));
                        }
                        None => assert_eq!(allocator.uncoalesced_frames() + allocator.parked_frames(), 0),
                    }
                } else if !blocks.is_empty() {
                    let (number, order) = blocks.swap_remove(below(blocks.len() as u64) as usize);
                    free(allocator, number, order);
                    free_now += order.frames();
                }
                check(allocator, free_now);
            }
            for (number, order) in blocks {
                free(allocator, number, order);
            }
            allocator.drain();
            assert_eq!(
                (allocator.pool.free_frames(), allocator.pool.free_pageblocks()),
                (total, total / 512)
            );
            assert_eq!(allocator.uncoalesced.rows.next(RowId::FIRST), None);
        });
    }
}

#[test]
fn pages_are_taken_from_the_stack_then_of_the_reserved_row_then_where_hints_lead() {
    on_an_allocator(2, |allocator| {
        take_all_pages(allocator);
        let (cache, hints) = (allocator.cpu_cache(), &allocator.uncoalesced);
        let rows = [1, 3, 4].map(RowId::from_index);
        while cache.next_page().is_some() {
            cache.discard_top();
        }
        cache.change_row(cache.row(), Some(rows[1]));
        // Uncoalesced and noted, but on no stack; and on the stack one page and one that is in use.
        let leave = |page: u64| {
            assert!(allocator.protocol.free_page(frame(page), &Silent));
            hints.note(RowId::of_frame(page), 1 << (page % 64));
        };
        [64 + 5, 3 * 64 + 9, 3 * 64 + 50, 4 * 64, 4 * 64 + 63].into_iter().for_each(leave);
        [rows[0], rows[2]].iter().for_each(|row| hints.rows.mark(*row));
        leave(7);
        cache.push(7);
        cache.push(8);
        let claim = || allocator.claim_page(&cache).map(|page| allocator.pool.number(page));
        assert_eq!((claim(), cache.next_page()), (Some(7), None));
        assert_eq!((claim(), cache.next_page()), (Some(3 * 64 + 9), Some(3 * 64 + 50)));
        assert_eq!((claim(), cache.row()), (Some(3 * 64 + 50), Some(rows[1])));
        // One page alone is no reason to reserve its row.
        assert_eq!(
            (claim(), cache.row(), hints.rows.next(RowId::FIRST)),
            (Some(64 + 5), None, Some(rows[2]))
        );
        assert_eq!(
            (claim(), cache.row(), hints.rows.next(RowId::FIRST)),
            (Some(4 * 64), Some(rows[2]), None)
        );
        assert_eq!((claim(), claim(), cache.row()), (Some(4 * 64 + 63), None, None));
    });
}

/// Takes frames back and tells no one.
struct Silent;

impl crate::protocol::FreeSink for Silent {
    fn freed_block(&self, _: Pfn, _: Order) {}
    fn takes_uncoalesced(&self) -> bool {
        true
    }
    fn freed_frames(&self, _: Pfn, _: &crate::frame_mask::FrameMask) {}
    fn freed_offline(&self, _: Pfn) {}
    fn misuse(&self, misuse: &crate::report::Misuse) {
        panic!("{misuse}");
    }
}

#[test]
fn what_is_left_in_a_row_that_is_reserved_no_longer_is_led_to() {
    on_an_allocator(1, |allocator| {
        take_all_pages(allocator);
        let (cache, hints) = (allocator.cpu_cache(), &allocator.uncoalesced);
        let [two, three] = [2, 3].map(RowId::from_index);
        assert!(allocator.reserve_row(&cache, cache.row(), Some(two)));
        assert!(allocator.protocol.free_page(frame(2 * 64 + 1), &Silent));
        hints.note(two, 1 << 1);
        assert!(!allocator.reserve_row(&cache, None, Some(three)), "another row is reserved");
        assert!(allocator.reserve_row(&cache, Some(two), Some(two)) && !hints.rows.leads_to(two));
        assert!(allocator.reserve_row(&cache, Some(two), Some(three)) && hints.rows.leads_to(two));
        assert!(allocator.reserve_row(&cache, Some(three), None) && !hints.rows.leads_to(three));
        assert_eq!((cache.row(), hints.rows.iter().count()), (None, 1));
    });
}

#[test]
fn what_is_noted_of_pages_in_use_is_taken_away_where_a_hint_leads_to_them() {
    on_an_allocator(1, |allocator| {
        take_all_pages(allocator);
        let (hints, row) = (&allocator.uncoalesced, RowId::from_index(2));
        hints.clear_noted(row, !0b1111);
        assert_eq!(hints.pages(row), 0b1111, "they were uncoalesced once");
        [1, 2].iter().for_each(|page| assert!(allocator.protocol.free_page(frame(2 * 64 + page), &Silent)));
        hints.rows.mark(row);
        assert_eq!(allocator.uncoalesced_row(&mut { Rows::NONE }, 64), Some((row, 0b0110)));
        assert_eq!(hints.pages(row), 0b1111, "it is looked at, and no more");
        hints.rows.mark(row);
        allocator.drain();
        assert_eq!((hints.pages(row), allocator.pool.free_of(row)), (0b0110, 0b0110));
    });
}

#[test]
fn a_pageblock_comes_together_once_all_of_it_is_free() {
    on_an_allocator(3, |allocator| {
        let id = PageblockId::from_index(1);
        take_all_pages(allocator);
        assert_eq!(allocator.coalesce_emptied(&allocator.cpu_cache()), None);
        // All but one are free: in the pool, and in two rows uncoalesced.
        for page in (512..1024).filter(|page| *page != 700) {
            free(allocator, page, Order::PAGE);
            if page == 900 {
                allocator.drain();
            }
        }
        let before = allocator.uncoalesced_frames();
        assert!(before > 0);
        // The one in use was uncoalesced once, and so is noted.
        allocator.uncoalesced.note(RowId::of_frame(700), 1 << (700 % 64));
        assert_eq!(allocator.coalesce_emptied(&allocator.cpu_cache()), None);
        assert_eq!(allocator.uncoalesced_frames(), before, "nothing has changed");
        free(allocator, 700, Order::PAGE);
        assert_eq!(allocator.coalesce_emptied(&allocator.cpu_cache()), Some(id));
        assert_eq!((allocator.uncoalesced_frames(), allocator.pool.free_pageblocks()), (0, 1));
        assert_eq!(allocator.coalesce_emptied(&allocator.cpu_cache()), None, "it is whole by now");
    });
}

/// Frees a page where the function that says which CPU it is panics.
fn free_at_no_cpu(allocator: &OneWords<'_>, page: u64) {
    CPU.set(UNKNOWN);
    let freed = std::panic::AssertUnwindSafe(|| free(allocator, page, Order::PAGE));
    std::panic::catch_unwind(freed).unwrap_err();
    CPU.set(0);
}

#[test]
fn a_page_that_is_freed_where_no_cpu_is_known_is_led_to() {
    on_an_allocator(2, |allocator| {
        take_all_pages(allocator);
        let (cache, hints) = (allocator.cpu_cache(), &allocator.uncoalesced);
        cache.change_row(cache.row(), None);
        allocator.drain();
        for page in [0, 63, 64, 700, 1023] {
            let row = RowId::of_frame(page);
            hints.clear_noted(row, !0);
            free_at_no_cpu(allocator, page);
            assert!(hints.rows.leads_to(row) && hints.pages(row) >> (page % 64) & 1 != 0);
            assert_eq!(hints.pages(row).count_ones(), 1, "and no other is noted");
            assert_eq!(allocator.claim_page(&cache), Some(frame(page)));
            allocator.drain();
        }
    });
}

#[test]
fn the_largest_free_block_is_seen_wherever_it_is() {
    let seen = |prepare: &dyn Fn(&OneWords<'_>)| {
        let mut seen = None;
        on_an_allocator(2, |allocator| {
            take_all_pages(allocator);
            prepare(allocator);
            seen = allocator.likely_largest().map(Order::get);
        });
        seen
    };
    assert_eq!(seen(&|_| {}), None);
    // A page that no CPU has at hand, uncoalesced.
    assert_eq!(
        seen(&|allocator| {
            allocator.drain();
            free_at_no_cpu(allocator, 100);
        }),
        Some(0)
    );
    for of_pool in 0..10u8 {
        let give = |allocator: &OneWords<'_>, order: Order| {
            (512..512 + order.frames()).for_each(|page| free(allocator, page, Order::PAGE));
            allocator.drain();
        };
        assert_eq!(seen(&|allocator| give(allocator, order(of_pool))), Some(of_pool));
        for parked in parked_orders() {
            let both = seen(&|allocator| {
                give(allocator, order(of_pool));
                allocator.cache_at(1).park(parked, 0).unwrap();
            });
            assert_eq!(both, Some(of_pool.max(parked.get())));
        }
    }
}
