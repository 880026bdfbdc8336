//! Where the frames of a request come from: uncoalesced ones, the pool, or what others can be made
//! to give up.

use crate::error::AllocError;
use crate::frame::{Order, Pfn};
use crate::protocol::Protocol;

use super::allocator::Allocator;
use super::cpu_cache::CpuCache;
use super::ids::{PageblockId, ROW_FRAMES, RowId};
use super::parked::{LINE, SMALLEST_PARKED};
use super::pool::Taken;
use super::run_request::RunRequest;
use super::runs::run;
use crate::atomic::AtomicWord;

/// Times a request may call the reclaim hook before it fails, though the hook says it freed
/// something.
pub(super) const RECLAIM_ROUNDS: usize = 16;

/// Times a request looks everywhere before it fails, though other threads have moved pages during
/// each look.
const LOOKS: usize = 16;

/// Turns of a loop in which it lets moves of other threads come to their end, some hundred
/// instructions later.
pub(super) const TURNS: usize = 1 << 8;

/// The largest run that is less than a whole pageblock.
const PART: Order = Order::wrap(Order::HUGE.get() - 1);
const _: () = assert!(PART.get() >= Order::ROW.get(), "a pageblock has several rows");

impl<'m, P: Protocol> Allocator<'m, P> {
    /// A block of `order` from wherever there is one.
    pub(crate) fn take_frames(
        &self,
        order: Order,
        cache: &CpuCache<'m, P::Word>,
    ) -> Result<Taken, AllocError> {
        self.try_take_frames(order, cache).map_or_else(|| self.take_slow(order, cache), Ok)
    }

    #[expect(clippy::arithmetic_side_effects, reason = "an order below that of a line")]
    fn try_take_frames(&self, order: Order, cache: &CpuCache<'m, P::Word>) -> Option<Taken> {
        match order {
            Order::PAGE => {
                let page = self.claim_page(cache).or_else(|| self.refill(cache))?;
                Some(Taken::scrubbed(page))
            }
            Order::HUGE => self.take_pageblock(cache),
            _ if order > Order::HUGE => self.take_pageblocks(order),
            _ => {
                let parks_rest = order < LINE && P::HANDS_OUT_AT_ONCE && !self.has_hooks;
                // Rests of lines stay with their CPUs as long as there is a whole pageblock.
                let parked = if parks_rest { Order::wrap(order.get() + 1) } else { SMALLEST_PARKED };
                let taken = self.in_part_or_whole(parked, |largest| self.pool.take_part(order, largest))?;
                if parks_rest {
                    self.park_rest_of_line(taken.head, order, cache);
                }
                Some(taken)
            }
        }
    }

    /// After a block of order 1 or 2 was taken whose neighbours, those with their words in the same
    /// cache line, are free: they are parked, so that no other CPU is given them and the two take
    /// that line from each other.
    #[expect(clippy::arithmetic_side_effects, reason = "bits of a row, some of which are set")]
    fn park_rest_of_line(&self, head: Pfn, order: Order, cache: &CpuCache<'m, P::Word>) {
        let bit = |frame: Pfn| (self.pool.number(frame) % ROW_FRAMES as u64) as u32;
        let row = RowId::of_frame(self.pool.number(head));
        let mut rest = run(LINE, bit(head.head(LINE))) & !run(order, bit(head));
        if self.pool.free_of(row) & rest != rest {
            return;
        }
        // A request that finds nothing now looks again when the blocks can be claimed.
        let _moving = cache.move_pages();
        if self.pool.take_all_of(row, rest) {
            // The lowest is the last that is parked, and so the next that is taken.
            while let Some(last) = rest.checked_ilog2() {
                let first = last + 1 - order.frames() as u32;
                self.park_free(cache, self.page_of(row, first), order);
                rest ^= run(order, first);
            }
        }
    }

