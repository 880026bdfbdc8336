//! The shared store of free frames: areas with their bits and counts, found through the summaries.
//!
//! Small blocks come from the lowest partly used area that has a run, and only then is a whole area broken; so
//! whole areas stay whole. All operations are lock-free: a loop goes round only because somebody else's operation
//! succeeded.

use crate::atomic::AtomicWord;
use crate::frame::{AREA_FRAMES, FrameRange, Order, Pfn};

use super::area::{Area, AreaCount, Claim};
use super::layout::ZoneLayout;
use super::tree::{Find, Tree};

/// A block taken from the store, and whether its words have to be put to rest first.
pub(crate) struct Taken {
    pub(crate) head: Pfn,
    pub(crate) touched: bool,
}

/// Whether the words of an area taken whole are not all at rest.
#[derive(Clone, Copy)]
pub(crate) struct Touched(bool);

pub(crate) struct Store<'m, W> {
    base: Pfn,
    areas: usize,
    bits: &'m [W],
    counts: &'m [W],
    /// Areas of which some frames are used and some are free.
    partial: Tree<'m, W>,
    /// Areas of which any frame is used.
    broken: Tree<'m, W>,
}

impl<'m, W: AtomicWord> Store<'m, W> {
    pub(crate) fn new(layout: &ZoneLayout<'_>, words: &'m [W]) -> Self {
        let areas = layout.areas();
        Self {
            base: layout.base(),
            areas,
            bits: &words[..layout.counters_at()],
            counts: &words[layout.counters_at()..layout.partial_at()],
            partial: Tree::new(&words[layout.partial_at()..layout.broken_at()], areas, Find::One),
            broken: Tree::new(&words[layout.broken_at()..layout.slots_at()], areas, Find::Zero),
        }
    }

