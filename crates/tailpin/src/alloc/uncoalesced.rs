//! Uncoalesced frames: the way of a freed page to the next request for one.
//!
//! A page that is freed becomes uncoalesced in that very step, and is claimed in the very step that
//! hands it out, so its life is two atomic steps on one word. The hints in
//! [`uncoalesced_hints`](super::uncoalesced_hints) and in the [CPU caches](super::cpu_cache) say
//! where to look. Runs of pages coalesce only in the pool, so uncoalesced ones are
//! [drained](Allocator::drain) into it when a request misses them there.
//!
//! No uncoalesced page is forgotten. The thread that makes one uncoalesced looks *afterwards*
//! whether its row has it noted, and for a hint or a CPU cache that leads to the row; the thread
//! that takes any of these away looks *afterwards* for uncoalesced pages. Each writes first and
//! looks then, all of it SeqCst, so one of the two sees the other. A page that is noted and no
//! longer uncoalesced costs a look at a word, and the thread that looked clears it.

use crate::finally::Finally;
use crate::frame::{Order, PAGEBLOCK_FRAMES, Pfn};
use crate::frame_mask::RowMask;
use crate::page_state::Class;
use crate::protocol::Protocol;

use super::allocator::Allocator;
use super::cpu_cache::CpuCache;
use super::ids::{PAGEBLOCK_ROWS, PageblockId, ROW_FRAMES, RowId, Rows};

/// Pageblocks with uncoalesced pages that a request looks at before it takes one that may never
/// have been touched.
const LOOKED_AT: usize = 16;

/// Hints that are followed to say what is likely to be free.
const LIKELY: usize = 4;

/// If more of a row's pages are noted and not uncoalesced, what is noted of them is taken away: one
/// step, and another for each when it becomes uncoalesced, beside a look at each until then.
const MOSTLY: u32 = ROW_FRAMES as u32 / 2;

impl<'m, P: Protocol> Allocator<'m, P> {
    /// Sees to it that a page which has just become uncoalesced is found.
    #[inline(always)]
    pub(crate) fn publish_page_hint(&self, page: Pfn) {
        // Which CPU cache it is the caller's code says, which may panic.
        let unwinds = Finally(|| self.publish_hint_without_cache(RowMask::of_page(page)));
        let cache = self.cpu_cache();
        core::mem::forget(unwinds);
        self.publish_page_hint_in(cache, page);
    }

    /// Sees to it that pages which have just become uncoalesced are found.
    pub(crate) fn publish_page_hints(&self, pages: &[Pfn]) {
        // As in `publish_page_hint`.
        let unwinds = Finally(|| {
            pages.iter().for_each(|page| self.publish_hint_without_cache(RowMask::of_page(*page)))
        });
        let cache = self.cpu_cache();
        core::mem::forget(unwinds);
        let own = cache.row();
        pages.iter().for_each(|page| self.publish_page_hint_beside(own, cache, *page));
    }

    /// Sees to it that a page which has just become uncoalesced is found, and that this CPU cache
    /// remembers it. Where nothing has to lead to it anew it is a short straight line, compiled
    /// into the caller.
    #[inline(always)]
    pub(crate) fn publish_page_hint_in(&self, cache: CpuCache<'m, P::Word>, page: Pfn) {
        if self.is_found_by_row(cache, page) {
            cache.push(self.pool.number(page));
        } else {
            self.publish_page_hint_at(cache, page);
        }
    }

    /// Whether a page that has just become uncoalesced is found already: it is noted, and the CPU
    /// cache has its row reserved.
    #[inline(always)]
    #[expect(clippy::arithmetic_side_effects, reason = "a bit of a row")]
    pub(crate) fn is_found_by_row(&self, cache: CpuCache<'m, P::Word>, page: Pfn) -> bool {
        let number = self.pool.number(page);
        let row = RowId::of_frame(number);
        let noted = self.uncoalesced.pages(row) >> (number % ROW_FRAMES as u64) & 1 != 0;
        noted && cache.row() == Some(row)
    }

    /// Sees to it that a page which has just become uncoalesced is found, wherever it lies.
    #[inline(never)]
    pub(crate) fn publish_page_hint_at(&self, cache: CpuCache<'m, P::Word>, page: Pfn) {
        self.publish_page_hint_beside(cache.row(), cache, page);
    }

    /// The same where the CPU cache had the row `own` reserved after the page became uncoalesced.
    #[inline(always)]
    #[expect(clippy::arithmetic_side_effects, reason = "a bit of a row")]
    fn publish_page_hint_beside(&self, own: Option<RowId>, cache: CpuCache<'m, P::Word>, page: Pfn) {
        let number = self.pool.number(page);
        self.publish_hint_beside(own, cache, number, 1 << (number % ROW_FRAMES as u64));
    }

