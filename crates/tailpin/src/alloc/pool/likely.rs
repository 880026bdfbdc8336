//! The largest free block, by hints.

use crate::alloc::ids::{PageblockId, RowId};
use crate::alloc::runs::largest;
use crate::atomic::AtomicWord;
use crate::frame::Order;

use super::Pool;

/// Places that are looked at for each order: a hint may lead nowhere.
const TRIES: usize = 4;

impl<W: AtomicWord> Pool<'_, W> {
    /// The order of the largest free block, of at most 2 MiB, that the first few hints of each
    /// order lead to.
    pub(crate) fn likely_largest(&self) -> Option<Order> {
        let is_whole = |id: PageblockId| self.pageblock(id).row_map().is_whole();
        let has_rows = |id: PageblockId, order| self.pageblock(id).row_map().largest() >= Some(order);
        let has_frames = |row: RowId, order| largest(self.free_in(row)) >= Some(order);
        let is_likely = |order: Order| match order {
            Order::HUGE => self.whole.iter().take(TRIES).any(is_whole),
            order if order >= Order::ROW => self
                .run_indexes()
                .any(|runs| runs.pageblocks_with(order).iter().take(TRIES).any(|id| has_rows(id, order))),
            order => self
                .run_indexes()
                .any(|runs| runs.rows_with(order).iter().take(TRIES).any(|row| has_frames(row, order))),
        };
        (0..=Order::HUGE.get()).rev().map(Order::wrap).find(|order| is_likely(*order))
    }
}
