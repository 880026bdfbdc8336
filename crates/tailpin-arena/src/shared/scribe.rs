//! The scribe: writes down each step of the operation that its thread is in the middle of, and
//! reads back what was written by a process that did not get to the end.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::journal::{Journal, Kind, NotRepeatable, STEPS, Step};
use super::operation::Lives;
use super::stop;
use super::word::{Stamp, Told, Word};

/// Whose operation this thread is in.
#[derive(Clone, Copy)]
pub(super) struct Scribe {
    journal: Journal,
    /// Number of the owner whose operation it is.
    owner: usize,
    /// Where the memory begins in this process.
    base: usize,
    lives: Lives,
    mode: Mode,
}

#[derive(Clone, Copy)]
enum Mode {
    /// The operation was begun here.
    Write,
    /// It was begun by another process, which recorded so many steps.
    Finish(u64),
    /// Nothing is recorded.
    Watch,
}

thread_local! {
    static CURRENT: Cell<Option<Scribe>> = const { Cell::new(None) };
    /// Steps made so far.
    static MADE: Cell<u64> = const { Cell::new(0) };
}

/// The scribe lays down the pen, whichever way the operation ends.
struct Pen;

impl Drop for Pen {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

impl Scribe {
    pub(super) fn new(journal: Journal, owner: usize, base: usize, lives: Lives) -> Self {
        Self { journal, owner, base, lives, mode: Mode::Write }
    }

    /// Runs an operation that its journal says has begun.
    pub(super) fn write<R>(self, operation: impl FnOnce() -> R) -> R {
        assert!(CURRENT.get().is_none(), "operations have no operations within");
        let _pen = Pen;
        CURRENT.set(Some(self));
        MADE.set(0);
        operation()
    }

    /// Runs something that no other process is to finish: a look at all words at a quiet moment.
    pub(super) fn watch<R>(mut self, look: impl FnOnce() -> R) -> R {
        self.mode = Mode::Watch;
        self.write(look)
    }

    /// Runs an operation that another process has begun.
    pub(super) fn finish<R>(mut self, operation: impl FnOnce() -> R) -> Result<R, NotRepeatable> {
        let made = self.journal.made();
        if made > STEPS as u64 {
            return Err(NotRepeatable);
        }
        self.mode = Mode::Finish(made);
        catch_unwind(AssertUnwindSafe(|| self.write(operation))).map_err(|thrown: Box<dyn Any + Send>| {
            match thrown.downcast::<NotRepeatable>() {
                Ok(not) => *not,
                Err(other) => resume_unwind(other),
            }
        })
    }

    /// The owner that this thread acts for; 0 outside of operations.
    pub(super) fn acting_for() -> usize {
        CURRENT.get().map_or(0, |scribe| scribe.owner)
    }

    /// Of the arena that the operation is done to.
    pub(super) fn lives() -> Option<Lives> {
        CURRENT.get().map(|scribe| scribe.lives)
    }

    /// A value that is this operation's own: no other has it, and who finishes the operation gets
    /// the same.
    pub(super) fn operation_stamp() -> Option<Stamp> {
        CURRENT.get().map(|scribe| scribe.journal.stamp(0))
    }

    pub(super) fn load(word: &Word) -> u64 {
        let Some(scribe) = CURRENT.get() else { return word.value() };
        let (Ok(found) | Err(found)) = scribe.step(Kind::Load, word, |_, _| Ok(word.value()));
        found
    }

    pub(super) fn store(word: &Word, value: u64) {
        let _ = Self::current().step(Kind::Store, word, |by, told| word.replace(by, told, |_| Some(value)));
    }

    pub(super) fn compare_exchange(word: &Word, current: u64, new: u64) -> Result<u64, u64> {
        let exchange = |by, told| word.replace(by, told, |seen| (seen == current).then_some(new));
        Self::current().step(Kind::CompareExchange, word, exchange).map(|_| current)
    }

    fn current() -> Self {
        CURRENT.get().expect("words are written in operations only")
    }

    fn step(
        &self,
        kind: Kind,
        word: &Word,
        perform: impl FnOnce(Stamp, Told) -> Result<u64, u64>,
    ) -> Result<u64, u64> {
        if let Mode::Watch = self.mode {
            return perform(Stamp(0), self.journal.told);
        }
        let at = MADE.replace(MADE.get() + 1);
        let place = (std::ptr::from_ref(word) as usize - self.base) as u64;
        let made_before = if let Mode::Finish(made) = self.mode { Some(made) } else { None };
        if made_before.is_some_and(|made| at < made) {
            return match self.journal.recorded(at) {
                Some(step) if step.kind == kind && step.place == place => step.outcome,
                _ => resume_unwind(Box::new(NotRepeatable)),
            };
        }
        let stamp = self.journal.stamp(at);
        // The one step of which it is not known whether it was made.
        let in_doubt = made_before == Some(at) && kind != Kind::Load;
        stop::here();
        let outcome = if in_doubt && word.was_written(stamp, self.journal.told) {
            Ok(0) // What was found is not needed: a store has no answer, and who exchanged knows what was there.
        } else {
            perform(stamp, self.journal.told)
        };
        stop::here();
        self.journal.record(at, Step { kind, place, outcome });
        outcome
    }
}
