//! Free frames out of circulation.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tailpin::{FrameMask, FrameRange, Order, Pfn, Zone, ZoneConfig, ZoneLayout, ZoneMemory};

const ALL: FrameMask = FrameMask::ALL;

fn with_zone(pageblocks: u64, test: impl FnOnce(&Zone<'_>)) {
    let ranges = [FrameRange::new(Pfn::new(0), pageblocks * 512)];
    let layout = ZoneLayout::new(&ranges, 4).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let zone: Zone = memory.zone(layout, ZoneConfig::default()).unwrap();
    test(&zone);
    let audit = zone.audit();
    assert_eq!((audit.violations(), zone.used_frames()), (0, 0), "{audit}");
}

/// A block of 2 MiB whose words are as they must be: each page can be pinned, and is let go again.
fn assert_whole(zone: &Zone<'_>) {
    let block = zone.alloc(Order::HUGE).unwrap();
    let pins: Vec<_> = (0..512).map(|i| block.pin(i).expect("every tail is one")).collect();
    drop(block);
    drop(pins);
}

/// Ends the other threads of a test, also when this one fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_pageblock_of_a_zone_that_begins_anywhere_is_claimed_in_part_or_whole() {
    let (first, second) = (Pfn::new(3 * 512), Pfn::new(4 * 512));
    let ranges = [FrameRange::new(first, 1024)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let zone: Zone = memory.zone(layout, ZoneConfig::default()).unwrap();
    let part = zone.claim(second, &FrameMask::from_words([1, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!((part.pageblock(), part.count(), part.is_whole()), (second, 1, false));
    assert_eq!([first, second].map(|pageblock| zone.used_in_pageblock(pageblock)), [0, 1]);
    assert!(zone.claim_pageblock(second).is_none());
    drop(part);
    let whole = zone.claim_pageblock(second).unwrap();
    assert_eq!((whole.pageblock(), whole.count(), whole.is_whole()), (second, 512, true));
    assert_eq!([first, second].map(|pageblock| zone.used_in_pageblock(pageblock)), [0, 512]);
}

#[test]
fn only_what_is_free_and_wanted_is_claimed() {
    with_zone(2, |zone| {
        let pages: Vec<_> = (0..300).map(|_| zone.alloc(Order::PAGE).unwrap()).collect();
        zone.drain();
        assert_eq!(zone.used_in_pageblock(Pfn::new(0)), 300);
        // The first row is in use, frames 320 and 322 are free.
        let wanted = FrameMask::from_words([!0, 0, 0, 0, 0, 0b101, 0, 0]);
        let claimed = zone.claim(Pfn::new(0), &wanted);
        assert!(claimed.frames().iter().eq([320, 322]));
        assert_eq!(zone.used_in_pageblock(Pfn::new(0)), 302);
        assert_eq!(zone.claim(Pfn::new(0), &ALL).count(), 512 - 302);
        assert!(zone.try_pin(Pfn::new(320)).is_err());
        drop((claimed, pages));
        // Not a pageblock of the zone's.
        assert_eq!(zone.claim(Pfn::new(1024), &ALL).count(), 0);
        assert_eq!(zone.claim(Pfn::new(5), &ALL).count(), 0);
        assert!(zone.claim_pageblock(Pfn::new(1 << 40)).is_none());
        assert_eq!(zone.used_in_pageblock(Pfn::new(1024)), 512);
    });
}

#[test]
fn a_whole_pageblock_is_claimed_only_if_it_is_free() {
    with_zone(1, |zone| {
        let page = zone.alloc(Order::PAGE).unwrap();
        assert!(zone.claim_pageblock(Pfn::new(0)).is_none());
        drop(page);
        zone.drain();
        let claimed = zone.claim_pageblock(Pfn::new(0)).unwrap();
        assert!(claimed.is_whole() && zone.alloc(Order::PAGE).is_err());
        assert_eq!((claimed.pageblock(), claimed.count()), (Pfn::new(0), 512));
        drop(claimed);
        assert_whole(zone);
    });
}

#[test]
fn a_pageblock_that_was_used_in_pages_is_put_to_rest_after_a_claim_too() {
    with_zone(1, |zone| {
        for _ in 0..3 {
            let pages: Vec<_> = (0..512).map(|_| zone.alloc(Order::PAGE).unwrap()).collect();
            drop(pages);
            zone.drain();
            drop(zone.claim_pageblock(Pfn::new(0)).unwrap());
            assert_whole(zone);
        }
    });
}

#[test]
fn claims_go_with_everything_else() {
    with_zone(4, |zone| {
        thread::scope(|scope| {
            for thread in 0..2u64 {
                scope.spawn(move || {
                    for round in 0..4000u64 {
                        let pageblock = Pfn::new((round + thread) % 4 * 512);
                        match round % 3 {
                            0 => drop(zone.claim_pageblock(pageblock)),
                            _ => drop(zone.claim(pageblock, &ALL)),
                        }
                    }
                });
                scope.spawn(move || {
                    let mut kept = Vec::new();
                    for round in 0..4000u64 {
                        let order = Order::new([0, 3, 9, 0, 10, 7][(round + thread) as usize % 6]).unwrap();
                        if let Ok(block) = zone.alloc(order) {
                            let last = order.frames() - 1;
                            kept.push(block.pin(last).expect("the last page of a block can be pinned"));
                        }
                        if kept.len() > 8 {
                            kept.swap_remove(round as usize % 8);
                        }
                    }
                });
            }
        });
        zone.drain();
        let blocks: Vec<_> = (0..4).map(|_| zone.alloc(Order::HUGE).expect("all is free again")).collect();
        for block in &blocks {
            (0..512).for_each(|i| drop(block.pin(i).expect("every tail is one")));
        }
    });
}

/// An allocation of several pageblocks gives back those it has when it can't have the next; what
/// they looked like must not be forgotten.
#[test]
fn areas_given_back_half_way_are_put_to_rest_all_the_same() {
    with_zone(2, |zone| {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    drop(zone.claim_pageblock(Pfn::new(512)));
                }
            });
            let stop_also_on_a_panic = StopOnDrop(&stop);
            for _ in 0..1500 {
                // Frames of the first pageblock that have been in use one by one are not at rest.
                let pages: Vec<_> = (0..100).map(|_| zone.alloc(Order::PAGE).unwrap()).collect();
                drop(pages);
                zone.drain();
                for _ in 0..20 {
                    if let Ok(both) = zone.alloc(Order::new(10).unwrap()) {
                        drop(both);
                        break;
                    }
                }
                assert_whole(zone);
            }
            drop(stop_also_on_a_panic);
        });
    });
}
