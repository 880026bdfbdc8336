//! Buffers, slices and what they keep.

use std::thread;
use tailpin::PAGE_SIZE as PAGE;
use tailpin_arena::{AllocError, Arena, Backing, BuildError, Kept, Policy, SliceError};

const MIB: usize = 1 << 20;

fn arena(mib: usize) -> Arena {
    Arena::builder().size(mib * MIB).build().unwrap()
}

fn assert_balanced(arena: &Arena) {
    let stats = arena.stats();
    let sum = stats.in_use() + stats.free + stats.given_back + stats.set_aside;
    assert_eq!(sum, stats.size, "{stats}");
}

#[test]
fn bytes_written_are_read_through_every_slice() {
    let files = [Backing::Memfd { huge: false }, Backing::Memfd { huge: true }];
    for backing in [Backing::Anonymous, Backing::Heap].into_iter().chain(files) {
        let arena = Arena::builder().size(8 * MIB).backing(backing).build().unwrap();
        let mut buffer = arena.alloc(3 * PAGE + 5).unwrap();
        for (i, byte) in buffer.iter_mut().enumerate() {
            *byte = (i % 251) as u8;
        }
        let whole = buffer.freeze();
        let parts: Vec<_> = (0..=whole.len()).step_by(997).map(|at| whole.slice(at..)).collect();
        drop(whole);
        for (n, part) in parts.iter().enumerate() {
            let at = n * 997;
            assert!(
                part.iter().enumerate().all(|(i, byte)| *byte == ((at + i) % 251) as u8),
                "{backing} {at}"
            );
        }
        drop(parts);
        assert_eq!(arena.stats().in_use(), 0);
        assert_eq!(arena.audit().violations(), 0);
    }
}

#[test]
fn a_buffer_has_the_pages_it_needs_and_no_more() {
    let arena = arena(8);
    for pages in 1..=700 {
        let buffer = arena.alloc(pages * PAGE - 1).unwrap();
        assert_eq!(buffer.capacity(), pages * PAGE);
        assert_eq!(arena.stats().in_use_whole, pages * PAGE);
        let whole = buffer.freeze();
        assert_eq!(whole.retained_bytes(), pages * PAGE);
        let back = whole.try_into_unique().expect("no other handle has it");
        drop(back);
        assert_eq!(arena.stats().in_use(), 0);
    }
    assert_eq!(arena.audit().violations(), 0);
}

#[test]
fn blocks_are_as_aligned_as_they_are_large() {
    let arena = arena(64);
    for shift in 12..=25 {
        let buffer = arena.alloc(1 << shift).unwrap();
        assert_eq!(buffer.as_ptr() as usize % (1 << shift), 0);
    }
    let plain = Arena::builder().over_memory(vec![0u8; 5 * MIB]).build().unwrap();
    for shift in 12..=21 {
        let buffer = plain.alloc(1 << shift).unwrap();
        assert_eq!(buffer.as_ptr() as usize % (1 << shift), 0);
    }
}

#[test]
fn the_pages_that_nobody_pinned_are_free_at_once() {
    let arena = arena(2); // one block of 2 MiB and no more
    let whole = arena.alloc(2 * MIB).unwrap().freeze();
    assert!(matches!(arena.alloc(PAGE), Err(AllocError::OutOfMemory { free: 0, .. })));
    let kept = whole.slice(100 * PAGE..100 * PAGE + 10);
    drop(whole);
    let others: Vec<_> = (0..511).map(|_| arena.alloc(PAGE).expect("the rest is free")).collect();
    assert!(others.iter().all(|other| other.offset() != kept.offset()));
    assert!(arena.alloc(PAGE).is_err());
    drop((others, kept));
    assert!(arena.alloc(2 * MIB).is_ok());
    assert_eq!(arena.audit().violations(), 0);
}

#[test]
fn a_slice_of_a_slice_keeps_only_its_own_pages() {
    let arena = arena(8);
    let whole = arena.alloc(64 * PAGE).unwrap().freeze();
    let wide = whole.slice(PAGE - 1..9 * PAGE + 1); // pages 0 to 9
    drop(whole);
    assert_eq!(wide.retained_bytes(), 10 * PAGE);
    let narrow = wide.slice(PAGE + 1..PAGE + 2);
    assert_eq!(narrow.retained_bytes(), 0, "`wide` keeps it too");
    assert_eq!(wide.retained_bytes(), 9 * PAGE);
    assert_eq!(wide.sharers(), 2);
    drop(wide);
    assert_eq!(narrow.retained_bytes(), PAGE);
    assert_eq!(narrow.sharers(), 1);
    assert_eq!(arena.stats().in_use(), PAGE);
    let empty = narrow.slice(1..);
    drop(narrow);
    assert_eq!((empty.len(), empty.retained_bytes(), arena.stats().in_use()), (0, 0, 0));
}

