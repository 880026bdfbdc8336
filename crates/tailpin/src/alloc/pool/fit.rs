//! Where in the pool a request fits best.
//!
//! A request looks for runs of exactly its own order first, then for larger ones, and takes the
//! lowest place there is, so that large runs stay whole; in pageblocks that are not sparse first,
//! then in sparse ones, and in whole pageblocks last of all. A word of 64 frames counts by its
//! largest free run, a pageblock by its largest run of whole rows.

use crate::alloc::hint_bitmap::HintBitmap;
use crate::alloc::pageblock::{AREA_WORDS, RowMap, WORD_ORDER};
use crate::alloc::run_index::{Kind, RunIndex};
use crate::alloc::runs::{best, largest, lowest, run, smallest};
use crate::atomic::AtomicWord;
use crate::frame::{AREA_FRAMES, Order};

use super::{Pool, Taken};

impl<'m, W: AtomicWord> Pool<'m, W> {
    /// A free block of `order`, less than 2 MiB, out of nothing larger than a block of `largest`.
    pub(crate) fn take_part(&self, order: Order, largest: Order) -> Option<Taken> {
        let number = if order < WORD_ORDER {
            let select = |free| best(free, order).map(|bit| run(order, bit));
            let (word, mask) = self.take_frames(order, largest, select)?;
            word * 64 + mask.trailing_zeros() as usize
        } else {
            let (area, words) = self.take_words(order, largest)?;
            area * AREA_FRAMES + words.trailing_zeros() as usize * 64
        };
        Some(Taken::scrubbed(self.frame(number as u64)))
    }

    /// At most so many single pages of one row, those in the smallest runs, out of
    /// nothing larger than a block of `largest`: the number of the first frame of the word, and a
    /// mask.
    pub(crate) fn take_pages(&self, largest: Order, most: usize) -> Option<(u64, u64)> {
        let select = |free| (free != 0).then(|| lowest(smallest(free), most));
        let (word, mask) = self.take_frames(Order::PAGE, largest, select)?;
        Some((word as u64 * 64, mask))
    }

    /// What `select` picks, from the lowest of the words that come closest to `order`, in sparse
    /// pageblocks last; only if there is none is one more taken out. Returns the word and what was
    /// taken of it.
    fn take_frames(
        &self,
        order: Order,
        largest: Order,
        select: impl Fn(u64) -> Option<u64>,
    ) -> Option<(usize, u64)> {
        let first_of = |(area, words): (usize, u64)| {
            let word = area * AREA_WORDS + words.trailing_zeros() as usize;
            let taken = select(!0)?;
            self.offer(word, !taken);
            Some((word, taken))
        };
        Kind::ALL
            .into_iter()
            .find_map(|kind| {
                let mut orders = (order.get()..WORD_ORDER.get()).map(Order::wrap);
                let found = orders.find_map(|largest| self.take_frames_in(kind, largest, &select));
                found.or_else(|| self.take_words_in(kind, WORD_ORDER).and_then(first_of))
            })
            .or_else(|| self.take_words_of_whole(WORD_ORDER, largest).and_then(first_of))
            // Before giving up: without the hints, which may lag behind a free under way.
            .or_else(|| self.take_words_unhinted(WORD_ORDER, largest).and_then(first_of))
            .or_else(|| {
                let mut words =
                    self.all_areas(largest).flat_map(|area| area * AREA_WORDS..(area + 1) * AREA_WORDS);
                words.find_map(|word| self.claim_frames(word, &select))
            })
    }

    /// Of pageblocks of one kind, in a word whose largest run has this order.
    fn take_frames_in(
        &self,
        kind: Kind,
        order: Order,
        select: impl Fn(u64) -> Option<u64>,
    ) -> Option<(usize, u64)> {
        let fits = |free: u64| largest(free) == Some(order);
        self.search(
            kind,
            |shelf| shelf.words_with(order),
            |word| word / AREA_WORDS,
            |word| fits(self.free_in(word)),
            |word| self.claim_frames(word, |free| if fits(free) { select(free) } else { None }),
        )
    }

