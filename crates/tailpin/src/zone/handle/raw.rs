//! The raw interface: frame numbers and tokens, for kernels that keep them in page tables and
//! lists.
//!
//! Nothing here is believed. What a caller claims is checked against the frame's state in the same
//! atomic step that acts on it, in release builds too; what does not fit is reported and the frame
//! goes out of service.
//!
//! What can't be told is who is calling: a token that is right in all its parts is its holder's,
//! and of a block with several references any one is as good as another.

use core::mem::ManuallyDrop;

use crate::alloc::config::Request;
use crate::error::{AllocError, GetError, MergeError, RunError, SplitError, TokenError};
use crate::frame::{FrameRange, Order, Pfn};
use crate::one_word::OneWord;
use crate::page_state::PageState;
use crate::protocol::{PagePin, Protocol, RawBlock};
use crate::report::{Cause, Misuse, Operation};
use crate::zone::Zone;

use super::Block;
use crate::alloc::run_request::RunRequest;

/// The raw interface of a zone, from [`Zone::raw`].
///
/// A program that hands out memory under the zone's frames must not hand this out too: it can free
/// what others have.
///
/// ```
/// # use tailpin::*;
/// # let ranges = [FrameRange::new(Pfn::new(0), 512)];
/// # let layout = ZoneLayout::new(&ranges, 1).unwrap();
/// # let memory = ZoneMemory::for_layout(&layout);
/// # let zone = memory.zone(layout, ZoneConfig::default()).unwrap();
/// let raw = zone.raw();
/// let page = raw.alloc(Request::new(Order::PAGE))?;
/// raw.free(page)?;
/// let misuse = raw.free(page).unwrap_err(); // a double free, noticed in release builds
/// assert_eq!(misuse.cause, Cause::FrameIsFree);
/// assert_eq!(zone.set_aside_frames(), 1);   // and the frame is never handed out again
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Raw<'z, P: Protocol = OneWord<'z>> {
    zone: &'z Zone<'z, P>,
}

impl<'z, P: Protocol> Raw<'z, P> {
    pub(crate) fn new(zone: &'z Zone<'z, P>) -> Self {
        Self { zone }
    }

    /// Allocates a block, and hands out a token in place of a handle.
    ///
    /// Progress: lock-free; as [`Zone::alloc`].
    ///
    /// # Errors
    /// As [`Zone::alloc`].
    pub fn alloc(&self, request: Request) -> Result<RawBlock, AllocError> {
        self.zone.alloc_with(request).map(Block::into_raw)
    }

    /// Drops the only reference to a block.
    ///
    /// Progress: lock-free; as [`Block`]'s drop.
    ///
    /// # Errors
    /// What is wrong with the token; it has been reported and the frame goes out of service.
    pub fn free(&self, block: RawBlock) -> Result<(), Misuse> {
        let freed = self.inside(block).and_then(|()| self.protocol().raw_free(block, self.zone));
        freed.map_err(|cause| self.zone.report(block.pfn(), Operation::Free, cause))
    }

    /// Frames side by side, one reference to each; see [`Zone::alloc_run_with`].
    ///
    /// Progress: lock-free; as that.
    ///
    /// # Errors
    /// As [`Zone::alloc_run_with`].
    pub fn alloc_run(&self, request: RunRequest) -> Result<FrameRange, RunError> {
        self.zone.allocator.alloc_run(request)
    }

    /// Just these frames; see [`Zone::alloc_run_at`].
    ///
    /// Progress: lock-free; as that.
    ///
    /// # Errors
    /// As [`Zone::alloc_run_at`].
    pub fn alloc_run_at(&self, range: FrameRange) -> Result<(), RunError> {
        self.zone.allocator.alloc_run_at(range)
    }

