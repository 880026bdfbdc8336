//! What a zone is made with, and what is asked of it.

use crate::frame::{Order, Pfn};
use crate::page_state::Class;
use crate::report::Sink;

use super::hooks::Hooks;
use super::layout::FRAMES_END;

/// What a zone may be given besides memory; everything has a default.
#[derive(Clone, Copy)]
pub struct ZoneConfig<'m> {
    pub(super) sink: Option<&'m dyn Sink>,
    pub(super) hooks: Option<&'m dyn Hooks>,
    pub(super) cpu: fn() -> usize,
    pub(super) low_watermark: u64,
}

impl Default for ZoneConfig<'_> {
    fn default() -> Self {
        Self { sink: None, hooks: None, cpu: || 0, low_watermark: 0 }
    }
}

impl<'m> ZoneConfig<'m> {
    /// Has `sink` hear of every misuse.
    #[must_use]
    pub fn sink(mut self, sink: &'m dyn Sink) -> Self {
        self.sink = Some(sink);
        self
    }

    /// Called at the ends of each block's life and when memory is short.
    #[must_use]
    pub fn hooks(mut self, hooks: &'m dyn Hooks) -> Self {
        self.hooks = Some(hooks);
        self
    }

    /// Says which CPU (or thread) is asking: what it remembers is in CPU cache `cpu()` modulo CPU
    /// caches. Wrong answers cost speed, nothing else.
    #[must_use]
    pub fn cpu(mut self, cpu: fn() -> usize) -> Self {
        self.cpu = cpu;
        self
    }

    /// Below this many free frames [`Hooks::reclaim`] is called. Checked at each request; that
    /// makes each request and each free a step more.
    #[must_use]
    pub fn low_watermark(mut self, frames: u64) -> Self {
        self.low_watermark = frames;
        self
    }
}

/// What block to allocate: its order, its class, what is done to it first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub(super) order: Order,
    pub(super) zero: bool,
    pub(crate) class: Class,
    pub(super) below: Pfn,
}

impl Request {
    /// A splittable block of `order`, contents as they come.
    pub const fn new(order: Order) -> Self {
        Self { order, zero: false, class: Class::Splittable, below: FRAMES_END }
    }

    /// Has [`Hooks::before_publication`] clear the contents.
    #[must_use]
    pub const fn zeroed(mut self) -> Self {
        self.zero = true;
        self
    }

    /// A block of the hugetlb class: it never splits, pins on its pages are pins on its head.
    #[must_use]
    pub const fn unsplittable(mut self) -> Self {
        self.class = Class::Unsplittable;
        self
    }

    /// A block all of which lies below frame `limit`, for devices that reach no further (the
    /// kernel's `ZONE_DMA32`). Looks through the rows of frames below it one by one.
    ///
    /// ```
    /// # use tailpin::*;
    /// # let ranges = [FrameRange::new(Pfn::new(0), 2048)];
    /// # let layout = ZoneLayout::new(&ranges, 1).unwrap();
    /// # let memory = ZoneMemory::for_layout(&layout);
    /// # let zone = memory.zone(layout, ZoneConfig::default()).unwrap();
    /// let low = Request::new(Order::HUGE).below(Pfn::new(1024));
    /// let blocks = [zone.alloc_with(low)?, zone.alloc_with(low)?];
    /// assert!(blocks.iter().all(|block| block.frames().end <= Pfn::new(1024)));
    /// assert!(zone.alloc_with(low).is_err() && zone.alloc(Order::HUGE).is_ok());
    /// # Ok::<(), AllocError>(())
    /// ```
    #[doc(alias = "DMA32")]
    #[must_use]
    pub const fn below(mut self, limit: Pfn) -> Self {
        self.below = if limit.get() < FRAMES_END.get() { limit } else { FRAMES_END };
        self
    }

    /// Whether any block of `order` will do, and one is asked for.
    #[inline]
    pub(crate) const fn is_any_of(self, order: Order) -> bool {
        self.order.get() == order.get() && self.below.get() == FRAMES_END.get()
    }

    /// The order asked for.
    pub const fn order(self) -> Order {
        self.order
    }
}