    /// What can be taken out of pageblocks that are not whole, once uncoalesced pages, and parked
    /// blocks of order `parked` and above, have come together there if need be; else out of a whole
    /// one, and rather of one that was in use than of one that was never touched.
    pub(super) fn in_part_or_whole<T>(&self, parked: Order, take: impl Fn(Order) -> Option<T>) -> Option<T> {
        // Each turn takes away hints, so it goes round only as long as pages become uncoalesced.
        loop {
            let taken = take(PART);
            if taken.is_some() || !(self.coalesce_some() || self.coalesce_parked(parked)) {
                break taken;
            }
        }
        .or_else(|| {
            if let Some(head) = self.claim_pageblock_from(PageblockId::FIRST) {
                self.give(head, Order::HUGE);
            }
            take(Order::HUGE)
        })
        .or_else(|| {
            let rests = parked > SMALLEST_PARKED && self.coalesce_parked(SMALLEST_PARKED);
            if rests { take(PART) } else { None }
        })
    }

    /// A whole pageblock, if possible one that was freed lately.
    fn take_pageblock(&self, cache: &CpuCache<'m, P::Word>) -> Option<Taken> {
        match self.claim_pageblock_from(cache.next_pageblock()) {
            Some(head) => {
                cache.set_next_pageblock(self.pool.pageblock_after(self.pool.pageblock_of(head)));
                Some(Taken::scrubbed(head))
            }
            None => self
                .take_emptied(cache)
                .or_else(|| self.pool.take_pageblock(cache.first_pageblock(self.pool.pageblocks().len()))),
        }
    }

    /// A whole pageblock whose last frames were given back as pages.
    fn take_emptied(&self, cache: &CpuCache<'m, P::Word>) -> Option<Taken> {
        self.coalesce_parked(SMALLEST_PARKED);
        let id = self.coalesce_emptied(cache)?;
        let needs_scrub = self.pool.claim_pageblock(id)?;
        Some(Taken { head: self.pool.first_frame(id), needs_scrub })
    }

    /// A block of several whole pageblocks, of those that were in use lately if possible.
    fn take_pageblocks(&self, order: Order) -> Option<Taken> {
        let n = order.frames();
        let hinted = self.take_pageblock_run(RunRequest::new(n).aligned(n), self.pool.span().end);
        let taken = hinted.map(|run| Taken { head: run.range.start, needs_scrub: run.needs_scrub });
        taken.or_else(|| self.pool.take_pageblocks(order, |id| self.retire_waiting_in(id)))
    }

    /// At most so many pages of one row from the pool.
    pub(crate) fn take_row_of_pages(&self, most: usize) -> Option<(RowId, u64)> {
        self.in_part_or_whole(SMALLEST_PARKED, |largest| self.pool.take_pages(largest, most))
    }

    /// A page from the pool; its neighbours become uncoalesced, and the CPU cache reserves their
    /// row.
    #[inline(never)]
    #[expect(clippy::arithmetic_side_effects, reason = "a set bit is there to be taken away")]
    fn refill(&self, cache: &CpuCache<'m, P::Word>) -> Option<Pfn> {
        // A request that finds nothing now looks again when the pages can be claimed.
        let _moving = cache.move_pages();
        let (row, pages) = self.take_row_of_pages(ROW_FRAMES)?;
        let (mut rest, mut uncoalesced) = (pages & (pages - 1), 0);
        let first = self.page_of(row, 0);
        let waits = self.waiting_among(first.head(Order::HUGE), Order::HUGE).is_some();
        while rest != 0 {
            let bit = rest.trailing_zeros();
            let page = self.page_of(row, bit);
            if waits && self.waiting_among(page, Order::PAGE).is_some() {
                self.refuse_bad_frame(page, Order::PAGE, page);
            } else {
                match self.protocol.leave_uncoalesced(page, Order::PAGE) {
                    Ok(()) => uncoalesced |= 1 << bit,
                    Err(bad) => self.refuse_bad_frame(bad, Order::PAGE, bad),
                }
            }
            rest &= rest - 1;
        }
        // The one that is handed out too: it is likely to be uncoalesced one day, and the step is
        // taken anyhow.
        self.uncoalesced.note(row, pages);
        // Also where nothing is left over: the page that is handed out is likely to come back here.
        // Goes round only because another thread had the CPU cache reserve another one.
        while !self.reserve_row(cache, cache.row(), Some(row)) {}
        cache.push_row(row, uncoalesced);
        // What waits to leave service is looked at after the pages became uncoalesced: `note` is
        // SeqCst.
        self.retire_waiting(first, Order::PAGE);
        Some(self.page_of(row, pages.trailing_zeros()))
    }

