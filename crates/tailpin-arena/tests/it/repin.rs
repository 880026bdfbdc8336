//! Slices of bytes that went through code which knows nothing of arenas.

use crate::common;

use std::sync::{Arc, Barrier};
use std::thread;

use bytes::Bytes;
use common::{HUGE, MIB, PAGE, again, role};
use tailpin_arena::bytes::{detach, detach_with};
use tailpin_arena::{Arena, Backing, Buffer, Kept, Policy, Slice};

fn arena() -> Arena {
    Arena::builder().size(64 * MIB).build().unwrap()
}

fn filled(arena: &Arena, len: usize) -> Buffer {
    let mut buffer = arena.alloc(len).unwrap();
    buffer.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at / 7) as u8);
    buffer
}

fn is_empty(arena: &Arena) {
    assert_eq!(arena.in_use(), 0);
    assert_eq!(arena.audit().violations(), 0);
}

#[test]
fn what_was_cut_by_foreign_code_keeps_its_own_pages_alone() {
    let arena = arena();
    for len in [PAGE, 3 * PAGE + 5, 16 * PAGE, MIB + 1, HUGE, HUGE + PAGE] {
        let whole = filled(&arena, len).freeze();
        let bytes = Bytes::from(whole.clone());
        for (from, to) in [(0, len), (1, 2), (len - 1, len), (len / 3, len / 2 + 1), (0, PAGE)] {
            let cut = bytes.slice(from..to);
            let slice = Slice::of(&cut).unwrap();
            assert_eq!((&slice[..], slice.as_ptr()), (&whole[from..to], cut.as_ptr()));
            assert_eq!(slice.footprint(), Slice::footprint_of(&cut));
        }
        let kept = Slice::of(&bytes.slice(len / 2..len / 2 + 1)).unwrap();
        let byte = whole[len / 2];
        drop((whole, bytes));
        assert_eq!((arena.in_use(), kept[0]), (PAGE, byte));
        // Again, where pins alone keep the page.
        let again = Slice::of(&kept).unwrap();
        drop(kept);
        assert_eq!((arena.in_use(), again[0]), (PAGE, byte));
        drop(again);
        is_empty(&arena);
    }
}

#[test]
fn what_can_be_written_to_again_is_not_pinned() {
    let arena = arena();
    // Of a shared buffer its owner gets the bytes back for writing when the `Bytes` is gone.
    let buffer = Arc::new(filled(&arena, 3 * PAGE));
    struct Shared(Arc<Buffer>);
    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let bytes = Bytes::from_owner(Shared(Arc::clone(&buffer)));
    for cut in [0..1, 0..3 * PAGE, 2 * PAGE..2 * PAGE + 1] {
        assert!(Slice::of(&bytes[cut.clone()]).is_none());
        let copy = detach_with(&bytes.slice(cut.clone()), Policy::CopyBelow(0));
        assert_eq!(copy, bytes[cut]);
        assert_ne!(copy.as_ptr(), bytes.as_ptr());
    }
    drop(bytes);
    let mut buffer = Arc::try_unwrap(buffer).unwrap();
    buffer[0] = 1;
    // Frozen it is pinned, and once it is a buffer again it is not.
    let slice = buffer.freeze();
    assert!(Slice::of(&slice[PAGE..]).is_some());
    let mut buffer = slice.try_into_unique().unwrap();
    assert!(Slice::of(&buffer).is_none());
    buffer[0] = 2;
    drop(buffer);
    is_empty(&arena);
}

/// A block that begins where a frozen one began in an earlier life is not taken for frozen.
#[test]
fn notes_of_an_earlier_life_are_not_believed() {
    let arena = Arena::builder().size(HUGE).build().unwrap();
    for round in 0..64_usize {
        // Every page begins a frozen block.
        let pages: Vec<Slice> = (0..512).map(|_| arena.alloc(PAGE).unwrap().freeze()).collect();
        assert!(pages.iter().all(|page| Slice::of(page).is_some()));
        drop(pages);
        let mut buffer = arena.alloc(HUGE).unwrap();
        buffer.truncate(PAGE * (1 + round * 7 % 511));
        buffer.truncate(buffer.len() / 2 + 1);
        assert!(buffer.chunks(PAGE).all(|page| Slice::of(page).is_none()), "{round}");
        let odd = arena.alloc(PAGE * (1 + round)).unwrap();
        assert!(odd.chunks(PAGE).all(|page| Slice::of(page).is_none()), "{round}");
        let odd = odd.freeze();
        assert!(odd.chunks(PAGE).all(|page| Slice::of(page).is_some()), "{round}");
    }
    is_empty(&arena);
}

