//! `axallocator`: what its own tests ask of `BitmapPageAllocator`, asked of ours.

use axallocator::{AllocError, BaseAllocator, PageAllocator};
use tailpin::FrameRange;
use tailpin::PAGE_SIZE as PAGE;
use tailpin_kernel::{ArceosPages, Frames, FramesConfig};

use crate::machine::{Counted, FIRST, Memory};

const OFFSET: usize = 0xffff_0000_0000_0000;
const START: usize = OFFSET + FIRST.get() as usize * PAGE;

fn pages(frames: u64, later: bool) -> (ArceosPages, &'static Frames, &'static Counted) {
    let memory = Memory::new(16_384);
    let managed: &'static Frames = Box::leak(Box::new(Frames::new()));
    let sink = Counted::new();
    let config = FramesConfig { sink: Some(sink), ..FramesConfig::new(2, || 0) };
    let later = later.then(|| memory.frames());
    let mut pages = ArceosPages::new(managed, memory, config, OFFSET, later);
    // Not whole pages: what does not fill one is left out.
    pages.init(START - 100, frames as usize * PAGE + 100 + 50);
    (pages, managed, sink)
}

#[test]
fn runs_of_all_sizes_and_alignments_come_and_go() {
    let (mut pages, frames, sink) = pages(8192, false);
    let total = pages.total_pages();
    assert_eq!(total, 8192 - frames.metadata().frames() as usize);
    for n in [1, 2, 3, 5, 10, 100, 1000] {
        for align in [PAGE, 4 * PAGE, 64 * PAGE, 512 * PAGE] {
            let at = pages.alloc_pages(n, align).unwrap();
            assert!(at.is_multiple_of(align) && at >= START);
            assert_eq!((pages.used_pages(), pages.available_pages()), (n, total - n));
            pages.dealloc_pages(at, n);
            assert_eq!((pages.used_pages(), pages.available_pages()), (0, total));
        }
    }
    assert!(matches!(pages.alloc_pages(total + 1, PAGE), Err(AllocError::NoMemory)));
    assert!(matches!(pages.alloc_pages(0, PAGE), Err(AllocError::InvalidParam)));
    for align in [0, 1, 100, 3 * PAGE] {
        assert!(matches!(pages.alloc_pages(1, align), Err(AllocError::InvalidParam)), "{align}");
    }
    assert_eq!(sink.misuses(), 0);
}

#[test]
fn pages_at_an_address_are_those() {
    let (mut pages, _, _) = pages(4096, false);
    let at = START + 3000 * PAGE;
    assert_eq!(pages.alloc_pages_at(at, 10, PAGE).unwrap(), at);
    assert!(matches!(pages.alloc_pages_at(at + 9 * PAGE, 2, PAGE), Err(AllocError::NoMemory)));
    assert!(matches!(pages.alloc_pages_at(at + 1, 1, PAGE), Err(AllocError::InvalidParam)));
    assert!(matches!(pages.alloc_pages_at(at + PAGE, 1, 2048 * PAGE), Err(AllocError::InvalidParam)));
    assert!(matches!(pages.alloc_pages_at(0x1000, 1, PAGE), Err(AllocError::InvalidParam)));
    assert!(matches!(pages.alloc_pages_at(usize::MAX - PAGE + 1, 1, PAGE), Err(AllocError::InvalidParam)));
    // Any part, in any number of calls.
    pages.dealloc_pages(at + 4 * PAGE, 6);
    pages.dealloc_pages(at, 4);
    assert_eq!(pages.used_pages(), 0);
}

#[test]
fn memory_is_added_and_what_overlaps_is_refused() {
    let (mut pages, _, _) = pages(4096, true);
    let total = pages.total_pages();
    pages.add_memory(START + 8192 * PAGE, 100 * PAGE).unwrap();
    assert_eq!(pages.total_pages(), total + 100);
    let overlapping = pages.add_memory(START + 8192 * PAGE, PAGE);
    assert!(matches!(overlapping, Err(AllocError::MemoryOverlap)));
    assert!(matches!(pages.add_memory(0, PAGE), Err(AllocError::InvalidParam)));
    assert!(matches!(pages.add_memory(START + 99_999 * PAGE, PAGE), Err(AllocError::InvalidParam)));
    assert!(matches!(pages.add_memory(usize::MAX - 10, 100), Err(AllocError::InvalidParam)));
}

#[test]
fn a_double_free_is_reported() {
    let (mut pages, frames, sink) = pages(4096, false);
    let at = pages.alloc_pages(2, PAGE).unwrap();
    pages.dealloc_pages(at, 2);
    pages.dealloc_pages(at, 1);
    assert_eq!(sink.misuses(), 1);
    let frame = tailpin::Pfn::new(((at - OFFSET) / PAGE) as u64);
    assert!(frames.alloc_at(FrameRange::new(frame, 1)).is_err());
}
