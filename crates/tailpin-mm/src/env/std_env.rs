//! The environment in user space: memory from the heap, read-side sections counted, nothing
//! privileged.
//!
//! There is no TLB here; a thread that has read an entry and not yet used what it maps is like one.
//! So invalidating waits until every open section is over.

#![allow(unsafe_code)]

use core::cell::Cell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::sync::Mutex;

use tailpin::{FrameRange, Order, Pfn, Zone, ZoneConfig, ZoneError, ZoneLayout, ZoneMemory};

use crate::addr::SpaceId;
use crate::arch::X86_64;
use crate::env::{DirectMap, Env, ReadSide, Stale, Tlb};
use crate::frame_info::FrameInfos;

/// How many counters there are: each thread counts its sections in one of them.
const SHARDS: usize = 32;

/// Open sections of the threads that share a counter, by phase.
#[derive(Default)]
#[repr(align(128))]
struct Shard([AtomicU64; 2]);

/// Sections counted in two phases, as in sleepable RCU (SRCU): a thread that waits flips the phase
/// twice, and each time waits for the sections still open in the other phase.
struct Sections {
    /// Written by the threads that open and end sections, each in its own counter.
    shards: [Shard; SHARDS],
    /// Its last bit is the phase in which sections are counted now. Written under `waiting`.
    phase: AtomicUsize,
    /// Held while a thread waits: one waits at a time.
    waiting: Mutex<()>,
}

impl Sections {
    fn new() -> Self {
        Self {
            shards: core::array::from_fn(|_| Shard::default()),
            phase: AtomicUsize::new(0),
            waiting: Mutex::new(()),
        }
    }

    fn enter(&self) -> StdSection<'_> {
        // Relaxed: as the phase may be stale, a waiting thread waits for both.
        let phase = self.phase.load(Ordering::Relaxed) & 1;
        let count = &self.shards[shard_of_thread()].0[phase];
        // SeqCst, with the fence: either the waiting thread counts this section, or the section
        // sees what that thread did before it began to wait.
        count.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        StdSection { count }
    }

    fn open(&self, phase: usize) -> bool {
        // SeqCst, with the fence of `enter`: a section that is not seen here sees what the waiting
        // thread did. Acquire is part of it: what was done in the sections that are over is seen.
        self.shards.iter().any(|shard| shard.0[phase].load(Ordering::SeqCst) != 0)
    }

    /// Waits until every section that is open now is over.
    fn synchronize(&self) {
        let _waiting = self.waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        fence(Ordering::SeqCst);
        for _ in 0..2 {
            let old = self.phase.fetch_add(1, Ordering::SeqCst) & 1;
            while self.open(old) {
                std::thread::yield_now();
            }
        }
    }
}

/// Which counter this thread has; threads share one if there are more threads than counters.
fn shard_of_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    std::thread_local! {
        static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    SHARD.with(|shard| {
        if shard.get() == usize::MAX {
            // Relaxed: only the value matters.
            shard.set(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
        }
        shard.get()
    })
}

/// An open read-side section of [`StdEnv`].
pub struct StdSection<'a> {
    count: &'a AtomicU64,
}

impl Drop for StdSection<'_> {
    fn drop(&mut self) {
        // Release: pairs with the load in `Sections::open`: the waiting thread sees all that was
        // done in the section.
        self.count.fetch_sub(1, Ordering::Release);
    }
}

/// An [`Env`] in user space: the frames are memory of this process.
pub struct StdEnv {
    allocated: NonNull<u8>,
    layout: Layout,
    /// The first frame, aligned to 2 MiB.
    memory: NonNull<u8>,
    frames: FrameRange,
    sections: Sections,
    /// Allocations that still succeed; at zero they fail.
    allowed: AtomicU64,
    /// Counted up by any thread, at each question; a statistic.
    asked: AtomicU64,
    /// Counted up by any thread, at each invalidation; a statistic.
    invalidations: AtomicU64,
}

