//! Bytes are compared, ordered and hashed as bytes; and bytes of the arena or of the heap are one
//! type.

use std::collections::{BTreeSet, HashSet};

use tailpin_arena::{Arena, EitherBuffer, Kept, Policy, Scattered, Slice};

use crate::common::{MIB, PAGE};

fn slice(arena: &Arena, bytes: &[u8]) -> Slice {
    let mut buffer = arena.alloc(bytes.len()).unwrap();
    buffer.copy_from_slice(bytes);
    buffer.freeze()
}

#[test]
fn bytes_are_the_same_whatever_keeps_them() {
    let arena = Arena::builder().size(4 * MIB).build().unwrap();
    let abc = slice(&arena, b"abc");
    let kept = [Kept::from(abc.clone()), abc.clone().keep(Policy::default())];
    assert!(matches!(kept, [Kept::Pinned(_), Kept::Copied(_)]));
    assert_eq!(kept[0], kept[1]);
    assert_eq!((&abc, &kept[1]), (&slice(&arena, b"abc"), &kept[0]));
    assert!(abc == *b"abc" && abc == b"abc" && abc == b"abc"[..] && abc == vec![97, 98, 99]);
    assert!(kept[0] == b"abc" && vec![97, 98, 99] == kept[1] && abc != b"abd");
    assert!(abc < slice(&arena, b"abd") && kept[0] < Kept::from(slice(&arena, b"b")));

    let hashed: HashSet<Slice> = [abc.clone(), abc.slice(..2)].into();
    let ordered: BTreeSet<Kept> = kept.into();
    assert!(hashed.contains(&b"abc"[..]) && hashed.contains(&b"ab"[..]) && !hashed.contains(&b"c"[..]));
    assert!(ordered.contains(&b"abc"[..]) && ordered.len() == 1);
}

#[test]
fn pieces_are_compared_across_their_cuts() {
    let arena = Arena::builder().size(4 * MIB).build().unwrap();
    let bytes: Vec<u8> = (0..5 * PAGE).map(|at| (at % 253) as u8).collect();
    let scattered = |piece| -> Scattered {
        let mut buffer = arena.alloc_scattered(bytes.len(), piece).unwrap();
        buffer.fill_from(&mut &bytes[..]).unwrap();
        buffer.freeze()
    };
    let (small, large) = (scattered(PAGE), scattered(4 * PAGE));
    assert!(small == large && small.slice(1..) == large.slice(1..));
    assert!(small.slice(1..) != large.slice(..5 * PAGE - 1) && small.slice(..7) != large.slice(..8));
}

#[test]
fn the_heap_takes_what_the_arena_cannot() {
    let arena = Arena::builder().size(4 * MIB).limit(MIB).build().unwrap();
    let mut all: Vec<EitherBuffer> = (0..4).map(|_| arena.alloc_or_heap(MIB / 2)).collect();
    assert_eq!(all.iter().map(EitherBuffer::is_on_heap).collect::<Vec<_>>(), [false, false, true, true]);
    assert_eq!((arena.counters().on_heap, arena.counters().refused, arena.in_use()), (2, 2, MIB));
    for (i, buffer) in all.iter_mut().enumerate() {
        buffer.fill(i as u8);
        buffer.truncate(PAGE + i);
        assert_eq!((buffer.len(), buffer.is_empty()), (PAGE + i, false));
    }
    let kept: Vec<Kept> = all.into_iter().map(EitherBuffer::freeze).collect();
    assert!(kept.iter().enumerate().all(|(i, kept)| *kept == vec![i as u8; PAGE + i]));
    assert!(matches!(kept[..], [Kept::Pinned(_), Kept::Pinned(_), Kept::Copied(_), Kept::Copied(_)]));
    assert_eq!(arena.in_use(), 3 * PAGE);
    drop(kept);
    assert!(!arena.alloc_or_heap(0).is_on_heap());
    assert_eq!(arena.audit().violations(), 0);
}
