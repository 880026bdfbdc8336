//! Two threads of one process act through the same reference at once, and the process dies under
//! both: each may be at any place.

use super::super::operation::Operation;
use super::super::{OwnerId, SharedArena};
use super::deaths::{BYTES, did, order, pages};
use super::{assert_clean, doomed, stops};
use tailpin::{Order, Pfn};

/// What the two threads do to a block of 8 pages; `&self` lets any two of these meet.
type Acts = fn(Pfn) -> Operation;
const ACTS: &[(&str, Acts)] = &[
    ("split to pages", |head| Operation::Split(head, order(3), order(0))),
    ("split to halves", |head| Operation::Split(head, order(3), order(2))),
    ("one more reference", |head| Operation::Get(head, order(3))),
    ("pins", |head| Operation::Pin(pages(head, 2, 3))),
    ("drop of another pin", |head| Operation::Unpin(pages(head, 5, 1))),
];

/// A process with one reference to a block, and a pin within.
fn one_reference(arena: &SharedArena) -> (SharedArena, Pfn) {
    let doomed = doomed(arena);
    let head = did(&doomed, Operation::Alloc(order(3)));
    did(&doomed, Operation::Pin(pages(head, 5, 1)));
    (doomed, head)
}

/// As thread `thread` of a process; whether it died.
fn act(process: &SharedArena, thread: usize, operation: Operation, at: u32) -> bool {
    let index = process.me().index;
    stops(at, || _ = process.0.operate_for(index, thread, operation).unwrap())
}

fn recover(arena: &SharedArena, dead: OwnerId, what: &str) {
    let recovered = arena.recover(dead).unwrap();
    assert_eq!(recovered.ambiguous, 0, "{what}");
    assert_clean(arena, what);
}

#[test]
fn death_of_two_threads_at_one_reference() {
    let arena = SharedArena::create(BYTES, 4).unwrap();
    let mut deaths = 0;
    for (first_name, first) in ACTS {
        for (second_name, second) in ACTS {
            'first: for at in (0..).step_by(3) {
                for then in (0..).step_by(5) {
                    let (process, head) = one_reference(&arena);
                    let what = format!("{first_name} up to {at}, then {second_name} up to {then}");
                    let died = act(&process, 0, first(head), at);
                    // A pin is dropped once.
                    let again = matches!(second(head), Operation::Unpin(_)) && first_name == second_name;
                    let died_again = !again && act(&process, 1, second(head), then);
                    deaths += u32::from(died && died_again);
                    recover(&arena, process.me(), &what);
                    if !died {
                        break 'first;
                    }
                    if !died_again {
                        break;
                    }
                }
            }
        }
    }
    assert!(deaths > 1000, "{deaths}");
}

/// Pins come by tokens too, from any process that has one: a merge, which has the only reference,
/// meets these alone.
#[test]
fn death_in_a_merge_and_in_a_pin_within() {
    let arena = SharedArena::create(BYTES, 4).unwrap();
    let mut deaths = 0;
    for merge_first in [true, false] {
        'first: for at in (0..).step_by(2) {
            for then in (0..).step_by(3) {
                let (process, head) = one_reference(&arena);
                did(&process, Operation::Split(head, order(3), order(1)));
                let what = format!("merge first: {merge_first}, up to {at}, then up to {then}");
                let merge = Operation::Merge(head, order(3));
                let pin = Operation::Pin(pages(head, 2, 1));
                let (first, second) = if merge_first { (merge, pin) } else { (pin, merge) };
                let died = act(&process, 0, first, at);
                let index = process.me().index;
                // A page whose block is being merged may be refused.
                let died_again = stops(then, || _ = process.0.operate_for(index, 1, second));
                deaths += u32::from(died && died_again);
                recover(&arena, process.me(), &what);
                if !died {
                    break 'first;
                }
                if !died_again {
                    break;
                }
            }
        }
    }
    assert!(deaths > 200, "{deaths}");
}

/// Threads at work through one reference for real, as the handles let them.
#[test]
fn threads_at_one_reference() {
    const ROUNDS: usize = 400;
    let arena = SharedArena::create(BYTES, 2).unwrap();
    for round in 0..60 {
        let mut buffer = arena.alloc(16 * 4096).unwrap();
        buffer.fill(7);
        let block = buffer.freeze();
        let slice = block.slice(5 * 4096..6 * 4096).unwrap();
        std::thread::scope(|scope| {
            for first in 0..3 {
                let (block, slice) = (&block, &slice);
                scope.spawn(move || {
                    for turn in 0..ROUNDS {
                        match (first + turn) % 5 {
                            0 => block.split_to(order([3, 2, 1, 0][turn % 4])).unwrap(),
                            1 => drop(block.try_clone().unwrap()),
                            2 => assert_eq!(block.slice(turn..turn + 9).unwrap()[..], [7; 9]),
                            3 => assert_eq!(slice.try_clone().unwrap()[..], [7; 4096]),
                            _ => assert!(block[..].iter().step_by(4096).all(|byte| *byte == 7)),
                        }
                    }
                });
            }
        });
        assert_eq!(slice.block().1, Order::PAGE);
        drop(block);
        assert_eq!(arena.free_bytes(), (BYTES - 4096) as u64, "round {round}");
        // All that is free goes to others, and the slice stands.
        let others: Vec<_> = std::iter::from_fn(|| arena.alloc(4096).ok())
            .map(|mut buffer| {
                buffer.fill(0xee);
                buffer
            })
            .collect();
        assert_eq!((others.len(), &slice[..]), (BYTES / 4096 - 1, &[7; 4096][..]), "round {round}");
        drop((others, slice));
        assert_clean(&arena, &format!("round {round}"));
    }
}

/// One has the handle for itself while it merges; others pin and unpin within all the time.
#[test]
fn merges_among_pins_of_others() {
    let arena = SharedArena::create(BYTES, 2).unwrap();
    for round in 0..60 {
        let mut buffer = arena.alloc(16 * 4096).unwrap();
        buffer.fill(7);
        let block = std::sync::Mutex::new(buffer.freeze());
        let slices: Vec<_> =
            [0, 5, 15].map(|page| block.lock().unwrap().slice(page * 4096..page * 4096 + 9).unwrap()).into();
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let (block, slices, arena) = (&block, &slices, &arena);
                scope.spawn(move || {
                    for turn in 0..300 {
                        let mut block = block.lock().unwrap();
                        match (thread + turn) % 3 {
                            0 => block.split_to(order([3, 2, 1, 0][turn % 4])).unwrap(),
                            1 => block.merge().unwrap(),
                            _ => {
                                let second = block.try_clone().unwrap();
                                assert!(block.merge().is_err(), "there is another reference");
                                drop(second);
                            }
                        }
                        drop(block);
                        // Refused, it may be, while the next one merges.
                        if let Ok(adopted) = arena.adopt(slices[turn % 3].token()) {
                            assert_eq!(adopted[..], [7; 9]);
                        }
                    }
                });
            }
        });
        drop(block);
        assert_eq!(arena.free_bytes(), (BYTES - 3 * 4096) as u64, "round {round}");
        drop(slices);
        assert_clean(&arena, &format!("round {round}"));
    }
}
