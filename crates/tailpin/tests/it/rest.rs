//! Words of a block in use become implicit only where no thread is fooled by it.
//!
//! A thread reads a tail at rest, holds the head and stops. Then the block is split to pages
//! and merged as many times as it takes for the tail's generation to come round, and split once
//! more. The late pin must find its tail changed, or the tail would name a head that is not its
//! own.

use crate::common::stop;

use std::sync::Arc;

use stop::{Stop, Word, stopped_at, words};
use tailpin::one_word::{AllSafeguards, Safeguard, Safeguards};
use tailpin::{FrameRange, Kind, OneWord, Order, Pfn, SetAside, Zone, ZoneConfig, ZoneLayout, ZoneMemory};

/// As many lives as a page word tells apart.
const GENERATIONS: usize = 64;
const TAIL: Pfn = Pfn::new(300);

/// Makes tails implicit whatever may be held.
struct Careless;

impl Safeguards<Safeguard> for Careless {
    const WITHOUT: Option<Safeguard> = Some(Safeguard::W17);
}

/// Stops a get of a tail before access `k`. Returns whether it got so far, and what the audit
/// found.
fn late_pin<S: Safeguards<Safeguard>>(k: u64) -> (bool, u64) {
    let ranges = [FrameRange::new(Pfn::new(0), 512)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let (pages, allocator) =
        (words(layout.page_words::<OneWord<'_, Word, S>>()), words(layout.allocator_words()));
    let zone: Zone<'_, OneWord<'_, Word, S>> =
        Zone::with_protocol(layout, ZoneConfig::default(), &pages, &allocator).unwrap();
    let mut block = zone.alloc(Order::HUGE).unwrap();
    let stop = Arc::new(Stop::default());
    std::thread::scope(|scope| {
        let (zone, at) = (&zone, Arc::clone(&stop));
        let pinning = scope.spawn(move || stopped_at(&at, k, || zone.try_pin(TAIL)));
        stop.wait();
        for _ in 0..GENERATIONS {
            block = block.split().unwrap().merge().unwrap();
        }
        let halves = block.split_to(Order::new(8).unwrap()).unwrap();
        stop.let_go();
        let pin = pinning.join().unwrap().expect("the page is in use");
        let violations = zone.audit().violations();
        drop((halves, pin));
        (stop.is_reached(), violations)
    })
}

/// Stops everywhere. Returns how many stops ended in a violation.
fn late_pins<S: Safeguards<Safeguard>>() -> usize {
    let (mut k, mut bad) = (0, 0);
    loop {
        let (reached, violations) = late_pin::<S>(k);
        bad += usize::from(violations > 0);
        if !reached {
            assert!(k > 5, "a get of a tail at rest has some accesses");
            return bad;
        }
        k += 1;
    }
}

#[test]
fn a_late_pin_is_not_fooled_by_a_tail_that_came_back_to_rest() {
    assert_eq!(late_pins::<AllSafeguards>(), 0);
}

#[test]
fn it_would_be_if_merges_did_not_ask_who_holds() {
    assert!(late_pins::<Careless>() > 0);
}

/// Merges 2 MiB out of pieces of an order under a pin or none. Whether what was the head of a piece
/// is at rest then, for each but the first.
fn merged_under(pieces: u8, pin: Option<u64>) -> Vec<bool> {
    let ranges = [FrameRange::new(Pfn::new(0), 512)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let zone: Zone<'_> = memory.zone(layout, ZoneConfig::default()).unwrap();
    let block = zone.alloc(Order::HUGE).unwrap();
    let pin = pin.map(|page| block.pin(page).unwrap());
    let _block = block.split_to(Order::new(pieces).unwrap()).unwrap().merge().unwrap();
    let heads = (0..512).step_by(1 << pieces).skip(1);
    let rest = heads.map(|head| zone.state(Pfn::new(head)).unwrap().kind == Kind::Implicit).collect();
    assert_eq!(zone.audit().violations(), 0);
    drop(pin);
    rest
}

#[test]
fn a_pin_on_any_piece_keeps_all_of_them_from_rest() {
    for pieces in [0, 4, 8] {
        let rest = merged_under(pieces, None);
        assert!(rest.iter().all(|rest| *rest), "there is no hold on any piece of order {pieces}");
        for page in [0, 1, 3, 16, 300, 511] {
            let rest = merged_under(pieces, Some(page));
            assert!(!rest.contains(&true), "page {page} is pinned, pieces of order {pieces}");
        }
    }
}

/// A merge is stopped before access `merging` of it, and in the middle of that a tail is to leave
/// service, which is stopped before access `aside`. Then the merge ends, the block is freed, its
/// pageblock comes together and is handed out again, if it can be. Returns whether both got so far.
fn late_mark(merging: u64, aside: u64) -> [bool; 2] {
    let ranges = [FrameRange::new(Pfn::new(0), 512)];
    let layout = ZoneLayout::new(&ranges, 2).unwrap();
    let (pages, allocator) =
        (words(layout.page_words::<OneWord<'_, Word>>()), words(layout.allocator_words()));
    let zone: Zone<'_, OneWord<'_, Word>> =
        Zone::with_protocol(layout, ZoneConfig::default(), &pages, &allocator).unwrap();
    let pieces = zone.alloc(Order::HUGE).unwrap().split().unwrap();
    let stops = [(); 2].map(|()| Arc::new(Stop::default()));
    std::thread::scope(|scope| {
        let (zone, [first, second]) = (&zone, stops.clone());
        let merger = scope.spawn(move || stopped_at(&first, merging, || pieces.merge().unwrap()));
        stops[0].wait();
        let marker = scope.spawn(move || stopped_at(&second, aside, || zone.set_aside(TAIL)));
        stops[1].wait();
        stops[0].let_go();
        drop(merger.join().unwrap());
        zone.drain();
        let again = zone.alloc(Order::HUGE).ok();
        stops[1].let_go();
        let said = marker.join().unwrap();
        assert!(matches!(said, SetAside::Done | SetAside::WhenFreed), "{merging}, {aside}: {said:?}");
        let halves = again.map(|block| block.split_to(Order::new(8).unwrap()).unwrap());
        assert_eq!(zone.audit().violations(), 0, "{merging}, {aside}: {said:?}");
        drop(halves);
        zone.drain();
        let audit = zone.audit();
        let ended = (audit.violations(), audit.set_aside, audit.free);
        assert_eq!(ended, (0, 1, 511), "{merging}, {aside}: {said:?}: {audit}");
        stops.map(|stop| stop.is_reached())
    })
}

#[test]
fn a_tail_is_marked_in_the_block_in_which_it_was_found() {
    // The head becomes the whole's, each page a tail of it, and then the whole is settled.
    for merging in [520, 800, 1100, 1500, 1540] {
        for aside in 0.. {
            let [in_merge, in_mark] = late_mark(merging, aside);
            if !in_mark {
                assert!(!in_merge || aside > 5, "setting a frame aside has some accesses");
                break;
            }
        }
    }
}
