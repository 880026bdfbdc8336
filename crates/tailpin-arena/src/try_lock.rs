//! A lock that a thread takes at once or not at all, and that a fork does not copy.

use std::sync::atomic::{AtomicU32, Ordering};

/// One thread at a time may be inside. The word is the number of that thread's process, 0 for none:
/// a fork copies it into a child that has no such thread, and there it counts for nothing.
///
/// Written by the thread that goes in or comes out.
#[derive(Default)]
pub(crate) struct TryLock(AtomicU32);

impl TryLock {
    /// Takes the lock, unless a thread of this process has it.
    pub(crate) fn try_lock(&self) -> Option<TryLockGuard<'_>> {
        let this = std::process::id();
        // SeqCst: see `Arena::registered`.
        let entered =
            self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |owner| (owner != this).then_some(this));
        // The guard is not made before the lock is this thread's: its drop unlocks.
        entered.is_ok().then(|| TryLockGuard(self))
    }

    /// Whether a thread of this process has the lock.
    pub(crate) fn is_locked(&self) -> bool {
        self.0.load(Ordering::SeqCst) == std::process::id()
    }
}

/// The lock is this thread's; its drop unlocks.
pub(crate) struct TryLockGuard<'t>(&'t TryLock);

impl Drop for TryLockGuard<'_> {
    fn drop(&mut self) {
        // SeqCst: see `Arena::registered`.
        self.0.0.store(0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_a_fork_has_copied_is_not_taken() {
        let lock = TryLock(AtomicU32::new(std::process::id() + 1));
        assert!(!lock.is_locked());
        let guard = lock.try_lock().unwrap();
        assert!(lock.is_locked() && lock.try_lock().is_none());
        assert!(lock.is_locked(), "a thread that does not get in leaves the lock to the one inside");
        drop(guard);
        assert!(!lock.is_locked() && lock.try_lock().is_some());
    }
}
