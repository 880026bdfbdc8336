//! What the zone says of itself is true: its counts, and that nothing is left.
//!
//! Before each access that an operation makes to shared memory another one runs from beginning to
//! end. While the first stands still, what the counts say is free can be had; and when both are
//! done the counts are what was handed out, without a drain.

use std::cell::Cell;
use std::rc::Rc;

use crate::common::between::{CPU, FRAMES, LockFree, Locked, Tested, World, on_cpu, order, with_before};
use tailpin::{
    FrameMask, FrameRange, OneWord, Order, Pfn, Protocol, Request, SetAside, Zone, ZoneConfig, ZoneLayout,
    ZoneMemory,
};
use tailpin_classic::Classic;

/// The counts of a zone in which nothing is under way.
fn counts_are_true<T: Tested>(world: &World, what: &str) {
    let held: u64 = world.kept.borrow().iter().map(|block| block.order().frames()).sum();
    let counts = (held, FRAMES - held);
    world.with::<T, _>(|zone| {
        assert_eq!((zone.used_frames(), zone.free_frames()), counts, "{what}");
        let audit = zone.audit();
        assert_eq!((audit.violations(), audit.free), (0, FRAMES - held), "{what}: {audit}");
        assert_eq!((zone.used_frames(), zone.free_frames()), counts, "after the audit, {what}");
        let rest: Vec<_> = std::iter::from_fn(|| zone.alloc(Order::PAGE).ok()).collect();
        assert_eq!(rest.len() as u64, FRAMES - held, "{what}");
    });
}

type Step = (&'static str, fn(&World));

/// Each of `steps` before each access of each other, at the same CPU cache and at another.
fn two_at_once<T: Tested + 'static>(before: fn(&World), steps: &[Step]) {
    for (first, act) in steps {
        for (second, then) in steps {
            for cpu in [0, 1] {
                let at = |k| {
                    let world = World::new::<T>();
                    before(&world);
                    let (other, then) = (Rc::clone(&world), *then);
                    let reached = with_before(k, || act(&world), move || on_cpu(cpu, || then(&other)));
                    let what = format!("{first}, before access {k} at CPU cache {cpu}: {second}");
                    counts_are_true::<T>(&world, &what);
                    reached
                };
                assert!((0..).take_while(|k| at(*k)).count() > 0);
            }
        }
    }
}

fn steps<T: Tested>() -> Vec<Step> {
    vec![
        ("a page is taken", |w| w.take::<T>(&[0])),
        ("a page is given back", |w| w.give::<T>()),
        ("many pages", |w| w.with::<T, _>(|zone| drop(zone.alloc_many(Request::new(Order::PAGE), 3).next()))),
        ("all is gathered", |w| w.with::<T, _>(|zone| zone.drain())),
        ("frames are claimed", |w| {
            w.with::<T, _>(|zone| drop(zone.claim(Pfn::new(0), &FrameMask::from_words([0x5555 << 40; 8]))))
        }),
    ]
}

/// Pages of two rows are uncoalesced, one of which a CPU cache has reserved, and some more are in
/// use.
fn pages_about<T: Tested>(world: &World) {
    world.take::<T>(&[5, 4, 3, 0, 0, 0, 0, 0, 0, 0]);
    on_cpu(1, || (0..3).for_each(|_| world.give::<T>()));
    world.take::<T>(&[6, 0]);
    on_cpu(1, || {
        world.take::<T>(&[0]);
        world.give::<T>();
    });
}

#[test]
fn counts_are_true_after_any_two_operations() {
    two_at_once::<LockFree>(pages_about::<LockFree>, &steps::<LockFree>());
    two_at_once::<Locked>(pages_about::<Locked>, &steps::<Locked>());
}

/// No CPU cache has the row reserved, a hint leads to it, and more of its pages are noted than are
/// uncoalesced.
fn pages_hinted_at<T: Tested>(world: &World) {
    world.take::<T>(&[5, 4, 3, 0, 0, 0, 0, 0, 0, 0, 0]);
    world.with::<T, _>(|zone| zone.drain());
    on_cpu(1, || (0..3).for_each(|_| world.give::<T>()));
}

#[test]
fn counts_are_true_after_any_two_operations_where_only_a_hint_leads() {
    two_at_once::<LockFree>(pages_hinted_at::<LockFree>, &steps::<LockFree>());
}

#[test]
fn counts_are_true_after_any_two_operations_on_blocks() {
    type T = LockFree;
    let steps: [Step; 5] = [
        ("2 MiB are taken", |w| w.take::<T>(&[9])),
        ("2 MiB are given back", |w| w.give::<T>()),
        ("256 KiB are taken", |w| w.take::<T>(&[6])),
        ("16 KiB are taken and given back", |w| {
            w.take::<T>(&[2]);
            w.give::<T>();
        }),
        ("all is gathered", |w| w.with::<T, _>(|zone| zone.drain())),
    ];
    fn before(w: &World) {
        w.take::<T>(&[3, 9, 9]);
        w.give::<T>();
    }
    two_at_once::<T>(before, &steps);
}

