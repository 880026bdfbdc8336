//! The table: buckets by key, and the parts of an operation that all have in common.

use alloc::boxed::Box;
use core::marker::PhantomData;
use core::sync::atomic::AtomicU64;

use crate::bucket::{Bucket, BucketPair};
use crate::derive::derive;
use crate::error::{Error, Invalid};
use crate::futex::Futex;
use crate::key::Key;
use crate::lock::{Guard, Lock};
use crate::memory::{Access, Memory};
use crate::pi_table::PiTable;
use crate::retry_limit::RetryLimit;
use crate::safeguards::{AllSafeguards, Safeguard, Safeguards};
use crate::scheduler::{Deadline, Scheduler};
use crate::word::{Part, QueueWord};

/// All futexes of a system: the table of waiters, over a scheduler.
///
/// The third and fourth parameter are for model checkers; other users leave them out.
pub struct Futexes<S: Scheduler, W: QueueWord = AtomicU64, G: Safeguards<Safeguard> = AllSafeguards> {
    pub(crate) scheduler: S,
    buckets: Box<[Bucket<S, W>]>,
    pub(crate) pi: Lock<W, PiTable<W, S::Thread>>,
    safeguards: PhantomData<fn() -> G>,
}

impl<S: Scheduler> Futexes<S> {
    /// A table for a machine of so many CPUs: 256 buckets each, as Linux has. A bucket is 64 bytes.
    #[expect(clippy::arithmetic_side_effects, reason = "2^28 at most")]
    pub fn new(scheduler: S, cpus: usize) -> Self {
        Self::with_buckets(scheduler, cpus.clamp(1, 1 << 20) * 256)
    }

    /// A table of so many buckets, rounded up to a power of two. Waking looks through the different
    /// keys of one bucket; with about as many buckets as words that are waited for at once, that is
    /// one or two.
    ///
    /// # Panics
    /// If there is no memory for so many.
    pub fn with_buckets(scheduler: S, buckets: usize) -> Self {
        Self::with_words(scheduler, buckets)
    }
}

impl<S: Scheduler, W: QueueWord, G: Safeguards<Safeguard>> Futexes<S, W, G> {
    /// [`with_buckets`](Self::with_buckets) of a checker's words and steps.
    pub fn with_words(scheduler: S, buckets: usize) -> Self {
        let buckets = buckets.max(1).checked_next_power_of_two().expect("so many buckets fit in memory");
        let buckets = (0..buckets).map(Bucket::new).collect();
        let pi = Lock::new(W::new(Part::PiLock), PiTable::new());
        Self { scheduler, buckets, pi, safeguards: PhantomData }
    }

    /// The scheduler that parks the waiters of this table.
    pub fn scheduler(&self) -> &S {
        &self.scheduler
    }

    /// Key of a futex for an operation that needs `access` to its word.
    ///
    /// # Errors
    /// Those of [`derive()`], and [`Error::TooManyRetries`] if other threads have changed the
    /// mapping at each of 65,536 attempts.
    #[inline]
    pub fn key<M: Memory>(&self, futex: &Futex<'_, M>, access: Access) -> Result<Key, Error> {
        self.key_within(futex, access, &mut RetryLimit::of_waker())
    }

    #[inline]
    pub(crate) fn key_within<M: Memory>(
        &self,
        futex: &Futex<'_, M>,
        access: Access,
        limit: &mut RetryLimit<'_, S>,
    ) -> Result<Key, Error> {
        derive::<M, G>(futex, access, |_| limit.give_up(futex.at)).map(|derived| derived.key)
    }

    /// How many threads wait for a futex now. When the caller learns the number it may have
    /// changed.
    ///
    /// # Errors
    /// Those of [`key`](Self::key).
    pub fn waiters<M: Memory>(&self, futex: &Futex<'_, M>) -> Result<usize, Error> {
        let key = self.key(futex, Access::Read)?;
        Ok(self.bucket(&key).lock(&self.scheduler).count(&key))
    }

    /// Whether no thread waits for anything: every queue and every count is empty. For tests, at a
    /// quiet moment.
    pub fn is_idle(&self) -> bool {
        let idle = |bucket: &Bucket<S, W>| bucket.lock(&self.scheduler).is_empty() && bucket.counts_none();
        self.buckets.iter().all(idle) && self.lock_pi_table().is_empty()
    }

    #[expect(clippy::arithmetic_side_effects, reason = "there is one bucket or more")]
    #[inline]
    pub(crate) fn bucket(&self, key: &Key) -> &Bucket<S, W> {
        &self.buckets[key.hash() as usize & (self.buckets.len() - 1)]
    }

    pub(crate) fn numbered(&self, bucket: usize) -> &Bucket<S, W> {
        &self.buckets[bucket]
    }

    pub(crate) fn lock_pair<'f>(&'f self, a: &'f Bucket<S, W>, b: &'f Bucket<S, W>) -> BucketPair<'f, S, W> {
        BucketPair::lock(a, b, &self.scheduler)
    }

    /// Refuses a key at which a thread waits for a lock with priority inheritance: no other
    /// operation may wake it. With no bucket locked.
    pub(crate) fn refuse_pi_waiters(&self, key: &Key) -> Result<(), Error> {
        if self.bucket(key).counts_pi_waiters() && self.lock_pi_table().waiters(key) > 0 {
            return Err(Invalid::Mismatched.into());
        }
        Ok(())
    }

    /// Refuses a key at which a thread waits otherwise than for a lock with priority inheritance:
    /// giving back the lock would not wake it. With nothing locked.
    pub(crate) fn refuse_plain_waiters(&self, key: &Key) -> Result<(), Error> {
        let bucket = self.bucket(key);
        if bucket.counts_plain_waiters() && bucket.lock(&self.scheduler).first(key).is_some() {
            return Err(Invalid::Mismatched.into());
        }
        Ok(())
    }

    pub(crate) fn lock_pi_table(&self) -> Guard<'_, W, PiTable<W, S::Thread>> {
        self.pi.lock(|turns| self.scheduler.relax(turns))
    }

    /// Makes the page of a word present that could not be reached with a lock held; called without
    /// it.
    pub(crate) fn present<M: Memory>(
        &self,
        futex: &Futex<'_, M>,
        access: Access,
        limit: &mut RetryLimit<'_, S>,
    ) -> Result<(), Error> {
        if let Some(error) = limit.give_up(futex.at) {
            return Err(error);
        }
        futex.memory.fault(futex.at, access).map_err(|fault| Error::Fault { at: futex.at, fault })
    }

    /// Blocks until `woken`, the deadline or an interruption.
    pub(crate) fn block(&self, until: Option<Deadline>, woken: impl Fn() -> bool) -> Result<(), Error> {
        loop {
            if woken() {
                return Ok(());
            }
            if until.is_some_and(|until| self.scheduler.now(until.clock) >= until.time) {
                return Err(Error::TimedOut);
            }
            if self.scheduler.interrupted() {
                return Err(Error::Interrupted);
            }
            self.scheduler.park(until);
        }
    }
}
