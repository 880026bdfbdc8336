//! [`Frames`] alone.

use std::collections::HashSet;

use tailpin::{AddError, Cause, FrameRange, Order, Pfn, RunError};
use tailpin_kernel::{Frames, FramesConfig, InitError, MemoryMap, Use};

use crate::machine::{FIRST, Memory, frames};

fn range(start: u64, end: u64) -> FrameRange {
    FrameRange { start: Pfn::new(start), end: Pfn::new(end) }
}

static FRAMES: Frames = Frames::new();

#[test]
fn before_the_memory_map_is_known_no_frame_is_free() {
    assert!(matches!(FRAMES.alloc(1, 1), Err(RunError::Exhausted { .. })));
    assert!(FRAMES.alloc_at(range(512, 513)).is_err());
    assert_eq!(FRAMES.totals(), (0, 0));
    assert!(matches!(FRAMES.add(range(512, 513)), Err(AddError::NotInZone { .. })));
}

#[test]
fn what_is_reserved_and_the_metadata_are_never_handed_out() {
    let memory = Memory::new(8192);
    let frames: &'static Frames = Box::leak(Box::new(Frames::new()));
    // Two ranges with a hole between them; what is reserved overlaps an end, a hole and itself.
    let map = [range(4608, 8704), range(512, 4096)];
    let reserved = [range(0, 520), range(600, 610), range(605, 615), range(4000, 5000)];
    let map = MemoryMap { memory: &map, reserved: &reserved, later: None };
    frames.init(&map, memory, FramesConfig::new(1, || 0)).unwrap();
    let metadata = frames.metadata();
    let there = |frame: u64| {
        let frame = Pfn::new(frame);
        map.memory.iter().any(|range| range.contains(frame))
            && !reserved.iter().any(|range| range.contains(frame))
            && !metadata.contains(frame)
    };
    let expected: HashSet<u64> = (0..10_000).filter(|frame| there(*frame)).collect();
    assert_eq!(frames.totals(), (expected.len() as u64, expected.len() as u64));
    let mut handed_out = HashSet::new();
    while let Ok(run) = frames.alloc(1, 1) {
        assert!(handed_out.insert(run.start.get()), "frame {} is there twice", run.start);
    }
    assert_eq!(handed_out, expected);
    for frame in handed_out {
        frames.free(FrameRange::new(Pfn::new(frame), 1)).unwrap();
    }
    assert_eq!(frames.zone().audit().violations(), 0);
    assert_eq!(frames.init(&map, memory, FramesConfig::new(1, || 0)), Err(InitError::AlreadyDone));
}

#[test]
fn a_map_that_is_none_is_refused() {
    let memory = Memory::new(1024);
    let refusal = |ranges: &[FrameRange], reserved: &[FrameRange]| {
        let map = MemoryMap { memory: ranges, reserved, later: None };
        Frames::new().init(&map, memory, FramesConfig::new(1, || 0)).unwrap_err()
    };
    assert_eq!(refusal(&[], &[]), InitError::NoMemory);
    assert_eq!(refusal(&[range(512, 512)], &[]), InitError::NoMemory);
    assert!(matches!(refusal(&[range(512, 513)], &[]), InitError::NoRoom { .. }));
    assert!(matches!(refusal(&[range(512, 1536)], &[range(0, 1600)]), InitError::NoRoom { .. }));
    assert!(matches!(refusal(&[range(512, 1536), range(1000, 1100)], &[]), InitError::Add(_)));
    let endless = FrameRange { start: Pfn::new(512), end: Pfn::new(u64::MAX) };
    assert!(matches!(refusal(&[endless], &[]), InitError::Zone(_)));
}

#[test]
fn any_part_comes_back_in_any_number_of_calls() {
    let (frames, sink) = frames(Memory::new(4096));
    let (_, before) = frames.totals();
    for n in [1, 5, 48, 511, 512, 1000] {
        let run = frames.alloc(n, 1).unwrap();
        assert_eq!((run.frames(), frames.totals().1), (n, before - n));
        let middle = run.start.offset(n / 3);
        frames.free(FrameRange { start: middle, end: run.end }).unwrap();
        if n / 3 > 0 {
            frames.free(FrameRange { start: run.start, end: middle }).unwrap();
        }
        assert_eq!(frames.totals().1, before);
    }
    let aligned = frames.alloc(3, 256).unwrap();
    assert!(aligned.start.get().is_multiple_of(256));
    let named = FrameRange::new(aligned.end.offset(100), 7);
    frames.alloc_at(named).unwrap();
    assert!(matches!(frames.alloc_at(named), Err(RunError::InUse { .. })));
    frames.free(named).unwrap();
    frames.free(aligned).unwrap();
    assert_eq!(frames.totals().1, before);
    assert_eq!(sink.misuses(), 0);
}

