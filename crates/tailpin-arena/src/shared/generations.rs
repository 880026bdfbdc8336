//! Generations: how often a page was handed out, so that a token never leads to other memory (ABA).

use std::sync::atomic::{AtomicU64, Ordering};

use tailpin::{FrameRange, Pfn};

use super::word::Stamp;

/// One word for each page: a number that is never used again for each time the page is handed out,
/// and whether its contents are settled.
///
/// Written by the operation that hands a block out, before any other process can reach the block,
/// and once more when its only handle freezes it.
#[derive(Clone, Copy)]
pub(super) struct Generations(pub(super) &'static [AtomicU64]);

/// Contents don't change any more until the page is free again.
const FROZEN: u64 = 1;

impl Generations {
    /// A new generation begins. To do this twice in the same operation is harmless: no other
    /// process has the pages in between.
    pub(super) fn begin(self, pages: FrameRange, operation: Stamp) {
        self.set(pages, operation.0 << 1);
    }

    /// The contents of a block are settled. The caller has the only handle on it.
    pub(super) fn freeze(self, pages: FrameRange) {
        self.set(pages, self.get(pages.start) | FROZEN);
    }

    fn set(self, pages: FrameRange, generation: u64) {
        for word in &self.0[pages.start.get() as usize..pages.end.get() as usize] {
            // Release: with FROZEN it publishes the contents, to the Acquire of `get`.
            word.store(generation, Ordering::Release);
        }
    }

    pub(super) fn get(self, page: Pfn) -> u64 {
        // Acquire: pairs with the Release of `set`.
        self.0[page.get() as usize].load(Ordering::Acquire)
    }

    /// Whether all of these pages are in this generation, and settled. True as long as the caller
    /// has a pin on each.
    pub(super) fn are_frozen_in(self, pages: FrameRange, generation: u64) -> bool {
        generation & FROZEN != 0 && pages.iter().all(|page| self.get(page) == generation)
    }
}
