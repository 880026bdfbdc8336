//! Threads with slots of their own, and more threads than slots.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::sync::{Barrier, Mutex};
use std::thread;

use crate::common::{HUGE, MIB, PAGE, again, role};
use tailpin_arena::{Arena, Buffer, Slice};

/// More threads than an arena has slots of either kind.
fn many() -> usize {
    thread::available_parallelism().map_or(1, usize::from).next_power_of_two() * 5
}

/// Nothing is in use, and all of it can be had at once: no slot keeps any of it.
fn all_can_be_had(arena: &Arena, bytes: usize) {
    assert_eq!(arena.in_use(), 0);
    assert_eq!(arena.audit().violations(), 0);
    drop(arena.try_alloc(bytes).unwrap());
}

#[test]
fn threads_come_and_go_and_nothing_is_lost() {
    let arena = Arena::builder().size(32 * MIB).limit(32 * MIB).build().unwrap();
    let kept: Mutex<VecDeque<Slice>> = Mutex::default();
    for round in 0..3 {
        let start = Barrier::new(many());
        thread::scope(|scope| {
            for number in 0..many() {
                let (arena, kept, start) = (&arena, &kept, &start);
                scope.spawn(move || {
                    start.wait();
                    for turn in 0..300 {
                        let stamp = (round * 31 + number * 7 + turn) as u8;
                        let len = [1, PAGE, 3 * PAGE, 16 * PAGE][turn % 4];
                        let mut buffer = arena.alloc(len).unwrap();
                        buffer.fill(stamp);
                        let whole = buffer.freeze();
                        let part = whole.slice(len / 2..);
                        drop(whole);
                        assert!(part.iter().all(|byte| *byte == stamp));
                        // Some outlive their thread, and are dropped by another one.
                        let mut kept = kept.lock().unwrap();
                        if turn % 3 == 0 {
                            kept.push_back(part);
                        }
                        let old = if kept.len() > 100 { kept.pop_front() } else { None };
                        drop(kept);
                        assert!(old.is_none_or(|old| old.iter().all(|byte| *byte == old[0])));
                    }
                });
            }
        });
    }
    drop(kept);
    all_can_be_had(&arena, 32 * MIB);
}

#[test]
fn what_the_slot_of_a_thread_has_another_one_finds_at_the_limit() {
    let arena = Arena::builder().size(16 * MIB).limit(4 * MIB).build().unwrap();
    let (freed, wait) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            let buffers: Vec<Buffer> = (0..100).map(|_| arena.alloc(PAGE).unwrap()).collect();
            drop(buffers);
            freed.wait();
            // It is there, and does nothing.
            wait.wait();
            // What it does at its slot from here on is counted as exactly.
            drop(arena.alloc(PAGE).unwrap());
        });
        freed.wait();
        let all = arena.try_alloc(4 * MIB).unwrap();
        assert!(arena.try_alloc(1).is_err());
        assert_eq!(arena.in_use(), 4 * MIB);
        drop(all);
        wait.wait();
    });
    all_can_be_had(&arena, 4 * MIB);
}

#[test]
fn pages_freed_at_any_slot_end_a_wait() {
    let arena = Arena::builder().size(16 * MIB).limit(64 * PAGE).build().unwrap();
    let (send, receive) = mpsc::channel::<Buffer>();
    let receive = Mutex::new(receive);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let next = receive.lock().unwrap().recv();
                    let Ok(buffer) = next else { break };
                    drop(buffer);
                }
            });
        }
        for _ in 0..2 {
            let (arena, send) = (&arena, send.clone());
            scope.spawn(move || {
                for turn in 0..2000 {
                    // Waits whenever what is on its way to the others is too much.
                    send.send(arena.alloc(PAGE * (1 + turn % 20)).unwrap()).unwrap();
                }
            });
        }
        drop(send);
    });
    all_can_be_had(&arena, 64 * PAGE);
}

#[test]
fn arenas_go_while_threads_that_used_them_live() {
    let (send, receive) = mpsc::channel::<Arena>();
    let (back, returned) = mpsc::channel::<Slice>();
    let user = thread::spawn(move || {
        for arena in receive {
            let buffer = arena.alloc(3 * PAGE).unwrap();
            drop(arena.alloc(PAGE).unwrap());
            back.send(buffer.freeze().slice(PAGE..PAGE + 10)).unwrap();
        }
    });
    for round in 0..200 {
        let arena = Arena::builder().size(HUGE).build().unwrap();
        send.send(arena.clone()).unwrap();
        let last = returned.recv().unwrap();
        // The handle and the last page go in either order, each by another thread than took it.
        if round % 2 == 0 {
            drop(arena);
            drop(last);
        } else {
            drop(last);
            drop(arena);
        }
    }
    drop(send);
    user.join().unwrap();
}

#[test]
fn a_forked_child_finds_what_threads_of_its_parent_had() {
    let name = "a_forked_child_finds_what_threads_of_its_parent_had";
    if role().is_none() {
        assert!(again(name, "alone", |_| {}), "it forks");
        return;
    }
    let arena = Arena::builder().size(8 * MIB).limit(8 * MIB).build().unwrap();
    let (ready, wait) = (Barrier::new(3), Barrier::new(3));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let some: Vec<Buffer> = (0..50).map(|_| arena.alloc(PAGE).unwrap()).collect();
                drop(some);
                ready.wait();
                wait.wait();
            });
        }
        ready.wait();
        drop(arena.alloc(PAGE).unwrap());
        // SAFETY: the child asks the arena, which takes no lock that another thread may have, and
        // exits.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                let all = arena.try_alloc(8 * MIB);
                let refused = arena.try_alloc(1).is_err();
                let good = all.is_ok() && refused;
                drop(all);
                libc::_exit(i32::from(!(good && arena.try_alloc(8 * MIB).is_ok())));
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            assert_eq!(status, 0);
        }
        wait.wait();
    });
    all_can_be_had(&arena, 8 * MIB);
}
