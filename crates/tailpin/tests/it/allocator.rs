//! The allocator's promises: alignment, holes, reserved ranges, exhaustion, hooks, watermarks,
//! nodes.

use crate::common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tailpin::{
    AllocError, FrameMask, FrameRange, Hooks, Kind, Nodes, OneWord, Order, Pfn, Protocol, Request, Zone,
    ZoneConfig, ZoneError, ZoneLayout, ZoneMemory,
};

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

fn every_order<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
    for o in Order::all() {
        let block = zone.alloc(o).unwrap();
        assert!(block.pfn().is_aligned(o), "{block:?}");
        assert_eq!(zone.used_frames(), o.frames());
        assert_eq!(zone.head_of(block.frames().end.offset(0).head(Order::PAGE)), None);
        for index in [0, 1, o.frames() / 2, o.frames() - 1].into_iter().filter(|i| *i < o.frames()) {
            assert_eq!(zone.head_of(block.pfn().offset(index)), Some((block.pfn(), o)));
        }
        drop(block);
        assert_eq!(zone.used_frames(), 0);
    }
}

#[test]
fn every_order_is_naturally_aligned() {
    on_both!(3 << 18, every_order);
}

#[test]
fn a_block_above_2_mib_pins_like_a_tree() {
    fn run(zone: &Zone<'_, OneWord<'_>>, _: &common::Heard) {
        let block = zone.alloc(Order::MAX).unwrap();
        let pins: Vec<_> = [5, 512 * 7 + 3, 512 * 7 + 9, 512 * 9].map(|i| block.pin(i).unwrap()).into();
        let state = zone.state(block.pfn()).unwrap();
        assert_eq!(state.pins, 3, "one hold for tail 5, one for each pinned part: {state}");
        drop(block);
        // Each pinned part came apart, the others are whole and free.
        assert_eq!(zone.used_frames(), 4);
        assert_eq!(zone.free_pageblocks(), 512 - 3);
        assert_eq!(zone.audit().violations(), 0);
        drop(pins);
        zone.drain();
        assert_eq!(zone.free_pageblocks(), 512);
    }
    on_one!(OneWord, 1 << 18, run);
}

#[test]
fn claimed_frames_are_nobodys_until_they_are_given_back() {
    fn run<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
        let pageblock = zone.span().start;
        // Pages of it were used one by one, so its words are not at rest when it is claimed.
        let pages: Vec<_> = (0..512).map(|_| zone.alloc(Order::PAGE).unwrap()).collect();
        assert!(zone.claim_pageblock(pageblock).is_none());
        drop(pages);
        zone.drain();
        for whole in [true, false] {
            let claimed = if whole {
                zone.claim_pageblock(pageblock).unwrap()
            } else {
                zone.claim(pageblock, &FrameMask::from_words([0x10; 8]))
            };
            assert_eq!(claimed.count(), if whole { 512 } else { 8 });
            assert_eq!(zone.used_in_pageblock(pageblock), claimed.count());
            assert_eq!(
                zone.alloc(Order::HUGE).unwrap_err(),
                AllocError::Exhausted {
                    order: Order::HUGE,
                    free_frames: 512 - claimed.count(),
                    free_pageblocks: 0,
                }
            );
            drop(claimed);
            assert_eq!(zone.used_in_pageblock(pageblock), 0);
        }
        let block = zone.alloc(Order::HUGE).unwrap();
        assert_eq!(zone.claim(pageblock, &FrameMask::ALL).count(), 0);
        drop(block);
        assert_eq!(zone.audit().violations(), 0);
    }
    on_both!(512, run);
}

