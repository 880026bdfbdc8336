//! Slices under `arrow-buffer`.

#![cfg(feature = "arrow")]

use arrow_buffer::{Buffer, ScalarBuffer};
use tailpin_arena::Arena;

const MIB: usize = 1 << 20;

/// A buffer of 64-bit numbers from 0 on.
fn numbers(arena: &Arena) -> tailpin_arena::Slice {
    let mut buffer = arena.alloc(2 * MIB).unwrap();
    for (i, place) in buffer.chunks_exact_mut(8).enumerate() {
        place.copy_from_slice(&(i as u64).to_le_bytes());
    }
    buffer.freeze()
}

#[test]
fn a_column_is_where_the_slice_was_and_aligned() {
    let arena = Arena::builder().size(16 * MIB).build().unwrap();
    let whole = numbers(&arena);
    for at in [0, 64, 4096, MIB + 64] {
        let slice = whole.slice(at..at + 800);
        let address = slice.as_ptr();
        let column = Buffer::from(slice);
        assert_eq!(column.as_ptr(), address);
        assert!(column.as_ptr().addr().is_multiple_of(arrow_buffer::alloc::ALIGNMENT.min(64)));
        let values = ScalarBuffer::<i64>::from(column);
        assert_eq!((values.len(), values[0], values[99]), (100, at as i64 / 8, at as i64 / 8 + 99));
    }
}

#[test]
fn the_last_array_frees_the_pages_and_no_more_are_kept() {
    let arena = Arena::builder().size(16 * MIB).build().unwrap();
    let whole = numbers(&arena);
    let column = Buffer::from(whole.slice(8192..8192 + 400));
    drop(whole);
    assert_eq!(arena.stats().in_use(), 4096);
    let part = column.slice_with_length(8, 16);
    drop(column);
    assert_eq!(ScalarBuffer::<i64>::from(part.clone())[..], [1025, 1026]);
    drop(part);
    assert_eq!(arena.stats().in_use(), 0);
}

/// As with slices under `Bytes`: Arrow counts its owner.
#[test]
fn a_part_cut_by_arrow_keeps_the_whole() {
    let arena = Arena::builder().size(16 * MIB).build().unwrap();
    let part = Buffer::from(numbers(&arena)).slice_with_length(8192, 16);
    assert_eq!(arena.stats().in_use(), 2 * MIB);
    drop(part);
    assert_eq!(arena.stats().in_use(), 0);
}

#[test]
fn arrow_refuses_a_type_that_the_place_does_not_suit() {
    let arena = Arena::builder().size(16 * MIB).build().unwrap();
    let odd = Buffer::from(numbers(&arena).slice(1..17));
    assert_eq!(odd.as_slice().len(), 16);
    assert!(std::panic::catch_unwind(|| ScalarBuffer::<i64>::from(odd)).is_err());
}

#[test]
fn a_column_of_nothing_can_be_viewed_as_any_type() {
    let arena = Arena::builder().size(16 * MIB).build().unwrap();
    let whole = numbers(&arena);
    for at in [0, 1, 8, 4095, 2 * MIB] {
        let nothing = Buffer::from(whole.slice(at..at));
        assert_eq!(nothing, Buffer::default());
        assert_eq!(ScalarBuffer::<i64>::from(nothing.clone()).len(), 0);
        assert_eq!(ScalarBuffer::<i128>::from(nothing).len(), 0);
    }
    drop(whole);
    assert_eq!(arena.stats().in_use(), 0);
}

/// Engines are on different versions of Arrow.
#[test]
#[cfg(all(feature = "arrow-58", feature = "arrow-59"))]
fn earlier_versions_of_arrow_take_slices_too() {
    let arena = Arena::builder().size(16 << 20).build().unwrap();
    let mut column = arena.alloc(1 << 20).unwrap();
    column[4096..4104].copy_from_slice(&[1, 0, 0, 0, 2, 0, 0, 0]);
    let part = column.freeze().slice(4096..4104);
    let old = arrow_buffer_58::Buffer::from(part.clone());
    let newer = arrow_buffer_59::Buffer::from(part.clone());
    assert_eq!(old.as_ptr(), part.as_ptr());
    assert_eq!(arrow_buffer_58::ScalarBuffer::<i32>::from(old)[..], [1, 2]);
    assert_eq!(arrow_buffer_59::ScalarBuffer::<i32>::from(newer)[..], [1, 2]);
    drop(part);
    assert_eq!(arena.in_use(), 0);
    assert!(arrow_buffer_58::Buffer::from(tailpin_arena::Slice::default()).is_empty());
}
