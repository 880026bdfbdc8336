//! Where in the pool a request fits best.
//!
//! A request looks for runs of exactly its own order first, then for larger ones, and takes the
//! lowest place there is, so that large runs stay whole; in pageblocks that are not sparse first,
//! then in sparse ones, and in whole pageblocks last of all. A row counts by its largest free run,
//! a pageblock by its largest run of whole rows.

use crate::alloc::hint_bitmap::HintBitmap;
use crate::alloc::ids::{PageblockId, Place, RowId};
use crate::alloc::pageblock::{ROW_ORDER, RowMap};
use crate::alloc::run_index::{Fullness, RunIndex};
use crate::alloc::runs::{best, largest, lowest, run, smallest};
use crate::atomic::AtomicWord;
use crate::frame::Order;

use super::{Pool, Taken};

impl<'m, W: AtomicWord> Pool<'m, W> {
    /// A free block of `order`, less than 2 MiB, out of nothing larger than a block of `largest`.
    pub(crate) fn take_part(&self, order: Order, largest: Order) -> Option<Taken> {
        let number = if order < ROW_ORDER {
            let select = |free| best(free, order).map(|bit| run(order, bit));
            let (row, mask) = self.take_frames(order, largest, select)?;
            row.first_frame() + u64::from(mask.trailing_zeros())
        } else {
            let (id, rows) = self.take_rows(order, largest)?;
            id.row(rows.trailing_zeros() as usize).first_frame()
        };
        Some(Taken::scrubbed(self.frame(number)))
    }

    /// At most so many single pages of one row, those in the smallest runs, out of nothing larger
    /// than a block of `largest`: the row, and a mask.
    pub(crate) fn take_pages(&self, largest: Order, most: usize) -> Option<(RowId, u64)> {
        let select = |free| (free != 0).then(|| lowest(smallest(free), most));
        self.take_frames(Order::PAGE, largest, select)
    }

    /// What `select` picks, from the lowest of the rows that come closest to `order`, in sparse
    /// pageblocks last; only if there is none is one more taken out. Returns the row and what was
    /// taken of it.
    fn take_frames(
        &self,
        order: Order,
        largest: Order,
        select: impl Fn(u64) -> Option<u64>,
    ) -> Option<(RowId, u64)> {
        let first_of = |(id, rows): (PageblockId, u64)| {
            let row = id.row(rows.trailing_zeros() as usize);
            let taken = select(!0)?;
            self.offer(row, !taken);
            Some((row, taken))
        };
        Fullness::ALL
            .into_iter()
            .find_map(|fullness| {
                let mut orders = (order.get()..ROW_ORDER.get()).map(Order::wrap);
                let found = orders.find_map(|largest| self.take_frames_in(fullness, largest, &select));
                found.or_else(|| self.take_rows_in(fullness, ROW_ORDER).and_then(first_of))
            })
            .or_else(|| self.take_rows_of_whole(ROW_ORDER, largest).and_then(first_of))
            // Before giving up: without the hints, which may lag behind a free under way.
            .or_else(|| self.take_rows_unhinted(ROW_ORDER, largest).and_then(first_of))
            .or_else(|| {
                let mut rows = self.last_resort(largest).flat_map(PageblockId::rows);
                rows.find_map(|row| self.claim_frames(row, &select))
            })
    }

    /// Of pageblocks of one fullness class, in a row whose largest run has this order.
    fn take_frames_in(
        &self,
        fullness: Fullness,
        order: Order,
        select: impl Fn(u64) -> Option<u64>,
    ) -> Option<(RowId, u64)> {
        let fits = |free: u64| largest(free) == Some(order);
        self.search(
            fullness,
            |index| index.rows_with(order),
            RowId::pageblock,
            |row| fits(self.free_in(row)),
            |row| self.claim_frames(row, |free| if fits(free) { select(free) } else { None }),
        )
    }

