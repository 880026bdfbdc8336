//! Runs: `n` frames side by side, for any `n`, or just the frames that a caller names.
//!
//! A run is taken as it is, not cut out of a larger block: up to 32 frames by one step on a row's
//! bits, up to 512 by one on the row map of a pageblock, longer ones pageblock by pageblock. It
//! is handed out as naturally aligned blocks, as large as fit, each with one reference, so that any
//! part of it can be pinned and given back like any other block.
//!
//! A search looks at places first where a block with room for the run would fit. There may be room
//! elsewhere, at the seam of two rows or pageblocks: before a request fails, everything that is
//! uncoalesced is drained and every frame is looked at.

use core::cell::Cell;

use crate::error::{AllocError, RunError};
use crate::finally::Finally;
use crate::frame::{FrameRange, Order, PAGEBLOCK_FRAMES, Pfn};
use crate::frame_mask::FrameMask;
use crate::protocol::Protocol;

use super::allocator::Allocator;
use super::config::Request;
use super::ids::{PageblockId, Place, ROW_FRAMES, RowId};
use super::parked::SMALLEST_PARKED;
use super::pool::Taken;
use super::run_request::RunRequest;

/// Frames that were taken from the pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct TakenRun {
    pub(super) range: FrameRange,
    /// Of some whole pageblock among them, the words may not all be at rest.
    pub(super) needs_scrub: bool,
}

/// The first frames of the pageblocks that have frames in `range`.
#[expect(clippy::arithmetic_side_effects, reason = "up to the end of a run of the zone")]
pub(super) fn pageblocks_of(range: FrameRange) -> impl Iterator<Item = Pfn> {
    let first = range.start.head(Order::HUGE);
    let frames = if range.start < range.end { range.end.get() - first.get() } else { 0 };
    (0..frames.div_ceil(PAGEBLOCK_FRAMES as u64)).map(move |i| first.offset(i * PAGEBLOCK_FRAMES as u64))
}

/// Frames of a run up to which it is handed out as single pages, unless it is one block as a whole:
/// to give back a part of it takes no split then.
const FEW: u64 = 8;

/// The naturally aligned blocks of at most `largest` that `range` is handed out as, lowest first.
#[expect(clippy::arithmetic_side_effects, reason = "it does not go beyond the end")]
fn blocks_of(range: FrameRange, largest: Order) -> impl Iterator<Item = (Pfn, Order)> {
    let mut at = range.start;
    core::iter::from_fn(move || {
        let left = range.end.get() - at.get();
        let fits = left.checked_ilog2()?.min(at.get().trailing_zeros());
        let order = Order::wrap(fits.min(u32::from(largest.get())) as u8);
        let head = at;
        at = at.offset(order.frames());
        Some((head, order))
    })
}

impl<'m, P: Protocol> Allocator<'m, P> {
    /// A run of free frames, in use from here on.
    pub(crate) fn alloc_run(&self, request: RunRequest) -> Result<FrameRange, RunError> {
        if request.frames == 0 {
            return Err(RunError::Empty);
        }
        if !request.align.is_power_of_two() {
            return Err(RunError::BadAlignment { align: request.align });
        }
        loop {
            let taken = self.take_run(request).ok_or_else(|| RunError::Exhausted {
                frames: request.frames,
                align: request.align,
                free_frames: self.free_frames(),
                free_pageblocks: self.free_pageblocks(),
            })?;
            if self.hand_out_run(taken, request.zero) {
                return Ok(taken.range);
            }
        }
    }

    /// Just these frames, in use from here on.
    pub(crate) fn alloc_run_at(&self, range: FrameRange) -> Result<(), RunError> {
        if range.start >= range.end {
            return Err(RunError::Empty);
        }
        if !self.pool.span().holds(range) {
            return Err(RunError::NotInZone { range });
        }
        loop {
            let taken = self.take_named(range).map_err(|frame| RunError::InUse { frame })?;
            // If one of them leaves service now, it is found to be out of it the next time.
            if self.hand_out_run(taken, false) {
                return Ok(());
            }
        }
    }

