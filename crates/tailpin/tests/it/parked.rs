//! Blocks of orders 1 to 8 that were freed and are handed out again: nothing is lost where CPUs,
//! requests for other sizes and frames that leave service come between.

use crate::common;

use std::cell::Cell;

use common::{OneWord, Random};
use tailpin::{Block, FrameRange, Order, Pfn, SetAside, Zone, ZoneConfig, ZoneLayout, ZoneMemory};

thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
}

type TestZone<'z> = Zone<'z, OneWord<'z>>;

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

fn parked_orders() -> impl Iterator<Item = Order> {
    (1..9).map(order)
}

fn on_a_zone(pageblocks: u64, test: impl FnOnce(&TestZone<'_>)) {
    let ranges = [FrameRange::new(Pfn::new(0), pageblocks * 512)];
    let layout = ZoneLayout::new(&ranges, 4).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let heard = common::Heard::default();
    let config = ZoneConfig::default().sink(&heard).cpu(|| CPU.get());
    let zone: TestZone<'_> = memory.zone(layout, config).unwrap();
    test(&zone);
    CPU.set(0);
    let audit = zone.audit();
    assert_eq!((audit.violations(), heard.count()), (0, 0), "{audit}");
    assert_eq!(audit.free + audit.set_aside, pageblocks * 512, "{audit}");
}

#[test]
fn a_block_that_was_freed_is_the_next_one() {
    on_a_zone(2, |zone| {
        for order in parked_orders() {
            let block = zone.alloc(order).unwrap();
            let (head, generation) = (block.pfn(), zone.raw().token(block.pfn()).generation());
            drop(block);
            assert_eq!((zone.used_frames(), zone.free_frames()), (0, 1024));
            let block = zone.alloc(order).unwrap();
            assert_eq!(block.pfn(), head);
            assert_ne!(zone.raw().token(head).generation(), generation, "it is another block");
            let pieces = block.split().unwrap();
            assert_eq!(pieces.len() as u64, order.frames());
        }
    });
}

#[test]
fn cpus_are_given_small_blocks_of_lines_of_their_own() {
    on_a_zone(2, |zone| {
        for order in [1, 2].map(order) {
            let first = zone.alloc(order).unwrap();
            CPU.set(1);
            let other = zone.alloc(order).unwrap();
            CPU.set(0);
            let next = zone.alloc(order).unwrap();
            let lines = [first.pfn(), other.pfn(), next.pfn()].map(|head| head.get() / 8);
            assert!(lines[0] != lines[1] && lines[0] == lines[2], "{order}: {lines:?}");
            assert_eq!(zone.used_frames(), 3 * order.frames(), "the rest of a line is free");
            drop([first, other, next]);
            zone.drain();
            assert_eq!(zone.free_pageblocks(), 2);
        }
    });
}

#[test]
fn the_rest_of_a_line_is_there_for_others_before_a_request_fails() {
    on_a_zone(1, |zone| {
        for wanted in (0..9).map(order) {
            CPU.set(3);
            let block = zone.alloc(order(1)).unwrap();
            CPU.set(0);
            let all: Vec<_> = std::iter::from_fn(|| zone.alloc(wanted).ok()).collect();
            // All but the line's own part of it, in blocks as large as were asked for.
            let left = 512 / wanted.frames() - if wanted.frames() < 2 { 2 } else { 1 };
            assert_eq!(all.len() as u64, left, "{wanted}");
            drop((block, all));
            zone.drain();
        }
    });
}

#[test]
fn a_frame_in_the_rest_of_a_line_leaves_service() {
    on_a_zone(1, |zone| {
        let block = zone.alloc(order(1)).unwrap();
        let other = block.pfn().offset(3);
        assert_eq!(zone.set_aside(other), SetAside::Done);
        assert_eq!((zone.used_frames(), zone.set_aside_frames()), (2, 1));
        let all: Vec<_> = std::iter::from_fn(|| zone.alloc(order(1)).ok()).collect();
        assert_eq!(all.len(), 254, "the frame beside it is left over");
    });
}

/// Of one pageblock, a part is parked at another CPU: all of it is found all the same.
#[test]
fn other_requests_and_other_cpus_find_parked_blocks() {
    for wanted in (0..10).map(order) {
        for parked in parked_orders() {
            on_a_zone(1, |zone| {
                CPU.set(3);
                drop([(); 2].map(|()| zone.alloc(parked).ok()));
                CPU.set(0);
                let mut all = Vec::new();
                all.extend(std::iter::from_fn(|| zone.alloc(wanted).ok()));
                assert_eq!(all.len() as u64, 512 / wanted.frames(), "{wanted} after {parked}");
            });
        }
    }
}

/// A block that was taken by name is named no longer where it was parked.
#[test]
fn a_block_that_is_parked_at_another_cpu_next_is_counted_once() {
    for parked in parked_orders() {
        on_a_zone(1, |zone| {
            CPU.set(3);
            let block = zone.alloc(parked).unwrap();
            let frames = block.frames();
            drop(block);
            CPU.set(0);
            drop(zone.alloc_run_at(frames).unwrap());
            CPU.set(1);
            let all: Vec<_> = std::iter::from_fn(|| zone.alloc(parked).ok()).collect();
            assert!(all.iter().any(|block| block.frames() == frames));
            drop(all);
            assert_eq!((zone.free_frames(), zone.used_frames()), (512, 0), "{parked}");
        });
    }
}

#[test]
fn named_frames_of_a_parked_block_are_free() {
    for parked in parked_orders() {
        on_a_zone(1, |zone| {
            let block = zone.alloc(parked).unwrap();
            let frames = block.frames();
            drop(block);
            let last = FrameRange { start: frames.end.get().checked_sub(1).map(Pfn::new).unwrap(), ..frames };
            let run = zone.alloc_run_at(last).unwrap();
            assert_eq!(zone.used_frames(), 1);
            drop(run);
        });
    }
}

#[test]
fn a_frame_of_a_parked_block_leaves_service() {
    for parked in parked_orders() {
        for index in [0, parked.frames() / 2, parked.frames() - 1] {
            on_a_zone(1, |zone| {
                let block = zone.alloc(parked).unwrap();
                let frame = block.pfn().offset(index);
                drop(block);
                assert_eq!(zone.set_aside(frame), SetAside::Done);
                let all: Vec<_> = std::iter::from_fn(|| zone.alloc(Order::PAGE).ok()).collect();
                assert_eq!(all.len(), 511);
                assert!(all.iter().all(|page| page.pfn() != frame));
            });
        }
    }
}

#[test]
fn more_blocks_than_can_be_parked_are_free_too() {
    on_a_zone(64, |zone| {
        for order in parked_orders() {
            let all: Vec<_> = (0..40).map(|_| zone.alloc(order).unwrap()).collect();
            drop(all);
            assert_eq!((zone.used_frames(), zone.free_frames()), (0, 64 * 512));
        }
    });
}

fn play(zone: &TestZone<'_>, thread: u64, turns: u64) {
    let mut random = Random::new(thread);
    let mut held: Vec<Block<'_, OneWord<'_>>> = Vec::new();
    for _ in 0..turns {
        // Two threads meet at one CPU cache, and change their CPUs.
        CPU.set(random.below(2) as usize);
        match random.below(20) {
            0..9 => held.extend(zone.alloc(common::any_cached_order(&mut random))),
            9..18 if !held.is_empty() => {
                let n = random.below(held.len() as u64) as usize;
                held.swap_remove(n);
            }
            18 => common::set_aside_and_restore(zone, &mut random, 8 * 512),
            19 if random.below(20) == 0 => zone.drain(),
            _ => held.truncate(10),
        }
    }
}

#[test]
fn nothing_is_lost_where_threads_share_a_cpu_cache() {
    on_a_zone(8, |zone| {
        common::nothing_is_lost(zone, 8 * 512, |thread| play(zone, thread, 20_000));
    });
}
