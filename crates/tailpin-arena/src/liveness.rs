//! Liveness: when an arena may go.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts what keeps an arena there: one for all its handles together, and one for each frame in
/// use.
///
/// Slices are not counted: a slice keeps a frame in use, and that frame counts. It was counted
/// before its block was handed out, and is counted off by the thread that freed it, after that call
/// has returned from the allocator. So while any thread is inside the allocator's memory because of
/// a frame, the frame still counts here.
pub(crate) struct Liveness(AtomicU64);

impl Liveness {
    /// The handles' count alone.
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(1))
    }

    /// `n` frames are about to be in use. The caller keeps the arena there already.
    #[inline]
    pub(crate) fn raise(&self, n: u64) {
        // Relaxed: the caller's own keepalive orders it before anything that could bring the count
        // to zero.
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// `n` frames are free, or the handles are gone. True for the thread that has to take the arena
    /// down.
    #[inline]
    pub(crate) fn lower(&self, n: u64) -> bool {
        // Release: all use of the arena is before its end; pairs with the load below.
        let before = self.0.fetch_sub(n, Ordering::Release);
        debug_assert!(before >= n, "no more frames are freed than were handed out");
        if before == n {
            // Acquire: what is read is this thread's own step, which continues the Release sequence
            // of each thread that lowered the count before. A fence would do the same, but
            // ThreadSanitizer doesn't know fences.
            self.0.load(Ordering::Acquire);
        }
        before == n
    }

    /// Frames in use, while a handle is there.
    pub(crate) fn frames(&self) -> u64 {
        self.0.load(Ordering::Relaxed).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_to_go_takes_the_arena_down() {
        let liveness = Liveness::new();
        liveness.raise(5);
        assert!(!liveness.lower(2));
        assert!(!liveness.lower(1)); // the handles
        assert_eq!(liveness.frames(), 2 - 1 + 1);
        assert!(liveness.lower(3));
    }
}
