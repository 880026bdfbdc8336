//! The last reference to a block goes while some of its pages are pinned: the pinned pages stay as
//! pages of their own, everything else is free at once.

use crate::common;

use std::collections::BTreeSet;

use common::{OneWord, Random};
use tailpin::{
    Block, FrameRange, Order, PageRef, Pfn, Protocol, SetAside, Zone, ZoneConfig, ZoneLayout, ZoneMemory,
};

const PAGEBLOCKS: u64 = 8;
const FRAMES: u64 = PAGEBLOCKS * 512;

type TestZone<'z> = Zone<'z, OneWord<'z>>;

/// A zone in which everything is free in the end, but for what has left service.
fn on_a_zone(test: impl FnOnce(&TestZone<'_>)) {
    let ranges = [FrameRange::new(Pfn::new(0), FRAMES)];
    let layout = ZoneLayout::new(&ranges, 2).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let heard = common::Heard::default();
    let config = ZoneConfig::default().sink(&heard).cpu(common::thread_number);
    let zone: TestZone<'_> = memory.zone(layout, config).unwrap();
    test(&zone);
    let audit = zone.audit();
    assert_eq!((audit.violations(), heard.count()), (0, 0), "{audit}");
    assert_eq!(audit.free + audit.set_aside, FRAMES, "{audit}");
}

/// Some of the pages of a block, by their numbers; rather often the first.
fn some_of<P: Protocol>(block: &Block<'_, P>, random: &mut Random) -> BTreeSet<u64> {
    let n = random.below(6);
    (0..n).map(|_| if random.below(4) == 0 { 0 } else { random.below(block.order().frames()) }).collect()
}

/// Pins of pages that are told apart by where they are, each as often as there are handles.
fn pages_of<P: Protocol>(pins: &[PageRef<'_, P>]) -> BTreeSet<Pfn> {
    pins.iter().map(PageRef::pfn).collect()
}

#[test]
fn what_is_left_are_the_pinned_pages_and_those_alone() {
    for seed in 0..300 {
        on_a_zone(|zone| {
            let mut random = Random::new(seed);
            let mut pins = Vec::new();
            let mut retired = BTreeSet::new();
            for _ in 0..12 {
                let order =
                    Order::new([1, 2, 3, 5, 6, 8, 9, 9, 9, 10, 11][random.below(11) as usize]).unwrap();
                let Ok(block) = zone.alloc(order) else { continue };
                // Tails that were pinned once name their head.
                for page in some_of(&block, &mut random) {
                    drop(block.pin(page).unwrap());
                }
                let block = match random.below(4) {
                    0 => block.split().unwrap().merge().unwrap(),
                    1 => block.split_around(1, Order::PAGE).unwrap().merge().unwrap(),
                    _ => block,
                };
                let frames = block.frames();
                let pinned = some_of(&block, &mut random);
                for page in &pinned {
                    let pin = block.pin(*page).unwrap();
                    pins.extend((0..random.below(2)).map(|_| pin.clone()));
                    pins.push(pin);
                }
                if random.below(6) == 0 {
                    let frame = frames.start.offset(random.below(order.frames()));
                    assert_eq!(zone.set_aside(frame), SetAside::WhenFreed);
                    retired.insert(frame);
                }
                drop(block);
                // In the model a page is in use while it has a pin, and has left service if it was
                // to and has none.
                let used = pages_of(&pins);
                let gone = retired.difference(&used).count() as u64;
                assert_eq!((zone.used_frames(), zone.set_aside_frames()), (used.len() as u64, gone));
                for frame in frames.iter() {
                    let alone = (frame, Order::PAGE);
                    assert_eq!(zone.head_of(frame), used.contains(&frame).then_some(alone), "seed {seed}");
                    assert_eq!(zone.try_pin(frame).is_ok(), used.contains(&frame), "seed {seed}");
                }
                for _ in 0..random.below(4) {
                    if !pins.is_empty() {
                        pins.swap_remove(random.below(pins.len() as u64) as usize);
                    }
                }
            }
            // What is free can be had, all of it, and none of it is in use.
            let used = pages_of(&pins);
            let all: Vec<_> = std::iter::from_fn(|| zone.alloc(Order::PAGE).ok()).collect();
            assert!(all.iter().all(|page| !used.contains(&page.pfn()) && !retired.contains(&page.pfn())));
            let gone = retired.difference(&used).count();
            assert_eq!(all.len() + used.len() + gone, FRAMES as usize, "seed {seed}");
        });
    }
}

#[test]
fn the_block_is_whole_again_when_the_last_slice_goes() {
    on_a_zone(|zone| {
        for order in (1..=11).filter_map(Order::new) {
            for pinned in [0, 1, order.frames() / 2, order.frames() - 1] {
                let block = zone.alloc(order).unwrap();
                let pin = block.pin(pinned).unwrap();
                drop(block);
                assert_eq!(zone.used_frames(), 1);
                drop(pin);
                zone.drain();
                assert_eq!(zone.free_pageblocks(), PAGEBLOCKS, "{order}, page {pinned}");
            }
        }
    });
}

/// Threads that find pages of dying blocks by their numbers, in every step of the end.
#[test]
fn pages_of_dying_blocks_are_found_or_free() {
    for seed in 0..4 {
        on_a_zone(|zone| {
            std::thread::scope(|scope| {
                for thread in 0..2 {
                    scope.spawn(move || {
                        let mut random = Random::new(seed * 10 + thread);
                        for _ in 0..3_000 {
                            let order = Order::new([1, 2, 9, 9, 10][random.below(5) as usize]).unwrap();
                            let Ok(block) = zone.alloc(order) else { continue };
                            let pinned = 1 + random.below(order.frames() - 1);
                            let pins = [pinned, pinned / 2].map(|page| block.pin(page).unwrap());
                            drop(block);
                            for pin in pins {
                                // Whatever became of the block, the page is the handle's.
                                let again = zone.try_pin(pin.pfn()).expect("it is pinned");
                                assert_eq!(again.pfn(), pin.pfn());
                            }
                        }
                    });
                }
                for thread in 2..4 {
                    scope.spawn(move || {
                        let mut random = Random::new(seed * 10 + thread);
                        for _ in 0..60_000 {
                            // Low frames are in use most of the time.
                            let reach = if random.below(2) == 0 { 8 } else { 1024 };
                            let frame = Pfn::new(random.below(reach));
                            if let Ok(pin) = zone.try_pin(frame) {
                                drop(pin.clone());
                            }
                        }
                    });
                }
            });
        });
    }
}
