//! Crate `x86_64`'s mapper takes a frame of 2 MiB and the tables to it from [`Frames`]. In a
//! program, so the table is made and looked through, and not loaded.

use std::error::Error;

use tailpin::{FrameRange, PAGE_SIZE, Pfn};
use tailpin_kernel::{Frames, FramesConfig, MemoryMap};
use tailpin_mm::{DirectMap, Ram};
use x86_64::VirtAddr;
use x86_64::structures::paging::mapper::MapToError;
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PageTable, PageTableFlags, PhysFrame, Size2MiB, Size4KiB,
    Translate,
};

static FRAMES: Frames = Frames::new();

fn map_huge(mapper: &mut impl Mapper<Size2MiB>, page: Page<Size2MiB>) -> Result<(), MapToError<Size2MiB>> {
    let frame: PhysFrame<Size2MiB> = (&FRAMES).allocate_frame().ok_or(MapToError::FrameAllocationFailed)?;
    let flags = PageTableFlags::PRESENT | PageTableFlags::WRITABLE;
    // SAFETY: nothing else is mapped there, and no processor walks this table.
    unsafe { mapper.map_to(page, frame, flags, &mut &FRAMES) }?.ignore();
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    // In place of a machine's memory and its direct map.
    let direct_map = Box::leak(Box::new(Ram::new(16 << 20))).env();
    let memory = [FrameRange::new(Pfn::new(512), 4096)];
    let map = MemoryMap { memory: &memory, reserved: &[], later: None };
    FRAMES.init(&map, direct_map, FramesConfig::new(1, || 0))?;

    let root: PhysFrame<Size4KiB> = (&FRAMES).allocate_frame().ok_or("no frame")?;
    let first = Pfn::new(root.start_address().as_u64() / PAGE_SIZE as u64);
    let table = direct_map.frame(first).cast::<PageTable>();
    let offset = table.as_ptr() as u64 - root.start_address().as_u64();
    // SAFETY: a frame of ours, and all of memory is at this offset.
    let mut mapper = unsafe {
        table.write(PageTable::new());
        OffsetPageTable::new(&mut *table.as_ptr(), VirtAddr::new(offset))
    };
    let page = Page::<Size2MiB>::containing_address(VirtAddr::new(0x4000_0000));
    map_huge(&mut mapper, page).map_err(|error| format!("{error:?}"))?;
    let found = mapper.translate_addr(page.start_address() + 0x1234u64).ok_or("not mapped")?;
    println!("{:#x} is at {found:?}; {} frames in use", page.start_address(), FRAMES.zone().used_frames());
    assert_eq!(FRAMES.zone().used_frames(), 512 + 3);
    Ok(())
}
