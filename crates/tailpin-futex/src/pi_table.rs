//! Which thread waits for which lock with priority inheritance (`rt_mutex`), and what priorities
//! follow.
//!
//! All of it is under one lock: a chain of owners crosses buckets, and only locks that are
//! contended get here. Costs grow with the number of contended locks and, when one changes hands,
//! with the number of its waiters.

#![allow(unsafe_code)]

use alloc::boxed::Box;
use core::pin::Pin;

use crate::error::Error;
use crate::key::Key;
use crate::list::{DequeueReason, Node, NodeState, Queue, Visit};
use crate::memory::{Address, SpaceId};
use crate::scheduler::{Priority, Scheduler, Tid};
use crate::word::QueueWord;

/// Owners in a chain beyond which it counts as a deadlock, as in Linux.
const LONGEST_CHAIN: u32 = 1024;

/// Queues per index.
const QUEUES: usize = 64;

/// A thread that waits for a lock.
pub(crate) struct Blocked<T> {
    pub(crate) thread: T,
    pub(crate) tid: Tid,
    lock: Key,
    owner: Tid,
}

/// A waiter's places: among those of the lock, and by its own number.
pub(crate) struct PiNodes<W, T> {
    of_lock: Node<W, Blocked<T>>,
    of_thread: Node<W, Key>,
}

impl<W: QueueWord, T> PiNodes<W, T> {
    pub(crate) fn new() -> Self {
        Self { of_lock: Node::new(), of_thread: Node::new() }
    }

    /// Whether it stands in the table anywhere.
    pub(crate) fn is_entered(&self) -> bool {
        matches!(self.of_lock.state(), NodeState::Queued(_))
            || matches!(self.of_thread.state(), NodeState::Queued(_))
    }

    /// See [`Node::assert_in_no_queue`].
    pub(crate) fn assert_in_no_queue(&self) {
        self.of_lock.assert_in_no_queue();
        self.of_thread.assert_in_no_queue();
    }

    /// Why it no longer waits; `None` while it does.
    pub(crate) fn reason(&self) -> Option<DequeueReason> {
        match self.of_lock.state() {
            NodeState::Dequeued(reason) => Some(reason),
            NodeState::Queued(_) => None,
        }
    }
}

/// Queues by key.
struct Index<W, T>(Box<[Queue<W, T>]>);

impl<W: QueueWord, T> Index<W, T> {
    fn new() -> Self {
        Self((0..QUEUES).map(Queue::new).collect())
    }

    fn at(&self, key: &Key) -> &Queue<W, T> {
        &self.0[key.hash() as usize % QUEUES]
    }

    fn at_mut(&mut self, key: &Key) -> &mut Queue<W, T> {
        &mut self.0[key.hash() as usize % QUEUES]
    }
}

/// The waiters by lock and by thread.
pub(crate) struct PiTable<W, T> {
    locks: Index<W, Blocked<T>>,
    threads: Index<W, Key>,
}

/// Threads have an index of their own, so their keys meet no others.
fn thread_key(tid: Tid) -> Key {
    Key::private(SpaceId(tid.0 as u64), Address::new(0))
}

