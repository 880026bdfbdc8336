//! What a kernel writes to have address spaces: an environment of thirty lines, and the calls
//! behind its system calls.
//!
//! It runs in user space; the comments say what a kernel on the bare machine does instead.
//!
//! ```sh
//! cargo run -p tailpin-mm --example minimal_kernel_mm
//! ```

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::error::Error;
use std::ptr::NonNull;

use tailpin::{FrameRange, Order, Pfn, ZoneConfig, ZoneLayout, ZoneMemory};
use tailpin_mm::arch::X86_64;
use tailpin_mm::{
    Access, DirectMap, Env, FaultError, FrameInfos, Map, Mm, MmConfig, ObjectConfig, PAGE_BYTES, Prot,
    ReadSide, SpaceId, Stale, Tlb,
};

const MEMORY: u64 = 32 << 20;
const FIRST: Pfn = Pfn::new(0x200);

/// A machine with one CPU.
struct Machine {
    /// Bare machine: the virtual address at which all physical memory is mapped.
    direct_map: NonNull<u8>,
}

// SAFETY: the pointer is to memory that lives for the whole run and is accessed as `DirectMap`
// says.
unsafe impl Send for Machine {}
// SAFETY: the pointer is to memory that lives for the whole run and is accessed as `DirectMap`
// says.
unsafe impl Sync for Machine {}

// SAFETY: one allocation of `MEMORY` bytes, aligned to 2 MiB, never freed; frames follow each other
// in it.
unsafe impl DirectMap for Machine {
    fn frame(&self, frame: Pfn) -> NonNull<u8> {
        // Bare machine: direct map + frame × 4096, nothing else.
        let offset = (frame.get() - FIRST.get()) * PAGE_BYTES;
        assert!(offset < MEMORY);
        // SAFETY: within the allocation, as was just checked.
        unsafe { self.direct_map.add(offset as usize) }
    }
}

impl ReadSide for Machine {
    /// Bare machine: interrupts off while it lives. With one CPU no other code runs then, so every
    /// section is over whenever a thread can ask. On several CPUs a section on a space that the CPU
    /// has not loaded marks the CPU in the context.
    type Section<'a> = ();

    fn enter(&self, _context: &()) {}
}

impl Tlb for Machine {
    /// Bare machine, several CPUs: a set of those that run the space, and its PCID.
    type Context = ();

    fn new_context(&self, _space: SpaceId) {}

    /// Bare machine: `invlpg` for each page, or a reload of CR3 if they are many; on the other CPUs
    /// of the context by interrupt.
    fn invalidate(&self, _context: &(), _stale: Stale) {}

    fn cpus(&self) -> usize {
        1
    }

    fn load(&self, table: Option<(Pfn, &())>, loaded: &mut dyn FnMut(usize)) {
        // Bare machine: interrupts off, CR3 = the table's frame × 4096 or the kernel's own table.
        let _register = table.map(|(root, ())| root.get() * PAGE_BYTES);
        loaded(0);
    }
}

impl Env for Machine {
    type Arch = X86_64;
    /// Bare machine: a spinning or sleeping lock of yours that implements `lock_api::RawRwLock`.
    type Lock = parking_lot::RawRwLock;
}

fn main() -> Result<(), Box<dyn Error>> {
    // Boot: the memory map from the firmware, metadata from the boot allocator, the zone.
    let layout = Layout::from_size_align(MEMORY as usize, Order::HUGE.bytes() as usize)?;
    // SAFETY: the layout is not empty.
    let memory = unsafe { alloc_zeroed(layout) };
    let machine = Machine { direct_map: NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout)) };
    let ranges = [FrameRange::new(FIRST, MEMORY / PAGE_BYTES)];
    let layout = ZoneLayout::new(&ranges, 1)?;
    let metadata = ZoneMemory::for_layout(&layout);
    let infos = FrameInfos::new(layout.span_frames());
    let zone = metadata.zone(layout, ZoneConfig::default())?;
    let mm = Mm::new(&zone, &machine, &infos, MmConfig::default())?;
    println!("{} frames, {} free", zone.usable_frames(), zone.free_frames());

    // The first process, and the CPU runs it.
    let init = mm.space()?;
    init.switch_to();
    println!("space {} with its page table in frame {}", init.id().get(), init.load().root());
    let heap = init.map(Map::anonymous(8 << 20, Prot::READ_WRITE))?;

    // The page-fault handler of the processor: its error code says what was tried, CR2 where.
    init.fault(heap, Access::Write)?;
    println!("a fault at {heap} mapped {:?}", init.mapping(heap).map(|mapping| mapping.order));
    let wild = heap.offset(1 << 40);
    assert_eq!(init.fault(wild, Access::Read), Err(FaultError::Unmapped { addr: wild })); // SIGSEGV

    // copy_to_user and copy_from_user.
    init.write(heap, b"written by the parent")?;

    // fork.
    let child = init.fork()?;
    child.write(heap, b"rewritten by the child")?;
    let mut bytes = [0; 21];
    init.read(heap, &mut bytes)?;
    println!("after fork and a write in the child, the parent reads {:?}", std::str::from_utf8(&bytes)?);

    // Direct I/O: the device gets frames. The process may unmap them or exit, only those pages
    // stay.
    let pins = init.pin_pages(heap.offset(0x5000), 2 * PAGE_BYTES, Access::Write)?;
    println!("pinned for a device: {:?}", pins.frames().collect::<Vec<_>>());
    drop(child);
    let before = zone.free_frames();
    init.unmap(heap, 2 << 20)?;
    println!("unmapping 2 MiB with two pages pinned freed {} pages", zone.free_frames() - before);
    pins.write(0, b"from the device"); // harms no process
    drop(pins);

    // Shared memory between two processes.
    let shared = mm.object(ObjectConfig::new(1 << 20))?;
    let other = mm.space()?;
    let here = init.map(Map::shared(&shared, 0, 1 << 20, Prot::READ_WRITE))?;
    let there = other.map(Map::shared(&shared, 0, 1 << 20, Prot::READ))?;
    init.write(here.offset(70_000), b"both see this")?;
    let mut bytes = [0; 13];
    other.read(there.offset(70_000), &mut bytes)?;
    println!("the other process reads {:?}", std::str::from_utf8(&bytes)?);
    println!("which page that is, for a futex: {:?}", other.identify(there.offset(70_000), Access::Read)?);

    // Exit of all processes: no frame is lost.
    mm.switch_to_kernel();
    drop((init, other, shared, mm));
    let audit = zone.audit();
    println!("{audit}");
    assert_eq!((audit.violations(), zone.used_frames()), (0, 0));
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
