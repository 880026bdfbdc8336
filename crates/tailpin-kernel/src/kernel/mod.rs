//! What a kernel brings, and the environment of `tailpin_mm` made of it.

#![allow(unsafe_code)]

pub(crate) mod lock;

use core::marker::PhantomData;
use core::ptr::NonNull;

use tailpin::Pfn;
use tailpin_mm::arch::Arch;
use tailpin_mm::{DirectMap, Env, PAGE_BYTES, ReadSide, SpaceId, Stale, Tlb};

use crate::cpus::{Cpus, InterruptsOff};
use crate::kernel::lock::RawRwLock;
use crate::rounds::{MAX_CPUS, Marks, Rounds, Section};
use crate::safeguards::{Safeguard, Safeguards};

/// Ranges of more pages than this are flushed by dropping everything: about what that costs.
const FLUSHED_ONE_BY_ONE: u64 = 33;

/// A kernel: its CPUs, its direct map, its statics.
///
/// It is the kernel's own unit type; [`KernelEnv`] of it is the environment of address spaces. The
/// crate's first page has one, line by line.
pub trait Kernel: Cpus + DirectMap + Sized + 'static {
    /// Format of the page tables.
    type Arch: Arch;
    /// [`AllSafeguards`](crate::AllSafeguards), unless the kernel is to be broken on purpose.
    type Safeguards: Safeguards<Safeguard>;

    /// The one value of this type.
    fn kernel() -> &'static Self;

    /// The rounds of the machine, a static.
    fn rounds() -> &'static Rounds<Self::Safeguards>;

    /// How many CPUs there may be, at most [`MAX_CPUS`].
    fn cpus() -> usize;

    /// Writes this CPU's root register: the table of a space, or with `None` the kernel's own.
    /// Drops every translation of users' addresses. Called with interrupts off; the table stays one
    /// for as long as it is in the register.
    fn write_root(&self, table: Option<Pfn>);
}

/// The environment of address spaces that a [`Kernel`] makes: interrupts off are its read-side
/// sections, [`Rounds`] its shootdowns, and a [`RawRwLock`] whose waiters answer its lock.
pub struct KernelEnv<K>(PhantomData<fn() -> K>);

impl<K> KernelEnv<K> {
    /// The environment. It has no state of its own.
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<K> Default for KernelEnv<K> {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: it is the kernel's own direct map, whose implementer promises all this.
unsafe impl<K: Kernel> DirectMap for KernelEnv<K> {
    #[inline]
    fn frame(&self, frame: Pfn) -> NonNull<u8> {
        K::kernel().frame(frame)
    }

    fn clear(&self, first: Pfn, frames: u64) {
        K::kernel().clear(first, frames);
    }

    fn copy(&self, from: Pfn, to: Pfn, frames: u64) {
        K::kernel().copy(from, to, frames);
    }
}

impl<K: Kernel> Tlb for KernelEnv<K> {
    type Context = Marks;

    fn new_context(&self, _space: SpaceId) -> Marks {
        Marks::new()
    }

    fn invalidate(&self, marks: &Marks, stale: Stale) {
        let kernel = K::kernel();
        {
            let _off = InterruptsOff::new(kernel);
            if marks.has(kernel.this_cpu()) {
                let pages = stale.range.len() / PAGE_BYTES;
                if pages > FLUSHED_ONE_BY_ONE {
                    kernel.flush_all();
                } else {
                    kernel.flush(stale.range.start.get(), pages);
                }
            }
        }
        K::rounds().round(kernel, marks);
    }

    fn cpus(&self) -> usize {
        K::cpus().min(MAX_CPUS)
    }

    fn load(&self, table: Option<(Pfn, &Marks)>, loaded: &mut dyn FnMut(usize)) {
        let kernel = K::kernel();
        let _off = InterruptsOff::new(kernel);
        let cpu = kernel.this_cpu();
        match table {
            Some((root, marks)) => marks.set::<K::Safeguards, _>(cpu, || kernel.write_root(Some(root))),
            None => kernel.write_root(None),
        }
        loaded(cpu);
    }

    fn unloaded(&self, cpu: usize, marks: &Marks) {
        // `load` has dropped the translations.
        marks.clear(cpu);
    }
}

impl<K: Kernel> ReadSide for KernelEnv<K> {
    type Section<'a> = Section<'a, K>;

    #[inline]
    fn enter<'a>(&'a self, marks: &'a Marks) -> Section<'a, K> {
        Section::enter::<K::Safeguards>(K::kernel(), marks)
    }
}

impl<K: Kernel> Env for KernelEnv<K> {
    type Arch = K::Arch;
    type Lock = RawRwLock<K>;

    fn relax(&self) {
        K::rounds().answer_while_waiting(K::kernel());
    }
}
