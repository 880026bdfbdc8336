//! A zone as one CPU uses it: blocks are there for all others as well.

use crate::common;

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use common::between::{FRAMES, LockFree, World, on_cpu, with_before};
use common::{OneWord, Random};
use tailpin::{
    Block, FrameRange, Hooks, Order, Pfn, Request, SetAside, Zone, ZoneConfig, ZoneLayout, ZoneMemory,
};

const CPUS: usize = 4;

type TestZone<'z> = Zone<'z, OneWord<'z>>;

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

/// A zone that is asked as CPU 0 where nothing else is said. In the end all of it is free.
fn on_a_zone(pageblocks: u64, test: impl FnOnce(&TestZone<'_>)) {
    let ranges = [FrameRange::new(Pfn::new(0), pageblocks * 512)];
    let layout = ZoneLayout::new(&ranges, CPUS).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let heard = common::Heard::default();
    let zone: TestZone<'_> = memory.zone(layout, ZoneConfig::default().sink(&heard)).unwrap();
    test(&zone);
    let audit = zone.audit();
    assert_eq!((audit.violations(), heard.count()), (0, 0), "{audit}");
    assert_eq!(audit.free + audit.set_aside, pageblocks * 512, "{audit}");
}

#[test]
fn a_block_that_was_freed_is_the_next_one() {
    on_a_zone(2, |zone| {
        let local = zone.local(3);
        for order in (0..10).map(order) {
            let block = local.alloc(order).unwrap();
            let head = block.pfn();
            local.free(block);
            assert_eq!((zone.used_frames(), zone.free_frames()), (0, 1024), "{order}");
            let block = local.alloc(order).unwrap();
            assert_eq!(block.pfn(), head, "{order}");
            local.free(block);
            zone.drain();
        }
    });
}

#[test]
fn the_page_that_was_freed_last_is_none_for_another_request() {
    on_a_zone(2, |zone| {
        let local = zone.local(3);
        let pages = [(); 600].map(|()| local.alloc(Order::PAGE).unwrap());
        let last = pages.iter().map(Block::pfn).max().unwrap();
        assert!(last >= Pfn::new(512));
        for page in pages {
            local.free(page);
        }
        let low = Request::new(Order::PAGE).below(Pfn::new(512));
        assert!(local.alloc_with(low).unwrap().pfn() < Pfn::new(512));
        for order in (1..10).map(order) {
            local.free(local.alloc(Order::PAGE).unwrap());
            let block = local.alloc(order).unwrap();
            assert_eq!((block.order(), zone.used_frames()), (order, order.frames()));
            local.free(block);
        }
        let unsplittable = local.alloc_with(Request::new(Order::PAGE).unsplittable()).unwrap();
        assert!(zone.state(unsplittable.pfn()).unwrap().unsplittable);
    });
}

#[test]
fn what_is_parked_here_is_found_from_everywhere() {
    for wanted in (0..10).map(order) {
        for parked in (1..9).map(order) {
            on_a_zone(1, |zone| {
                let local = zone.local(2);
                let blocks = [(); 2].map(|()| local.alloc(parked).ok());
                blocks.into_iter().flatten().for_each(|block| local.free(block));
                let all: Vec<_> = std::iter::from_fn(|| zone.alloc(wanted).ok()).collect();
                assert_eq!(all.len() as u64, 512 / wanted.frames(), "{wanted} after {parked}");
                // The names that others have left are of no use here, and do no harm.
                assert!(local.alloc(parked).is_err());
                drop(all);
                local.free(local.alloc(parked).unwrap());
            });
        }
    }
}

#[test]
fn frames_that_are_parked_here_are_taken_by_name_and_leave_service() {
    for parked in (1..9).map(order) {
        on_a_zone(1, |zone| {
            let local = zone.local(2);
            for index in [0, parked.frames() - 1] {
                let block = local.alloc(parked).unwrap();
                let (frames, frame) = (block.frames(), block.pfn().offset(index));
                local.free(block);
                drop(zone.alloc_run_at(FrameRange::new(frame, 1)).unwrap());
                let block = local.alloc(parked).unwrap();
                local.free(block);
                assert_eq!((zone.set_aside(frame), zone.restore(frame)), (SetAside::Done, true));
                assert_eq!((zone.used_frames(), zone.free_frames()), (0, 512), "{frames:?}");
            }
        });
    }
}

#[test]
fn more_than_can_be_parked_is_free_too() {
    on_a_zone(64, |zone| {
        let local = zone.local(0);
        for order in (1..9).map(order) {
            let all: Vec<_> = (0..40).map(|_| local.alloc(order).unwrap()).collect();
            all.into_iter().for_each(|block| local.free(block));
            assert_eq!((zone.used_frames(), zone.free_frames()), (0, 64 * 512));
        }
    });
}

#[test]
fn a_second_one_of_a_cpu_works_as_the_first() {
    on_a_zone(8, |zone| {
        assert_eq!(format!("{:?} {:?}", zone.local(3), zone.local(2 + CPUS)), "Local(CPU 3) Local(CPU 2)");
        let (first, second) = (zone.local(1), zone.local(1 + CPUS));
        for order in (0..10).map(order) {
            for (alloc, free) in [(&first, &second), (&second, &first), (&first, &first), (&second, &second)]
            {
                let blocks = [(); 3].map(|()| alloc.alloc(order).unwrap());
                blocks.into_iter().for_each(|block| free.free(block));
                assert_eq!((zone.used_frames(), zone.free_frames()), (0, 8 * 512));
            }
        }
    });
}

/// What is freed here goes the same ways as elsewhere.
#[test]
fn pins_marks_and_misuse_are_seen_where_a_block_is_freed_here() {
    let ranges = [FrameRange::new(Pfn::new(0), 4 * 512)];
    let layout = ZoneLayout::new(&ranges, CPUS).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let heard = common::Heard::default();
    let zone: TestZone<'_> = memory.zone(layout, ZoneConfig::default().sink(&heard)).unwrap();
    let local = zone.local(1);
    for size in 1..11 {
        let block = local.alloc(order(size)).unwrap();
        let pin = block.pin(1).unwrap();
        local.free(block);
        assert_eq!(zone.used_frames(), 1, "{size}");
        drop(pin);
        let block = local.alloc(order(size)).unwrap();
        let frame = block.pfn().offset(1);
        assert_eq!(zone.set_aside(frame), SetAside::WhenFreed);
        local.free(block);
        assert_eq!((zone.used_frames(), zone.set_aside_frames()), (0, 1), "{size}");
        assert!(zone.restore(frame));
        zone.drain();
    }
    assert_eq!((zone.free_pageblocks(), heard.count()), (4, 0));
    // The token's reference is the handle's: given back twice.
    let block = local.alloc(Order::PAGE).unwrap();
    zone.raw().put_many(zone.raw().token(block.pfn()), 1).unwrap();
    local.free(block);
    assert_eq!((heard.count(), zone.set_aside_frames()), (1, 1));
}

#[test]
fn hooks_hear_of_blocks_that_are_freed_here() {
    #[derive(Default)]
    struct Counts(AtomicU64);
    impl Hooks for Counts {
        fn after_last_reference(&self, _: Pfn, order: Order) {
            self.0.fetch_add(order.frames(), Relaxed);
        }
    }
    let counts = Counts::default();
    let ranges = [FrameRange::new(Pfn::new(0), 4 * 512)];
    let layout = ZoneLayout::new(&ranges, CPUS).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let zone: TestZone<'_> = memory.zone(layout, ZoneConfig::default().hooks(&counts)).unwrap();
    let local = zone.local(1);
    for size in 0..11 {
        local.free(local.alloc(order(size)).unwrap());
        assert_eq!(counts.0.swap(0, Relaxed), order(size).frames());
    }
}

#[test]
fn a_block_of_another_zone_goes_back_there() {
    let ranges = [FrameRange::new(Pfn::new(0), 512)];
    let layout = ZoneLayout::new(&ranges, CPUS).unwrap();
    let memories = [(); 2].map(|()| ZoneMemory::for_layout(&layout));
    let zones: [TestZone<'_>; 2] =
        memories.each_ref().map(|memory| memory.zone(layout, ZoneConfig::default()).unwrap());
    let [zone, other] = &zones;
    for order in (0..10).map(order) {
        zone.local(0).free(other.alloc(order).unwrap());
        assert_eq!([zone, other].map(Zone::free_frames), [512, 512]);
        assert_eq!([zone, other].map(|zone| zone.audit().violations()), [0, 0]);
    }
}

/// What another CPU does in the middle of what this one does, from beginning to end.
const OTHERS: [fn(&World); 4] = [
    |world| world.with::<LockFree, _>(|zone| zone.drain()),
    |world| world.with::<LockFree, _>(|zone| drop(zone.alloc(order(9)))),
    |world| world.with::<LockFree, _>(|zone| drop(zone.alloc_run_at(FrameRange::new(Pfn::new(0), 2)))),
    |world| {
        world.with::<LockFree, _>(|zone| {
            if zone.set_aside(Pfn::new(1)) == SetAside::Done {
                assert!(zone.restore(Pfn::new(1)));
            }
        });
    },
];

/// A block is freed and taken, freed and taken; before each access another CPU looks for it.
#[test]
fn nothing_is_lost_if_others_come_in_the_middle() {
    for (size, other) in (0..10).flat_map(|size| OTHERS.map(|other| (size, other))) {
        for k in 0.. {
            let world = World::new::<LockFree>();
            let (here, there) = (Rc::clone(&world), Rc::clone(&world));
            let own_way = move || {
                here.with::<LockFree, _>(|zone| {
                    let local = zone.local(0);
                    for _ in 0..3 {
                        local.free(local.alloc(order(size)).unwrap());
                    }
                });
            };
            let reached = with_before(k, own_way, move || on_cpu(1, || other(&there)));
            world.with::<LockFree, _>(|zone| {
                if zone.set_aside_frames() == 1 {
                    assert!(zone.restore(Pfn::new(1)), "it left service when it was freed");
                }
                let audit = zone.audit();
                assert_eq!((audit.violations(), audit.free), (0, FRAMES), "order {size}, {k}: {audit}");
                assert_eq!(zone.free_pageblocks(), FRAMES / 512, "order {size}, {k}");
            });
            if !reached {
                assert!(k > 15, "order {size}");
                break;
            }
        }
    }
}

fn play(zone: &TestZone<'_>, thread: u64, turns: u64) {
    let mut random = Random::new(thread);
    let mut held: Vec<Block<'_, OneWord<'_>>> = Vec::new();
    for _ in 0..turns / 200 {
        // Threads meet at one CPU, which one of them owns.
        let local = zone.local(random.below(3) as usize);
        for _ in 0..200 {
            let order = common::any_cached_order(&mut random);
            match random.below(20) {
                0..6 => held.extend(local.alloc(order)),
                6..9 => held.extend(zone.alloc(order)),
                9..18 if !held.is_empty() => {
                    let block = held.swap_remove(random.below(held.len() as u64) as usize);
                    if random.below(3) == 0 { drop(block) } else { local.free(block) }
                }
                18 => common::set_aside_and_restore(zone, &mut random, 8 * 512),
                19 if random.below(20) == 0 => zone.drain(),
                _ => held.truncate(10),
            }
        }
    }
}

#[test]
fn nothing_is_lost_where_threads_meet_at_a_cpu() {
    on_a_zone(8, |zone| {
        common::nothing_is_lost(zone, 8 * 512, |thread| play(zone, thread, 20_000));
    });
}
