//! What each CPU has, and work for all of them at once.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::{apic, machine, traps};

/// CPUs that the image has stacks for.
pub(crate) const MAX_CPUS: usize = 8;

/// One CPU. Every field is written by that CPU alone unless it says otherwise.
pub(crate) struct Cpu {
    /// Its local APIC's number.
    pub(crate) apic: AtomicU32,
    /// Whether a thread of it was unparked since it last parked. Set by any CPU.
    pub(crate) unparked: AtomicBool,
    /// Page faults, and those of them that were refused.
    pub(crate) faults: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// Shootdown interrupts.
    pub(crate) shootdowns: AtomicU64,
    /// When the kit last turned its interrupts off.
    pub(crate) off_since: AtomicU64,
    /// Whether there is work for it that it has not done. Set by the CPU that gives work.
    pub(crate) has_work: AtomicBool,
}

/// All CPUs.
pub(crate) static CPUS: [Cpu; MAX_CPUS] = [const {
    Cpu {
        apic: AtomicU32::new(0),
        unparked: AtomicBool::new(false),
        faults: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        shootdowns: AtomicU64::new(0),
        off_since: AtomicU64::new(0),
        has_work: AtomicBool::new(false),
    }
}; MAX_CPUS];

static ONLINE: AtomicUsize = AtomicUsize::new(0);

/// How many CPUs run.
pub(crate) fn online() -> usize {
    // Acquire: pairs with the Release in `join`.
    ONLINE.load(Ordering::Acquire)
}

/// Which CPU this is.
pub(crate) fn this_cpu() -> usize {
    traps::task_register_cpu()
}

/// The CPU that calls.
pub(crate) fn this() -> &'static Cpu {
    &CPUS[this_cpu()]
}

/// The CPU that calls runs from now on.
pub(crate) fn join() {
    // Release: pairs with the Acquire in `online`.
    ONLINE.fetch_add(1, Ordering::Release);
}

/// Page faults of this CPU so far.
pub(crate) fn faults() -> u64 {
    // Relaxed: written by this CPU.
    this().faults.load(Ordering::Relaxed)
}

/// Starts the other CPUs and waits until `wanted` run, or for about a second; how many do.
pub(crate) fn start_others(wanted: usize) -> usize {
    if wanted > 1 {
        apic::start_others();
    }
    let start = machine::ticks();
    while online() < wanted && machine::ticks() - start < 20_000_000_000 {
        core::hint::spin_loop();
    }
    online()
}

/// Threads meet here: each waits until `number` have come.
pub(crate) struct Meeting {
    number: u64,
    came: AtomicU64,
}

impl Meeting {
    /// A meeting of `number` CPUs, any number of times.
    pub(crate) const fn of(number: u64) -> Self {
        Self { number, came: AtomicU64::new(0) }
    }

    /// Comes, and waits for the others.
    pub(crate) fn meet(&self) {
        // SeqCst: what each CPU did before is seen by all after.
        let turn = self.came.fetch_add(1, Ordering::SeqCst) / self.number + 1;
        while self.came.load(Ordering::SeqCst) < turn * self.number {
            core::hint::spin_loop();
        }
    }
}