    /// Sees to it that pages which have just become uncoalesced are found, and that the CPU cache
    /// remembers the lowest of them: the others are where that one is.
    #[inline]
    pub(crate) fn publish_row_hint_in(&self, cache: CpuCache<'m, P::Word>, pages: RowMask) {
        let Some(lowest) = pages.iter().next() else { return };
        self.publish_hint_beside(cache.row(), cache, self.pool.number(lowest), pages.bits());
    }

    /// Pages of one row, the `lowest` of which has that number, have just become uncoalesced.
    #[inline(always)]
    fn publish_hint_beside(&self, own: Option<RowId>, cache: CpuCache<'m, P::Word>, lowest: u64, pages: u64) {
        let row = RowId::of_frame(lowest);
        let mut own = own;
        if pages & !self.uncoalesced.pages(row) != 0 {
            self.uncoalesced.note(row, pages);
            // The thread that had the CPU cache reserve another row looked at what was noted.
            own = cache.row();
        }
        if own == Some(row) {
            return cache.push(lowest);
        }
        // Beyond the own row a sparse pageblock is left alone, so that it becomes whole.
        if self.pool.is_sparse(row.pageblock()) {
            return self.freed_in_sparse(row);
        }
        cache.push(lowest);
        self.uncoalesced.rows.mark(row);
    }

    /// Sees to it that pages which have just become uncoalesced are found.
    pub(crate) fn publish_row_hint(&self, pages: RowMask) {
        // As in `publish_page_hint`.
        let unwinds = Finally(|| self.publish_hint_without_cache(pages));
        let cache = self.cpu_cache();
        core::mem::forget(unwinds);
        self.publish_row_hint_in(cache, pages);
    }

    /// After a page became uncoalesced in a sparse pageblock: with the last of its row, the row
    /// comes together, and so the pageblock is whole again when the last frame of it has come back.
    #[cold]
    fn freed_in_sparse(&self, row: RowId) {
        match self.uncoalesced_rest(row) {
            Some(pages) => self.coalesce_pages(row, pages),
            None => self.uncoalesced.rows.mark(row),
        }
    }

    /// The frames of a row that are not free in the pool, if all of them are uncoalesced.
    fn uncoalesced_rest(&self, row: RowId) -> Option<u64> {
        let rest = !self.pool.free_of(row);
        (rest & !self.uncoalesced.pages(row) == 0 && self.uncoalesced_of(row, rest) == rest).then_some(rest)
    }

    /// A pageblock that is free as a whole, though some of it is uncoalesced: it is whole in the
    /// pool now. It was in use, so its memory is there, while that of a pageblock which was never
    /// touched is not. Looks where the CPU freed a page last, and at the lowest
    /// [few](LOOKED_AT) that have uncoalesced pages.
    pub(crate) fn coalesce_emptied(&self, cache: &CpuCache<'m, P::Word>) -> Option<PageblockId> {
        let last = cache.next_page().map(PageblockId::of_frame);
        let mut from = RowId::FIRST;
        let hinted = core::iter::from_fn(|| {
            let id = self.uncoalesced.rows.next(from)?.pageblock();
            from = id.after(1).row(0);
            Some(id)
        });
        last.into_iter().chain(hinted.take(LOOKED_AT)).find(|id| self.coalesce_if_emptied(*id))
    }

    /// Whether all frames of a pageblock are free and some were uncoalesced, which are in the pool
    /// now.
    fn coalesce_if_emptied(&self, id: PageblockId) -> bool {
        let mut rests = [0; PAGEBLOCK_ROWS];
        for row in id.rows() {
            match self.uncoalesced_rest(row) {
                Some(rest) => rests[row.within()] = rest,
                None => return false,
            }
        }
        id.rows().for_each(|row| self.coalesce_pages(row, rests[row.within()]));
        rests != [0; PAGEBLOCK_ROWS]
    }

    /// Publishes the hint where no CPU cache is known.
    #[cold]
    fn publish_hint_without_cache(&self, pages: RowMask) {
        let row = RowId::of_frame(self.pool.number(pages.row()));
        self.uncoalesced.note(row, pages.bits());
        self.uncoalesced.rows.mark(row);
    }

    /// Publishes the hint to a whole pageblock that has just become uncoalesced.
    #[inline(always)]
    pub(crate) fn publish_pageblock_hint(&self, head: Pfn) {
        self.uncoalesced.pageblocks.mark(self.pool.pageblock_of(head));
        self.cpu_cache().set_next_pageblock(self.pool.pageblock_of(head));
    }

