//! A per-CPU cache of single free pages.
//!
//! Entered by one try: whoever finds it busy (another thread on the same CPU number, a preempted one) goes to the
//! store instead, so nobody ever waits for it. Inside, plain Relaxed accesses do; entering Acquires what leaving
//! Released.

use core::sync::atomic::Ordering;

use crate::atomic::AtomicWord;
use crate::frame::Pfn;

/// Pages a slot holds at most.
pub(crate) const SLOT_PAGES: usize = 112;
/// Pages moved between a slot and the store at a time.
pub(crate) const SLOT_BATCH: usize = 48;
const HEADER: usize = 8;
pub(crate) const SLOT_WORDS: usize = HEADER + SLOT_PAGES;

const BUSY: usize = 0;
const LEN: usize = 1;
const TAKEN: usize = 2;
/// A word of the first slot that the zone uses for itself.
pub(crate) const SPARE: usize = 3;

const _: () = assert!(SLOT_WORDS.is_multiple_of(8), "slots are whole cache lines");
const _: () = assert!(SLOT_BATCH * 2 < SLOT_PAGES, "a spill leaves room for the next refill");

pub(crate) struct Slot<'m, W> {
    pub(crate) words: &'m [W],
}

/// A slot that this thread is inside of.
pub(crate) struct Entered<'s, W: AtomicWord> {
    words: &'s [W],
}

impl<'m, W: AtomicWord> Slot<'m, W> {
    /// Goes in, unless somebody is inside.
    #[inline]
    pub(crate) fn enter(&self) -> Option<Entered<'m, W>> {
        // Acquire: pairs with the Release of leaving.
        let free = self.words[BUSY].compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok();
        // Lazily: an `Entered` that is made and dropped would let others in.
        free.then(|| Entered { words: self.words })
    }

    /// Notes frames taken from (or, negative, given back to) the store through this slot.
    #[inline]
    pub(crate) fn note_taken(&self, frames: i64) {
        // Relaxed: a statistic.
        self.words[TAKEN].fetch_add(frames as u64, Ordering::Relaxed);
    }

    /// Net frames taken through this slot.
    pub(crate) fn taken(&self) -> i64 {
        self.words[TAKEN].load(Ordering::Relaxed) as i64
    }

    /// Pages in the cache, by a look from outside.
    pub(crate) fn cached(&self) -> u64 {
        self.words[LEN].load(Ordering::Relaxed)
    }
}

impl<W: AtomicWord> Entered<'_, W> {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.words[LEN].load(Ordering::Relaxed) as usize
    }

    /// The page put in last.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Pfn> {
        let len = self.len().checked_sub(1)?;
        self.words[LEN].store(len as u64, Ordering::Relaxed);
        Some(Pfn::new(self.words[HEADER + len].load(Ordering::Relaxed)))
    }

    /// Puts a page in; false if there is no room.
    #[inline]
    pub(crate) fn push(&mut self, page: Pfn) -> bool {
        let len = self.len();
        if len == SLOT_PAGES {
            return false;
        }
        self.words[HEADER + len].store(page.get(), Ordering::Relaxed);
        self.words[LEN].store(len as u64 + 1, Ordering::Relaxed);
        true
    }

    /// Takes out the page that has been in longest.
    pub(crate) fn take_oldest(&mut self, n: usize, mut give: impl FnMut(Pfn)) {
        let len = self.len();
        let n = n.min(len);
        for i in 0..n {
            give(Pfn::new(self.words[HEADER + i].load(Ordering::Relaxed)));
        }
        for i in n..len {
            let page = self.words[HEADER + i].load(Ordering::Relaxed);
            self.words[HEADER + i - n].store(page, Ordering::Relaxed);
        }
        self.words[LEN].store((len - n) as u64, Ordering::Relaxed);
    }
}

impl<W: AtomicWord> Drop for Entered<'_, W> {
    #[inline]
    fn drop(&mut self) {
        // Release: pairs with the Acquire of the next to enter.
        self.words[BUSY].store(0, Ordering::Release);
    }
}
