//! What a kernel brings: where the bytes of a frame are, when a grace period (RCU) is over, how
//! stale translations leave the TLBs.

#[cfg(feature = "std")]
pub(crate) mod std_env;
pub(crate) mod sync;

use core::ptr::NonNull;

use tailpin::{Order, Pfn};

use crate::addr::{SpaceId, VirtRange};
use crate::arch::Arch;

/// Where a frame's 4096 bytes are.
///
/// # Safety
/// For every frame of the zone that is in service, `frame` returns a pointer, aligned to 4096, to
/// 4096 bytes that are readable and writable for as long as `self` lives, the same for each call,
/// and frames with consecutive numbers are consecutive in memory. For any other frame it returns
/// such a pointer or panics: the kernel's page table,
/// [`MmConfig::kernel_root`](crate::MmConfig::kernel_root), could name one. All software but this
/// crate accesses them atomically only; devices that were given a pin and the processor, through a
/// mapping, access them as they do.
#[allow(unsafe_code)]
pub unsafe trait DirectMap {
    /// The frame's first byte.
    fn frame(&self, frame: Pfn) -> NonNull<u8>;
}

/// A moment, for asking later whether every read-side section that was open then is over
/// (`get_state_synchronize_rcu`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cookie(pub u64);

/// Read-side sections and grace periods: RCU (read-copy-update), interrupts off, epochs, or
/// quiescent states.
///
/// A thread that walks a page table without a lock, or accesses memory through one, is inside a
/// *read-side section*. Sections are short (one page of copying at most), don't nest, and no thread
/// waits inside one. A *grace period* ends when every section that was open at its start is over.
#[doc(alias = "RCU")]
#[doc(alias = "grace period")]
#[doc(alias = "quiescent")]
pub trait ReadSide {
    /// A section, open until this is dropped (`rcu_read_lock`).
    type Section<'a>
    where
        Self: 'a;

    /// Opens a section. Everything in it is ordered after everything before: what a thread wrote
    /// before it began to wait for a grace period is seen in every section for which it did not
    /// wait.
    fn enter(&self) -> Self::Section<'_>;
    /// The cookie of this moment.
    fn cookie(&self) -> Cookie;
    /// Whether every section that was open at the cookie's moment is over. May be late, never early
    /// (`poll_state_synchronize_rcu`).
    fn poll(&self, cookie: Cookie) -> bool;
    /// Waits until every section that was open at the cookie's moment is over
    /// (`cond_synchronize_rcu`).
    #[doc(alias = "synchronize_rcu")]
    fn synchronize(&self, cookie: Cookie);
}

/// TLB shootdown: getting rid of stale translations on all CPUs.
#[doc(alias = "shootdown")]
#[doc(alias = "IPI")]
pub trait Tlb {
    /// When it returns, no CPU uses a translation of `range` of `space` (paging-structure caches
    /// included) that was read before the call, and every [section](ReadSide) that was open at the
    /// call is over. An inter-processor interrupt (IPI) to each CPU does both, if sections run with
    /// interrupts off.
    fn invalidate(&self, space: SpaceId, range: VirtRange);
}

/// Everything that this crate needs of the kernel around it. [`StdEnv`](crate::StdEnv) provides it
/// in user space.
pub trait Env: DirectMap + ReadSide + Tlb + Send + Sync {
    /// Format of the page tables.
    type Arch: Arch;
    /// Lock of an address space's regions and of an object's cache. Shared by faults, exclusive for
    /// changes of structure; never taken inside a section, never by the pin fast path.
    type Lock: lock_api::RawRwLock + Send + Sync;

    /// Asked before each allocation of a block; a `false` makes it fail just as if memory had run
    /// out. For quotas and for tests of failure.
    fn may_allocate(&self, order: Order) -> bool {
        let _ = order;
        true
    }

    /// Called once per turn of a loop that another thread has to end.
    fn relax(&self) {
        core::hint::spin_loop();
    }
}
