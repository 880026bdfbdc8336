//! Names of blocks at parking places: what is found by them, and where they are taken away.

use super::*;
use crate::alloc::cpu_cache::{CpuCache, PARKED_EACH};
use crate::alloc::parked::{SMALLEST_PARKED, parked_orders};
use crate::frame_mask::FrameMask;
use crate::page_state::Class;
use crate::protocol::{FrameWords, FreeSink};
use crate::report::Misuse;

const PLAIN: Class = Class::Splittable;

/// Leaves the frames of what is freed with the caller.
struct Kept;

impl FreeSink for Kept {
    fn freed_block(&self, _: Pfn, _: Order) {}
    fn freed_frames(&self, _: Pfn, _: &FrameMask) {}
    fn freed_offline(&self, _: Pfn) {}
    fn misuse(&self, misuse: &Misuse) {
        panic!("{misuse}");
    }
}

/// A block, with nothing parked beside it as the rest of a line.
fn take_alone(allocator: &OneWords<'_>, order: Order) -> u64 {
    let number = take(allocator, order).unwrap();
    allocator.drain();
    number
}

/// A block that is uncoalesced, and that no name leads to.
fn unnamed(allocator: &OneWords<'_>, order: Order) -> u64 {
    let number = take_alone(allocator, order);
    allocator.protocol.put_block(frame(number), order, &Kept);
    allocator.protocol.leave_uncoalesced(frame(number), order).unwrap();
    number
}

fn named<'m>(cache: CpuCache<'m, AtomicU64>, order: Order) -> Vec<u64> {
    cache.all_parked(order).map(|(number, _)| number).collect()
}

/// Brings the parked blocks of all CPUs to the pool; whether there were any.
fn coalesce_named(allocator: &OneWords<'_>) -> bool {
    let before = allocator.pool.free_frames();
    let any = allocator.coalesce_parked(SMALLEST_PARKED);
    assert_eq!(any, allocator.pool.free_frames() > before);
    any
}

#[test]
fn of_a_sparse_pageblock_one_block_is_parked_and_of_others_all_are() {
    for (others, parked) in [(0, 1), (64, 3)] {
        on_an_allocator(1, |allocator| {
            for page in 0..others {
                assert_eq!(take(allocator, Order::PAGE), Some(page));
            }
            let blocks = [(); 3].map(|()| take(allocator, order(3)).unwrap());
            blocks.iter().for_each(|head| free(allocator, *head, order(3)));
            assert_eq!(uncoalesced(allocator, order(3)), blocks[..parked], "beside {others} pages");
            assert_eq!(allocator.free_frames(), 512 - others);
        });
    }
}

#[test]
fn a_block_that_is_named_no_longer_as_it_is_freed_goes_to_the_pool() {
    for order in parked_orders() {
        on_an_allocator(1, |allocator| {
            let cache = allocator.cpu_cache();
            let head = unnamed(allocator, order);
            // Its name is there: it stays parked.
            let place = cache.park(order, head).unwrap();
            allocator.parked_block(frame(head), order, place, true);
            assert_eq!((named(cache, order), allocator.parked_frames()), ([head].into(), order.frames()));
            // Another thread found the name before the block was uncoalesced.
            assert!(cache.unpark(place, head) && !cache.unpark(place, head));
            allocator.parked_block(frame(head), order, place, true);
            assert_eq!((allocator.parked_frames(), allocator.pool.free_frames()), (0, 512));
            // The step that was to free it did not.
            let place = cache.park(order, head).unwrap();
            allocator.parked_block(frame(head), order, place, false);
            assert_eq!(named(cache, order), []);
            let place = cache.park_own(order, head).unwrap();
            allocator.parked_own(cache, frame(head), place, false);
            assert_eq!(named(cache, order), []);
        });
    }
}

#[test]
fn a_name_that_leads_to_no_free_block_is_passed_over_and_taken_away() {
    for order in parked_orders() {
        on_an_allocator(2, |allocator| {
            let cache = allocator.cpu_cache();
            let head = unnamed(allocator, order);
            let in_use = take_alone(allocator, order);
            for (own, numbers) in [(false, [head, in_use]), (true, [head, in_use])] {
                let places = numbers.map(|number| match own {
                    true => cache.park_own(order, number).unwrap(),
                    false => cache.park(order, number).unwrap(),
                });
                assert_eq!(places.map(|place| place.is_own()), [own; 2]);
                let claimed = match own {
                    true => allocator.claim_own(cache, order, PLAIN),
                    false => allocator.claim_parked(cache, order, PLAIN),
                };
                assert_eq!((claimed, named(cache, order)), (Some(frame(head)), [].into()));
                assert_eq!(allocator.protocol.state(frame(head)).refs, 1);
                let none = match own {
                    true => allocator.claim_own(cache, order, PLAIN),
                    false => allocator.claim_parked(cache, order, PLAIN),
                };
                assert_eq!(none, None);
                allocator.protocol.put_block(frame(head), order, &Kept);
                allocator.protocol.leave_uncoalesced(frame(head), order).unwrap();
            }
            assert_eq!(allocator.protocol.state(frame(in_use)).refs, 1, "it was not touched");
        });
    }
}

#[test]
fn all_parked_blocks_come_to_the_pool_and_an_owner_keeps_its_other_names() {
    for order in parked_orders() {
        on_an_allocator(2, |allocator| {
            let caches = [0, 1].map(|cpu| allocator.cache_at(cpu));
            assert!(!coalesce_named(allocator), "there are none");
            let heads = [unnamed(allocator, order), unnamed(allocator, order)];
            let in_use = take_alone(allocator, order);
            caches[0].park(order, heads[0]).unwrap();
            caches[0].park(order, in_use).unwrap();
            caches[1].park_own(order, heads[1]).unwrap();
            caches[1].park_own(order, in_use).unwrap();
            allocator.note_any_parked();
            assert_eq!(allocator.parked_frames(), 2 * order.frames());
            assert!(coalesce_named(allocator));
            assert_eq!((named(caches[0], order), named(caches[1], order)), ([].into(), [in_use].into()));
            assert_eq!((allocator.parked_frames(), allocator.pool.free_frames()), (0, 1024 - order.frames()));
            assert!(!coalesce_named(allocator));
        });
    }
}

