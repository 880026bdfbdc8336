//! Collections of `allocator-api2` in an arena.

#![cfg(feature = "allocator-api2")]

use std::alloc::Layout;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use allocator_api2::alloc::Allocator;
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use tailpin_arena::Arena;

const MIB: usize = 1 << 20;

#[test]
fn a_vector_grows_shrinks_and_goes() {
    let arena = Arena::builder().size(32 * MIB).build().unwrap();
    let mut numbers = Vec::new_in(arena.clone());
    for number in 0..300_000_u64 {
        numbers.push(number);
    }
    assert!(numbers.iter().copied().eq(0..300_000));
    let address = numbers.as_ptr();
    numbers.truncate(1000);
    numbers.shrink_to_fit();
    assert_eq!(numbers.as_ptr(), address, "shrinking stays in place");
    assert!(numbers.iter().copied().eq(0..1000));
    assert_eq!(arena.stats().in_use(), 8192);
    drop(numbers);
    assert_eq!(arena.stats().in_use(), 0);
    assert_eq!(arena.audit().violations(), 0);
}

#[test]
fn every_size_and_alignment_is_met_and_comes_back() {
    let arena = Arena::builder().size(32 * MIB).build().unwrap();
    for size in [0, 1, 4095, 4096, 4097, 10_000, MIB + 1] {
        for align in [1, 8, 4096, 8192, 2 * MIB] {
            let layout = Layout::from_size_align(size, align).unwrap();
            let memory = arena.allocate(layout).unwrap();
            assert!(memory.len() >= size && memory.cast::<u8>().addr().get().is_multiple_of(align));
            // Any size from what was asked for to what was given fits.
            let fits = Layout::from_size_align(memory.len(), align).unwrap();
            // SAFETY: allocated just now, and written within what was given.
            unsafe {
                memory.cast::<u8>().write_bytes(0xA5, memory.len());
                arena.deallocate(memory.cast(), fits);
            }
            assert_eq!(arena.stats().in_use(), 0, "{layout:?}");
        }
    }
}

/// A panic that went on would leave the collection with memory that it has given up.
#[test]
fn a_callback_that_panics_as_memory_is_given_up_leaves_the_collection_as_it_is() {
    const PAGE: usize = 4096;
    let calls = Arc::new(AtomicUsize::new(0));
    let called = Arc::clone(&calls);
    let arena = Arena::builder()
        .size(8 * MIB)
        .limit(MIB)
        .watermarks(150 * PAGE, 140 * PAGE, move |_| {
            // First that much is in use, then that it no longer is.
            assert!(called.fetch_add(1, Ordering::SeqCst).is_multiple_of(2), "told to panic");
        })
        .build()
        .unwrap();
    let filled = |bytes: usize, pages: usize| {
        let mut vector = Vec::with_capacity_in(pages * PAGE, arena.clone());
        vector.resize(bytes, 7_u8);
        vector
    };
    type End = fn(Vec<u8, Arena>) -> Option<Vec<u8, Arena>>;
    let ends: [(usize, usize, End); 3] = [
        (64 * PAGE, 64, |mut vector| {
            vector.push(7);
            Some(vector)
        }),
        (3 * PAGE, 160, |mut vector| {
            vector.shrink_to_fit();
            Some(vector)
        }),
        (PAGE, 160, |vector| {
            drop(vector);
            None
        }),
    ];
    for (i, (bytes, pages, end)) in ends.into_iter().enumerate() {
        let vector = filled(bytes, pages);
        let before = vector.len();
        let left = catch_unwind(AssertUnwindSafe(|| end(vector))).expect("an allocator does not unwind");
        assert!(calls.load(Ordering::SeqCst).is_multiple_of(2), "end {i} is of no use");
        if let Some(left) = left {
            assert!(left.len() >= before && left.iter().all(|&byte| byte == 7));
            assert_eq!(arena.in_use(), left.capacity().next_multiple_of(PAGE), "end {i}");
        }
        assert_eq!((arena.in_use(), arena.audit().violations()), (0, 0), "end {i}");
    }
}

#[test]
fn shrinking_to_a_stricter_alignment_moves_and_keeps_the_contents() {
    let arena = Arena::builder().size(32 * MIB).build().unwrap();
    let old = Layout::from_size_align(20_000, 1).unwrap();
    let new = Layout::from_size_align(10_000, MIB).unwrap();
    let memory = arena.allocate(old).unwrap();
    // SAFETY: allocated just now; each allocation is given up once, with a layout that fits it.
    unsafe {
        memory.cast::<u8>().write_bytes(7, 20_000);
        let moved = arena.shrink(memory.cast(), old, new).unwrap();
        assert!(moved.cast::<u8>().addr().get().is_multiple_of(MIB));
        assert!(moved.as_ref()[..10_000].iter().all(|&byte| byte == 7));
        arena.deallocate(moved.cast(), new);
    }
    assert_eq!(arena.stats().in_use(), 0);
}

