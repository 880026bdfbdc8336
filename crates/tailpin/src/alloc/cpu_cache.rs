//! What each CPU remembers: the pages and the blocks of orders 1 to 8 it freed lately, the
//! pageblock it is likely to get next, and the row of pages it looks through.
//!
//! A per-CPU list of pages (the kernel's pcp list, a magazine), made of hints and one duty. The
//! hints may be wrong, as the words of the frames decide: a stack of pages that may be uncoalesced,
//! of which the oldest fall out at the bottom. The duty: a CPU cache that names a row has the
//! uncoalesced pages in it reserved, so that no hint has to lead to them. The thread that makes a
//! CPU cache name another row sees to that for what is left in the one before. Any thread may do it
//! at any time: two threads that share a CPU number, one that was preempted, one that drains. The
//! names of [parked](super::parked) blocks are no hints either: nothing else leads to these.

use core::sync::atomic::Ordering;

use crate::atomic::AtomicWord;

use crate::frame::Order;
use crate::protocol::ParkingPlace;

use super::ids::{PageblockId, Place, RowId};

/// Words of a CPU cache.
pub(crate) const CPU_CACHE_WORDS: usize = FIRST_OWN_PARKED + PARKED_ORDERS * PARKED_EACH;

/// Where the top of the stack is.
const TOP: usize = 0;
/// The row it has reserved, plus one.
const ROW: usize = 1;
/// The pageblock to try next.
const PAGEBLOCK: usize = 2;
/// In a line of their own: net frames handed out through this CPU cache, where a watermark is set
/// ...
const TAKEN: usize = 8;
/// ... a word of the first CPU cache that the zone uses for itself: frames set aside ...
pub(crate) const SPARE: usize = 9;
/// ... and another: frames that entered service after the zone was made.
pub(crate) const ADDED: usize = 12;
/// Moves of pages from the pool to where they can be claimed: how many have begun at this CPU
/// cache, and how many of them ended.
const BEGUN: usize = 10;
const ENDED: usize = 11;
/// Whether one thread owns the places that are for one.
pub(super) const OWNED: usize = 13;
/// The stack, around at its end: page numbers plus one, and zeros where nothing is.
const FIRST_PLACE: usize = 16;
const PLACES: usize = 128;
/// For each of orders 1 to 8, how many of its parking places are likely to be taken ...
const FIRST_DEPTH: usize = FIRST_PLACE + PLACES;
/// ... and these: numbers of first frames plus one, and zeros where nothing is.
const FIRST_PARKED: usize = FIRST_DEPTH + PARKED_ORDERS;
const PARKED_ORDERS: usize = Order::HUGE.get() as usize - 1;
/// Blocks of one order that can be parked in one CPU cache.
pub(super) const PARKED_EACH: usize = 16;
/// In a line of its own, of the first CPU cache: whether any CPU cache may have parked blocks.
pub(crate) const ANY_PARKED: usize = FIRST_PARKED + PARKED_ORDERS * PARKED_EACH;
/// The same depths ...
pub(super) const FIRST_OWN_DEPTH: usize = ANY_PARKED + 8;
/// ... and parking places once more, for one thread that owns them.
pub(super) const FIRST_OWN_PARKED: usize = FIRST_OWN_DEPTH + PARKED_ORDERS;

const _: () = assert!(CPU_CACHE_WORDS.is_multiple_of(8), "CPU caches are whole cache lines");

/// What one CPU remembers. Page numbers count from the zone's first.
#[doc(alias = "pcp")]
#[doc(alias = "magazine")]
pub(crate) struct CpuCache<'m, W> {
    pub(super) words: &'m [W; CPU_CACHE_WORDS],
    pub(super) index: usize,
}

impl<W> Clone for CpuCache<'_, W> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for CpuCache<'_, W> {}

/// Which places of a CPU cache a thread parks blocks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Places {
    /// Those that all threads at that CPU may use.
    Shared,
    /// Those of the one thread that owns them.
    Own,
}

/// A move of pages under way.
pub(crate) struct Moving<'m, W: AtomicWord> {
    ended: &'m W,
}

impl<W: AtomicWord> Drop for Moving<'_, W> {
    fn drop(&mut self) {
        // SeqCst: as in `move_pages`.
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}

