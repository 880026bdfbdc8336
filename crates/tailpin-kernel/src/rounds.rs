//! Shootdown rounds: every CPU that may have a stale translation drops it, and no section that was
//! open when the round began is open when it ends.
//!
//! Each CPU has two counters: how many rounds have asked it, and the last of these that it has
//! answered. A round counts up `asked` of each CPU that it is for, sends it an interrupt, and waits
//! until `answered` has come that far. A CPU answers in the interrupt's handler, and wherever it
//! waits with interrupts off: for the end of a round of its own, and for a lock. Two CPUs that ask
//! each other, or a CPU that asks the one that waits for its lock, would otherwise wait for ever.
//!
//! | the CPU that asks | the CPU that answers |
//! | --- | --- |
//! | changes entries | reads `asked` (Acquire) |
//! | counts up `asked` (Release), interrupt | drops its translations |
//! | waits for `answered` (Acquire) | writes `answered` (Release) |
//! | gives the frames back | |
//!
//! Which CPUs a round is for, the space's [`Marks`] say: those that have its table loaded, and
//! those that are in a section of it. A CPU marks itself before and unmarks itself after:
//!
//! | the CPU that asks | a CPU that begins |
//! | --- | --- |
//! | changes entries | marks itself |
//! | full barrier | full barrier |
//! | reads the marks | walks the tables |
//!
//! One of the two sees the other's first step: the CPU is asked, or it finds the entries changed. A
//! section runs with interrupts off and answers nothing, so a CPU that has answered is in no
//! section that began before.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};

use tailpin::AtomicWord;

use crate::cpus::{Cpus, InterruptsOff};
use crate::safeguards::{AllSafeguards, Safeguard, Safeguards};

/// CPUs that a machine may have: as many as a word has bits.
pub const MAX_CPUS: usize = 64;

/// What a CPU was asked and has answered, on cache lines of its own.
#[repr(align(128))]
struct Line<W> {
    /// Rounds that asked this CPU. Counted up by the CPUs that ask.
    asked: W,
    /// The last of them that it has answered. Written by this CPU alone, with interrupts off.
    answered: W,
}

/// The rounds of a machine: a static of the kernel.
///
/// It has two counters for each of [`MAX_CPUS`] CPUs, 8 KiB in all, and no list of CPUs: a CPU
/// takes part as soon as it is marked.
#[doc(alias = "TLB shootdown")]
pub struct Rounds<S = AllSafeguards, W = AtomicU64, const CPUS: usize = MAX_CPUS> {
    cpus: [Line<W>; CPUS],
    /// Rounds so far; a statistic.
    count: AtomicU64,
    safeguards: PhantomData<S>,
}

impl<S> Rounds<S> {
    /// A machine's shootdown rounds, of which there was none yet.
    pub const fn new() -> Self {
        Self {
            cpus: [const { Line { asked: AtomicU64::new(0), answered: AtomicU64::new(0) } }; MAX_CPUS],
            count: AtomicU64::new(0),
            safeguards: PhantomData,
        }
    }
}

impl<S> Default for Rounds<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Safeguards<Safeguard>, W: AtomicWord, const CPUS: usize> Rounds<S, W, CPUS> {
    /// Over words of zero from elsewhere: `asked` and `answered` of each CPU. For model checkers.
    pub fn over(mut words: impl FnMut(usize) -> (W, W)) -> Self {
        let line = |cpu| {
            let (asked, answered) = words(cpu);
            Line { asked, answered }
        };
        Self { cpus: core::array::from_fn(line), count: AtomicU64::new(0), safeguards: PhantomData }
    }

    /// Rounds so far that asked a CPU.
    pub fn count(&self) -> u64 {
        // Relaxed: a statistic.
        self.count.load(Ordering::Relaxed)
    }

    /// Answers every round that has asked this CPU: what the handler of the interrupt does, and
    /// every loop of the kernel that waits with interrupts off. With interrupts off, outside
    /// sections.
    pub fn answer(&self, cpus: &(impl Cpus + ?Sized)) {
        let line = &self.cpus[cpus.this_cpu()];
        // Acquire: pairs with the Release of `ask`, so that what this CPU reads in page tables from
        // here on is what the asking CPU left there.
        let asked = line.asked.load(Ordering::Acquire);
        // Relaxed: only this CPU writes it.
        if line.answered.load(Ordering::Relaxed) == asked {
            return;
        }
        if S::keeps(Safeguard::KFlush) {
            cpus.flush_all();
        }
        // Release: pairs with the Acquire in `round`. The CPU that asks gives frames back after it
        // has read this, and this CPU's accesses through the old translations came before.
        line.answered.store(asked, Ordering::Release);
    }

    /// Answers, from a loop that waits for another CPU, whether interrupts are on or off. Outside
    /// sections.
    pub fn answer_while_waiting(&self, cpus: &(impl Cpus + ?Sized)) {
        {
            let _off = InterruptsOff::new(cpus);
            self.answer(cpus);
        }
        cpus.relax();
    }

