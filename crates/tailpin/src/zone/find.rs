//! Pages and blocks found by their numbers.

use crate::GetError;
use crate::atomic::AtomicWord;
use crate::frame::{Order, Pfn};
use crate::one_word::{OneWord, Steps};
use crate::page_state::PageState;
use crate::protocol::Protocol;
use crate::zone::handle::{Block, PageRef};

use super::Zone;

impl<P: Protocol> Zone<'_, P> {
    /// Pins the page with this number if it is in use (`get_page_unless_zero`). If you found the
    /// number in some structure, look there again afterwards: the page may have been freed and
    /// handed out anew before the pin.
    ///
    /// Progress: lock-free; it looks again only where a word changed in between, that is, where
    /// another operation got on.
    ///
    /// # Errors
    /// [`GetError::NotInUse`] if the frame is free, out of service or outside the zone, or its
    /// block was being merged during the call; [`GetError::CountLimit`].
    #[inline]
    pub fn try_pin(&self, page: Pfn) -> Result<PageRef<'_, P>, GetError> {
        if !self.protocol.covers(page) {
            return Err(GetError::NotInUse);
        }
        let held = self.protocol.try_get_at(page, self)?;
        Ok(PageRef::adopt(self, held))
    }

    /// Head and order of the live block `frame` is in. A hint unless you hold a pin or reference.
    ///
    /// Progress: wait-free; at most thirteen loads.
    pub fn head_of(&self, frame: Pfn) -> Option<(Pfn, Order)> {
        if self.protocol.covers(frame) { self.protocol.head_of(frame) } else { None }
    }

    /// The state of a frame, for people; `None` outside the zone. A hint unless you hold a pin or
    /// reference.
    ///
    /// Progress: wait-free; one load.
    pub fn state(&self, frame: Pfn) -> Option<PageState> {
        self.protocol.covers(frame).then(|| self.protocol.state(frame))
    }
}

impl<'w, W: AtomicWord, S: Steps> Zone<'_, OneWord<'w, W, S>> {
    /// One more reference to the block of exactly `order` at `head`, found by its number alone:
    /// [`Zone::try_pin`] for whole blocks. If you found the number in some structure, look there
    /// again afterwards.
    ///
    /// # Errors
    /// [`GetError::NotInUse`] if no such block is in use there, no caller has a reference to it as
    /// a whole, or it is being split or merged; [`GetError::CountLimit`].
    ///
    /// ```
    /// # use tailpin::*;
    /// # let ranges = [FrameRange::new(Pfn::new(0), 1024)];
    /// # let layout = ZoneLayout::new(&ranges, 1).unwrap();
    /// # let memory = ZoneMemory::for_layout(&layout);
    /// # let zone: Zone = memory.zone(layout, ZoneConfig::default()).unwrap();
    /// let block = zone.alloc(Order::HUGE)?;
    /// let second = zone.try_block(block.pfn(), Order::HUGE)?;
    /// assert!(zone.try_block(block.pfn(), Order::PAGE).is_err()); // it is larger than that
    /// drop(block);
    /// assert_eq!(zone.used_frames(), 512);
    /// let pin = second.pin(3)?;
    /// drop(second);
    /// assert!(zone.try_block(pin.pfn(), Order::PAGE).is_err()); // pinned, but nobody's block
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_block(&self, head: Pfn, order: Order) -> Result<Block<'_, OneWord<'w, W, S>>, GetError> {
        if !self.pool.span().holds_block(head, order) {
            return Err(GetError::NotInUse);
        }
        self.protocol.get_block_found(head, order)?;
        Ok(Block::adopt(self, head, order))
    }
}