#[test]
fn a_double_free_is_reported_and_the_frame_is_never_handed_out_again() {
    let (frames, sink) = frames(Memory::new(2048));
    let run = frames.alloc(4, 1).unwrap();
    frames.free(run).unwrap();
    let misuse = frames.free(FrameRange::new(run.start, 1)).unwrap_err();
    assert_eq!((misuse.cause, sink.misuses()), (Cause::FrameIsFree, 1));
    assert!(frames.alloc_at(FrameRange::new(run.start, 1)).is_err());
}

#[test]
fn memory_comes_later_within_what_was_said() {
    let memory = Memory::new(8192);
    let frames: &'static Frames = Box::leak(Box::new(Frames::new()));
    let later = Some(memory.frames());
    let map = MemoryMap { memory: &[range(512, 1536)], reserved: &[], later };
    frames.init(&map, memory, FramesConfig::new(1, || 0)).unwrap();
    let (total, _) = frames.totals();
    frames.add(range(2048, 4096)).unwrap();
    assert_eq!(frames.totals().0, total + 2048);
    assert!(matches!(frames.add(range(2048, 2049)), Err(AddError::InService { .. })));
    assert!(matches!(frames.add(range(20_000, 20_001)), Err(AddError::NotInZone { .. })));
    frames.alloc_at(range(2048, 4096)).unwrap();
    frames.free(range(2048, 4096)).unwrap();
}

#[test]
fn frames_for_devices_lie_below_4_gib() {
    // Memory around the border of 4 GiB.
    let border = 1 << 20;
    let memory = Memory::from(Pfn::new(border - 1024), 4096);
    let (frames, _) = frames(memory);
    let mut low = 0;
    while let Ok(run) = frames.alloc_dma32(8, 1) {
        assert!(run.end.get() <= border);
        low += 8;
    }
    assert!(low > 0 && frames.alloc(8, 1).unwrap().start.get() >= border);
    let requested = frames.request(tailpin::RunRequest::new(1).below(Pfn::new(border)));
    assert!(requested.is_err() || requested.is_ok_and(|run| run.end.get() <= border));
}

#[test]
fn uses_are_counted_apart() {
    let (frames, _) = frames(Memory::new(2048));
    let heap = frames.alloc_for(Use::Heap, 10, 1).unwrap();
    let tables = frames.alloc_for(Use::PageTable, 3, 1).unwrap();
    assert_eq!(Use::ALL.map(|what| frames.used_for(what)), [10, 0, 0, 3, 0, 0]);
    frames.free_for(Use::Heap, FrameRange::new(heap.start, 4)).unwrap();
    assert_eq!((frames.used_for(Use::Heap), frames.used_for(Use::PageTable)), (6, 3));
    frames.free_for(Use::PageTable, tables).unwrap();
    assert_eq!(frames.used_for(Use::PageTable), 0);
    assert_eq!(frames.zone().used_frames(), 6);
}

#[test]
fn the_zone_is_there_beside_runs() {
    let (frames, _) = frames(Memory::new(4096));
    let block = frames.zone().alloc(Order::HUGE).unwrap();
    let page = block.pin(7).unwrap();
    drop(block);
    assert_eq!(frames.zone().used_frames(), 1);
    assert_eq!(frames.address(page.pfn()).as_ptr() as usize % 4096, 0);
    assert!(frames.metadata().start >= FIRST);
}

#[test]
fn frames_go_round_on_many_threads() {
    let (frames, sink) = frames(Memory::new(8192));
    let (_, before) = frames.totals();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            scope.spawn(move || {
                for turn in 0..500 {
                    let n = 1 + (turn * 7 + thread * 13) % 40;
                    let run = frames.alloc(n, 1).unwrap();
                    let cut = run.start.offset(n / 2);
                    if n / 2 > 0 {
                        frames.free(FrameRange { start: run.start, end: cut }).unwrap();
                    }
                    frames.free(FrameRange { start: cut, end: run.end }).unwrap();
                }
            });
        }
    });
    assert_eq!((frames.totals().1, sink.misuses()), (before, 0));
    assert_eq!(frames.zone().audit().violations(), 0);
}
