//! What each CPU remembers: the pages it freed lately, the pageblock it is likely to get next, and
//! the row of pages it looks through.
//!
//! A per-CPU list of pages (the kernel's pcp list, a magazine), made of hints and one duty. The
//! hints may be wrong, as the words of the frames decide: a stack of pages that may be uncoalesced,
//! of which the oldest fall out at the bottom. The duty: a CPU cache that names a row has the
//! uncoalesced pages in it reserved, so that no hint has to lead to them. The thread that makes a
//! CPU cache name another row sees to that for what is left in the one before. Any thread may do it
//! at any time: two threads that share a CPU number, one that was preempted, one that drains.

use core::sync::atomic::Ordering;

use crate::atomic::AtomicWord;

use super::ids::{PageblockId, Place, RowId};

/// Words of a CPU cache.
pub(crate) const CPU_CACHE_WORDS: usize = FIRST_PLACE + PLACES;

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
/// The stack, around at its end: page numbers plus one, and zeros where nothing is.
const FIRST_PLACE: usize = 16;
const PLACES: usize = 128;

const _: () = assert!(CPU_CACHE_WORDS.is_multiple_of(8), "CPU caches are whole cache lines");

/// What one CPU remembers. Page numbers count from the zone's first.
#[doc(alias = "pcp")]
#[doc(alias = "magazine")]
pub(crate) struct CpuCache<'m, W> {
    words: &'m [W; CPU_CACHE_WORDS],
    index: usize,
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
    fn hint(&self, which: usize) -> u64 {
        // Relaxed: nothing but speed depends on it.
        self.words[which].load(Ordering::Relaxed)
    }

    #[inline]
    fn set_hint(&self, which: usize, value: u64) {
        // Relaxed: as in `hint`.
        self.words[which].store(value, Ordering::Relaxed);
    }

    /// The place at the top of the stack, or one above it.
    #[inline]
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
    pub(crate) fn push(&self, number: u64) {
        let top = self.hint(TOP).wrapping_add(1);
        self.set_hint(Self::place(top), number + 1);
        self.set_hint(TOP, top);
    }

    /// Some pages of a row are uncoalesced: the lowest is to be tried first.
    pub(crate) fn push_row(&self, row: RowId, pages: u64) {
        let mut rest = pages;
        while let Some(highest) = rest.checked_ilog2() {
            self.push(row.first_frame() + u64::from(highest));
            rest ^= 1 << highest;
        }
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
    pub(crate) fn change_row(&self, from: Option<RowId>, to: Option<RowId>) -> bool {
        let [from, to] = [from, to].map(|row| row.map_or(0, |row| row.index() as u64 + 1));
        self.words[ROW].compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// The pageblock of so many from which this CPU cache looks for what it remembers nothing of.
    /// CPU caches begin far apart: 1 in the middle, 2 and 3 at the quarters, and so on.
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