    /// A block that lies below a limit, as frames side by side.
    pub(super) fn take_below(&self, request: Request) -> Result<Taken, AllocError> {
        let Request { order, below, .. } = request;
        let run = RunRequest::new(order.frames()).aligned(order.frames()).below(below);
        let taken =
            self.take_run(run).map(|run| Taken { head: run.range.start, needs_scrub: run.needs_scrub });
        taken.ok_or_else(|| AllocError::Exhausted {
            order,
            free_frames: self.free_frames(),
            free_pageblocks: self.free_pageblocks(),
        })
    }

    fn take_run(&self, request: RunRequest) -> Option<TakenRun> {
        let limit = request.below.min(self.pool.span().end);
        if request.frames > limit.get().saturating_sub(self.pool.span().start.get()) {
            return None;
        }
        for _ in 0..super::take_frames::RECLAIM_ROUNDS {
            let found = self
                .take_run_hinted(request, limit)
                .or_else(|| {
                    // The hints to less than a pageblock lead beyond the limit, too.
                    let bounded = limit < self.pool.span().end;
                    if bounded { self.take_run_anywhere(request, limit) } else { None }
                })
                .or_else(|| {
                    self.drain();
                    self.take_run_anywhere(request, limit)
                })
                .or_else(|| {
                    self.drain_unhinted();
                    self.take_run_anywhere(request, limit)
                });
            if found.is_some() || !self.ask_to_reclaim(order_above(request.frames)) {
                return found;
            }
        }
        None
    }

    /// Where the hints say that there is room.
    fn take_run_hinted(&self, request: RunRequest, limit: Pfn) -> Option<TakenRun> {
        let RunRequest { frames, align, .. } = request;
        // More than the largest block that is less than a pageblock.
        const MANY: u64 = PAGEBLOCK_FRAMES as u64 / 2;
        if frames > MANY || align > MANY {
            return self.take_pageblock_run(request, limit);
        }
        if limit < self.pool.span().end {
            return None;
        }
        let align = Order::wrap(align.trailing_zeros() as u8);
        let first = self.in_part_or_whole(SMALLEST_PARKED, |largest| {
            self.pool.take_side_by_side(frames, align, largest)
        })?;
        let range = FrameRange::new(first, frames);
        self.retire_waiting(first, Order::PAGE);
        Some(TakenRun { range, needs_scrub: false })
    }

    /// Pageblocks side by side that are free as a whole, the last one perhaps in part.
    pub(super) fn take_pageblock_run(&self, request: RunRequest, limit: Pfn) -> Option<TakenRun> {
        self.coalesce_parked(SMALLEST_PARKED);
        let cache = self.cpu_cache();
        for _ in 0..request.frames.div_ceil(PAGEBLOCK_FRAMES as u64) {
            if self.coalesce_emptied(&cache).is_none() {
                break;
            }
        }
        let mut from = PageblockId::FIRST;
        loop {
            let id = self.next_whole(from)?;
            let start = self.pool.first_frame(id);
            let aligned = start.get().checked_next_multiple_of(request.align).map(Pfn::new)?;
            let range = aligned.checked_offset(request.frames).map(|end| FrameRange { start: aligned, end });
            let range = range.filter(|range| range.end <= limit)?;
            if aligned > start {
                from = self.pool.pageblock_of(aligned);
                if self.next_whole(from) != Some(from) {
                    continue;
                }
            }
            match self.take_pageblocks_of(range) {
                Ok(taken) => return Some(taken),
                // The next place begins behind the pageblock that is not free.
                Err(not_free) => from = self.pool.pageblock_of(not_free).after(1),
            }
        }
    }

