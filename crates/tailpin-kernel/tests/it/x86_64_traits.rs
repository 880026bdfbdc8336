//! Crate `x86_64`: page tables of its own mapper in our frames.

use x86_64::VirtAddr;
use x86_64::structures::paging::mapper::{CleanUp, MapToError};
use x86_64::structures::paging::{
    FrameAllocator, FrameDeallocator, Mapper, OffsetPageTable, Page, PageTable, PageTableFlags, PhysFrame,
    Size1GiB, Size2MiB, Size4KiB, Translate,
};

use crate::machine::{Memory, frames};

#[test]
fn its_mapper_takes_tables_and_frames_of_all_sizes_from_us_and_gives_them_back() {
    let memory = Memory::new(8192);
    let (frames, sink) = frames(memory);
    let mut ours = frames;
    let (_, before) = frames.totals();
    let root: PhysFrame<Size4KiB> = ours.allocate_frame().unwrap();
    let table = (root.start_address().as_u64() + memory.offset()) as *mut PageTable;
    // SAFETY: a frame of ours, in memory at that offset, which no other code uses.
    let mut mapper = unsafe {
        table.write(PageTable::new());
        OffsetPageTable::new(&mut *table, VirtAddr::new(memory.offset()))
    };
    let (small, huge) = (VirtAddr::new(0x1234_5000), VirtAddr::new(0x4000_0000));
    let flags = PageTableFlags::PRESENT | PageTableFlags::WRITABLE;
    let page: Page<Size4KiB> = Page::from_start_address(small).unwrap();
    let frame: PhysFrame<Size4KiB> = ours.allocate_frame().unwrap();
    // SAFETY: no processor walks this table.
    unsafe { mapper.map_to(page, frame, flags, &mut ours) }.unwrap().ignore();
    let huge_page: Page<Size2MiB> = Page::from_start_address(huge).unwrap();
    let huge_frame: PhysFrame<Size2MiB> = ours.allocate_frame().unwrap();
    // SAFETY: as above.
    unsafe { mapper.map_to(huge_page, huge_frame, flags, &mut ours) }.unwrap().ignore();
    assert_eq!(mapper.translate_addr(huge + 0x12_3456), Some(huge_frame.start_address() + 0x12_3456));
    // The root; three tables on the way to the small page; one more for the huge one, whose own
    // root entry is the same.
    assert_eq!(before - frames.totals().1, 1 + 3 + 1 + 1 + 512);
    assert!(frames.alloc(1 << 18, 1 << 18).is_err(), "there is no gigabyte");
    assert_eq!(<_ as FrameAllocator<Size1GiB>>::allocate_frame(&mut ours), None);
    // SAFETY: as above.
    let again = unsafe { mapper.map_to(page, frame, flags, &mut ours) };
    assert!(matches!(again, Err(MapToError::PageAlreadyMapped(_))));
    let (frame, flush) = mapper.unmap(page).unwrap();
    flush.ignore();
    let (huge_frame, flush) = mapper.unmap(huge_page).unwrap();
    flush.ignore();
    // SAFETY: nothing is mapped any more, and the frames are given back once each.
    unsafe {
        mapper.clean_up(&mut ours);
        ours.deallocate_frame(frame);
        ours.deallocate_frame(huge_frame);
        ours.deallocate_frame(root);
    }
    assert_eq!((frames.totals().1, sink.misuses()), (before, 0));
}

#[test]
fn a_frame_of_a_gigabyte_is_one_block() {
    let memory = Memory::from(tailpin::Pfn::new(1 << 18), (1 << 18) + 4096);
    // Metadata would lie in the gigabyte if it were not reserved.
    let low = tailpin::FrameRange::new(tailpin::Pfn::new(1 << 18), 1 << 18);
    let map = tailpin_kernel::MemoryMap {
        memory: &[low, tailpin::FrameRange::new(low.end, 4096)],
        reserved: &[low],
        later: None,
    };
    let frames: &'static tailpin_kernel::Frames = Box::leak(Box::new(tailpin_kernel::Frames::new()));
    frames.init(&map, memory, tailpin_kernel::FramesConfig::new(1, || 0)).unwrap();
    frames.add(low).unwrap();
    let mut ours = frames;
    let frame: PhysFrame<Size1GiB> = ours.allocate_frame().unwrap();
    assert_eq!(frame.start_address().as_u64(), 1 << 30);
    // SAFETY: nothing is mapped.
    unsafe { ours.deallocate_frame(frame) };
    assert_eq!(frames.zone().used_frames(), 0);
}
