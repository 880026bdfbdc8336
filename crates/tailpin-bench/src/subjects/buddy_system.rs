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

    /// `n` frames side by side, rounded up to a power of two.
    #[inline]
    pub(crate) fn take_run(&self, n: usize) -> Option<usize> {
        self.0.lock().alloc(n)
    }

    /// Gives them back, all at once.
    #[inline]
    pub(crate) fn give_run(&self, first: usize, n: usize) {
        self.0.lock().dealloc(first, n);
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
