//! What became of reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of reads since the store was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Requests to the inner store that read data.
    pub requests: u64,
    /// Answers that lie in the arena, and their bytes.
    pub landed: u64,
    /// Their bytes.
    pub landed_bytes: u64,
    /// Answers too small for a page, copied to the heap.
    pub small: u64,
    /// Answers on the heap because the arena was full.
    pub fell_back: u64,
    /// Their bytes.
    pub fell_back_bytes: u64,
    /// Reads that waited for the arena's limit.
    pub waited: u64,
    /// Answers larger than what is landed as a whole, passed through.
    pub passed: u64,
}

/// Counters that any thread adds to.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    pub(crate) requests: Count,
    pub(crate) landed: Count,
    pub(crate) landed_bytes: Count,
    pub(crate) small: Count,
    pub(crate) fell_back: Count,
    pub(crate) fell_back_bytes: Count,
    pub(crate) waited: Count,
    pub(crate) passed: Count,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, n: u64) {
        // Relaxed, here and below: a number for people, which carries nothing along.
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counting {
    pub(crate) fn read(&self) -> Counters {
        Counters {
            requests: self.requests.get(),
            landed: self.landed.get(),
            landed_bytes: self.landed_bytes.get(),
            small: self.small.get(),
            fell_back: self.fell_back.get(),
            fell_back_bytes: self.fell_back_bytes.get(),
            waited: self.waited.get(),
            passed: self.passed.get(),
        }
    }
}