// SAFETY: the memory belongs to this value until it is dropped, and is handed out only as
// `DirectMap` says, for atomic access.
unsafe impl Send for StdEnv {}
// SAFETY: the memory is only accessed atomically; everything else in it is atomic or locked.
unsafe impl Sync for StdEnv {}

/// The first frame is not number 0, so that a word that was never written is never a frame.
const FIRST_FRAME: Pfn = Pfn::new(Order::HUGE.frames());

impl StdEnv {
    fn new(bytes: u64) -> Self {
        // Checked in release builds too: a size that wraps round would be allocated as another.
        let rounded = bytes.max(1).checked_next_multiple_of(Order::HUGE.bytes());
        let room = |bytes: u64| usize::try_from(bytes).ok()?.checked_add(Order::HUGE.bytes() as usize);
        let (bytes, allocated) =
            rounded.and_then(|bytes| Some((bytes, room(bytes)?))).expect("the size is in range");
        let frames = FrameRange::new(FIRST_FRAME, bytes / crate::PAGE_BYTES);
        // Aligned here, as the heap clears memory of large alignment by writing to it, and all of
        // it would be resident then.
        let huge = Order::HUGE.bytes() as usize;
        let layout = Layout::from_size_align(allocated, 16).expect("the size is in range");
        // SAFETY: the layout's size is at least 2 MiB.
        let allocated = unsafe { alloc_zeroed(layout) };
        let Some(allocated) = NonNull::new(allocated) else { handle_alloc_error(layout) };
        // SAFETY: less than 2 MiB are skipped, which is what was added to the size.
        let memory = unsafe { allocated.add(allocated.align_offset(huge)) };
        let (sections, allowed) = (Sections::new(), AtomicU64::new(u64::MAX));
        let (asked, invalidations) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { allocated, layout, memory, frames, sections, allowed, asked, invalidations }
    }

    /// Lets `allocations` more allocations succeed and all after them fail, until the next call;
    /// with `None` none fails. For tests of what happens without memory.
    pub fn fail_after(&self, allocations: Option<u64>) {
        // Relaxed: a knob of tests.
        self.allowed.store(allocations.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How many allocations were asked for so far, those that failed included.
    pub fn allocations(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// How many times translations were invalidated so far.
    pub fn invalidations(&self) -> u64 {
        self.invalidations.load(Ordering::Relaxed)
    }
}

impl Drop for StdEnv {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and freed only here.
        unsafe { dealloc(self.allocated.as_ptr(), self.layout) }
    }
}

// SAFETY: the memory lives as long as `self`, is aligned to 2 MiB, and frames follow each other in
// it.
unsafe impl DirectMap for StdEnv {
    #[expect(clippy::arithmetic_side_effects, reason = "within the allocation")]
    fn frame(&self, frame: Pfn) -> NonNull<u8> {
        assert!(self.frames.contains(frame), "frame {frame} is not of this memory");
        let offset = (frame.get() - self.frames.start.get()) * crate::PAGE_BYTES;
        // SAFETY: within the allocation, as was just checked.
        unsafe { self.memory.add(offset as usize) }
    }
}

impl ReadSide for StdEnv {
    type Section<'a> = StdSection<'a>;

    fn enter(&self, (): &()) -> StdSection<'_> {
        self.sections.enter()
    }
}

impl Tlb for StdEnv {
    /// Nothing: sections are counted by thread, whatever space they are on.
    type Context = ();

    fn new_context(&self, _space: SpaceId) {}

    fn invalidate(&self, (): &(), _stale: Stale) {
        // Relaxed: a statistic.
        self.invalidations.fetch_add(1, Ordering::Relaxed);
        self.sections.synchronize();
    }
}

impl Env for StdEnv {
    type Arch = X86_64;
    type Lock = parking_lot::RawRwLock;

