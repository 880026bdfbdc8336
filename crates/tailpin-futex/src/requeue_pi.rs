//! Condition variables for locks with priority inheritance.
//!
//! Who is requeued goes on as someone who asks for the lock, by itself: the lock's own queue gives it its place by urgency. Linux
//! puts it there without waking it; what comes back to the caller is the same.

use core::pin::pin;

use crate::batch::Batch;
use crate::error::{Error, Invalid};
use crate::futexes::{Futex, Futexes};
use crate::list::{Off, Verdict};
use crate::memory::{Access, Memory};
use crate::patience::Patience;
use crate::pi::Acquired;
use crate::scheduler::{Scheduler, Timeout, deadline};
use crate::steps::Steps;
use crate::word::QueueWord;

impl<S: Scheduler, W: QueueWord, P: Steps> Futexes<S, W, P> {
    /// Waits at `condition`, if it is `expected`, for a [`cmp_requeue_pi`](Self::cmp_requeue_pi) to `lock`; returns with
    /// the lock taken.
    ///
    /// # Errors
    /// As [`wait`](Self::wait) and [`lock_pi`](Self::lock_pi); then the lock is not taken. [`Invalid::SameWord`].
    pub fn wait_requeue_pi<M: Memory>(
        &self,
        condition: &Futex<'_, M>,
        expected: u32,
        bitset: u32,
        lock: &Futex<'_, M>,
        timeout: Option<Timeout>,
    ) -> Result<Acquired, Error> {
        let until = deadline(&self.scheduler, timeout);
        let mut patience = Patience::of_waiter(&self.scheduler);
        let target = self.patient_key(lock, Access::Write, &mut patience)?;
        if self.patient_key(condition, Access::Read, &mut patience)? == target {
            return Err(Invalid::SameWord.into());
        }
        let waiter = pin!(self.waiter());
        waiter.as_ref().queue_for(condition, expected, bitset, Some(target))?;
        let blocked = self.block(until, || waiter.is_woken());
        waiter.leave();
        if waiter.moves_on() {
            return self.acquire(lock, until, true);
        }
        blocked.and(Err(Error::Interrupted))
    }

    /// Lets one waiter of `condition` and up to `requeue` more go on to `lock`, if the condition's word is `expected`.
    /// Returns how many.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] if the word is another, [`Invalid::Mismatched`] if somebody waits there for anything else
    /// than this lock, [`Invalid::SameWord`], and those of the keys.
    pub fn cmp_requeue_pi<M: Memory, N: Memory>(
        &self,
        condition: &Futex<'_, M>,
        lock: &Futex<'_, N>,
        requeue: u32,
        expected: u32,
    ) -> Result<u32, Error> {
        let mut patience = Patience::of_waker();
        loop {
            let source = self.patient_key(condition, Access::Read, &mut patience)?;
            let target = self.patient_key(lock, Access::Write, &mut patience)?;
            if source == target {
                return Err(Invalid::SameWord.into());
            }
            let bucket = self.bucket(&source);
            let mut batch = Batch::new(&self.scheduler);
            let mut queue = bucket.lock(&self.scheduler);
            let Ok(found) = condition.memory.load(condition.at) else {
                drop(queue);
                self.present(condition, Access::Read, &mut patience)?;
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
                        return Verdict::Stop;
                    }
                    left -= 1;
                    Verdict::Take(Off::MoveOn)
                },
                |waiting| batch.push(waiting.thread.clone()),
            );
            bucket.gone(u64::from(batch.total()));
            return match batch.total() {
                0 if mismatched => Err(Invalid::Mismatched.into()),
                moved => Ok(moved),
            };
        }
    }
}
