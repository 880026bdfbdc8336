//! Where in the pool a request fits best.
//!
//! A request looks for runs of exactly its own order first, then for larger ones, and takes the
//! lowest place there is, so that large runs stay whole; in pageblocks that are not sparse first,
//! then in sparse ones, and in whole pageblocks last of all. A row counts by its largest free run,
//! a pageblock by its largest run of whole rows.

use crate::alloc::hint_bitmap::HintBitmap;
use crate::alloc::ids::{PageblockId, Place, ROW_FRAMES, RowId};
use crate::alloc::pageblock::RowMap;
use crate::alloc::run_index::{Fullness, RunIndex};
use crate::alloc::runs::{best, fitting, largest, lowest, run, smallest};
use crate::atomic::AtomicWord;
use crate::frame::{Order, Pfn};

use super::{Pool, Taken};

#[cfg(test)]
mod tests;

/// The order of the smallest block with room for `n` frames, 1 to 512.
fn order_for(n: u64) -> Order {
    Order::wrap(n.next_power_of_two().trailing_zeros() as u8)
}

impl<'m, W: AtomicWord> Pool<'m, W> {
    /// A free block of `order`, less than 2 MiB, out of nothing larger than a block of `largest`.
    #[expect(clippy::arithmetic_side_effects, reason = "a frame's number within its zone")]
    pub(crate) fn take_part(&self, order: Order, largest: Order) -> Option<Taken> {
        let number = if order < Order::ROW {
            let select = |free| best(free, order).map(|bit| run(order, bit));
            let (row, mask) = self.take_frames(order, largest, select)?;
            row.first_frame() + u64::from(mask.trailing_zeros())
        } else {
            let (id, rows) = self.take_rows(order, largest, |map| map.best(order))?;
            id.row(rows.trailing_zeros() as usize).first_frame()
        };
        Some(Taken::scrubbed(self.frame(number)))
    }

    /// `n` frames side by side, 1 to 512, the first at a multiple of the frames of `align`, 0 to 9,
    /// out of nothing larger than a block of `largest`: the first of them. What is taken is just
    /// these: of a row that is whole, the others are free as before.
    ///
    /// Looks where a block that has room for them would fit; there may be room elsewhere.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "frames of a pageblock at most, and a frame's number within its zone"
    )]
    pub(crate) fn take_side_by_side(&self, n: u64, align: Order, largest: Order) -> Option<Pfn> {
        let order = order_for(n).max(align);
        if order < Order::ROW {
            let (row, mask) = self.take_frames(order, largest, |free| fitting(free, n as u32, align))?;
            return Some(self.frame(row.first_frame() + u64::from(mask.trailing_zeros())));
        }
        let (rows, align) = (n.div_ceil(ROW_FRAMES as u64), align.max(Order::ROW));
        let (id, taken) = self.take_rows(order, largest, |map| map.fitting(rows as u32, align))?;
        let first = taken.trailing_zeros() as usize;
        self.offer_above(id.row(first), n);
        Some(self.frame(id.row(first).first_frame()))
    }

    /// Frees all frames of rows that the caller took out, the first of which is `first`, but the
    /// lowest `n`.
    #[expect(clippy::arithmetic_side_effects, reason = "rows of a pageblock")]
    pub(super) fn offer_above(&self, first: RowId, n: u64) {
        let kept = n % ROW_FRAMES as u64;
        if kept != 0 {
            let last = first.pageblock().row(first.within() + (n / ROW_FRAMES as u64) as usize);
            self.offer(last, !0 << kept);
        }
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
        let one_row = |map: RowMap| map.best(Order::ROW);
        let first_of = |(id, rows): (PageblockId, u64)| {
            let row = id.row(rows.trailing_zeros() as usize);
            let taken = select(!0)?;
            self.offer(row, !taken);
            Some((row, taken))
        };
        Fullness::ALL
            .into_iter()
            .find_map(|fullness| {
                let mut orders = (order.get()..Order::ROW.get()).map(Order::wrap);
                let found = orders.find_map(|largest| self.take_frames_in(fullness, largest, &select));
                found.or_else(|| self.take_rows_in(fullness, Order::ROW, one_row).and_then(first_of))
            })
            .or_else(|| self.take_rows_of_whole(largest, one_row).and_then(first_of))
            // Before giving up: without the hints, which may lag behind a free under way.
            .or_else(|| self.take_rows_unhinted(largest, one_row).and_then(first_of))
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

    pub(super) fn claim_frames(
        &self,
        row: RowId,
        select: impl Fn(u64) -> Option<u64>,
    ) -> Option<(RowId, u64)> {
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

    /// The rows that `select` picks, as (pageblock, rows), from the lowest of the pageblocks that
    /// come closest to a block of `order`, 6 to 9, sparse ones last. It picks some wherever there
    /// is such a block.
    fn take_rows(
        &self,
        order: Order,
        largest: Order,
        select: impl Fn(RowMap) -> Option<u64>,
    ) -> Option<(PageblockId, u64)> {
        Fullness::ALL
            .into_iter()
            .find_map(|fullness| self.take_rows_in(fullness, order, &select))
            .or_else(|| self.take_rows_of_whole(largest, &select))
            // Before giving up: as in `take_frames`.
            .or_else(|| self.take_rows_unhinted(largest, &select))
    }

    fn take_rows_unhinted(
        &self,
        largest: Order,
        select: impl Fn(RowMap) -> Option<u64>,
    ) -> Option<(PageblockId, u64)> {
        self.last_resort(largest).find_map(|id| self.claim_rows(id, &select))
    }

    /// Of pageblocks of one fullness class.
    fn take_rows_in(
        &self,
        fullness: Fullness,
        order: Order,
        select: impl Fn(RowMap) -> Option<u64>,
    ) -> Option<(PageblockId, u64)> {
        (order.get()..Order::HUGE.get()).map(Order::wrap).find_map(|largest| {
            let fits = |map: RowMap| map.largest() == Some(largest);
            self.search(
                fullness,
                |index| index.pageblocks_with(largest),
                |id| id,
                |id| fits(self.pageblock(id).row_map()),
                |id| self.claim_rows(id, |map| if fits(map) { select(map) } else { None }),
            )
        })
    }

    /// Of a whole pageblock, if `largest` allows that.
    fn take_rows_of_whole(
        &self,
        largest: Order,
        select: impl Fn(RowMap) -> Option<u64>,
    ) -> Option<(PageblockId, u64)> {
        if largest < Order::HUGE {
            return None;
        }
        let take = |id| self.claim_rows(id, |map| if map.is_whole() { select(map) } else { None });
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
