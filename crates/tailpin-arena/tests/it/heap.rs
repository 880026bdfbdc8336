//! Arenas over memory of the program's allocator: all that other arenas do but for what the system
//! has a part in, which is refused by name. Off Linux this is what an arena is.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tailpin_arena::{
    Ability, AllocError, Arena, Backing, BuildError, HugeSize, PAGE_SIZE as PAGE, Pace, Policy, Reason,
    ReleaseBy, ReleaseError, Slice,
};

const MIB: usize = 1 << 20;

fn heap() -> tailpin_arena::Builder {
    Arena::builder().backing(Backing::Heap)
}

#[test]
fn it_is_the_default_where_the_system_is_not_linux() {
    let on_linux = cfg!(all(target_os = "linux", not(tailpin_portable)));
    let default = if on_linux { Backing::Anonymous } else { Backing::Heap };
    assert_eq!(Backing::default(), default);
    assert_eq!(Arena::builder().size(MIB).build().unwrap().backing(), default);
    if !on_linux {
        let files = [Backing::Memfd { huge: false }, Backing::Memfd { huge: true }];
        for backing in [Backing::Anonymous, Backing::HugeTlb(HugeSize::Mib2)].into_iter().chain(files) {
            let refused = Arena::builder().size(MIB).backing(backing).build().unwrap_err();
            assert_eq!(refused, BuildError::Refused(Reason::OnlyOnLinux), "{backing}");
        }
    }
}

#[test]
fn blocks_of_all_sizes_are_aligned_and_the_whole_arena_is_one() {
    for mib in [1, 2, 6, 64] {
        let arena = heap().size(mib * MIB).build().unwrap();
        let size = mib.next_multiple_of(2) * MIB;
        assert_eq!((arena.size(), arena.base().addr().get() % (2 * MIB)), (size, 0));
        for order in 0..=(size / PAGE).ilog2() {
            let bytes = PAGE << order;
            let mut buffer = arena.alloc(bytes).unwrap();
            assert_eq!(buffer.as_ptr().addr() % bytes, 0, "{bytes}");
            buffer[bytes - 1] = 7;
        }
        assert_eq!(arena.in_use(), 0);
        assert_eq!(arena.audit().violations(), 0);
    }
}

#[test]
fn a_slice_keeps_its_pages_and_all_others_are_free() {
    let arena = heap().size(16 * MIB).build().unwrap();
    let mut buffer = arena.alloc_tagged(2 * MIB + 1, "segment").unwrap();
    assert!(buffer.iter().all(|byte| *byte == 0), "fresh memory of the heap is zero");
    buffer[5000..9000].fill(7);
    let whole = buffer.freeze();
    let part = whole.slice(5000..9000);
    drop(whole);
    assert_eq!((part.retained_bytes(), arena.in_use()), (2 * PAGE, 2 * PAGE));
    assert_eq!(arena.worst_holders(1)[0].tag.as_deref(), Some("segment"));
    assert!(part.age() < Duration::from_secs(3600));
    assert!(Slice::of(&part[10..20]).is_some());
    let kept = part.keep(Policy::default());
    assert!(kept.iter().all(|byte| *byte == 7));
    let stats = arena.stats();
    assert_eq!(stats.size, stats.in_use() + stats.free + stats.given_back + stats.set_aside);
    drop(kept);
    assert_eq!(arena.audit().violations(), 0);
}

#[test]
fn nothing_goes_back_and_each_way_to_ask_says_so() {
    let arena = heap().size(16 * MIB).release_above(0).release_by(ReleaseBy::Drops).build().unwrap();
    assert_eq!(arena.resident(), 0);
    let mut buffer = arena.alloc(6 * MIB).unwrap();
    let refused = Err(ReleaseError::Refused(Reason::OfTheHeap));
    assert_eq!(buffer.discard(0..MIB), refused);
    buffer.fill(1);
    drop(buffer);
    assert_eq!(arena.resident(), 8 * MIB, "what was handed out stays: a block of 8 MiB");
    assert_eq!((arena.release(usize::MAX), arena.poll_release()), (refused, None));
    assert_eq!(arena.spawn_releaser(Pace::default()).err(), refused.err());
    assert_eq!(arena.resident(), 8 * MIB);
    assert_eq!(arena.counters().released, 0);
    let _registered = arena.registered().unwrap();

    let abilities = arena.abilities();
    let no = Ability::No(Reason::OfTheHeap);
    assert_eq!((abilities.huge_now, abilities.give_back_4k, abilities.give_back_huge), (no, no, no));
    assert_eq!((abilities.share, abilities.register), (Ability::No(Reason::Private), Ability::Yes));
    let outside = if cfg!(all(target_os = "linux", not(tailpin_portable))) {
        Ability::Yes
    } else {
        Ability::No(Reason::OnlyOnLinux)
    };
    assert_eq!(abilities.look, outside);
    for reason in [Reason::OfTheHeap, Reason::OnlyOnLinux] {
        assert!(reason.to_string().len() > 20);
    }
}

