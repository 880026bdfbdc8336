//! A callback when much of a budget is in use, and when little of it is again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::memory::{PAGE_SIZE, bytes_of};

/// What a watermark's callback is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pressure {
    /// The upper watermark was reached, so there is pressure; else the lower one was, and it is
    /// over.
    pub high: bool,
    /// Bytes in use or reserved, a thirty-second of the limit more at most.
    pub in_use: usize,
    /// The limit in bytes.
    pub limit: usize,
}

/// Two levels and what is called when one of them is crossed.
#[derive(Clone)]
pub(crate) struct Levels {
    /// In pages.
    pub(crate) high: u64,
    pub(crate) low: u64,
    pub(crate) call: Arc<dyn Fn(Pressure) + Send + Sync>,
}

impl Levels {
    pub(crate) fn new(high: usize, low: usize, call: Arc<dyn Fn(Pressure) + Send + Sync>) -> Self {
        Self { high: (high / PAGE_SIZE) as u64, low: (low.min(high) / PAGE_SIZE) as u64, call }
    }
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", bytes_of(self.low), bytes_of(self.high))
    }
}

/// Levels, and on which side of them the budget is.
pub(crate) struct Watermark {
    levels: Levels,
    /// Written by the thread that crosses a level, which makes the call.
    above: AtomicBool,
}

impl Watermark {
    pub(crate) fn new(levels: Levels) -> Self {
        Self { levels, above: AtomicBool::new(false) }
    }

    /// Whether so many pages in use are on the other side of a level.
    #[inline]
    pub(crate) fn crosses(&self, used: u64) -> bool {
        // Relaxed: the swap decides which thread calls.
        self.is_beyond(self.above.load(Ordering::Relaxed), used)
    }

    #[inline]
    fn is_beyond(&self, above: bool, used: u64) -> bool {
        if above { used <= self.levels.low } else { used >= self.levels.high }
    }

    /// So many pages are in use. Calls back if that crosses a level.
    #[cold]
    pub(crate) fn cross(&self, used: u64, limit: u64) {
        // Relaxed: the swap decides which thread calls.
        let above = self.above.load(Ordering::Relaxed);
        // AcqRel: what the callback of one crossing did is before that of the next.
        if self.is_beyond(above, used) && self.above.swap(!above, Ordering::AcqRel) == above {
            (self.levels.call)(Pressure { high: !above, in_use: bytes_of(used), limit: bytes_of(limit) });
        }
    }
}
