//! Memory follows use without a call, for every length and way of dropping.

use crate::common;

use std::thread;
use std::time::{Duration, Instant};

use common::{HUGE, MIB, PAGE, smaps};
use tailpin_arena::{Arena, Backing, Builder, ReleaseBy, Slice};

const ABOVE: usize = 4 * MIB;

fn builder() -> Builder {
    Arena::builder().size(512 * MIB).release_above(ABOVE)
}

/// What may be resident at most.
fn bound(arena: &Arena) -> usize {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    arena.in_use() + ABOVE + HUGE + cpus * MIB / 2
}

/// By the arena's own account and by the kernel's.
fn follows(arena: &Arena, what: &str) {
    let (resident, bound) = (arena.resident(), bound(arena));
    assert!(resident <= bound, "{what}: {resident} of {bound}, {} in use", arena.in_use());
    let rss = smaps("Rss", arena.base().as_ptr() as usize, arena.size()) * 1024;
    assert!(rss <= bound, "{what}: the kernel says {rss} of {bound}, {} in use", arena.in_use());
    // A thread of the arena's own may be giving memory back at this moment.
    let adds_up = || arena.stats().in_use() + arena.stats().free == arena.resident();
    let begun = Instant::now();
    while !adds_up() && begun.elapsed() < Duration::from_secs(10) {
        thread::yield_now();
    }
    let stats = arena.stats();
    assert_eq!(stats.in_use() + stats.free, arena.resident(), "{what}");
}

/// In a process of its own, as the kernel says of a mapping what is a neighbour's too.
fn alone(name: &str) -> bool {
    if common::role().is_some() {
        return true;
    }
    assert!(common::again(name, "alone", |_| {}));
    false
}

fn filled(arena: &Arena, len: usize) -> Slice {
    let mut buffer = arena.alloc(len).unwrap();
    buffer.fill(1);
    buffer.freeze()
}

