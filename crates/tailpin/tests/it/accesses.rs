//! What operations cost where a clock can't be trusted: accesses to shared words, counted.
//!
//! The bounds are the ones that docs/performance-floors.md names; an operation that comes to cost
//! more fails here.

use crate::common::hooked;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;

use hooked::{Access, Hook, words};
use tailpin::{FrameRange, OneWord, Order, Pfn, Request, Zone, ZoneConfig, ZoneLayout};

/// Accesses of this thread.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Cost {
    loads: usize,
    stores: usize,
    /// Read-modify-writes: locked instructions.
    locked: usize,
    /// Different runs of eight words: cache lines, where the words are aligned to them.
    lines: usize,
}

impl fmt::Debug for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { loads, stores, locked, lines } = self;
        write!(f, "{locked} locked, {loads} loads, {stores} stores, {lines} lines")
    }
}

thread_local! {
    static COST: Cell<Cost> = const { Cell::new(Cost { loads: 0, stores: 0, locked: 0, lines: 0 }) };
    static LINES: RefCell<BTreeSet<usize>> = const { RefCell::new(BTreeSet::new()) };
}

/// Words to a cache line.
const LINE_WORDS: usize = 8;

/// Counts.
struct Counts;

impl Hook for Counts {
    fn before(access: Access, address: usize) {
        let mut cost = COST.get();
        *match access {
            Access::Load => &mut cost.loads,
            Access::Store => &mut cost.stores,
            Access::Locked => &mut cost.locked,
        } += 1;
        COST.set(cost);
        LINES.with_borrow_mut(|lines| lines.insert(address / (LINE_WORDS * size_of::<Word>())));
    }
}

type Word = hooked::Word<Counts>;

/// What `act` costs, and what it returns.
fn cost<T>(act: impl FnOnce() -> T) -> (Cost, T) {
    COST.set(Cost::default());
    LINES.with_borrow_mut(BTreeSet::clear);
    let result = act();
    (Cost { lines: LINES.with_borrow(BTreeSet::len), ..COST.get() }, result)
}

type TestZone<'z> = Zone<'z, OneWord<'z, Word>>;

