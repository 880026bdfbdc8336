//! The step recorder: writes each step of the operation that its thread is in the middle of into
//! the journal, and reads back what a process wrote that did not get to the end.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{Ordering, fence};
use std::thread::panicking;

use tailpin::AtomicWord;

use super::fail_point;
use super::generations::Generations;
use super::journal::{Journal, NotRepeatable, RecordedStep, STEPS, StepKind};
use super::word::{Stamp, Word};

/// Whose operation this thread is in.
#[derive(Clone, Copy)]
pub(super) struct StepRecorder {
    journal: Journal,
    /// Number of the owner whose operation it is.
    owner: usize,
    /// Where the memory begins in this process.
    base: usize,
    generations: Generations,
    mode: Mode,
    /// The operation was begun while its thread was unwinding already, as by a handle's drop.
    began_unwinding: bool,
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
    static CURRENT: Cell<Option<StepRecorder>> = const { Cell::new(None) };
    /// Steps made so far.
    static MADE: Cell<u64> = const { Cell::new(0) };
    /// Words that were written by destructors after a panic had ended the operation.
    static AFTER_PANIC: RefCell<HashMap<usize, u64>> = RefCell::new(HashMap::new());
}

/// Ends the recording, whichever way the operation ends.
struct RecordingGuard;

impl Drop for RecordingGuard {
    fn drop(&mut self) {
        CURRENT.set(None);
        if panicking() {
            AFTER_PANIC.with_borrow_mut(HashMap::clear);
        }
    }
}

impl StepRecorder {
    pub(super) fn new(journal: Journal, owner: usize, base: usize, generations: Generations) -> Self {
        Self { journal, owner, base, generations, mode: Mode::Write, began_unwinding: false }
    }

    /// Runs an operation that its journal says has begun.
    pub(super) fn write<R>(mut self, operation: impl FnOnce() -> R) -> R {
        assert!(CURRENT.get().is_none(), "operations have no operations within");
        self.began_unwinding = panicking();
        let _guard = RecordingGuard;
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
        CURRENT.get().map_or(0, |recorder| recorder.owner)
    }

    /// The generations of the arena that the operation is done to, and a value that is this
    /// operation's own: no other has it, and a process that finishes the operation gets the same.
    pub(super) fn generations() -> Option<(Generations, Stamp)> {
        CURRENT.get().map(|recorder| (recorder.generations, recorder.journal.stamp(0)))
    }

    /// Makes a step of the operation that this thread is in: the word becomes `new(value)`, or
    /// stays if that is `None`. The value found is returned.
    fn step(&self, kind: StepKind, word: &Word, new: impl Fn(u64) -> Option<u64>) -> Result<u64, u64> {
        if panicking() && !self.began_unwinding {
            return after_panic(word, new);
        }
        let acknowledged = self.journal.acknowledged;
        if let Mode::Watch = self.mode {
            return word.replace(Stamp(0), acknowledged, new);
        }
        let at = MADE.replace(MADE.get() + 1);
        let offset = (std::ptr::from_ref(word) as usize - self.base) as u64;
        let made_before = if let Mode::Finish(made) = self.mode { Some(made) } else { None };
        if made_before.is_some_and(|made| at < made) {
            return match self.journal.recorded(at) {
                Some(step) if step.kind == kind && step.offset == offset => step.outcome,
                _ => resume_unwind(Box::new(NotRepeatable)),
            };
        }
        let stamp = self.journal.stamp(at);
        // The one step of which it is not known whether it was made.
        let in_doubt = made_before == Some(at) && kind != StepKind::Load;
        fail_point::here();
        let outcome = if in_doubt && word.was_written(stamp, acknowledged) {
            // The value found is not needed: a store has no answer, and the caller of an exchange
            // that succeeded knows what was there.
            Ok(0)
        } else {
            word.replace(stamp, acknowledged, new)
        };
        fail_point::here();
        self.journal.record(at, RecordedStep { kind, offset, outcome });
        outcome
    }
}

/// A step of a destructor, after a panic has ended the operation in the middle. A recovery goes on
/// from where the panic was, so nothing of what unwinding does may be seen in the memory: it is
/// done to a copy of each word, which ends with the operation.
#[cold]
fn after_panic(word: &Word, new: impl Fn(u64) -> Option<u64>) -> Result<u64, u64> {
    AFTER_PANIC.with_borrow_mut(|copies| {
        let copy = copies.entry(std::ptr::from_ref(word) as usize).or_insert_with(|| word.value());
        let seen = *copy;
        match new(seen) {
            Some(new) => {
                *copy = new;
                Ok(seen)
            }
            None => Err(seen),
        }
    })
}

fn current() -> StepRecorder {
    CURRENT.get().expect("words are written in operations only")
}

impl Word {
    /// Writes what `new` makes of the value, as steps of the operation that this thread is in; the
    /// value found is returned.
    pub(super) fn change(&self, new: impl Fn(u64) -> u64) -> u64 {
        let mut seen = AtomicWord::load(self, Ordering::SeqCst);
        loop {
            match AtomicWord::compare_exchange(self, seen, new(seen), Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return seen,
                Err(now) => seen = now,
            }
        }
    }
}

/// Each access is a step of the operation that this thread is in, and all are SeqCst, whatever the
/// order asked for. A load outside of operations is a plain one.
impl AtomicWord for Word {
    fn load(&self, _: Ordering) -> u64 {
        let Some(recorder) = CURRENT.get() else { return self.value() };
        let (Ok(found) | Err(found)) = recorder.step(StepKind::Load, self, |_| None);
        found
    }
    fn store(&self, value: u64, _: Ordering) {
        let _ = current().step(StepKind::Store, self, |_| Some(value));
    }
    fn compare_exchange(&self, current_value: u64, new: u64, _: Ordering, _: Ordering) -> Result<u64, u64> {
        let exchange = |seen| (seen == current_value).then_some(new);
        current().step(StepKind::CompareExchange, self, exchange).map(|_| current_value)
    }
    fn fetch_add(&self, n: u64, _: Ordering) -> u64 {
        self.change(|seen| seen.wrapping_add(n))
    }
    fn fetch_sub(&self, n: u64, _: Ordering) -> u64 {
        self.change(|seen| seen.wrapping_sub(n))
    }
    fn fetch_and(&self, bits: u64, _: Ordering) -> u64 {
        self.change(|seen| seen & bits)
    }
    fn fetch_or(&self, bits: u64, _: Ordering) -> u64 {
        self.change(|seen| seen | bits)
    }
    fn fence(order: Ordering) {
        fence(order);
    }
    fn relax() {
        std::hint::spin_loop();
    }
}
