//! Hash buckets: the waiters whose keys have the same hash, under one lock, and how many there are.

use core::mem;
use core::sync::atomic::Ordering;

use crate::key::Key;
use crate::list::Queue;
use crate::lock::{Guard, Lock};
use crate::safeguards::{Safeguard, Safeguards};
use crate::scheduler::Scheduler;
use crate::word::{Part, QueueWord};

/// What a bucket knows of a waiter.
pub(crate) struct Waiting<T> {
    pub(crate) thread: T,
    pub(crate) bitset: u32,
    /// Waits to be requeued to this priority-inheritance lock, and for nothing else.
    pub(crate) target: Option<Key>,
}

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
    pub(crate) fn new(number: usize) -> Self {
        let lock = Lock::new(W::new(Part::Lock(number)), Queue::new(number));
        Self { number, lock, waiters: W::new(Part::Waiters(number)) }
    }

    pub(crate) fn lock(&self, scheduler: &S) -> Locked<'_, S, W> {
        self.lock.lock(|turns| scheduler.relax(turns))
    }

    /// Counts a waiter that is about to enter the queue, unless what this returns is dropped. The
    /// barrier that follows makes the word it reads the newest.
    pub(crate) fn announce<G: Safeguards<Safeguard>>(&self) -> Announced<'_, S, W> {
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

    /// Whether no waiter of either kind is counted.
    pub(crate) fn counts_none(&self) -> bool {
        self.waiters.load(Ordering::Relaxed) == 0
    }

    /// Whether a waiter for a lock with priority inheritance is counted.
    pub(crate) fn counts_pi_waiters(&self) -> bool {
        self.waiters.load(Ordering::Relaxed) >= PI_WAITER
    }

    /// Whether a waiter is counted that waits otherwise than for a lock with priority inheritance.
    pub(crate) fn counts_plain_waiters(&self) -> bool {
        !self.waiters.load(Ordering::Relaxed).is_multiple_of(PI_WAITER)
    }

    /// Whether a waker has to look at the queue. Asked after the word was changed.
    #[inline]
    pub(crate) fn has_waiters<G: Safeguards<Safeguard>>(&self) -> bool {
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

impl<'f, S: Scheduler, W: QueueWord> BucketPair<'f, S, W> {
    /// Locks both, the one with the lower number first, so that no two threads wait for each other.
    pub(crate) fn lock(a: &'f Bucket<S, W>, b: &'f Bucket<S, W>, scheduler: &S) -> Self {
        let swapped = b.number < a.number;
        let (low, high) = if swapped { (b, a) } else { (a, b) };
        let first = low.lock(scheduler);
        let second = (low.number != high.number).then(|| high.lock(scheduler));
        Self { first, second, swapped }
    }

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
