//! What a kernel brings: where the bytes of a frame are, its CPUs' root registers, how stale
//! translations leave the TLBs, its lock.

pub(crate) mod direct_map;
#[cfg(feature = "std")]
pub(crate) mod std_env;
pub(crate) mod sync;

use tailpin::{Order, Pfn};

use crate::addr::{SpaceId, VirtRange};
use crate::arch::Arch;
pub use crate::env::direct_map::DirectMap;

/// What a shootdown gets rid of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale {
    /// The addresses whose translations are stale.
    pub range: VirtRange,
    /// Whether page tables went out of use as well, each with some address of its reach in `range`:
    /// entries that lead to tables are stale, too (`freed_tables`). On x86-64 and Arm invalidating
    /// any address of a table's reach forgets them; on RISC-V a fence for one address doesn't.
    pub tables: bool,
}

/// The CPUs' root registers and translations: which CPUs run a space, and TLB shootdown.
///
/// # Who is reached by a shootdown
///
/// Every change of a page table goes in the same order: the entry becomes absent, the shootdown
/// runs, and only then what the entry led to is given back, whether a page or a table. So a
/// shootdown has to wait for two things, and each happens on a CPU that the space's
/// [`Context`](Tlb::Context) can know: translations are cached by CPUs that have the space's table
/// loaded ([`load`](Tlb::load)), and walks by software are inside [sections](ReadSide) of the same
/// context. An environment marks a CPU in the context before the first of the two begins and
/// unmarks it after the last has ended; a shootdown then concerns the marked CPUs and no other. An
/// inter-processor interrupt (IPI) to each of them does both at once, if sections run with
/// interrupts off: it is answered when the CPU's section is over. Where the hardware shoots down
/// without an interrupt, the environment waits for the marked CPUs' sections.
///
/// There are no grace periods beside that: memory is free when `unmap` returns, so its shootdown
/// has to wait for open sections, and a table that is given back after the same shootdown needs no
/// second wait.
#[doc(alias = "shootdown")]
#[doc(alias = "IPI")]
#[doc(alias = "switch_mm")]
pub trait Tlb {
    /// What the environment keeps for each space (`mm_context_t`): the set of CPUs that a shootdown
    /// has to reach, the number by which translations are tagged (PCID, ASID). It is dropped when
    /// the space has ended and no CPU has its table: a tag may then be given to another space, once
    /// the translations that still bear it are gone.
    #[doc(alias = "mm_context_t")]
    #[doc(alias = "PCID")]
    #[doc(alias = "ASID")]
    type Context: Send + Sync;

    /// A space with this identity is being made.
    fn new_context(&self, space: SpaceId) -> Self::Context;

    /// When it returns, no CPU uses a translation of `stale` of the context's space that was read
    /// before the call (paging-structure caches included), and every [section](ReadSide) of this
    /// context that was open at the call is over.
    ///
    /// It should not panic. If it does, what was to be given back stays counted, and is given back
    /// by the next operation on the same addresses, at the latest when the space ends.
    fn invalidate(&self, context: &Self::Context, stale: Stale);

    /// How many CPUs there are: [`load`](Tlb::load) names them by smaller numbers. Asked once. An
    /// environment in user space, whose page tables no processor walks, has none, which is what is
    /// here.
    fn cpus(&self) -> usize {
        0
    }

    /// Puts a top-level page table into the root register of the CPU that the caller is on, `None`
    /// for the kernel's own table, which no space has; then calls `loaded` with the CPU's number.
    /// From before the register is written until `loaded` has returned the caller stays on this
    /// CPU.
    ///
    /// The CPU is marked in the context before the register is written, so that no shootdown misses
    /// it; [`unloaded`](Tlb::unloaded) unmarks it. The crate keeps the table for as long as it is
    /// loaded somewhere: this method is the only place of a kernel that writes the register for a
    /// space.
    fn load(&self, table: Option<(Pfn, &Self::Context)>, loaded: &mut dyn FnMut(usize)) {
        let (_, _) = (table, loaded);
    }

    /// The CPU with this number, which the caller is on, has loaded another table than this
    /// context's: shootdowns need not reach it any more. Translations that it may keep under a tag
    /// are stale from now on.
    fn unloaded(&self, cpu: usize, context: &Self::Context) {
        let (_, _) = (cpu, context);
    }
}

/// Read-side sections, as in RCU (read-copy-update): interrupts off, or a word of the CPU that says
/// that it is in one.
///
/// A thread that walks a page table without a lock, or accesses memory through one, is inside a
/// *section* of that space. Sections are short (one page of copying at most), don't nest, and no
/// thread waits inside one. A shootdown waits until the sections of its space that were open have
/// been left, which is a grace period of that space alone; a CPU outside of any is quiescent.
#[doc(alias = "RCU")]
#[doc(alias = "grace period")]
#[doc(alias = "quiescent")]
#[doc(alias = "local_irq_save")]
pub trait ReadSide: Tlb {
    /// A section, open until this is dropped (`local_irq_save`, `rcu_read_lock`).
    type Section<'a>
    where
        Self: 'a;

    /// Opens a section on the space of this context, which need not be the one that the CPU has
    /// loaded. Everything in the section is ordered after everything before: a shootdown that does
    /// not wait for it began so early that the section sees the entry absent. With a set of CPUs
    /// that is a full barrier on either side: the section marks its CPU and then reads entries, the
    /// shootdown comes after an entry was changed and then reads the marks.
    fn enter<'a>(&'a self, context: &'a Self::Context) -> Self::Section<'a>;
}

/// Everything that this crate needs of the kernel around it. [`StdEnv`](crate::StdEnv) provides it
/// in user space.
pub trait Env: DirectMap + ReadSide + Send + Sync {
    /// Format of the page tables.
    type Arch: Arch;
    /// Lock of an address space's regions and of an object's cache. Shared by faults, exclusive for
    /// changes of structure; never taken inside a section, never by the pin fast path. A thread
    /// that waits for it, or for any lock under which this crate is called, must let its CPU answer
    /// shootdowns: the lock's holder may be waiting for one.
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
