//! Journals: what an operation is, and what each of its steps found.
//!
//! An operation is a program whose only inputs are its parameters and the words it reads. So a
//! process that has both, the parameters and what was read, can run it again and gets to the very
//! place where the first run ended; from there on it goes on for real. A journal has both. It is
//! used by one thread at a time.

use std::sync::atomic::{AtomicU64, Ordering};

use super::fail_point;
use super::word::{AcknowledgedSteps, Stamp};

/// Steps of one operation that are recorded. The longest, of a block of 2 MiB all of whose pages
/// are pinned, has a third of it without others in its way; an operation that comes to the end of
/// it goes on without recording.
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
pub(super) enum StepKind {
    Load = 1,
    Store = 2,
    CompareExchange = 3,
}

/// What a step was done to, and what came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RecordedStep {
    pub(super) kind: StepKind,
    /// Where the word is, in bytes from the beginning of the memory.
    pub(super) offset: u64,
    pub(super) outcome: Result<u64, u64>,
}

impl RecordedStep {
    fn encode(self) -> [u64; 2] {
        let (ok, found) = match self.outcome {
            Ok(found) => (1, found),
            Err(found) => (0, found),
        };
        [self.offset << 3 | ok << 2 | self.kind as u64, found]
    }

    fn decode([what, found]: [u64; 2]) -> Option<Self> {
        let kind = match what & 3 {
            1 => StepKind::Load,
            2 => StepKind::Store,
            3 => StepKind::CompareExchange,
            _ => return None,
        };
        let outcome = if what & 4 != 0 { Ok(found) } else { Err(found) };
        Some(Self { kind, offset: what >> 3, outcome })
    }
}

/// One journal.
///
/// Its words are written by the thread that has it in use; of a dead process, by the one process
/// that recovers it. [`AcknowledgedSteps`] are written by any.
#[derive(Clone, Copy)]
pub(super) struct Journal {
    pub(super) index: usize,
    words: &'static [AtomicU64],
    pub(super) acknowledged: AcknowledgedSteps,
}

impl Journal {
    pub(super) fn new(all: &'static [AtomicU64], acknowledged: AcknowledgedSteps, index: usize) -> Self {
        Self { index, words: &all[index * JOURNAL_WORDS..][..JOURNAL_WORDS], acknowledged }
    }

    /// Relaxed: what is read is the own process's, or was published with the operation or the
    /// number of steps.
    fn get(&self, at: usize) -> u64 {
        self.words[at].load(Ordering::Relaxed)
    }

    fn set(&self, at: usize, value: u64) {
        fail_point::here();
        // Release: a process that is killed leaves no write without those before it.
        self.words[at].store(value, Ordering::Release);
        fail_point::here();
    }

    /// An operation begins; `code` is not 0.
    pub(super) fn begin(&self, [code, a, b]: [u64; 3]) {
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

    /// The operation under way, as [`Journal::begin`] was told it; what stands there may be
    /// anything.
    pub(super) fn operation(&self) -> Option<[u64; 3]> {
        // Acquire: pairs with the Release of `begin`.
        let code = self.words[OPERATION].load(Ordering::Acquire);
        (code != 0).then(|| [code, self.get(PARAMETERS), self.get(PARAMETERS + 1)])
    }

    /// Steps made in this operation.
    pub(super) fn made(&self) -> u64 {
        // Acquire: pairs with the Release of `record`.
        self.words[MADE].load(Ordering::Acquire)
    }

    /// Stamp for a step of this operation.
    pub(super) fn stamp(&self, step: u64) -> Stamp {
        // At least 1: `begin` leaves out a number before each operation.
        Stamp::new(self.index, self.get(BEFORE) + step)
    }

    /// A step was made.
    pub(super) fn record(&self, at: u64, step: RecordedStep) {
        if let Some(offset) = self.words[FIRST_STEP..].as_chunks::<2>().0.get(at as usize) {
            for (word, value) in offset.iter().zip(step.encode()) {
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
    pub(super) fn recorded(&self, at: u64) -> Option<RecordedStep> {
        let offset = self.words[FIRST_STEP..].as_chunks::<2>().0.get(at as usize)?;
        RecordedStep::decode(offset.each_ref().map(|word| word.load(Ordering::Relaxed)))
    }
}

/// An operation that can't be run again from its journal: it was too long, or what is recorded does
/// not fit.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotRepeatable;