    /// Follows the hints of one bitmap of a run index. One to a place of a pageblock that has
    /// become sparse goes to the run index of these; nothing has to leave that one.
    #[inline]
    fn search<T, P: Place>(
        &self,
        fullness: Fullness,
        hints: impl for<'s> Fn(&'s RunIndex<'m, W>) -> &'s HintBitmap<'m, W, P>,
        pageblock_of: impl Fn(P) -> PageblockId,
        fits: impl Fn(P) -> bool,
        claim: impl Fn(P) -> Option<T>,
    ) -> Option<T> {
        let belongs = |place| fullness == Fullness::Sparse || !self.is_sparse(pageblock_of(place));
        let take = |place| if belongs(place) { claim(place) } else { None };
        let stays = |place| {
            let (fits, here) = (fits(place), belongs(place));
            if fits && !here {
                hints(&self.sparse).mark(place);
            }
            fits && here
        };
        hints(self.run_index(fullness)).search(P::from_index(0), stays, take)
    }

    fn claim_frames(&self, row: RowId, select: impl Fn(u64) -> Option<u64>) -> Option<(RowId, u64)> {
        let (taken, left) = self.pageblock(row.pageblock()).claim(row.within(), select)?;
        self.row_changed(row, left);
        Some((row, taken))
    }

    /// What is looked at before giving up on whole pageblocks too: all.
    fn last_resort(&self, largest: Order) -> impl Iterator<Item = PageblockId> + use<W> {
        self.pageblocks().take(if largest == Order::HUGE { usize::MAX } else { 0 })
    }

    /// Frees part of a row that the caller took out.
    pub(super) fn offer(&self, row: RowId, frames: u64) {
        if frames != 0 {
            self.pageblock(row.pageblock()).offer(row.within(), frames);
            self.row_changed(row, frames);
        }
    }

    /// A run of rows for a block of `order`, 6 to 8, as (pageblock, rows), from the lowest of the
    /// pageblocks that come closest to it, sparse ones last.
    fn take_rows(&self, order: Order, largest: Order) -> Option<(PageblockId, u64)> {
        Fullness::ALL
            .into_iter()
            .find_map(|fullness| self.take_rows_in(fullness, order))
            .or_else(|| self.take_rows_of_whole(order, largest))
            // Before giving up: as in `take_frames`.
            .or_else(|| self.take_rows_unhinted(order, largest))
    }

    fn take_rows_unhinted(&self, order: Order, largest: Order) -> Option<(PageblockId, u64)> {
        self.last_resort(largest).find_map(|id| self.claim_rows(id, |map| map.best(order)))
    }

    /// Of pageblocks of one fullness class.
    fn take_rows_in(&self, fullness: Fullness, order: Order) -> Option<(PageblockId, u64)> {
        (order.get()..Order::HUGE.get()).map(Order::wrap).find_map(|largest| {
            let fits = |map: RowMap| map.largest() == Some(largest);
            self.search(
                fullness,
                |index| index.pageblocks_with(largest),
                |id| id,
                |id| fits(self.pageblock(id).row_map()),
                |id| self.claim_rows(id, |map| if fits(map) { map.best(order) } else { None }),
            )
        })
    }

    /// Of a whole pageblock, if `largest` allows that.
    fn take_rows_of_whole(&self, order: Order, largest: Order) -> Option<(PageblockId, u64)> {
        if largest < Order::HUGE {
            return None;
        }
        let take = |id| self.claim_rows(id, |map| if map.is_whole() { map.best(order) } else { None });
        self.whole.search(PageblockId::FIRST, |id| self.pageblock(id).row_map().is_whole(), take)
    }

    fn claim_rows(
        &self,
        id: PageblockId,
        select: impl Fn(RowMap) -> Option<u64>,
    ) -> Option<(PageblockId, u64)> {
        let (rows, change) = self.pageblock(id).take_rows(select)?;
        self.row_map_changed(id, change);
        Some((id, rows))
    }
}
