//! Memory in place of a machine's, for ever, as a direct map is.

use std::alloc::{Layout, alloc_zeroed};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use tailpin::{FrameRange, Misuse, Pfn, Sink};
use tailpin_kernel::{Frames, FramesConfig, MemoryMap};
use tailpin_mm::DirectMap;

/// First frame of every machine here.
pub(crate) const FIRST: Pfn = Pfn::new(1 << 9);

/// Frames from [`FIRST`] on, in memory that is never given back.
pub(crate) struct Memory {
    first: NonNull<u8>,
    frames: FrameRange,
}

// SAFETY: the memory is for ever and is accessed atomically only.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

// SAFETY: the frames are allocated, aligned to 2 MiB, and follow each other; all others panic.
unsafe impl DirectMap for Memory {
    fn frame(&self, frame: Pfn) -> NonNull<u8> {
        assert!(self.frames.contains(frame), "frame {frame} is not of this memory");
        let offset = (frame.get() - self.frames.start.get()) as usize * 4096;
        // SAFETY: within the allocation, as was just checked.
        unsafe { self.first.add(offset) }
    }
}

impl Memory {
    /// `frames` frames from `first` on.
    pub(crate) fn from(first: Pfn, frames: u64) -> &'static Self {
        let layout = Layout::from_size_align(frames as usize * 4096, 2 << 20).unwrap();
        // SAFETY: the layout is not empty.
        let memory = NonNull::new(unsafe { alloc_zeroed(layout) }).expect("there is memory");
        Box::leak(Box::new(Self { first: memory, frames: FrameRange::new(first, frames) }))
    }

    /// `frames` frames from [`FIRST`] on.
    pub(crate) fn new(frames: u64) -> &'static Self {
        Self::from(FIRST, frames)
    }

    /// All of them.
    pub(crate) fn frames(&self) -> FrameRange {
        self.frames
    }

    /// What must be added to a physical address to get there.
    pub(crate) fn offset(&self) -> u64 {
        self.first.as_ptr() as u64 - self.frames.start.get() * 4096
    }
}

/// Counts misuses.
pub(crate) struct Counted(AtomicU64);

impl Counted {
    pub(crate) fn new() -> &'static Self {
        Box::leak(Box::new(Self(AtomicU64::new(0))))
    }

    pub(crate) fn misuses(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Sink for Counted {
    fn misuse(&self, _misuse: &Misuse) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Frames of a machine with so much memory, all of it free but for metadata.
pub(crate) fn frames(memory: &'static Memory) -> (&'static Frames, &'static Counted) {
    let frames: &'static Frames = Box::leak(Box::new(Frames::new()));
    let sink = Counted::new();
    let map = MemoryMap { memory: &[memory.frames()], reserved: &[], later: None };
    let config = FramesConfig { sink: Some(sink), ..FramesConfig::new(4, || 0) };
    frames.init(&map, memory, config).unwrap();
    (frames, sink)
}