    /// Publishes the hint to a whole pageblock that has just become uncoalesced, which this CPU
    /// cache remembers.
    #[inline(always)]
    pub(crate) fn publish_pageblock_hint_in(&self, cache: CpuCache<'m, P::Word>, head: Pfn) {
        let pageblock = self.pool.pageblock_of(head);
        self.uncoalesced.pageblocks.mark(pageblock);
        cache.set_next_pageblock(pageblock);
    }

    /// An uncoalesced page: where the CPU cache remembers one, of the row that it has reserved, or
    /// of the lowest that is hinted at.
    pub(crate) fn claim_page(&self, cache: &CpuCache<'m, P::Word>) -> Option<Pfn> {
        // A place where no page was is discarded, so this ends unless other threads push more in
        // the same CPU cache.
        while let Some(number) = cache.next_page() {
            let page = self.pool.frame(number);
            if self.protocol.claim(page, Order::PAGE) {
                cache.pop();
                return Some(page);
            }
            cache.discard_top();
        }
        if let Some(row) = cache.row() {
            if let Some(page) = self.claim_in(self.uncoalesced_in(row), row, cache) {
                return Some(page);
            }
            self.reserve_row(cache, Some(row), None);
        }
        // Each turn takes away a hint, so it goes round only as long as pages become uncoalesced.
        loop {
            let row = self.next_row()?;
            let uncoalesced = self.uncoalesced_hinted(row);
            // With more than one the CPU cache reserves the row; with one, which is taken, there is
            // nothing to reserve.
            if uncoalesced.count_ones() > 1 && !self.reserve_row(cache, cache.row(), Some(row)) {
                self.uncoalesced.rows.mark(row);
            }
            if let Some(page) = self.claim_in(uncoalesced, row, cache) {
                return Some(page);
            }
        }
    }

    /// Page `nth` of a row.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "a frame's number within its zone")]
    pub(crate) fn page_of(&self, row: RowId, nth: u32) -> Pfn {
        self.pool.frame(row.first_frame() + u64::from(nth))
    }

    /// Claims one of these pages of a row, and has the CPU cache remember the others.
    #[expect(clippy::arithmetic_side_effects, reason = "a set bit is there to be taken away")]
    fn claim_in(&self, uncoalesced: u64, row: RowId, cache: &CpuCache<'m, P::Word>) -> Option<Pfn> {
        let mut rest = uncoalesced;
        while rest != 0 {
            let page = self.page_of(row, rest.trailing_zeros());
            rest &= rest - 1;
            if self.protocol.claim(page, Order::PAGE) {
                cache.push_row(row, rest);
                return Some(page);
            }
        }
        None
    }

    /// Has the CPU cache reserve the row `new` instead of `old`, and hints at what is left
    /// there. False if another thread came first.
    pub(crate) fn reserve_row(
        &self,
        cache: &CpuCache<'m, P::Word>,
        old: Option<RowId>,
        new: Option<RowId>,
    ) -> bool {
        let changed = cache.change_row(old, new);
        if changed && let Some(old) = old.filter(|old| new != Some(*old) && self.uncoalesced_in(*old) != 0) {
            self.uncoalesced.rows.mark(old);
        }
        changed
    }

    /// The lowest row that a hint leads to, which is taken away. What is uncoalesced in sparse
    /// pageblocks goes to the pool.
    fn next_row(&self) -> Option<RowId> {
        self.next_rows(1)?.next()
    }

    /// Rows of the lowest pageblock that hints lead to, one to `most`, 8 at most. These hints are
    /// taken away: of threads that come at once, each is led to other rows. What is uncoalesced in
    /// sparse pageblocks goes to the pool.
    fn next_rows(&self, most: usize) -> Option<Rows> {
        // Goes round only because a hint was taken away, here or by another thread.
        loop {
            let first = self.uncoalesced.rows.next(RowId::FIRST)?;
            let n = most.min(PAGEBLOCK_ROWS.saturating_sub(first.within()));
            let hinted = self.uncoalesced.rows.take(first, n);
            let rows = Rows::from(first, hinted);
            if self.pool.is_sparse(first.pageblock()) {
                rows.for_each(|row| self.coalesce(row));
            } else if hinted != 0 {
                return Some(rows);
            }
        }
    }