#[test]
fn a_frame_of_a_parked_block_is_found_by_its_number() {
    for order in parked_orders() {
        on_an_allocator(1, |allocator| {
            let in_use = take_alone(allocator, order);
            assert!(!allocator.coalesce_around(frame(in_use)));
            for index in [0, order.frames() / 2, order.frames() - 1] {
                let head = unnamed(allocator, order);
                for cpu in [0, 1] {
                    allocator.cache_at(cpu).park(order, head).unwrap();
                }
                allocator.cache_at(1).park_own(order, head).unwrap();
                assert!(allocator.coalesce_around(frame(head + index)));
                assert!([0, 1].iter().all(|cpu| named(allocator.cache_at(*cpu), order).is_empty()));
                assert_eq!(allocator.pool.free_frames(), 512 - order.frames());
                assert!(!allocator.coalesce_around(frame(head + index)), "it is in the pool");
            }
        });
    }
}

#[test]
fn places_are_taken_from_the_lowest_on_and_names_from_the_last_back() {
    on_an_allocator(1, |allocator| {
        let cache = allocator.cpu_cache();
        for order in parked_orders() {
            let places: Vec<_> =
                (0..PARKED_EACH as u64).map(|number| cache.park(order, number).unwrap()).collect();
            assert!(cache.park(order, 99).is_none() && cache.parked(order) == PARKED_EACH);
            assert!(places.is_sorted_by_key(|place| place.word));
            assert!(places.iter().map(|place| cache.parked_at(*place)).eq((0..16).map(Some)));
            // The next is the last that is there, and those above it are not looked at again.
            assert!(cache.unpark(places[15], 15) && cache.unpark(places[13], 13));
            for expected in [14, 12, 11] {
                let (number, place) = cache.next_parked(order).unwrap();
                assert_eq!((number, place.word), (expected, places[expected as usize].word));
            }
            // 11 and 12 are named still; the first place that is free is the one of 13.
            assert_eq!(cache.park(order, 100).unwrap().word, places[13].word);
            assert_eq!(
                (cache.parked(order), cache.next_parked(order).map(|(number, _)| number)),
                (14, Some(100))
            );
            cache.unpark_anywhere(order, 100);
            assert_eq!(named(cache, order).len(), PARKED_EACH - 2);
            let owned: Vec<_> =
                (0..PARKED_EACH as u64).map(|number| cache.park_own(order, number).unwrap()).collect();
            assert!(cache.park_own(order, 99).is_none());
            assert!(owned.is_sorted_by_key(|place| place.word) && owned.iter().all(|place| place.is_own()));
        }
    });
}

#[test]
fn a_request_for_more_than_a_pageblock_leaves_all_names_alone() {
    on_an_allocator(8, |allocator| {
        let cache = allocator.cpu_cache();
        for order in parked_orders() {
            for number in 0..3 {
                assert!(
                    cache.park(order, 10 + number).is_some() && cache.park_own(order, 20 + number).is_some()
                );
            }
        }
        for wanted in (10..=18).map(order) {
            let request = Request::new(wanted);
            for places in [Places::Shared, Places::Own] {
                assert_eq!(allocator.alloc_fast(request, cache, places), None);
            }
        }
        for order in parked_orders() {
            assert_eq!((named(cache, order).len(), cache.parked(order), cache.own_parked(order)), (6, 3, 3));
        }
    });
}

#[test]
fn of_a_sparse_pageblock_a_line_of_blocks_is_named_at_most() {
    for (of, blocks) in [(1, 4), (2, 2), (3, 1), (4, 1)] {
        for places in [Places::Shared, Places::Own] {
            on_an_allocator(1, |allocator| {
                let heads: Vec<_> =
                    (0..blocks + 2).map(|_| allocator.pool.take_part(order(of), Order::HUGE)).collect();
                assert!(allocator.pool.is_sparse(crate::alloc::ids::PageblockId::FIRST));
                let cache = allocator.cpu_cache();
                let parked = |head: Pfn| allocator.park_block(cache, head, order(of), places).is_some();
                let parked: Vec<_> = heads.into_iter().map(|taken| parked(taken.unwrap().head)).collect();
                assert!(
                    parked.iter().enumerate().all(|(nth, parked)| *parked == (nth < blocks)),
                    "{parked:?}"
                );
            });
        }
    }
}

#[test]
fn blocks_of_lower_orders_are_found_after_a_look_for_higher_ones() {
    on_an_allocator(1, |allocator| {
        let [low, high] = [1, 5].map(|of| unnamed(allocator, order(of)));
        allocator.drain();
        allocator.cache_at(0).park(order(1), low).unwrap();
        allocator.cache_at(1).park(order(5), high).unwrap();
        // One that is in use comes last.
        let in_use = take(allocator, order(6)).unwrap();
        allocator.cache_at(1).park(order(6), in_use).unwrap();
        allocator.note_any_parked();
        assert!(allocator.coalesce_parked(order(3)));
        assert_eq!(allocator.parked_frames(), 2);
        assert!(allocator.coalesce_parked(order(1)) && !allocator.coalesce_parked(order(1)));
        assert_eq!((allocator.parked_frames(), allocator.pool.free_frames()), (0, 512 - 64));
    });
}
