//! The table: buckets by key, and the parts of an operation that all have in common.

use alloc::boxed::Box;
use core::marker::PhantomData;
use core::mem;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::derive::derive;
use crate::error::{Error, Invalid};
use crate::key::Key;
use crate::list::Queue;
use crate::lock::{Guard, Lock};
use crate::memory::{Access, Address, Memory};
use crate::pi_table::PiTable;
use crate::retry_limit::RetryLimit;
use crate::safeguards::{AllSafeguards, Safeguard, Safeguards};
use crate::scheduler::{Deadline, Scheduler};
use crate::waiter::Waiting;
use crate::word::{Part, QueueWord};

/// Who may use a futex word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Threads of one address space: cheapest, since the page is not looked at.
    Private,
    /// Threads of every address space that maps the page.
    Shared,
}

/// A futex word as one address space sees it.
#[derive(Debug)]
pub struct Futex<'m, M> {
    /// The address space.
    pub memory: &'m M,
    /// Address of the word, a multiple of 4.
    pub at: Address,
    /// Who may use it. Private and shared never meet, even at the same word.
    pub scope: Scope,
}

impl<'m, M: Memory> Futex<'m, M> {
    /// A word for threads of this address space alone.
    pub const fn private(memory: &'m M, at: u64) -> Self {
        Self { memory, at: Address::new(at), scope: Scope::Private }
    }

    /// A word for threads of every address space that maps its page.
    pub const fn shared(memory: &'m M, at: u64) -> Self {
        Self { memory, at: Address::new(at), scope: Scope::Shared }
    }
}

impl<M> Clone for Futex<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Futex<'_, M> {}

/// What the lock of a bucket protects.
pub(crate) type Waiters<S, W> = Queue<W, Waiting<<S as Scheduler>::Thread>>;
type Locked<'f, S, W> = Guard<'f, W, Waiters<S, W>>;

/// A hash bucket: the waiters whose keys have the same hash. One cache line, or nearly.
#[repr(align(64))]
pub(crate) struct Bucket<S: Scheduler, W> {
    number: usize,
    lock: Lock<W, Waiters<S, W>>,
    /// Waiters that are in the queue or about to be, plus [`INHERITING`] for each that waits for a
    /// lock with priority inheritance, in the table of these. May be too high for a moment, never
    /// too low.
    waiters: W,
}

/// A waiter counted in its bucket that is not in the queue yet: counted off when dropped.
pub(crate) struct Announced<'f, S: Scheduler, W: QueueWord>(&'f Bucket<S, W>);

impl<S: Scheduler, W: QueueWord> Announced<'_, S, W> {
    /// It is in the queue now: the thread that takes it out counts it off.
    pub(crate) fn queued(self) {
        mem::forget(self);
    }
}

impl<S: Scheduler, W: QueueWord> Drop for Announced<'_, S, W> {
    fn drop(&mut self) {
        self.0.remove_waiters(1);
    }
}

/// In a bucket's count: one waiter that stands in the table of locks with priority inheritance.
const PI_WAITER: u64 = 1 << 32;

/// A waiter for a lock with priority inheritance, counted in its bucket until dropped.
pub(crate) struct PiCounted<'f, S: Scheduler, W: QueueWord>(&'f Bucket<S, W>);

impl<S: Scheduler, W: QueueWord> Drop for PiCounted<'_, S, W> {
    fn drop(&mut self) {
        // Relaxed: as for `inheriting`.
        self.0.waiters.fetch_sub(PI_WAITER, Ordering::Relaxed);
    }
}

impl<S: Scheduler, W: QueueWord> Bucket<S, W> {
    fn new(number: usize) -> Self {
        let lock = Lock::new(W::new(Part::Lock(number)), Queue::new(number));
        Self { number, lock, waiters: W::new(Part::Waiters(number)) }
    }

    pub(crate) fn lock(&self, scheduler: &S) -> Locked<'_, S, W> {
        self.lock.lock(|turns| scheduler.relax(turns))
    }

    /// Counts a waiter that is about to enter the queue, unless what this returns is dropped. The
    /// barrier that follows makes the word it reads the newest.
    pub(crate) fn announce<G: Safeguards>(&self) -> Announced<'_, S, W> {
        // Relaxed: ordered by the barrier, which pairs with the one in `has_waiters`.
        self.waiters.fetch_add(1, Ordering::Relaxed);
        if G::keeps(Safeguard::FWait) {
            W::fence(Ordering::SeqCst);
        }
        Announced(self)
    }

    /// Counts waiters that have entered the queue, under the lock.
    pub(crate) fn add_waiters(&self, count: u64) {
        // Relaxed: a waker that may miss it has not changed the word yet (`announce` was called
        // before).
        self.waiters.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts off waiters that have left the queue, or never entered it.
    pub(crate) fn remove_waiters(&self, count: u64) {
        if count > 0 {
            // Relaxed: a waker that sees too many only looks at an empty queue.
            self.waiters.fetch_sub(count, Ordering::Relaxed);
        }
    }

    /// Counts a waiter for a lock with priority inheritance.
    pub(crate) fn count_pi_waiter(&self) -> PiCounted<'_, S, W> {
        // Relaxed: no wake hangs on it, only whether two kinds of waiters at one word are told
        // apart.
        self.waiters.fetch_add(PI_WAITER, Ordering::Relaxed);
        PiCounted(self)
    }

    /// Whether a waker has to look at the queue. Asked after the word was changed.
    pub(crate) fn has_waiters<G: Safeguards>(&self) -> bool {
        W::fence(if G::keeps(Safeguard::FWake) { Ordering::SeqCst } else { Ordering::Release });
        self.waiters.load(Ordering::Relaxed) > 0
    }
}

