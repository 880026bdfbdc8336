//! A reference to a whole block.

use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::Range;
use core::sync::atomic::Ordering;

use crate::alloc::layout::FRAMES_END;
use crate::atomic::AtomicWord;
use crate::error::{GetError, SplitError};
use crate::frame::{FrameRange, Order, Pfn};
use crate::one_word::OneWord;
use crate::protocol::{Protocol, RawBlock};
use crate::zone::Zone;

use super::{PageRef, Pieces, PinnedRange};

/// One reference to a naturally aligned block of 4 KiB to 1 GiB: a folio, or compound page.
///
/// A clone is one more reference, one atomic step whatever the size. When another holder splits the
/// block, this handle goes on standing for one reference to each piece. When the last reference
/// goes, every page without a pin is free at once.
///
/// ```
/// # use tailpin::*;
/// # let ranges = [FrameRange::new(Pfn::new(0), 1024)];
/// # let layout = ZoneLayout::new(&ranges, 1).unwrap();
/// # let memory = ZoneMemory::for_layout(&layout);
/// # let zone = memory.zone(layout, ZoneConfig::default()).unwrap();
/// let block = zone.alloc(Order::HUGE)?;
/// let pin = block.pin(100)?;
/// let mut pages = block.split().map_err(|(_, why)| why)?;   // never fails because of a pin
/// assert_eq!(pages.len(), 512);
/// let first = pages.next().unwrap();
/// drop(pages);
/// assert_eq!(zone.used_frames(), 2);                        // `first`, and the pinned one
/// # drop((first, pin));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "folio")]
#[doc(alias = "THP")]
pub struct Block<'z, P: Protocol = OneWord<'z>> {
    zone: &'z Zone<'z, P>,
    place: FrameAndOrder,
}

/// First frame and order in one word: a handle of two words is moved in registers.
#[derive(Clone, Copy)]
struct FrameAndOrder(u64);

/// The order lies above the frame's number.
const ORDER_SHIFT: u32 = 59;
const _: () = assert!(FRAMES_END.get() <= 1 << ORDER_SHIFT && Order::MAX.get() < 1 << (64 - ORDER_SHIFT));

impl FrameAndOrder {
    #[inline]
    fn new(head: Pfn, order: Order) -> Self {
        Self(u64::from(order.get()) << ORDER_SHIFT | head.get())
    }

    #[inline]
    fn head(self) -> Pfn {
        Pfn::new(self.0 & !(!0 << ORDER_SHIFT))
    }

    #[inline]
    fn order(self) -> Order {
        Order::wrap((self.0 >> ORDER_SHIFT) as u8)
    }
}

impl<'z, P: Protocol> Block<'z, P> {
    /// The caller's reference becomes the handle's.
    #[inline]
    pub(crate) fn adopt(zone: &'z Zone<'z, P>, head: Pfn, order: Order) -> Self {
        Self { zone, place: FrameAndOrder::new(head, order) }
    }

    /// First frame of the block.
    #[inline]
    pub fn pfn(&self) -> Pfn {
        self.place.head()
    }

    /// Size, as it was when this handle was made.
    #[inline]
    pub fn order(&self) -> Order {
        self.place.order()
    }

    /// All frames of the block.
    #[inline]
    pub fn frames(&self) -> FrameRange {
        FrameRange::block(self.pfn(), self.order())
    }

    /// Looks at its word, so that it is in the cache.
    #[inline]
    pub(crate) fn look(&self) {
        // Relaxed: nothing is done with it.
        core::hint::black_box(self.zone.protocol().word_at(self.pfn()).load(Ordering::Relaxed));
    }

    /// The zone that the block is from.
    pub fn zone(&self) -> &'z Zone<'z, P> {
        self.zone
    }

