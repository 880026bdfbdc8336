//! The protective steps, one function each.
//!
//! [`Complete`] takes all of them, and is what everybody has who does not say otherwise. A model
//! checker implements [`Steps`] with one of them left out, and must then find what goes wrong: what
//! ships knows no switch.

use core::sync::atomic::Ordering;

use tailpin::AtomicWord;

use crate::memory::Access;

/// The protective steps. The provided methods are the correct ones.
pub trait Steps: Send + Sync + 'static {
    /// H8: the next attempt asks for what the fault has `proved` possible, and for no more.
    #[inline]
    fn asks_next(proved: Access) -> Access {
        proved
    }

    /// H25: a look that begins again asks for writing again, whatever the one `before` had to make
    /// do with.
    #[inline]
    fn asks_afresh(before: Access) -> Access {
        let _ = before;
        Access::Write
    }

    /// H9: all that is to be known of a page is read while it is pinned.
    #[inline]
    fn before_unpin<T>(read: impl FnOnce() -> T, unpin: impl FnOnce()) -> T {
        let known = read();
        unpin();
        known
    }

    /// H10: the index is that of the exact base page, not of the head of its block.
    #[inline]
    fn whose_index<P>(page: P, head: impl FnOnce() -> P) -> P {
        let _ = head;
        page
    }

    /// H11: whose a page is, the page says, not a head that it may no longer belong to.
    #[inline]
    fn whose_owner<P>(page: P, head: impl FnOnce() -> P) -> P {
        let _ = head;
        page
    }

    /// Between announcing a waiter and reading the word. Pairs with
    /// [`waker_barrier`](Self::waker_barrier): the waiter sees the new word, or the waker sees the
    /// waiter.
    #[inline]
    fn waiter_barrier<W: AtomicWord>() {
        W::fence(Ordering::SeqCst);
    }

    /// Between the caller's change of the word and looking for waiters. Pairs with
    /// [`waiter_barrier`](Self::waiter_barrier).
    #[inline]
    fn waker_barrier<W: AtomicWord>() {
        W::fence(Ordering::SeqCst);
    }

    /// The word is read with the bucket locked, so that no waker fits between the look and the
    /// queue. What this returns is what a version that read it before would go by.
    #[inline]
    fn reads_early<T>(read: impl FnOnce() -> T) -> Option<T> {
        let _ = read;
        None
    }

    /// A requeue announces the waiters it moves in the bucket they go to, as they had themselves.
    #[inline]
    fn announces_moved(moved: u64) -> u64 {
        moved
    }
}

/// Every step in place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Complete;

impl Steps for Complete {}
