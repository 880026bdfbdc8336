//! Threads that were taken off a queue and have yet to be told.

use core::array;
use core::mem::ManuallyDrop;

use crate::scheduler::Scheduler;

/// Threads that are told after the bucket is unlocked; of more, each full batch is told while it is
/// still locked.
const FULL: usize = 32;

/// Unparks its threads when dropped: declared before the lock is taken, it does so after it is
/// released.
pub(crate) struct Batch<'s, S: Scheduler> {
    scheduler: &'s S,
    /// Those that are told are taken out, so when the batch is dropped there are none.
    threads: ManuallyDrop<[Option<S::Thread>; FULL]>,
    len: usize,
    /// Of these, those that were told.
    told: usize,
    total: u32,
}

impl<'s, S: Scheduler> Batch<'s, S> {
    pub(crate) fn new(scheduler: &'s S) -> Self {
        Self { scheduler, threads: ManuallyDrop::new(array::from_fn(|_| None)), len: 0, told: 0, total: 0 }
    }

    #[expect(clippy::arithmetic_side_effects, reason = "less than `FULL`, after the flush")]
    pub(crate) fn push(&mut self, thread: S::Thread) {
        if self.len == FULL {
            self.flush();
        }
        self.threads[self.len] = Some(thread);
        self.len += 1;
        self.total = self.total.saturating_add(1);
    }

    /// Takes the threads that a change of a queue has taken out.
    pub(crate) fn receiver(&mut self) -> impl FnMut(&S::Thread) {
        |thread| self.push(thread.clone())
    }

    /// How many threads were pushed, told or not.
    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    fn flush(&mut self) {
        let rest = Rest(self);
        while let Some(thread) = rest.0.next() {
            rest.0.scheduler.unpark(&thread);
        }
    }

    /// The threads in the order they came in, until all are out.
    #[expect(clippy::arithmetic_side_effects, reason = "less than `len`")]
    fn next(&mut self) -> Option<S::Thread> {
        if self.told == self.len {
            (self.told, self.len) = (0, 0);
            return None;
        }
        self.told += 1;
        self.threads[self.told - 1].take()
    }
}

/// Tells the other threads also if telling one of them panics: each of them has been counted.
struct Rest<'b, 's, S: Scheduler>(&'b mut Batch<'s, S>);

impl<S: Scheduler> Drop for Rest<'_, '_, S> {
    fn drop(&mut self) {
        while let Some(thread) = self.0.next() {
            self.0.scheduler.unpark(&thread);
        }
    }
}

impl<S: Scheduler> Drop for Batch<'_, S> {
    fn drop(&mut self) {
        self.flush();
    }
}
