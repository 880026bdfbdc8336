//! Many blocks at once: what is handed out, what is given back, and what happens in between.

use crate::common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use tailpin::{
    Block, FrameRange, Hooks, Order, PageRow, Pfn, Protocol, Request, Zone, ZoneConfig, ZoneLayout,
    ZoneMemory,
};

const PAGES: Request = Request::new(Order::PAGE);

fn numbers<P: Protocol>(blocks: &[Block<'_, P>]) -> BTreeSet<u64> {
    blocks.iter().map(|block| block.pfn().get()).collect()
}

#[test]
fn all_pages_there_are_and_no_more() {
    fn run<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
        let all: Vec<_> = zone.alloc_many(PAGES, usize::MAX).collect();
        assert_eq!(numbers(&all).len(), 4096);
        assert_eq!(zone.alloc_many(PAGES, 1).count(), 0);
        assert_eq!(zone.used_frames(), 4096);
        zone.drop_many(all);
        assert_eq!(zone.used_frames(), 0);
        // They are uncoalesced now, and are found as well.
        let all: Vec<_> = zone.alloc_many(PAGES, 5000).collect();
        assert_eq!(numbers(&all).len(), 4096);
    }
    on_both!(4096, run);
}

/// Pages of all rows that come, each once.
fn rows<'z, P: Protocol>(zone: &'z Zone<'z, P>, n: usize) -> Vec<PageRow<'z, P>> {
    let mut many = zone.alloc_many(PAGES, n);
    let rows: Vec<_> = std::iter::from_fn(|| many.next_row()).collect();
    let pages: BTreeSet<_> = rows.iter().flat_map(|row| row.pages().iter()).collect();
    assert_eq!(pages.len(), rows.iter().map(PageRow::len).sum::<usize>(), "no page comes twice");
    assert!(rows.iter().all(|row| !row.pages().is_empty()));
    rows
}

#[test]
fn pages_come_by_the_row_until_there_are_no_more() {
    fn run<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
        // The second time they are uncoalesced.
        for _ in 0..2 {
            let all = rows(zone, 5000);
            assert_eq!((all.len(), zone.used_frames()), (64, 4096));
            assert!(zone.alloc_many(PAGES, 1).next_row().is_none());
            drop(all);
            assert_eq!((zone.used_frames(), zone.audit().violations()), (0, 0));
        }
        let few = rows(zone, 70);
        assert_eq!(few.iter().map(PageRow::len).collect::<Vec<_>>(), [64, 6]);
        assert_eq!(zone.used_frames(), 70);
        // What was not asked for is there for others.
        let others = rows(zone, 5000);
        assert_eq!(others.iter().map(PageRow::len).sum::<usize>(), 4096 - 70);
        drop((few, others));
        zone.drain();
        assert_eq!(zone.free_pageblocks(), 8);
    }
    on_both!(4096, run);
}

#[test]
fn an_iterator_goes_on_with_the_row_that_it_has_at_hand() {
    fn run<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
        for _ in 0..2 {
            let mut many = zone.alloc_many(PAGES, 100);
            let first = many.next().unwrap();
            let (row, next) = (many.next_row().unwrap(), many.next().unwrap());
            assert_eq!((row.len(), many.size_hint()), (63, (0, Some(35))));
            assert!(!row.pages().iter().any(|page| page == first.pfn() || page == next.pfn()));
            let mut row = row;
            let taken = row.next().unwrap();
            assert_eq!(row.len(), 62);
            drop((row, many));
            assert_eq!(zone.used_frames(), 3);
            drop((first, next, taken));
        }
        assert_eq!((zone.used_frames(), zone.audit().violations()), (0, 0));
    }
    on_both!(1024, run);
}

#[test]
fn pages_of_a_row_that_others_keep_are_not_free() {
    let ranges = [FrameRange::new(Pfn::new(0), 512)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let zone: Zone<'_> = memory.zone(layout, ZoneConfig::default()).unwrap();
    let row = zone.alloc_many(PAGES, 64).next_row().unwrap();
    let page = |nth| row.pages().iter().nth(nth).unwrap();
    let (pin, reference) = (zone.try_pin(page(20)).unwrap(), zone.try_block(page(40), Order::PAGE).unwrap());
    drop(row);
    assert_eq!((zone.used_frames(), zone.audit().violations()), (2, 0));
    assert_eq!((pin.pfn().get(), reference.pfn().get()), (20, 40));
    drop((pin, reference));
    assert_eq!((zone.used_frames(), zone.audit().violations()), (0, 0));
}

#[test]
fn most_of_a_row_that_is_in_use_is_looked_at_no_more() {
    fn run<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
        // Each page of each row has been uncoalesced, and a few of each row are.
        let mut all: Vec<_> = rows(zone, 1024).into_iter().flatten().collect();
        zone.drop_many(all.drain(..));
        let mut all: Vec<_> = rows(zone, 1024).into_iter().flatten().collect();
        for nth in [3, 50, 17] {
            let (free, kept): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|page| page.pfn().get() % 64 == nth);
            let freed = numbers(&free);
            zone.drop_many(free);
            let again: Vec<_> = rows(zone, 1024).into_iter().flatten().collect();
            assert_eq!((numbers(&again), zone.audit().violations()), (freed, 0));
            all = kept.into_iter().chain(again).collect();
        }
        drop(all);
        assert_eq!((zone.used_frames(), zone.audit().violations()), (0, 0));
    }
    on_both!(1024, run);
}

