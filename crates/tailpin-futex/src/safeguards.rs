//! What each race of the futexes is prevented by, so that a model checker can leave one out.
//!
//! The names are those of docs/races.md and of `tailpin check --hazard`. The code that ships asks
//! [`Safeguards::keeps`] of [`AllSafeguards`], which the compiler answers with `true`.

pub use tailpin::{AllSafeguards, Safeguards};

/// What prevents one race of the futexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Safeguard {
    /// The next attempt at a key asks for the access that the last fault has proved possible, and
    /// for no more.
    H8,
    /// An attempt at a key that begins again asks for writing again, whatever the one before had to
    /// make do with.
    H25,
    /// A thread that ends between unlocking a robust lock and waking wakes the next waiter all the
    /// same: its list says which lock was pending.
    H32,
    /// A thread that ends is an owner no more from the instant at which its waiters are sent on,
    /// under the lock under which waiters enter.
    H33,
    /// A full barrier between announcing a waiter and reading its word. Pairs with the one of
    /// [`FWake`](Self::FWake): the waiter sees the new word, or the waker sees the waiter.
    FWait,
    /// A full barrier between the caller's change of the word and looking for waiters. Pairs with
    /// the one of [`FWait`](Self::FWait).
    FWake,
    /// The word is read with the bucket locked, so that no waker fits between reading the word and
    /// entering the queue.
    FLook,
    /// A requeue announces the waiters that it moves in the bucket they go to, as they announced
    /// themselves in the one they come from.
    FMove,
}
