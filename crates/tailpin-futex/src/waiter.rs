//! One wait: from the look at the word to being woken or giving up.

#![allow(unsafe_code)]

use core::mem;
use core::pin::Pin;
use core::sync::atomic::AtomicU64;

use tailpin::Finally;

use crate::bucket::Waiting;
use crate::error::{Error, Invalid};
use crate::futex::Futex;
use crate::futexes::Futexes;
use crate::key::Key;
use crate::list::{DequeueReason, Node, NodeState};
use crate::memory::{Access, Memory, NotPresent};
use crate::retry_limit::RetryLimit;
use crate::safeguards::{AllSafeguards, Safeguard, Safeguards};
use crate::scheduler::Scheduler;
use crate::word::QueueWord;

/// A wait in two halves, for a caller that has something to do between them: [`queue`](Self::queue)
/// looks at the word and queues, [`is_woken`](Self::is_woken) says whether it is over. It lives
/// where its user puts it (the stack, as the blocking operations do) and leaves the queue when it
/// is dropped.
///
/// ```
/// use std::pin::pin;
/// use tailpin_futex::{Futex, Futexes, StdScheduler, model::ModelMemory};
/// let (futexes, memory) = (Futexes::new(StdScheduler::new(), 1), ModelMemory::anonymous(1));
/// let futex = Futex::private(&memory, 16);
/// let waiter = pin!(futexes.waiter());
/// waiter.as_ref().queue(&futex, 0, !0)?;
/// assert!(!waiter.is_woken());
/// assert_eq!(futexes.wake(&futex, 1)?, 1);
/// assert!(waiter.is_woken());
/// # Ok::<(), tailpin_futex::Error>(())
/// ```
#[repr(C)] // The node first, see there.
pub struct Waiter<'f, S: Scheduler, W: QueueWord = AtomicU64, G: Safeguards<Safeguard> = AllSafeguards> {
    node: Node<W, Waiting<S::Thread>>,
    futexes: &'f Futexes<S, W, G>,
}

impl<S: Scheduler, W: QueueWord, G: Safeguards<Safeguard>> Futexes<S, W, G> {
    /// A waiter that is not queued yet.
    pub fn waiter(&self) -> Waiter<'_, S, W, G> {
        Waiter { futexes: self, node: Node::new() }
    }
}

impl<S: Scheduler, W: QueueWord, G: Safeguards<Safeguard>> Waiter<'_, S, W, G> {
    /// Queues if the word is `expected`, after leaving where it was queued before. From then on the
    /// thread that called is unparked when it is woken: by a wake that names one of the bits of
    /// `bitset`.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] if the word is another, [`Invalid::EmptyBitset`],
    /// [`Error::Interrupted`], and those of the key.
    pub fn queue<M: Memory>(
        self: Pin<&Self>,
        futex: &Futex<'_, M>,
        expected: u32,
        bitset: u32,
    ) -> Result<(), Error> {
        self.queue_for(futex, expected, bitset, None)
    }

    pub(crate) fn queue_for<M: Memory>(
        self: Pin<&Self>,
        futex: &Futex<'_, M>,
        expected: u32,
        bitset: u32,
        target: Option<Key>,
    ) -> Result<(), Error> {
        if bitset == 0 {
            return Err(Invalid::EmptyBitset.into());
        }
        self.leave();
        let mut limit = RetryLimit::of_waiter(&self.futexes.scheduler);
        loop {
            let key = self.futexes.key_within(futex, Access::Read, &mut limit)?;
            match self.enqueue(futex, key, expected, bitset, target)? {
                Ok(()) => return Ok(()),
                // The page was made present for the key or by the turn before, and is gone:
                // something changed.
                Err(NotPresent) => self.futexes.present(futex, Access::Read, &mut limit)?,
            }
        }
    }

    /// One attempt: announces itself, locks, looks at the word through its address, queues if it is
    /// as expected.
    fn enqueue<M: Memory>(
        self: Pin<&Self>,
        futex: &Futex<'_, M>,
        key: Key,
        expected: u32,
        bitset: u32,
        target: Option<Key>,
    ) -> Result<Result<(), NotPresent>, Error> {
        let scheduler = &self.futexes.scheduler;
        let bucket = self.futexes.bucket(&key);
        let waiting = Waiting { thread: scheduler.current(), bitset, target };
        let announced = bucket.announce::<G>();
        let early = (!G::keeps(Safeguard::FLook)).then(|| futex.memory.load(futex.at));
        let mut queue = bucket.lock(scheduler);
        let outcome = match early.unwrap_or_else(|| futex.memory.load(futex.at)) {
            Ok(found) if found == expected => {
                // SAFETY: the waiter is pinned and `drop` takes the node out, so it stays until it
                // is in no queue.
                match unsafe { queue.push(self.node(), key, scheduler.current_priority(), waiting) } {
                    Ok(()) => {
                        announced.queued();
                        return Ok(Ok(()));
                    }
                    // Two threads have queued one waiter at once.
                    Err(_) => Err(Invalid::Mismatched.into()),
                }
            }
            Ok(found) => Err(Error::WouldBlock { found }),
            Err(absent) => Ok(Err(absent)),
        };
        drop(queue);
        outcome
    }

    fn node(self: Pin<&Self>) -> Pin<&Node<W, Waiting<S::Thread>>> {
        // SAFETY: the node is pinned with the waiter: nothing moves out of it.
        unsafe { self.map_unchecked(|waiter| &waiter.node) }
    }

    /// Whether it was queued and then woken.
    pub fn is_woken(&self) -> bool {
        matches!(self.node.state(), NodeState::Dequeued(reason) if reason != DequeueReason::Idle)
    }

    /// Whether it was woken to go on with the target of its requeue.
    pub(crate) fn was_requeued(&self) -> bool {
        self.node.state() == NodeState::Dequeued(DequeueReason::Requeued)
    }

    /// Leaves the queue, unless it was woken before; says whether it was.
    pub fn leave(&self) -> bool {
        loop {
            match self.node.state() {
                NodeState::Dequeued(reason) => return reason != DequeueReason::Idle,
                NodeState::Queued(number) => {
                    let bucket = self.futexes.numbered(number);
                    let left = bucket.lock(&self.futexes.scheduler).remove(&self.node, DequeueReason::Idle);
                    if left.is_some() {
                        bucket.remove_waiters(1);
                        return false;
                    }
                    // It was woken or requeued between the look and the lock.
                }
            }
        }
    }
}

impl<S: Scheduler, W: QueueWord, G: Safeguards<Safeguard>> Drop for Waiter<'_, S, W, G> {
    fn drop(&mut self) {
        let if_it_panics = Finally(|| self.node.assert_in_no_queue());
        self.leave();
        mem::forget(if_it_panics);
    }
}
