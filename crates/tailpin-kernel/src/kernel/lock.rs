//! Locks whose waiters answer shootdowns.
//!
//! A CPU that holds a lock may wait for the answers of a shootdown, and a CPU that waits for that
//! lock, in the handler of a page fault or with interrupts off for another reason, is one of those
//! that have to answer. So every loop that waits for a lock answers. That holds for the lock of
//! address spaces, and for every lock of the kernel under which it calls `tailpin_mm`.

use core::marker::PhantomData;

use crate::kernel::Kernel;

/// What a thread does in each turn of waiting for a lock: answers shootdowns.
pub struct Answers<K>(PhantomData<fn() -> K>);

impl<K: Kernel> spin::RelaxStrategy for Answers<K> {
    #[inline]
    fn relax() {
        K::rounds().answer_while_waiting(K::kernel());
    }
}

/// A readers-writer lock under which shootdowns may run.
pub type RawRwLock<K> = spin::rwlock::RwLock<(), Answers<K>>;

/// A lock for one thread under which shootdowns may run.
pub type Mutex<K, T> = spin::mutex::SpinMutex<T, Answers<K>>;
