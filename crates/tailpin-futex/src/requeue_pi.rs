//! Condition variables for locks with priority inheritance.
//!
//! A waiter that is requeued goes on as a thread that asks for the lock: the lock's own queue gives
//! it its place by priority. Linux puts it there without waking it; what comes back to the waiter
//! is the same, but for a lock that can't be taken at all (its owner does not exist, waiting for it
//! would be a deadlock): Linux tells the requeuing thread, here the waiter learns it.

use core::pin::pin;

use crate::batch::Batch;
use crate::error::{Error, Invalid};
use crate::futex::Futex;
use crate::futexes::Futexes;
use crate::list::{DequeueReason, Visit};
use crate::memory::{Access, Memory};
use crate::pi::Acquired;
use crate::retry_limit::RetryLimit;
use crate::safeguards::{Safeguard, Safeguards};
use crate::scheduler::{Scheduler, Timeout, deadline};
use crate::word::QueueWord;

impl<S: Scheduler, W: QueueWord, G: Safeguards<Safeguard>> Futexes<S, W, G> {
    /// Waits at `condition`, if it is `expected`, for a [`cmp_requeue_pi`](Self::cmp_requeue_pi) to
    /// `lock`; returns with the lock taken.
    ///
    /// # Errors
    /// Those of [`wait`](Self::wait) and [`lock_pi`](Self::lock_pi); then the lock is not taken.
    /// [`Error::Interrupted`] only while it was not requeued; after that an interruption is
    /// [`Error::WouldBlock`]. [`Invalid::SameWord`].
    pub fn wait_requeue_pi<M: Memory>(
        &self,
        condition: &Futex<'_, M>,
        expected: u32,
        bitset: u32,
        lock: &Futex<'_, M>,
        timeout: Option<Timeout>,
    ) -> Result<Acquired, Error> {
        // First: a requeue that came to a thread that can't take the lock would be lost.
        self.lock_owner()?;
        let until = deadline(&self.scheduler, timeout);
        let mut limit = RetryLimit::of_waiter(&self.scheduler);
        let target = self.key_within(lock, Access::Write, &mut limit)?;
        if self.key_within(condition, Access::Read, &mut limit)? == target {
            return Err(Invalid::SameWord.into());
        }
        let waiter = pin!(self.waiter());
        waiter.as_ref().queue_for(condition, expected, bitset, Some(target))?;
        let blocked = self.block(until, || waiter.is_woken());
        waiter.leave();
        if waiter.was_requeued() {
            // A requeue has counted this waiter: were it told that it was interrupted, it would
            // call again and wait at the condition for a second requeue. That the word has changed
            // is what calling again would have told.
            return self.acquire(lock, until, true).map_err(|error| match error {
                Error::Interrupted => {
                    Error::WouldBlock { found: condition.memory.load(condition.at).unwrap_or(expected) }
                }
                error => error,
            });
        }
        blocked.and(Err(Error::Interrupted))
    }

    /// Lets one waiter of `condition` and up to `requeue` more go on to `lock`, if the condition's
    /// word is `expected`. Returns how many.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] if the word is another, [`Invalid::Mismatched`] if a thread waits
    /// there for anything else than this lock, [`Invalid::SameWord`], and those of the keys.
    pub fn cmp_requeue_pi<M: Memory, N: Memory>(
        &self,
        condition: &Futex<'_, M>,
        lock: &Futex<'_, N>,
        requeue: u32,
        expected: u32,
    ) -> Result<u32, Error> {
        let mut limit = RetryLimit::of_waker();
        loop {
            let source = self.key_within(condition, Access::Read, &mut limit)?;
            let target = self.key_within(lock, Access::Write, &mut limit)?;
            if source == target {
                return Err(Invalid::SameWord.into());
            }
            let bucket = self.bucket(&source);
            let mut batch = Batch::new(&self.scheduler);
            let mut queue = bucket.lock(&self.scheduler);
            let Ok(found) = condition.memory.load(condition.at) else {
                drop(queue);
                self.present(condition, Access::Read, &mut limit)?;
                continue;
            };
            if found != expected {
                return Err(Error::WouldBlock { found });
            }
            let (mut left, mut mismatched) = (requeue.saturating_add(1), false);
            queue.visit(
                &source,
                |waiting| {
                    mismatched |= left > 0 && waiting.target != Some(target);
                    if mismatched || left == 0 {
                        return Visit::Stop;
                    }
                    left = left.saturating_sub(1);
                    Visit::Dequeue(DequeueReason::Requeued)
                },
                |waiting| batch.push(waiting.thread.clone()),
            );
            bucket.remove_waiters(u64::from(batch.total()));
            drop(queue);
            return match batch.total() {
                0 if mismatched => Err(Invalid::Mismatched.into()),
                0 => self.refuse_pi_waiters(&source).map(|()| 0),
                moved => Ok(moved),
            };
        }
    }
}
