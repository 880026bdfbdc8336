//! What happens seldom in an arena: counted, and told to a subscriber of `tracing` if there is one.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::AllocError;

/// How often it happened. Relaxed all over: each count is complete in itself.
#[derive(Debug, Default)]
pub(crate) struct Events {
    refused: AtomicU64,
    on_heap: AtomicU64,
    releases: AtomicU64,
    released: AtomicU64,
    stuck: AtomicU64,
}

impl Events {
    /// A request was refused.
    #[cold]
    pub(crate) fn refuse(&self, why: &AllocError) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        #[cfg(feature = "tracing")]
        tracing::debug!(target: "tailpin_arena", %why, "a request was refused");
        #[cfg(not(feature = "tracing"))]
        let _ = why;
    }

    /// A request that was refused was served from the heap.
    #[cold]
    pub(crate) fn to_heap(&self) {
        self.on_heap.fetch_add(1, Ordering::Relaxed);
    }

    /// A release ended, which gave back so many bytes; the system would not take others.
    pub(crate) fn release(&self, returned: usize, stuck: usize) {
        self.releases.fetch_add(1, Ordering::Relaxed);
        self.released.fetch_add(returned as u64, Ordering::Relaxed);
        self.stuck.fetch_add(stuck as u64, Ordering::Relaxed);
        #[cfg(feature = "tracing")]
        tracing::debug!(target: "tailpin_arena", returned, stuck, "memory went back to the system");
    }

    /// The last handle goes while so many bytes are in use.
    #[cold]
    pub(crate) fn outlived(&self, bytes: usize) {
        #[cfg(feature = "tracing")]
        tracing::debug!(target: "tailpin_arena", bytes, "in use as the last handle goes");
        let _ = bytes;
    }

    /// Requests that were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Requests that were served from the heap.
    pub(crate) fn on_heap(&self) -> u64 {
        self.on_heap.load(Ordering::Relaxed)
    }

    /// Releases, and the bytes that went back and that did not.
    pub(crate) fn released(&self) -> (u64, u64, u64) {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (count(&self.releases), count(&self.released), count(&self.stuck))
    }
}
