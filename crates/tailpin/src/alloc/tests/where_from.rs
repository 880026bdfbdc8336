//! Where a request is served from: rather from what was in use than from what never was.

use super::*;
use crate::alloc::ids::{PageblockId, Place, RowId};

#[test]
fn pages_come_together_before_a_whole_pageblock_is_cut() {
    for wanted in (1..9).map(order) {
        on_an_allocator(2, |allocator| {
            // One pageblock in use as pages, the other never.
            (0..512).for_each(|page| assert_eq!(take(allocator, Order::PAGE), Some(page)));
            (0..wanted.frames()).for_each(|page| free(allocator, page, Order::PAGE));
            assert_eq!(take(allocator, wanted), Some(0));
            assert_eq!(take(allocator, wanted), Some(512), "there is no other");
        });
    }
}

#[test]
fn a_larger_parked_block_is_cut_before_a_whole_pageblock() {
    for parked in (2..9).map(order) {
        on_an_allocator(2, |allocator| {
            let blocks: Vec<_> =
                (0..512 / parked.frames()).map(|_| take(allocator, parked).unwrap()).collect();
            assert!(blocks.iter().all(|head| *head < 512));
            free(allocator, blocks[0], parked);
            assert_eq!(uncoalesced(allocator, parked), [blocks[0]]);
            let smaller = order(parked.get() - 1);
            assert_eq!(take(allocator, smaller), Some(blocks[0]));
            assert_eq!(take(allocator, smaller), Some(blocks[0] + smaller.frames()));
            assert_eq!(take(allocator, smaller), Some(512));
        });
    }
}

#[test]
fn a_whole_pageblock_that_was_in_use_is_cut_before_one_that_never_was() {
    on_an_allocator(4, |allocator| {
        let heads: Vec<_> = (0..2).map(|_| take(allocator, Order::HUGE).unwrap()).collect();
        assert_eq!(heads, [0, 512]);
        free(allocator, 512, Order::HUGE);
        assert_eq!(uncoalesced(allocator, Order::HUGE), [512]);
        assert_eq!(take(allocator, order(3)), Some(512));
        // As a whole: what was freed last, then what came together, then the others.
        free(allocator, 0, Order::HUGE);
        assert_eq!(take(allocator, Order::HUGE), Some(0));
        free(allocator, 512, order(3));
        assert_eq!(take(allocator, Order::HUGE), Some(512));
        assert_eq!([0; 2].map(|_| take(allocator, Order::HUGE)), [Some(1024), Some(1536)]);
    });
}

#[test]
fn a_block_of_several_pageblocks_is_of_those_that_were_in_use() {
    on_an_allocator(8, |allocator| {
        let four = (0..4).map(|_| take(allocator, Order::HUGE).unwrap());
        assert!(four.eq([0, 512, 1024, 1536]));
        assert_eq!(take(allocator, order(10)), Some(2048));
        [1024, 1536].iter().for_each(|head| free(allocator, *head, Order::HUGE));
        assert_eq!(take(allocator, order(10)), Some(1024));
        assert_eq!(take(allocator, order(10)), Some(3072));
        assert_eq!(take(allocator, order(10)), None);
    });
}

#[test]
fn with_a_page_of_the_pool_its_neighbours_are_at_hand() {
    on_an_allocator(2, |allocator| {
        // Pages 70 to 73 are free and 76, all others of their pageblock in use.
        (0..512).for_each(|page| assert_eq!(take(allocator, Order::PAGE), Some(page)));
        for page in [70, 71, 72, 73, 76, 200] {
            free(allocator, page, Order::PAGE);
        }
        allocator.drain();
        let cache = allocator.cpu_cache();
        let row = RowId::from_index(1);
        for (page, row) in [(200, RowId::from_index(3)), (76, row)] {
            assert_eq!(take(allocator, Order::PAGE), Some(page), "the smallest runs go first");
            assert_eq!((cache.row(), uncoalesced(allocator, Order::PAGE).len()), (Some(row), 0));
        }
        assert_eq!(take(allocator, Order::PAGE), Some(70));
        assert_eq!((cache.row(), uncoalesced(allocator, Order::PAGE)), (Some(row), [71, 72, 73].into()));
        assert_eq!(allocator.uncoalesced.pages(row) >> 6 & 0b1111, 0b1111, "all of them are noted");
        assert_eq!(cache.next_page(), Some(71));
        let next: Vec<_> = (0..3).map(|_| take(allocator, Order::PAGE).unwrap()).collect();
        assert_eq!(next, [71, 72, 73]);
        // Each has come and gone as one move.
        assert_eq!(allocator.cpu_cache().moves().0, allocator.cpu_cache().moves().1);
    });
}

#[test]
fn at_most_as_many_pages_of_a_row_are_taken_as_were_asked_for() {
    on_an_allocator(1, |allocator| {
        assert_eq!(allocator.take_row_of_pages(3), Some((RowId::FIRST, 0b111)));
        assert_eq!(allocator.take_row_of_pages(1), Some((RowId::FIRST, 0b1000)));
        assert_eq!(allocator.pool.free_frames(), 508);
    });
}

