//! bitmap-allocator: a tree of bits, sixteen to one, under a spin lock.

use bitmap_allocator::{BitAlloc, BitAlloc1M};
use spin::Mutex;

use super::Frames;

/// Its bitmap of a million bits under a lock.
pub(crate) struct Bitmap(Mutex<Box<BitAlloc1M>>);

impl Bitmap {
    /// # Panics
    /// Beyond a million frames.
    pub(crate) fn new(frames: u64) -> Self {
        assert!(frames as usize <= BitAlloc1M::CAP, "the bitmap has a million bits");
        let mut bits = Box::new(BitAlloc1M::DEFAULT);
        bits.insert(0..frames as usize);
        Self(Mutex::new(bits))
    }

    /// `n` frames side by side.
    #[inline]
    pub(crate) fn take_run(&self, n: usize) -> Option<usize> {
        self.0.lock().alloc_contiguous(None, n, 0)
    }

    /// Gives back any of them that lie side by side.
    #[inline]
    pub(crate) fn give_run(&self, first: usize, n: usize) {
        self.0.lock().dealloc_contiguous(first, n);
    }
}

impl Frames for Bitmap {
    type Held = usize;
    const NAME: &'static str = "bitmap-allocator";

    #[inline]
    fn take(&self, order: u8) -> Option<usize> {
        let mut bits = self.0.lock();
        if order == 0 { bits.alloc() } else { bits.alloc_contiguous(None, 1 << order, order.into()) }
    }

    #[inline]
    fn give(&self, held: usize, order: u8) {
        let mut bits = self.0.lock();
        if order == 0 {
            bits.dealloc(held)
        } else {
            bits.dealloc_contiguous(held, 1 << order)
        };
    }

    fn frame(&self, held: &usize) -> u64 {
        *held as u64
    }

    fn metadata_bytes(&self) -> Option<usize> {
        Some(size_of::<BitAlloc1M>())
    }
}
