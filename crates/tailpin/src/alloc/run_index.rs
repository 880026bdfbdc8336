//! Hints to the free runs of pageblocks, by order; and which pageblocks are sparse.
//!
//! A pageblock is *sparse* while only a few of its frames are in use. Such a pageblock is likely to
//! be whole again soon if it is left alone, so its runs are hinted at on a run index of their own,
//! which is looked at last. Without that, requests that fit best somewhere in it would keep it from
//! ever being whole.

use core::sync::atomic::Ordering;

use crate::atomic::AtomicWord;
use crate::frame::Order;

use super::hint_bitmap::{Hint, HintBitmap};
use super::ids::{PAGEBLOCK_ROWS, PageblockId, Place, RowId};

/// Orders of runs within a row: 0 to 5.
const IN_ROWS: usize = Order::ROW.get() as usize;
/// Orders of runs of rows within a pageblock that is not whole: 6 to 8.
const OF_ROWS: usize = Order::HUGE.get() as usize - IN_ROWS;

/// How many frames of a pageblock are in use: its fullness class, as slab allocators have them for
/// their slabs.
#[doc(alias = "slab")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fullness {
    /// Many: requests are served from such pageblocks first.
    Dense,
    /// Few.
    Sparse,
}

impl Fullness {
    /// Both, in the order in which they are looked at.
    pub(super) const ALL: [Self; 2] = [Self::Dense, Self::Sparse];
}

/// Keeps fragmentation down: hints to the free runs of the pageblocks of one fullness class.
pub(super) struct RunIndex<'m, W> {
    /// Rows that are out, by the order of their largest free run.
    rows_with: [HintBitmap<'m, W, RowId>; IN_ROWS],
    /// Pageblocks, by the order of their largest run of whole rows.
    pageblocks_with: [HintBitmap<'m, W, PageblockId>; OF_ROWS],
}

impl<'m, W: AtomicWord> RunIndex<'m, W> {
    /// Words of metadata over so many pageblocks.
    #[expect(clippy::arithmetic_side_effects, reason = "the layout has seen that all words fit into memory")]
    pub(super) const fn words(pageblocks: usize) -> usize {
        IN_ROWS * HintBitmap::<W, RowId>::words(pageblocks * PAGEBLOCK_ROWS)
            + OF_ROWS * HintBitmap::<W, PageblockId>::words(pageblocks)
    }

    #[expect(clippy::arithmetic_side_effects, reason = "the layout has seen that all words fit into memory")]
    pub(super) fn new(words: &'m [W], pageblocks: usize) -> Self {
        let (of_rows, rest) =
            words.split_at(IN_ROWS * HintBitmap::<W, RowId>::words(pageblocks * PAGEBLOCK_ROWS));
        Self {
            rows_with: bitmaps(of_rows, pageblocks * PAGEBLOCK_ROWS),
            pageblocks_with: bitmaps(rest, pageblocks),
        }
    }

    /// For rows whose largest free run has this order, 0 to 5.
    #[inline]
    pub(super) fn rows_with(&self, order: Order) -> &HintBitmap<'m, W, RowId> {
        &self.rows_with[order.get() as usize]
    }

    /// For pageblocks whose largest run of whole rows has this order, 6 to 8.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "an order of a row or more")]
    pub(super) fn pageblocks_with(&self, order: Order) -> &HintBitmap<'m, W, PageblockId> {
        &self.pageblocks_with[order.get() as usize - IN_ROWS]
    }
}

/// Hint bitmaps one after the other, each to so many places.
fn bitmaps<W: AtomicWord, P: Place, const N: usize>(words: &[W], places: usize) -> [HintBitmap<'_, W, P>; N] {
    let mut each = words.chunks(HintBitmap::<W, P>::words(places));
    core::array::from_fn(|_| HintBitmap::new(each.next().unwrap_or_default(), places, Hint::One))
}

/// A bit for each pageblock: whether it was sparse when it changed last. Only a hint.
pub(super) struct Sparse<'m, W> {
    words: &'m [W],
}

impl<'m, W: AtomicWord> Sparse<'m, W> {
    /// Words of metadata over so many pageblocks.
    pub(super) const fn words(pageblocks: usize) -> usize {
        pageblocks.div_ceil(64)
    }

    pub(super) fn new(words: &'m [W]) -> Self {
        Self { words }
    }

    #[inline]
    pub(super) fn is(&self, pageblock: PageblockId) -> bool {
        let index = pageblock.index();
        // Relaxed: nothing but placement depends on it.
        self.words[index / 64].load(Ordering::Relaxed) >> (index % 64) & 1 != 0
    }

    /// Notes what a pageblock is now; true if it was something else.
    #[inline]
    pub(super) fn changed_to(&self, pageblock: PageblockId, sparse: bool) -> bool {
        self.is(pageblock) != sparse && self.set(pageblock, sparse)
    }

    #[inline(never)]
    fn set(&self, pageblock: PageblockId, sparse: bool) -> bool {
        let index = pageblock.index();
        let (word, mask) = (&self.words[index / 64], 1 << (index % 64));
        // Relaxed: as in `is`.
        let before = match sparse {
            true => word.fetch_or(mask, Ordering::Relaxed),
            false => word.fetch_and(!mask, Ordering::Relaxed),
        };
        (before & mask != 0) != sparse
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;

    #[test]
    fn a_pageblock_changes_once_in_each_direction() {
        let words = [const { AtomicU64::new(0) }; 2];
        let sparse = Sparse::new(&words);
        for id in [0, 63, 64, 100].map(PageblockId::from_index) {
            let changes = [false, true, true, false, false].map(|now| {
                let changed = sparse.changed_to(id, now);
                assert_eq!(sparse.is(id), now);
                changed
            });
            assert_eq!(changes, [false, true, false, true, false], "{id:?}");
            sparse.changed_to(id, true);
            assert!(!sparse.set(id, true), "another thread may have been first");
        }
    }
}
