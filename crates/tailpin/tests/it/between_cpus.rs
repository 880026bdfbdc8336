//! What another CPU does in the middle of a request takes nothing from it, and nothing is lost.

use std::cell::Cell;
use std::rc::Rc;

use crate::common::between::{FRAMES, LockFree, Locked, Tested, World, on_cpu, order, with_before};
use tailpin::{FrameRange, Pfn, RunRequest};

/// Something that leaves all frames as free as it found them; false if it was refused.
type Deed = (&'static str, fn(&World) -> bool);

/// What is in use before, and where what is free was left.
type State = (&'static str, fn(&World));

const NAMED: &str = "frames that are named";

fn come_and_go<T: Tested>(world: &World, orders: &[u8]) -> bool {
    world.with::<T, _>(|zone| {
        let blocks: Vec<_> = orders.iter().map_while(|wanted| zone.alloc(order(*wanted)).ok()).collect();
        blocks.len() == orders.len()
    })
}

fn deeds<T: Tested>() -> [Deed; 6] {
    [
        ("a page", |world| come_and_go::<T>(world, &[0])),
        ("a block of two and one of eight", |world| come_and_go::<T>(world, &[1, 3])),
        ("a pageblock", |world| come_and_go::<T>(world, &[9])),
        ("a run", |world| {
            world
                .with::<T, _>(|zone| zone.alloc_run_with(RunRequest::new(20).below(Pfn::new(FRAMES))).is_ok())
        }),
        (NAMED, |world| {
            let range = FrameRange::new(Pfn::new(FRAMES - 10), 10);
            world.with::<T, _>(|zone| zone.alloc_run_at(range).is_ok())
        }),
        ("a drain", |world| {
            world.with::<T, _>(|zone| zone.drain());
            true
        }),
    ]
}

fn states<T: Tested>() -> [State; 5] {
    fn fill<T: Tested>(world: &World, size: u8, n: usize, given: [usize; 2]) {
        world.take::<T>(&[9, 9, 9, 8, 7]);
        world.take::<T>(&vec![size; n]);
        for (cpu, n) in given.into_iter().enumerate() {
            on_cpu(cpu, || (0..n).for_each(|_| world.give::<T>()));
        }
    }
    [
        ("two rows of the pool", |world| fill::<T>(world, 0, 0, [0, 0])),
        ("pages at both CPUs", |world| fill::<T>(world, 0, 128, [2, 30])),
        ("parked blocks at both CPUs", |world| fill::<T>(world, 3, 16, [1, 15])),
        ("a pageblock", |world| {
            world.take::<T>(&[9, 9, 9, 9]);
            on_cpu(1, || world.give::<T>());
        }),
        ("a sparse pageblock", |world| {
            world.take::<T>(&[9, 9, 9, 0, 1, 0, 3, 0]);
            on_cpu(1, || world.give::<T>());
            world.give::<T>();
        }),
    ]
}

fn pairs<T: Tested + 'static>() {
    for (state, prepare) in states::<T>() {
        for (name, deed) in deeds::<T>() {
            let alone = {
                let world = World::new::<T>();
                prepare(&world);
                deed(&world)
            };
            // At a CPU of its own, and at the same one.
            let others = deeds::<T>().into_iter().flat_map(|deed| [1, 0].map(|cpu| (deed, cpu)));
            for ((other_name, other), cpu) in others {
                // All of the first accesses, fewer of the later ones.
                for k in std::iter::successors(Some(0), |k| Some(k + 1 + k / 10)) {
                    let world = World::new::<T>();
                    prepare(&world);
                    let free = world.with::<T, _>(|zone| zone.free_frames());
                    let (there, done) = (Rc::clone(&world), Cell::new(false));
                    let reached = with_before(
                        k,
                        || done.set(deed(&world)),
                        move || {
                            on_cpu(cpu, || other(&there));
                        },
                    );
                    let what = format!("{state}: {name}, {other_name} at CPU {cpu} before access {k}");
                    // Named frames are not waited for: one that is on its way refuses them.
                    assert!(done.get() == alone || name == NAMED, "{what}");
                    let check = |free: u64| {
                        world.with::<T, _>(|zone| {
                            assert_eq!(zone.free_frames(), free, "{what}");
                            let audit = zone.audit();
                            assert_eq!((audit.violations(), audit.free), (0, free), "{what}: {audit}");
                        });
                    };
                    check(free);
                    while !world.kept.borrow().is_empty() {
                        world.give::<T>();
                    }
                    check(FRAMES);
                    assert_eq!(world.with::<T, _>(|zone| zone.free_pageblocks()), FRAMES / 512, "{what}");
                    if !reached {
                        break;
                    }
                }
            }
        }
    }
}

#[test]
fn a_request_is_served_whatever_another_cpu_takes_and_gives_back_in_its_middle() {
    pairs::<LockFree>();
}

#[test]
fn so_it_is_with_the_classic_protocol() {
    pairs::<Locked>();
}
