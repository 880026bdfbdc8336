//! What the scenarios about shootdowns act on: two CPUs, a space of one page, and the frame that it
//! maps as memory.
//!
//! Rounds, marks and sections are the code that ships. A thread is a CPU: it has a translation once
//! it has looked at the entry, accesses the frame by it until it is flushed, and is interrupted
//! where it says so, if interrupts are on. That an interrupt comes late is all the freedom it has.

use std::sync::atomic::{AtomicBool, Ordering};

use tailpin::AtomicWord;
use tailpin_kernel::{AllSafeguards, Cpus, Marks, Rounds, Section};

use crate::engine::{Engine, current_thread};
use crate::safeguards::LessOne;
use crate::tested_protocol::number;
use crate::trace::{Name, note};
use crate::word::CheckWord;

/// CPUs, and spaces: each CPU has one of its own.
const CPUS: usize = 2;

/// What only its own CPU touches.
#[derive(Default)]
struct Cpu {
    /// Whether it has a translation of the page.
    translation: AtomicBool,
    interrupts_off: AtomicBool,
}

/// The machine.
pub(crate) struct ShootdownFixture<E: Engine> {
    rounds: Rounds<LessOne, CheckWord<E>, CPUS>,
    /// The CPUs that run or walk each space.
    marks: [Marks<CheckWord<E>>; CPUS],
    /// The entry of the page in space 0: whether it is present.
    entry: CheckWord<E>,
    /// The frame that it leads to: read through a translation, written by the next owner.
    frame: E::Contents,
    /// CPUs that have done what the scenario is about, and only answer.
    done: CheckWord<E>,
    cpus: [Cpu; CPUS],
}

impl<E: Engine> Cpus for ShootdownFixture<E> {
    fn this_cpu(&self) -> usize {
        current_thread()
    }

    fn send_ipi(&self, cpu: usize) {
        note(|| format!("interrupts CPU {cpu}"));
    }

    fn flush_all(&self) {
        note(|| "drops its translations".to_owned());
        self.cpus[current_thread()].translation.store(false, Ordering::Relaxed);
    }

    fn interrupts_off(&self) -> bool {
        !self.cpus[current_thread()].interrupts_off.swap(true, Ordering::Relaxed)
    }

    fn interrupts_on(&self) {
        self.cpus[current_thread()].interrupts_off.store(false, Ordering::Relaxed);
    }

    fn relax(&self) {
        CheckWord::<E>::relax();
    }
}

impl<E: Engine> ShootdownFixture<E> {
    /// The page is mapped in space 0, which the CPUs run that are named.
    pub(crate) fn new(run_by: &[usize]) -> Self {
        let name = |field, frame| Name { frame, field, decode: number };
        let word = |field, of: usize| CheckWord::explored(name(field, of as u32));
        let fixture = Self {
            rounds: Rounds::over(|cpu| (word("asked", cpu), word("answered", cpu))),
            marks: std::array::from_fn(|space| Marks::over(word("marks", space))),
            entry: word("entry", 0),
            frame: E::contents(),
            done: word("done", 0),
            cpus: Default::default(),
        };
        fixture.entry.store(1, Ordering::Release);
        for &cpu in run_by {
            fixture.marks[0].set::<AllSafeguards, _>(cpu, || ());
        }
        fixture
    }

    /// Each CPU runs its own space.
    pub(crate) fn apart() -> Self {
        let fixture = Self::new(&[]);
        for (cpu, marks) in fixture.marks.iter().enumerate() {
            marks.set::<AllSafeguards, _>(cpu, || ());
        }
        fixture
    }

    fn cpu(&self) -> &Cpu {
        &self.cpus[current_thread()]
    }

    /// The processor looks at the entry, unless it has a translation; whether it has one then.
    fn translate(&self) -> bool {
        let translation = &self.cpu().translation;
        if !translation.load(Ordering::Relaxed) {
            // Acquire: what the processor does, as far as software may count on it.
            translation.store(self.entry.load(Ordering::Acquire) == 1, Ordering::Relaxed);
        }
        translation.load(Ordering::Relaxed)
    }

    /// An instruction that accesses the page, where it is mapped.
    pub(crate) fn access(&self) {
        if self.translate() {
            note(|| "accesses the frame".to_owned());
            E::read(&self.frame);
        } else {
            note(|| "faults".to_owned());
        }
    }

    /// An interrupt, if there is a question and interrupts are on.
    pub(crate) fn interrupt(&self) {
        if !self.cpu().interrupts_off.load(Ordering::Relaxed) {
            self.interrupts_off();
            self.rounds.answer(self);
            self.interrupts_on();
        }
    }

    /// This CPU loads space 0. The processor may look at the entry as soon as the table is loaded.
    pub(crate) fn load(&self) {
        self.interrupts_off();
        self.marks[0].set::<LessOne, _>(current_thread(), || {
            note(|| "loads the table".to_owned());
            self.translate();
        });
        self.interrupts_on();
    }

    /// A section of space 0, which another space's CPU opens: it looks at the entry and accesses
    /// the frame. Between the two an interrupt may come, if interrupts are on.
    pub(crate) fn walk(&self) {
        let section = Section::enter::<LessOne>(self, &self.marks[0]);
        let present = self.entry.load(Ordering::Acquire) == 1;
        self.interrupt();
        if present {
            note(|| "copies from the frame".to_owned());
            E::read(&self.frame);
        }
        drop(section);
    }

    /// Unmaps the page, and the frame is another owner's, who writes to it.
    pub(crate) fn unmap(&self) {
        self.entry.store(0, Ordering::Release);
        self.rounds.round(self, &self.marks[0]);
        note(|| "gives the frame to another owner".to_owned());
        E::write(&self.frame);
    }

    /// A shootdown of the space that the other CPU runs.
    pub(crate) fn shoot_other(&self) {
        self.rounds.round(self, &self.marks[1 - current_thread()]);
    }

    /// This CPU has done its part: it answers until the other one has done its own.
    pub(crate) fn answer_to_the_end(&self) {
        // AcqRel: only so that the loop below ends.
        self.done.fetch_add(1, Ordering::AcqRel);
        while self.done.load(Ordering::Acquire) < CPUS as u64 {
            self.interrupt();
            CheckWord::<E>::relax();
        }
    }
}
