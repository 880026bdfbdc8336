//! Many threads at once, and the audit at the end.

use crate::common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{HUGE, MIB, PAGE, again, map_count, role};
use tailpin_arena::{Arena, Backing, Pace, Slice};

fn random(seed: &mut u64) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    (*seed >> 11) as usize
}

/// Each byte of a buffer says which buffer it is and where.
fn stamp(buffer: usize, at: usize) -> u8 {
    (buffer * 131 + at / 509) as u8
}

#[test]
fn the_arena_goes_with_whoever_is_last() {
    let name = "the_arena_goes_with_whoever_is_last";
    if role().is_none() {
        assert!(again(name, "alone", |_| {}), "in a process of its own, as it counts mappings");
        return;
    }
    const THREADS: usize = 4;
    let maps = map_count();
    for round in 0..300 {
        // In turn: memory whose end a sanitizer sees, and memory whose end is a fault.
        let builder = Arena::builder();
        let arena = match round % 3 {
            0 => builder.over_memory(vec![0u8; 2 * MIB]).build().unwrap(),
            1 => builder.size(HUGE).build().unwrap(),
            _ => builder.size(HUGE).backing(Backing::Memfd { huge: false }).build().unwrap(),
        };
        let mut hands: Vec<Vec<(usize, usize, Slice)>> = (0..THREADS).map(|_| Vec::new()).collect();
        let mut seed = round as u64 * 77 + 5;
        for number in 0..6 {
            let mut buffer = arena.alloc(1 + random(&mut seed) % (9 * PAGE)).unwrap();
            let len = buffer.len();
            buffer.iter_mut().enumerate().for_each(|(at, byte)| *byte = stamp(number, at));
            let whole = buffer.freeze();
            for _ in 0..16 {
                let (from, to) = (random(&mut seed) % len, random(&mut seed) % len);
                let part = whole.slice(from.min(to)..=from.max(to));
                hands[random(&mut seed) % THREADS].push((number, from.min(to), part));
            }
            hands[random(&mut seed) % THREADS].push((number, 0, whole));
        }
        thread::scope(|scope| {
            for hand in hands {
                scope.spawn(move || {
                    for (number, from, slice) in hand {
                        let again = slice.clone();
                        drop(slice);
                        let right = |(i, byte): (usize, &u8)| *byte == stamp(number, from + i);
                        assert!(again.iter().enumerate().step_by(97).all(right));
                    }
                });
            }
            drop(arena);
        });
    }
    // A thread's stack or two may have stayed; three hundred arenas would be six hundred.
    assert!(map_count() < maps + 60, "{maps} {}", map_count());
}

#[test]
fn slices_go_round_while_memory_goes_back() {
    const THREADS: usize = 4;
    for backing in [Backing::Anonymous, Backing::Memfd { huge: false }] {
        let arena = Arena::builder().size(48 * MIB).backing(backing).build().unwrap();
        let pace = Pace { step: 4 * MIB, interval: Duration::from_millis(1) };
        let releaser = arena.spawn_releaser(pace).unwrap();
        let (numbers, end) = (AtomicUsize::new(0), Instant::now() + Duration::from_millis(1500));
        let ends = (0..THREADS).map(|_| mpsc::channel::<(usize, usize, Slice)>());
        let (senders, receivers): (Vec<_>, Vec<_>) = ends.unzip();
        thread::scope(|scope| {
            for (thread, receiver) in receivers.into_iter().enumerate() {
                let (arena, senders, numbers) = (arena.clone(), senders.clone(), &numbers);
                scope.spawn(move || {
                    let mut seed = 0x9e37 + thread as u64;
                    let mut kept: Vec<(usize, usize, Slice)> = Vec::new();
                    let check = |kept: &(usize, usize, Slice)| {
                        let (number, from, slice) = kept;
                        let right = |(i, byte): (usize, &u8)| *byte == stamp(*number, from + i);
                        assert!(slice.iter().enumerate().step_by(173).all(right));
                    };
                    while Instant::now() < end {
                        let len = match random(&mut seed) % 8 {
                            0 => HUGE,
                            1 => 1 + random(&mut seed) % (MIB / 2),
                            _ => 1 + random(&mut seed) % (8 * PAGE),
                        };
                        if let Ok(mut buffer) = arena.alloc_tagged(len, "stress") {
                            let number = numbers.fetch_add(1, Ordering::Relaxed);
                            buffer.iter_mut().enumerate().for_each(|(at, byte)| *byte = stamp(number, at));
                            let whole = buffer.freeze();
                            for _ in 0..3 {
                                let from = random(&mut seed) % len;
                                let to = (from + 1 + random(&mut seed) % (3 * PAGE)).min(len);
                                let part = whole.slice(from..to);
                                if random(&mut seed) & 1 == 0 {
                                    let other = random(&mut seed) % THREADS;
                                    let _ = senders[other].send((number, from, part.clone()));
                                }
                                kept.push((number, from, part));
                            }
                        }
                        for received in receiver.try_iter().take(8) {
                            check(&received);
                            kept.push(received);
                        }
                        while kept.len() > 300 {
                            let out = kept.swap_remove(random(&mut seed) % kept.len());
                            check(&out);
                        }
                    }
                    drop(senders);
                    kept.iter().for_each(check);
                    receiver.try_iter().for_each(|received| check(&received));
                });
            }
        });
        drop(senders);
        assert!(releaser.stop().unwrap() > 0, "memory went back under way");
        assert_eq!(arena.stats().in_use(), 0);
        let audit = arena.audit();
        assert_eq!(audit.violations(), 0, "{audit}");
        assert!(arena.alloc(32 * MIB).is_ok());
    }
}

#[test]
fn looking_disturbs_nobody() {
    let arena = Arena::builder().size(16 * MIB).build().unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..2 {
            let (arena, stop) = (arena.clone(), &stop);
            scope.spawn(move || {
                let mut seed = 99 + thread;
                let mut kept = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let len = 1 + random(&mut seed) % MIB;
                    if let Ok(buffer) = arena.alloc(len) {
                        let whole = buffer.freeze();
                        // No other thread has it, whichever may be looking.
                        let whole = whole.try_into_unique().expect("this thread's alone").freeze();
                        kept.push(whole.slice(len / 2..));
                    }
                    if kept.len() > 20 {
                        kept.swap_remove(random(&mut seed) % kept.len());
                    }
                }
            });
        }
        let end = Instant::now() + Duration::from_millis(700);
        while Instant::now() < end {
            let stats = arena.stats();
            let sum = stats.in_use() + stats.free + stats.given_back + stats.set_aside;
            assert_eq!(sum, stats.size, "it adds up at any moment");
            assert!(arena.worst_holders(3).len() <= 3);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(arena.stats().in_use(), 0);
    assert_eq!(arena.audit().violations(), 0);
}
