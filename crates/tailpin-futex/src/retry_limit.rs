//! How long an operation goes after a mapping or a word that other threads go on changing.
//!
//! Each new attempt has its reason in a change by another thread, so without such changes none of
//! this is ever asked.

use crate::error::Error;
use crate::memory::Address;
use crate::scheduler::Scheduler;

/// Attempts of an operation that must not be interrupted: a wake that is given up lightly is a wake
/// that is lost.
const MOST: u32 = 1 << 16;

/// What ends an otherwise unbounded chase.
pub(crate) enum RetryLimit<'s, S> {
    /// Until the thread is interrupted: for an operation that is about to wait anyway.
    UntilInterrupted(&'s S),
    /// A number of attempts.
    Attempts {
        /// Made.
        made: u32,
        /// At most.
        most: u32,
    },
}

impl<'s, S: Scheduler> RetryLimit<'s, S> {
    /// For operations that wait.
    pub(crate) const fn of_waiter(scheduler: &'s S) -> Self {
        Self::UntilInterrupted(scheduler)
    }

    /// For operations that don't wait.
    pub(crate) const fn of_waker() -> Self {
        Self::limited(MOST)
    }

    /// For a number of attempts.
    pub(crate) const fn limited(most: u32) -> Self {
        Self::Attempts { made: 0, most }
    }

    /// Asked before another attempt: the error that ends the operation, if it is over.
    pub(crate) fn give_up(&mut self, at: Address) -> Option<Error> {
        match self {
            Self::UntilInterrupted(scheduler) => scheduler.interrupted().then_some(Error::Interrupted),
            Self::Attempts { made, most } => {
                *made = made.saturating_add(1);
                (*made >= *most).then_some(Error::TooManyRetries { at, attempts: *made })
            }
        }
    }
}
