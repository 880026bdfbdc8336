//! What each CPU keeps at hand: two pockets of free pages, and where to look for whole areas.
//!
//! A pocket is one word: 32 bits for the free pages among 32 neighbours, and the number of that group. Taking a page
//! out and putting one in are one compare-and-swap each, and as the word says all there is to know about the pocket,
//! anybody may do it at any time: two threads that share a CPU number, one that was preempted, one that drains.
//! There is no state in between for others to wait for.

use core::sync::atomic::Ordering;

use crate::atomic::AtomicWord;

/// Two cache lines: the neighbour of a line is often fetched along with it.
pub(crate) const SLOT_WORDS: usize = 16;

const POCKETS: [usize; 2] = [0, 1];
/// The pocket that pages which are freed one after the other are gathered in.
const GATHER: usize = 1;
/// Group of the page freed last that found no pocket.
const LAST: usize = 2;
/// The area to look at first for a whole one, plus one.
const NEXT_AREA: usize = 3;
const TAKEN: usize = 8;
/// A word of the first slot that the zone uses for itself.
pub(crate) const SPARE: usize = 9;

/// Pages in a group.
const GROUP: u64 = 32;

/// Free pages of one group, as a pocket holds them; page numbers count from the zone's first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pocket(u64);

impl Pocket {
    /// `None` for pages beyond 512 TiB: these have no pocket.
    #[inline]
    fn new(group: u64, pages: u32) -> Option<Self> {
        (group <= u64::from(u32::MAX)).then_some(Self(group << GROUP | u64::from(pages)))
    }

    #[inline]
    fn group(self) -> u64 {
        self.0 >> GROUP
    }

    /// The pages, as bits from the first of the group on.
    #[inline]
    pub(crate) fn pages(self) -> u32 {
        self.0 as u32
    }

    /// Number of the group's first page.
    #[inline]
    pub(crate) fn first(self) -> u64 {
        self.group() * GROUP
    }
}

/// What became of a page that was freed.
pub(crate) enum Put {
    /// It is in a pocket.
    Kept,
    /// It is in a pocket, and the pages that were there are the caller's.
    Displaced(Pocket),
    /// There is no place for it.
    Refused,
    /// It was in a pocket already.
    AlreadyFree,
}

pub(crate) struct Slot<'m, W> {
    words: &'m [W; SLOT_WORDS],
    index: usize,
}

impl<'m, W: AtomicWord> Slot<'m, W> {
    #[inline]
    pub(crate) fn new(words: &'m [W; SLOT_WORDS], index: usize) -> Self {
        Self { words, index }
    }

    #[inline]
    fn pocket(&self, which: usize) -> Pocket {
        // Relaxed: a compare-and-swap decides.
        Pocket(self.words[which].load(Ordering::Relaxed))
    }

    #[inline]
    fn change(&self, which: usize, from: Pocket, to: Pocket) -> bool {
        // AcqRel: what was done to the pages is before their next owner's use of them.
        self.words[which].compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// A page from a pocket.
    #[inline]
    pub(crate) fn pop(&self) -> Option<u64> {
        for which in POCKETS {
            loop {
                let seen = self.pocket(which);
                if seen.pages() == 0 {
                    break;
                }
                // The lowest bit of all is the lowest page.
                if self.change(which, seen, Pocket(seen.0 & (seen.0 - 1))) {
                    return Some(seen.first() + u64::from(seen.pages().trailing_zeros()));
                }
            }
        }
        None
    }

    /// Puts a freed page in: into the pocket of its group, into an empty one, or, if the page freed before it was of
    /// the same group, in place of other pages.
    #[inline]
    pub(crate) fn put(&self, page: u64) -> Put {
        let (group, bit) = (page / GROUP, 1 << (page % GROUP));
        for which in POCKETS {
            loop {
                let seen = self.pocket(which);
                if seen.group() != group {
                    break;
                }
                if seen.0 & bit != 0 {
                    return Put::AlreadyFree;
                }
                if self.change(which, seen, Pocket(seen.0 | bit)) {
                    return Put::Kept;
                }
            }
        }
        let Some(new) = Pocket::new(group, bit as u32) else { return Put::Refused };
        let seen = self.pocket(GATHER);
        // Relaxed: a hint.
        if seen.pages() != 0 && self.words[LAST].load(Ordering::Relaxed) != group {
            self.words[LAST].store(group, Ordering::Relaxed);
            return Put::Refused;
        }
        match self.change(GATHER, seen, new) {
            true if seen.pages() == 0 => Put::Kept,
            true => Put::Displaced(seen),
            false => Put::Refused,
        }
    }

    /// Fills an empty pocket with `pages` of the group that begins at page `first`; false if there is none.
    pub(crate) fn fill(&self, first: u64, pages: u32) -> bool {
        let Some(new) = Pocket::new(first / GROUP, pages) else { return false };
        POCKETS.into_iter().any(|which| {
            let seen = self.pocket(which);
            seen.pages() == 0 && self.change(which, seen, new)
        })
    }

    /// Empties the pockets.
    pub(crate) fn drain(&self) -> [Pocket; POCKETS.len()] {
        // AcqRel: as in `change`.
        POCKETS.map(|which| Pocket(self.words[which].fetch_and(!u64::from(u32::MAX), Ordering::AcqRel)))
    }

    /// Pages in the pockets, by a look from outside.
    pub(crate) fn cached(&self) -> u64 {
        POCKETS.iter().map(|which| u64::from(self.pocket(*which).pages().count_ones())).sum()
    }

    /// Which of `areas` to look at first for a whole one. Slots begin far apart.
    #[inline]
    pub(crate) fn next_area(&self, areas: usize) -> usize {
        // Relaxed: a hint.
        match self.words[NEXT_AREA].load(Ordering::Relaxed) {
            0 => {
                // Slot 1 in the middle, 2 and 3 at the quarters, and so on.
                let part = (self.index as u64).reverse_bits();
                ((u128::from(part) * areas as u128) >> 64) as usize
            }
            next => next as usize - 1,
        }
    }

    /// The next whole area had best be this one.
    #[inline]
    pub(crate) fn set_next_area(&self, area: usize) {
        self.words[NEXT_AREA].store(area as u64 + 1, Ordering::Relaxed);
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
}
