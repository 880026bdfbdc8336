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
use super::pageblock::{AREA_WORDS, WORD_ORDER};

/// Orders of runs within a row: 0 to 5.
const IN_WORDS: usize = WORD_ORDER.get() as usize;
/// Orders of runs of words within a pageblock that is not whole: 6 to 8.
const OF_WORDS: usize = Order::HUGE.get() as usize - IN_WORDS;

/// Which pageblocks a run index is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Those with many frames in use, which requests are served from first.
    Filled,
    /// Those with few.
    Sparse,
}

impl Kind {
    /// Both, in the order in which they are looked at.
    pub(super) const ALL: [Self; 2] = [Self::Filled, Self::Sparse];
}

/// Keeps fragmentation down: hints to the free runs of pageblocks of one kind.
pub(super) struct RunIndex<'m, W> {
    /// Words that are out, by the order of their largest free run.
    words_with: [HintBitmap<'m, W>; IN_WORDS],
    /// Pageblocks, by the order of their largest run of whole rows.
    areas_with: [HintBitmap<'m, W>; OF_WORDS],
}

impl<'m, W: AtomicWord> RunIndex<'m, W> {
    /// Words of metadata over so many pageblocks.
    pub(super) const fn words(areas: usize) -> usize {
        IN_WORDS * HintBitmap::<W>::words(areas * AREA_WORDS) + OF_WORDS * HintBitmap::<W>::words(areas)
    }

    pub(super) fn new(words: &'m [W], areas: usize) -> Self {
        let mut rest = words;
        let mut tree = |places: usize| {
            let (words, others) = rest.split_at(HintBitmap::<W>::words(places));
            rest = others;
            HintBitmap::new(words, places, Hint::One)
        };
        Self {
            words_with: [(); IN_WORDS].map(|()| tree(areas * AREA_WORDS)),
            areas_with: [(); OF_WORDS].map(|()| tree(areas)),
        }
    }

    /// For words whose largest free run has this order, 0 to 5.
    #[inline]
    pub(super) fn words_with(&self, order: Order) -> &HintBitmap<'m, W> {
        &self.words_with[order.get() as usize]
    }

    /// For pageblocks whose largest run of whole rows has this order, 6 to 8.
    #[inline]
    pub(super) fn areas_with(&self, order: Order) -> &HintBitmap<'m, W> {
        &self.areas_with[order.get() as usize - IN_WORDS]
    }
}

/// A bit for each pageblock: whether it was sparse when it changed last. Only a hint.
pub(super) struct Sparse<'m, W> {
    words: &'m [W],
}

impl<'m, W: AtomicWord> Sparse<'m, W> {
    /// Words of metadata over so many pageblocks.
    pub(super) const fn words(areas: usize) -> usize {
        areas.div_ceil(64)
    }

    pub(super) fn new(words: &'m [W]) -> Self {
        Self { words }
    }

    #[inline]
    pub(super) fn is(&self, area: usize) -> bool {
        // Relaxed: nothing but placement depends on it.
        self.words[area / 64].load(Ordering::Relaxed) >> (area % 64) & 1 != 0
    }

    /// Notes what a pageblock is now; true if it was something else.
    #[inline]
    pub(super) fn changed_to(&self, area: usize, sparse: bool) -> bool {
        self.is(area) != sparse && self.set(area, sparse)
    }

    #[inline(never)]
    fn set(&self, area: usize, sparse: bool) -> bool {
        let (word, mask) = (&self.words[area / 64], 1 << (area % 64));
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
    fn an_area_changes_once_in_each_direction() {
        let words = [const { AtomicU64::new(0) }; 2];
        let sparse = Sparse::new(&words);
        for area in [0, 63, 64, 100] {
            let changes = [false, true, true, false, false].map(|now| {
                let changed = sparse.changed_to(area, now);
                assert_eq!(sparse.is(area), now);
                changed
            });
            assert_eq!(changes, [false, true, false, true, false], "area {area}");
            sparse.changed_to(area, true);
            assert!(!sparse.set(area, true), "another thread may have been first");
        }
    }
}
