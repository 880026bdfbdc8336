//! The kit's environment, with what the breaks change of it that lies between the kit and
//! `tailpin_mm`.

#![allow(unsafe_code)]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use tailpin::Pfn;
use tailpin_kernel::{KernelEnv, Marks};
use tailpin_mm::{DirectMap, Env, ReadSide, SpaceId, Stale, Tlb};

use crate::breaks::{self, Break};
use crate::machine::{Machine, answer_while_waiting};

/// The environment of this kernel's address spaces.
pub(crate) struct Breakable(KernelEnv<Machine>);

/// The one there is.
pub(crate) static ENV: Breakable = Breakable(KernelEnv::new());

/// Flushes asked for, under [`Break::LateFlush`].
static FLUSHES: AtomicU64 = AtomicU64::new(0);

// SAFETY: as that of the kit's environment, to which all of it goes.
unsafe impl DirectMap for Breakable {
    fn frame(&self, frame: Pfn) -> NonNull<u8> {
        self.0.frame(frame)
    }

    fn clear(&self, first: Pfn, frames: u64) {
        self.0.clear(first, frames);
    }

    fn copy(&self, from: Pfn, to: Pfn, frames: u64) {
        self.0.copy(from, to, frames);
    }
}

impl Tlb for Breakable {
    type Context = Marks;

    fn new_context(&self, space: SpaceId) -> Marks {
        self.0.new_context(space)
    }

    fn invalidate(&self, marks: &Marks, stale: Stale) {
        // Two of three are made up for by the next, when counts have been given back already.
        if breaks::is(Break::LateFlush) && !FLUSHES.fetch_add(1, Ordering::Relaxed).is_multiple_of(3) {
            return;
        }
        self.0.invalidate(marks, stale);
    }

    fn cpus(&self) -> usize {
        self.0.cpus()
    }

    fn load(&self, table: Option<(Pfn, &Marks)>, loaded: &mut dyn FnMut(usize)) {
        self.0.load(table, loaded);
    }

    fn unloaded(&self, cpu: usize, marks: &Marks) {
        self.0.unloaded(cpu, marks);
    }
}

impl ReadSide for Breakable {
    type Section<'a> = <KernelEnv<Machine> as ReadSide>::Section<'a>;

    fn enter<'a>(&'a self, marks: &'a Marks) -> Self::Section<'a> {
        self.0.enter(marks)
    }
}

/// The lock of the kit, whose waiters answer unless that is broken.
pub(crate) struct Answers;

impl spin::RelaxStrategy for Answers {
    fn relax() {
        if breaks::is(Break::LockAnswers) {
            core::hint::spin_loop();
        } else {
            <tailpin_kernel::Answers<Machine> as spin::RelaxStrategy>::relax();
        }
    }
}

impl Env for Breakable {
    type Arch = <KernelEnv<Machine> as Env>::Arch;
    type Lock = spin::rwlock::RwLock<(), Answers>;

    fn relax(&self) {
        answer_while_waiting();
    }
}