    /// One reference less on each frame of `range`: of a run, any part of it, in any number of
    /// calls; or of blocks, where the range may begin and end inside one. Pinned pages are free
    /// when their pins have gone.
    ///
    /// What can't be told is who is calling: frames that are in use and have a reference are
    /// believed to be the caller's.
    ///
    /// Progress: lock-free; as [`Raw::put_many`] for each block, and as [`Raw::split_around`] for
    /// the ones at the ends that are not given back as a whole.
    ///
    /// # Errors
    /// The misuse, if a frame is free, has no reference, or is of a block that neither lies within
    /// the range nor can be split; it has been reported and the frame goes out of service. No
    /// reference was given back, unless another thread misused the frames at the same time.
    ///
    /// ```
    /// # use tailpin::*;
    /// # let ranges = [FrameRange::new(Pfn::new(0), 4096)];
    /// # let layout = ZoneLayout::new(&ranges, 1).unwrap();
    /// # let memory = ZoneMemory::for_layout(&layout);
    /// # let zone = memory.zone(layout, ZoneConfig::default()).unwrap();
    /// let raw = zone.raw();
    /// let run = raw.alloc_run(RunRequest::new(3000))?;
    /// raw.free_run(FrameRange::new(run.start, 100))?;
    /// raw.free_run(FrameRange { start: run.start.offset(100), end: run.end })?;
    /// let misuse = raw.free_run(FrameRange::new(run.start, 5)).unwrap_err();
    /// assert_eq!(misuse.cause, Cause::FrameIsFree);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn free_run(&self, range: FrameRange) -> Result<(), Misuse> {
        let inside = self.zone.span().holds(range) || range.start >= range.end;
        let inside = if inside { Ok(()) } else { Err((range.start, Cause::NotInZone)) };
        let freed = inside.and_then(|()| self.zone.allocator.free_run(range));
        freed.map_err(|(frame, cause)| self.zone.report(frame, Operation::Free, cause))
    }

    /// Pins a page by number (`get_page_unless_zero`); look again where you found the number.
    ///
    /// Progress: lock-free; as [`Zone::try_pin`].
    ///
    /// # Errors
    /// As [`Zone::try_pin`].
    pub fn pin(&self, page: Pfn) -> Result<PagePin, GetError> {
        Ok(ManuallyDrop::new(self.zone.try_pin(page)?).pin())
    }

    /// Gives back one pin on a page (`put_page`). The holds of a block's pinned tails on its head
    /// are no pins of the head.
    ///
    /// Progress: lock-free; its compare-and-swap fails only because the word changed. On a head
    /// with up to 1,022 pins it looks at the tails whose holds these may be.
    ///
    /// # Errors
    /// The misuse, if there was no pin; it has been reported and the frame goes out of service.
    pub fn unpin(&self, page: Pfn) -> Result<(), Misuse> {
        let inside = if self.protocol().covers(page) { Ok(()) } else { Err(Cause::NotInZone) };
        let put = inside.and_then(|()| self.protocol().raw_put(page, self.zone));
        put.map_err(|cause| self.zone.report(page, Operation::Put, cause))
    }

    /// `n` more references to a block that the caller has one of, each of which is what the token
    /// stands for: one locked instruction while the block is whole.
    ///
    /// Progress: lock-free; as [`Block::try_clone`].
    ///
    /// # Errors
    /// [`GetError::CountLimit`]. [`GetError::NotInUse`] if the token is wrong; that has been
    /// reported and the frame goes out of service. No reference was taken.
    pub fn get_many(&self, block: RawBlock, n: u64) -> Result<(), GetError> {
        let got = self.checked(block).and_then(|()| self.protocol().raw_get_block(block, n, self.zone));
        got.map_err(|error| self.told(error, Operation::Get, GetError::NotInUse))
    }

    /// `n` references to a block less: one locked instruction while it is whole.
    ///
    /// Progress: lock-free; as [`Block`]'s drop.
    ///
    /// # Errors
    /// The misuse, if the token is wrong or there are fewer references; it has been reported and
    /// the frame goes out of service. No reference was given back, unless another thread misused
    /// the block at the same time.
    pub fn put_many(&self, block: RawBlock, n: u64) -> Result<(), Misuse> {
        let inside = self.inside(block).map_err(|cause| (block.pfn(), cause));
        let put = inside.and_then(|()| self.protocol().raw_put_block(block, n, self.zone));
        put.map_err(|(frame, cause)| self.zone.report(frame, Operation::PutBlock, cause))
    }

    /// Splits a block the caller has a reference to into pieces of `order`; see
    /// [`Block::split_to`]. The token goes on standing for a reference to each piece;
    /// [`Raw::tokens`] has those of the pieces. From then on only those are good: what is asked
    /// with the token of the whole block is a misuse, which takes its first frame out of service.
    ///
    /// Progress: lock-free; as [`Block::split_to`].
    ///
    /// # Errors
    /// [`SplitError::Unsplittable`]. [`SplitError::OutOfRange`] if the token is wrong; that has
    /// been reported and the frame goes out of service.
    pub fn split(&self, block: RawBlock, order: Order) -> Result<(), SplitError> {
        let split = self.checked(block).and_then(|()| self.protocol().raw_split(block, order, self.zone));
        split.map_err(|error| self.told(error, Operation::Split, SplitError::OutOfRange))
    }

    /// Splits a block only around one page; see [`Block::split_around`].
    ///
    /// Progress: lock-free; as [`Block::split_to`].
    ///
    /// # Errors
    /// [`SplitError`]; [`SplitError::OutOfRange`] also if the token is wrong, which has been
    /// reported, and the frame goes out of service.
    pub fn split_around(&self, block: RawBlock, page: Pfn, order: Order) -> Result<(), SplitError> {
        let inside = self.checked(block);
        let split = inside.and_then(|()| self.protocol().raw_split_around(block, page, order, self.zone));
        split.map_err(|error| self.told(error, Operation::Split, SplitError::OutOfRange))
    }

    /// Makes one block of blocks that lie side by side, in place; see
    /// [`Pieces::merge`](crate::Pieces::merge). Each token is the only reference to its block. The
    /// tokens are used up; the new block's is returned.
    ///
    /// Pages of the blocks stay pinned as they are. While it is at work, no reference to any of the
    /// blocks comes or goes.
    ///
    /// Progress: lock-free; as [`Pieces::merge`](crate::Pieces::merge).
    ///
    /// # Errors
    /// [`MergeError`]; [`MergeError::NotABlock`] also if a token is wrong, which has been reported,
    /// and the frame goes out of service. The blocks are as they were; of those below 2 MiB, some
    /// may have been split to pages.
    ///
    /// ```
    /// # use tailpin::*;
    /// # let ranges = [FrameRange::new(Pfn::new(0), 512)];
    /// # let layout = ZoneLayout::new(&ranges, 1).unwrap();
    /// # let memory = ZoneMemory::for_layout(&layout);
    /// # let zone = memory.zone(layout, ZoneConfig::default()).unwrap();
    /// let raw = zone.raw();
    /// let block = raw.alloc(Request::new(Order::HUGE))?;
    /// raw.split(block, Order::PAGE)?;
    /// let whole = raw.merge(raw.tokens(block.frames()))?;
    /// assert_eq!(whole.order(), Order::HUGE);
    /// assert!(raw.free(block).is_err()); // that token is used up
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn merge(&self, blocks: impl Iterator<Item = RawBlock> + Clone) -> Result<RawBlock, MergeError> {
        let merged = blocks
            .clone()
            .try_for_each(|block| self.checked(block))
            .and_then(|()| self.protocol().raw_merge(blocks, self.zone));
        merged.map_err(|error| self.told(error, Operation::Merge, MergeError::NotABlock))
    }

    /// The token of the block that begins at `head`, for one who has a reference to it. Where none
    /// begins, and outside the zone, a token that everything here refuses.
    ///
    /// Progress: wait-free; one load.
    pub fn token(&self, head: Pfn) -> RawBlock {
        let state = self.zone.state(head).unwrap_or(PageState::NOT_IN_ZONE);
        RawBlock::from_parts(head, state.order, state.generation)
    }

    /// The tokens of the blocks that `range` is in, one after the other, for one who has a
    /// reference to each.
    ///
    /// Progress: wait-free; one load for each.
    pub fn tokens(&self, range: FrameRange) -> impl Iterator<Item = RawBlock> + Clone + use<'_, 'z, P> {
        let mut next = Some(range.start);
        core::iter::from_fn(move || {
            let token = self.token(next.filter(|at| range.contains(*at))?);
            next = token.pfn().checked_offset(token.order().frames());
            Some(token)
        })
    }

    /// The handle that a token stands for, which is the only reference to its block. The token is
    /// used up, as are its copies. Of a block with more references [`Zone::try_block`] makes a
    /// handle.
    ///
    /// Progress: lock-free; one compare-and-swap.
    ///
    /// # Errors
    /// The misuse, if no block of this order and generation begins there, or it has other
    /// references; it has been reported and the frame goes out of service.
    pub fn adopt(&self, block: RawBlock) -> Result<Block<'z, P>, Misuse> {
        let adopted = self.inside(block).and_then(|()| self.protocol().raw_adopt(block, self.zone));
        adopted.map_err(|cause| self.zone.report(block.pfn(), Operation::Adopt, cause))?;
        Ok(Block::adopt(self.zone, block.pfn(), block.order()))
    }

    fn protocol(&self) -> &'z P {
        self.zone.protocol()
    }

    fn inside(&self, block: RawBlock) -> Result<(), Cause> {
        let inside = self.zone.span().holds_block(block.pfn(), block.order());
        if inside { Ok(()) } else { Err(Cause::NotInZone) }
    }

    fn checked<E>(&self, block: RawBlock) -> Result<(), TokenError<E>> {
        self.inside(block).map_err(|cause| TokenError::Misuse { frame: block.pfn(), cause })
    }

    /// Reports a misuse; what the caller is told then is `told`.
    fn told<E>(&self, error: TokenError<E>, operation: Operation, told: E) -> E {
        match error {
            TokenError::Refused(error) => error,
            TokenError::Misuse { frame, cause } => {
                self.zone.report(frame, operation, cause);
                told
            }
        }
    }
}
