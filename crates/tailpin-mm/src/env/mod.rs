//! What a kernel brings: how frames are reached, how long others may still be looking, how stale
//! translations go.

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
/// such a pointer or panics: a table of the caller's
/// ([`MmConfig::kernel_root`](crate::MmConfig::kernel_root)) could name one. Nothing but this crate
/// reads or writes them otherwise than atomically, except the owner of a pin or a mapping through
/// the hardware.
#[allow(unsafe_code)]
pub unsafe trait DirectMap {
    /// The frame's first byte.
    fn frame(&self, frame: Pfn) -> NonNull<u8>;
}

/// A moment, for asking later whether everybody who was looking then has looked away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cookie(pub u64);

/// Readers without a lock, and waiting for them: read-copy-update, interrupts off, epochs.
///
/// While it walks a page table without a lock, or touches memory through one, this crate is inside
/// a *section*. Sections are short (one page of copying at most), don't nest, and nothing in them
/// waits.
pub trait ReadSide {
    /// Keeps the section open until dropped.
    type Section<'a>
    where
        Self: 'a;

    /// Opens a section. Orders everything in it after everything before: what a writer did before
    /// it began to wait for sections is seen in every section it did not wait for.
    fn enter(&self) -> Self::Section<'_>;
    /// This moment.
    fn cookie(&self) -> Cookie;
    /// Whether every section that was open at the mark is over. May be late, never early.
    fn poll(&self, cookie: Cookie) -> bool;
    /// Waits until it has passed.
    fn synchronize(&self, cookie: Cookie);
}

/// Getting rid of stale translations.
pub trait Tlb {
    /// When it returns, no CPU uses a translation of `range` of `space` (paging-structure caches
    /// included) that was read before the call, and every [section](ReadSide) that was open at the
    /// call is over. An interrupt to each CPU does both, if sections run with interrupts off.
    fn invalidate(&self, space: SpaceId, range: VirtRange);
}

/// Everything this crate needs of its surroundings. See [`StdEnv`](crate::StdEnv) for one that runs
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
