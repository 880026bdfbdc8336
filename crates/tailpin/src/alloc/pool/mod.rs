//! The shared pool of free frames: pageblocks, found through hints.
//!
//! Each word of 64 frames that is out is hinted at by the order of its largest free run, 0 to 5,
//! and each pageblock by the largest run of whole rows, 6 to 9; where a request fits [best](fit) is
//! found by that. All operations are lock-free: a loop goes round only because another thread's
//! operation succeeded.

mod fit;

use crate::atomic::AtomicWord;
use crate::frame::{AREA_FRAMES, FrameRange, Order, Pfn};

use crate::alloc::hint_bitmap::{Hint, HintBitmap};
use crate::alloc::layout::ZoneLayout;
use crate::alloc::pageblock::{ALL_WORDS, AREA_WORDS, Change, Given, Pageblock, RowMap, WORD_ORDER};
use crate::alloc::run_index::{Kind, RunIndex, Sparse};
use crate::alloc::runs::{largest, run};

/// A block taken from the pool, and whether its words have to be put to rest first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) head: Pfn,
    pub(crate) needs_scrub: bool,
}

impl Taken {
    #[inline]
    pub(crate) fn scrubbed(head: Pfn) -> Self {
        Self { head, needs_scrub: false }
    }
}

#[doc(alias = "free list")]
#[doc(alias = "buddy")]
pub(crate) struct Pool<'m, W> {
    base: Pfn,
    areas: usize,
    bits: &'m [[W; AREA_WORDS]],
    homes: &'m [W],
    filled: RunIndex<'m, W>,
    sparse: RunIndex<'m, W>,
    is_sparse: Sparse<'m, W>,
    /// Whole pageblocks.
    whole: HintBitmap<'m, W>,
}

/// Words of metadata for all hints over so many pageblocks.
pub(super) const fn hint_words<W: AtomicWord>(areas: usize) -> usize {
    2 * RunIndex::<W>::words(areas) + Sparse::<W>::words(areas) + HintBitmap::<W>::words(areas)
}

impl<'m, W: AtomicWord> Pool<'m, W> {
    pub(crate) fn new(layout: &ZoneLayout<'_>, words: &'m [W]) -> Self {
        let areas = layout.areas();
        let mut rest = &words[layout.hints_at()..layout.uncoalesced_at()];
        let mut part = |words: usize| {
            let (part, others) = rest.split_at(words);
            rest = others;
            part
        };
        Self {
            base: layout.base(),
            areas,
            bits: words[..layout.homes_at()].as_chunks().0,
            homes: &words[layout.homes_at()..layout.hints_at()],
            filled: RunIndex::new(part(RunIndex::<W>::words(areas)), areas),
            sparse: RunIndex::new(part(RunIndex::<W>::words(areas)), areas),
            is_sparse: Sparse::new(part(Sparse::<W>::words(areas))),
            // Zero-filled memory says that all pageblocks are whole.
            whole: HintBitmap::new(part(HintBitmap::<W>::words(areas)), areas, Hint::Zero),
        }
    }

    /// Completes zero-filled words.
    pub(crate) fn begin(&self) {
        self.whole.begin();
    }