/// Two buckets, locked in the order of their numbers; one, if they are the same.
pub(crate) struct BucketPair<'f, S: Scheduler, W: QueueWord> {
    first: Locked<'f, S, W>,
    second: Option<Locked<'f, S, W>>,
    swapped: bool,
}

impl<S: Scheduler, W: QueueWord> BucketPair<'_, S, W> {
    /// The queue of the bucket asked for first, and of the second if that is another one.
    pub(crate) fn queues(&mut self) -> (&mut Waiters<S, W>, Option<&mut Waiters<S, W>>) {
        let first: &mut Waiters<S, W> = &mut self.first;
        match self.second.as_deref_mut() {
            None => (first, None),
            Some(second) if self.swapped => (second, Some(first)),
            Some(second) => (first, Some(second)),
        }
    }

    /// The queue of the bucket asked for second.
    pub(crate) fn target(&mut self) -> &mut Waiters<S, W> {
        match self.queues() {
            (same, None) => same,
            (_, Some(other)) => other,
        }
    }
}

/// All futexes of a system: the table of waiters, over a scheduler.
///
/// The third and fourth parameter are for model checkers; other users leave them out.
pub struct Futexes<S: Scheduler, W: QueueWord = AtomicU64, G: Safeguards = AllSafeguards> {
    pub(crate) scheduler: S,
    buckets: Box<[Bucket<S, W>]>,
    pub(crate) pi: Lock<W, PiTable<W, S::Thread>>,
    safeguards: PhantomData<fn() -> G>,
}

impl<S: Scheduler> Futexes<S> {
    /// A table for a machine of so many CPUs: 256 buckets each, as Linux has. A bucket is 64 bytes.
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

impl<S: Scheduler, W: QueueWord, G: Safeguards> Futexes<S, W, G> {
    /// [`with_buckets`](Self::with_buckets) of a checker's words and steps.
    pub fn with_words(scheduler: S, buckets: usize) -> Self {
        let buckets = buckets.max(1).checked_next_power_of_two().expect("so many buckets fit in memory");
        let buckets = (0..buckets).map(Bucket::new).collect();
        let pi = Lock::new(W::new(Part::PiLock), PiTable::new());
        Self { scheduler, buckets, pi, safeguards: PhantomData }
    }

    /// The scheduler.
    pub fn scheduler(&self) -> &S {
        &self.scheduler
    }

    /// Key of a futex for an operation that needs `access` to its word.
    ///
    /// # Errors
    /// Those of [`derive()`], and [`Error::TooManyRetries`] if other threads have changed the
    /// mapping at each of 65,536 attempts.
    pub fn key<M: Memory>(&self, futex: &Futex<'_, M>, access: Access) -> Result<Key, Error> {
        self.key_within(futex, access, &mut RetryLimit::of_waker())
    }

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
        let idle = |bucket: &Bucket<S, W>| {
            bucket.lock(&self.scheduler).is_empty() && bucket.waiters.load(Ordering::Relaxed) == 0
        };
        self.buckets.iter().all(idle) && self.lock_pi_table().is_empty()
    }

    pub(crate) fn bucket(&self, key: &Key) -> &Bucket<S, W> {
        &self.buckets[key.hash() as usize & (self.buckets.len() - 1)]
    }

    pub(crate) fn numbered(&self, bucket: usize) -> &Bucket<S, W> {
        &self.buckets[bucket]
    }

    pub(crate) fn lock_pair<'f>(&'f self, a: &'f Bucket<S, W>, b: &'f Bucket<S, W>) -> BucketPair<'f, S, W> {
        let swapped = b.number < a.number;
        let (low, high) = if swapped { (b, a) } else { (a, b) };
        let first = low.lock(&self.scheduler);
        let second = (low.number != high.number).then(|| high.lock(&self.scheduler));
        BucketPair { first, second, swapped }
    }

    /// Refuses a key at which a thread waits for a lock with priority inheritance: no other
    /// operation may wake it. With no bucket locked.
    pub(crate) fn refuse_pi_waiters(&self, key: &Key) -> Result<(), Error> {
        let some = self.bucket(key).waiters.load(Ordering::Relaxed) >= PI_WAITER;
        if some && self.lock_pi_table().waiters(key) > 0 {
            return Err(Invalid::Mismatched.into());
        }
        Ok(())
    }

    /// Refuses a key at which a thread waits otherwise than for a lock with priority inheritance:
    /// giving back the lock would not wake it. With nothing locked.
    pub(crate) fn refuse_plain_waiters(&self, key: &Key) -> Result<(), Error> {
        let bucket = self.bucket(key);
        let some = !bucket.waiters.load(Ordering::Relaxed).is_multiple_of(PI_WAITER);
        if some && bucket.lock(&self.scheduler).first(key).is_some() {
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
