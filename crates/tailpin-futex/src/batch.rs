//! Threads that were taken off a queue and have yet to be told.

use core::array;

use crate::scheduler::Scheduler;

/// So many are told after the bucket is unlocked; of more, each full batch while it is still locked.
const FULL: usize = 32;

/// Unparks its threads when dropped: declared before the lock is taken, it does so after it is released.
pub(crate) struct Batch<'s, S: Scheduler> {
    scheduler: &'s S,
    threads: [Option<S::Thread>; FULL],
    len: usize,
    total: u32,
}

impl<'s, S: Scheduler> Batch<'s, S> {
    pub(crate) fn new(scheduler: &'s S) -> Self {
        Self { scheduler, threads: array::from_fn(|_| None), len: 0, total: 0 }
    }

    pub(crate) fn push(&mut self, thread: S::Thread) {
        if self.len == FULL {
            self.flush();
        }
        self.threads[self.len] = Some(thread);
        self.len += 1;
        self.total = self.total.saturating_add(1);
    }

    /// How many there were.
    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    fn flush(&mut self) {
        for thread in self.threads[..self.len].iter_mut().filter_map(Option::take) {
            self.scheduler.unpark(&thread);
        }
        self.len = 0;
    }
}

impl<S: Scheduler> Drop for Batch<'_, S> {
    fn drop(&mut self) {
        self.flush();
    }
}