    pub(crate) fn area(&self, index: usize) -> Area<'m, W> {
        Area { bits: &self.bits[index * 8..][..8], count: &self.counts[index] }
    }

    pub(crate) fn areas(&self) -> usize {
        self.areas
    }

    pub(crate) fn first_frame(&self, area: usize) -> Pfn {
        self.base.offset((area * AREA_FRAMES) as u64)
    }

    pub(crate) fn span(&self) -> FrameRange {
        FrameRange::new(self.base, (self.areas * AREA_FRAMES) as u64)
    }

    fn index_of(&self, frame: Pfn) -> (usize, usize) {
        let offset = (frame.get() - self.base.get()) as usize;
        (offset / AREA_FRAMES, offset % AREA_FRAMES)
    }

    /// Brings the summaries up to date after the count of an area moved away from `before`.
    fn note(&self, area: usize, before: AreaCount) {
        let count = || self.area(area).count();
        let now = count();
        if now.is_partial() != before.is_partial() {
            self.partial.follow(area, || count().is_partial());
        }
        if (now.used() > 0) != (before.used() > 0) {
            self.broken.follow(area, || count().used() > 0);
        }
    }

    /// The same where the count may have come back to where it was: looks regardless.
    fn note_anyway(&self, area: usize) {
        let count = || self.area(area).count();
        self.partial.follow(area, || count().is_partial());
        self.broken.follow(area, || count().used() > 0);
    }

    /// The summaries' part of a claim.
    fn noted<T>(&self, area: usize, claim: Claim<T>) -> Option<T> {
        match claim {
            Claim::Got(claimed, before) => {
                match before {
                    Some(before) => self.note(area, before),
                    None => self.note_anyway(area),
                }
                Some(claimed)
            }
            Claim::Full => None,
            Claim::Cancelled => {
                self.note_anyway(area);
                None
            }
        }
    }

    /// A free block of `order`.
    pub(crate) fn take(&self, order: Order) -> Option<Taken> {
        match order.get() {
            0..=8 => self.take_small(order),
            9 => self.take_area(),
            _ => self.take_large(order),
        }
    }

    fn take_small(&self, order: Order) -> Option<Taken> {
        let claim = |area: usize, thorough| {
            let index = self.noted(area, self.area(area).claim(order, thorough))?;
            Some(Taken { head: self.first_frame(area).offset(index as u64), touched: false })
        };
        self.each(&self.partial)
            .find_map(|area| claim(area, false))
            .or_else(|| self.each(&self.broken).find_map(|area| claim(area, false)))
            // Before giving up: without the summaries, which may lag behind a free under way.
            .or_else(|| (0..self.areas).find_map(|area| claim(area, true)))
    }

    /// Up to `want` single pages, handed to `give`.
    pub(crate) fn take_pages(&self, want: usize, mut give: impl FnMut(Pfn)) -> usize {
        let mut got = 0;
        let areas = self.each(&self.partial).chain(self.each(&self.broken)).chain(0..self.areas);
        for area in areas {
            while got < want
                && let Some((word, mut bits)) =
                    self.noted(area, self.area(area).claim_batch((want - got) as u32))
            {
                while bits != 0 {
                    let index = word * 64 + bits.trailing_zeros() as usize;
                    give(self.first_frame(area).offset(index as u64));
                    bits &= bits - 1;
                    got += 1;
                }
            }
            if got > 0 {
                break;
            }
        }
        got
    }

    fn take_area(&self) -> Option<Taken> {
        self.each(&self.broken).chain(0..self.areas).find_map(|area| {
            let touched = self.claim_whole(area)?;
            Some(Taken { head: self.first_frame(area), touched })
        })
    }

    fn claim_whole(&self, area: usize) -> Option<bool> {
        let touched = self.area(area).claim_whole()?;
        self.broken.follow(area, || self.area(area).count().used() > 0);
        Some(touched)
    }

    /// Takes a wholly free area; `None` if it is not.
    pub(crate) fn claim_area(&self, area: usize) -> Option<Touched> {
        self.claim_whole(area).map(Touched)
    }

    /// Gives back a whole area of which nothing was done to its words. Errs with a frame that was free already.
    pub(crate) fn give_area(&self, first: Pfn, touched: Touched) -> Result<(), Pfn> {
        // As single frames it counts as touched, which it then must go on doing.
        if touched.0 { self.give_frames(first, &[!0; 8]) } else { self.give(first, Order::HUGE) }
    }

    /// Takes those frames of an area that are free and wanted.
    pub(crate) fn claim_frames(&self, area: usize, wanted: &[u64; 8]) -> [u64; 8] {
        core::array::from_fn(|word| {
            self.noted(area, self.area(area).claim_some(word, wanted[word])).unwrap_or(0)
        })
    }

    /// A naturally aligned row of whole areas.
    fn take_large(&self, order: Order) -> Option<Taken> {
        let n = (order.frames() / AREA_FRAMES as u64) as usize;
        let misaligned = (self.base.get() / AREA_FRAMES as u64) as usize % n;
        let first = if misaligned == 0 { 0 } else { n - misaligned };
        (first..self.areas).step_by(n).filter(|row| row + n <= self.areas).find_map(|row| {
            if (row..row + n).any(|area| self.area(area).count().used() > 0) {
                return None;
            }
            let mut touched = false;
            for area in row..row + n {
                match self.claim_whole(area) {
                    Some(one) => touched |= one,
                    None => {
                        for taken in row..area {
                            // Nobody else gives back what was just taken, so this can't err.
                            let _ = self.give_area(self.first_frame(taken), Touched(touched));
                        }
                        return None;
                    }
                }
            }
            Some(Taken { head: self.first_frame(row), touched })
        })
    }

    fn give_whole(&self, area: usize) -> bool {
        let given = self.area(area).release_whole();
        if given {
            self.broken.follow(area, || self.area(area).count().used() > 0);
        }
        given
    }

    /// Takes a block back. Errs with a frame of it that was free already.
    pub(crate) fn give(&self, head: Pfn, order: Order) -> Result<(), Pfn> {
        let (area, index) = self.index_of(head);
        if order >= Order::HUGE {
            let n = (order.frames() / AREA_FRAMES as u64) as usize;
            return match (area..area + n).find(|area| !self.give_whole(*area)) {
                Some(area) => Err(self.first_frame(area)),
                None => Ok(()),
            };
        }
        if order.get() < 6 {
            let run = (!0u64 >> (64 - order.frames())) << (index % 64);
            return self.give_bits(area, index / 64, run);
        }
        let first = index / 64;
        (first..first + (order.frames() / 64) as usize).try_for_each(|word| self.give_bits(area, word, !0))
    }

    /// Takes back some frames of one area.
    pub(crate) fn give_frames(&self, area: Pfn, frames: &[u64; 8]) -> Result<(), Pfn> {
        let (area, _) = self.index_of(area);
        (0..8).filter(|word| frames[*word] != 0).try_for_each(|word| self.give_bits(area, word, frames[word]))
    }

    fn give_bits(&self, area: usize, word: usize, mask: u64) -> Result<(), Pfn> {
        match self.area(area).release(word, mask) {
            Ok(before) => {
                self.note(area, before);
                Ok(())
            }
            Err(free) => {
                Err(self.first_frame(area).offset(word as u64 * 64 + u64::from(free.trailing_zeros())))
            }
        }
    }

    /// Takes one particular free frame; false if it is not free in the store.
    pub(crate) fn take_frame(&self, frame: Pfn) -> bool {
        let (area, index) = self.index_of(frame);
        let taken = self.area(area).claim_frame(index);
        self.note_anyway(area);
        taken
    }

    /// Keeps an area out of service. Before the zone is shared.
    pub(crate) fn withhold_area(&self, area: usize) {
        self.area(area).withhold();
        self.note_anyway(area);
    }

    pub(crate) fn is_withheld(&self, frame: Pfn) -> bool {
        self.area(self.index_of(frame).0).count().is_withheld()
    }

    pub(crate) fn is_used(&self, frame: Pfn) -> bool {
        let (area, index) = self.index_of(frame);
        let word = &self.area(area).bits[index / 64];
        word.load(core::sync::atomic::Ordering::Acquire) >> (index % 64) & 1 != 0
    }

    /// Free frames and whole free areas, by adding up all counts.
    pub(crate) fn free(&self) -> (u64, u64) {
        (0..self.areas).fold((0, 0), |(frames, whole), area| {
            let used = self.area(area).count().used();
            (frames + (AREA_FRAMES - used) as u64, whole + u64::from(used == 0))
        })
    }

    /// Whether both summaries say of an area what its count says.
    pub(crate) fn summaries_agree(&self, area: usize) -> bool {
        let count = self.area(area).count();
        self.partial.get(area) == count.is_partial() && self.broken.get(area) == (count.used() > 0)
    }

    fn each<'t>(&'t self, tree: &'t Tree<'m, W>) -> impl Iterator<Item = usize> + 't {
        let mut from = 0;
        core::iter::from_fn(move || {
            let found = tree.next(from)?;
            from = found + 1;
            Some(found)
        })
    }
}
