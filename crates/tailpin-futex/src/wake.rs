//! Wake: the other half of wait.

use crate::batch::Batch;
use crate::bucket::{Bucket, Waiters};
use crate::error::{Error, Invalid};
use crate::futex::Futex;
use crate::futexes::Futexes;
use crate::key::Key;
use crate::list::{DequeueReason, Visit};
use crate::memory::{Access, Memory};
use crate::safeguards::{Safeguard, Safeguards};
use crate::scheduler::Scheduler;
use crate::word::QueueWord;

impl<S: Scheduler, W: QueueWord, G: Safeguards<Safeguard>> Futexes<S, W, G> {
    /// Wakes up to `count` waiters, the highest priority first and then the longest waiting.
    /// Returns how many.
    ///
    /// A thread that changes the word first and then wakes can't miss a waiter that saw the word as
    /// it was.
    ///
    /// # Errors
    /// Those of the key, and [`Invalid::Mismatched`] if nothing was woken and a thread waits there
    /// to be requeued to a lock, or for a lock with priority inheritance.
    #[inline]
    pub fn wake<M: Memory>(&self, futex: &Futex<'_, M>, count: u32) -> Result<u32, Error> {
        self.wake_bitset(futex, count, !0)
    }

    /// Wakes up to `count` waiters of those that wait for one of the bits in `bitset`, in the order
    /// of [`wake`](Self::wake).
    ///
    /// # Errors
    /// Those of [`wake`](Self::wake), and [`Invalid::EmptyBitset`].
    #[inline]
    pub fn wake_bitset<M: Memory>(
        &self,
        futex: &Futex<'_, M>,
        count: u32,
        bitset: u32,
    ) -> Result<u32, Error> {
        if bitset == 0 {
            return Err(Invalid::EmptyBitset.into());
        }
        let key = self.key(futex, Access::Read)?;
        self.wake_key(key, count, bitset)
    }

    /// Where no thread waits it is a short straight line, compiled into the caller.
    #[inline]
    pub(crate) fn wake_key(&self, key: Key, count: u32, bitset: u32) -> Result<u32, Error> {
        let bucket = self.bucket(&key);
        if count == 0 || !bucket.has_waiters::<G>() {
            return Ok(0);
        }
        self.wake_counted(bucket, key, count, bitset)
    }

    /// Wakes waiters of a bucket that counts some.
    #[inline(never)]
    fn wake_counted(&self, bucket: &Bucket<S, W>, key: Key, count: u32, bitset: u32) -> Result<u32, Error> {
        let mut batch = Batch::new(&self.scheduler);
        let mut queue = bucket.lock(&self.scheduler);
        let before = batch.total();
        let woken = take(&mut queue, &key, count, bitset, &mut batch);
        bucket.remove_waiters(u64::from(batch.total().saturating_sub(before)));
        drop(queue);
        if woken == Ok(0) {
            self.refuse_pi_waiters(&key)?;
        }
        woken
    }
}

/// Takes up to `count` waiters of a locked bucket. Those that were taken are in the batch also when
/// it fails.
pub(crate) fn take<S: Scheduler, W: QueueWord>(
    queue: &mut Waiters<S, W>,
    key: &Key,
    count: u32,
    bitset: u32,
    batch: &mut Batch<'_, S>,
) -> Result<u32, Error> {
    let before = batch.total();
    let (mut left, mut mismatched) = (count, false);
    let decide = |waiting: &mut crate::bucket::Waiting<S::Thread>| {
        if left == 0 {
            return Visit::Stop;
        }
        if waiting.target.is_some() {
            mismatched = true;
            return Visit::Stop;
        }
        if waiting.bitset & bitset == 0 {
            return Visit::Keep;
        }
        left = left.saturating_sub(1);
        Visit::Dequeue(DequeueReason::Woken)
    };
    queue.visit(key, decide, |waiting| batch.push(waiting.thread.clone()));
    match batch.total().saturating_sub(before) {
        // Those that were woken stay so; the waiter of another kind is for the next caller to find.
        0 if mismatched => Err(Invalid::Mismatched.into()),
        woken => Ok(woken),
    }
}
