//! The atomic word the queues are made of.

#![allow(unsafe_code)]

use core::sync::atomic::AtomicU64;

use tailpin::AtomicWord;

/// What a word is for, so that a checker can name it in its traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The lock of the bucket with this index.
    Lock(usize),
    /// The number of waiters of the bucket with this index.
    Waiters(usize),
    /// Where a waiter is queued, or that it was woken.
    NodeState,
    /// The lock of everything about priority inheritance.
    PiLock,
    /// A word of a memory: what it is called there, and its number.
    Of(&'static str, usize),
}

/// An [`AtomicWord`] that can be made where it is needed.
///
/// # Safety
/// It is what it says: every operation acts on the one value of this word, in one step, with the
/// ordering asked for or a stronger one; a compare-and-swap succeeds only from the value named. The
/// locks around the lists, and so who may touch a waiter, stand on that.
pub unsafe trait QueueWord: AtomicWord {
    /// A word of zero.
    fn new(part: Part) -> Self;
}

// SAFETY: the processor's own atomic word.
unsafe impl QueueWord for AtomicU64 {
    fn new(_part: Part) -> Self {
        Self::new(0)
    }
}