#[test]
fn what_is_resident_follows_what_is_in_use() {
    if !alone("what_is_resident_follows_what_is_in_use") {
        return;
    }
    type Way = (&'static str, fn(&Arena, usize));
    let ways: [Way; 5] = [
        ("whole", |arena, len| drop(filled(arena, len))),
        ("a slice stays a while", |arena, len| {
            let whole = filled(arena, len);
            let part = whole.slice(len / 2..len / 2 + 1);
            drop(whole);
            drop(part);
        }),
        ("page by page", |arena, len| {
            let whole = filled(arena, len);
            let pages: Vec<Slice> =
                (0..len).step_by(PAGE).map(|at| whole.slice(at..len.min(at + PAGE))).collect();
            drop(whole);
            pages.into_iter().rev().step_by(2).for_each(drop);
        }),
        ("shorter and shorter", |arena, len| {
            let mut buffer = arena.alloc(len).unwrap();
            buffer.fill(1);
            while buffer.len() > 1 {
                buffer.truncate(buffer.len() / 3);
            }
        }),
        ("in pieces", |arena, len| {
            let mut buffer = arena.alloc_scattered(len, 4 * PAGE).unwrap();
            buffer.fill_from(&mut std::io::repeat(1)).unwrap();
            let all = buffer.freeze();
            let part = all.slice(len / 2..);
            drop(all);
            drop(part);
        }),
    ];
    for (way, run) in ways {
        let arena = builder().build().unwrap();
        for len in [1, PAGE + 1, MIB, MIB + 1, HUGE - 1, HUGE, HUGE + 1, 3 * MIB, 7 * MIB + 5, 33 * MIB] {
            for round in 0..40 * MIB / (len + MIB) {
                run(&arena, len);
                if round % 8 == 0 {
                    follows(&arena, &format!("{way}, {len}"));
                }
            }
            follows(&arena, &format!("{way}, {len}"));
        }
        assert_eq!((arena.in_use(), arena.audit().violations()), (0, 0));
    }
}

#[test]
fn a_page_kept_of_each_buffer_is_all_that_stays() {
    if !alone("a_page_kept_of_each_buffer_is_all_that_stays") {
        return;
    }
    let arena = builder().build().unwrap();
    let mut kept = Vec::new();
    for round in 0..100 {
        kept.push(filled(&arena, HUGE).slice(7 * PAGE..8 * PAGE));
        if round % 10 == 9 {
            follows(&arena, "kept");
        }
    }
    assert_eq!(arena.in_use(), 100 * PAGE);
    assert!(kept.iter().all(|slice| slice.iter().all(|byte| *byte == 1)));
    drop(kept);
    assert_eq!(arena.audit().violations(), 0);
}

#[test]
fn threads_that_drop_at_once_keep_up() {
    if !alone("threads_that_drop_at_once_keep_up") {
        return;
    }
    for by in [ReleaseBy::Drops, ReleaseBy::Thread] {
        let arena = builder().release_by(by).build().unwrap();
        thread::scope(|scope| {
            for thread in 0..3_usize {
                let arena = &arena;
                scope.spawn(move || {
                    let mut kept = Vec::new();
                    for round in 0..60_usize {
                        let len = (1 + (round * 7 + thread) % 13) * MIB / 3;
                        let whole = filled(arena, len);
                        kept.push(whole.slice(len / 2..len / 2 + PAGE));
                        if kept.len() > 10 {
                            kept.remove(round % 10);
                        }
                    }
                });
            }
        });
        // A thread that found another one at it has left it to that one.
        drop(filled(&arena, HUGE));
        let begun = Instant::now();
        while arena.resident() > bound(&arena) && begun.elapsed() < Duration::from_secs(60) {
            drop(filled(&arena, HUGE));
            thread::yield_now();
        }
        follows(&arena, &format!("{by:?}"));
        assert_eq!((arena.in_use(), arena.audit().violations()), (0, 0));
    }
}

#[test]
fn the_arenas_thread_does_not_keep_it() {
    if !alone("the_arenas_thread_does_not_keep_it") {
        return;
    }
    let maps = common::map_count();
    let tasks = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = tasks();
    for _ in 0..20 {
        let arena = builder().release_by(ReleaseBy::Thread).build().unwrap();
        drop(filled(&arena, 16 * MIB));
    }
    let begun = Instant::now();
    while tasks() > before && begun.elapsed() < Duration::from_secs(60) {
        thread::yield_now();
    }
    assert_eq!(tasks(), before);
    assert!(common::map_count() < maps + 20);
}

#[test]
fn a_poll_does_what_is_due_and_nothing_else() {
    let arena = builder().release_by(ReleaseBy::Poll).build().unwrap();
    assert!(arena.poll_release().is_none());
    let part = filled(&arena, 32 * MIB).slice(0..1);
    assert!(arena.resident() >= 32 * MIB, "no drop did it");
    let released = arena.poll_release().unwrap().unwrap();
    assert!(released.returned >= 26 * MIB, "{released}");
    assert!(arena.poll_release().is_none());
    assert!(arena.resident() <= bound(&arena));
    drop(part);
    // What is not to go is not tried again and again.
    let registered = arena.registered().unwrap();
    drop(filled(&arena, 32 * MIB));
    assert!(arena.poll_release().unwrap().is_err());
    assert!(arena.poll_release().is_none());
    drop(registered);
}

#[test]
fn what_was_taken_at_once_stays() {
    let populated = Arena::builder().size(64 * MIB).populate(true).release_above(0).build().unwrap();
    drop(filled(&populated, 48 * MIB));
    assert_eq!((populated.resident(), populated.poll_release()), (64 * MIB, None));
    let plain = Arena::builder().over_memory(vec![0; 4 * MIB]).release_above(0).build().unwrap();
    drop(filled(&plain, MIB));
    assert_eq!(plain.poll_release(), None);
    let file = builder().backing(Backing::Memfd { huge: false }).build().unwrap();
    drop(filled(&file, 32 * MIB));
    assert!(file.resident() <= bound(&file), "a file's memory goes by holes");
}
