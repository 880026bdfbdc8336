//! buddy_system_allocator: a set of free blocks for each order, under a spin lock.

use buddy_system_allocator::FrameAllocator;
use spin::Mutex;

use super::Frames;

/// Its `FrameAllocator` under a lock of the same kind as its own `LockedFrameAllocator`.
pub(crate) struct BuddySystem(Mutex<FrameAllocator<33>>);

impl BuddySystem {
    pub(crate) fn new(frames: u64) -> Self {
        let mut allocator = FrameAllocator::new();
        allocator.add_frame(0, frames as usize);
        Self(Mutex::new(allocator))
    }
}

impl Frames for BuddySystem {
    type Held = usize;
    const NAME: &'static str = "buddy_system_allocator";

    #[inline]
    fn take(&self, order: u8) -> Option<usize> {
        self.0.lock().alloc(1 << order)
    }

    #[inline]
    fn give(&self, held: usize, order: u8) {
        self.0.lock().dealloc(held, 1 << order);
    }

    fn frame(&self, held: &usize) -> u64 {
        *held as u64
    }
}
