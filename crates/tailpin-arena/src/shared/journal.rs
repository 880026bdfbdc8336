//! Journals: what an operation is, and what each of its steps found.
//!
//! An operation is a program whose only inputs are its parameters and the words it reads. So a
//! process that has both, the parameters and what was read, can run it again and gets to the very
//! place where the first run ended; from there on it goes on for real. A journal has both. It is
//! used by one thread at a time.

use std::sync::atomic::{AtomicU64, Ordering};

use super::operation::Operation;
use super::stop;
use super::word::{Stamp, Told};

/// Steps of one operation that are recorded. The longest, of a block of 2 MiB all of whose pages
/// are pinned, has a third of it without others in its way; who comes to the end of it goes on
/// without recording.
pub(super) const STEPS: usize = 16 * 1024;

// The words of a journal.
const OPERATION: usize = 0;
const PARAMETERS: usize = 1; // and 2
/// Steps of all earlier operations.
const BEFORE: usize = 3;
/// Steps made in this one; more than `STEPS` if not all are recorded.
const MADE: usize = 4;
const FIRST_STEP: usize = 8;
/// Words of one journal, two for each step.
pub(super) const JOURNAL_WORDS: usize = FIRST_STEP + 2 * STEPS;

/// What was done in a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Load = 1,
    Store = 2,
    CompareExchange = 3,
}

/// What a step was done to, and what came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Step {
    pub(super) kind: Kind,
    /// Where the word is, in bytes from the beginning of the memory.
    pub(super) place: u64,
    pub(super) outcome: Result<u64, u64>,
}

impl Step {
    fn encode(self) -> [u64; 2] {
        let (ok, found) = match self.outcome {
            Ok(found) => (1, found),
            Err(found) => (0, found),
        };
        [self.place << 3 | ok << 2 | self.kind as u64, found]
    }

    fn decode([what, found]: [u64; 2]) -> Option<Self> {
        let kind = match what & 3 {
            1 => Kind::Load,
            2 => Kind::Store,
            3 => Kind::CompareExchange,
            _ => return None,
        };
        let outcome = if what & 4 != 0 { Ok(found) } else { Err(found) };
        Some(Self { kind, place: what >> 3, outcome })
    }
}

/// One journal.
#[derive(Clone, Copy)]
pub(super) struct Journal {
    pub(super) index: usize,
    words: &'static [AtomicU64],
    pub(super) told: Told,
}

impl Journal {
    pub(super) fn new(all: &'static [AtomicU64], told: Told, index: usize) -> Self {
        Self { index, words: &all[index * JOURNAL_WORDS..][..JOURNAL_WORDS], told }
    }

    /// Relaxed: what is read is the own process's, or was published with the operation or the
    /// number of steps.
    fn get(&self, at: usize) -> u64 {
        self.words[at].load(Ordering::Relaxed)
    }

    fn set(&self, at: usize, value: u64) {
        stop::here();
        // Release: a process that is killed leaves no write without those before it.
        self.words[at].store(value, Ordering::Release);
        stop::here();
    }

    /// An operation begins.
    pub(super) fn begin(&self, operation: Operation) {
        let [code, a, b] = operation.encode();
        // One more for a step that may have been made and not recorded. If this is cut short, some
        // numbers are never used.
        self.set(BEFORE, self.get(BEFORE) + self.get(MADE) + 1);
        self.set(MADE, 0);
        self.set(PARAMETERS, a);
        self.set(PARAMETERS + 1, b);
        self.set(OPERATION, code);
    }

    /// The operation is over.
    pub(super) fn end(&self) {
        self.set(OPERATION, 0);
    }

    /// The operation under way; an error if what is there is none.
    pub(super) fn operation(&self) -> Option<Result<Operation, NotRepeatable>> {
        // Acquire: pairs with the Release of `begin`.
        let code = self.words[OPERATION].load(Ordering::Acquire);
        let parameters = [self.get(PARAMETERS), self.get(PARAMETERS + 1)];
        (code != 0).then(|| Operation::decode([code, parameters[0], parameters[1]]).ok_or(NotRepeatable))
    }

    /// Steps made in this operation.
    pub(super) fn made(&self) -> u64 {
        // Acquire: pairs with the Release of `record`.
        self.words[MADE].load(Ordering::Acquire)
    }

    /// Stamp for a step of this operation.
    pub(super) fn stamp(&self, step: u64) -> Stamp {
        Stamp::new(self.index, self.get(BEFORE) + step + 1)
    }

    /// A step was made.
    pub(super) fn record(&self, at: u64, step: Step) {
        if let Some(place) = self.words[FIRST_STEP..].as_chunks::<2>().0.get(at as usize) {
            for (word, value) in place.iter().zip(step.encode()) {
                word.store(value, Ordering::Relaxed);
            }
        }
        self.set(MADE, at + 1);
    }

    #[cfg(test)]
    pub(super) fn pretend_to_have_made(&self, steps: u64) {
        self.set(MADE, steps);
    }

    /// A step that was recorded.
    pub(super) fn recorded(&self, at: u64) -> Option<Step> {
        let place = self.words[FIRST_STEP..].as_chunks::<2>().0.get(at as usize)?;
        Step::decode(place.each_ref().map(|word| word.load(Ordering::Relaxed)))
    }
}

/// An operation that can't be run again from its journal: it was too long, or what is recorded does
/// not fit.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotRepeatable;
