//! Threads that stop for ever in the middle of an allocation, a free or a drain: the others go on.

use crate::common::hooked;

use std::cell::Cell;
use std::collections::HashSet;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use hooked::{Access, Hook, words};
use tailpin::{Block, FrameRange, OneWord, Order, Pfn, Protocol, Request, Zone, ZoneConfig, ZoneLayout};

const FRAMES: u64 = 4 * 512;

thread_local!(static STEPS: Cell<Option<u32>> = const { Cell::new(None) });

/// Thrown where a thread stops.
struct Stopped;

/// Stops the thread that writes a word, before the write.
struct StopsForEver;

impl Hook for StopsForEver {
    /// One step towards the place where this thread is to stop; it never comes back from there.
    fn before(access: Access, _: usize) {
        if access == Access::Load {
            return;
        }
        if let Some(left) = STEPS.get() {
            if left == 0 {
                STEPS.set(None);
                resume_unwind(Box::new(Stopped));
            }
            STEPS.set(Some(left - 1));
        }
    }
}

type Word = hooked::Word<StopsForEver>;
type Stoppable<'m> = OneWord<'m, Word>;

/// Sets up a zone, stops a thread at step `at` of `operation` and returns whether it came that far.
/// Then takes all pages there are and gives them back, twice.
fn stop_at(
    at: u32,
    lost_at_most: u64,
    setup: &dyn Fn(&Zone<'_, Stoppable<'_>>) -> Vec<u64>,
    operation: &dyn Fn(&Zone<'_, Stoppable<'_>>),
) -> bool {
    let ranges = [FrameRange::new(Pfn::new(0), FRAMES)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let (pages, allocator) = (words(layout.page_words::<Stoppable<'_>>()), words(layout.allocator_words()));
    let zone: Zone<'_, Stoppable<'_>> = Zone::new(layout, ZoneConfig::default(), &pages, &allocator).unwrap();
    let kept: HashSet<u64> = setup(&zone).into_iter().collect();
    STEPS.set(Some(at));
    let outcome = catch_unwind(AssertUnwindSafe(|| operation(&zone)));
    STEPS.set(None);
    let stopped = match outcome {
        Ok(()) => false,
        Err(thrown) if thrown.is::<Stopped>() => true,
        Err(other) => resume_unwind(other),
    };
    for _ in 0..2 {
        let got = all_pages(&zone);
        let different: HashSet<u64> = got.iter().map(|page| page.pfn().get()).collect();
        assert_eq!(different.len(), got.len(), "step {at}: no page is handed out twice");
        assert!(different.is_disjoint(&kept), "step {at}: no page in use is handed out");
        let missing = FRAMES - kept.len() as u64 - got.len() as u64;
        assert!(missing <= lost_at_most, "step {at}: {missing} frames are out of reach");
    }
    stopped
}

/// Stops a thread at every step of `operation` in turn.
fn stop_everywhere(
    lost_at_most: u64,
    setup: impl Fn(&Zone<'_, Stoppable<'_>>) -> Vec<u64>,
    operation: impl Fn(&Zone<'_, Stoppable<'_>>),
) {
    let steps = (0..10_000).find(|at| !stop_at(*at, lost_at_most, &setup, &operation));
    let steps = steps.expect("the operation ends");
    assert!(steps >= 2, "there was somewhere to stop at: {steps}");
}

fn nothing(_: &Zone<'_, Stoppable<'_>>) -> Vec<u64> {
    Vec::new()
}

fn all_pages<'z, P: Protocol>(zone: &'z Zone<'z, P>) -> Vec<Block<'z, P>> {
    std::iter::from_fn(|| zone.alloc(Order::PAGE).ok()).collect()
}

/// Takes all of the zone as pages and frees those with this number; the numbers of the others.
fn full_but<P: Protocol>(zone: &Zone<'_, P>, free: impl Fn(u64) -> bool) -> Vec<u64> {
    let all: Vec<_> = std::iter::from_fn(|| zone.alloc(Order::PAGE).ok()).collect();
    let (free, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(|page| free(page.pfn().get()));
    drop(free);
    kept.into_iter().map(|page| page.into_raw().pfn().get()).collect()
}

/// The same, with nothing left in the pockets.
fn full_but_drained<P: Protocol>(zone: &Zone<'_, P>, free: impl Fn(u64) -> bool) -> Vec<u64> {
    let kept = full_but(zone, free);
    zone.drain();
    kept
}

/// Takes a block and keeps it.
fn take<P: Protocol>(zone: &Zone<'_, P>, order: Order) {
    std::mem::forget(zone.alloc(order));
}

#[test]
fn in_a_refill() {
    // What may be lost is the word of 64 frames that is on its way from its pageblock to a CPU's
    // pockets.
    stop_everywhere(64, nothing, |zone| take(zone, Order::PAGE));
    let holes = |zone: &Zone<'_, Stoppable<'_>>| full_but_drained(zone, |page| page % 3 == 0);
    stop_everywhere(64, holes, |zone| take(zone, Order::PAGE));
}

#[test]
fn in_an_allocation_of_any_order() {
    for wanted in Order::all().take(11) {
        stop_everywhere(wanted.frames().max(64), nothing, |zone| take(zone, wanted));
    }
    let runs = |zone: &Zone<'_, Stoppable<'_>>| full_but_drained(zone, |page| page % 64 < 48);
    stop_everywhere(64, runs, |zone| take(zone, Order::new(4).unwrap()));
}

#[test]
fn in_a_free_of_any_order() {
    for given in Order::all().take(11) {
        stop_everywhere(given.frames().max(64), nothing, |zone| drop(zone.alloc(given)));
    }
}

#[test]
fn where_it_had_a_cpu_to_itself() {
    for given in Order::all().take(10) {
        stop_everywhere(given.frames().max(64), nothing, |zone| {
            let local = zone.local(0);
            for _ in 0..2 {
                if let Ok(block) = local.alloc(given) {
                    local.free(block);
                }
            }
        });
    }
}

#[test]
fn in_the_middle_of_many() {
    // What may be lost are the pages at hand.
    let three = |zone: &Zone<'_, Stoppable<'_>>| {
        let mut many = ManuallyDrop::new(zone.alloc_many(Request::new(Order::PAGE), 3));
        many.by_ref().for_each(std::mem::forget);
        drop(ManuallyDrop::into_inner(many));
    };
    stop_everywhere(64, nothing, three);
    let uncoalesced = |zone: &Zone<'_, Stoppable<'_>>| full_but(zone, |page| page % 3 == 0);
    stop_everywhere(64, uncoalesced, three);
    let few = |zone: &Zone<'_, Stoppable<'_>>| full_but_drained(zone, |page| page % 200 == 0);
    stop_everywhere(64, few, three);
    let row = |zone: &Zone<'_, Stoppable<'_>>| drop(zone.alloc_many(Request::new(Order::PAGE), 3).next_row());
    stop_everywhere(64, nothing, row);
    stop_everywhere(64, uncoalesced, row);
    stop_everywhere(64, few, row);
}

#[test]
fn in_a_drain() {
    // Pages of many words are in the pockets, and those that make a word whole.
    let pockets = |zone: &Zone<'_, Stoppable<'_>>| full_but(zone, |page| page < 64 || page % 200 == 0);
    stop_everywhere(64, pockets, |zone| zone.drain());
}