    /// The lowest pageblock from `from` on that hints say is free as a whole.
    fn next_whole(&self, from: PageblockId) -> Option<PageblockId> {
        if from.index() >= self.pool.pageblocks().len() {
            return None;
        }
        let found = [self.pool.next_whole(from), self.uncoalesced.pageblocks.next(from)];
        found.into_iter().flatten().min()
    }

    /// Whole pageblocks from the start of `range` on, and of the last one as much as it has. Errs
    /// with the first pageblock that has not as much.
    #[expect(clippy::arithmetic_side_effects, reason = "the pageblock has a frame of the run")]
    fn take_pageblocks_of(&self, range: FrameRange) -> Result<TakenRun, Pfn> {
        let mut needs_scrub = false;
        for head in pageblocks_of(range) {
            let left = range.end.get() - head.get();
            let taken = if left >= PAGEBLOCK_FRAMES as u64 {
                let scrub = self.take_whole(head);
                needs_scrub |= scrub.unwrap_or(false);
                scrub.is_some()
            } else {
                self.coalesce_whole(head);
                self.pool.take_first(self.pool.pageblock_of(head), left)
            };
            if !taken {
                self.untake_run(FrameRange { start: range.start, end: head }, needs_scrub);
                return Err(head);
            }
        }
        Ok(TakenRun { range, needs_scrub })
    }

    /// A whole pageblock, uncoalesced or in the pool, and whether it needs a scrub.
    fn take_whole(&self, head: Pfn) -> Option<bool> {
        if self.protocol.claim(head, Order::HUGE) {
            return Some(false);
        }
        self.pool.claim_pageblock(self.pool.pageblock_of(head))
    }

    /// Gives a pageblock that is uncoalesced as a whole to the pool.
    fn coalesce_whole(&self, head: Pfn) {
        if self.protocol.claim(head, Order::HUGE) {
            self.give(head, Order::HUGE);
        }
    }

    /// The lowest free run of all, by a look at every row.
    #[expect(clippy::arithmetic_side_effects, reason = "`at` is before the end of its row")]
    fn take_run_anywhere(&self, request: RunRequest, limit: Pfn) -> Option<TakenRun> {
        // Of the frames before `at`, those from `start` on are free.
        let (mut start, mut at) = (self.pool.span().start, self.pool.span().start);
        while at < limit {
            let row = RowId::of_frame(self.pool.number(at));
            let row_end = self.pool.frame(row.first_frame()).offset(ROW_FRAMES as u64);
            let ahead = self.pool.free_of(row) >> (ROW_FRAMES as u64 - (row_end.get() - at.get()));
            // As far as the frames from `at` on are alike.
            let free = ahead & 1 != 0;
            let alike = if free { ahead.trailing_ones() } else { ahead.trailing_zeros() };
            at = at.offset(u64::from(alike)).min(row_end).min(limit);
            if !free {
                start = at;
                continue;
            }
            let first = start.get().checked_next_multiple_of(request.align).map(Pfn::new)?;
            let range = first.checked_offset(request.frames).map(|end| FrameRange { start: first, end })?;
            if range.end <= at {
                match self.take_named(range) {
                    Ok(taken) => return Some(taken),
                    Err(in_use) => {
                        at = in_use.offset(1);
                        start = at;
                    }
                }
            }
        }
        None
    }

    /// Just these frames. Errs with one that is in use or on its way from one owner to the next,
    /// and then takes none.
    fn take_named(&self, range: FrameRange) -> Result<TakenRun, Pfn> {
        let mut needs_scrub = false;
        for pageblock in pageblocks_of(range) {
            let wanted = FrameMask::of_range(range, pageblock);
            if wanted == FrameMask::ALL {
                if let Some(scrub) = self.take_whole(pageblock) {
                    needs_scrub |= scrub;
                    continue;
                }
                needs_scrub = true;
            }
            self.coalesce_whole(pageblock);
            let taken = self.take_some(pageblock, &wanted);
            // Others of the same rows changed hands with them.
            self.retire_waiting(pageblock, Order::HUGE);
            if let Some(missing) = wanted.iter().find(|frame| !taken.contains(*frame)) {
                self.given(pageblock, Order::PAGE, self.pool.give_some(pageblock, &taken));
                self.untake_run(FrameRange { start: range.start, end: pageblock }, needs_scrub);
                return Err(pageblock.offset(missing));
            }
        }
        Ok(TakenRun { range, needs_scrub })
    }