#[test]
fn foreign_bytes_are_copied() {
    let arena = arena();
    let foreign = Bytes::from(vec![7; 100_000]);
    assert!(Slice::of(&foreign).is_none());
    assert_eq!(Slice::footprint_of(&foreign), 100_000);
    let copy = detach(&foreign);
    assert!(copy == foreign && copy.as_ptr() != foreign.as_ptr());
    assert!(Slice::of(&[]).is_none());
    assert!(detach(&Bytes::new()).is_empty());
    // Where an arena was is no arena.
    let place = {
        let other = Arena::builder().size(HUGE).build().unwrap();
        let slice = other.alloc(PAGE).unwrap().freeze();
        assert!(Slice::of(&slice).is_some());
        other.base()
    };
    // SAFETY: a new mapping at that place, if nothing is there by now; read within its length.
    let bytes = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let at = libc::mmap(place.as_ptr().cast(), PAGE, access, flags, -1, 0);
        (at != libc::MAP_FAILED).then(|| std::slice::from_raw_parts(at.cast::<u8>(), PAGE))
    };
    assert!(bytes.is_none_or(|bytes| Slice::of(bytes).is_none()));
    is_empty(&arena);
}

#[test]
fn small_bytes_are_copied_and_large_ones_pinned() {
    let arena = arena();
    let whole = Bytes::from(filled(&arena, MIB).freeze());
    let at = |bytes: &Bytes| Slice::of(bytes).is_some();
    assert!(!at(&detach(&whole.slice(0..8191))) && at(&detach(&whole.slice(0..8192))));
    assert!(at(&detach_with(&whole.slice(5..6), Policy::CopyBelow(0))));
    assert_eq!(detach(&whole.slice(100..9000)), whole.slice(100..9000));
    let slice = Slice::of(&whole).unwrap();
    let kept = |policy| Bytes::from(slice.slice(0..5000).keep(policy));
    assert!(at(&kept(Policy::CopyBelow(0))) && !at(&kept(Policy::CopyBelow(6000))));
    assert!(matches!(slice.slice(0..10).keep(Policy::default()), Kept::Copied(_)));
    drop((whole, slice));
    is_empty(&arena);
}

#[test]
fn a_pin_beside_the_last_drops_of_all_others() {
    let arena = arena();
    for round in 0..400_usize {
        let whole = Bytes::from(filled(&arena, 64 << 10).freeze());
        let begin = Barrier::new(3);
        let cuts: Vec<Bytes> = (0..3).map(|i| whole.slice(i * PAGE..(i + 2 + round % 9) * PAGE)).collect();
        let copies: Vec<Vec<u8>> = cuts.iter().map(|cut| cut.to_vec()).collect();
        drop(whole);
        let kept: Vec<Bytes> = thread::scope(|scope| {
            let threads: Vec<_> = cuts
                .into_iter()
                .map(|cut| {
                    let begin = &begin;
                    scope.spawn(move || {
                        begin.wait();
                        let kept = detach_with(&cut, Policy::CopyBelow(0));
                        drop(cut); // one of these drops is the last of the whole
                        kept
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(kept.iter().zip(&copies).all(|(kept, copy)| kept == copy));
        assert!(kept.iter().all(|kept| Slice::of(kept).is_some()), "none was copied");
        assert_eq!(arena.in_use(), (2 + 2 + round % 9) * PAGE);
        drop(kept);
        assert_eq!(arena.in_use(), 0);
    }
    is_empty(&arena);
}

#[test]
fn arenas_come_and_go_beside_threads_that_pin() {
    thread::scope(|scope| {
        for thread in 0..3_usize {
            scope.spawn(move || {
                for round in 0..200 {
                    let backing =
                        if round % 2 == 0 { Backing::Anonymous } else { Backing::Memfd { huge: false } };
                    let arena = Arena::builder().size(HUGE).backing(backing).build().unwrap();
                    let bytes = Bytes::from(filled(&arena, 5 * PAGE).freeze());
                    let kept = Slice::of(&bytes[PAGE + thread..2 * PAGE]).unwrap();
                    drop((bytes, arena));
                    assert_eq!(kept[0], ((PAGE + thread) / 7) as u8);
                    assert!(Slice::of(&kept).is_some());
                }
            });
        }
    });
}

#[test]
fn a_forked_child_without_the_memory_pins_nothing() {
    let name = "a_forked_child_without_the_memory_pins_nothing";
    if role().is_none() {
        assert!(again(name, "alone", |_| {}), "it forks");
        return;
    }
    let arena = Arena::builder().size(HUGE).backing(Backing::Memfd { huge: false }).build().unwrap();
    let slice = filled(&arena, PAGE).freeze();
    let bytes = Bytes::from(slice.clone());
    // SAFETY: this process has one thread that matters; the child only looks and exits.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            // Its address is looked at, not its bytes, which are not there.
            libc::_exit(i32::from(Slice::of(&bytes).is_some()));
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        assert_eq!(status, 0);
    }
    assert!(Slice::of(&slice).is_some());
}