    /// The lowest row with uncoalesced pages that a hint leads to, and these pages, which the
    /// caller has reserved now, as it has the `rows` in which it looks first and which have no more
    /// than `most` pages.
    pub(crate) fn uncoalesced_row(&self, rows: &mut Rows, most: usize) -> Option<(RowId, u64)> {
        // As in `claim_page`.
        loop {
            let Some(row) = rows.next() else {
                *rows = self.next_rows((most / ROW_FRAMES).clamp(1, PAGEBLOCK_ROWS))?;
                continue;
            };
            let pages = self.uncoalesced_in(row);
            if pages != 0 {
                return Some((row, pages));
            }
        }
    }

    /// Up to `most` uncoalesced pages of the lowest row that a hint leads to and that has some, in
    /// use from here on. Each is looked at once. The caller has the `rows` reserved in which it
    /// looks first, as in [`Allocator::uncoalesced_row`].
    pub(crate) fn hand_out_row(&self, rows: &mut Rows, most: usize, class: Class) -> Option<RowMask> {
        // As in `claim_page`.
        loop {
            let Some(row) = rows.next() else {
                *rows = self.next_rows((most / ROW_FRAMES).clamp(1, PAGEBLOCK_ROWS))?;
                continue;
            };
            let noted = self.uncoalesced.pages(row);
            let taken = self.hand_out_among(row, noted, most, class);
            let other = noted & !taken;
            if taken.count_ones() as usize >= most {
                // Not all were looked at.
                if self.uncoalesced_of(row, other) != 0 {
                    self.hint_at_row(row);
                }
            } else if other.count_ones() > MOSTLY && self.clear_noted(row, other) != 0 {
                self.hint_at_row(row);
            }
            if taken != 0 {
                return Some(RowMask::new(self.page_of(row, 0), taken));
            }
        }
    }

    /// Hands out up to `most` of these pages of a row, of those that are uncoalesced the lowest.
    fn hand_out_among(&self, row: RowId, pages: u64, most: usize, class: Class) -> u64 {
        let first = self.page_of(row, 0);
        if P::HANDS_OUT_AT_ONCE {
            return self.protocol.claim_and_publish_among(first, pages, most, class);
        }
        let out = |page: &Pfn| self.hand_out_uncoalesced(*page, Order::PAGE, class);
        let taken = RowMask::new(first, pages).iter().filter(out).take(most);
        taken.fold(0, |taken, page| taken | RowMask::of_page(page).bits())
    }

    /// Has a hint lead to a row, as no CPU cache has it reserved any more.
    pub(crate) fn hint_at_row(&self, row: RowId) {
        self.uncoalesced.rows.mark(row);
    }

    /// The uncoalesced pages of a row.
    fn uncoalesced_in(&self, row: RowId) -> u64 {
        self.uncoalesced_of(row, self.uncoalesced.pages(row))
    }

    /// The uncoalesced pages of a row to which a hint led. What is noted of other pages is taken
    /// away, so that the next thread that is led here finds uncoalesced ones sooner.
    fn uncoalesced_hinted(&self, row: RowId) -> u64 {
        let noted = self.uncoalesced.pages(row);
        let uncoalesced = self.uncoalesced_of(row, noted);
        let other = noted & !uncoalesced;
        if other == 0 {
            return uncoalesced;
        }
        uncoalesced | self.clear_noted(row, other)
    }

    /// Notes of pages of a row that were not uncoalesced that they are not, but for those that are
    /// by now, which are returned.
    fn clear_noted(&self, row: RowId, other: u64) -> u64 {
        self.uncoalesced.clear_noted(row, other);
        let meanwhile = self.uncoalesced_of(row, other);
        if meanwhile != 0 {
            self.uncoalesced.note(row, meanwhile);
        }
        meanwhile
    }

    /// Which of these pages of a row are uncoalesced.
    fn uncoalesced_of(&self, row: RowId, pages: u64) -> u64 {
        self.protocol.uncoalesced_among(self.page_of(row, 0), pages)
    }

    /// Has the CPU look for its next pageblocks in its own part of the zone. CPUs that take many at
    /// once begin far apart, so that none comes where another one is.
    pub(crate) fn begin_in_own_part(&self) {
        let cache = self.cpu_cache();
        cache.set_next_pageblock(cache.first_pageblock(self.pool.pageblocks().len()));
    }

    /// An uncoalesced pageblock: the first from `from` on, else the first of all.
    pub(crate) fn claim_pageblock_from(&self, from: PageblockId) -> Option<Pfn> {
        let head = |id: PageblockId| self.pool.first_frame(id);
        let worth = |id: PageblockId| self.protocol.is_uncoalesced(head(id), Order::HUGE);
        let claim = |id: PageblockId| self.protocol.claim(head(id), Order::HUGE).then(|| head(id));
        let search = |from| self.uncoalesced.pageblocks.search(from, worth, claim);
        search(from).or_else(|| search(PageblockId::FIRST))
    }

