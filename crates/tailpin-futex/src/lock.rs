//! The lock of a bucket: a spin lock over the generic word, which owns what it protects.

#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::Ordering;

use crate::word::QueueWord;

/// A value and the word that says whether a thread has it.
pub(crate) struct Lock<W, T> {
    word: W,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through a `Guard`, of which there is one at a time (`lock`, and
// what a `QueueWord` promises); a guard in another thread moves `&mut T` there, hence `T: Send`.
unsafe impl<W: QueueWord, T: Send> Sync for Lock<W, T> {}

impl<W: QueueWord, T> Lock<W, T> {
    /// A value that no thread has; `word` is zero.
    pub(crate) fn new(word: W, value: T) -> Self {
        Self { word, value: UnsafeCell::new(value) }
    }

    /// Waits until the value is free. `relax` is called between two attempts, with their number.
    pub(crate) fn lock(&self, relax: impl Fn(u32)) -> Guard<'_, W, T> {
        let mut turns = 0;
        // Acquire: pairs with the Release of the guard before.
        while self.word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            relax(turns);
            turns = turns.saturating_add(1);
        }
        Guard { lock: self, _one_thread: PhantomData }
    }
}

/// The value, for as long as this lives.
pub(crate) struct Guard<'l, W: QueueWord, T> {
    lock: &'l Lock<W, T>,
    /// Not to be shared between threads: `T` need not be `Sync`.
    _one_thread: PhantomData<*const T>,
}

impl<W: QueueWord, T> Deref for Guard<'_, W, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one: the word went from 0 to 1 when it was made and goes
        // back when it is dropped.
        unsafe { &*self.lock.value.get() }
    }
}

impl<W: QueueWord, T> DerefMut for Guard<'_, W, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `deref`; `&mut self` makes it the only use of the only guard.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<W: QueueWord, T> Drop for Guard<'_, W, T> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire of the next guard.
        self.lock.word.store(0, Ordering::Release);
    }
}
