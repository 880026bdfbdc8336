//! Which thread waits for what: lists through the waiters themselves, so that waiting allocates
//! nothing.
//!
//! A queue is a chain of rings. Each ring holds the nodes of one key, highest priority first and
//! then in order of arrival; its first node also stands in the chain. To wake one of 100,000
//! waiters of a key is to take the first of its ring, however many wait.

#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::marker::PhantomPinned;
use core::pin::Pin;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use crate::key::Key;
use crate::scheduler::Priority;
use crate::word::{Part, QueueWord};

/// Why a node was dequeued, or is in no queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DequeueReason {
    /// It never was, or took itself out.
    Idle,
    /// It was woken.
    Woken,
    /// It was woken to go on as the target of a requeue says.
    Requeued,
    /// It was woken because the owner of the lock it waits for has died.
    OwnerDied,
}

/// Where a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeState {
    /// In no queue: only its owner looks at it.
    Dequeued(DequeueReason),
    /// In the queue with this number.
    Queued(usize),
}

impl NodeState {
    const QUEUES: u64 = 16;

    #[expect(clippy::arithmetic_side_effects, reason = "a queue's number: an index in memory")]
    fn word(self) -> u64 {
        match self {
            Self::Dequeued(off) => off as u64,
            Self::Queued(queue) => Self::QUEUES + queue as u64,
        }
    }

    #[expect(clippy::arithmetic_side_effects, reason = "the numbers before are taken")]
    fn of(word: u64) -> Self {
        match word {
            0 => Self::Dequeued(DequeueReason::Idle),
            1 => Self::Dequeued(DequeueReason::Woken),
            2 => Self::Dequeued(DequeueReason::Requeued),
            3 => Self::Dequeued(DequeueReason::OwnerDied),
            _ => Self::Queued((word - Self::QUEUES) as usize),
        }
    }
}

/// One waiter's place in a queue. Its key and its neighbours in the chain, all that a look for
/// another key touches of it, are within its first 48 bytes: mostly one cache line.
#[repr(C)]
pub(crate) struct Node<W, T> {
    /// Where it is. Changed from `Dequeued` by its owner, in `push`; from `Queued` by the thread
    /// that has that queue to itself.
    state: W,
    links: UnsafeCell<Links<W, T>>,
    _pinned: PhantomPinned,
}

type Link<W, T> = NonNull<Node<W, T>>;
/// The neighbours in the chain, where there are any.
type Neighbours<W, T> = (Option<Link<W, T>>, Option<Link<W, T>>);

#[repr(C)]
struct Links<W, T> {
    key: Key,
    /// The chain; only of use in the first node of a ring.
    chain_next: Option<Link<W, T>>,
    chain_prev: Option<Link<W, T>>,
    /// The ring: never dangling while the node is in a queue.
    next: Link<W, T>,
    prev: Link<W, T>,
    priority: Priority,
    value: Option<T>,
}

// SAFETY: `state` is an atomic word. `links` is touched by the owner while `state` says `Dequeued`
// and by the thread that has the queue to itself while it says `Queued` (see `Queue`); both ends
// are ordered by the Release store and Acquire load of `state` or by the lock around the queue. The
// value may move to another thread, hence `T: Send`.
unsafe impl<W: Send + Sync, T: Send> Sync for Node<W, T> {}
// SAFETY: a node that is in no queue holds nothing but its value; one that is in a queue can't be
// moved (`push`).
unsafe impl<W: Send, T: Send> Send for Node<W, T> {}

impl<W: QueueWord, T> Node<W, T> {
    /// A node in no queue.
    pub(crate) fn new() -> Self {
        Self {
            state: W::new(Part::NodeState),
            links: UnsafeCell::new(Links {
                key: Key::private(crate::memory::SpaceId(0), crate::memory::Address::new(0)),
                chain_next: None,
                chain_prev: None,
                next: NonNull::dangling(),
                prev: NonNull::dangling(),
                priority: Priority::NORMAL,
                value: None,
            }),
            _pinned: PhantomPinned,
        }
    }