    /// Brings uncoalesced pages and pageblocks into the pool, where they come together to larger
    /// blocks. It looks once at each row and pageblock that is hinted at.
    pub(crate) fn drain(&self) {
        for cache in self.all_caches() {
            if let Some(row) = cache.row()
                && cache.change_row(Some(row), None)
            {
                self.coalesce(row);
            }
        }
        self.coalesce_hinted(usize::MAX);
        self.coalesce_all_parked();
        for pageblock in self.uncoalesced.pageblocks.iter() {
            self.uncoalesced.pageblocks.clear(pageblock, || false);
            let head = self.pool.first_frame(pageblock);
            if self.protocol.claim(head, Order::HUGE) {
                self.give(head, Order::HUGE);
            }
        }
    }

    /// Coalesces wherever an uncoalesced page is noted or a pageblock is uncoalesced, whether or
    /// not a hint leads there.
    pub(crate) fn drain_unhinted(&self) {
        // What is noted stays: most pages that are in use will be uncoalesced again.
        self.uncoalesced.noted().for_each(|row| self.coalesce_pages(row, self.uncoalesced_in(row)));
        for head in self.pool.pageblocks().map(|id| self.pool.first_frame(id)) {
            if self.protocol.claim(head, Order::HUGE) {
                self.give(head, Order::HUGE);
            }
        }
    }

    /// Coalesces the pages of the lowest rows that are hinted at, a pageblock's worth of them;
    /// false if there is none.
    pub(crate) fn coalesce_some(&self) -> bool {
        self.coalesce_hinted(PAGEBLOCK_ROWS) > 0
    }

    fn coalesce_hinted(&self, most: usize) -> usize {
        let coalesce = |row: RowId| {
            self.uncoalesced.rows.clear(row, || false);
            self.coalesce(row);
        };
        self.uncoalesced.rows.iter().take(most).map(coalesce).count()
    }

    fn coalesce(&self, row: RowId) {
        self.coalesce_pages(row, self.uncoalesced_hinted(row));
    }

    fn coalesce_pages(&self, row: RowId, uncoalesced: u64) {
        let (mut rest, mut pages) = (uncoalesced, 0);
        while rest != 0 {
            let lowest = rest & rest.wrapping_neg();
            if self.protocol.claim(self.page_of(row, rest.trailing_zeros()), Order::PAGE) {
                pages |= lowest;
            }
            rest ^= lowest;
        }
        if pages != 0 {
            self.give_pages(row, pages);
        }
    }

    /// Uncoalesced frames, by a look from outside.
    #[expect(clippy::arithmetic_side_effects, reason = "no more than the zone has frames")]
    pub(crate) fn uncoalesced_frames(&self) -> u64 {
        let reserved = |caches: usize| self.all_caches().take(caches).filter_map(|cache| cache.row());
        // Rows that a CPU cache has reserved may be hinted at too, and two CPU caches may have
        // one.
        let unhinted = self.all_caches().enumerate().filter_map(|(index, cache)| {
            let row = cache.row()?;
            let new = !self.uncoalesced.rows.leads_to(row) && reserved(index).all(|earlier| earlier != row);
            new.then_some(row)
        });
        let rows = self.uncoalesced.rows.iter().chain(unhinted);
        let pages: u64 = rows.map(|row| u64::from(self.uncoalesced_in(row).count_ones())).sum();
        pages + self.uncoalesced_pageblocks() * PAGEBLOCK_FRAMES as u64
    }

    /// The order of the largest free block, of at most 2 MiB, that the first few hints lead to.
    pub(crate) fn likely_largest(&self) -> Option<Order> {
        let whole = |id: PageblockId| {
            self.protocol.is_uncoalesced(self.pool.first_frame(id), Order::HUGE).then_some(Order::HUGE)
        };
        let uncoalesced = self.uncoalesced.pageblocks.iter().take(LIKELY).find_map(whole);
        let pages = || self.uncoalesced.rows.iter().take(LIKELY).any(|row| self.uncoalesced_in(row) != 0);
        uncoalesced
            .max(self.pool.likely_largest())
            .max(self.likely_parked())
            .or_else(|| pages().then_some(Order::PAGE))
    }

    /// Pageblocks that are uncoalesced as a whole.
    pub(crate) fn uncoalesced_pageblocks(&self) -> u64 {
        let is_uncoalesced =
            |id: &PageblockId| self.protocol.is_uncoalesced(self.pool.first_frame(*id), Order::HUGE);
        self.uncoalesced.pageblocks.iter().filter(is_uncoalesced).count() as u64
    }
}
