//! A run of pieces, each with one reference: what a split gives, and what a merge takes.

use core::fmt;
use core::mem::ManuallyDrop;

use crate::error::MergeError;
use crate::frame::{FrameRange, Order, Pfn};
use crate::one_word::OneWord;
use crate::protocol::Protocol;
use crate::zone::Zone;

use super::Block;

/// One reference to each piece of a contiguous run. Iterating takes them as [`Block`]s; what is not
/// taken is given back on drop.
pub struct Pieces<'z, P: Protocol = OneWord<'z>> {
    zone: &'z Zone<'z, P>,
    range: FrameRange,
}

impl<'z, P: Protocol> Pieces<'z, P> {
    pub(crate) fn adopt(zone: &'z Zone<'z, P>, range: FrameRange) -> Self {
        Self { zone, range }
    }

    /// The frames not yet taken.
    pub fn frames(&self) -> FrameRange {
        self.range
    }

    /// Adds the block that follows the run directly.
    ///
    /// Progress: wait-free; nothing shared is touched.
    ///
    /// # Errors
    /// The block, if it does not, or is from another zone.
    pub fn append(&mut self, block: Block<'z, P>) -> Result<(), Block<'z, P>> {
        if block.pfn() != self.range.end || !core::ptr::eq(block.zone(), self.zone) {
            return Err(block);
        }
        self.range.end = ManuallyDrop::new(block).frames().end;
        Ok(())
    }

    /// Makes one block of the run again, in place, whatever is pinned while it does.
    ///
    /// Progress: lock-free; see `Rearrange::merge`.
    ///
    /// # Errors
    /// The run, and why not: [`MergeError::NotABlock`] if it is no aligned power of two,
    /// [`MergeError::Shared`] if another handle has a reference to a piece.
    pub fn merge(self) -> Result<Block<'z, P>, (Self, MergeError)> {
        let Some(order) = self.range.as_order() else { return Err((self, MergeError::NotABlock)) };
        match self.zone.protocol().merge(self.range.start, order, self.zone) {
            Ok(()) => {
                let run = ManuallyDrop::new(self);
                Ok(Block::adopt(run.zone, run.range.start, order))
            }
            Err(error) => Err((self, error)),
        }
    }

    fn order_at(&self, at: Pfn) -> Order {
        self.zone.protocol().state(at).order
    }

    /// How many pieces were not taken yet.
    ///
    /// Progress: wait-free; one load for each piece.
    pub fn len(&self) -> usize {
        let orders =
            core::iter::successors(Some(self.range.start), |at| Some(at.offset(self.order_at(*at).frames())));
        orders.take_while(|at| self.range.contains(*at)).count()
    }

    /// Whether all have been taken.
    pub fn is_empty(&self) -> bool {
        self.range.frames() == 0
    }
}

impl<'z, P: Protocol> Iterator for Pieces<'z, P> {
    type Item = Block<'z, P>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.range.start;
        if self.is_empty() {
            return None;
        }
        let order = self.order_at(at);
        self.range.start = at.offset(order.frames());
        Some(Block::adopt(self.zone, at, order))
    }
}

impl<P: Protocol> Drop for Pieces<'_, P> {
    /// One reference less on each piece that was not taken.
    ///
    /// Progress: lock-free; one compare-and-swap for each piece.
    fn drop(&mut self) {
        self.zone.protocol().put_pieces(self.range, 1, self.zone);
    }
}

impl<P: Protocol> fmt::Debug for Pieces<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pieces({}..{})", self.range.start, self.range.end)
    }
}