    /// Drains what is uncoalesced and asks the reclaim hook before it gives up.
    #[cold]
    fn take_slow(&self, order: Order, cache: &CpuCache<'m, P::Word>) -> Result<Taken, AllocError> {
        for _ in 0..RECLAIM_ROUNDS {
            if let Some(taken) = self.take_for_sure(order, cache) {
                return Ok(taken);
            }
            if !self.ask_to_reclaim(order) {
                break;
            }
        }
        Err(AllocError::Exhausted {
            order,
            free_frames: self.free_frames(),
            free_pageblocks: self.free_pageblocks(),
        })
    }

    /// Asks the hook for frames; false if it freed none.
    pub(super) fn ask_to_reclaim(&self, order: Order) -> bool {
        self.config.hooks.is_some_and(|hooks| hooks.reclaim(order, self.free_frames()))
    }

    /// Looks everywhere, also where no hint leads: others may have taken one away for their own
    /// look. And again, if pages were on their way from the pool to where they can be claimed.
    fn take_for_sure(&self, order: Order, cache: &CpuCache<'m, P::Word>) -> Option<Taken> {
        self.drain();
        let found = self.try_take_frames(order, cache);
        if found.is_some() {
            return found;
        }
        // A look for a page that finds none is one move itself.
        let own = u64::from(order == Order::PAGE);
        for _ in 0..LOOKS {
            let (begun, ended) = self.moves_at_rest();
            self.drain_unhinted();
            let found = self.try_take_frames(order, cache);
            if found.is_some() || (begun.wrapping_add(own), ended.wrapping_add(own)) == self.moves() {
                return found;
            }
        }
        None
    }

    /// How many moves of pages have begun and ended.
    pub(super) fn moves(&self) -> (u64, u64) {
        self.all_caches()
            .map(|cache| cache.moves())
            .fold((0, 0), |sum: (u64, u64), cache| (sum.0.wrapping_add(cache.0), sum.1.wrapping_add(cache.1)))
    }

    /// Whether at each CPU cache, at some moment of this call, no move was under way.
    pub(super) fn moves_have_ended(&self) -> bool {
        // What has ended is read first, so equal numbers were equal then.
        self.all_caches().map(|cache| cache.moves()).all(|(begun, ended)| begun == ended)
    }

    /// How many moves began and ended, once those that had begun have ended. A thread that is
    /// stopped in the middle of one is not waited for: the pages that it has are not free.
    pub(super) fn moves_at_rest(&self) -> (u64, u64) {
        let mut moves = self.moves();
        for _ in 0..TURNS {
            if moves.0 == moves.1 {
                break;
            }
            P::Word::relax();
            moves = self.moves();
        }
        moves
    }

    /// Notes what is about to be handed out, and has memory reclaimed when little is left.
    #[expect(clippy::arithmetic_side_effects, reason = "counts of frames, which fit into 63 bits")]
    pub(crate) fn watch(&self, order: Order) {
        if self.config.low_watermark == 0 {
            return;
        }
        if let Some(hooks) = self.config.hooks {
            let taken: i64 =
                self.all_caches().map(|cache| cache.taken()).sum::<i64>() + order.frames() as i64;
            let free = self.usable_frames().saturating_sub(taken.max(0) as u64);
            if free < self.config.low_watermark {
                hooks.reclaim(order, free);
            }
        }
        // Last: if the hook panics nothing was handed out.
        self.cpu_cache().note_taken(order.frames() as i64);
    }
}