    /// A round: every CPU that is marked, but this one, has answered since the call. Outside
    /// sections; locks whose waiters answer may be held.
    pub fn round(&self, cpus: &(impl Cpus + ?Sized), marks: &Marks<W>) {
        let _off = InterruptsOff::new(cpus);
        let me = cpus.this_cpu();
        if S::keeps(Safeguard::KShoot) {
            // SeqCst: pairs with that of `Marks::set`.
            W::fence(Ordering::SeqCst);
        }
        let marked = marks.others(me);
        if marked == 0 || !S::keeps(Safeguard::KAsk) {
            return;
        }
        // Relaxed: a statistic.
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut numbers = [0; CPUS];
        for cpu in bits(marked) {
            // Release: pairs with the Acquire in `answer`.
            numbers[cpu] = self.cpus[cpu].asked.fetch_add(1, Ordering::Release).wrapping_add(1);
            cpus.send_ipi(cpu);
        }
        if !S::keeps(Safeguard::KWait) {
            return;
        }
        for cpu in bits(marked) {
            // Acquire: pairs with the Release in `answer`.
            while self.cpus[cpu].answered.load(Ordering::Acquire) < numbers[cpu] {
                if S::keeps(Safeguard::KAnswer) {
                    self.answer(cpus);
                }
                cpus.relax();
            }
        }
    }
}

/// The numbers of the bits that are set.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let lowest = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(lowest)
    })
}

/// The CPUs that a shootdown of one space has to reach (`mm_cpumask`). Each CPU sets and clears its
/// own bit alone, with interrupts off.
#[doc(alias = "mm_cpumask")]
#[derive(Debug, Default)]
pub struct Marks<W = AtomicU64>(W);

impl Marks {
    /// The CPUs of a space of which none is marked.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl<W: AtomicWord> Marks<W> {
    /// Over a word of zero from elsewhere. For model checkers.
    pub fn over(word: W) -> Self {
        Self(word)
    }

    /// Whether the CPU is marked.
    ///
    /// # Panics
    /// If its number is not below [`MAX_CPUS`].
    pub fn has(&self, cpu: usize) -> bool {
        // Relaxed: asked by the CPU itself, which alone changes the bit.
        self.0.load(Ordering::Relaxed) & bit(cpu) != 0
    }

    /// The marked CPUs besides `me`, a bit for each.
    fn others(&self, me: usize) -> u64 {
        // Acquire: pairs with the Release of `clear`: what an unmarked CPU did under its mark came
        // before.
        self.0.load(Ordering::Acquire) & !bit(me)
    }

    /// Marks this CPU, and after it does `then`, which may look at the space's tables from then on.
    /// With interrupts off.
    ///
    /// # Panics
    /// As [`has`](Self::has).
    pub fn set<S: Safeguards<Safeguard>, T>(&self, cpu: usize, then: impl FnOnce() -> T) -> T {
        let mark = || {
            // AcqRel: with the fence. Release, as a CPU that sees the mark waits for this one.
            self.0.fetch_or(bit(cpu), Ordering::AcqRel);
            if S::keeps(Safeguard::KLoad) {
                // SeqCst: pairs with that of `Rounds::round`.
                W::fence(Ordering::SeqCst);
            }
        };
        if S::keeps(Safeguard::KMark) {
            mark();
            then()
        } else {
            let result = then();
            mark();
            result
        }
    }

    /// Unmarks this CPU, which has no translation of the space and is in no section of it. With
    /// interrupts off.
    ///
    /// # Panics
    /// As [`has`](Self::has).
    pub fn clear(&self, cpu: usize) {
        // Release: pairs with the Acquire of `others`.
        self.0.fetch_and(!bit(cpu), Ordering::Release);
    }
}

/// The bit of a CPU.
fn bit(cpu: usize) -> u64 {
    assert!(cpu < MAX_CPUS, "CPU {cpu} is beyond the {MAX_CPUS} that there may be");
    1 << cpu
}

/// A read-side section of a space: until it is dropped interrupts are off, and the CPU is marked.
pub struct Section<'c, C: Cpus + ?Sized, W: AtomicWord = AtomicU64> {
    /// The marks and the CPU that they were set for; `None` if they were set before the section.
    marked: Option<(&'c Marks<W>, usize)>,
    /// Dropped after the mark is gone.
    _off: Option<InterruptsOff<'c, C>>,
}

impl<'c, C: Cpus + ?Sized, W: AtomicWord> Section<'c, C, W> {
    /// Opens a section on the space with these marks.
    #[inline]
    pub fn enter<S: Safeguards<Safeguard>>(cpus: &'c C, marks: &'c Marks<W>) -> Self {
        let off = S::keeps(Safeguard::KSection).then(|| InterruptsOff::new(cpus));
        let cpu = cpus.this_cpu();
        if marks.has(cpu) {
            // The CPU runs the space: a round asks it, and has its answer before the section, which
            // then sees what that round changed, or after.
            return Self { marked: None, _off: off };
        }
        marks.set::<S, _>(cpu, || Self { marked: Some((marks, cpu)), _off: off })
    }
}

