//! Runs come back: any part of what was handed out, in any number of calls.
//!
//! What is given back ends where the caller says, which may be in the middle of a block. The block
//! is split there first, as any holder of a reference may split it, and each piece loses one
//! reference then. Two threads that give back parts of one block at the same moment split it
//! together: each looks again at the block that it finds its frames in, and goes on only when no
//! split of that block is under way. From then on a thread that still helps with it finds every
//! tail changed, since the pin under which it helps keeps the block's first frame in use.
//!
//! Nothing is believed: all frames are looked at before the first one is given back, and again in
//! the step that does so.

use core::cell::Cell;

use crate::error::TokenError;
use crate::finally::to_the_end;
use crate::frame::{FrameRange, Order, Pfn};
use crate::frame_mask::FrameMask;
use crate::page_state::Kind;
use crate::protocol::{FreeSink, Protocol, RawBlock};
use crate::report::{Cause, Misuse};

use super::allocator::Allocator;
use super::ids::{ROW_FRAMES, RowId};
use super::runs::run;

impl<'m, P: Protocol> Allocator<'m, P> {
    /// One reference less on each frame of `range`. Errs with a frame of which the caller can't
    /// have had one; if no other thread misused the run at the same time, nothing was given back.
    pub(crate) fn free_run(&self, range: FrameRange) -> Result<(), (Pfn, Cause)> {
        let sink = RowSink { allocator: self, row: Cell::new(RowId::FIRST), frames: Cell::new(0) };
        let mut at = range.start;
        while range.contains(at) {
            at = match self.protocol.is_lone_page(at) {
                true => at.offset(1),
                false => self.block_to_free(range, at, &sink)?.frames().end,
            };
        }
        let (next, wrong) = (Cell::new(range.start), Cell::new(None));
        // Goes on behind a block of which a hook that hears of it panics.
        to_the_end(|| {
            while range.contains(next.get()) && wrong.get().is_none() {
                wrong.set(self.free_next(range, &next, &sink).err());
            }
        });
        wrong.get().map_or(Ok(()), Err)
    }

    /// Gives back the block that begins at `next`, which moves on, if it ends within `range`; else
    /// splits the block that is there.
    fn free_next(
        &self,
        range: FrameRange,
        next: &Cell<Pfn>,
        sink: &impl FreeSink,
    ) -> Result<(), (Pfn, Cause)> {
        let at = next.get();
        // Before the step, as what follows that one may panic.
        next.set(at.offset(1));
        if self.protocol.free_lone_page(at, sink) {
            return Ok(());
        }
        next.set(at);
        let block = self.block_to_free(range, at, sink)?;
        let FrameRange { start, end } = block.frames();
        let done = if start < at {
            self.split_at(block, at, sink)
        } else if end > range.end {
            self.split_at(block, range.end, sink)
        } else {
            next.set(end);
            self.protocol.raw_put_block(block, 1, sink).inspect_err(|_| next.set(at))
        };
        match done {
            // Another thread that gives back a part of the same block has split it.
            Err(_) if self.block_to_free(range, at, sink)? != block => Ok(()),
            done => done,
        }
    }

    /// The block that `at` is in, of which the frames in `range` can be given back.
    fn block_to_free(
        &self,
        range: FrameRange,
        at: Pfn,
        sink: &impl FreeSink,
    ) -> Result<RawBlock, (Pfn, Cause)> {
        let (head, state) = self.protocol.settled_block(at, sink).ok_or((at, Cause::FrameIsFree))?;
        let block = RawBlock::from_parts(head, state.order, state.generation);
        let FrameRange { start, end } = block.frames();
        let parted = start < range.start || range.end < end;
        if state.kind == Kind::Merging {
            Err((at, Cause::BeingMerged))
        } else if state.refs == 0 {
            Err((at, Cause::TooFewReferences))
        } else if parted && (!P::REARRANGES || state.unsplittable) {
            Err((at, Cause::InsideBlock { head, order: state.order }))
        } else {
            Ok(block)
        }
    }

    /// Splits a block so that a piece begins at `edge`.
    fn split_at(&self, block: RawBlock, edge: Pfn, sink: &impl FreeSink) -> Result<(), (Pfn, Cause)> {
        let aligned = edge.get().trailing_zeros().min(u32::from(Order::MAX.get())) as u8;
        let split = self.protocol.raw_split_around(block, edge, Order::wrap(aligned), sink);
        split.map_err(|error| match error {
            TokenError::Misuse { frame, cause } => (frame, cause),
            TokenError::Refused(_) => (edge, Cause::InsideBlock { head: block.pfn(), order: block.order() }),
        })
    }
}

/// Collects what becomes free, so that a row goes back to the pool in one step.
struct RowSink<'a, 'm, P: Protocol> {
    allocator: &'a Allocator<'m, P>,
    /// The row of which frames are collected, and these.
    row: Cell<RowId>,
    frames: Cell<u64>,
}

impl<P: Protocol> RowSink<'_, '_, P> {
    fn give_collected(&self) {
        let frames = self.frames.take();
        if frames != 0 {
            self.allocator.give_pages(self.row.get(), frames);
        }
    }
}

impl<P: Protocol> Drop for RowSink<'_, '_, P> {
    fn drop(&mut self) {
        self.give_collected();
    }
}

impl<P: Protocol> FreeSink for RowSink<'_, '_, P> {
    #[expect(clippy::arithmetic_side_effects, reason = "a bit of a row")]
    fn freed_block(&self, head: Pfn, order: Order) {
        if order >= Order::ROW || self.allocator.has_hooks() {
            return self.allocator.freed_block(head, order);
        }
        let number = self.allocator.pool.number(head);
        let row = RowId::of_frame(number);
        if self.row.get() != row {
            self.give_collected();
            self.row.set(row);
        }
        self.frames.set(self.frames.get() | run(order, (number % ROW_FRAMES as u64) as u32));
    }

    fn freed_frames(&self, pageblock: Pfn, frames: &FrameMask) {
        self.allocator.freed_frames(pageblock, frames);
    }

    fn freed_offline(&self, frame: Pfn) {
        self.allocator.freed_offline(frame);
    }

    fn misuse(&self, misuse: &Misuse) {
        self.allocator.misuse(misuse);
    }
}