/// While `act` stands still before an access, what is free by the counts can be had.
fn what_is_free_can_be_had<T: Tested + 'static>(before: fn(&World), act: fn(&World)) {
    let at = |k| {
        let world = World::new::<T>();
        before(&world);
        let (other, looked) = (Rc::clone(&world), Rc::new(Cell::new(false)));
        let looking = Rc::clone(&looked);
        let look = move || {
            looking.set(true);
            other.with::<T, _>(|zone| {
                let huge = zone.free_pageblocks() == 0 || zone.alloc(Order::HUGE).is_ok();
                assert!(huge, "2 MiB are free before access {k}");
                let page = zone.free_frames() == 0 || zone.alloc(Order::PAGE).is_ok();
                assert!(page, "a page is free before access {k}");
            });
        };
        with_before(k, || act(&world), move || on_cpu(1, look));
        if looked.get() {
            counts_are_true::<T>(&world, &format!("after a look before access {k}"));
        }
        looked.get()
    };
    assert!((0..).take_while(|k| at(*k)).count() > 0);
}

#[test]
fn exhausted_means_that_the_counts_say_so() {
    type T = LockFree;
    // The last free pageblock comes back to the pool.
    what_is_free_can_be_had::<T>(
        |w| {
            w.take::<T>(&[9, 9, 9, 9]);
            w.give::<T>();
        },
        |w| w.with::<T, _>(|zone| zone.drain()),
    );
    // It is taken and comes back.
    what_is_free_can_be_had::<T>(
        |w| w.take::<T>(&[9, 9, 9]),
        |w| {
            w.take::<T>(&[9]);
            w.give::<T>();
        },
    );
    // Pages come back one by one.
    what_is_free_can_be_had::<T>(
        |w| w.take::<T>(&[9, 9, 9, 8, 7, 6, 5, 0]),
        |w| {
            w.give::<T>();
            w.with::<T, _>(|zone| zone.drain());
        },
    );
}

/// Two pages are free, both uncoalesced, with a hint to them: whatever the first request is in the
/// middle of, the second is served.
#[test]
fn a_request_is_served_while_another_has_taken_the_hint() {
    type T = LockFree;
    type Act = fn(&World);
    let requests: [Act; 2] = [
        |w| w.take::<T>(&[0]),
        |w| {
            w.with::<T, _>(|zone| {
                let block = zone.alloc_many(Request::new(Order::PAGE), 1).next();
                let block = block.map(|block| block.into_raw());
                w.kept.borrow_mut().extend(block);
            })
        },
    ];
    for act in requests {
        let at = |k| {
            let world = World::new::<T>();
            world.take::<T>(&[9, 9, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0]);
            world.with::<T, _>(|zone| zone.drain());
            on_cpu(1, || (0..2).for_each(|_| world.give::<T>()));
            let (other, served) = (Rc::clone(&world), Rc::new(Cell::new(None)));
            let serving = Rc::clone(&served);
            let request = move || {
                let block = other.with::<T, _>(|zone| zone.raw().alloc(Request::new(Order::PAGE)));
                serving.set(Some(block.is_ok()));
                other.kept.borrow_mut().extend(block);
            };
            with_before(k, || act(&world), move || on_cpu(1, request));
            assert_ne!(served.get(), Some(false), "before access {k} of a request, another was refused");
            counts_are_true::<T>(&world, &format!("two requests, the second before access {k}"));
            served.get().is_some()
        };
        assert!((0..).take_while(|k| at(*k)).count() > 0);
    }
}

/// Pages that an iterator has at hand beyond what it was asked for are there for others.
#[test]
fn many_at_once_keep_from_others_only_what_they_hand_out() {
    fn run<P: Protocol>(zone: &Zone<'_, P>, _: &crate::common::Heard) {
        let free = |zone: &Zone<'_, P>| zone.free_frames();
        let mut from_store = zone.alloc_many(Request::new(Order::PAGE), 4);
        let first = from_store.next().unwrap();
        assert_eq!(free(zone), 512 - 4);
        let others: Vec<_> = zone.alloc_many(Request::new(Order::PAGE), 600).collect();
        assert_eq!(others.len(), 512 - 4);
        assert_eq!(from_store.by_ref().count(), 3);
        drop((first, others, from_store));
        let mut uncoalesced = zone.alloc_many(Request::new(Order::PAGE), 2);
        let first = uncoalesced.next().unwrap();
        let others: Vec<_> = std::iter::from_fn(|| zone.alloc(Order::PAGE).ok()).collect();
        assert!(others.len() >= 512 - 2, "{} pages", others.len());
        drop((first, others, uncoalesced));
        assert_eq!((zone.audit().violations(), free(zone)), (0, 512));
    }
    on_both!(512, run);
}

