//! The shared pool of free frames: pageblocks, found through hints.
//!
//! Each row that is out is hinted at by the order of its largest free run, 0 to 5, and each
//! pageblock by the largest run of whole rows, 6 to 9; where a request fits [best](fit) is found by
//! that. All operations are lock-free: a loop goes round only because another thread's operation
//! succeeded.

mod fit;
mod likely;

use crate::atomic::AtomicWord;
use crate::frame::{FrameRange, Order, PAGEBLOCK_FRAMES, Pfn};
use crate::frame_mask::FrameMask;

use crate::alloc::hint_bitmap::{Hint, HintBitmap};
use crate::alloc::ids::{PAGEBLOCK_ROWS, PageblockId, Place, ROW_FRAMES, RowId};
use crate::alloc::layout::ZoneLayout;
use crate::alloc::pageblock::{ALL_ROWS, Change, Given, Pageblock, RowMap};
use crate::alloc::run_index::{Fullness, RunIndex, Sparse};
use crate::alloc::runs::{largest, run};

/// A block taken from the pool, and whether its words have to be scrubbed first.
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
    pageblocks: usize,
    bits: &'m [[W; PAGEBLOCK_ROWS]],
    row_maps: &'m [W],
    dense: RunIndex<'m, W>,
    sparse: RunIndex<'m, W>,
    is_sparse: Sparse<'m, W>,
    /// Whole pageblocks.
    whole: HintBitmap<'m, W, PageblockId>,
}

/// Words of metadata for all hints over so many pageblocks.
#[expect(clippy::arithmetic_side_effects, reason = "the layout has seen that all words fit into memory")]
pub(super) const fn hint_words<W: AtomicWord>(pageblocks: usize) -> usize {
    2 * RunIndex::<W>::words(pageblocks)
        + Sparse::<W>::words(pageblocks)
        + HintBitmap::<W, PageblockId>::words(pageblocks)
}

impl<'m, W: AtomicWord> Pool<'m, W> {
    pub(crate) fn new(layout: &ZoneLayout<'_>, words: &'m [W]) -> Self {
        let pageblocks = layout.pageblocks();
        let mut rest = &words[layout.hints_at()..layout.uncoalesced_at()];
        let mut part = |words: usize| {
            let (part, others) = rest.split_at(words);
            rest = others;
            part
        };
        Self {
            base: layout.base(),
            pageblocks,
            bits: words[..layout.row_maps_at()].as_chunks().0,
            row_maps: &words[layout.row_maps_at()..layout.hints_at()],
            dense: RunIndex::new(part(RunIndex::<W>::words(pageblocks)), pageblocks),
            sparse: RunIndex::new(part(RunIndex::<W>::words(pageblocks)), pageblocks),
            is_sparse: Sparse::new(part(Sparse::<W>::words(pageblocks))),
            // Zero-filled memory says that all pageblocks are whole.
            whole: HintBitmap::new(
                part(HintBitmap::<W, PageblockId>::words(pageblocks)),
                pageblocks,
                Hint::Zero,
            ),
        }
    }

    /// Completes zero-filled words.
    pub(crate) fn begin(&self) {
        self.whole.begin();
    }