#[test]
fn sharers_and_retained_bytes_tell_who_else_is_there() {
    let arena = arena(8);
    for pages in [1, 3, 8, 512] {
        let whole = arena.alloc(pages * PAGE).unwrap().freeze();
        assert_eq!((whole.sharers(), whole.retained_bytes()), (1, pages * PAGE));
        let again = whole.clone();
        assert_eq!((whole.sharers(), whole.retained_bytes()), (2, 0));
        let first = whole.slice(0..10);
        let third = first.clone();
        assert_eq!(whole.sharers(), 4, "two wholes, two pins");
        // Of three pages: they share their counts.
        let wholes = if usize::is_power_of_two(pages) { 2 } else { 1 };
        assert_eq!(first.sharers(), 2 + wholes);
        drop((again, third));
        assert_eq!(whole.retained_bytes(), (pages - 1) * PAGE);
        drop(whole);
        assert_eq!((first.sharers(), first.retained_bytes()), (1, PAGE));
    }
    assert_eq!(arena.audit().violations(), 0);
}

#[test]
fn writing_again_needs_everybody_else_gone() {
    let arena = arena(8);
    for len in [10, PAGE, 3 * PAGE, 8 * PAGE + 1] {
        let mut buffer = arena.alloc(len).unwrap();
        buffer[0] = 1;
        let whole = buffer.freeze();
        let clone = whole.clone();
        let part = whole.slice(0..1);
        let whole = whole.try_into_unique().unwrap_err();
        drop(clone);
        let whole = whole.try_into_unique().unwrap_err();
        let part = part.try_into_unique().unwrap_err(); // a part is no buffer
        drop(part);
        let mut buffer = whole.try_into_unique().unwrap();
        assert_eq!(buffer.len(), len);
        buffer[0] += 1;
        assert_eq!(buffer.freeze()[0], 2);
    }
    assert_eq!(arena.stats().in_use(), 0);
}

#[test]
fn a_tail_of_the_whole_is_no_buffer_even_alone() {
    let arena = arena(8);
    let whole = arena.alloc(PAGE).unwrap().freeze();
    let tail = whole.slice(1..);
    drop(whole);
    assert!(tail.try_into_unique().is_err());
}

#[test]
fn slices_outlive_the_arena() {
    let arena = arena(8);
    let mut buffer = arena.alloc(PAGE * 4).unwrap();
    buffer.fill(9);
    let whole = buffer.freeze();
    drop(arena);
    let part = whole.slice(PAGE * 2..PAGE * 3);
    drop(whole);
    assert!(thread::spawn(move || part.iter().all(|byte| *byte == 9)).join().unwrap());
}

#[test]
fn a_range_outside_is_an_error_with_the_facts() {
    let arena = arena(8);
    let whole = arena.alloc(10).unwrap().freeze();
    assert_eq!(whole.try_slice(5..11).unwrap_err(), SliceError::OutOfRange { start: 5, end: 11, len: 10 });
    assert_eq!(whole.try_slice(..=10).unwrap_err(), SliceError::OutOfRange { start: 0, end: 11, len: 10 });
    let (start, end) = (7, 6);
    assert_eq!(whole.try_slice(start..end).unwrap_err(), SliceError::OutOfRange { start, end, len: 10 });
    assert_eq!(
        whole.try_slice(..=usize::MAX).unwrap_err(),
        SliceError::OutOfRange { start: 0, end: usize::MAX, len: 10 }
    );
    assert!(whole.try_slice(10..).unwrap().is_empty());
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    assert_eq!(Arena::builder().size(0).build().unwrap_err(), BuildError::BadSize { bytes: 0 });
    let huge = usize::MAX - 5;
    assert_eq!(Arena::builder().size(huge).build().unwrap_err(), BuildError::BadSize { bytes: huge });
    let arena = arena(8);
    let asked = (1 << 30) + 1;
    assert_eq!(arena.alloc(asked).unwrap_err(), AllocError::TooLarge { asked });
    assert_eq!(arena.alloc(usize::MAX).unwrap_err(), AllocError::TooLarge { asked: usize::MAX });
    let error = arena.alloc(16 * MIB).unwrap_err();
    let (asked, free) = (16 * MIB, 8 * MIB);
    assert_eq!(error, AllocError::OutOfMemory { asked, block: asked, free, largest_free: free });
    assert_eq!(arena.stats().in_use(), 0);
    assert_eq!(
        Arena::builder().over_memory(vec![0; PAGE - 1]).build().unwrap_err(),
        BuildError::TooSmall { bytes: PAGE - 1 }
    );
    assert_eq!(
        Arena::builder().backing(Backing::Anonymous).over_memory(vec![0; MIB]).build().unwrap_err(),
        BuildError::NoMemoryGiven
    );
    assert_eq!(
        Arena::builder().backing(Backing::Plain).size(MIB).build().unwrap_err(),
        BuildError::NoMemoryGiven
    );
}