    /// Where the node is. If it was taken out, what the thread that took it out did before is seen.
    pub(crate) fn state(&self) -> NodeState {
        // Acquire: pairs with the Release in `Queue::take_out`.
        NodeState::of(self.state.load(Ordering::Acquire))
    }

    /// The last look before the node goes away: what a queue still leads to must not. It takes a
    /// scheduler that panics where a thread is to wait for the queue's lock; a panic in a panic
    /// ends the program.
    ///
    /// # Panics
    /// If it is in a queue.
    pub(crate) fn assert_in_no_queue(&self) {
        assert!(
            matches!(self.state(), NodeState::Dequeued(_)),
            "a waiter goes away in the middle of a queue"
        );
    }
}

/// What a visit does with a node.
pub(crate) enum Visit {
    /// Leave it.
    Keep,
    /// Take it out.
    Dequeue(DequeueReason),
    /// Leave it and look no further.
    Stop,
}

/// The waiters of one bucket.
///
/// Invariant: the nodes that can be reached from `chain` are exactly those whose state is
/// `Queued(number)`. None of them moves or goes away (`push`), and their links are touched only
/// through this queue, by the thread that has `&mut` of it, or reads through `&`. No two queues
/// that nodes may meet in have the same number.
pub(crate) struct Queue<W, T> {
    number: usize,
    chain: Option<Link<W, T>>,
}

// SAFETY: the queue is the only way to the links of its nodes, and these may be used from any
// thread (`Node: Sync`).
unsafe impl<W: Send + Sync, T: Send> Send for Queue<W, T> {}

