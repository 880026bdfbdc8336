//! frame-alloc: its lock-free summary buddy alone, and under its per-CPU depot.
//!
//! It keeps its bitmap inside the memory it manages, so it gets address space, of which only that
//! is touched.

use std::num::NonZeroUsize;
use std::ptr::NonNull;

use frame_alloc::{
    CpuId, DepotAllocator, PageSize, PhysicalAllocator, Provenance, RegionInit, SummaryBuddyAllocator,
};
use memmap2::MmapMut;
use tailpin::PAGE_SIZE;

use super::Frames;
use crate::cores;
use crate::lazy::huge_bytes;

const BASE: PageSize = PageSize::from_log2(12);
/// Orders 0 to 10, as its own examples have it.
const ORDERS: usize = 11;
const ALIGN: usize = PAGE_SIZE << (ORDERS - 1);
const SLOTS: usize = 16;

/// Turns the addresses of a pool into pointers.
pub(crate) struct Identity;

// SAFETY: addresses are those of a live mapping whose provenance was exposed in `Pool::new`; it
// covers every range handed to the allocator.
unsafe impl Provenance for Identity {
    unsafe fn create(phys: usize) -> NonNull<u8> {
        NonNull::new(std::ptr::with_exposed_provenance_mut(phys)).expect("no pool begins at address 0")
    }

    unsafe fn destroy<T>(ptr: NonNull<T>) -> usize {
        ptr.addr().get()
    }
}

/// The core that a thread is pinned to.
pub(crate) struct Seat;

impl CpuId for Seat {
    fn current_cpu() -> usize {
        cores::current()
    }
}

type Core = SummaryBuddyAllocator<ORDERS, Identity>;

type UnderDepot = DepotAllocator<Core, Seat, SLOTS>;

/// An allocator of the crate's, made fresh.
pub(crate) trait Kind: PhysicalAllocator + RegionInit {
    const NAME: &'static str;
    fn fresh() -> Self;
}

impl Kind for Core {
    const NAME: &'static str = "frame-alloc-summary";

    fn fresh() -> Self {
        Self::new(BASE)
    }
}

impl Kind for UnderDepot {
    const NAME: &'static str = "frame-alloc-depot";

    fn fresh() -> Self {
        Self::new(BASE, Core::fresh())
    }
}

/// One of them and the address space it manages.
pub(crate) struct Pool<A> {
    allocator: Box<A>,
    base: usize,
    _memory: MmapMut,
}

/// The summary buddy without the depot.
pub(crate) type Summary = Pool<Core>;
/// The summary buddy under the depot, its default sizes.
pub(crate) type Depot = Pool<UnderDepot>;

impl<A: Kind> Pool<A> {
    pub(crate) fn new(frames: u64) -> Self {
        let allocator = Box::new(A::fresh());
        let bytes = frames as usize * PAGE_SIZE;
        let mut memory = huge_bytes(bytes + ALIGN);
        let base = memory.as_mut_ptr().expose_provenance().next_multiple_of(ALIGN);
        // SAFETY: the range lies within the mapping, which is this pool's alone and lives as long;
        // no other thread knows the allocator yet.
        unsafe { allocator.init_region(base, bytes) };
        Self { allocator, base, _memory: memory }
    }
}

impl<A: Kind + Sync> Frames for Pool<A> {
    type Held = usize;
    const NAME: &'static str = A::NAME;

    #[inline]
    fn take(&self, order: u8) -> Option<usize> {
        let count = NonZeroUsize::new(1 << order)?;
        self.allocator.allocate_physical(BASE, count).ok()
    }

    #[inline]
    fn give(&self, held: usize, order: u8) {
        if let Some(count) = NonZeroUsize::new(1 << order) {
            // SAFETY: callers give back what `take` gave, with the same order, once.
            unsafe { self.allocator.deallocate_physical(BASE, count, held) };
        }
    }

    fn frame(&self, held: &usize) -> u64 {
        (held - self.base) as u64 / PAGE_SIZE as u64
    }
}