#[test]
fn all_blocks_that_come_are_dropped() {
    fn run<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
        for n in [0, 1, 16, 17, 100] {
            let mut made = 0;
            zone.drop_many((0..n).map(|_| {
                made += 1;
                zone.alloc(Order::PAGE).unwrap()
            }));
            assert_eq!((made, zone.used_frames()), (n, 0));
        }
    }
    on_both!(1024, run);
}

#[test]
fn what_was_not_asked_for_goes_back() {
    fn run<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
        let three: Vec<_> = zone.alloc_many(PAGES, 3).collect();
        assert_eq!((three.len(), zone.used_frames()), (3, 3));
        let mut more = zone.alloc_many(PAGES, 100);
        let fourth = more.next();
        assert_eq!(more.size_hint(), (0, Some(99)));
        drop((more, fourth));
        assert_eq!(zone.used_frames(), 3);
        assert_eq!(zone.alloc_many(PAGES, 0).count(), 0);
        drop(three);
        zone.drain();
        assert_eq!(zone.free_pageblocks(), 2);
    }
    on_both!(1024, run);
}

#[test]
fn uncoalesced_pages_go_first() {
    fn run<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
        // One page of each second group comes back.
        let (free, kept): (Vec<_>, Vec<_>) =
            zone.alloc_many(PAGES, 1024).partition(|page| page.pfn().get() % 128 == 5);
        let freed = numbers(&free);
        zone.drop_many(free);
        let again: Vec<_> = zone.alloc_many(PAGES, freed.len()).collect();
        assert_eq!(numbers(&again), freed);
        drop(kept);
    }
    on_both!(2048, run);
}

#[test]
fn uncoalesced_pages_that_were_at_hand_are_still_found() {
    fn run<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
        let all: Vec<_> = zone.alloc_many(PAGES, 1024).collect();
        zone.drop_many(all);
        let three: Vec<_> = zone.alloc_many(PAGES, 3).collect();
        assert_eq!((zone.free_frames(), zone.audit().violations()), (1021, 0));
        drop(three);
        zone.drain();
        assert_eq!(zone.free_pageblocks(), 2);
    }
    on_both!(1024, run);
}

#[test]
fn pages_of_sparse_areas_come_last() {
    fn run<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
        let mut pages: Vec<_> = zone.alloc_many(PAGES, 1024).collect();
        pages.retain(|page| page.pfn().get() >= 512 || page.pfn().get() % 100 == 0);
        zone.drain();
        // Uncoalesced in the sparse pageblock, and free in the other.
        pages.retain(|page| ![200, 300, 700, 701, 702].contains(&page.pfn().get()));
        let three: Vec<_> = zone.alloc_many(PAGES, 3).collect();
        assert_eq!(numbers(&three), [700, 701, 702].into());
        drop(pages);
    }
    on_both!(1024, run);
}

#[test]
fn blocks_of_every_order_come_many_at_a_time() {
    fn run<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
        for order in Order::all().take(11) {
            let most = (4096 / order.frames()) as usize;
            let all: Vec<_> = zone.alloc_many(Request::new(order), most + 1).collect();
            assert_eq!(all.len(), most, "order {order}");
            assert!(all.iter().all(|block| block.order() == order && block.pfn().is_aligned(order)));
            zone.drop_many(all);
            assert_eq!(zone.used_frames(), 0);
        }
    }
    on_both!(4096, run);
}

#[test]
fn dropping_many_takes_one_reference_of_each() {
    fn run<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
        let blocks: Vec<_> =
            [0, 3, 9, 0, 0].map(|order| zone.alloc(Order::new(order).unwrap()).unwrap()).into();
        let (shared, pin) = (blocks[2].clone(), blocks[1].pin(2).unwrap());
        zone.drop_many(blocks);
        // A pin keeps its page, or where pieces stay together its block.
        assert_eq!(zone.used_frames(), 512 + if P::REARRANGES { 1 } else { 8 });
        drop((shared, pin));
        assert_eq!(zone.used_frames(), 0);
        zone.drop_many(None);
    }
    on_both!(2048, run);
}

