//! What kernels call a frame allocator by: the verbs of `buddy_system_allocator` and of Asterinas'
//! ostd, each over [`Frames`]. No dependency is named: the traits and methods are restated.

use std::alloc::Layout;
use std::error::Error;
use std::ops::Range;

use tailpin::{FrameRange, Pfn};
use tailpin_kernel::{Frames, FramesConfig, MemoryMap};
use tailpin_mm::Ram;

static FRAMES: Frames = Frames::new();

/// `buddy_system_allocator::LockedFrameAllocator`, which needs no lock here.
struct BuddyVerbs(&'static Frames);

impl BuddyVerbs {
    fn insert(&self, range: Range<usize>) -> bool {
        let (start, end) = (Pfn::new(range.start as u64), Pfn::new(range.end as u64));
        self.0.add(FrameRange { start, end }).is_ok()
    }

    fn alloc(&self, count: usize) -> Option<usize> {
        Some(self.0.alloc(count as u64, 1).ok()?.start.get() as usize)
    }

    /// A layout in frames, not in bytes, as there.
    fn alloc_aligned(&self, layout: Layout) -> Option<usize> {
        Some(self.0.alloc(layout.size() as u64, layout.align() as u64).ok()?.start.get() as usize)
    }

    fn alloc_at(&self, start: usize, count: usize) -> Option<usize> {
        self.0.alloc_at(FrameRange::new(Pfn::new(start as u64), count as u64)).ok()?;
        Some(start)
    }

    fn dealloc(&self, start: usize, count: usize) {
        // Misuse has been reported to the sink.
        let _ = self.0.free(FrameRange::new(Pfn::new(start as u64), count as u64));
    }
}

/// `ostd::mm::frame::GlobalFrameAllocator`: what is handed out may come back in any order and any
/// number of calls. In safe code, as its crates have to be.
trait GlobalFrameAllocator: Sync {
    fn alloc(&self, layout: Layout) -> Option<usize>;
    fn dealloc(&self, addr: usize, size: usize);
    fn add_free_memory(&self, addr: usize, size: usize);
}

struct OstdVerbs(&'static Frames);

/// The whole frames of `size` bytes from an address.
fn frames(addr: usize, size: usize) -> FrameRange {
    let (start, end) = (Pfn::new((addr / 4096) as u64), Pfn::new((addr + size).div_ceil(4096) as u64));
    FrameRange { start, end }
}

impl GlobalFrameAllocator for OstdVerbs {
    fn alloc(&self, layout: Layout) -> Option<usize> {
        let (n, align) = (layout.size().div_ceil(4096), layout.align().div_ceil(4096));
        Some(self.0.alloc(n as u64, align as u64).ok()?.start.get() as usize * 4096)
    }

    fn dealloc(&self, addr: usize, size: usize) {
        // Misuse has been reported to the sink.
        let _ = self.0.free(frames(addr, size));
    }

    fn add_free_memory(&self, addr: usize, size: usize) {
        // Memory outside of what the map said may come stays unused.
        let _ = self.0.add(frames(addr, size));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // In place of a machine's memory: 64 MiB, of which 8 MiB are known at first.
    let ram: &'static Ram = Box::leak(Box::new(Ram::new(64 << 20)));
    let there = FrameRange::new(Pfn::new(512), 16_384);
    let first = [FrameRange::new(there.start, 2048)];
    let map = MemoryMap { memory: &first, reserved: &[], later: Some(there) };
    FRAMES.init(&map, ram.env(), FramesConfig::new(1, || 0))?;
    let (_, free) = FRAMES.totals();

    let buddy = BuddyVerbs(&FRAMES);
    let run = buddy.alloc(5).ok_or("no frames")?;
    let aligned = buddy.alloc_aligned(Layout::from_size_align(3, 16)?).ok_or("no frames")?;
    assert!(aligned.is_multiple_of(16));
    buddy.dealloc(run + 3, 2);
    buddy.dealloc(run, 3);
    buddy.dealloc(aligned, 3);
    assert!(buddy.insert(4096..8192));
    assert_eq!(buddy.alloc_at(5000, 10), Some(5000));
    assert_eq!(buddy.alloc_at(5009, 1), None);
    buddy.dealloc(5000, 10);
    println!("buddy's verbs: {} frames free, {} at first", FRAMES.totals().1, free);

    let ostd = OstdVerbs(&FRAMES);
    ostd.add_free_memory(8192 * 4096, 4 << 20);
    let addr = ostd.alloc(Layout::from_size_align(7 * 4096, 8 << 12)?).ok_or("no frames")?;
    assert!(addr.is_multiple_of(8 << 12));
    ostd.dealloc(addr + 4096, 6 * 4096);
    ostd.dealloc(addr, 4096);
    println!("ostd's verbs: {} frames free", FRAMES.totals().1);
    assert_eq!(FRAMES.totals().1, free + 4096 + 1024);
    assert_eq!(FRAMES.zone().audit().violations(), 0);
    Ok(())
}
