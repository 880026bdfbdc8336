//! Shootdown rounds: every CPU that may have a stale translation drops it, and no section that was
//! open when the round began is open when it ends.
//!
//! Each CPU has two counters: how many rounds have asked it, and the last of these that it has
//! answered. A round counts up `asked` of each CPU that it is for, sends it an interrupt, and waits
//! until `answered` has come so far. A CPU answers in the interrupt's handler, and wherever it
//! waits with interrupts off: for the end of a round of its own, and for a lock. Two CPUs that ask
//! each other, or one that asks the CPU that waits for its lock, would otherwise wait for ever.
//!
//! | the CPU that asks | the CPU that answers |
//! | --- | --- |
//! | changes entries | reads `asked` (Acquire) |
//! | counts up `asked` (Release), interrupt | drops its translations |
//! | waits for `answered` (Acquire) | writes `answered` (Release) |
//! | gives the frames back | |
//!
//! A read-side section runs with interrupts off and answers nothing, so a CPU that answers is in no
//! section.

use core::sync::atomic::{AtomicU64, Ordering};

/// What the rounds ask of a kernel's processors.
pub(crate) trait Cpus: Sync {
    /// Number of the CPU that calls.
    fn this_cpu(&self) -> usize;
    /// Sends CPU `cpu` an interrupt whose handler calls [`Rounds::answer`].
    fn send_ipi(&self, cpu: usize);
    /// Drops every translation of user addresses that this CPU has.
    fn flush_all(&self);
    /// Turns interrupts off on this CPU; says whether they were on.
    fn interrupts_off(&self) -> bool;
    /// Turns interrupts on on this CPU.
    fn interrupts_on(&self);

    /// Called in each turn of a loop that waits for another CPU.
    fn relax(&self) {
        core::hint::spin_loop();
    }
}

/// A protective step of the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Safeguard {
    /// Other CPUs are asked.
    Ask,
    /// A CPU that is asked drops its translations before it answers.
    Flush,
    /// The CPU that asks waits for the answers.
    Wait,
    /// A CPU that waits for answers answers the rounds of others.
    AnswerWhileWaiting,
    /// Interrupts are off in a section.
    Section,
}

/// Which safeguards are kept: all of them, or all but one.
pub(crate) trait Safeguards: Send + Sync + 'static {
    /// Whether this one is kept.
    fn keeps(safeguard: Safeguard) -> bool;
}

/// What a CPU was asked and has answered, on a cache line of its own.
#[repr(align(128))]
struct Line {
    /// 1 from the moment on at which the CPU takes part. Written by that CPU.
    online: AtomicU64,
    /// Rounds that asked this CPU. Counted up by the CPUs that ask.
    asked: AtomicU64,
    /// The last of them that it has answered. Written by this CPU alone, with interrupts off.
    answered: AtomicU64,
}

impl Line {
    const fn new() -> Self {
        Self { online: AtomicU64::new(0), asked: AtomicU64::new(0), answered: AtomicU64::new(0) }
    }
}

/// The rounds of up to `N` CPUs.
pub(crate) struct Rounds<const N: usize, S> {
    cpus: [Line; N],
    /// Rounds so far; a statistic.
    rounds: AtomicU64,
    safeguards: core::marker::PhantomData<S>,
}

impl<const N: usize, S: Safeguards> Rounds<N, S> {
    /// No CPU takes part yet.
    pub(crate) const fn new() -> Self {
        Self {
            cpus: [const { Line::new() }; N],
            rounds: AtomicU64::new(0),
            safeguards: core::marker::PhantomData,
        }
    }

    /// This CPU takes part from now on. To be called once for each, before it runs a space.
    pub(crate) fn join(&self, cpus: &impl Cpus) {
        // SeqCst: with the load in `targets`. A round that does not see it began before the CPU had
        // any translation.
        self.cpus[cpus.this_cpu()].online.store(1, Ordering::SeqCst);
    }

    /// Rounds so far.
    pub(crate) fn count(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Answers every round that has asked this CPU. With interrupts off, outside sections.
    pub(crate) fn answer(&self, cpus: &impl Cpus) {
        let line = &self.cpus[cpus.this_cpu()];
        // Acquire: pairs with the Release of `ask`, so that what is read through page tables from
        // here on is what the asking CPU left there.
        let asked = line.asked.load(Ordering::Acquire);
        // Relaxed: only this CPU writes it.
        if line.answered.load(Ordering::Relaxed) == asked {
            return;
        }
        if S::keeps(Safeguard::Flush) {
            cpus.flush_all();
        }
        // Release: pairs with the Acquire in `wait_for`. The CPU that asked gives frames back after
        // it has read this; accesses of this CPU through the old translations came before.
        line.answered.store(asked, Ordering::Release);
    }

    /// A round: every other CPU that takes part and of which `target` is true has answered since
    /// the call. Outside sections; locks whose waiters answer may be held.
    pub(crate) fn round(&self, cpus: &impl Cpus, target: impl Fn(usize) -> bool) {
        if !S::keeps(Safeguard::Ask) {
            return;
        }
        let on = cpus.interrupts_off();
        let me = cpus.this_cpu();
        // Relaxed: a statistic.
        self.rounds.fetch_add(1, Ordering::Relaxed);
        // SeqCst: see `join`.
        let targets = || {
            (0..N).filter(|cpu| {
                *cpu != me && self.cpus[*cpu].online.load(Ordering::SeqCst) == 1 && target(*cpu)
            })
        };
        let mut numbers = [0; N];
        for cpu in targets() {
            // Release: pairs with the Acquire in `answer`.
            numbers[cpu] = self.cpus[cpu].asked.fetch_add(1, Ordering::AcqRel) + 1;
            cpus.send_ipi(cpu);
        }
        if S::keeps(Safeguard::Wait) {
            for (cpu, number) in numbers.into_iter().enumerate() {
                // Acquire: pairs with the Release in `answer`.
                while self.cpus[cpu].answered.load(Ordering::Acquire) < number {
                    if S::keeps(Safeguard::AnswerWhileWaiting) {
                        self.answer(cpus);
                    }
                    cpus.relax();
                }
            }
        }
        if on {
            cpus.interrupts_on();
        }
    }

    /// A section: interrupts are off until it is dropped, so this CPU answers no round.
    pub(crate) fn enter<'c, C: Cpus>(&self, cpus: &'c C) -> Section<'c, C> {
        let on = S::keeps(Safeguard::Section) && cpus.interrupts_off();
        // SeqCst: what a CPU wrote before it asked this one is seen in the section if this CPU has
        // answered before.
        core::sync::atomic::fence(Ordering::SeqCst);
        Section { cpus, on }
    }
}

/// An open section.
pub(crate) struct Section<'c, C: Cpus> {
    cpus: &'c C,
    on: bool,
}

impl<C: Cpus> Drop for Section<'_, C> {
    fn drop(&mut self) {
        if self.on {
            self.cpus.interrupts_on();
        }
    }
}
