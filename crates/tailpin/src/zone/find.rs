//! Pages and blocks found by their numbers.

use crate::GetError;
use crate::atomic::AtomicWord;
use crate::frame::{Order, Pfn};
use crate::one_word::{OneWord, Safeguard, Safeguards};
use crate::page_state::{Kind, PageState};
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
        if !self.protocol().covers(page) {
            return Err(GetError::NotInUse);
        }
        let held = self.protocol().try_get(page, self)?;
        Ok(PageRef::adopt(self, held))
    }

    /// Head and order of the live block `frame` is in. A hint unless you hold a pin or reference.
    ///
    /// Progress: wait-free; at most thirteen loads.
    pub fn head_of(&self, frame: Pfn) -> Option<(Pfn, Order)> {
        if self.protocol().covers(frame) { self.protocol().head_of(frame) } else { None }
    }

    /// The state of a frame, for people; `None` outside the zone. A hint unless you hold a pin or
    /// reference.
    ///
    /// Progress: wait-free; one load.
    pub fn state(&self, frame: Pfn) -> Option<PageState> {
        self.protocol().covers(frame).then(|| self.protocol().state(frame))
    }

    /// How many pins callers have on a page (its refcount beyond the block's), without the holds
    /// that a head counts for its pinned tails; `None` outside the zone. A hint while others are at
    /// work on the block.
    ///
    /// Progress: wait-free; one load, and where a head has pins one more for each tail that may
    /// have a hold on it: at most 1,022.
    ///
    /// ```
    /// # use tailpin::*;
    /// # let ranges = [FrameRange::new(Pfn::new(0), 1024)];
    /// # let layout = ZoneLayout::new(&ranges, 1).unwrap();
    /// # let memory = ZoneMemory::for_layout(&layout);
    /// # let zone = memory.zone(layout, ZoneConfig::default()).unwrap();
    /// let block = zone.alloc(Order::HUGE).unwrap();
    /// let pins = [block.pin(0).unwrap(), block.pin(7).unwrap(), block.pin(7).unwrap()];
    /// let head = block.frames().start;
    /// assert_eq!(zone.pins_of(head), Some(1));
    /// assert_eq!(zone.pins_of(head.offset(7)), Some(2));
    /// assert_eq!(zone.state(head).unwrap().pins, 2, "its own, and the hold of one tail");
    /// # drop(pins);
    /// ```
    #[expect(clippy::arithmetic_side_effects, reason = "pages of the block, each with one hold at most")]
    pub fn pins_of(&self, page: Pfn) -> Option<u64> {
        let state = self.state(page)?;
        // The frames of which each that is pinned has one hold on this page.
        let holders = |n: u64, stride: u64| (1..n).map(move |i| page.offset(i * stride));
        let pinned = |frames: &mut dyn Iterator<Item = Pfn>| {
            frames.filter(|frame| self.is_pinned(*frame)).count() as u64
        };
        let is_head = state.kind == Kind::Head;
        let below = match state.order {
            order if is_head => order.min(Order::HUGE).frames(),
            // The first frame of each 2 MiB within a larger block counts for the others of these.
            order if state.kind == Kind::Tail && order > Order::HUGE && page.is_aligned(Order::HUGE) => {
                Order::HUGE.frames()
            }
            _ => 1,
        };
        let above = if is_head && state.order > Order::HUGE {
            state.order.frames() / Order::HUGE.frames()
        } else {
            1
        };
        if state.pins == 0 {
            return Some(0);
        }
        let holds = pinned(&mut holders(below, 1)) + pinned(&mut holders(above, Order::HUGE.frames()));
        Some(state.pins.saturating_sub(holds))
    }

    fn is_pinned(&self, frame: Pfn) -> bool {
        self.state(frame).is_some_and(|state| state.pins > 0)
    }
}

impl<'w, W: AtomicWord, S: Safeguards<Safeguard>> Zone<'_, OneWord<'w, W, S>> {
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
    /// # let zone = memory.zone(layout, ZoneConfig::default()).unwrap();
    /// let block = zone.alloc(Order::HUGE)?;
    /// let second = zone.try_block(block.pfn(), Order::HUGE)?;
    /// assert!(zone.try_block(block.pfn(), Order::PAGE).is_err()); // it is larger than that
    /// drop(block);
    /// assert_eq!(zone.used_frames(), 512);
    /// let pin = second.pin(3)?;
    /// drop(second);
    /// assert!(zone.try_block(pin.pfn(), Order::PAGE).is_err()); // pinned, but in use as no block
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_block(&self, head: Pfn, order: Order) -> Result<Block<'_, OneWord<'w, W, S>>, GetError> {
        if !self.pool().span().holds_block(head, order) {
            return Err(GetError::NotInUse);
        }
        self.protocol().get_block_found(head, order)?;
        Ok(Block::adopt(self, head, order))
    }
}
