//! Crate `page_table_multiarch`: frames for the page tables of ArceOS.

use core::marker::PhantomData;

use memory_addr::{PhysAddr, VirtAddr};
use page_table_multiarch::PagingHandler;
use tailpin::{FrameRange, PAGE_SIZE, Pfn};

use crate::frames::{Frames, Use};

/// A kernel's frames: the trait's functions have no `self` to find them by.
pub trait HasFrames: 'static {
    /// The static.
    fn frames() -> &'static Frames;
}

/// A handler for page tables: `PageTable64<M, PTE, Paging<MyKernel>>`. Frames are counted as
/// [`Use::PageTable`].
pub struct Paging<K>(PhantomData<fn() -> K>);

fn frame(address: PhysAddr) -> Pfn {
    Pfn::new((address.as_usize() / PAGE_SIZE) as u64)
}

impl<K: HasFrames> PagingHandler for Paging<K> {
    fn alloc_frames(num: usize, align: usize) -> Option<PhysAddr> {
        let align = (align.is_multiple_of(PAGE_SIZE)).then_some((align / PAGE_SIZE) as u64)?;
        let run = K::frames().alloc_for(Use::PageTable, num as u64, align).ok()?;
        Some(PhysAddr::from_usize(run.start.get() as usize * PAGE_SIZE))
    }

    /// Misuse is reported to the sink, and the frame goes out of service.
    fn dealloc_frames(paddr: PhysAddr, num: usize) {
        let _ = K::frames().free_for(Use::PageTable, FrameRange::new(frame(paddr), num as u64));
    }

    fn phys_to_virt(paddr: PhysAddr) -> VirtAddr {
        let page = K::frames().address(frame(paddr)).as_ptr() as usize;
        VirtAddr::from_usize(page + paddr.as_usize() % PAGE_SIZE)
    }
}