    /// Those of the wanted frames that are free: in the pool, or uncoalesced pages.
    fn take_some(&self, pageblock: Pfn, wanted: &FrameMask) -> FrameMask {
        let mut taken = self.pool.take_all_wanted(self.pool.pageblock_of(pageblock), wanted);
        if taken != *wanted {
            for number in wanted.iter() {
                let frame = pageblock.offset(number);
                let take = || {
                    self.protocol.claim(frame, Order::PAGE)
                        || self.pool.take_frame(frame)
                        || self.coalesce_around(frame) && self.pool.take_frame(frame)
                };
                if !taken.contains(number) && take() {
                    taken.insert(number);
                }
            }
        }
        taken
    }

    /// Gives frames back that were not handed out.
    fn untake_run(&self, range: FrameRange, needs_scrub: bool) {
        for pageblock in pageblocks_of(range) {
            let frames = FrameMask::of_range(range, pageblock);
            let given = if frames == FrameMask::ALL {
                self.pool.unclaim_pageblock(self.pool.pageblock_of(pageblock), needs_scrub)
            } else {
                self.pool.give_some(pageblock, &frames)
            };
            self.given(pageblock, Order::PAGE, given);
        }
    }

    /// Makes frames that were taken a run in use. False if one of them is not in a state for that
    /// or waits to leave service: it has left, and the others are free again.
    fn hand_out_run(&self, taken: TakenRun, zero: bool) -> bool {
        let TakenRun { range, needs_scrub } = taken;
        let in_pages = !P::REARRANGES || range.frames() <= FEW && range.as_order().is_none();
        let largest = if in_pages { Order::PAGE } else { Order::HUGE };
        let blocks = || blocks_of(range, largest);
        let mut bad = pageblocks_of(range)
            .map(|pageblock| self.pool.pageblock_of(pageblock))
            .filter(|id| self.pool.has_waiting(*id))
            .find_map(|id| self.pool.waiting(id).find(|frame| range.contains(*frame)));
        if bad.is_none() {
            let prepare = |(head, order)| {
                if needs_scrub && order == Order::HUGE {
                    self.protocol.scrub(head)?;
                }
                self.protocol.prepare(head, order)
            };
            bad = blocks().try_for_each(prepare).err();
        }
        if let Some(bad) = bad {
            self.refuse_bad_frame_among(range, bad);
            return false;
        }
        // A hook may panic, and its block goes back then: so do those that are in use by then, and
        // those that are not.
        let (in_use, free) = (Cell::new(range.start), Cell::new(range.start));
        let back = Finally(|| {
            let in_use = FrameRange { start: range.start, end: in_use.get() };
            // Cannot fail: they were handed out by this call.
            let _ = self.free_run(in_use);
            self.untake_run(FrameRange { start: free.get(), end: range.end }, true);
        });
        for (head, order) in blocks() {
            let end = head.offset(order.frames());
            free.set(end);
            self.publish(head, order, if zero { Request::new(order).zeroed() } else { Request::new(order) });
            in_use.set(end);
            self.mark_waiting(head, order);
        }
        core::mem::forget(back);
        true
    }
}

/// The order of the smallest block with room for so many frames, or the largest of all.
#[inline]
fn order_above(frames: u64) -> Order {
    let order = frames.checked_next_power_of_two().map_or(64, u64::trailing_zeros);
    Order::new(order as u8).unwrap_or(Order::MAX)
}