#[test]
fn callers_memory_is_used_and_comes_back() {
    let memory: &'static mut [u8] = Vec::leak(vec![7; 3 * MIB]);
    let range = memory.as_ptr_range();
    let arena = Arena::builder().over_memory(memory).build().unwrap();
    assert_balanced(&arena);
    let mut buffers = Vec::new();
    while let Ok(mut buffer) = arena.alloc(64 * 1024) {
        assert!(buffer.iter().all(|byte| *byte == 7));
        assert!(range.contains(&buffer.as_ptr()));
        buffer.fill(8);
        buffers.push(buffer);
    }
    assert!(buffers.len() * 64 * 1024 > 2 * MIB);
    drop(buffers);
    assert_eq!(arena.audit().violations(), 0);
    assert_eq!(arena.stats().given_back, 0);
}

#[test]
fn keep_copies_what_is_small() {
    let arena = arena(8);
    let mut buffer = arena.alloc(2 * MIB).unwrap();
    buffer[10..14].copy_from_slice(b"abcd");
    let whole = buffer.freeze();
    let small = whole.slice(10..14).keep(Policy::CopyBelow(5));
    let large = whole.slice(10..15).keep(Policy::CopyBelow(5));
    drop(whole);
    assert!(matches!(small, Kept::Copied(_)));
    assert!(matches!(large, Kept::Pinned(_)));
    assert_eq!((&small[..], &large[..4]), (&b"abcd"[..], &b"abcd"[..]));
    assert_eq!(arena.stats().in_use(), PAGE);
}

#[test]
fn tags_and_ages_stay_with_the_pages() {
    let arena = arena(2);
    let first = arena.alloc_tagged(2 * MIB, "first").unwrap().freeze();
    let kept = first.slice(7 * PAGE..7 * PAGE + 1);
    drop(first);
    // Everything around the kept page is handed out anew, in all sizes.
    let mut others = Vec::new();
    for shift in (12..21).rev() {
        while let Ok(buffer) = arena.alloc_tagged(1 << shift, "other") {
            others.push(buffer.freeze());
        }
    }
    assert_eq!(kept.tag(), Some("first"));
    assert!(others.iter().all(|other| other.tag() == Some("other") && other.age() <= kept.age()));
    let worst = arena.worst_holders(usize::MAX);
    let first = worst.iter().find(|holder| holder.tag.as_deref() == Some("first")).unwrap();
    assert_eq!((first.kept_bytes, first.buffer_bytes, first.pins, first.references), (PAGE, 2 * MIB, 1, 0));
    assert_eq!(worst.iter().map(|holder| holder.kept_bytes).sum::<usize>(), arena.stats().in_use());
    drop(others);
    let untagged = arena.alloc(10).unwrap().freeze();
    assert_eq!(untagged.tag(), None);
}

#[test]
fn buffers_of_a_gibibyte_work_like_all_others() {
    let arena = arena(2048);
    let mut buffer = arena.alloc(1 << 30).unwrap();
    assert_eq!(buffer.as_ptr() as usize % (1 << 30), 0);
    buffer[12345678] = 5;
    let whole = buffer.freeze();
    let far = whole.slice((1 << 30) - 1..);
    let near = whole.slice(12345678..12345679);
    assert_eq!(whole.retained_bytes(), (1 << 30) - 2 * PAGE);
    drop(whole);
    assert_eq!(near[0], 5);
    assert_eq!(arena.stats().in_use(), 2 * PAGE);
    assert_balanced(&arena);
    drop((near, far));
    assert!(arena.alloc(1 << 30).is_ok());
}
