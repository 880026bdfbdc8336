//! Counting in place of timing: one subject in one scenario, such that callgrind sees its
//! operations and nothing else.
//!
//! What is timed otherwise is called through [`window`] then, and callgrind is told to collect only
//! within that.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The name callgrind is to look for: that of [`window`].
pub(crate) const WINDOW: &str = "*counting*window*";

/// Operations of one repetition of a scenario that has no end of its own.
pub(crate) const OPERATIONS: u64 = 20_000;

/// Which operations count, and how many there have been.
#[derive(Debug)]
pub struct Counting {
    scenario: String,
    subject: String,
    armed: AtomicBool,
    operations: AtomicU64,
}

impl Counting {
    /// Those of `subject` in `scenario`.
    pub fn of(scenario: &str, subject: &str) -> Self {
        let (scenario, subject) = (scenario.to_owned(), subject.to_owned());
        Self { scenario, subject, armed: AtomicBool::new(false), operations: AtomicU64::new(0) }
    }

    /// How many operations ran inside the window.
    pub fn operations(&self) -> u64 {
        // Relaxed, here and below: threads are joined between any two uses that must agree.
        self.operations.load(Ordering::Relaxed)
    }

    pub(crate) fn is_of(&self, subject: &str) -> bool {
        self.subject == subject
    }

    pub(crate) fn scenario(&self) -> &str {
        &self.scenario
    }

    /// The first repetition, with its page faults and empty caches, is over.
    pub(crate) fn arm(&self) {
        self.armed.store(true, Ordering::Relaxed);
    }

    /// Does `work`, which returns how many operations it was, inside the window if it is the one to
    /// count.
    pub(crate) fn run<T>(&self, scenario: &str, work: impl FnOnce() -> (u64, T)) -> T {
        if self.scenario != scenario || !self.armed.load(Ordering::Relaxed) {
            return work().1;
        }
        let (operations, result) = window(work);
        self.operations.fetch_add(operations, Ordering::Relaxed);
        result
    }
}

#[inline(never)]
fn window<T>(work: impl FnOnce() -> T) -> T {
    // Keeps the call from becoming a jump, of which callgrind would not see the end.
    std::hint::black_box(work())
}
