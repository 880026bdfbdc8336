//! Each public function that takes a number, with the smallest and the largest there are.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tailpin::{AddError, FrameRange, Pfn};
use tailpin_kernel::{Frames, FramesConfig, InitError, MAX_CPUS, Marks, MemoryMap, Use};

use crate::machine::{FIRST, Memory, frames};

/// Numbers around every border.
fn numbers() -> impl Iterator<Item = u64> + Clone {
    (0..64).flat_map(|shift| [(1_u64 << shift) - 1, 1 << shift]).chain([u64::MAX - 1, u64::MAX])
}

/// Ranges with such ends, those that end before they begin among them.
fn ranges() -> impl Iterator<Item = FrameRange> {
    let some = || numbers().step_by(3).chain([u64::MAX - 1, u64::MAX]);
    some().flat_map(move |start| {
        some().map(move |end| FrameRange { start: Pfn::new(start), end: Pfn::new(end) })
    })
}

#[test]
fn frames_by_number() {
    const FRAMES: u64 = 1024;
    let (frames, _) = frames(Memory::new(FRAMES));
    let before = frames.totals();
    for (n, align) in numbers().flat_map(|n| numbers().step_by(3).map(move |align| (n, align))) {
        for run in [frames.alloc(n, align), frames.alloc_dma32(n, align)].into_iter().flatten() {
            assert!(n > 0 && run.frames() == n && run.start.get().is_multiple_of(align));
            frames.free(run).unwrap();
        }
        if let Ok(run) = frames.alloc_for(Use::Heap, n, align) {
            assert_eq!(frames.used_for(Use::Heap), n);
            frames.free_for(Use::Heap, run).unwrap();
        }
        assert_eq!(frames.used_for(Use::Heap), 0);
    }
    for range in ranges() {
        let empty = range.frames() == 0;
        let inside = range.start >= FIRST && range.end.get() <= FIRST.get() + FRAMES;
        if empty || !inside {
            assert!(frames.alloc_at(range).is_err(), "{range:?}");
            assert_eq!(frames.free(range).is_ok(), empty, "{range:?}");
            assert_eq!(frames.free_for(Use::Heap, range).is_ok(), empty, "{range:?}");
            assert!(!matches!(frames.add(range), Err(AddError::Busy { .. })));
        }
        let address = catch_unwind(AssertUnwindSafe(|| frames.address(range.start)));
        let there = (FIRST.get()..FIRST.get() + FRAMES).contains(&range.start.get());
        assert_eq!(address.is_ok(), there);
    }
    // A range that only begins in this memory is a misuse of its first frame, which leaves service.
    let (total, free) = frames.totals();
    assert_eq!((total, free + frames.zone().set_aside_frames()), before);
    assert_eq!(frames.used_for(Use::Heap), 0);
}

/// Frames that were not counted for a use, or for another one, are given back for it.
#[test]
fn what_is_in_use_for_something_is_never_less_than_none() {
    let (frames, _) = frames(Memory::new(1024));
    let run = frames.alloc(5, 1).unwrap();
    frames.free_for(Use::Heap, run).unwrap();
    let run = frames.alloc_for(Use::Heap, 3, 1).unwrap();
    let more = frames.alloc(2, 1).unwrap();
    frames.free_for(Use::Heap, more).unwrap();
    assert_eq!(frames.used_for(Use::Heap), 1);
    frames.free_for(Use::Heap, run).unwrap();
    assert_eq!(frames.used_for(Use::Heap), 0);
}

#[test]
fn maps_and_cpus_by_number() {
    let memory = Memory::new(1024);
    for range in ranges().filter(|range| range.frames() == 0 || range.frames() > 1 << 40) {
        for cpus in [0, 1, 1 << 40, usize::MAX] {
            let config = FramesConfig::new(cpus, || usize::MAX);
            // Refused, or by the direct map, which has not all that memory.
            let refused = |map: &MemoryMap<'_>| {
                let init = || Frames::new().init(map, memory, config).is_err();
                catch_unwind(AssertUnwindSafe(init)).unwrap_or(true)
            };
            let map = MemoryMap { memory: &[range], reserved: &[], later: None };
            assert!(refused(&map) && refused(&MemoryMap { later: Some(range), ..map }), "{range:?}");
        }
        let map = MemoryMap { memory: &[memory.frames()], reserved: &[range], later: None };
        match Frames::new().init(&map, memory, FramesConfig::new(1, || 0)) {
            Ok(()) | Err(InitError::NoRoom { .. }) => {}
            Err(error) => panic!("{range:?}: {error}"),
        }
    }
    let marks = Marks::new();
    for n in numbers().map(|n| usize::try_from(n).unwrap_or(usize::MAX)) {
        let there = n < MAX_CPUS;
        let sets = || marks.set::<tailpin_kernel::AllSafeguards, _>(n, || ());
        assert_eq!(catch_unwind(AssertUnwindSafe(sets)).is_ok(), there);
        assert_eq!(catch_unwind(AssertUnwindSafe(|| marks.has(n))).ok(), there.then_some(true));
        assert_eq!(catch_unwind(AssertUnwindSafe(|| marks.clear(n))).is_ok(), there);
    }
}