/// Two CPU caches that have one row reserved, after one that has none.
fn two_slots_for_one_group<P: Protocol>(zone: &Zone<'_, P>) {
    CPU.set(1);
    let mut held: Vec<_> = (0..80).map(|_| zone.alloc(Order::PAGE).unwrap()).collect();
    CPU.set(2);
    for i in [70, 69, 68, 67] {
        drop(held.remove(i));
    }
    CPU.set(3);
    held.push(zone.alloc(Order::PAGE).unwrap());
    assert_eq!((zone.used_frames(), zone.free_frames()), (77, 512 - 77));
    zone.drain();
    assert_eq!((zone.used_frames(), zone.free_frames()), (77, 512 - 77));
    CPU.set(0);
}

#[test]
fn a_group_that_two_slots_answer_for_is_counted_once() {
    let ranges = [FrameRange::new(Pfn::new(0), 512)];
    let layout = ZoneLayout::new(&ranges, 4).unwrap();
    let config = ZoneConfig::default().cpu(|| CPU.get());
    let memory = ZoneMemory::for_protocol::<OneWord<'_>>(&layout);
    two_slots_for_one_group(&memory.zone_with_protocol::<OneWord<'_>>(layout, config).unwrap());
    let memory = ZoneMemory::for_protocol::<Classic<'_>>(&layout);
    two_slots_for_one_group(&memory.zone_with_protocol::<Classic<'_>>(layout, config).unwrap());
}

/// A plain model: what is held, claimed and set aside.
#[test]
fn counts_follow_a_model_through_random_operations() {
    const PAGEBLOCKS: u64 = 3;
    for seed in 1..40u64 {
        let ranges = [FrameRange::new(Pfn::new(0), PAGEBLOCKS * 512)];
        let layout = ZoneLayout::new(&ranges, 4).unwrap();
        let memory = ZoneMemory::for_layout(&layout);
        let zone: Zone<'_> = memory.zone(layout, ZoneConfig::default().cpu(|| CPU.get())).unwrap();
        let (mut blocks, mut claimed, mut gone, mut state) = (Vec::new(), Vec::new(), 0u64, seed);
        let mut random = |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        for step in 0..400 {
            CPU.set(random(4) as usize);
            match random(12) {
                0..=3 => blocks.extend(zone.alloc(order([0, 0, 0, 1, 3, 6, 9][random(7) as usize]))),
                4..=6 if !blocks.is_empty() => {
                    drop(blocks.swap_remove(random(blocks.len() as u64) as usize));
                }
                7 => blocks.extend(zone.alloc_many(Request::new(Order::PAGE), random(90) as usize)),
                8 => {
                    let half = blocks.len() / 2;
                    zone.drop_many(blocks.drain(..half));
                }
                9 => {
                    let wanted = [(); 8].map(|()| random(1 << 31) << 33 | random(1 << 31));
                    let wanted = FrameMask::from_words(wanted);
                    claimed.push(zone.claim(Pfn::new(512 * random(PAGEBLOCKS)), &wanted));
                }
                10 if !claimed.is_empty() => drop(claimed.swap_remove(0)),
                11 if gone < 20 => {
                    let frame = Pfn::new(random(PAGEBLOCKS * 512));
                    let is_claimed = claimed.iter().any(|claimed| {
                        let bit = frame.get().wrapping_sub(claimed.pageblock().get());
                        claimed.frames().contains(bit)
                    });
                    // Only what is free, so that the model knows what becomes of it.
                    if zone.head_of(frame).is_none() && !is_claimed {
                        gone += u64::from(zone.set_aside(frame) == SetAside::Done);
                    }
                }
                _ => {}
            }
            let held: u64 = blocks.iter().map(|block| block.order().frames()).sum();
            let taken: u64 = claimed.iter().map(|claimed| claimed.count()).sum();
            assert_eq!(zone.set_aside_frames(), gone, "seed {seed} step {step}");
            assert_eq!(zone.free_frames(), PAGEBLOCKS * 512 - held - taken - gone, "seed {seed} step {step}");
            assert_eq!(zone.used_frames(), held + taken, "seed {seed} step {step}");
        }
        drop((blocks, claimed));
        let audit = zone.audit();
        assert_eq!((audit.violations(), audit.free), (0, PAGEBLOCKS * 512 - gone), "seed {seed}: {audit}");
    }
    CPU.set(0);
}
