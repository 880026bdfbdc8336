//! What each CPU keeps at hand: a stack of pockets with free pages, and where to look for whole areas.
//!
//! A pocket is one word: 32 bits for the free pages among 32 neighbours, and the number of that group. Taking a page
//! out and putting one in are one compare-and-swap each, and as the word says all there is to know about the pocket,
//! anybody may do it at any time: two threads that share a CPU number, one that was preempted, one that drains.
//! There is no state in between for others to wait for. Where the top of the stack is, is but a hint.

use core::sync::atomic::Ordering;

use crate::atomic::AtomicWord;

pub(crate) const SLOT_WORDS: usize = 64;

/// Hints, in the first line with the lowest pockets: the pocket used last, ...
const TOP: usize = 0;
/// ... the group of the page freed last that found no pocket, ...
const LAST: usize = 1;
/// ... and the whole area freed last, plus one.
const LAST_AREA: usize = 2;
const FIRST_POCKET: usize = 3;
const POCKETS: usize = SLOT_WORDS - 8 - FIRST_POCKET;
/// In a line of their own: net frames taken through this slot ...
const TAKEN: usize = SLOT_WORDS - 8;
/// ... and a word of the first slot that the zone uses for itself.
pub(crate) const SPARE: usize = SLOT_WORDS - 7;

const _: () = assert!(SLOT_WORDS.is_multiple_of(8), "slots are whole cache lines");

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
    /// It is in a pocket, and the pages that were there before are the caller's.
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
        Pocket(self.words[FIRST_POCKET + which].load(Ordering::Relaxed))
    }

    #[inline]
    fn change(&self, which: usize, from: Pocket, to: Pocket) -> bool {
        let word = &self.words[FIRST_POCKET + which];
        // AcqRel: what was done to the pages is before their next owner's use of them.
        word.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
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

    #[inline]
    fn top(&self) -> usize {
        (self.hint(TOP) as usize).min(POCKETS - 1)
    }

    /// A page from a pocket, the one put in last if possible.
    #[inline]
    pub(crate) fn pop(&self) -> Option<u64> {
        let top = self.top();
        self.pop_from(top).or_else(|| self.pop_below(top))
    }

    #[inline]
    fn pop_from(&self, which: usize) -> Option<u64> {
        loop {
            let seen = self.pocket(which);
            if seen.pages() == 0 {
                return None;
            }
            // The lowest bit of all is the lowest page.
            if self.change(which, seen, Pocket(seen.0 & (seen.0 - 1))) {
                return Some(seen.first() + u64::from(seen.pages().trailing_zeros()));
            }
        }
    }

    #[inline(never)]
    fn pop_below(&self, top: usize) -> Option<u64> {
        let (which, page) = (0..top).rev().find_map(|which| Some((which, self.pop_from(which)?)))?;
        self.set_hint(TOP, which as u64);
        Some(page)
    }

    /// Puts a freed page in: into the top pocket if it is of the same group, else on top of it, or, if the stack is full
    /// and the page freed before it was of the same group, in its place.
    #[inline]
    pub(crate) fn put(&self, page: u64) -> Put {
        let (group, bit) = (page / GROUP, 1 << (page % GROUP));
        let top = self.top();
        loop {
            let seen = self.pocket(top);
            if seen.group() != group {
                return self.put_above(top, seen, group, bit as u32);
            }
            if seen.0 & bit != 0 {
                return Put::AlreadyFree;
            }
            if self.change(top, seen, Pocket(seen.0 | bit)) {
                return Put::Kept;
            }
        }
    }

    #[inline(never)]
    fn put_above(&self, top: usize, at_top: Pocket, group: u64, pages: u32) -> Put {
        let Some(new) = Pocket::new(group, pages) else { return Put::Refused };
        let (mut which, mut seen) = (top, at_top);
        if seen.pages() != 0 && top + 1 < POCKETS {
            which = top + 1;
            seen = self.pocket(which);
            self.set_hint(TOP, which as u64);
        }
        if seen.pages() != 0 && self.hint(LAST) != group {
            self.set_hint(LAST, group);
            return Put::Refused;
        }
        // Who comes second here finds another way.
        match self.change(which, seen, new) {
            true if seen.pages() == 0 => Put::Kept,
            true => Put::Displaced(seen),
            false => Put::Refused,
        }
    }

    /// Puts `pages` of the group that begins at page `first` on top; false if there is no room.
    pub(crate) fn fill(&self, first: u64, pages: u32) -> bool {
        let top = self.top();
        let which = if self.pocket(top).pages() == 0 { top } else { top + 1 };
        let Some(new) = Pocket::new(first / GROUP, pages).filter(|_| which < POCKETS) else { return false };
        self.set_hint(TOP, which as u64);
        let seen = self.pocket(which);
        seen.pages() == 0 && self.change(which, seen, new)
    }

    /// Empties the pockets.
    pub(crate) fn drain(&self) -> impl Iterator<Item = Pocket> + use<'m, W> {
        let empty = |word: &W| {
            let seen = Pocket(word.load(Ordering::Relaxed));
            // AcqRel: as in `change`.
            let take = || Pocket(word.fetch_and(!u64::from(u32::MAX), Ordering::AcqRel));
            (seen.pages() != 0).then(take).filter(|taken| taken.pages() != 0)
        };
        self.words[FIRST_POCKET..][..POCKETS].iter().filter_map(empty)
    }

    /// Pages in the pockets, by a look from outside.
    pub(crate) fn cached(&self) -> u64 {
        (0..POCKETS).map(|which| u64::from(self.pocket(which).pages().count_ones())).sum()
    }

    /// The whole area freed last, if any was: perhaps it is free still.
    #[inline]
    pub(crate) fn last_area(&self) -> Option<usize> {
        (self.hint(LAST_AREA) as usize).checked_sub(1)
    }

    #[inline]
    pub(crate) fn set_last_area(&self, area: usize) {
        self.set_hint(LAST_AREA, area as u64 + 1);
    }

    /// The area of so many from which this slot looks for whole ones. Slots begin far apart: slot 1 in the middle, 2 and
    /// 3 at the quarters, and so on.
    pub(crate) fn first_area(&self, areas: usize) -> usize {
        let part = (self.index as u64).reverse_bits();
        ((u128::from(part) * areas as u128) >> 64) as usize
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