    /// Pins page `index` of the block.
    ///
    /// Progress: lock-free; one compare-and-swap on a pinned page, two with the hold on its head
    /// for the first pin.
    ///
    /// # Errors
    /// [`GetError::NotInUse`] for an index beyond the block, [`GetError::CountLimit`].
    #[inline]
    pub fn pin(&self, index: u64) -> Result<PageRef<'z, P>, GetError> {
        if index >= self.order().frames() {
            return Err(GetError::NotInUse);
        }
        let page = self.pfn().offset(index);
        // Held by the block's reference, the page is in use; only a merge by its sole owner could
        // say otherwise, and then this handle would not exist.
        let held = self.zone.protocol().try_get(page, self.zone)?;
        Ok(PageRef::adopt(self.zone, held))
    }

    /// Pins the pages under a range of the block's bytes.
    ///
    /// Progress: lock-free; a pin for each page.
    ///
    /// # Errors
    /// [`GetError::NotInUse`] for a range that is empty or leaves the block,
    /// [`GetError::CountLimit`].
    pub fn slice(&self, bytes: Range<u64>) -> Result<PinnedRange<'z, P>, GetError> {
        PinnedRange::of_block(self, bytes)
    }

    /// Takes one more reference to the block.
    ///
    /// Progress: lock-free; one compare-and-swap while the block is whole, and a split under way is
    /// finished in place of waited for.
    ///
    /// # Errors
    /// [`GetError::CountLimit`].
    #[inline]
    pub fn try_clone(&self) -> Result<Self, GetError> {
        self.zone.protocol().get_block(self.pfn(), self.order(), self.zone)?;
        Ok(Self { ..*self })
    }

    /// Splits the block into its pages.
    ///
    /// Progress: lock-free; as [`Block::split_to`].
    ///
    /// # Errors
    /// The block and [`SplitError::Unsplittable`]. Pins are never a reason.
    pub fn split(self) -> Result<Pieces<'z, P>, (Self, SplitError)> {
        self.split_to(Order::PAGE)
    }

    /// Splits into pieces of `order` (pieces that are smaller already stay). Pins stay on their
    /// pages; other holders of the block have a reference to each piece, as this one has through
    /// what is returned.
    ///
    /// Progress: lock-free; another holder who meets it half done finishes it, so no one waits for
    /// a thread that was stopped inside.
    ///
    /// # Errors
    /// The block and why not.
    pub fn split_to(self, order: Order) -> Result<Pieces<'z, P>, (Self, SplitError)> {
        match self.zone.protocol().split(self.frames(), order, self.zone) {
            Ok(()) => Ok(self.into_pieces()),
            Err(error) => Err((self, error)),
        }
    }

    /// Splits only what is around page `index`: that page ends in a piece of `order`, the rest
    /// stays in pieces as large as possible (512 pages around one: 1, 1, 2, 4, … 256).
    ///
    /// Progress: lock-free; as [`Block::split_to`].
    ///
    /// # Errors
    /// The block and why not; [`SplitError::OutOfRange`] for an index beyond the block.
    pub fn split_around(self, index: u64, order: Order) -> Result<Pieces<'z, P>, (Self, SplitError)> {
        if index >= self.order().frames() {
            return Err((self, SplitError::OutOfRange));
        }
        let page = self.pfn().offset(index);
        match self.zone.protocol().split_around(self.frames(), page, order, self.zone) {
            Ok(()) => Ok(self.into_pieces()),
            Err(error) => Err((self, error)),
        }
    }

    /// This reference as one to each piece, be it one or many.
    ///
    /// Progress: wait-free; nothing shared is touched.
    pub fn into_pieces(self) -> Pieces<'z, P> {
        let block = ManuallyDrop::new(self);
        Pieces::adopt(block.zone, block.frames())
    }

    /// The reference as a plain token, for kernels that keep it in a table. It is not dropped.
    ///
    /// Progress: wait-free; one load.
    pub fn into_raw(self) -> RawBlock {
        let block = ManuallyDrop::new(self);
        let generation = block.zone.protocol().state(block.pfn()).generation;
        RawBlock::from_parts(block.pfn(), block.order(), generation)
    }
}

impl<P: Protocol> Clone for Block<'_, P> {
    /// One more reference: one atomic step.
    ///
    /// Progress: lock-free; as [`Block::try_clone`].
    ///
    /// # Panics
    /// At the limit of the count; see [`Block::try_clone`].
    #[inline]
    fn clone(&self) -> Self {
        self.try_clone().expect("the block's count has room")
    }
}

impl<P: Protocol> Drop for Block<'_, P> {
    /// One reference less; the last one frees every page without a pin.
    ///
    /// Progress: lock-free; one compare-and-swap while the block is whole, and a split under way is
    /// finished in place of waited for.
    #[inline]
    fn drop(&mut self) {
        self.zone.protocol().put_block(self.pfn(), self.order(), self.zone);
    }
}

impl<P: Protocol> fmt::Debug for Block<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} order {})", self.pfn(), self.order())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_says_what_it_was_made_of() {
        for order in Order::all() {
            for head in [Pfn::new(0), Pfn::new(1 << 30), Pfn::new(FRAMES_END.get() - 1).head(order)] {
                let place = FrameAndOrder::new(head, order);
                assert_eq!((place.head(), place.order()), (head, order));
            }
        }
        assert_eq!(size_of::<Block<'_>>(), 16);
    }
}
