//! Small copies that share pages.

use crate::common;

use std::collections::VecDeque;
use std::thread;

use common::{HUGE, MIB, PAGE, again, map_count, off_linux, role};
use tailpin_arena::{AllocError, Arena, Backing, Kept, Policy, Slice};

fn cpus() -> usize {
    thread::available_parallelism().map_or(1, usize::from).next_power_of_two()
}

fn content(stamp: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (stamp * 7 + at) as u8).collect()
}

/// Nothing but the pages that are being filled is in use.
fn is_empty(arena: &Arena) {
    assert!(arena.in_use() <= cpus() * PAGE, "{}", arena.in_use());
    assert_eq!(arena.audit().violations(), 0);
}

#[test]
fn copies_of_all_lengths_are_what_was_copied() {
    let arena = Arena::builder().size(16 * MIB).build().unwrap();
    let mut kept = Vec::new();
    for len in [0, 1, 7, 8, 9, 200, 1023, 1024, 1025, PAGE, PAGE + 1, 100_000] {
        for stamp in 0..20 {
            let content = content(stamp, len);
            let copy = arena.copy(&content).unwrap();
            assert_eq!(copy[..], content);
            // A copy of the copy, which may be beside it.
            assert_eq!(arena.copy(&copy).unwrap(), copy);
            kept.push((content, copy));
        }
    }
    assert!(kept.iter().all(|(content, copy)| copy[..] == content[..]));
    // A part of a copy, and one by its address.
    let (content, copy) = &kept[5 * 20];
    assert_eq!(copy.slice(10..50)[..], content[10..50]);
    assert_eq!(Slice::of(&copy[10..50]).unwrap()[..], content[10..50]);
    let copy = copy.clone().try_into_unique().unwrap_err();
    drop((kept, copy));
    is_empty(&arena);
}

#[test]
fn short_ones_share_pages() {
    let arena = Arena::builder().size(16 * MIB).build().unwrap();
    let copies: Vec<Slice> = (0..2000).map(|stamp| arena.copy(&content(stamp, 200)).unwrap()).collect();
    // Twenty to a page, and a page for each CPU that is not full.
    assert!(arena.in_use() <= (2000 / 20 + cpus()) * PAGE, "{}", arena.in_use());
    assert!(copies.iter().enumerate().all(|(stamp, copy)| copy[..] == content(stamp, 200)));
    drop(copies);
    is_empty(&arena);
}

#[test]
fn copies_count_against_the_limit() {
    let arena = Arena::builder().size(16 * MIB).limit(16 * PAGE).build().unwrap();
    let all = arena.reserve(16 * PAGE).unwrap();
    let waits = arena.clone();
    let thread = thread::spawn(move || waits.copy(&content(1, 100)).unwrap()[..] == content(1, 100));
    while arena.waiting() == 0 {
        thread::yield_now();
    }
    drop(all);
    assert!(thread.join().unwrap());
    is_empty(&arena);
}

#[test]
fn what_is_kept_is_a_slice_either_way() {
    let arena = Arena::builder().size(16 * MIB).build().unwrap();
    let whole = arena.alloc_zeroed(MIB).unwrap().freeze();
    let small = arena.keep(whole.slice(5..205), Policy::default()).unwrap();
    let large = arena.keep(whole.slice(8192..100_000), Policy::default()).unwrap();
    assert_ne!(small.as_ptr(), whole[5..].as_ptr());
    assert_eq!(large.as_ptr(), whole[8192..].as_ptr());
    for (below, copied) in [(199, false), (200, false), (201, true)] {
        let (policy, part) = (Policy::CopyBelow(below), whole.slice(5..205));
        assert_eq!(arena.keep(part.clone(), policy).unwrap().as_ptr() != part.as_ptr(), copied, "{below}");
        assert_eq!(matches!(part.keep(policy), Kept::Copied(_)), copied, "{below}");
    }
    drop(whole);
    assert!(arena.in_use() <= large.footprint() + cpus() * PAGE);
    drop((small, large));
    is_empty(&arena);
}

#[test]
fn threads_that_copy_and_drop_at_once() {
    let arena = Arena::builder().size(64 * MIB).build().unwrap();
    let (send, receive) = std::sync::mpsc::channel::<(usize, usize, Slice)>();
    thread::scope(|scope| {
        for thread in 0..4_usize {
            let (arena, send) = (&arena, send.clone());
            scope.spawn(move || {
                let mut kept = VecDeque::new();
                for round in 0..20_000_usize {
                    let (stamp, len) = (round * 4 + thread, 1 + (round * 31 + thread) % 900);
                    let copy = arena.copy(&content(stamp, len)).unwrap();
                    if round % 5 == 0 {
                        send.send((stamp, len, copy)).unwrap();
                    } else {
                        kept.push_back((stamp, len, copy));
                    }
                    if kept.len() > 50 {
                        let (stamp, len, copy) = kept.remove(round % 50).unwrap();
                        assert_eq!(copy[..], content(stamp, len));
                    }
                }
            });
        }
        drop(send);
        // Dropped on another thread than that which made it.
        scope.spawn(move || {
            receive.iter().for_each(|(stamp, len, copy)| assert_eq!(copy[..], content(stamp, len)));
        });
    });
    is_empty(&arena);
}

#[test]
fn pages_that_are_being_filled_do_not_keep_the_arena() {
    if off_linux("pages_that_are_being_filled_do_not_keep_the_arena") {
        return;
    }
    let name = "pages_that_are_being_filled_do_not_keep_the_arena";
    if role().is_none() {
        assert!(again(name, "alone", |_| {}), "in a process of its own, as it counts mappings");
        return;
    }
    let maps = map_count();
    for round in 0..100 {
        let arena = Arena::builder().size(HUGE).on_leak(|report| panic!("{report}")).build().unwrap();
        let copy = arena.copy(&content(round, 100)).unwrap();
        if round % 2 == 0 {
            drop(copy);
            drop(arena);
        } else {
            // The copy alone keeps it; what is left is no leak that was not told, so tell nothing.
            drop(copy.clone());
            drop(copy);
            drop(arena);
        }
        let quiet = Arena::builder().size(HUGE).build().unwrap();
        let copy = quiet.copy(&content(round, 100)).unwrap();
        drop(quiet);
        assert_eq!(copy[..], content(round, 100));
    }
    assert!(map_count() < maps + 40, "{maps} {}", map_count());
}

#[test]
fn a_forked_child_without_the_memory_copies_nothing() {
    if off_linux("a_forked_child_without_the_memory_copies_nothing") {
        return;
    }
    let name = "a_forked_child_without_the_memory_copies_nothing";
    if role().is_none() {
        assert!(again(name, "alone", |_| {}), "it forks");
        return;
    }
    let arena = Arena::builder().size(HUGE).backing(Backing::Memfd { huge: false }).build().unwrap();
    let copy = arena.copy(b"before").unwrap();
    // SAFETY: this process has one thread that matters; the child only asks, drops and exits.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            let refused = arena.copy(b"in the child").map(drop) == Err(AllocError::ForkedChild);
            drop((copy, arena));
            libc::_exit(i32::from(!refused));
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        assert_eq!(status, 0);
    }
    assert_eq!(copy[..], *b"before");
    assert_eq!(arena.copy(b"after").unwrap()[..], *b"after");
}