#[test]
fn what_the_heap_has_not_or_cannot_is_an_error_of_the_builder() {
    let refused = BuildError::Refused(Reason::OfTheHeap);
    assert_eq!(heap().size(MIB).lock(true).build().unwrap_err(), refused);
    let refused = BuildError::Refused(Reason::CallersMemory);
    assert_eq!(Arena::builder().over_memory(vec![0; MIB]).lock(true).build().unwrap_err(), refused);
    for bytes in [0, usize::MAX, isize::MAX as usize] {
        assert_eq!(heap().size(bytes).build().unwrap_err(), BuildError::BadSize { bytes });
    }
    // More than the address space of a process, so that no allocator has it.
    let bytes = 1 << 48;
    assert!(matches!(heap().size(bytes).build(), Err(BuildError::OutOfMemory { .. } | BuildError::Zone(_))));
    let over = heap().size(MIB).over_memory(vec![0; MIB]).build().unwrap_err();
    assert_eq!(over, BuildError::NoMemoryGiven);
}

#[test]
fn the_size_follows_the_limit() {
    let size = |limit| heap().limit(limit).build().unwrap().size();
    assert_eq!((size(8 * MIB), size(PAGE), size(3 * MIB)), (32 * MIB, 2 * MIB, 12 * MIB));
    assert_eq!(heap().build().unwrap().size(), 512 * MIB);
    let populated = heap().size(4 * MIB).populate(true).build().unwrap();
    assert_eq!(populated.resident(), 4 * MIB);
}

#[test]
fn a_cache_of_pieces_goes_round_in_the_memory_that_it_has() {
    let arena = heap().size(4 * MIB).limit(4 * MIB).build().unwrap();
    let mut kept: Vec<Slice> = Vec::new();
    for round in 0..200 {
        let mut read = arena.try_alloc_scattered(256 << 10, 64 << 10).unwrap();
        read.fill_from(&mut std::io::repeat(round as u8)).unwrap();
        let read = read.freeze();
        let piece = read.contiguous((64 << 10)..(128 << 10)).unwrap();
        if kept.len() == 48 {
            kept.swap_remove(round * 7 % 48);
        }
        kept.push(piece);
    }
    assert_eq!(arena.in_use(), 48 * (64 << 10));
    assert!(arena.resident() <= arena.size());
    assert_eq!(arena.counters().refused, 0);
    drop(kept);
    assert_eq!((arena.in_use(), arena.audit().violations()), (0, 0));
}

#[test]
fn a_request_beyond_the_limit_waits_for_a_drop_of_another_thread() {
    let arena = heap().limit(2 * MIB).build().unwrap();
    let all = arena.alloc(2 * MIB).unwrap().freeze();
    assert!(matches!(arena.try_alloc(1), Err(AllocError::OverLimit { .. })));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| arena.alloc(PAGE).unwrap().len());
        while arena.counters().waiting == 0 {
            thread::yield_now();
        }
        drop(all);
        assert_eq!(waiting.join().unwrap(), PAGE);
    });
}

/// Each byte says whose it is; the memory is there until the last slice goes, in whichever thread.
#[test]
fn threads_cut_and_drop_and_the_memory_goes_with_the_last() {
    for round in 0..20_u8 {
        let arena = heap().size(64 * MIB).build().unwrap();
        let hands = Arc::new(Mutex::new(Vec::new()));
        thread::scope(|scope| {
            for thread in 0..4_u8 {
                let (arena, hands) = (&arena, Arc::clone(&hands));
                scope.spawn(move || {
                    for i in 0..40_u8 {
                        let stamp = round ^ thread << 5 ^ i;
                        let mut buffer = arena.alloc(1 + usize::from(i) * 1777).unwrap();
                        buffer.fill(stamp);
                        let whole = buffer.freeze();
                        let middle = whole.len() / 2;
                        hands.lock().unwrap().push((stamp, whole.slice(middle..)));
                        if i % 3 == 0 {
                            let taken = hands.lock().unwrap().pop().unwrap();
                            assert!(taken.1.iter().all(|byte| *byte == taken.0));
                        }
                    }
                });
            }
        });
        assert_eq!(arena.audit().violations(), 0);
        drop(arena);
        for (stamp, part) in hands.lock().unwrap().drain(..) {
            assert!(part.iter().all(|byte| *byte == stamp));
        }
    }
}
