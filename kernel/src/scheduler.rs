//! Threads for the futexes: one for each CPU, which halts while it waits.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;

use tailpin_futex::{Clock, Deadline, Priority, Scheduler, Tid};

use crate::cpus::{self, CPUS, MAX_CPUS, this_cpu};
use crate::{apic, machine};

/// The thread of a CPU.
pub(crate) struct OnePerCpu {
    /// Own priority of each thread, and what waiters have lent it.
    own: [AtomicU32; MAX_CPUS],
    lent: [AtomicU32; MAX_CPUS],
    ended: [AtomicBool; MAX_CPUS],
}

/// The number of a CPU's thread: 0 is none.
pub(crate) const fn thread_of(cpu: usize) -> Tid {
    Tid(cpu as u32 + 1)
}

impl OnePerCpu {
    /// Threads of normal priority.
    pub(crate) fn new() -> Self {
        Self {
            own: [const { AtomicU32::new(0) }; MAX_CPUS],
            lent: [const { AtomicU32::new(0) }; MAX_CPUS],
            ended: [const { AtomicBool::new(false) }; MAX_CPUS],
        }
    }

    /// Gives this CPU's thread a priority of its own.
    pub(crate) fn set_priority(&self, priority: Priority) {
        self.own[this_cpu()].store(priority.0, Ordering::SeqCst);
    }

    /// The priority that a CPU's thread is to run with.
    pub(crate) fn effective_priority(&self, cpu: usize) -> Priority {
        Priority(self.lent[cpu].load(Ordering::SeqCst).max(self.own[cpu].load(Ordering::SeqCst)))
    }

    fn cpu_of(thread: Tid) -> Option<usize> {
        (1..=MAX_CPUS as u32).contains(&thread.0).then(|| thread.0 as usize - 1)
    }
}

impl Scheduler for OnePerCpu {
    type Thread = usize;

    fn current(&self) -> usize {
        this_cpu()
    }

    fn tid(&self) -> Tid {
        thread_of(this_cpu())
    }

    fn park(&self, until: Option<Deadline>) {
        let unparked = &cpus::this().unparked;
        // Acquire: pairs with the Release in `unpark`.
        while !unparked.swap(false, Ordering::Acquire) {
            match until {
                // There is no timer that would end a halt.
                Some(until) if self.now(until.clock) >= until.time => return,
                Some(_) => core::hint::spin_loop(),
                None => machine::wait_for_interrupt(|| unparked.load(Ordering::Acquire)),
            }
        }
    }

    fn unpark(&self, thread: &usize) {
        // Release: pairs with the Acquire in `park`.
        CPUS[*thread].unparked.store(true, Ordering::Release);
        apic::send(*thread, apic::WAKE);
    }

    /// Ticks taken for half nanoseconds: timeouts are that exact and no more.
    fn now(&self, _clock: Clock) -> Duration {
        Duration::from_nanos(machine::ticks() / 2)
    }

    fn interrupted(&self) -> bool {
        false
    }

    fn current_priority(&self) -> Priority {
        Priority(self.own[this_cpu()].load(Ordering::SeqCst))
    }

    fn priority(&self, thread: Tid) -> Option<Priority> {
        let cpu = Self::cpu_of(thread).filter(|cpu| !self.ended[*cpu].load(Ordering::SeqCst))?;
        Some(Priority(self.own[cpu].load(Ordering::SeqCst)))
    }

    fn ended(&self, thread: Tid) {
        if let Some(cpu) = Self::cpu_of(thread) {
            self.ended[cpu].store(true, Ordering::SeqCst);
        }
    }

    fn boost(&self, thread: Tid, to: Priority) {
        if let Some(cpu) = Self::cpu_of(thread) {
            self.lent[cpu].store(to.0, Ordering::SeqCst);
        }
    }

    fn relax(&self, _turns: u32) {
        machine::answer_while_waiting();
    }
}