impl<W: QueueWord, T: Clone> PiTable<W, T> {
    pub(crate) fn new() -> Self {
        Self { locks: Index::new(), threads: Index::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.locks.0.iter().all(Queue::is_empty) && self.threads.0.iter().all(Queue::is_empty)
    }

    pub(crate) fn waiters(&self, lock: &Key) -> usize {
        self.locks.at(lock).count(lock)
    }

    /// The thread that gets the lock next.
    pub(crate) fn top_waiter(&self, lock: &Key) -> Option<Tid> {
        self.locks.at(lock).first(lock).map(|(blocked, _)| blocked.tid)
    }

    /// Enters a waiter.
    ///
    /// # Safety
    /// The nodes stay where they are, and alive, until [`PiNodes::reason`] has said that they are
    /// in no queue.
    pub(crate) unsafe fn enter(
        &mut self,
        nodes: Pin<&PiNodes<W, T>>,
        (thread, tid): (T, Tid),
        (lock, owner): (Key, Tid),
        priority: Priority,
    ) {
        let blocked = Blocked { thread, tid, lock, owner };
        // SAFETY: the nodes are pinned with what they are parts of; they stay, as the caller
        // promises.
        unsafe {
            let (of_lock, by_thread) =
                (nodes.map_unchecked(|nodes| &nodes.of_lock), nodes.map_unchecked(|nodes| &nodes.of_thread));
            let by_lock = self.locks.at_mut(&lock).push(of_lock, lock, priority, blocked);
            let key = thread_key(tid);
            let by_thread = self.threads.at_mut(&key).push(by_thread, key, priority, lock);
            debug_assert!(by_lock.is_ok() && by_thread.is_ok(), "a thread waits for one lock at a time");
        }
    }

    /// Takes a waiter out that gives up; returns the owner it waited for. `None` if it was taken
    /// out before.
    pub(crate) fn leave(&mut self, nodes: &PiNodes<W, T>) -> Option<Tid> {
        if let NodeState::Queued(number) = nodes.of_thread.state() {
            self.threads.0[number].remove(&nodes.of_thread, DequeueReason::Idle);
        }
        match nodes.of_lock.state() {
            NodeState::Queued(number) => {
                self.locks.0[number].remove(&nodes.of_lock, DequeueReason::Idle).map(|left| left.owner)
            }
            NodeState::Dequeued(_) => None,
        }
    }

    /// Makes the first waiter of a lock its owner.
    pub(crate) fn hand_over(&mut self, lock: &Key, mut tell: impl FnMut(&T)) {
        let mut top_waiter = None;
        let threads = &mut self.threads;
        self.locks.at_mut(lock).visit(
            lock,
            |blocked| match top_waiter {
                None => {
                    top_waiter = Some(blocked.tid);
                    Visit::Dequeue(DequeueReason::Woken)
                }
                Some(owner) => {
                    blocked.owner = owner;
                    Visit::Keep
                }
            },
            |blocked| {
                Self::remove_thread(threads, blocked.tid);
                tell(&blocked.thread);
            },
        );
    }

    /// Notes the owner of a lock that was not handed over.
    pub(crate) fn set_owner(&mut self, lock: &Key, owner: Tid) {
        let set = |blocked: &mut Blocked<T>| {
            blocked.owner = owner;
            Visit::Keep
        };
        self.locks.at_mut(lock).visit(lock, set, |_| {});
    }

    /// Wakes all threads that wait for a lock of this thread, which has ended, to look again.
    pub(crate) fn owner_died(&mut self, owner: Tid, mut tell: impl FnMut(&T)) {
        let threads = &mut self.threads;
        for queue in &mut self.locks.0 {
            loop {
                let lock = queue.tops().find(|(top, _)| top.owner == owner).map(|(top, _)| top.lock);
                let Some(lock) = lock else { break };
                queue.visit(
                    &lock,
                    |_| Visit::Dequeue(DequeueReason::OwnerDied),
                    |blocked| {
                        Self::remove_thread(threads, blocked.tid);
                        tell(&blocked.thread);
                    },
                );
            }
        }
    }

    /// Takes a thread's node in the index of threads out, before the thread can know that its other
    /// node was.
    fn remove_thread(threads: &mut Index<W, Key>, tid: Tid) {
        let key = thread_key(tid);
        threads.at_mut(&key).visit(&key, |_| Visit::Dequeue(DequeueReason::Woken), |_| {});
    }

    /// The owner that this thread waits for.
    fn waits_for(&self, tid: Tid) -> Option<(Key, Tid)> {
        let key = thread_key(tid);
        let (lock, _) = self.threads.at(&key).first(&key)?;
        self.locks.at(lock).first(lock).map(|(blocked, _)| (*lock, blocked.owner))
    }

    /// Whether a thread may wait for a lock of `owner`.
    pub(crate) fn may_wait(&self, tid: Tid, mut owner: Tid) -> Result<(), Error> {
        for chain in 1..=LONGEST_CHAIN {
            if owner == tid {
                return Err(Error::Deadlock { chain });
            }
            match self.waits_for(owner) {
                Some((_, next)) => owner = next,
                None => return Ok(()),
            }
        }
        Err(Error::Deadlock { chain: LONGEST_CHAIN })
    }

    /// The waiters of a thread's locks have changed: boosts it to the priority it has now, and so
    /// on along the chain of owners.
    pub(crate) fn adjust(&mut self, scheduler: &impl Scheduler, mut tid: Tid) {
        for _ in 0..LONGEST_CHAIN {
            let Some(own) = scheduler.priority(tid) else { return };
            let priority = self.effective_priority(tid, own);
            scheduler.boost(tid, priority);
            let Some((lock, owner)) = self.waits_for(tid) else { return };
            self.locks.at_mut(&lock).reorder(&lock, priority, |blocked| blocked.tid == tid);
            tid = owner;
        }
    }

    /// The highest priority of a thread and of all that wait for a lock of its own.
    pub(crate) fn effective_priority(&self, tid: Tid, own: Priority) -> Priority {
        let tops = self.locks.0.iter().flat_map(Queue::tops);
        tops.filter(|(top, _)| top.owner == tid).map(|(_, priority)| priority).fold(own, Ord::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::pin::pin;
    use core::sync::atomic::AtomicU64;

    #[test]
    fn a_table_with_a_waiter_is_not_empty() {
        let mut table = PiTable::<AtomicU64, u32>::new();
        let lock = Key::private(SpaceId(1), Address::new(8));
        let nodes = pin!(PiNodes::new());
        assert!(table.is_empty() && !nodes.is_entered());
        // SAFETY: the nodes are pinned here, and leave below.
        unsafe { table.enter(nodes.as_ref(), (0, Tid(2)), (lock, Tid(3)), Priority::NORMAL) };
        assert!(!table.is_empty() && nodes.is_entered());
        assert_eq!(table.leave(&nodes), Some(Tid(3)));
        assert!(table.is_empty() && !nodes.is_entered());
    }
}
