//! The atomic word everything shared is made of.
//!
//! The whole crate is generic over this trait, so that the code a model checker explores is the
//! code that ships: a checker implements [`AtomicWord`] for its own instrumented word.

use core::sync::atomic::{AtomicU64, Ordering, fence};

/// A 64-bit atomic word with the operations of [`core::sync::atomic::AtomicU64`].
pub trait AtomicWord: Send + Sync {
    /// Reads the word.
    fn load(&self, order: Ordering) -> u64;
    /// Writes the word.
    fn store(&self, value: u64, order: Ordering);
    /// Writes `new` if the word is `current`; the word found is returned either way.
    fn compare_exchange(&self, current: u64, new: u64, ok: Ordering, err: Ordering) -> Result<u64, u64>;
    /// Adds, wrapping; the word found is returned.
    fn fetch_add(&self, value: u64, order: Ordering) -> u64;
    /// Subtracts, wrapping; the word found is returned.
    fn fetch_sub(&self, value: u64, order: Ordering) -> u64;
    /// Bitwise and; the word found is returned.
    fn fetch_and(&self, value: u64, order: Ordering) -> u64;
    /// Bitwise or; the word found is returned.
    fn fetch_or(&self, value: u64, order: Ordering) -> u64;
    /// A fence that orders operations on all words of this kind.
    fn fence(order: Ordering);
    /// Called once per turn of a loop that waits for another thread (a bit spinlock); a hint,
    /// nothing more.
    fn relax();
}

impl AtomicWord for AtomicU64 {
    #[inline]
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }
    #[inline]
    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }
    #[inline]
    fn compare_exchange(&self, current: u64, new: u64, ok: Ordering, err: Ordering) -> Result<u64, u64> {
        self.compare_exchange(current, new, ok, err)
    }
    #[inline]
    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.fetch_add(value, order)
    }
    #[inline]
    fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        self.fetch_sub(value, order)
    }
    #[inline]
    fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        self.fetch_and(value, order)
    }
    #[inline]
    fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        self.fetch_or(value, order)
    }
    #[inline]
    fn fence(order: Ordering) {
        fence(order);
    }
    #[inline]
    fn relax() {
        core::hint::spin_loop();
    }
}
