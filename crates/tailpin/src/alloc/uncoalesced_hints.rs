//! Hints to uncoalesced frames: pages and whole pageblocks that are free and not yet coalesced with
//! their neighbours in the pool.
//!
//! Kept are a hint to each row of 64 pages with an uncoalesced one in it, unless a CPU cache has
//! the row reserved; for each row, which of its pages may be uncoalesced; and a hint to each
//! pageblock that is uncoalesced as a whole. The frames' own words say whether they are: a hint may
//! be wrong.

use core::sync::atomic::Ordering;

use super::hint_bitmap::{Hint, HintBitmap};
use super::ids::{PAGEBLOCK_ROWS, PageblockId, Place, RowId};
use super::layout::ZoneLayout;
use crate::atomic::AtomicWord;

/// The hints.
pub(crate) struct Uncoalesced<'m, W> {
    /// For each row, the pages that may be uncoalesced; those that are uncoalesced are among them.
    pages: &'m [W],
    pub(crate) rows: HintBitmap<'m, W, RowId>,
    pub(crate) pageblocks: HintBitmap<'m, W, PageblockId>,
}

/// Words of metadata for the hints over so many pageblocks.
#[expect(clippy::arithmetic_side_effects, reason = "the layout has seen that all words fit into memory")]
pub(super) const fn uncoalesced_words<W: AtomicWord>(pageblocks: usize) -> usize {
    let rows = pageblocks * PAGEBLOCK_ROWS;
    rows + HintBitmap::<W, RowId>::words(rows) + HintBitmap::<W, PageblockId>::words(pageblocks)
}

impl<'m, W: AtomicWord> Uncoalesced<'m, W> {
    #[expect(clippy::arithmetic_side_effects, reason = "the layout has seen that all words fit into memory")]
    pub(crate) fn new(layout: &ZoneLayout<'_>, words: &'m [W]) -> Self {
        let pageblocks = layout.pageblocks();
        let rows = pageblocks * PAGEBLOCK_ROWS;
        let (pages, rest) = words[layout.uncoalesced_at()..].split_at(rows);
        let (of_rows, rest) = rest.split_at(HintBitmap::<W, RowId>::words(rows));
        Self {
            pages,
            rows: HintBitmap::new(of_rows, rows, Hint::One),
            pageblocks: HintBitmap::new(rest, pageblocks, Hint::One),
        }
    }

    /// The pages of a row that may be uncoalesced. SeqCst: after one became uncoalesced, or after
    /// a hint to the row was taken away.
    #[inline]
    pub(crate) fn pages(&self, row: RowId) -> u64 {
        self.pages[row.index()].load(Ordering::SeqCst)
    }

    /// Rows of which something is noted.
    pub(crate) fn noted(&self) -> impl Iterator<Item = RowId> {
        // Relaxed: what is noted of each is looked at by `pages`.
        let noted = |row: &usize| self.pages[*row].load(Ordering::Relaxed) != 0;
        (0..self.pages.len()).filter(noted).map(RowId::from_index)
    }

    /// Notes that pages of a row may be uncoalesced. SeqCst: after they became uncoalesced.
    #[inline]
    pub(crate) fn note(&self, row: RowId, pages: u64) {
        self.pages[row.index()].fetch_or(pages, Ordering::SeqCst);
    }

    /// Notes that they are not. SeqCst: before one more look at them.
    pub(crate) fn clear_noted(&self, row: RowId, pages: u64) {
        self.pages[row.index()].fetch_and(!pages, Ordering::SeqCst);
    }
}
