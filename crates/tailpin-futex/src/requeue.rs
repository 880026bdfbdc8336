//! Requeue: wake some, let the others wait for another word.

use crate::batch::Batch;
use crate::bucket::Waiting;
use crate::error::{Error, Invalid};
use crate::futex::Futex;
use crate::futexes::Futexes;
use crate::memory::{Access, Memory, NotPresent};
use crate::retry_limit::RetryLimit;
use crate::safeguards::{Safeguard, Safeguards};
use crate::scheduler::Scheduler;
use crate::wake::take;
use crate::word::QueueWord;

/// How many waiters a requeue woke and moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Requeued {
    /// Waiters woken.
    pub woken: u32,
    /// Waiters that now wait for the other word.
    pub requeued: u32,
}

impl<S: Scheduler, W: QueueWord, G: Safeguards<Safeguard>> Futexes<S, W, G> {
    /// Wakes up to `wake` waiters of `from` and lets up to `requeue` of the rest wait for `to`
    /// instead.
    ///
    /// ```
    /// use std::pin::pin;
    /// use tailpin_futex::{Futex, Futexes, StdScheduler, model::ModelMemory};
    /// let (futexes, memory) = (Futexes::new(StdScheduler::new(), 1), ModelMemory::anonymous(1));
    /// let (condition, mutex) = (Futex::private(&memory, 0), Futex::private(&memory, 4));
    /// let (first, second) = (pin!(futexes.waiter()), pin!(futexes.waiter()));
    /// first.as_ref().queue(&condition, 0, !0)?;
    /// second.as_ref().queue(&condition, 0, !0)?;
    /// let done = futexes.requeue(&condition, &mutex, 1, 9)?;
    /// assert_eq!((done.woken, done.requeued), (1, 1));
    /// assert!(first.is_woken() && !second.is_woken());
    /// assert_eq!(futexes.wake(&mutex, 1)?, 1);
    /// # Ok::<(), tailpin_futex::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of the keys, and [`Invalid::Mismatched`] if a thread waits there to be requeued to a
    /// lock, or for a lock with priority inheritance.
    pub fn requeue<M: Memory, N: Memory>(
        &self,
        from: &Futex<'_, M>,
        to: &Futex<'_, N>,
        wake: u32,
        requeue: u32,
    ) -> Result<Requeued, Error> {
        self.requeue_if(from, to, wake, requeue, None)
    }

    /// Requeues as [`requeue`](Self::requeue) does, if the word `from` is `expected`: it is read
    /// with both queues locked, so that nothing comes between.
    ///
    /// # Errors
    /// Those of [`requeue`](Self::requeue), and [`Error::WouldBlock`] if the word is another.
    pub fn cmp_requeue<M: Memory, N: Memory>(
        &self,
        from: &Futex<'_, M>,
        to: &Futex<'_, N>,
        wake: u32,
        requeue: u32,
        expected: u32,
    ) -> Result<Requeued, Error> {
        self.requeue_if(from, to, wake, requeue, Some(expected))
    }

    fn requeue_if<M: Memory, N: Memory>(
        &self,
        from: &Futex<'_, M>,
        to: &Futex<'_, N>,
        wake: u32,
        requeue: u32,
        expected: Option<u32>,
    ) -> Result<Requeued, Error> {
        let mut limit = RetryLimit::of_waker();
        loop {
            let source = self.key_within(from, Access::Read, &mut limit)?;
            let target = self.key_within(to, Access::Read, &mut limit)?;
            let (here, there) = (self.bucket(&source), self.bucket(&target));
            let mut batch = Batch::new(&self.scheduler);
            // The waiters that are moved have not looked at the target's word: a waker of it must
            // see them none the less.
            let announced = there.announce::<G>();
            let mut pair = self.lock_pair(here, there);
            let looked = expected.map(|expected| (expected, from.memory.load(from.at)));
            let outcome = match looked {
                Some((_, Err(absent))) => Err(absent),
                Some((expected, Ok(found))) if found != expected => Ok(Err(Error::WouldBlock { found })),
                _ => {
                    let (queue, other) = pair.queues();
                    let woken = take(queue, &source, wake, !0, &mut batch);
                    let most = requeue as usize;
                    let plain = |waiting: &Waiting<S::Thread>| waiting.target.is_none();
                    let moved = woken.and_then(|woken| {
                        let requeued = queue.requeue(&source, other, target, most, plain) as u32;
                        let mismatched = queue.first(&source).is_some_and(|(next, _)| !plain(next));
                        if woken == 0 && requeued == 0 && most > 0 && mismatched {
                            return Err(Invalid::Mismatched.into());
                        }
                        Ok(Requeued { woken, requeued })
                    });
                    let requeued = moved.map_or(0, |done| u64::from(done.requeued));
                    here.remove_waiters(u64::from(batch.total()).saturating_add(requeued));
                    if G::keeps(Safeguard::FMove) {
                        there.add_waiters(requeued);
                    }
                    Ok(moved)
                }
            };
            drop(pair);
            drop(announced);
            match outcome {
                Ok(Ok(Requeued { woken: 0, requeued: 0 })) if wake > 0 || requeue > 0 => {
                    self.refuse_pi_waiters(&source)?;
                    return Ok(Requeued::default());
                }
                Ok(done) => return done,
                Err(NotPresent) => self.present(from, Access::Read, &mut limit)?,
            }
        }
    }
}