impl<C: Cpus + ?Sized, W: AtomicWord> Drop for Section<'_, C, W> {
    #[inline]
    fn drop(&mut self) {
        if let Some((marks, cpu)) = self.marked {
            marks.clear(cpu);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::vec::Vec;

    use super::*;

    std::thread_local! {
        static CPU: core::cell::Cell<usize> = const { core::cell::Cell::new(0) };
    }

    /// Threads for CPUs; interrupts are polled for.
    #[derive(Default)]
    struct Threads {
        flushes: AtomicUsize,
        sent: AtomicUsize,
        off: AtomicBool,
    }

    impl Cpus for Threads {
        fn this_cpu(&self) -> usize {
            CPU.get()
        }
        fn send_ipi(&self, cpu: usize) {
            assert_ne!(cpu, CPU.get(), "a CPU asks itself");
            self.sent.fetch_add(1, Ordering::SeqCst);
        }
        fn flush_all(&self) {
            self.flushes.fetch_add(1, Ordering::SeqCst);
        }
        fn interrupts_off(&self) -> bool {
            CPU.get() != 0 || !self.off.swap(true, Ordering::SeqCst)
        }
        fn interrupts_on(&self) {
            if CPU.get() == 0 {
                self.off.store(false, Ordering::SeqCst);
            }
        }
        fn relax(&self) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_round_for_no_other_cpu_interrupts_none() {
        let (rounds, cpus, marks) = (Rounds::<AllSafeguards>::new(), Threads::default(), Marks::new());
        rounds.round(&cpus, &marks);
        marks.set::<AllSafeguards, _>(0, || ());
        rounds.round(&cpus, &marks);
        assert_eq!((rounds.count(), cpus.sent.load(Ordering::SeqCst)), (0, 0));
        assert!(!cpus.off.load(Ordering::SeqCst), "interrupts are on again");
    }

    #[test]
    fn a_section_marks_its_cpu_unless_it_runs_the_space() {
        let (cpus, marks) = (Threads::default(), Marks::new());
        let section = Section::enter::<AllSafeguards>(&cpus, &marks);
        assert!(marks.has(0) && cpus.off.load(Ordering::SeqCst));
        drop(section);
        assert!(!marks.has(0) && !cpus.off.load(Ordering::SeqCst));
        marks.set::<AllSafeguards, _>(0, || ());
        drop(Section::enter::<AllSafeguards>(&cpus, &marks));
        assert!(marks.has(0), "the CPU still runs the space");
    }

    #[test]
    fn every_marked_cpu_has_flushed_when_a_round_ends() {
        const OTHERS: usize = 3;
        let (rounds, cpus, marks) = (Rounds::<AllSafeguards>::new(), Threads::default(), Marks::new());
        let (ready, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for cpu in 1..=OTHERS {
                let (rounds, cpus, marks, ready, stop) = (&rounds, &cpus, &marks, &ready, &stop);
                scope.spawn(move || {
                    CPU.set(cpu);
                    marks.set::<AllSafeguards, _>(cpu, || ());
                    ready.fetch_add(1, Ordering::SeqCst);
                    while !stop.load(Ordering::SeqCst) {
                        rounds.answer_while_waiting(cpus);
                    }
                });
            }
            while ready.load(Ordering::SeqCst) < OTHERS {
                std::thread::yield_now();
            }
            for round in 1..=200 {
                rounds.round(&cpus, &marks);
                assert!(cpus.flushes.load(Ordering::SeqCst) >= OTHERS * round);
            }
            stop.store(true, Ordering::SeqCst);
        });
        assert_eq!(rounds.count(), 200);
        assert_eq!(cpus.flushes.into_inner(), 200 * OTHERS, "one flush for each question");
    }

    #[test]
    fn cpus_that_ask_each_other_all_come_back() {
        let (rounds, cpus, marks) = (Rounds::<AllSafeguards>::new(), Threads::default(), Marks::new());
        let (ready, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for cpu in 0..4 {
                let (rounds, cpus, marks, ready, done) = (&rounds, &cpus, &marks, &ready, &done);
                scope.spawn(move || {
                    CPU.set(cpu + 1);
                    marks.set::<AllSafeguards, _>(cpu + 1, || ());
                    ready.fetch_add(1, Ordering::SeqCst);
                    while ready.load(Ordering::SeqCst) < 4 {
                        std::thread::yield_now();
                    }
                    for _ in 0..100 {
                        rounds.round(cpus, marks);
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                    while done.load(Ordering::SeqCst) < 4 {
                        rounds.answer_while_waiting(cpus);
                    }
                });
            }
        });
        assert_eq!(rounds.count(), 400);
    }

    #[test]
    fn bits_are_numbered_from_the_lowest() {
        assert_eq!(bits(0).collect::<Vec<_>>(), []);
        assert_eq!(bits(1 << 63 | 0b101).collect::<Vec<_>>(), [0, 2, 63]);
    }
}
