//! Crate `axallocator`: the page allocator of ArceOS, in place of its bitmap.

use axallocator::{AllocError, AllocResult, BaseAllocator, PageAllocator};
use tailpin::{AddError, FrameRange, PAGE_SIZE, Pfn, RunError};
use tailpin_mm::DirectMap;

use crate::frames::{Frames, FramesConfig, MemoryMap};

/// Pages by address, over [`Frames`]. ArceOS speaks of pages by their addresses in the direct map:
/// `offset` is what these are above the physical ones.
///
/// The trait asks for `&mut self`, so ArceOS puts it under a lock; the frames below need none, and
/// may be used beside it.
pub struct ArceosPages {
    frames: &'static Frames,
    direct_map: &'static (dyn DirectMap + Sync),
    config: FramesConfig,
    offset: usize,
    later: Option<FrameRange>,
}

impl ArceosPages {
    /// Pages over these frames, which `BaseAllocator::init` takes into service. Memory may be added
    /// later in `later`.
    pub const fn new(
        frames: &'static Frames,
        direct_map: &'static (dyn DirectMap + Sync),
        config: FramesConfig,
        offset: usize,
        later: Option<FrameRange>,
    ) -> Self {
        Self { frames, direct_map, config, offset, later }
    }

    /// The frame at an address of the direct map.
    fn frame(&self, address: usize) -> Option<Pfn> {
        let physical = address.checked_sub(self.offset)?;
        physical.is_multiple_of(PAGE_SIZE).then(|| Pfn::new((physical / PAGE_SIZE) as u64))
    }

    /// The whole frames within `bytes` bytes at an address.
    fn within(&self, address: usize, bytes: usize) -> Option<FrameRange> {
        let first = address.checked_next_multiple_of(PAGE_SIZE)?;
        let frames = address.checked_add(bytes)?.checked_sub(first)? / PAGE_SIZE;
        Some(FrameRange::new(self.frame(first)?, frames as u64))
    }

    fn address(&self, frame: Pfn) -> usize {
        frame.get() as usize * PAGE_SIZE + self.offset
    }
}

/// The alignment in frames of one in bytes.
fn frames_of_alignment(bytes: usize) -> AllocResult<u64> {
    if bytes.is_power_of_two() && bytes >= PAGE_SIZE {
        Ok((bytes / PAGE_SIZE) as u64)
    } else {
        Err(AllocError::InvalidParam)
    }
}

fn refused(error: RunError) -> AllocError {
    match error {
        RunError::Exhausted { .. } | RunError::InUse { .. } => AllocError::NoMemory,
        RunError::Empty | RunError::BadAlignment { .. } | RunError::NotInZone { .. } => {
            AllocError::InvalidParam
        }
    }
}

impl BaseAllocator for ArceosPages {
    /// # Panics
    /// If that is no memory that frames can be managed in: the trait has no other way to say so.
    fn init(&mut self, start: usize, size: usize) {
        let range = self.within(start, size).expect("an address of the direct map");
        let map = MemoryMap { memory: &[range], reserved: &[], later: self.later };
        self.frames.init(&map, self.direct_map, self.config).expect("memory that is not managed yet");
    }

    fn add_memory(&mut self, start: usize, size: usize) -> AllocResult {
        let range = self.within(start, size).ok_or(AllocError::InvalidParam)?;
        self.frames.add(range).map_err(|error| match error {
            AddError::InService { .. } => AllocError::MemoryOverlap,
            AddError::NotInZone { .. } | AddError::Busy { .. } => AllocError::InvalidParam,
        })
    }
}

impl PageAllocator for ArceosPages {
    const PAGE_SIZE: usize = PAGE_SIZE;

    fn alloc_pages(&mut self, num_pages: usize, align_pow2: usize) -> AllocResult<usize> {
        let run = self.frames.alloc(num_pages as u64, frames_of_alignment(align_pow2)?);
        run.map(|run| self.address(run.start)).map_err(refused)
    }

    /// Misuse is reported to the sink, and the frame goes out of service.
    fn dealloc_pages(&mut self, pos: usize, num_pages: usize) {
        if let Some(first) = self.frame(pos) {
            let _ = self.frames.free(FrameRange::new(first, num_pages as u64));
        }
    }

    fn alloc_pages_at(&mut self, base: usize, num_pages: usize, align_pow2: usize) -> AllocResult<usize> {
        let align = frames_of_alignment(align_pow2)?;
        let first = self.frame(base).filter(|first| first.get().is_multiple_of(align));
        let range = FrameRange::new(first.ok_or(AllocError::InvalidParam)?, num_pages as u64);
        self.frames.alloc_at(range).map_err(refused)?;
        Ok(base)
    }

    fn total_pages(&self) -> usize {
        self.frames.totals().0 as usize
    }

    fn used_pages(&self) -> usize {
        let (total, free) = self.frames.totals();
        (total - free) as usize
    }

    fn available_pages(&self) -> usize {
        self.frames.totals().1 as usize
    }
}