    /// Follows the hints of one tree of a run index. One to a place of a pageblock that has become
    /// sparse goes to the run index of these; nothing has to leave that one.
    #[inline]
    fn search<T>(
        &self,
        kind: Kind,
        tree: impl for<'s> Fn(&'s RunIndex<'m, W>) -> &'s HintBitmap<'m, W>,
        area_of: impl Fn(usize) -> usize,
        fits: impl Fn(usize) -> bool,
        claim: impl Fn(usize) -> Option<T>,
    ) -> Option<T> {
        let belongs = |place| kind == Kind::Sparse || !self.is_sparse(area_of(place));
        let take = |place| if belongs(place) { claim(place) } else { None };
        let stays = |place| {
            let (fits, here) = (fits(place), belongs(place));
            if fits && !here {
                tree(&self.sparse).mark(place);
            }
            fits && here
        };
        tree(self.shelf(kind)).search(0, stays, take)
    }

    fn claim_frames(&self, word: usize, select: impl Fn(u64) -> Option<u64>) -> Option<(usize, u64)> {
        let (taken, left) = self.area(word / AREA_WORDS).claim(word % AREA_WORDS, select)?;
        self.word_changed(word, left);
        Some((word, taken))
    }

    /// What is looked at before giving up on whole pageblocks too: all.
    fn all_areas(&self, largest: Order) -> core::ops::Range<usize> {
        0..if largest == Order::HUGE { self.areas } else { 0 }
    }

    /// Frees part of a word that the caller took out.
    pub(super) fn offer(&self, word: usize, frames: u64) {
        if frames != 0 {
            self.area(word / AREA_WORDS).offer(word % AREA_WORDS, frames);
            self.word_changed(word, frames);
        }
    }

    /// A run of words for a block of `order`, 6 to 8, as (pageblock, words), from the lowest of the
    /// pageblocks that come closest to it, sparse ones last.
    fn take_words(&self, order: Order, largest: Order) -> Option<(usize, u64)> {
        Kind::ALL
            .into_iter()
            .find_map(|kind| self.take_words_in(kind, order))
            .or_else(|| self.take_words_of_whole(order, largest))
            // Before giving up: as in `take_frames`.
            .or_else(|| self.take_words_unhinted(order, largest))
    }

    fn take_words_unhinted(&self, order: Order, largest: Order) -> Option<(usize, u64)> {
        self.all_areas(largest).find_map(|area| self.claim_words(area, |home| home.best(order)))
    }

    /// Of pageblocks of one kind.
    fn take_words_in(&self, kind: Kind, order: Order) -> Option<(usize, u64)> {
        (order.get()..Order::HUGE.get()).map(Order::wrap).find_map(|largest| {
            let fits = |home: RowMap| home.largest() == Some(largest);
            self.search(
                kind,
                |shelf| shelf.areas_with(largest),
                |area| area,
                |area| fits(self.area(area).home()),
                |area| self.claim_words(area, |home| if fits(home) { home.best(order) } else { None }),
            )
        })
    }

    /// Of a whole pageblock, if `largest` allows that.
    fn take_words_of_whole(&self, order: Order, largest: Order) -> Option<(usize, u64)> {
        if largest < Order::HUGE {
            return None;
        }
        let take =
            |area| self.claim_words(area, |home| if home.is_whole() { home.best(order) } else { None });
        self.whole.search(0, |area| self.area(area).home().is_whole(), take)
    }

    fn claim_words(&self, area: usize, select: impl Fn(RowMap) -> Option<u64>) -> Option<(usize, u64)> {
        let (words, change) = self.area(area).take_words(select)?;
        self.home_changed(area, change);
        Some((area, words))
    }
}