    fn may_allocate(&self, _order: Order) -> bool {
        // Relaxed: a statistic and a knob of tests.
        self.asked.fetch_add(1, Ordering::Relaxed);
        let take = |left: u64| match left {
            u64::MAX => Some(left),
            left => left.checked_sub(1),
        };
        self.allowed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn relax(&self) {
        std::thread::yield_now();
    }
}

/// Memory in user space, with the metadata that a zone and an [`Mm`](crate::Mm) over it need.
///
/// The zone borrows it, and the `Mm` borrows both: the documentation of [`Mm`](crate::Mm) has an
/// example.
pub struct Ram {
    env: StdEnv,
    metadata: ZoneMemory,
    infos: FrameInfos<'static>,
}

impl Ram {
    /// `bytes` of memory, rounded up to 2 MiB; the process gets pages for it as they are used.
    ///
    /// # Panics
    /// If the process can't allocate that much.
    pub fn new(bytes: u64) -> Self {
        let env = StdEnv::new(bytes);
        let ranges = [env.frames];
        let layout = Self::layout(&ranges);
        let metadata = ZoneMemory::for_layout(&layout);
        let infos = FrameInfos::new(layout.span_frames());
        Self { env, metadata, infos }
    }

    fn layout(ranges: &[FrameRange; 1]) -> ZoneLayout<'_> {
        ZoneLayout::new(ranges, 4).expect("one range, not empty")
    }

    /// The zone over this memory. To be called once: see [`ZoneMemory::zone`].
    ///
    /// # Errors
    /// As [`Zone::new`].
    pub fn zone(&self) -> Result<Zone<'_>, ZoneError> {
        self.zone_with(ZoneConfig::default().cpu(shard_of_thread))
    }

    /// The zone over this memory, with a configuration; to be called once, as [`Ram::zone`].
    ///
    /// # Errors
    /// As [`Zone::new`].
    pub fn zone_with<'m>(&'m self, config: ZoneConfig<'m>) -> Result<Zone<'m>, ZoneError> {
        let ranges = [self.env.frames];
        self.metadata.zone(Self::layout(&ranges), config)
    }

    /// The environment that has this memory.
    pub fn env(&self) -> &StdEnv {
        &self.env
    }

    /// The frame information, one entry for each frame of the zone's span.
    pub fn infos(&self) -> &FrameInfos<'static> {
        &self.infos
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{VirtAddr, VirtRange};
    use std::sync::atomic::AtomicBool;

    #[test]
    fn invalidating_ends_only_when_the_sections_open_then_are_over() {
        let env = StdEnv::new(1);
        let range = VirtRange::new(VirtAddr::new(0), crate::PAGE_BYTES);
        let section = env.enter(&());
        let [begun, done] = [false, false].map(AtomicBool::new);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                begun.store(true, Ordering::SeqCst);
                env.invalidate(&(), Stale { range, tables: true });
                assert!(done.load(Ordering::SeqCst), "the wait ended with the section open");
            });
            while !begun.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
            // A section that opens now is not waited for.
            drop(env.enter(&()));
            done.store(true, Ordering::SeqCst);
            drop(section);
        });
        assert_eq!(env.invalidations(), 1);
    }

    #[test]
    fn a_size_that_wraps_round_is_refused() {
        let huge = Order::HUGE.bytes();
        for bytes in [u64::MAX, u64::MAX - huge + 1, u64::MAX - 2 * huge] {
            assert!(std::panic::catch_unwind(|| StdEnv::new(bytes)).is_err(), "{bytes}");
        }
    }

    #[test]
    fn allocations_fail_from_where_they_are_told_to() {
        let env = StdEnv::new(1);
        env.fail_after(Some(2));
        assert_eq!([0; 4].map(|_| env.may_allocate(Order::PAGE)), [true, true, false, false]);
        env.fail_after(None);
        assert!(env.may_allocate(Order::PAGE));
    }
}