#[test]
fn hooks_hear_of_each() {
    #[derive(Default)]
    struct Counts(AtomicU64, AtomicU64);
    impl Hooks for Counts {
        fn before_publication(&self, _: Pfn, _: Order, zero: bool) {
            self.0.fetch_add(u64::from(zero), Ordering::Relaxed);
        }
        fn after_last_reference(&self, _: Pfn, _: Order) {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }
    let counts = Counts::default();
    let ranges = [FrameRange::new(Pfn::new(0), 512)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let zone: Zone<'_> = memory.zone(layout, ZoneConfig::default().hooks(&counts)).unwrap();
    for _ in 0..2 {
        // The second time they are uncoalesced.
        assert!(zone.alloc_many(PAGES, 100).next_row().is_none(), "a hook hears of each");
        let pages: Vec<_> = zone.alloc_many(PAGES.zeroed(), 100).collect();
        zone.drop_many(pages);
    }
    assert_eq!((counts.0.into_inner(), counts.1.into_inner()), (200, 200));
}

#[test]
fn threads_that_take_and_give_many_lose_nothing() {
    fn run<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                scope.spawn(move || {
                    let mut seed = thread;
                    let mut held = Vec::new();
                    for _ in 0..300 {
                        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                        let n = (seed >> 33) as usize % 150;
                        let mut many = zone.alloc_many(PAGES, n);
                        if seed & 1 << 60 != 0 {
                            held.extend(many.next_row().into_iter().flatten());
                            drop(many.next_row());
                        }
                        held.extend(many);
                        held.push(zone.alloc(Order::new((seed >> 40) as u8 % 5).unwrap()).unwrap());
                        let keep = (seed >> 50) as usize % (held.len() + 1);
                        held.rotate_left(keep / 2);
                        zone.drop_many(held.drain(keep.min(1000)..));
                    }
                });
            }
        });
        assert_eq!(zone.used_frames(), 0);
        assert_eq!(zone.audit().violations(), 0);
        zone.drain();
        assert_eq!(zone.free_pageblocks(), 16);
    }
    on_both!(16 * 512, run);
}

#[test]
fn many_pages_below_a_limit_lie_below_it() {
    fn run<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
        let low: Vec<_> = zone.alloc_many(PAGES.below(Pfn::new(600)), 1000).collect();
        assert_eq!(numbers(&low), (0..600).collect());
        zone.drop_many(low);
        // They are uncoalesced now, as is a page beyond the limit.
        drop(zone.alloc_many(PAGES, 700).collect::<Vec<_>>());
        let low: Vec<_> = zone.alloc_many(PAGES.below(Pfn::new(600)), 1000).collect();
        assert_eq!(numbers(&low), (0..600).collect());
    }
    on_both!(1024, run);
}

/// The words of neighbours lie in one line, which two CPUs would take from each other.
#[test]
fn two_that_take_many_at_once_take_from_different_pageblocks() {
    fn run<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
        drop(zone.alloc_many(PAGES, 8 * 512).collect::<Vec<_>>());
        let mut both = [2048, 2048].map(|n| zone.alloc_many(PAGES, n));
        let mut taken = [const { Vec::new() }; 2];
        for _ in 0..2048 {
            both.iter_mut().zip(&mut taken).for_each(|(one, taken)| taken.extend(one.next()));
        }
        drop(both);
        let [first, second] = taken
            .map(|pages: Vec<_>| numbers(&pages).into_iter().map(|page| page / 512).collect::<BTreeSet<_>>());
        assert!(first.is_disjoint(&second) && first.len() + second.len() == 8, "{first:?} {second:?}");
    }
    on_both!(8 * 512, run);
}

#[test]
fn rows_at_hand_that_were_not_asked_for_are_hinted_at_again() {
    fn run<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
        drop(zone.alloc_many(PAGES, 2048).collect::<Vec<_>>());
        for n in [1, 63, 64, 65, 128, 511, 512, 513, 2048] {
            for taken in [1, 3, 64, 65, 300] {
                let mut many = zone.alloc_many(PAGES, n);
                let pages: Vec<_> = many.by_ref().take(taken).collect();
                assert_eq!(pages.len(), taken.min(n));
                drop(many);
                // By hints alone, as they are uncoalesced.
                let free = 2048 - pages.len() as u64;
                assert_eq!((zone.free_frames(), zone.audit().violations()), (free, 0), "{taken} of {n}");
            }
        }
    }
    on_both!(2048, run);
}