#[test]
fn moves_of_pages_are_under_way_until_all_have_ended() {
    on_an_allocator(1, |allocator| {
        assert_eq!((allocator.moves(), allocator.moves_have_ended()), ((0, 0), true));
        let [first, second] = [0, 1].map(|cpu| allocator.cache_at(cpu).move_pages());
        assert_eq!((allocator.moves(), allocator.moves_have_ended()), ((2, 0), false));
        drop(first);
        assert_eq!((allocator.moves(), allocator.moves_have_ended()), ((2, 1), false));
        assert_eq!(allocator.moves_at_rest(), (2, 1), "no thread waits for another for ever");
        drop(second);
        assert_eq!((allocator.moves_at_rest(), allocator.moves_have_ended()), ((2, 2), true));
        drop(allocator.cache_at(1).move_pages());
        assert_eq!((allocator.moves(), allocator.moves_have_ended()), ((3, 3), true));
    });
}

#[test]
fn what_no_hint_leads_to_is_found_before_a_request_fails() {
    on_an_allocator(2, |allocator| {
        take_all_pages(allocator);
        allocator.drain();
        // As if another thread had just taken the hints away.
        let hints = &allocator.uncoalesced;
        free(allocator, 300, Order::PAGE);
        let cache = allocator.cpu_cache();
        cache.discard_top();
        cache.change_row(cache.row(), None);
        hints.rows.clear(RowId::of_frame(300), || false);
        assert_eq!(take(allocator, Order::PAGE), Some(300));
        (512..1024).for_each(|page| free(allocator, page, Order::PAGE));
        allocator.drain();
        assert_eq!(take(allocator, Order::HUGE), Some(512));
        free(allocator, 512, Order::HUGE);
        hints.pageblocks.clear(PageblockId::from_index(1), || false);
        CPU.set(1);
        assert_eq!(take(allocator, order(8)), Some(512));
        assert_eq!(take(allocator, order(9)), None);
    });
}

#[test]
fn the_pageblock_that_was_freed_last_is_the_next_and_then_those_above_it() {
    on_an_allocator(6, |allocator| {
        (0..6).for_each(|id| assert_eq!(take(allocator, Order::HUGE), Some(id * 512)));
        let next = || take(allocator, Order::HUGE).map(|head| head / 512);
        [0, 1, 4, 5, 3].iter().for_each(|id| free(allocator, id * 512, Order::HUGE));
        assert_eq!([(); 6].map(|()| next()), [Some(3), Some(4), Some(5), Some(0), Some(1), None]);
        // Each CPU remembers one of its own.
        free(allocator, 2 * 512, Order::HUGE);
        CPU.set(1);
        free(allocator, 512, Order::HUGE);
        CPU.set(0);
        assert_eq!(next(), Some(2));
        free(allocator, 2 * 512, Order::HUGE);
        CPU.set(1);
        assert_eq!(next(), Some(1));
    });
}

#[test]
fn a_cpu_has_the_cache_of_its_number_modulo_those_that_there_are() {
    on_an_allocator(1, |allocator| {
        let indexes: Vec<_> = (0..6).map(|cpu| allocator.cache_of(cpu).index()).collect();
        assert_eq!(indexes, [0, 1, 0, 1, 0, 1]);
        assert_eq!(allocator.cache_of(usize::MAX).index(), 1);
        assert!(allocator.all_caches().map(|cache| cache.index()).eq(0..CPUS));
    });
}

#[test]
fn what_a_cpu_hands_out_and_takes_back_adds_up() {
    on_an_allocator(1, |allocator| {
        let caches = [0, 1].map(|cpu| allocator.cache_at(cpu));
        caches[0].note_taken(512);
        caches[0].note_taken(-3);
        caches[1].note_taken(-509);
        assert_eq!(caches.map(|cache| cache.taken()), [509, -509], "freed at another CPU");
    });
}

#[test]
fn the_rest_of_a_line_stays_with_the_cpu_that_took_a_small_block_of_it() {
    on_an_allocator(2, |allocator| {
        let named = |cpu: usize, of: u8| {
            let names = allocator.cache_at(cpu).all_parked(order(of));
            names.map(|(number, _)| number).collect::<Vec<_>>()
        };
        for (of, first, rest) in [(1, 0, &[6, 4, 2][..]), (2, 8, &[12])] {
            assert_eq!(take(allocator, order(of)), Some(first));
            assert_eq!((named(0, of), uncoalesced(allocator, order(of)).len()), (rest.to_vec(), rest.len()));
            for next in rest.iter().rev() {
                assert_eq!(take(allocator, order(of)), Some(*next), "the lowest is the next");
            }
        }
        // Another CPU has a line of its own; a line is no small block, nor what is more.
        CPU.set(1);
        assert_eq!(
            (take(allocator, order(1)), named(0, 1), named(1, 1)),
            (Some(16), [].into(), [22, 20, 18].into())
        );
        for of in 3..9 {
            take(allocator, order(of)).unwrap();
            assert_eq!(named(1, of), []);
        }
        assert_eq!(allocator.moves(), (3, 3), "to where they can be claimed");
    });
    // Where one of its neighbours is in use the others stay in the pool.
    on_an_allocator(2, |allocator| {
        assert!(allocator.pool.take_frame(frame(5)));
        assert_eq!((take(allocator, order(1)), allocator.parked_frames()), (Some(6), 0));
        assert_eq!(allocator.pool.free_frames(), 1024 - 3);
    });
}