    #[inline]
    pub(crate) fn area(&self, index: usize) -> Pageblock<'m, W> {
        Pageblock { bits: &self.bits[index], home: &self.homes[index] }
    }

    pub(crate) fn areas(&self) -> usize {
        self.areas
    }

    /// The next pageblock, around at the end.
    #[inline]
    pub(crate) fn area_after(&self, area: usize) -> usize {
        if area + 1 < self.areas { area + 1 } else { 0 }
    }

    #[inline]
    pub(crate) fn first_frame(&self, area: usize) -> Pfn {
        self.frame((area * AREA_FRAMES) as u64)
    }

    /// The frame with this number, counted from the zone's first.
    #[inline]
    pub(crate) fn frame(&self, number: u64) -> Pfn {
        self.base.offset(number)
    }

    /// Number of a frame, counted from the zone's first.
    #[inline]
    pub(crate) fn number(&self, frame: Pfn) -> u64 {
        frame.get() - self.base.get()
    }

    /// The pageblock that a frame lies in.
    #[inline]
    pub(crate) fn area_of(&self, frame: Pfn) -> usize {
        self.number(frame) as usize / AREA_FRAMES
    }

    pub(crate) fn span(&self) -> FrameRange {
        FrameRange::new(self.base, (self.areas * AREA_FRAMES) as u64)
    }

    /// Free frames of a word that is out; words are numbered through all pageblocks.
    #[inline]
    fn free_in(&self, word: usize) -> u64 {
        self.area(word / AREA_WORDS).free(word % AREA_WORDS)
    }

    #[inline]
    fn shelf(&self, kind: Kind) -> &RunIndex<'m, W> {
        match kind {
            Kind::Filled => &self.filled,
            Kind::Sparse => &self.sparse,
        }
    }

    fn shelves(&self) -> impl Iterator<Item = &RunIndex<'m, W>> {
        Kind::ALL.into_iter().map(|kind| self.shelf(kind))
    }

    /// Whether few frames of a pageblock are in use. A hint.
    #[inline]
    pub(crate) fn is_sparse(&self, area: usize) -> bool {
        self.is_sparse.is(area)
    }

    #[inline]
    fn kind(&self, area: usize) -> Kind {
        if self.is_sparse(area) { Kind::Sparse } else { Kind::Filled }
    }

    /// Hints at a word whose free frames are these now. Whether the hint is there already is one
    /// load, less than to work out whether it must be.
    #[inline]
    fn word_changed(&self, word: usize, free: u64) {
        let area = word / AREA_WORDS;
        self.area_changed(area);
        if let Some(order) = largest(free) {
            self.shelf(self.kind(area)).words_with(order).mark(word);
        }
    }

    /// Hints at a pageblock whose home changed.
    #[inline]
    fn home_changed(&self, area: usize, change: Change) {
        self.area_changed(area);
        let now = change.to.largest();
        if now != change.from.largest() {
            self.hint_at_home(area, self.kind(area), now);
        }
    }

    #[inline]
    fn hint_at_home(&self, area: usize, kind: Kind, largest: Option<Order>) {
        match largest {
            Some(Order::HUGE) => self.whole.mark(area),
            Some(order) => self.shelf(kind).areas_with(order).mark(area),
            None => {}
        }
    }

    /// Sees whether a pageblock has become sparse or is no longer. What is hinted at on the wrong
    /// run index is moved by who finds it on the first one, but on the second one no thread may
    /// look for long: so it is hinted at anew.
    #[inline]
    fn area_changed(&self, area: usize) {
        let sparse = self.area(area).is_sparse();
        if self.is_sparse.changed_to(area, sparse) && !sparse {
            self.hint_at_all(area);
        }
    }

    #[inline(never)]
    fn hint_at_all(&self, area: usize) {
        for word in area * AREA_WORDS..(area + 1) * AREA_WORDS {
            if let Some(order) = largest(self.free_in(word)) {
                self.filled.words_with(order).mark(word);
            }
        }
        self.hint_at_home(area, Kind::Filled, self.area(area).home().largest());
    }

    /// A whole pageblock: the first from `from` on, else the first of all. Not simply the next one
    /// each time: the page words of pageblocks that were never used are memory that was never
    /// needs_scrub.
    pub(crate) fn take_area(&self, from: usize) -> Option<Taken> {
        let worth = |area: usize| self.area(area).home().is_whole();
        let search = |from| self.whole.search(from, worth, |area| self.try_area(area));
        let found = search(from).or_else(|| search(0)).or_else(|| {
            // Before giving up: as in `take_frames`.
            (0..self.areas).find_map(|area| self.try_area(area))
        });
        found.map(|(area, taken)| {
            self.whole.clear(area, || worth(area));
            taken
        })
    }

    #[inline]
    fn try_area(&self, area: usize) -> Option<(usize, Taken)> {
        let needs_scrub = self.claim_area(area)?;
        Some((area, Taken { head: self.first_frame(area), needs_scrub }))
    }

    #[inline]
    pub(crate) fn claim_area(&self, area: usize) -> Option<bool> {
        let all = |home: RowMap| home.is_whole().then_some(ALL_WORDS);
        self.area(area).take_words(all).map(|(_, change)| change.from.is_touched())
    }

    /// Takes back a pageblock that [`claim_area`](Self::claim_area) returned, as it was then. Words
    /// that is restored in two parts say by themselves that they are not at rest.
    pub(crate) fn unclaim_area(&self, area: usize, needs_scrub: bool) -> Result<(), Pfn> {
        const HALF: u64 = ALL_WORDS >> (AREA_WORDS / 2);
        let parts: &[u64] = if needs_scrub { &[HALF, ALL_WORDS ^ HALF] } else { &[ALL_WORDS] };
        parts.iter().try_for_each(|words| self.give_words(area, *words))
    }

    /// A naturally aligned row of whole pageblocks. `given_back` hears of each pageblock that was
    /// taken for nothing.
    pub(crate) fn take_row(&self, order: Order, given_back: impl Fn(usize)) -> Option<Taken> {
        let n = (order.frames() / AREA_FRAMES as u64) as usize;
        let misaligned = (self.base.get() / AREA_FRAMES as u64) as usize % n;
        let first = if misaligned == 0 { 0 } else { n - misaligned };
        (first..self.areas).step_by(n).filter(|row| row + n <= self.areas).find_map(|row| {
            if (row..row + n).any(|area| !self.area(area).home().is_whole()) {
                return None;
            }
            let mut needs_scrub = false;
            for area in row..row + n {
                match self.claim_area(area) {
                    Some(one) => needs_scrub |= one,
                    None => {
                        // Cannot fail: these pageblocks were taken whole just now. If one was
                        // needs_scrub, all are said to be.
                        let _ = (row..area).try_for_each(|taken| self.unclaim_area(taken, needs_scrub));
                        (row..area).for_each(&given_back);
                        return None;
                    }
                }
            }
            Some(Taken { head: self.first_frame(row), needs_scrub })
        })
    }

    /// Takes a block back. Errs with a frame of it that was free already.
    #[inline]
    pub(crate) fn give(&self, head: Pfn, order: Order) -> Result<(), Pfn> {
        let number = self.number(head) as usize;
        if order < WORD_ORDER {
            return self.give_frames(number / 64, run(order, (number % 64) as u32));
        }
        let area = number / AREA_FRAMES;
        if order >= Order::HUGE {
            let n = (order.frames() / AREA_FRAMES as u64) as usize;
            return (area..area + n).try_for_each(|area| self.give_whole(area));
        }
        let order = Order::wrap(order.get() - WORD_ORDER.get());
        self.give_words(area, run(order, (number % AREA_FRAMES / 64) as u32))
    }

    /// Takes back some frames of one pageblock.
    pub(crate) fn give_area(&self, area: Pfn, frames: &[u64; AREA_WORDS]) -> Result<(), Pfn> {
        let first = self.area_of(area) * AREA_WORDS;
        (0..AREA_WORDS)
            .filter(|word| frames[*word] != 0)
            .try_for_each(|word| self.give_frames(first + word, frames[word]))
    }

    /// Takes back frames of one word; words are numbered through all pageblocks.
    #[inline]
    pub(crate) fn give_frames(&self, word: usize, frames: u64) -> Result<(), Pfn> {
        let (area, within) = (word / AREA_WORDS, word % AREA_WORDS);
        match self.area(area).give(within, frames) {
            Ok(Given::Out(free)) => {
                self.word_changed(word, free);
                Ok(())
            }
            Ok(Given::Complete) => self.give_words(area, 1 << within),
            Err(free) => Err(self.frame(word as u64 * 64 + u64::from(free.trailing_zeros()))),
        }
    }

    /// Takes back a whole pageblock.
    #[inline]
    pub(crate) fn give_whole(&self, area: usize) -> Result<(), Pfn> {
        self.area(area).give_all().map_err(|error| self.free_already(area, error))?;
        self.whole.mark(area);
        Ok(())
    }

    fn give_words(&self, area: usize, words: u64) -> Result<(), Pfn> {
        let change = self.area(area).give_words(words).map_err(|error| self.free_already(area, error))?;
        self.home_changed(area, change);
        Ok(())
    }

    /// The first frame of these, of a word of this pageblock.
    #[cold]
    fn free_already(&self, area: usize, (word, frames): (usize, u64)) -> Pfn {
        self.frame(((area * AREA_WORDS + word) * 64) as u64 + u64::from(frames.trailing_zeros()))
    }

    /// Takes one particular free frame; false if it is not free in the pool.
    pub(crate) fn take_frame(&self, frame: Pfn) -> bool {
        let number = self.number(frame) as usize;
        self.take_wanted(number / 64, 1 << (number % 64)) != 0
    }

    /// Takes those frames of a pageblock that are free in the pool and wanted.
    pub(crate) fn take_all_wanted(&self, area: usize, wanted: &[u64; AREA_WORDS]) -> [u64; AREA_WORDS] {
        core::array::from_fn(|word| match wanted[word] {
            0 => 0,
            frames => self.take_wanted(area * AREA_WORDS + word, frames),
        })
    }

    /// Takes those frames of a word that are free and wanted.
    fn take_wanted(&self, word: usize, wanted: u64) -> u64 {
        let area = self.area(word / AREA_WORDS);
        // Of a word that is whole, the other frames go out with it.
        let own = 1 << (word % AREA_WORDS);
        if let Some((_, change)) = area.take_words(|home| (home.inside() & own != 0).then_some(own)) {
            self.home_changed(word / AREA_WORDS, change);
            self.offer(word, !wanted);
            return wanted;
        }
        let select = |free| Some(free & wanted).filter(|taken| *taken != 0);
        let Some((taken, left)) = area.claim(word % AREA_WORDS, select) else {
            return 0;
        };
        self.word_changed(word, left);
        taken
    }

    /// Whether a frame of a pageblock waits to leave service. SeqCst: after frames of it changed
    /// hands.
    #[inline]
    pub(crate) fn has_waiting(&self, area: usize) -> bool {
        self.area(area).home().has_waiting()
    }

    /// The frames of a pageblock that wait to leave service.
    pub(crate) fn waiting(&self, area: usize) -> impl Iterator<Item = Pfn> {
        let first = self.first_frame(area);
        self.area(area).home().waiting().map(move |frame| first.offset(frame))
    }

    /// Notes that a frame waits to leave service; false if too many of its pageblock do already.
    pub(crate) fn await_frame(&self, frame: Pfn) -> bool {
        self.area(self.area_of(frame)).await_frame(self.number(frame) % AREA_FRAMES as u64)
    }

    /// A frame waits no longer.
    pub(crate) fn forget_frame(&self, frame: Pfn) {
        self.area(self.area_of(frame)).forget_frame(self.number(frame) % AREA_FRAMES as u64);
    }

    /// Keeps a pageblock out of service. Before the zone is shared.
    pub(crate) fn withhold_area(&self, area: usize) {
        self.area(area).withhold();
        self.whole.clear(area, || false);
    }

    pub(crate) fn is_withheld(&self, frame: Pfn) -> bool {
        self.area(self.area_of(frame)).home().is_withheld()
    }

    /// Whether a frame is not free in the pool: in use, uncoalesced or out of service.
    pub(crate) fn is_used(&self, frame: Pfn) -> bool {
        let number = self.number(frame) as usize;
        let (area, word) = (self.area(number / AREA_FRAMES), number % AREA_FRAMES / 64);
        area.home().inside() >> word & 1 == 0 && area.free(word) >> (number % 64) & 1 == 0
    }

    /// Free frames of a pageblock, by adding up its words.
    pub(crate) fn free_in_area(&self, area: usize) -> u64 {
        let area = self.area(area);
        let home = area.home();
        // Of words that are in, the bits are not looked at: memory that was never used stays so.
        let out = |word: &usize| home.inside() >> word & 1 == 0;
        let out: u32 = (0..AREA_WORDS).filter(out).map(|word| area.free(word).count_ones()).sum();
        u64::from(home.inside().count_ones() * 64 + out)
    }

    pub(crate) fn free_frames(&self) -> u64 {
        (0..self.areas).map(|area| self.free_in_area(area)).sum()
    }

    /// Pageblocks that are wholly free.
    pub(crate) fn free_areas(&self) -> u64 {
        (0..self.areas).filter(|area| self.area(*area).home().is_whole()).count() as u64
    }

    /// What is wrong with a pageblock at a quiet moment, if anything.
    pub(crate) fn fault(&self, index: usize) -> Option<&'static str> {
        let area = self.area(index);
        let home = area.home();
        for word in 0..AREA_WORDS {
            let free = area.free(word);
            if home.inside() >> word & 1 != 0 && free != 0 {
                return Some("frames are free twice: with their area and by themselves");
            }
            if free == !0 {
                return Some("a word of free frames did not go home");
            }
            let at = index * AREA_WORDS + word;
            let leads = |order| self.shelves().any(|shelf| shelf.words_with(order).leads_to(at));
            if largest(free).is_some_and(|order| !leads(order)) {
                return Some("no hint leads to free frames");
            }
        }
        let leads = |order| match order {
            Order::HUGE => self.whole.leads_to(index),
            _ => self.shelves().any(|shelf| shelf.areas_with(order).leads_to(index)),
        };
        let lost = home.largest().is_some_and(|order| !leads(order));
        lost.then_some("no hint leads to the area")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;
    use std::vec::Vec;

    fn on_three_areas(test: impl FnOnce(&Pool<'_, AtomicU64>)) {
        let ranges = [FrameRange::new(Pfn::new(1024), 3 * 512)];
        let layout = ZoneLayout::new(&ranges, 1).unwrap();
        let words: Vec<_> = (0..layout.area_words()).map(|_| AtomicU64::new(0)).collect();
        let pool = Pool::new(&layout, &words);
        pool.begin();
        test(&pool);
    }

    #[test]
    fn a_block_that_is_free_already_is_told_by_its_first_free_frame() {
        on_three_areas(|store| {
            let give = |frame, order| store.give(Pfn::new(frame), Order::wrap(order));
            for (head, order) in [(1536, 9), (1664, 7), (1728, 6), (1541, 0), (1608, 3)] {
                assert_eq!(give(head, order), Err(Pfn::new(head)));
            }
            assert!(store.take_frame(Pfn::new(1600)));
            for (head, order) in [(1600, 1), (1600, 6), (1536, 7), (1536, 9)] {
                assert_eq!(give(head, order), Err(Pfn::new(1601)));
            }
            assert_eq!((give(1600, 0), store.free_frames()), (Ok(()), 3 * 512));
            assert_eq!(give(1600, 0), Err(Pfn::new(1600)));
        });
    }

    #[test]
    fn the_area_after_the_last_is_the_first() {
        on_three_areas(|store| assert_eq!([0, 1, 2].map(|area| store.area_after(area)), [1, 2, 0]));
    }
}