#[test]
fn pages_are_found_that_one_who_takes_many_has_at_hand() {
    fn run<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
        drop(zone.alloc_many(PAGES, 1024).collect::<Vec<_>>());
        let mut many = zone.alloc_many(PAGES, 1024);
        let first = many.next();
        // Nothing is kept from a request that would fail without it.
        let others: Vec<_> = (0..1023).map(|_| zone.alloc(Order::PAGE).unwrap()).collect();
        assert!(zone.alloc(Order::PAGE).is_err() && many.next().is_none());
        drop((first, others));
    }
    on_both!(1024, run);
}

#[test]
fn cpus_that_take_many_pageblocks_begin_far_apart() {
    use std::cell::Cell;
    thread_local!(static CPU: Cell<usize> = const { Cell::new(0) });
    let ranges = [FrameRange::new(Pfn::new(0), 64 * 512)];
    let layout = ZoneLayout::new(&ranges, 2).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let zone: Zone<'_> = memory.zone(layout, ZoneConfig::default().cpu(|| CPU.get())).unwrap();
    for _ in 0..3 {
        let taken = [1, 0].map(|cpu| {
            CPU.set(cpu);
            zone.alloc_many(Request::new(Order::HUGE), 32).collect::<Vec<_>>()
        });
        let firsts = [32 * 512, 0];
        for (blocks, first) in taken.iter().zip(firsts) {
            assert_eq!(numbers(blocks), (0..32).map(|nth| first + nth * 512).collect());
        }
        // Given back by the other one.
        for (cpu, blocks) in taken.into_iter().enumerate() {
            CPU.set(cpu);
            zone.drop_many(blocks);
        }
    }
}

#[test]
fn blocks_of_another_zone_are_dropped_where_they_belong() {
    fn run<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
        fn other<Q: Protocol>(zone: &Zone<'_, Q>, blocks: Vec<Block<'_, Q>>) {
            zone.drop_many(blocks);
        }
        let ranges = [FrameRange::new(Pfn::new(0), 1024)];
        let layout = ZoneLayout::new(&ranges, 1).unwrap();
        let memory = ZoneMemory::for_layout(&layout);
        let here: Zone<'_> = memory.zone(layout, ZoneConfig::default()).unwrap();
        let there_memory = ZoneMemory::for_layout(&layout);
        let there: Zone<'_> = there_memory.zone(layout, ZoneConfig::default()).unwrap();
        let both = |order| [&here, &there].map(|zone| zone.alloc(Order::new(order).unwrap()).unwrap());
        other(&here, [0, 0, 9, 3].into_iter().flat_map(both).collect());
        assert_eq!([here.used_frames(), there.used_frames(), zone.used_frames()], [0; 3]);
        assert_eq!((here.audit().violations(), there.audit().violations()), (0, 0));
    }
    on_both!(512, run);
}

#[test]
fn a_page_that_is_held_or_pinned_elsewhere_outlives_a_drop_of_many() {
    fn run<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
        let pages: Vec<_> = zone.alloc_many(PAGES, 40).collect();
        let (held, pinned) = (pages[3].clone(), pages[20].pin(0).unwrap());
        zone.drop_many(pages);
        assert_eq!(zone.used_frames(), 2);
        drop(held);
        assert_eq!(zone.used_frames(), 1);
        drop(pinned);
        assert_eq!((zone.used_frames(), zone.audit().violations()), (0, 0));
    }
    on_both!(1024, run);
}

/// With the hint that leads to each page looked for only after sixteen were freed.
#[test]
fn threads_that_drop_many_beside_threads_that_take_one_lose_nothing() {
    fn run<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                scope.spawn(move || {
                    let mut seed = thread;
                    let mut held: Vec<Block<'_, P>> = Vec::new();
                    for turn in 0..400 {
                        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                        let n = (seed >> 33) as usize % 700;
                        match thread {
                            0 | 1 => held.extend(zone.alloc_many(PAGES, n)),
                            _ => held.extend((0..n % 90).map_while(|_| zone.alloc(Order::PAGE).ok())),
                        }
                        match turn % 3 {
                            0 => zone.drop_many(held.drain(..)),
                            1 => held.truncate(held.len() / 2),
                            // Of each row something is left, and others look there.
                            _ => {
                                let (keep, free): (Vec<_>, Vec<_>) =
                                    held.drain(..).partition(|page| page.pfn().get().is_multiple_of(7));
                                held = keep;
                                zone.drop_many(free);
                            }
                        }
                    }
                });
            }
        });
        assert_eq!((zone.used_frames(), zone.audit().violations()), (0, 0));
        zone.drain();
        assert_eq!(zone.free_pageblocks(), 4);
    }
    on_both!(4 * 512, run);
}