impl<W: QueueWord, T> Queue<W, T> {
    /// An empty queue.
    pub(crate) const fn new(number: usize) -> Self {
        Self { number, chain: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chain.is_none()
    }

    /// Puts a node in. Returns the value if the node is in a queue already.
    ///
    /// # Safety
    /// The node stays where it is, and alive, until `state` has said that it is in no queue.
    pub(crate) unsafe fn push(
        &mut self,
        node: Pin<&Node<W, T>>,
        key: Key,
        priority: Priority,
        value: T,
    ) -> Result<(), T> {
        let (off, here) = (node.state.load(Ordering::Relaxed), NodeState::Queued(self.number).word());
        // One attempt, so that of two who push one node only one goes on. Acquire: pairs with
        // `take_out`.
        let taken = off < NodeState::QUEUES
            && node.state.compare_exchange(off, here, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if !taken {
            return Err(value);
        }
        let link = NonNull::from(node.get_ref());
        // SAFETY: the exchange put the node into this queue, and we have the queue to ourselves.
        unsafe {
            let links = Self::links(link);
            (*links).key = key;
            (*links).priority = priority;
            (*links).value = Some(value);
            self.attach(link);
        }
        Ok(())
    }

    /// Takes a node out, if it is in this queue.
    pub(crate) fn remove(&mut self, node: &Node<W, T>, off: DequeueReason) -> Option<T> {
        // Relaxed: only the thread that has this queue to itself, as we have, changes "in this
        // queue".
        if node.state.load(Ordering::Relaxed) != NodeState::Queued(self.number).word() {
            return None;
        }
        // SAFETY: the node is in this queue.
        unsafe { self.take_out(NonNull::from(node), off) }
    }

    /// The top waiter of a key: of the highest priority, and of these the longest waiting.
    pub(crate) fn first(&self, key: &Key) -> Option<(&T, Priority)> {
        let first = self.find(key)?;
        // SAFETY: the node is in this queue, and stays for as long as `self` is borrowed.
        unsafe { (*Self::links(first)).value.as_ref().map(|value| (value, (*Self::links(first)).priority)) }
    }

    /// Shows `decide` the waiters of a key in their order and takes out those that it says; `taken`
    /// gets these before they can know.
    pub(crate) fn visit(
        &mut self,
        key: &Key,
        mut decide: impl FnMut(&mut T) -> Visit,
        mut taken: impl FnMut(&T),
    ) {
        let Some(first) = self.find(key) else { return };
        // SAFETY: all nodes of the ring are in this queue; one that is taken out isn't touched
        // afterwards, and the next is read before.
        unsafe {
            let last = (*Self::links(first)).prev;
            let mut at = first;
            loop {
                let links = Self::links(at);
                let next = (*links).next;
                let Some(value) = (*links).value.as_mut() else { return };
                match decide(value) {
                    Visit::Keep => {}
                    Visit::Stop => return,
                    Visit::Dequeue(off) => {
                        taken(value);
                        drop(self.take_out(at, off));
                    }
                }
                if at == last {
                    return;
                }
                at = next;
            }
        }
    }

    /// Moves up to `most` waiters of one key behind those of another in `to`, or in this queue if
    /// there is none: as many of the first as `may` go. Returns how many.
    #[expect(clippy::arithmetic_side_effects, reason = "no more than there are waiters")]
    pub(crate) fn requeue(
        &mut self,
        from: &Key,
        mut to: Option<&mut Self>,
        key: Key,
        most: usize,
        may: impl Fn(&T) -> bool,
    ) -> usize {
        if *from == key {
            return self.count(from).min(most);
        }
        let mut moved = 0;
        while moved < most {
            let Some(first) = self.find(from) else { break };
            // SAFETY: the node is in this queue, and then in the other: we have both to ourselves.
            unsafe {
                let links = Self::links(first);
                if !(*links).value.as_ref().is_some_and(&may) {
                    break;
                }
                self.detach(first);
                (*links).key = key;
                match &mut to {
                    Some(to) => {
                        to.attach(first);
                        // Release: pairs with the Acquire of a waiter that gives up and goes where
                        // this says; the lock of that queue orders the rest.
                        first.as_ref().state.store(NodeState::Queued(to.number).word(), Ordering::Release);
                    }
                    None => self.attach(first),
                }
            }
            moved += 1;
        }
        moved
    }

    /// Gives a waiter of a key another place by another priority. `which` is asked of each until it
    /// says yes.
    pub(crate) fn reorder(&mut self, key: &Key, priority: Priority, which: impl Fn(&T) -> bool) {
        let Some(first) = self.find(key) else { return };
        // SAFETY: all nodes of the ring are in this queue.
        unsafe {
            let mut at = first;
            loop {
                let links = Self::links(at);
                if (*links).value.as_ref().is_some_and(&which) {
                    if (*links).priority != priority {
                        self.detach(at);
                        (*links).priority = priority;
                        self.attach(at);
                    }
                    return;
                }
                at = (*links).next;
                if at == first {
                    return;
                }
            }
        }
    }

    /// The top waiter of each key, with its priority.
    pub(crate) fn tops(&self) -> impl Iterator<Item = (&T, Priority)> {
        let mut at = self.chain;
        core::iter::from_fn(move || {
            // SAFETY: what can be reached from the chain is in this queue, and stays for as long as
            // `self` is borrowed.
            let links = unsafe { &*Self::links(at?) };
            at = links.chain_next;
            links.value.as_ref().map(|value| (value, links.priority))
        })
    }

    /// How many nodes wait for a key.
    pub(crate) fn count(&self, key: &Key) -> usize {
        self.find(key).map_or(0, |first| self.ring_len(first))
    }

    #[expect(clippy::arithmetic_side_effects, reason = "no more than there are waiters")]
    fn ring_len(&self, first: Link<W, T>) -> usize {
        let (mut count, mut at) = (0, first);
        loop {
            count += 1;
            // SAFETY: all nodes of the ring are in this queue.
            at = unsafe { (*Self::links(at)).next };
            if at == first {
                return count;
            }
        }
    }

    fn links(node: Link<W, T>) -> *mut Links<W, T> {
        // SAFETY: callers have the queue that the node is in to themselves: it is alive.
        unsafe { node.as_ref() }.links.get()
    }

    fn find(&self, key: &Key) -> Option<Link<W, T>> {
        let mut at = self.chain;
        while let Some(first) = at {
            // SAFETY: what can be reached from the chain is in this queue.
            let links = unsafe { &*Self::links(first) };
            if links.key == *key {
                return Some(first);
            }
            at = links.chain_next;
        }
        None
    }

    /// # Safety
    /// The node is in this queue. It may be gone when this returns.
    unsafe fn take_out(&mut self, node: Link<W, T>, off: DequeueReason) -> Option<T> {
        // SAFETY: of the caller.
        unsafe {
            self.detach(node);
            let value = (*Self::links(node)).value.take();
            // Release: the last we do to the node. Pairs with the Acquire of `state`, after which
            // it may be gone.
            node.as_ref().state.store(NodeState::Dequeued(off).word(), Ordering::Release);
            value
        }
    }

    /// Links a node by its key and priority.
    ///
    /// # Safety
    /// The node's state names this queue, and it is not linked.
    unsafe fn attach(&mut self, node: Link<W, T>) {
        // SAFETY: of the caller, for `node`; everything else that is touched is in this queue.
        unsafe {
            let links = Self::links(node);
            let Some(first) = self.find(&(*links).key) else {
                (*links).next = node;
                (*links).prev = node;
                self.link_chain(node, (None, self.chain));
                return;
            };
            let last = (*Self::links(first)).prev;
            let priority = (*links).priority;
            // Most have the priority of all others: at the end. A node of a higher one finds its
            // place from the front.
            let before = if priority <= (*Self::links(last)).priority {
                first
            } else {
                let mut at = first;
                while (*Self::links(at)).priority >= priority {
                    at = (*Self::links(at)).next;
                }
                at
            };
            let after = (*Self::links(before)).prev;
            (*links).prev = after;
            (*links).next = before;
            (*Self::links(after)).next = node;
            (*Self::links(before)).prev = node;
            if before == first && priority > (*Self::links(first)).priority {
                let neighbours = self.unlink_chain(first);
                self.link_chain(node, neighbours);
            }
        }
    }

    /// Unlinks a node; its state stays.
    ///
    /// # Safety
    /// The node is in this queue.
    unsafe fn detach(&mut self, node: Link<W, T>) {
        // SAFETY: of the caller, for `node`; everything else that is touched is in this queue.
        unsafe {
            let (next, prev) = ((*Self::links(node)).next, (*Self::links(node)).prev);
            (*Self::links(prev)).next = next;
            (*Self::links(next)).prev = prev;
            // Leads nowhere, so that unlinking it once more would do no harm.
            (*Self::links(node)).next = node;
            (*Self::links(node)).prev = node;
            let in_chain = self.chain == Some(node) || (*Self::links(node)).chain_prev.is_some();
            if in_chain {
                let neighbours = self.unlink_chain(node);
                if next != node {
                    self.link_chain(next, neighbours);
                }
            }
        }
    }

    /// # Safety
    /// All nodes named are in this queue.
    unsafe fn link_chain(&mut self, node: Link<W, T>, (prev, next): Neighbours<W, T>) {
        // SAFETY: of the caller.
        unsafe {
            (*Self::links(node)).chain_prev = prev;
            (*Self::links(node)).chain_next = next;
            match prev {
                Some(prev) => (*Self::links(prev)).chain_next = Some(node),
                None => self.chain = Some(node),
            }
            if let Some(next) = next {
                (*Self::links(next)).chain_prev = Some(node);
            }
        }
    }

    /// Returns its neighbours.
    ///
    /// # Safety
    /// The node is in this queue and in the chain.
    unsafe fn unlink_chain(&mut self, node: Link<W, T>) -> Neighbours<W, T> {
        // SAFETY: of the caller.
        unsafe {
            let (prev, next) =
                ((*Self::links(node)).chain_prev.take(), (*Self::links(node)).chain_next.take());
            match prev {
                Some(prev) => (*Self::links(prev)).chain_next = next,
                None => self.chain = next,
            }
            if let Some(next) = next {
                (*Self::links(next)).chain_prev = prev;
            }
            (prev, next)
        }
    }
}

#[cfg(test)]
mod tests;
