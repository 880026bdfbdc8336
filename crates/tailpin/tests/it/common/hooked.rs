//! Words that tell a test of each access before it is made.
#![allow(dead_code, unreachable_pub)]

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use tailpin::AtomicWord;

/// What is about to be done to a word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Load,
    Store,
    /// A read-modify-write: a locked instruction.
    Locked,
}

/// What a test does before each access.
pub trait Hook: 'static {
    /// `address` is the word's own.
    fn before(access: Access, address: usize);
}

/// A word with a hook. It fills eight bytes like any other.
#[repr(transparent)]
pub struct Word<H>(AtomicU64, PhantomData<fn(H)>);

impl<H> Default for Word<H> {
    fn default() -> Self {
        Self(AtomicU64::new(0), PhantomData)
    }
}

/// `n` words of zero.
pub fn words<H>(n: usize) -> Vec<Word<H>> {
    (0..n).map(|_| Word::default()).collect()
}

impl<H: Hook> Word<H> {
    fn before(&self, access: Access) -> &AtomicU64 {
        H::before(access, std::ptr::from_ref(self).addr());
        &self.0
    }
}

impl<H: Hook> AtomicWord for Word<H> {
    fn load(&self, order: Ordering) -> u64 {
        self.before(Access::Load).load(order)
    }
    fn store(&self, value: u64, order: Ordering) {
        self.before(Access::Store).store(value, order);
    }
    fn compare_exchange(&self, current: u64, new: u64, ok: Ordering, err: Ordering) -> Result<u64, u64> {
        self.before(Access::Locked).compare_exchange(current, new, ok, err)
    }
    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.before(Access::Locked).fetch_add(value, order)
    }
    fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        self.before(Access::Locked).fetch_sub(value, order)
    }
    fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        self.before(Access::Locked).fetch_and(value, order)
    }
    fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        self.before(Access::Locked).fetch_or(value, order)
    }
    fn fence(order: Ordering) {
        fence(order);
    }
    fn relax() {
        std::thread::yield_now();
    }
}
