//! Hints to uncoalesced frames: pages and whole pageblocks that are free and not yet coalesced with
//! their neighbours in the pool.
//!
//! Kept are a hint to each row of 64 pages with an uncoalesced one in it, unless a CPU cache has
//! the row reserved; for each row, which of its pages may be uncoalesced; and a hint to each
//! pageblock that is uncoalesced as a whole. The frames' own words say whether they are: a hint may
//! be wrong.

use core::sync::atomic::Ordering;

use crate::atomic::AtomicWord;
use crate::frame::AREA_FRAMES;

use super::cpu_cache::ROW_FRAMES;
use super::hint_bitmap::{Hint, HintBitmap};
use super::layout::ZoneLayout;

/// Rows in a pageblock.
pub(crate) const ROWS_IN_PAGEBLOCK: usize = AREA_FRAMES / ROW_FRAMES as usize;

const _: () = assert!(ROW_FRAMES == 64, "a row of pages is a word of the store");

/// The hints.
pub(crate) struct Uncoalesced<'m, W> {
    /// For each row, the pages that may be uncoalesced; those that are uncoalesced are among them.
    pages: &'m [W],
    pub(crate) rows: HintBitmap<'m, W>,
    pub(crate) areas: HintBitmap<'m, W>,
}

/// Words of metadata for the hints over so many pageblocks.
pub(super) const fn uncoalesced_words<W: AtomicWord>(areas: usize) -> usize {
    let rows = areas * ROWS_IN_PAGEBLOCK;
    rows + HintBitmap::<W>::words(rows) + HintBitmap::<W>::words(areas)
}

impl<'m, W: AtomicWord> Uncoalesced<'m, W> {
    pub(crate) fn new(layout: &ZoneLayout<'_>, words: &'m [W]) -> Self {
        let areas = layout.areas();
        let (pages, rest) = words[layout.uncoalesced_at()..].split_at(areas * ROWS_IN_PAGEBLOCK);
        let (rows, rest) = rest.split_at(HintBitmap::<W>::words(areas * ROWS_IN_PAGEBLOCK));
        Self {
            pages,
            rows: HintBitmap::new(rows, areas * ROWS_IN_PAGEBLOCK, Hint::One),
            areas: HintBitmap::new(rest, areas, Hint::One),
        }
    }

    /// The pages of a row that may be uncoalesced. SeqCst: after one became uncoalesced, or after
    /// a hint to the row was taken away.
    #[inline]
    pub(crate) fn pages(&self, row: usize) -> u64 {
        self.pages[row].load(Ordering::SeqCst)
    }

    /// Groups of which something is noted.
    pub(crate) fn noted(&self) -> impl Iterator<Item = usize> {
        // Relaxed: what is noted of each is looked at by `pages`.
        (0..self.pages.len()).filter(|row| self.pages[*row].load(Ordering::Relaxed) != 0)
    }

    /// Notes that pages of a row may be uncoalesced. SeqCst: after they became uncoalesced.
    #[inline]
    pub(crate) fn note(&self, row: usize, pages: u64) {
        self.pages[row].fetch_or(pages, Ordering::SeqCst);
    }

    /// Notes that they are not. SeqCst: before one more look at them.
    pub(crate) fn clear_noted(&self, row: usize, pages: u64) {
        self.pages[row].fetch_and(!pages, Ordering::SeqCst);
    }
}