impl<'m, W: AtomicWord> CpuCache<'m, W> {
    #[inline]
    pub(crate) fn new(words: &'m [W; CPU_CACHE_WORDS], index: usize) -> Self {
        Self { words, index }
    }

    #[inline]
    pub(super) fn hint(&self, which: usize) -> u64 {
        // Relaxed: nothing but speed depends on it.
        self.words[which].load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn set_hint(&self, which: usize, value: u64) {
        // Relaxed: as in `hint`.
        self.words[which].store(value, Ordering::Relaxed);
    }

    /// The number of the CPU cache.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// The place at the top of the stack, or one above it.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "below the CPU cache's words")]
    fn place(top: u64) -> usize {
        FIRST_PLACE + top as usize % PLACES
    }

    /// The page to try first: the one that was remembered last.
    #[inline]
    pub(crate) fn next_page(&self) -> Option<u64> {
        self.hint(Self::place(self.hint(TOP))).checked_sub(1)
    }

    /// The page that was to be tried first has been handed out.
    #[inline]
    pub(crate) fn pop(&self) {
        self.set_hint(TOP, self.hint(TOP).wrapping_sub(1));
    }

    /// The page that was to be tried first is not uncoalesced.
    pub(crate) fn discard_top(&self) {
        self.set_hint(Self::place(self.hint(TOP)), 0);
        self.pop();
    }

    /// This page became uncoalesced.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "a frame's number within its zone")]
    pub(crate) fn push(&self, number: u64) {
        let top = self.hint(TOP).wrapping_add(1);
        self.set_hint(Self::place(top), number + 1);
        self.set_hint(TOP, top);
    }

    /// Some pages of a row are uncoalesced: the lowest is to be tried first.
    #[expect(clippy::arithmetic_side_effects, reason = "a frame's number within its zone")]
    pub(crate) fn push_row(&self, row: RowId, pages: u64) {
        let mut rest = pages;
        while let Some(highest) = rest.checked_ilog2() {
            self.push(row.first_frame() + u64::from(highest));
            rest ^= 1 << highest;
        }
    }

    /// The parking place `nth` for a block of `order`, 1 to 8: one of all threads', which begin at
    /// [`FIRST_PARKED`], or of an owner's, at [`FIRST_OWN_PARKED`].
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "the order is 1 to 8")]
    pub(super) fn parking_place(&self, first: usize, order: Order, nth: usize) -> ParkingPlace {
        let word = first + (order.get() as usize - 1) * PARKED_EACH + nth;
        ParkingPlace { cache: self.index as u32, word: word as u32 }
    }

    #[inline]
    pub(super) fn parking_word(&self, place: ParkingPlace) -> &'m W {
        &self.words[place.word as usize]
    }

    /// How many blocks of `order` are likely to be parked here: where to look first.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "the order is 1 to 8")]
    pub(crate) fn parked(&self, order: Order) -> usize {
        (self.hint(FIRST_DEPTH + order.get() as usize - 1) as usize).min(PARKED_EACH)
    }

    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "the order is 1 to 8")]
    fn set_parked(&self, order: Order, n: usize) {
        self.set_hint(FIRST_DEPTH + order.get() as usize - 1, n as u64);
    }

    /// Names a block that is about to become uncoalesced at a parking place; `None` if all are
    /// taken.
    #[inline]
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "a frame's number within its zone, and a place's number"
    )]
    pub(crate) fn park(&self, order: Order, number: u64) -> Option<ParkingPlace> {
        (self.parked(order)..PARKED_EACH).find_map(|nth| {
            let place = self.parking_place(FIRST_PARKED, order, nth);
            let word = self.parking_word(place);
            // Relaxed: the compare-and-swap finds out. SeqCst: before the block is uncoalesced.
            let taken = word.load(Ordering::Relaxed) == 0
                && word.compare_exchange(0, number + 1, Ordering::SeqCst, Ordering::Relaxed).is_ok();
            taken.then(|| {
                self.set_parked(order, nth + 1);
                place
            })
        })
    }

    /// The block to try first: the number of its first frame, and where it is named.
    #[inline]
    pub(crate) fn next_parked(&self, order: Order) -> Option<(u64, ParkingPlace)> {
        while let Some(nth) = self.parked(order).checked_sub(1) {
            self.set_parked(order, nth);
            let place = self.parking_place(FIRST_PARKED, order, nth);
            if let Some(number) = self.parked_at(place) {
                return Some((number, place));
            }
        }
        None
    }

    /// All places at which blocks of `order` are named.
    pub(crate) fn all_parked(&self, order: Order) -> impl Iterator<Item = (u64, ParkingPlace)> + use<'m, W> {
        self.parked_below(order, [PARKED_EACH; 2])
    }

    /// Those at which they are likely to be named.
    pub(super) fn likely_parked(
        &self,
        order: Order,
    ) -> impl Iterator<Item = (u64, ParkingPlace)> + use<'m, W> {
        self.parked_below(order, [self.parked(order), self.own_parked(order)])
    }

    fn parked_below(
        &self,
        order: Order,
        depths: [usize; 2],
    ) -> impl Iterator<Item = (u64, ParkingPlace)> + use<'m, W> {
        let cache = *self;
        [FIRST_PARKED, FIRST_OWN_PARKED].into_iter().zip(depths).flat_map(move |(first, depth)| {
            (0..depth).filter_map(move |nth| {
                let place = cache.parking_place(first, order, nth);
                Some((cache.parked_at(place)?, place))
            })
        })
    }

    /// The block that is named at a place of this CPU cache. SeqCst: after the block
    /// became uncoalesced.
    #[inline]
    pub(crate) fn parked_at(&self, place: ParkingPlace) -> Option<u64> {
        self.parking_word(place).load(Ordering::SeqCst).checked_sub(1)
    }

    /// Names a block no longer; false if it was not named there any more. SeqCst: before one more
    /// look at the block.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "a frame's number within its zone")]
    pub(crate) fn unpark(&self, place: ParkingPlace, number: u64) -> bool {
        self.parking_word(place).compare_exchange(number + 1, 0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Names a block no longer, wherever it may be named.
    pub(crate) fn unpark_anywhere(&self, order: Order, number: u64) {
        let named = self.all_parked(order).filter(|(named, _)| *named == number);
        named.for_each(|(_, place)| {
            self.unpark(place, number);
        });
    }

    /// The pageblock to try first.
    #[inline]
    pub(crate) fn next_pageblock(&self) -> PageblockId {
        PageblockId::from_index(self.hint(PAGEBLOCK) as usize)
    }

    #[inline]
    pub(crate) fn set_next_pageblock(&self, pageblock: PageblockId) {
        self.set_hint(PAGEBLOCK, pageblock.index() as u64);
    }

    /// The row that the CPU cache has reserved.
    #[inline]
    pub(crate) fn row(&self) -> Option<RowId> {
        // SeqCst: after a page was made uncoalesced; pairs with `change_row`.
        (self.words[ROW].load(Ordering::SeqCst) as usize).checked_sub(1).map(RowId::from_index)
    }

    /// Has the CPU cache reserve another row; false if it does not have `from` any more.
    /// SeqCst: what is uncoalesced in the old row is looked at after it, and in the new one it
    /// was made uncoalesced before.
    #[expect(clippy::arithmetic_side_effects, reason = "a row's number")]
    pub(crate) fn change_row(&self, from: Option<RowId>, to: Option<RowId>) -> bool {
        let [from, to] = [from, to].map(|row| row.map_or(0, |row| row.index() as u64 + 1));
        self.words[ROW].compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// The pageblock of so many from which this CPU cache looks for what it remembers nothing of.
    /// CPU caches begin far apart: 1 in the middle, 2 and 3 at the quarters, and so on.
    #[expect(clippy::arithmetic_side_effects, reason = "a product of two numbers of 64 bits")]
    pub(crate) fn first_pageblock(&self, pageblocks: usize) -> PageblockId {
        let part = (self.index as u64).reverse_bits();
        PageblockId::from_index(((u128::from(part) * pageblocks as u128) >> 64) as usize)
    }

    /// A move of pages begins; it ends when what is returned is dropped. SeqCst: before the pages
    /// are taken, and after they are where they can be found.
    pub(crate) fn move_pages(&self) -> Moving<'m, W> {
        self.words[BEGUN].fetch_add(1, Ordering::SeqCst);
        Moving { ended: &self.words[ENDED] }
    }

    /// How many moves have begun and ended. SeqCst: before and after a look for free frames.
    pub(crate) fn moves(&self) -> (u64, u64) {
        let ended = self.words[ENDED].load(Ordering::SeqCst);
        (self.words[BEGUN].load(Ordering::SeqCst), ended)
    }

    /// Notes frames handed out (or, negative, freed) through this CPU cache.
    #[inline]
    pub(crate) fn note_taken(&self, frames: i64) {
        // Relaxed: a statistic.
        self.words[TAKEN].fetch_add(frames as u64, Ordering::Relaxed);
    }

    /// Net frames handed out through this CPU cache.
    pub(crate) fn taken(&self) -> i64 {
        self.words[TAKEN].load(Ordering::Relaxed) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    #[test]
    fn no_two_parking_places_are_one_word() {
        let words = [const { AtomicU64::new(0) }; CPU_CACHE_WORDS];
        let cache = CpuCache::new(&words, 3);
        let mut all = BTreeSet::new();
        for first in [FIRST_PARKED, FIRST_OWN_PARKED] {
            for order in (1..Order::HUGE.get()).map(Order::wrap) {
                for nth in 0..PARKED_EACH {
                    let place = cache.parking_place(first, order, nth);
                    let word = place.word as usize;
                    assert_eq!((place.cache, place.is_own()), (3, first == FIRST_OWN_PARKED));
                    assert!((first..first + PARKED_ORDERS * PARKED_EACH).contains(&word) && all.insert(word));
                }
            }
        }
        assert!(!all.contains(&ANY_PARKED) && all.last() == Some(&(CPU_CACHE_WORDS - 1)));
    }

    #[test]
    fn each_order_has_depths_of_its_own() {
        let words = [const { AtomicU64::new(0) }; CPU_CACHE_WORDS];
        let cache = CpuCache::new(&words, 0);
        let orders = || (1..Order::HUGE.get()).map(Order::wrap);
        for order in orders() {
            let number = u64::from(order.get()) << 9;
            for n in 0..usize::from(order.get()) {
                assert!(cache.park(order, number + n as u64).is_some_and(|place| !place.is_own()));
                assert!(cache.park_own(order, number + n as u64).is_some_and(ParkingPlace::is_own));
            }
        }
        for order in orders() {
            let (n, number) = (usize::from(order.get()), u64::from(order.get()) << 9);
            assert_eq!((cache.parked(order), cache.own_parked(order)), (n, n));
            let named: Vec<_> = cache.all_parked(order).map(|(number, _)| number).collect();
            let expected = (0..2 * n).map(|nth| number + (nth % n) as u64);
            assert!(named.iter().copied().eq(expected), "order {order}: {named:?}");
            cache.unpark_anywhere(order, number);
            assert!(cache.all_parked(order).all(|(named, _)| named != number));
            assert_eq!(cache.all_parked(order).count(), 2 * n - 2);
        }
    }

    #[test]
    fn one_thread_at_a_time_owns_a_cpu_cache() {
        let words = [const { AtomicU64::new(0) }; CPU_CACHE_WORDS];
        let cache = CpuCache::new(&words, 0);
        assert_eq!([cache.own(), cache.own()], [true, false]);
        cache.disown();
        assert_eq!([cache.own(), cache.own()], [true, false]);
    }

    #[test]
    fn the_lowest_page_of_a_row_is_tried_first() {
        let words = [const { AtomicU64::new(0) }; CPU_CACHE_WORDS];
        let cache = CpuCache::new(&words, 0);
        cache.push_row(RowId::from_index(2), 1 << 63 | 0b1010);
        for expected in [129, 131, 191] {
            assert_eq!(cache.next_page(), Some(expected));
            cache.pop();
        }
        assert_eq!(cache.next_page(), None);
    }

    #[test]
    fn cpu_caches_begin_far_apart() {
        let words = [const { AtomicU64::new(0) }; CPU_CACHE_WORDS];
        let first = |pageblocks| {
            [0, 1, 2, 3, 4].map(|index| CpuCache::new(&words, index).first_pageblock(pageblocks).index())
        };
        assert_eq!(first(16), [0, 8, 4, 12, 2]);
        assert_eq!(first(1), [0; 5]);
        assert_eq!(first(1 << 40), [0, 4, 2, 6, 1].map(|eighths| eighths << 37));
    }
}
