//! buddy-slab-allocator: its page level, linked lists by frame number, under a spin lock.
//!
//! It computes buddies from where its managed memory begins, behind its own metadata, and gives
//! naturally aligned blocks only if that place is aligned; so the region is laid such that it is.

use buddy_slab_allocator::{BuddyAllocator, ManagedSection};
use memmap2::MmapMut;
use spin::Mutex;
use tailpin::PAGE_SIZE;

use super::Frames;
use crate::lazy::lazy_bytes;

const ALIGN: usize = 2 << 20;

/// Its buddy allocator and the region it manages.
pub(crate) struct BuddySlab {
    allocator: Mutex<BuddyAllocator>,
    base: usize,
    _memory: MmapMut,
}

impl BuddySlab {
    /// # Panics
    /// If the allocator refuses the region.
    pub(crate) fn new(frames: u64) -> Self {
        let bytes = frames as usize * PAGE_SIZE;
        let mut region = bytes
            + BuddyAllocator::<PAGE_SIZE>::required_meta_size(bytes).next_multiple_of(PAGE_SIZE)
            + 2 * PAGE_SIZE;
        let mut memory = lazy_bytes(region + 2 * ALIGN);
        // Where it puts the beginning depends on the length alone: try until the length is right,
        // and move by what is missing to an aligned beginning.
        let start = memory.as_ptr().addr().next_multiple_of(ALIGN) - memory.as_ptr().addr();
        let probed = loop {
            let (_, section) = Self::over(&mut memory[start..start + region]);
            if section.total_pages <= frames as usize {
                break section.start;
            }
            region -= PAGE_SIZE;
        };
        let start = start + probed.next_multiple_of(ALIGN) - probed;
        let (allocator, section) = Self::over(&mut memory[start..start + region]);
        Self { allocator: Mutex::new(allocator), base: section.start, _memory: memory }
    }

    fn over(region: &mut [u8]) -> (BuddyAllocator, ManagedSection) {
        let mut allocator = BuddyAllocator::new();
        // SAFETY: the caller keeps the mapping as long as the allocator, or throws that away at
        // once.
        let made = unsafe { allocator.init(region) };
        made.expect("the region is large enough");
        let section = allocator.section(0).expect("there is one section");
        (allocator, section)
    }
}

impl Frames for BuddySlab {
    type Held = usize;
    const NAME: &'static str = "buddy-slab-allocator";

    #[inline]
    fn take(&self, order: u8) -> Option<usize> {
        self.allocator.lock().alloc_pages(1 << order, PAGE_SIZE << order).ok()
    }

    #[inline]
    fn give(&self, held: usize, order: u8) {
        self.allocator.lock().dealloc_pages(held, 1 << order);
    }

    fn frame(&self, held: &usize) -> u64 {
        (held - self.base) as u64 / PAGE_SIZE as u64
    }
}