fn on_a_zone(test: impl FnOnce(&TestZone<'_>)) {
    let ranges = [FrameRange::new(Pfn::new(0), 2048)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let [pages, allocator] =
        [layout.page_words::<OneWord<'_, Word>>(), layout.allocator_words()].map(|n| words(n + LINE_WORDS));
    test(
        &Zone::new(layout, ZoneConfig::default(), from_a_line_on(&pages), from_a_line_on(&allocator))
            .unwrap(),
    );
}

/// The words from the first on with which a cache line begins.
fn from_a_line_on(words: &[Word]) -> &[Word] {
    &words[words.as_ptr().align_offset(LINE_WORDS * size_of::<Word>())..]
}

const fn locked(locked: usize, loads: usize, lines: usize) -> Cost {
    Cost { locked, loads, stores: 0, lines }
}

#[test]
fn one_locked_instruction_for_a_pin_more_and_one_for_a_pin_less() {
    on_a_zone(|zone| {
        let block = zone.alloc(Order::HUGE).unwrap();
        let pin = block.pin(77).unwrap();
        let (more, other) = cost(|| pin.clone());
        assert_eq!(more, locked(1, 0, 1));
        assert_eq!(cost(|| drop(other)).0, locked(1, 0, 1));
        // Another one by its number: the tail's own word alone, as it is pinned.
        let (found, other) = cost(|| zone.try_pin(pin.pfn()).unwrap());
        assert_eq!(found, locked(1, 1, 1));
        assert_eq!(cost(|| drop(other)).0, locked(1, 0, 1));
    });
}

#[test]
fn two_tails_eight_frames_apart_share_no_line() {
    on_a_zone(|zone| {
        let block = zone.alloc(Order::HUGE).unwrap();
        let lines = [64, 72].map(|index| {
            let pin = block.pin(index).unwrap();
            cost(|| drop(pin.clone()));
            LINES.with_borrow(BTreeSet::clone)
        });
        assert!(lines[0].is_disjoint(&lines[1]));
    });
}

#[test]
fn a_first_pin_holds_the_head_and_the_last_lets_go() {
    on_a_zone(|zone| {
        let page = zone.alloc(Order::PAGE).unwrap();
        let (first, pin) = cost(|| zone.try_pin(page.pfn()).unwrap());
        assert_eq!((first, cost(|| drop(pin)).0), (locked(1, 1, 1), locked(1, 0, 1)));
        let block = zone.alloc(Order::HUGE).unwrap();
        drop(block.pin(77).unwrap());
        let (first, pin) = cost(|| block.pin(77).unwrap());
        assert_eq!((first, cost(|| drop(pin)).0), (locked(2, 2, 2), locked(2, 0, 2)));
    });
}

#[test]
fn a_block_of_any_size_is_cloned_and_dropped_like_a_page() {
    on_a_zone(|zone| {
        for order in [0, 9, 10] {
            let block = zone.alloc(Order::new(order).unwrap()).unwrap();
            let (more, other) = cost(|| block.clone());
            assert_eq!((more, cost(|| drop(other)).0), (locked(1, 1, 1), locked(1, 1, 1)), "order {order}");
        }
    });
}

#[test]
fn the_whole_life_of_a_page_or_pageblock_is_two_locked_instructions() {
    on_a_zone(|zone| {
        for order in [Order::PAGE, Order::HUGE] {
            drop(zone.alloc(order).unwrap());
            let (life, ()) = cost(|| drop(zone.alloc(order).unwrap()));
            // Claimed and published in one step, freed and made uncoalesced in another. The stores
            // are what the CPU remembers.
            assert!(life.locked == 2 && life.loads <= 10 && life.stores <= 3 && life.lines <= 4, "{life:?}");
        }
    });
}

#[test]
fn the_life_of_a_block_between_is_four_locked_instructions_and_no_look_at_its_tails() {
    on_a_zone(|zone| {
        for order in (1..9).filter_map(Order::new) {
            drop(zone.alloc(order).unwrap());
            let (life, ()) = cost(|| drop(zone.alloc(order).unwrap()));
            // Claimed and published in one step, freed and made uncoalesced in another; named at a
            // place of the CPU's before, and named no longer after.
            assert!(life.locked == 4 && life.loads <= 14 && life.stores <= 2, "order {order}: {life:?}");
            assert!(life.lines <= 6, "order {order}: {life:?}");
        }
    });
}

#[test]
fn many_pages_are_one_locked_instruction_each_and_a_few_for_their_pageblock() {
    on_a_zone(|zone| {
        let many = || zone.alloc_many(Request::new(Order::PAGE), 512).collect::<Vec<_>>();
        zone.drop_many(many());
        // All hints to the rows of a pageblock are taken away in one step.
        let (taken, pages) = cost(many);
        assert!(taken.locked <= 512 + 3 && taken.loads <= 2 * 512 + 32, "{taken:?}");
        assert_eq!(taken.stores, 0);
        let (freed, ()) = cost(|| zone.drop_many(pages));
        // Each row and the summary above are hinted at once.
        assert!(freed.locked <= 512 + 9 && freed.loads <= 6 * 512 + 60, "{freed:?}");
    });
}

#[test]
fn where_one_thread_has_a_cpu_to_itself_every_order_is_two_locked_instructions() {
    on_a_zone(|zone| {
        let local = zone.local(0);
        for order in (0..10).filter_map(Order::new) {
            local.free(local.alloc(order).unwrap());
            let (life, ()) = cost(|| local.free(local.alloc(order).unwrap()));
            assert!(life.locked == 2 && life.loads <= 15 && life.stores <= 4, "{order}: {life:?}");
            assert!(life.lines <= 7, "{order}: {life:?}");
            zone.drain();
        }
    });
}

#[test]
fn a_cpu_is_one_threads_again_when_the_one_before_has_let_go_of_it() {
    on_a_zone(|zone| {
        let order = Order::new(3).unwrap();
        let life = |local: &tailpin::Local<'_, OneWord<'_, Word>>| {
            local.free(local.alloc(order).unwrap());
            cost(|| local.free(local.alloc(order).unwrap())).0.locked
        };
        for _ in 0..2 {
            let (first, second) = (zone.local(0), zone.local(0));
            assert_eq!([life(&first), life(&second), life(&first)], [2, 4, 2]);
            drop(second);
            assert_eq!(life(&first), 2, "it is still this one's");
            // The page that was freed last is the CPU's to remember.
            let page = first.alloc(Order::PAGE).unwrap();
            let head = page.pfn();
            first.free(page);
            drop(first);
            let (found, page) = cost(|| zone.alloc(Order::PAGE).unwrap());
            assert_eq!((page.pfn(), found.locked), (head, 1), "{found:?}");
            drop(page);
        }
    });
}

#[test]
fn blocks_that_are_dropped_together_are_looked_at_before() {
    on_a_zone(|zone| {
        let pages = || {
            zone.drain();
            [(); 20].map(|()| zone.alloc(Order::PAGE).unwrap())
        };
        drop(pages());
        let blocks = pages();
        let (apart, ()) = cost(|| drop(blocks));
        let blocks = pages();
        let (together, ()) = cost(|| zone.drop_many(blocks));
        // A look at each. Which row the CPU has reserved is asked once for sixteen of them.
        assert_eq!((together.locked, together.loads), (apart.locked, apart.loads + 20 - 18));
    });
}

#[test]
fn what_is_free_of_an_untouched_zone_is_counted_without_a_look_at_its_rows() {
    let [four, eight] = [4, 8].map(|pageblocks| {
        let ranges = [FrameRange::new(Pfn::new(0), pageblocks * 512)];
        let layout = ZoneLayout::new(&ranges, 1).unwrap();
        let [pages, allocator] =
            [layout.page_words::<OneWord<'_, Word>>(), layout.allocator_words()].map(words::<Counts>);
        let zone = Zone::new(layout, ZoneConfig::default(), &pages, &allocator).unwrap();
        let (counted, free) = cost(|| zone.free_frames());
        assert_eq!(free, pageblocks * 512);
        counted.loads
    });
    assert_eq!(eight, four + 4, "a word for each 2 MiB");
}

#[test]
fn a_run_comes_back_row_by_row() {
    on_a_zone(|zone| {
        // Of 1, 2, 4, 8, 16, 16, 8, 4, 2 and 1 frames.
        let run = zone.alloc_run_at(FrameRange::new(Pfn::new(1), 62)).unwrap();
        let blocks = 10;
        let (freed, ()) = cost(|| drop(run));
        // One for each block, the others for the row and its hint.
        assert!(freed.locked <= blocks + 6, "{freed:?}");
    });
}

#[test]
fn pages_and_pageblocks_freed_lately_are_taken_without_a_search() {
    on_a_zone(|zone| {
        let blocks = |order| [(); 3].map(|()| zone.alloc(order).unwrap());
        for order in [Order::PAGE, Order::HUGE] {
            // The first keeps its place; the one that was freed last is somewhere else.
            let [_first, second, third] = blocks(order);
            let freed = [second.pfn(), third.pfn()];
            drop(second);
            drop(third);
            let lately = if order == Order::PAGE { 2 } else { 1 };
            for expected in freed.into_iter().rev().take(lately) {
                let (found, block) = cost(|| zone.alloc(order).unwrap());
                assert_eq!((block.pfn(), found.locked), (expected, 1), "{found:?}");
                assert!(found.loads <= 4, "{found:?}");
                std::mem::forget(block);
            }
        }
    });
}

#[test]
fn neighbours_of_a_page_from_the_store_are_remembered() {
    on_a_zone(|zone| {
        let first = zone.alloc(Order::PAGE).unwrap();
        for nth in 1..64 {
            let (found, page) = cost(|| zone.alloc(Order::PAGE).unwrap());
            assert_eq!((page.pfn(), found.locked), (first.pfn().offset(nth), 1), "{found:?}");
            std::mem::forget(page);
        }
    });
}

#[test]
fn it_is_two_in_a_pageblock_that_is_left_alone_as_well() {
    on_a_zone(|zone| {
        // All but the first page come back, so the pageblock is sparse, and the next page is the
        // only one of its run.
        let mut pages: Vec<_> = (0..64).map(|_| zone.alloc(Order::PAGE).unwrap()).collect();
        pages.truncate(1);
        zone.drain();
        drop(zone.alloc(Order::PAGE).unwrap());
        let (life, ()) = cost(|| drop(zone.alloc(Order::PAGE).unwrap()));
        assert!(life.locked == 2, "{life:?}");
    });
}

#[test]
fn a_free_is_one_locked_instruction_wherever_the_page_lies() {
    on_a_zone(|zone| {
        let mut pages: Vec<_> = std::iter::from_fn(|| zone.alloc(Order::PAGE).ok()).collect();
        // One page of each group of 64, and then each group's next but one: never two of a group in
        // a row.
        pages.sort_by_key(|page| (page.pfn().get() % 64 / 2, page.pfn().get() % 2, page.pfn().get()));
        let n = pages.len();
        let (frees, ()) = cost(|| drop(pages));
        // And a hint for each group.
        let hints = n / 64 + n / 4096 + 1;
        assert!(frees.locked <= n + hints, "{frees:?} for {n}");
    });
}

#[test]
fn a_split_or_merge_is_one_locked_instruction_for_each_page_and_two_for_the_head() {
    on_a_zone(|zone| {
        let block = zone.alloc(Order::HUGE).unwrap();
        let (split, pieces) = cost(|| block.split().unwrap());
        assert!(split.locked == 513 && split.loads <= 515 && split.lines <= 65, "{split:?}");
        let (merge, block) = cost(|| pieces.merge().unwrap());
        assert!(merge.locked == 513 && merge.loads <= 2 * 512 + 3 && merge.lines <= 65, "{merge:?}");
        // 100 pins: the merge takes 100 holds, the split gives them back.
        let pins: Vec<_> = (0..100).map(|index| block.pin(1 + 5 * index).unwrap()).collect();
        let (split, pieces) = cost(|| block.split().unwrap());
        assert!(split.locked <= 513 + 100, "{split:?}");
        let (merge, _block) = cost(|| pieces.merge().unwrap());
        assert!(merge.locked <= 513 + 100, "{merge:?}");
        drop(pins);
    });
}

#[test]
fn what_is_free_of_a_dying_block_comes_back_in_one_go() {
    on_a_zone(|zone| {
        for pinned in [&[100][..], &[0], &[511], &[3, 64, 65, 300]] {
            zone.drain();
            let block = zone.alloc(Order::HUGE).unwrap();
            let pins: Vec<_> = pinned.iter().map(|index| block.pin(*index).unwrap()).collect();
            let (drop, ()) = cost(|| drop(block));
            // The split begins and ends by two steps on the head, each pinned tail becomes a page
            // by one. What is free goes to the pool by rows, each of which is hinted at.
            let rows = pinned.len() * 5 + 6;
            assert!(drop.locked <= 2 + pinned.len() + rows, "{drop:?} for {pinned:?}");
            assert!(pins.iter().map(|pin| pin.pfn().get() % 512).eq(pinned.iter().copied()));
            assert_eq!(zone.used_frames(), pinned.len() as u64);
        }
    });
}

#[test]
fn a_dying_block_of_which_the_first_page_and_another_are_pinned_is_rewritten() {
    on_a_zone(|zone| {
        let block = zone.alloc(Order::HUGE).unwrap();
        let pins = [0, 100].map(|index| block.pin(index).unwrap());
        let (drop, ()) = cost(|| drop(block));
        // A pin of the first page can't be told from the hold of a thread about to pin a tail.
        assert!((513..=513 + 16).contains(&drop.locked), "{drop:?}");
        assert_eq!((zone.used_frames(), pins.len()), (2, 2));
    });
}

#[test]
fn a_split_around_a_page_is_three_locked_instructions_for_each_halving() {
    on_a_zone(|zone| {
        let mut block = zone.alloc(Order::HUGE).unwrap();
        // Also of a block that was split to pages, merged, freed and handed out again.
        for _ in 0..2 {
            let (split, pieces) = cost(|| block.split_around(100, Order::PAGE).unwrap());
            assert!(split.locked == 27 && split.loads <= 40 && split.lines <= 8, "{split:?}");
            let (merge, merged) = cost(|| pieces.merge().unwrap());
            // One for each of ten pieces and one for the head; the seven that have tails, beside
            // the first, are set apart before.
            assert!(merge.locked == 11 + 7 && merge.loads <= 32, "{merge:?}");
            block = merged.split().unwrap().merge().unwrap();
            drop(block);
            block = zone.alloc(Order::HUGE).unwrap();
        }
    });
}

#[test]
fn what_is_likely_to_be_free_is_asked_of_as_few_words_however_large_the_zone() {
    let mut costs = Vec::new();
    for gib in [1, 16] {
        let ranges = [FrameRange::new(Pfn::new(0), gib << 18)];
        let layout = ZoneLayout::new(&ranges, 4).unwrap();
        let [pages, allocator] =
            [layout.page_words::<OneWord<'_, Word>>(), layout.allocator_words()].map(words::<Counts>);
        let zone = Zone::new(layout, ZoneConfig::default(), &pages, &allocator).unwrap();
        let mut most = 0;
        let mut look = |what| {
            let (cost, order) = cost(|| zone.likely_largest());
            most = most.max(cost.loads);
            assert_eq!((cost.locked, cost.stores), (0, 0), "{what}: only looks");
            order
        };
        assert_eq!(look("untouched"), Some(Order::HUGE));
        let huge: Vec<_> = zone.alloc_many(tailpin::Request::new(Order::HUGE), usize::MAX).collect();
        assert_eq!((huge.len() as u64, look("all in use")), (gib << 9, None));
        let mut huge = huge.into_iter();
        let mut small = huge.next_back().unwrap().split().map_err(|(_, why)| why).unwrap();
        drop(small.next());
        assert_eq!(look("a page"), Some(Order::PAGE));
        zone.drain();
        assert_eq!(look("a page of the pool"), Some(Order::PAGE));
        drop(huge.next());
        assert_eq!(look("2 MiB"), Some(Order::HUGE));
        let order = Order::new(6).unwrap();
        let parts: Vec<_> = zone.alloc_many(tailpin::Request::new(order), 8).collect();
        assert_eq!((parts.len(), look("in use again")), (8, Some(Order::PAGE)));
        drop(parts.into_iter().next());
        assert_eq!(look("256 KiB, parked"), Some(order));
        costs.push(most);
    }
    assert!(costs.iter().all(|loads| *loads <= 300), "{costs:?}");
}
