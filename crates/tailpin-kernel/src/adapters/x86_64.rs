//! Crate `x86_64`: [`FrameAllocator`] and [`FrameDeallocator`] for frames of all three sizes, on a
//! reference to the static: `mapper.map_to(page, frame, flags, &mut &FRAMES)`.

#![allow(unsafe_code)]

use tailpin::{FrameRange, Order, PAGE_SIZE, Pfn};
use x86_64::PhysAddr;
use x86_64::structures::paging::{
    FrameAllocator, FrameDeallocator, PageSize, PhysFrame, Size1GiB, Size2MiB, Size4KiB,
};

use crate::frames::Frames;

/// A page size and the order of a block of it.
trait BlockSize: PageSize {
    const ORDER: Order;
}

impl BlockSize for Size4KiB {
    const ORDER: Order = Order::PAGE;
}

impl BlockSize for Size2MiB {
    const ORDER: Order = Order::HUGE;
}

impl BlockSize for Size1GiB {
    const ORDER: Order = Order::MAX;
}

// SAFETY: a frame is handed out to one caller at a time, and lies in memory that the kernel's map
// has as free.
unsafe impl<S: BlockSize> FrameAllocator<S> for &Frames {
    fn allocate_frame(&mut self) -> Option<PhysFrame<S>> {
        let frames = S::ORDER.frames();
        let run = self.alloc(frames, frames).ok()?;
        let address = PhysAddr::new(run.start.get() * PAGE_SIZE as u64);
        PhysFrame::from_start_address(address).ok()
    }
}

impl<S: BlockSize> FrameDeallocator<S> for &Frames {
    /// Misuse is reported to the sink, and the frame goes out of service.
    unsafe fn deallocate_frame(&mut self, frame: PhysFrame<S>) {
        let first = Pfn::new(frame.start_address().as_u64() / PAGE_SIZE as u64);
        let _ = self.free(FrameRange::block(first, S::ORDER));
    }
}
