//! The raw interface: frame numbers and tokens, for kernels that keep them in page tables and lists.
//!
//! Nothing here is believed. What a caller claims is checked against the frame's state in the same atomic step
//! that acts on it, in release builds too; what does not fit is reported and the frame goes out of service.

use core::mem::ManuallyDrop;

use crate::alloc::config::Request;
use crate::alloc::zone::Zone;
use crate::error::{AllocError, GetError, MergeError, SplitError};
use crate::frame::{FrameRange, Order, Pfn};
use crate::one_word::OneWord;
use crate::protocol::{Held, Protocol};
use crate::report::{Cause, Misuse, Operation};

use super::Block;

/// One reference to a block as a plain value: where, how large, and which life of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RawBlock {
    head: Pfn,
    order: Order,
    generation: u8,
}

impl RawBlock {
    /// A token from its parts, as read back from wherever a kernel keeps them.
    pub const fn from_parts(head: Pfn, order: Order, generation: u8) -> Self {
        Self { head, order, generation }
    }

    /// First frame.
    pub const fn pfn(self) -> Pfn {
        self.head
    }

    /// Size.
    pub const fn order(self) -> Order {
        self.order
    }

    /// Which life of the frame, modulo 64: a token of an earlier life is noticed.
    pub const fn generation(self) -> u8 {
        self.generation
    }

    /// Its frames.
    pub const fn frames(self) -> FrameRange {
        FrameRange::block(self.head, self.order)
    }
}

/// The raw interface of a zone, from [`Zone::raw`].
///
/// Whoever hands out memory under the zone's frames must not hand this out too: it can free what others hold.
///
/// ```
/// # use tailpin::*;
/// # let ranges = [FrameRange::new(Pfn::new(0), 512)];
/// # let layout = ZoneLayout::new(&ranges, 1).unwrap();
/// # let memory = ZoneMemory::for_layout(&layout);
/// # let zone: Zone = memory.zone(layout, ZoneConfig::default()).unwrap();
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

    /// A block, as a token.
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
        self.checked(block.head, Operation::Free, || {
            self.zone.protocol().raw_free(block.head, block.order, block.generation, self.zone)
        })
    }

    /// Pins a page by number (`get_page_unless_zero`); look again where you found the number.
    ///
    /// Progress: lock-free; as [`Zone::try_pin`].
    ///
    /// # Errors
    /// As [`Zone::try_pin`].
    pub fn pin(&self, page: Pfn) -> Result<Held, GetError> {
        Ok(ManuallyDrop::new(self.zone.try_pin(page)?).held())
    }

    /// Gives back one pin on a page (`put_page`).
    ///
    /// Progress: lock-free; its compare-and-swap fails only because the word changed.
    ///
    /// # Errors
    /// The misuse, if there was no pin; it has been reported and the frame goes out of service.
    pub fn unpin(&self, page: Pfn) -> Result<(), Misuse> {
        self.checked(page, Operation::Put, || self.zone.protocol().raw_put(page, self.zone))
    }

    /// `n` more references to a block that the caller has one of: one locked instruction while it is whole.
    ///
    /// Progress: lock-free; as [`Block::try_clone`].
    ///
    /// # Errors
    /// [`GetError`]; then none was taken.
    pub fn get_many(&self, block: RawBlock, n: u64) -> Result<(), GetError> {
        self.inside(block.frames()).map_err(|_| GetError::NotInUse)?;
        self.zone.protocol().get_block(block.frames(), n, self.zone)
    }

    /// `n` references to a block less: one locked instruction while it is whole. Too many are a misuse, which is
    /// reported to the zone's sink, and nothing is given back on that piece.
    ///
    /// Progress: lock-free; as [`Block`]'s drop.
    ///
    /// # Errors
    /// The misuse, if the block is not within the zone.
    pub fn put_many(&self, block: RawBlock, n: u64) -> Result<(), Misuse> {
        self.inside(block.frames()).map_err(|cause| self.misuse(block.head, Operation::PutBlock, cause))?;
        self.zone.protocol().put_block(block.frames(), n, self.zone);
        Ok(())
    }

    /// Splits a block the caller has a reference to into pieces of `order`; see [`Block::split_to`].
    ///
    /// Progress: lock-free; as [`Block::split_to`].
    ///
    /// # Errors
    /// [`SplitError`].
    pub fn split(&self, block: RawBlock, order: Order) -> Result<(), SplitError> {
        self.inside(block.frames()).map_err(|_| SplitError::OutOfRange)?;
        self.zone.protocol().split(block.frames(), order, self.zone)
    }

    /// Splits a block only around one page; see [`Block::split_around`].
    ///
    /// Progress: lock-free; as [`Block::split_to`].
    ///
    /// # Errors
    /// [`SplitError`].
    pub fn split_around(&self, block: RawBlock, page: Pfn, order: Order) -> Result<(), SplitError> {
        self.inside(block.frames()).map_err(|_| SplitError::OutOfRange)?;
        self.zone.protocol().split_around(block.frames(), page, order, self.zone)
    }

    /// Merges pieces the caller has the only references to; see [`Pieces::merge`](crate::Pieces::merge).
    ///
    /// Progress: lock-free; as [`Pieces::merge`](crate::Pieces::merge).
    ///
    /// # Errors
    /// [`MergeError`].
    pub fn merge(&self, head: Pfn, order: Order) -> Result<RawBlock, MergeError> {
        self.inside(FrameRange::block(head, order)).map_err(|_| MergeError::NotABlock)?;
        self.zone.protocol().merge(head, order, self.zone)?;
        Ok(self.token(head))
    }

    /// The token of the block that begins at `head`, for one who has a reference to it.
    ///
    /// Progress: wait-free; one load.
    pub fn token(&self, head: Pfn) -> RawBlock {
        let state = self.zone.protocol().state(head);
        RawBlock::from_parts(head, state.order, state.generation)
    }

    /// The handle that a token stands for; the token is used up.
    ///
    /// Progress: wait-free; one load.
    ///
    /// # Errors
    /// The misuse, if no block of this order and generation begins there.
    pub fn adopt(&self, block: RawBlock) -> Result<Block<'z, P>, Misuse> {
        self.inside(block.frames()).map_err(|cause| self.misuse(block.head, Operation::Get, cause))?;
        let state = self.zone.protocol().state(block.head);
        if state.generation != block.generation {
            let cause = Cause::StaleToken { claimed: block.generation };
            return Err(self.misuse(block.head, Operation::Get, cause));
        }
        Ok(Block::adopt(self.zone, block.head, block.order))
    }

    fn inside(&self, range: FrameRange) -> Result<(), Cause> {
        let span = self.zone.span();
        if span.start <= range.start && range.end <= span.end { Ok(()) } else { Err(Cause::NotInZone) }
    }

    fn checked(
        &self,
        frame: Pfn,
        operation: Operation,
        action: impl FnOnce() -> Result<(), Cause>,
    ) -> Result<(), Misuse> {
        let inside = self.inside(FrameRange::new(frame, 1));
        inside.and_then(|()| action()).map_err(|cause| self.misuse(frame, operation, cause))
    }

    fn misuse(&self, frame: Pfn, operation: Operation, cause: Cause) -> Misuse {
        self.zone.report(frame, operation, cause)
    }
}