#[test]
fn holes_and_reserved_ranges_stay_out() {
    let ranges = [FrameRange::new(Pfn::new(0x105), 1000), FrameRange::new(Pfn::new(0x1_0000), 4096)];
    let reserved = [FrameRange::new(Pfn::new(0x1_0010), 16), FrameRange::new(Pfn::new(0x1_0200), 512)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap().without(&reserved);
    let memory = ZoneMemory::for_layout(&layout);
    let zone: Zone<'_> = memory.zone(layout, ZoneConfig::default()).unwrap();
    assert_eq!(zone.usable_frames(), 1000 + 4096 - 16 - 512);
    let mut all = Vec::new();
    while let Ok(block) = zone.alloc(Order::PAGE) {
        all.push(block);
    }
    assert_eq!(all.len() as u64, zone.usable_frames());
    for block in &all {
        assert!(ranges.iter().any(|range| range.contains(block.pfn())), "{block:?} is in a hole");
        assert!(!reserved.iter().any(|range| range.contains(block.pfn())), "{block:?} is reserved");
    }
    assert_eq!(zone.state(Pfn::new(0x1_0011)).unwrap().kind, Kind::Reserved);
    assert!(zone.try_pin(Pfn::new(0x1_0011)).is_err() && zone.try_pin(Pfn::new(0x8000)).is_err());
    let audit = zone.audit();
    assert_eq!(audit.violations(), 0, "{audit}");
}

#[test]
fn large_blocks_are_aligned_by_frame_number_not_by_position() {
    let ranges = [FrameRange::new(Pfn::new(512 * 3), 512 * 13)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let zone: Zone<'_> = memory.zone(layout, ZoneConfig::default()).unwrap();
    let kept: Vec<_> = std::iter::from_fn(|| zone.alloc(order(11)).ok()).collect();
    assert_eq!(kept.iter().map(|b| b.pfn().get() / 512).collect::<Vec<_>>(), [4, 8, 12]);
}

/// What was freed last is what a CPU remembers or has parked.
#[test]
fn a_request_below_a_limit_is_not_served_with_what_was_freed_last_above_it() {
    fn run(zone: &Zone<'_, OneWord<'_>>, _: &common::Heard) {
        let local = zone.local(0);
        for order in Order::all().take(10) {
            let request = Request::new(order).below(Pfn::new(1024));
            let all: Vec<_> = std::iter::from_fn(|| zone.alloc(order).ok()).collect();
            let (low, high): (Vec<_>, Vec<_>) = all.into_iter().partition(|b| b.pfn().get() < 1024);
            drop(low);
            drop(high);
            assert!(zone.alloc_with(request).unwrap().frames().end <= Pfn::new(1024), "{order}");
            let mut all: Vec<_> = std::iter::from_fn(|| local.alloc(order).ok()).collect();
            all.sort_by_key(tailpin::Block::pfn);
            all.into_iter().for_each(|block| local.free(block));
            assert!(local.alloc_with(request).unwrap().frames().end <= Pfn::new(1024), "{order}");
            zone.drain();
        }
    }
    on_one!(OneWord, 2048, run);
}

#[test]
fn bad_shapes_are_refused() {
    assert_eq!(ZoneLayout::new(&[], 1).unwrap_err(), ZoneError::Empty);
    let backwards = [FrameRange::new(Pfn::new(100), 10), FrameRange::new(Pfn::new(105), 10)];
    // The last frame has the last bytes of a 64-bit address space.
    let high = |start: u64| ZoneLayout::new(&[FrameRange::new(Pfn::new(start), 512)], 1).map(|_| ());
    assert_eq!(high((1 << 52) - 512), Ok(()));
    assert!(matches!(high((1 << 52) - 511), Err(ZoneError::BadRange { .. })));
    assert!(
        matches!(ZoneLayout::new(&backwards, 1).unwrap_err(), ZoneError::BadRange { range } if range == backwards[1])
    );
    let good = [FrameRange::new(Pfn::new(0), 512)];
    let layout = ZoneLayout::new(&good, 1).unwrap();
    let few = [const { AtomicU64::new(0) }; 8];
    let error = Zone::<OneWord<'_>>::new(layout, ZoneConfig::default(), &few, &few).err().unwrap();
    assert_eq!(error, ZoneError::TooFewWords { which: "pages", needed: 512, given: 8 });
}

fn exhaustion<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
    let page = zone.alloc(Order::PAGE).unwrap();
    let other = zone.alloc(Order::HUGE).unwrap();
    let error = zone.alloc(Order::HUGE).unwrap_err();
    assert_eq!(error, AllocError::Exhausted { order: Order::HUGE, free_frames: 511, free_pageblocks: 0 });
    assert_eq!(error.to_string(), "no free block of order 9: 511 frames are free, 0 whole 2 MiB pageblocks");
    drop((page, other));
    assert_eq!(std::iter::from_fn(|| zone.alloc(order(9)).ok().map(std::mem::forget)).count(), 2);
}

#[test]
fn exhaustion_says_what_was_asked_and_what_is_left() {
    on_both!(1024, exhaustion);
}

/// Notes what the hooks are told.
#[derive(Default)]
struct Watch {
    published: AtomicU64,
    zeroed: AtomicU64,
    freed: AtomicU64,
    events: Mutex<Vec<(&'static str, Pfn, Order)>>,
}

impl Hooks for Watch {
    fn before_publication(&self, head: Pfn, order: Order, zero: bool) {
        self.published.fetch_add(order.frames(), Ordering::Relaxed);
        self.zeroed.fetch_add(u64::from(zero), Ordering::Relaxed);
        self.events.lock().unwrap().push(("alloc", head, order));
    }

    fn after_last_reference(&self, head: Pfn, order: Order) {
        self.freed.fetch_add(order.frames(), Ordering::Relaxed);
        self.events.lock().unwrap().push(("free", head, order));
    }
}

#[test]
fn hooks_see_both_ends_of_every_life() {
    let watch = Watch::default();
    let ranges = [FrameRange::new(Pfn::new(0), 2048)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let zone: Zone<'_> = memory.zone(layout, ZoneConfig::default().hooks(&watch)).unwrap();
    for o in [0, 3, 9, 10].map(order) {
        drop(zone.alloc(o).unwrap());
        drop(zone.alloc_with(Request::new(o).zeroed()).unwrap());
    }
    drop(zone.alloc_run(700, 1).unwrap());
    let block = zone.alloc(Order::HUGE).unwrap();
    let pin = block.pin(8).unwrap();
    drop(block);
    let freed = || watch.freed.load(Ordering::Relaxed);
    assert_eq!(freed() + 1, watch.published.load(Ordering::Relaxed));
    let last = pin.pfn();
    drop(pin);
    assert_eq!(freed(), watch.published.load(Ordering::Relaxed));
    assert_eq!(watch.zeroed.load(Ordering::Relaxed), 4);
    assert_eq!(watch.events.lock().unwrap().last(), Some(&("free", last, Order::PAGE)));
}

#[test]
fn reclaim_is_asked_below_the_watermark_and_before_failure() {
    #[derive(Default)]
    struct Counts {
        low: AtomicU64,
        empty: AtomicU64,
    }
    impl Hooks for Counts {
        fn reclaim(&self, order: Order, free: u64) -> bool {
            let which = if order == Order::HUGE && free < 512 { &self.empty } else { &self.low };
            which.fetch_add(1, Ordering::Relaxed);
            false
        }
    }
    let counts = Counts::default();
    let ranges = [FrameRange::new(Pfn::new(0), 2048)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let config = ZoneConfig::default().hooks(&counts).low_watermark(1536);
    let zone: Zone<'_> = memory.zone(layout, config).unwrap();
    let first = zone.alloc(Order::HUGE).unwrap();
    assert_eq!(counts.low.load(Ordering::Relaxed), 0, "1,536 frames are not below the mark");
    let second = zone.alloc(Order::HUGE).unwrap();
    assert_eq!(counts.low.load(Ordering::Relaxed), 1);
    let rest = [zone.alloc(Order::HUGE).unwrap(), zone.alloc(Order::HUGE).unwrap()];
    counts.empty.store(0, Ordering::Relaxed);
    assert!(zone.alloc(Order::HUGE).is_err());
    assert_eq!(counts.empty.load(Ordering::Relaxed), 1, "asked once, and believed when it said no");
    drop((first, second, rest));
}

#[test]
fn nodes_fall_back_in_their_own_order() {
    let ranges = [0, 1, 2].map(|node| [FrameRange::new(Pfn::new(node * 0x10_0000), 512)]);
    let memory = ranges.each_ref().map(|r| ZoneMemory::for_layout(&ZoneLayout::new(r, 1).unwrap()));
    let zones: Vec<Zone<'_>> = ranges
        .iter()
        .zip(&memory)
        .map(|(r, memory)| memory.zone(ZoneLayout::new(r, 1).unwrap(), ZoneConfig::default()).unwrap())
        .collect();
    let list: Vec<_> = zones.iter().collect();
    let nodes = Nodes::new(&list, &[&[0, 1, 2], &[1, 2, 0], &[2]]);
    let got: Vec<_> = std::iter::from_fn(|| nodes.alloc(1, Order::HUGE).ok()).collect();
    assert_eq!(got.iter().map(|b| b.pfn().get() >> 20).collect::<Vec<_>>(), [1, 2, 0]);
    assert!(matches!(nodes.alloc(2, Order::PAGE), Err(AllocError::Exhausted { free_frames: 0, .. })));
    assert!(nodes.alloc(9, Order::PAGE).is_err());
    drop(got);
    assert_eq!(nodes.alloc(2, Order::HUGE).unwrap().pfn().get() >> 20, 2);
}

#[test]
fn a_terabyte_starts_without_touching_its_map() {
    // The page words are never read or written here, so a slice of the right length is all that is
    // needed.
    let ranges = [FrameRange::new(Pfn::new(0), 1 << 28)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    assert!(layout.metadata_bytes::<OneWord<'_>>() as f64 / (1u64 << 28) as f64 <= 8.5);
    assert!(layout.allocator_words() * 8 < 80 << 20, "the allocator's own part is under 80 MiB");
}

#[test]
fn order_0_traffic_leaves_whole_areas_whole() {
    fn run(zone: &Zone<'_, OneWord<'_>>, _: &common::Heard) {
        let mut seed = 1u64;
        let mut pages: Vec<_> = (0..40 * 512).map(|_| zone.alloc(Order::PAGE).unwrap()).collect();
        for _ in 0..200_000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let victim = (seed >> 33) as usize % pages.len();
            drop(pages.swap_remove(victim));
            pages.push(zone.alloc(Order::PAGE).unwrap());
        }
        zone.drain();
        assert_eq!(zone.free_pageblocks(), 64 - 40);
    }
    on_one!(OneWord, 64 * 512, run);
}

/// A plain generator, so that a failure can be had again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % sides
    }
}

/// Which frames are used, as a plain table.
struct Table(Vec<bool>);

impl Table {
    fn set(&mut self, block: FrameRange, used: bool) {
        for frame in block.iter() {
            let entry = &mut self.0[frame.get() as usize];
            assert_ne!(*entry, used, "frame {frame} is handed out twice");
            *entry = used;
        }
    }

    fn has_free(&self, order: Order) -> bool {
        self.0.chunks_exact(order.frames() as usize).any(|block| block.iter().all(|used| !used))
    }
}

#[test]
fn a_request_fails_only_if_there_is_no_such_block() {
    fn run<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
        let mut dice = Dice(5);
        let mut failed = 0;
        for round in 0..60 {
            let mut table = Table(vec![false; 4 * 512]);
            let mut held: Vec<tailpin::Block<'_, P>> = Vec::new();
            for _ in 0..2000 {
                // Some rounds are nearly full, some nearly empty.
                if dice.roll(8) < 3 + round % 3 && !held.is_empty() {
                    let block = held.swap_remove(dice.roll(held.len()));
                    table.set(block.frames(), false);
                    drop(block);
                    continue;
                }
                let order = order([0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10][dice.roll(13)]);
                match zone.alloc(order) {
                    Ok(block) => {
                        assert!(block.pfn().is_aligned(order) && block.order() == order);
                        table.set(block.frames(), true);
                        held.push(block);
                    }
                    Err(AllocError::Exhausted { free_frames, .. }) => {
                        assert!(!table.has_free(order), "there is a free block of order {order}");
                        assert_eq!(free_frames, table.0.iter().filter(|used| !**used).count() as u64);
                        failed += 1;
                    }
                }
            }
            let audit = zone.audit();
            assert_eq!(audit.violations(), 0, "{audit}");
            assert_eq!(audit.free, table.0.iter().filter(|used| !**used).count() as u64);
            drop(held);
            zone.drain();
            assert_eq!(zone.free_pageblocks(), 4);
        }
        assert!(failed > 100, "the zone was full often enough to tell: {failed}");
    }
    on_one!(OneWord, 4 * 512, run);
}

#[test]
fn small_blocks_leave_large_runs_alone() {
    fn run<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
        // Holes of 1, 2, 4, ... 256 pages, one of each, between blocks that stay.
        let all: Vec<_> = std::iter::from_fn(|| zone.alloc(Order::PAGE).ok()).collect();
        let (mut holes, mut kept) = (Vec::new(), Vec::new());
        for block in all {
            let hole = Order::all()
                .take(9)
                .any(|o| FrameRange::block(Pfn::new(512 * u64::from(o.get())), o).contains(block.pfn()));
            if hole { holes.push(block) } else { kept.push(block) }
        }
        drop(holes);
        zone.drain();
        for o in Order::all().take(9) {
            let block = zone.alloc(o).unwrap();
            assert_eq!(block.pfn().get(), 512 * u64::from(o.get()), "the hole that just fits is taken");
            kept.push(block);
        }
        assert_eq!(zone.free_frames(), 0);
    }
    on_one!(OneWord, 9 * 512, run);
}

#[test]
fn what_was_freed_counts_as_free_for_the_watermark() {
    struct Never;
    impl Hooks for Never {
        fn reclaim(&self, _: Order, free: u64) -> bool {
            panic!("{free} frames are said to be free")
        }
    }
    let ranges = [FrameRange::new(Pfn::new(0), 1024)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let config = ZoneConfig::default().hooks(&Never).low_watermark(100);
    let zone: Zone<'_> = memory.zone(layout, config).unwrap();
    for _ in 0..10 {
        for size in [0, 3, 9] {
            drop(zone.alloc(order(size)).unwrap());
        }
        let block = zone.alloc(Order::HUGE).unwrap();
        let pin = block.pin(7).unwrap();
        drop(block);
        drop(pin);
        zone.drain();
    }
}

#[test]
fn uncoalesced_pages_are_counted_once_though_two_cpus_lead_to_them() {
    static CPU: AtomicUsize = AtomicUsize::new(0);
    let ranges = [FrameRange::new(Pfn::new(0), 1024)];
    let layout = ZoneLayout::new(&ranges, 2).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let config = ZoneConfig::default().cpu(|| CPU.load(Ordering::Relaxed));
    let zone: Zone<'_> = memory.zone(layout, config).unwrap();
    let page = zone.alloc(Order::PAGE).unwrap();
    assert_eq!(zone.free_frames(), 1023);
    CPU.store(1, Ordering::Relaxed);
    // The first CPU has the row reserved, and this one hints at it.
    drop(page);
    assert_eq!(zone.free_frames(), 1024);
}

#[test]
fn threads_that_share_one_cpu_number_get_different_frames() {
    const FRAMES: u64 = 3 * 512;
    let ranges = [FrameRange::new(Pfn::new(0), FRAMES)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let zone: Zone<'_> = memory.zone(layout, ZoneConfig::default()).unwrap();
    let owners: Vec<_> = (0..FRAMES).map(|_| AtomicU64::new(0)).collect();
    std::thread::scope(|scope| {
        for thread in 1..=4 {
            let (zone, owners) = (&zone, &owners);
            scope.spawn(move || {
                let mut dice = Dice(thread);
                let mut held: Vec<tailpin::Block<'_>> = Vec::new();
                let free = |block: tailpin::Block<'_>| {
                    for frame in block.frames().iter() {
                        assert_eq!(owners[frame.get() as usize].swap(0, Ordering::Relaxed), thread);
                    }
                };
                for _ in 0..60_000 {
                    if dice.roll(2) == 0 && !held.is_empty() {
                        free(held.swap_remove(dice.roll(held.len())));
                        continue;
                    }
                    let wanted = order([0, 0, 0, 0, 1, 3, 5, 6, 8, 9][dice.roll(10)]);
                    if let Ok(block) = zone.alloc(wanted) {
                        for frame in block.frames().iter() {
                            assert_eq!(owners[frame.get() as usize].swap(thread, Ordering::Relaxed), 0);
                        }
                        held.push(block);
                    }
                }
                held.into_iter().for_each(free);
            });
        }
    });
    let audit = zone.audit();
    assert_eq!((audit.violations(), audit.free), (0, FRAMES), "{audit}");
    assert_eq!(zone.free_pageblocks(), 3);
}
