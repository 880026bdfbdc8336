//! A page table that the mapper of crate `x86_64` makes in our frames, loaded and walked by the
//! MMU.

use core::sync::atomic::Ordering;

use tailpin::Pfn;
use x86_64::structures::paging::{
    FrameAllocator, Mapper, Page, PageTableFlags, PhysFrame, Size2MiB, Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

use super::{Check, World, ensure};
use crate::boot::FRAMES;
use crate::machine::{self, words};
use crate::traps::write;

/// Two pages are mapped and written through the MMU; what was written is in the frames. Everything
/// comes back.
pub(super) fn x86_64_traits(world: &World) -> Check {
    let before = world.zone.free_frames();
    let mut frames = &FRAMES;
    let root: PhysFrame<Size4KiB> = frames.allocate_frame().ok_or("no frame")?;
    let small: PhysFrame<Size4KiB> = frames.allocate_frame().ok_or("no frame")?;
    let huge: PhysFrame<Size2MiB> = frames.allocate_frame().ok_or("no huge frame")?;
    let first = |address: PhysAddr| Pfn::new(address.as_u64() >> 12);
    let flags = PageTableFlags::PRESENT | PageTableFlags::WRITABLE;
    let small_page = Page::<Size4KiB>::containing_address(VirtAddr::new(0x40_0000_0000));
    let huge_page = Page::<Size2MiB>::containing_address(VirtAddr::new(0x40_4000_0000));
    let mut mapper = machine::mapper(root);
    machine::map(&mut mapper, small_page, small, flags)?;
    machine::map(&mut mapper, huge_page, huge, flags)?;
    let tables = before - world.zone.free_frames() - 2 - 512;
    machine::in_table(&mapper, || {
        let at = |address: VirtAddr| tailpin_mm::VirtAddr::new(address.as_u64());
        ensure(write(at(small_page.start_address()), 5), "the small page can't be written")?;
        let last = at(huge_page.start_address() + ((2u64 << 20) - 8));
        ensure(write(last, 6), "the huge page can't be written")
    })?;
    let word = |frame: Pfn, index: usize| words(frame)[index].load(Ordering::Relaxed);
    ensure(word(first(small.start_address()), 0) == 5, "the small page is elsewhere")?;
    ensure(word(first(huge.start_address()).offset(511), 511) == 6, "the huge page is elsewhere")?;
    // Three for the small page, and one more for the huge one.
    ensure(tables == 4, "not as many tables as there have to be")?;
    mapper.unmap(small_page).map_err(|_| "not mapped")?.1.ignore();
    mapper.unmap(huge_page).map_err(|_| "not mapped")?.1.ignore();
    machine::end_table(mapper, root);
    machine::free_frame(small);
    machine::free_frame(huge);
    Ok(())
}