    #[inline]
    pub(crate) fn pageblock(&self, id: PageblockId) -> Pageblock<'m, W> {
        Pageblock { bits: &self.bits[id.index()], row_map: &self.row_maps[id.index()] }
    }

    /// All pageblocks, lowest first.
    pub(crate) fn pageblocks(&self) -> impl ExactSizeIterator<Item = PageblockId> + use<W> {
        (0..self.pageblocks).map(PageblockId::from_index)
    }

    /// The next pageblock, around at the end.
    #[inline]
    pub(crate) fn pageblock_after(&self, id: PageblockId) -> PageblockId {
        let next = id.after(1);
        if next.index() < self.pageblocks { next } else { PageblockId::FIRST }
    }

    #[inline]
    pub(crate) fn first_frame(&self, id: PageblockId) -> Pfn {
        self.frame(id.first_frame())
    }

    /// The frame with this number, counted from the zone's first.
    #[inline]
    pub(crate) fn frame(&self, number: u64) -> Pfn {
        self.base.offset(number)
    }

    /// Number of a frame, counted from the zone's first.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "a frame of the zone: not before its first")]
    pub(crate) fn number(&self, frame: Pfn) -> u64 {
        frame.get() - self.base.get()
    }

    /// The pageblock that a frame lies in.
    #[inline]
    pub(crate) fn pageblock_of(&self, frame: Pfn) -> PageblockId {
        PageblockId::of_frame(self.number(frame))
    }

    #[expect(clippy::arithmetic_side_effects, reason = "the zone's frames")]
    pub(crate) fn span(&self) -> FrameRange {
        FrameRange::new(self.base, (self.pageblocks * PAGEBLOCK_FRAMES) as u64)
    }

    /// Free frames of a row that is out.
    #[inline]
    fn free_in(&self, row: RowId) -> u64 {
        self.pageblock(row.pageblock()).free(row.within())
    }

    #[inline]
    fn run_index(&self, fullness: Fullness) -> &RunIndex<'m, W> {
        match fullness {
            Fullness::Dense => &self.dense,
            Fullness::Sparse => &self.sparse,
        }
    }

    fn run_indexes(&self) -> impl Iterator<Item = &RunIndex<'m, W>> {
        Fullness::ALL.into_iter().map(|fullness| self.run_index(fullness))
    }

    /// Whether few frames of a pageblock are in use. A hint.
    #[inline]
    pub(crate) fn is_sparse(&self, id: PageblockId) -> bool {
        self.is_sparse.is(id)
    }

    #[inline]
    fn fullness(&self, id: PageblockId) -> Fullness {
        if self.is_sparse(id) { Fullness::Sparse } else { Fullness::Dense }
    }

    /// Hints at a row whose free frames are these now. Whether the hint is there already is one
    /// load, less than to work out whether it must be.
    #[inline]
    fn row_changed(&self, row: RowId, free: u64) {
        let id = row.pageblock();
        self.fullness_changed(id);
        if let Some(order) = largest(free) {
            self.run_index(self.fullness(id)).rows_with(order).mark(row);
        }
    }

    /// Hints at a pageblock whose row map changed.
    #[inline]
    fn row_map_changed(&self, id: PageblockId, change: Change) {
        self.fullness_changed(id);
        let now = change.to.largest();
        if now != change.from.largest() {
            self.hint_at_row_map(id, self.fullness(id), now);
        }
    }

    #[inline]
    fn hint_at_row_map(&self, id: PageblockId, fullness: Fullness, largest: Option<Order>) {
        match largest {
            Some(Order::HUGE) => self.whole.mark(id),
            Some(order) => self.run_index(fullness).pageblocks_with(order).mark(id),
            None => {}
        }
    }

    /// Sees whether a pageblock has become sparse or is no longer. What is hinted at on the wrong
    /// run index is moved by the thread that finds it on the first one, but on the second one no
    /// thread may look for long: so it is hinted at anew.
    #[inline]
    fn fullness_changed(&self, id: PageblockId) {
        let sparse = self.pageblock(id).is_sparse();
        if self.is_sparse.changed_to(id, sparse) && !sparse {
            self.hint_at_all(id);
        }
    }

    #[inline(never)]
    fn hint_at_all(&self, id: PageblockId) {
        for row in id.rows() {
            if let Some(order) = largest(self.free_in(row)) {
                self.dense.rows_with(order).mark(row);
            }
        }
        self.hint_at_row_map(id, Fullness::Dense, self.pageblock(id).row_map().largest());
    }

    /// A whole pageblock: the first from `from` on, else the first of all. Not simply the next one
    /// each time: the page words of pageblocks that were never used are memory that was never
    /// touched.
    pub(crate) fn take_pageblock(&self, from: PageblockId) -> Option<Taken> {
        let worth = |id: PageblockId| self.pageblock(id).row_map().is_whole();
        let search = |from| self.whole.search(from, worth, |id| self.try_pageblock(id));
        let found = search(from).or_else(|| search(PageblockId::FIRST)).or_else(|| {
            // Before giving up: as in `take_frames`.
            self.pageblocks().find_map(|id| self.try_pageblock(id))
        });
        found.map(|(id, taken)| {
            self.whole.clear(id, || worth(id));
            taken
        })
    }

    /// The lowest pageblock from `from` on that a hint says is whole.
    pub(crate) fn next_whole(&self, from: PageblockId) -> Option<PageblockId> {
        self.whole.next(from)
    }

    #[inline]
    fn try_pageblock(&self, id: PageblockId) -> Option<(PageblockId, Taken)> {
        let needs_scrub = self.claim_pageblock(id)?;
        Some((id, Taken { head: self.first_frame(id), needs_scrub }))
    }

    #[inline]
    pub(crate) fn claim_pageblock(&self, id: PageblockId) -> Option<bool> {
        let all = |map: RowMap| map.is_whole().then_some(ALL_ROWS);
        self.pageblock(id).take_rows(all).map(|(_, change)| change.from.is_touched())
    }

    /// Takes back a pageblock that [`claim_pageblock`](Self::claim_pageblock) returned, as it was
    /// then.
    pub(crate) fn unclaim_pageblock(&self, id: PageblockId, needs_scrub: bool) -> Result<(), Pfn> {
        if needs_scrub { self.give_unscrubbed(id, ALL_ROWS) } else { self.give_rows(id, ALL_ROWS) }
    }

    /// Takes back rows. A pageblock that is restored in two parts says by that that it needs a
    /// scrub.
    fn give_unscrubbed(&self, id: PageblockId, rows: u64) -> Result<(), Pfn> {
        const HALF: u64 = ALL_ROWS >> (PAGEBLOCK_ROWS / 2);
        let parts: &[u64] = if rows == ALL_ROWS { &[HALF, ALL_ROWS ^ HALF] } else { &[rows] };
        parts.iter().try_for_each(|rows| self.give_rows(id, *rows))
    }

    /// A block of whole pageblocks. `given_back` hears of each pageblock that was taken and given
    /// back, as another one was not whole any more.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "2 MiB or more; `misaligned` is below `n`, and the numbers are a zone's pageblocks"
    )]
    pub(crate) fn take_pageblocks(&self, order: Order, given_back: impl Fn(PageblockId)) -> Option<Taken> {
        let n = (order.frames() / PAGEBLOCK_FRAMES as u64) as usize;
        let misaligned = (self.base.get() / PAGEBLOCK_FRAMES as u64) as usize % n;
        let first = if misaligned == 0 { 0 } else { n - misaligned };
        let firsts = (first..self.pageblocks).step_by(n).filter(|first| first + n <= self.pageblocks);
        firsts.map(PageblockId::from_index).find_map(|first| {
            if first.following(n).any(|id| !self.pageblock(id).row_map().is_whole()) {
                return None;
            }
            let mut needs_scrub = false;
            for (taken, id) in first.following(n).enumerate() {
                match self.claim_pageblock(id) {
                    Some(one) => needs_scrub |= one,
                    None => {
                        // Cannot fail: these pageblocks were taken whole just now. If one needs a
                        // scrub, all are said to.
                        let mut taken = first.following(taken);
                        let _ = taken.clone().try_for_each(|id| self.unclaim_pageblock(id, needs_scrub));
                        taken.by_ref().for_each(&given_back);
                        return None;
                    }
                }
            }
            Some(Taken { head: self.first_frame(first), needs_scrub })
        })
    }

    /// Takes a block back. Errs with a frame of it that was free already.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "a block of a zone; an order of a row or more")]
    pub(crate) fn give(&self, head: Pfn, order: Order) -> Result<(), Pfn> {
        let number = self.number(head);
        let row = RowId::of_frame(number);
        if order < Order::ROW {
            return self.give_frames(row, run(order, (number % ROW_FRAMES as u64) as u32));
        }
        if order >= Order::HUGE {
            let n = (order.frames() / PAGEBLOCK_FRAMES as u64) as usize;
            return row.pageblock().following(n).try_for_each(|id| self.give_whole(id));
        }
        let order = Order::wrap(order.get() - Order::ROW.get());
        self.give_rows(row.pageblock(), run(order, row.within() as u32))
    }

    /// Takes back some frames of the pageblock that begins at `first`: whole rows in one step.
    pub(crate) fn give_some(&self, first: Pfn, frames: &FrameMask) -> Result<(), Pfn> {
        let id = self.pageblock_of(first);
        let whole = |(within, frames): (usize, &u64)| u64::from(*frames == !0) << within;
        let whole = frames.words().iter().enumerate().map(whole).sum();
        if whole != 0 {
            self.give_unscrubbed(id, whole)?;
        }
        let mut rows = id.rows().zip(frames.words()).filter(|(_, frames)| !matches!(**frames, 0 | u64::MAX));
        rows.try_for_each(|(row, frames)| self.give_frames(row, *frames))
    }

    /// Takes back frames of one row.
    #[inline]
    pub(crate) fn give_frames(&self, row: RowId, frames: u64) -> Result<(), Pfn> {
        match self.pageblock(row.pageblock()).give(row.within(), frames) {
            Ok(Given::Out(free)) => {
                self.row_changed(row, free);
                Ok(())
            }
            Ok(Given::Complete) => self.give_rows(row.pageblock(), 1 << row.within()),
            Err(free) => Err(self.first_of(row, free)),
        }
    }

    /// Takes back a whole pageblock.
    #[inline]
    pub(crate) fn give_whole(&self, id: PageblockId) -> Result<(), Pfn> {
        self.pageblock(id).give_all().map_err(|(row, free)| self.first_of(id.row(row), free))?;
        self.whole.mark(id);
        Ok(())
    }

    fn give_rows(&self, id: PageblockId, rows: u64) -> Result<(), Pfn> {
        let given = self.pageblock(id).give_rows(rows);
        let change = given.map_err(|(row, free)| self.first_of(id.row(row), free))?;
        self.row_map_changed(id, change);
        Ok(())
    }

    /// The first of some frames of a row.
    #[cold]
    #[expect(clippy::arithmetic_side_effects, reason = "a frame's number within its zone")]
    fn first_of(&self, row: RowId, frames: u64) -> Pfn {
        self.frame(row.first_frame() + u64::from(frames.trailing_zeros()))
    }

    /// Takes just these frames of a row; false if some of them are not free in the pool, or the row
    /// is in.
    pub(crate) fn take_all_of(&self, row: RowId, frames: u64) -> bool {
        let all = |free: u64| (free & frames == frames).then_some(frames);
        self.claim_frames(row, all).is_some()
    }

    /// Takes one particular free frame; false if it is not free in the pool.
    #[expect(clippy::arithmetic_side_effects, reason = "a bit of a row")]
    pub(crate) fn take_frame(&self, frame: Pfn) -> bool {
        let number = self.number(frame);
        self.take_wanted(RowId::of_frame(number), 1 << (number % ROW_FRAMES as u64)) != 0
    }

    /// Takes the first `n` frames of a pageblock, 1 to 512; false if some of them, or others of
    /// their last row, are not free in the pool.
    #[expect(clippy::arithmetic_side_effects, reason = "1 to 512 frames, so one to all rows")]
    pub(crate) fn take_first(&self, id: PageblockId, n: u64) -> bool {
        let wanted = ALL_ROWS >> (PAGEBLOCK_ROWS - (n as usize).div_ceil(ROW_FRAMES));
        let all = |map: RowMap| (map.inside() & wanted == wanted).then_some(wanted);
        let taken = self.pageblock(id).take_rows(all);
        if let Some((_, change)) = taken {
            self.row_map_changed(id, change);
            self.offer_above(id.row(0), n);
        }
        taken.is_some()
    }

    /// Whether some frame of a block of at most order 8 is free in the pool.
    #[inline(always)]
    #[expect(clippy::arithmetic_side_effects, reason = "a bit of a row")]
    pub(crate) fn has_any_of(&self, head: Pfn, order: Order) -> bool {
        let number = self.number(head);
        let row = RowId::of_frame(number);
        if order >= Order::ROW {
            return self.has_any_of_rows(row, order);
        }
        let pageblock = self.pageblock(row.pageblock());
        let frames = run(order, (number % ROW_FRAMES as u64) as u32);
        pageblock.row_map().inside() >> row.within() & 1 != 0 || pageblock.free(row.within()) & frames != 0
    }

    #[inline(never)]
    #[expect(clippy::arithmetic_side_effects, reason = "rows of a pageblock, an order of a row or more")]
    fn has_any_of_rows(&self, first: RowId, order: Order) -> bool {
        let (pageblock, within) = (self.pageblock(first.pageblock()), first.within());
        let rows = 1 << (order.get() - Order::ROW.get());
        pageblock.row_map().inside() >> within & ((1 << rows) - 1) != 0
            || (within..within + rows).fold(0, |free, row| free | pageblock.free(row)) != 0
    }

    /// The free frames of a row. A look from outside.
    pub(crate) fn free_of(&self, row: RowId) -> u64 {
        let pageblock = self.pageblock(row.pageblock());
        // Of rows that are in, the bits are not looked at: memory that was never used stays so.
        if pageblock.row_map().inside() >> row.within() & 1 != 0 { !0 } else { pageblock.free(row.within()) }
    }

    /// Takes those frames of a pageblock that are free in the pool and wanted.
    pub(crate) fn take_all_wanted(&self, id: PageblockId, wanted: &FrameMask) -> FrameMask {
        FrameMask::from_words(core::array::from_fn(|row| match wanted.words()[row] {
            0 => 0,
            frames => self.take_wanted(id.row(row), frames),
        }))
    }

    /// Takes those frames of a row that are free and wanted.
    fn take_wanted(&self, row: RowId, wanted: u64) -> u64 {
        let (id, pageblock) = (row.pageblock(), self.pageblock(row.pageblock()));
        // Of a row that is whole, the other frames go out with it.
        let own = 1 << row.within();
        if let Some((_, change)) = pageblock.take_rows(|map| (map.inside() & own != 0).then_some(own)) {
            self.row_map_changed(id, change);
            self.offer(row, !wanted);
            return wanted;
        }
        let select = |free| Some(free & wanted).filter(|taken| *taken != 0);
        let Some((taken, left)) = pageblock.claim(row.within(), select) else {
            return 0;
        };
        self.row_changed(row, left);
        taken
    }

    /// Whether a frame of a pageblock waits to leave service. SeqCst: after frames of it changed
    /// hands.
    #[inline]
    pub(crate) fn has_waiting(&self, id: PageblockId) -> bool {
        self.pageblock(id).row_map().has_waiting()
    }

    /// The frames of a pageblock that wait to leave service.
    pub(crate) fn waiting(&self, id: PageblockId) -> impl Iterator<Item = Pfn> {
        let first = self.first_frame(id);
        self.pageblock(id).row_map().waiting().map(move |frame| first.offset(frame))
    }

    /// Notes that a frame waits to leave service; false if too many of its pageblock do already.
    #[expect(clippy::arithmetic_side_effects, reason = "a constant divisor")]
    pub(crate) fn await_frame(&self, frame: Pfn) -> bool {
        self.pageblock(self.pageblock_of(frame)).await_frame(self.number(frame) % PAGEBLOCK_FRAMES as u64)
    }

    /// A frame waits no longer if, by the look `has_left`, it leaves service or has left it.
    #[expect(clippy::arithmetic_side_effects, reason = "a constant divisor")]
    pub(crate) fn forget_frame(&self, frame: Pfn, has_left: impl Fn() -> bool) {
        let within = self.number(frame) % PAGEBLOCK_FRAMES as u64;
        self.pageblock(self.pageblock_of(frame)).forget_frame(within, has_left);
    }

    /// Keeps a pageblock out of service. Before the zone is shared.
    pub(crate) fn withhold(&self, id: PageblockId) {
        self.pageblock(id).withhold();
        self.whole.clear(id, || false);
    }

    /// Puts a withheld pageblock into service as a whole; false if it is not withheld any more.
    pub(crate) fn admit(&self, id: PageblockId) -> bool {
        let admitted = self.pageblock(id).admit();
        if admitted {
            self.whole.mark(id);
        }
        admitted
    }

    /// Begins to put a part of a withheld pageblock into service; false if it is not withheld any
    /// more, or another thread has begun.
    pub(crate) fn begin_opening(&self, id: PageblockId) -> bool {
        self.pageblock(id).begin_opening()
    }

    /// Whether a thread has begun and not ended it.
    pub(crate) fn is_opening(&self, id: PageblockId) -> bool {
        self.pageblock(id).row_map().is_opening()
    }

    /// The frames of the pageblock can enter service one by one.
    pub(crate) fn end_opening(&self, id: PageblockId) {
        self.pageblock(id).end_opening();
    }

    pub(crate) fn is_withheld(&self, frame: Pfn) -> bool {
        self.pageblock(self.pageblock_of(frame)).row_map().is_withheld()
    }

    /// Whether a frame is not free in the pool: in use, uncoalesced or out of service.
    #[expect(clippy::arithmetic_side_effects, reason = "a bit of a row")]
    pub(crate) fn is_used(&self, frame: Pfn) -> bool {
        let number = self.number(frame);
        let row = RowId::of_frame(number);
        let pageblock = self.pageblock(row.pageblock());
        let is_in = pageblock.row_map().inside() >> row.within() & 1 != 0;
        !is_in && pageblock.free(row.within()) >> (number % ROW_FRAMES as u64) & 1 == 0
    }

    /// Free frames of a pageblock, by adding up its rows.
    #[expect(clippy::arithmetic_side_effects, reason = "at most the frames of a pageblock")]
    pub(crate) fn free_in_pageblock(&self, id: PageblockId) -> u64 {
        let pageblock = self.pageblock(id);
        let map = pageblock.row_map();
        // Of rows that are in, the bits are not looked at: memory that was never used stays so.
        let out = |row: &usize| map.inside() >> row & 1 == 0;
        let out: u32 = (0..PAGEBLOCK_ROWS).filter(out).map(|row| pageblock.free(row).count_ones()).sum();
        u64::from(map.inside().count_ones() * ROW_FRAMES as u32 + out)
    }

    pub(crate) fn free_frames(&self) -> u64 {
        self.pageblocks().map(|id| self.free_in_pageblock(id)).sum()
    }

    /// Pageblocks that are wholly free.
    pub(crate) fn free_pageblocks(&self) -> u64 {
        self.pageblocks().filter(|id| self.pageblock(*id).row_map().is_whole()).count() as u64
    }

    /// What is wrong with a pageblock at a quiet moment, if anything.
    pub(crate) fn fault(&self, id: PageblockId) -> Option<&'static str> {
        let map = self.pageblock(id).row_map();
        for row in id.rows() {
            let free = self.free_in(row);
            if map.inside() >> row.within() & 1 != 0 && free != 0 {
                return Some("frames are free twice: with their pageblock and by themselves");
            }
            if free == !0 {
                return Some("a row of free frames was not restored");
            }
            let leads = |order| self.run_indexes().any(|index| index.rows_with(order).leads_to(row));
            if largest(free).is_some_and(|order| !leads(order)) {
                return Some("no hint leads to free frames");
            }
        }
        let leads = |order| match order {
            Order::HUGE => self.whole.leads_to(id),
            _ => self.run_indexes().any(|index| index.pageblocks_with(order).leads_to(id)),
        };
        let lost = map.largest().is_some_and(|order| !leads(order));
        lost.then_some("no hint leads to the pageblock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;
    use std::vec::Vec;

    fn on_three_pageblocks(test: impl FnOnce(&Pool<'_, AtomicU64>)) {
        let ranges = [FrameRange::new(Pfn::new(1024), 3 * 512)];
        let layout = ZoneLayout::new(&ranges, 1).unwrap();
        let words: Vec<_> = (0..layout.allocator_words()).map(|_| AtomicU64::new(0)).collect();
        let pool = Pool::new(&layout, &words);
        pool.begin();
        test(&pool);
    }

    #[test]
    fn a_block_that_is_free_already_is_told_by_its_first_free_frame() {
        on_three_pageblocks(|pool| {
            let give = |frame, order| pool.give(Pfn::new(frame), Order::wrap(order));
            for (head, order) in [(1536, 9), (1664, 7), (1728, 6), (1541, 0), (1608, 3)] {
                assert_eq!(give(head, order), Err(Pfn::new(head)));
            }
            assert!(pool.take_frame(Pfn::new(1600)));
            for (head, order) in [(1600, 1), (1600, 6), (1536, 7), (1536, 9)] {
                assert_eq!(give(head, order), Err(Pfn::new(1601)));
            }
            assert_eq!((give(1600, 0), pool.free_frames()), (Ok(()), 3 * 512));
            assert_eq!(give(1600, 0), Err(Pfn::new(1600)));
        });
    }

    #[test]
    fn frames_of_rows_that_are_in_and_out_are_seen_alike() {
        on_three_pageblocks(|pool| {
            let all = |order, head: u64| pool.has_any_of(Pfn::new(head), Order::wrap(order));
            let id = PageblockId::from_index(1);
            // Row 3 in part, rows 5 and 6 not at all.
            let used = [1536 + 3 * 64 + 9, 1536 + 3 * 64 + 10];
            assert!(used.iter().all(|frame| pool.take_frame(Pfn::new(*frame))));
            for row in [5, 6] {
                assert_eq!(pool.take_wanted(id.row(row), !0), !0);
            }
            let free = [!0, !0, !0, !(0b11 << 9), !0, 0, 0, !0];
            assert_eq!(free.map(u64::count_ones).iter().sum::<u32>() as u64, pool.free_in_pageblock(id));
            for (row, free) in free.into_iter().enumerate() {
                assert_eq!(pool.free_of(id.row(row)), free, "row {row}");
                for bit in 0..64 {
                    let frame = pool.frame(id.row(row).first_frame() + bit);
                    assert_eq!(pool.is_used(frame), free >> bit & 1 == 0, "{frame}");
                }
            }
            for order in 0..9 {
                for head in (1536..2048).step_by(1 << order) {
                    let any = (head..head + (1 << order)).any(|frame| !pool.is_used(Pfn::new(frame)));
                    assert_eq!(all(order, head), any, "order {order} at {head}");
                }
            }
            assert_eq!(pool.free_frames(), 3 * 512 - 130);
            assert_eq!(pool.free_pageblocks(), 2);
        });
    }

    #[test]
    fn the_first_frames_of_a_pageblock_are_taken_if_their_rows_are_free_as_a_whole() {
        for n in [1, 63, 64, 65, 100, 128, 511, 512] {
            on_three_pageblocks(|pool| {
                let id = PageblockId::from_index(2);
                assert!(pool.take_first(id, n));
                let used = (0..512).filter(|frame| pool.is_used(Pfn::new(2048 + frame)));
                assert!(used.eq(0..n), "{n} frames");
                assert_eq!(pool.free_frames(), 3 * 512 - n);
                assert!(!pool.take_first(id, n), "some of them are in use");
                assert_eq!(pool.free_frames(), 3 * 512 - n);
                assert_eq!(pool.fault(id), None);
            });
        }
    }

    #[test]
    fn a_block_of_pageblocks_is_aligned_by_its_frames_and_whole() {
        // The first pageblock is one of frames 1536 to 2047.
        let ranges = [FrameRange::new(Pfn::new(3 * 512), 13 * 512)];
        let layout = ZoneLayout::new(&ranges, 1).unwrap();
        let words: Vec<_> = (0..layout.allocator_words()).map(|_| AtomicU64::new(0)).collect();
        let pool = Pool::new(&layout, &words);
        pool.begin();
        let take = |order| {
            let taken = pool.take_pageblocks(Order::wrap(order), |_| panic!("nothing was given back"));
            taken.map(|taken| (taken.head.get() / 512, taken.needs_scrub))
        };
        assert_eq!(take(12), Some((8, false)));
        pool.give(Pfn::new(8 * 512), Order::wrap(12)).unwrap();
        // A page of it came back: its pageblock is whole, and its words are not all at rest.
        let page = Pfn::new(9 * 512 + 70);
        assert!(pool.take_frame(page));
        assert_eq!(take(12), None, "one of eight is in use");
        pool.give(page, Order::PAGE).unwrap();
        assert_eq!(take(10), Some((4, false)));
        assert_eq!([take(11), take(11), take(11)], [Some((8, true)), Some((12, false)), None]);
        assert_eq!([take(10), take(10)], [Some((6, false)), None]);
        assert_eq!(pool.free_pageblocks(), 1);
    }

    #[test]
    fn what_waits_and_what_is_withheld_is_noted_at_its_own_pageblock() {
        on_three_pageblocks(|pool| {
            let (frame, other) = (Pfn::new(1536 + 77), Pfn::new(2048 + 77));
            let ids = [0, 1, 2].map(PageblockId::from_index);
            assert!(pool.await_frame(frame) && pool.await_frame(other));
            assert_eq!(ids.map(|id| pool.has_waiting(id)), [false, true, true]);
            assert!(pool.waiting(ids[1]).eq([frame]));
            pool.forget_frame(frame, || true);
            assert_eq!(ids.map(|id| pool.has_waiting(id)), [false, false, true]);
            pool.withhold(ids[0]);
            pool.withhold(ids[1]);
            assert_eq!(
                [1024, 1536, 2048].map(|frame| pool.is_withheld(Pfn::new(frame))),
                [true, true, false]
            );
            assert!(pool.begin_opening(ids[0]) && !pool.begin_opening(ids[0]) && !pool.begin_opening(ids[2]));
            assert_eq!(ids.map(|id| pool.is_opening(id)), [true, false, false]);
            pool.end_opening(ids[0]);
            assert_eq!((pool.is_opening(ids[0]), pool.is_withheld(Pfn::new(1024))), (false, false));
            assert!(pool.admit(ids[1]) && !pool.admit(ids[1]));
            assert_eq!((pool.next_whole(PageblockId::FIRST), pool.free_pageblocks()), (Some(ids[1]), 2));
            assert_eq!(pool.next_whole(ids[2]), Some(ids[2]));
        });
    }

    #[test]
    fn what_is_wrong_with_a_pageblock_is_told() {
        on_three_pageblocks(|pool| {
            let id = PageblockId::from_index(1);
            let pageblock = pool.pageblock(id);
            let twice = "frames are free twice: with their pageblock and by themselves";
            let unrestored = "a row of free frames was not restored";
            for row in [0, 5] {
                pageblock.offer(row, 1 << 9);
                assert_eq!(pool.fault(id), Some(twice));
                AtomicWord::store(&pageblock.bits[row], 0, core::sync::atomic::Ordering::Relaxed);
                assert_eq!(pool.fault(id), None);
            }
            assert!(pool.take_frame(Pfn::new(1536 + 64 + 9)));
            assert_eq!(pool.fault(id), None);
            for fullness in [&pool.dense, &pool.sparse] {
                fullness.rows_with(Order::wrap(5)).clear(id.row(1), || false);
            }
            assert_eq!(pool.fault(id), Some("no hint leads to free frames"));
            pageblock.offer(1, 1 << 9);
            assert_eq!(pool.fault(id), Some(unrestored));
            assert_eq!([0, 2].map(|index| pool.fault(PageblockId::from_index(index))), [None; 2]);
            pool.whole.clear(PageblockId::FIRST, || false);
            assert_eq!(pool.fault(PageblockId::FIRST), Some("no hint leads to the pageblock"));
        });
    }

    #[test]
    fn the_pageblock_after_the_last_is_the_first() {
        on_three_pageblocks(|pool| {
            let after = |index| pool.pageblock_after(PageblockId::from_index(index)).index();
            assert_eq!([0, 1, 2].map(after), [1, 2, 0]);
        });
    }
}