#[test]
fn the_box_outlives_the_handle_it_was_made_with() {
    let arena = Arena::builder().size(4 * MIB).build().unwrap();
    let boxed = Box::new_in([7_u8; 5000], arena.clone());
    drop(arena);
    assert!(boxed.iter().all(|&byte| byte == 7));
}

#[test]
fn what_does_not_fit_is_an_error() {
    let arena = Arena::builder().size(2 * MIB).build().unwrap();
    assert!(arena.allocate(Layout::from_size_align(4 * MIB, 1).unwrap()).is_err());
    let mut numbers: Vec<u64, _> = Vec::new_in(arena);
    assert!(numbers.try_reserve(1 << 40).is_err());
}

#[test]
fn an_allocation_of_no_bytes_takes_no_page() {
    let arena = Arena::builder().size(8 * MIB).build().unwrap();
    let in_use = || arena.stats().in_use();
    let layout = |size, align| Layout::from_size_align(size, align).unwrap();

    let mut numbers: Vec<u64, Arena> = Vec::new_in(arena.clone());
    numbers.push(1);
    assert_eq!(in_use(), 4096);
    numbers.truncate(0);
    numbers.shrink_to_fit();
    assert_eq!((numbers.capacity(), in_use()), (0, 0));
    numbers.push(2); // grows from nothing
    assert_eq!((numbers[0], in_use()), (2, 4096));
    drop(numbers);
    assert_eq!(in_use(), 0);
    drop(Vec::<(), _>::with_capacity_in(100, arena.clone()));
    drop(Box::new_in((), arena.clone()));

    for align in [1, 8, 4096, 1 << 20, 1 << 30, 1 << 62] {
        let nothing = arena.allocate(layout(0, align)).unwrap();
        assert_eq!((nothing.len(), nothing.cast::<u8>().addr().get() % align, in_use()), (0, 0, 0));
        // SAFETY: what was allocated with this layout; nothing to be read or written.
        unsafe { arena.deallocate(nothing.cast(), layout(0, align)) };
    }
    for (align, narrower) in [(1, 1), (4096, 8), (8, 4096)] {
        let nothing = arena.allocate_zeroed(layout(0, 1)).unwrap();
        // SAFETY: each allocation is given up once, with the layout that it was made, grown or
        // shrunk with.
        unsafe {
            let some = arena.grow_zeroed(nothing.cast(), layout(0, 1), layout(5000, align)).unwrap();
            assert_eq!((some.len() >= 5000, some.as_ref()[4999], in_use()), (true, 0, some.len()));
            let nothing = arena.shrink(some.cast(), layout(5000, align), layout(0, narrower)).unwrap();
            assert_eq!((nothing.len(), nothing.cast::<u8>().addr().get() % narrower, in_use()), (0, 0, 0));
            let still = arena.shrink(nothing.cast(), layout(0, narrower), layout(0, 1)).unwrap();
            let some = arena.grow(still.cast(), layout(0, 1), layout(1, 1)).unwrap();
            arena.deallocate(some.cast(), layout(1, 1));
        }
        assert_eq!(in_use(), 0);
    }
    assert_eq!(arena.audit().violations(), 0);
}

/// The version of the trait that `hashbrown` and `vortex-buffer` take.
#[test]
#[cfg(feature = "allocator-api2-02")]
fn collections_of_version_0_2() {
    let arena = Arena::builder().size(16 << 20).limit(1 << 20).build().unwrap();
    let mut numbers = allocator_api2_02::vec::Vec::with_capacity_in(1 << 10, arena.clone());
    numbers.extend(0..1_000_u64);
    numbers.extend(0..10_000_u64);
    assert_eq!(numbers.iter().sum::<u64>(), 499_500 + 49_995_000);
    numbers.shrink_to_fit();
    assert_eq!(arena.in_use(), (11_000 * 8_usize).next_multiple_of(4096));
    // At the limit an allocation fails; it doesn't wait.
    assert!(numbers.try_reserve(1 << 20).is_err());
    drop(numbers);
    assert_eq!(arena.in_use(), 0);
}
