//! A pin on one page.

use core::fmt;

use crate::error::GetError;
use crate::frame::{Order, Pfn};
use crate::one_word::OneWord;
use crate::protocol::{CountedPin, PagePin, Protocol};
use crate::zone::Zone;

/// One pin on one page (`pin_user_pages`), be it a page of its own or somewhere inside a block.
///
/// It keeps that page and nothing else: the block around it can be split, merged or freed.
///
/// ```
/// # use tailpin::*;
/// # let ranges = [FrameRange::new(Pfn::new(0), 512)];
/// # let layout = ZoneLayout::new(&ranges, 1).unwrap();
/// # let memory = ZoneMemory::for_layout(&layout);
/// # let zone = memory.zone(layout, ZoneConfig::default()).unwrap();
/// let block = zone.alloc(Order::HUGE)?;
/// let pin = block.pin(3)?;
/// assert_eq!(pin.head(), (block.pfn(), Order::HUGE));
/// let kept = pin.clone();
/// drop((block, pin));
/// assert_eq!(kept.head(), (kept.pfn(), Order::PAGE)); // a page of its own now
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "gup")]
#[doc(alias = "get_user_pages")]
pub struct PageRef<'z, P: Protocol = OneWord<'z>> {
    zone: &'z Zone<'z, P>,
    pin: CountedPin<'z, P::Word>,
}

impl<'z, P: Protocol> PageRef<'z, P> {
    /// The caller's pin becomes the handle's.
    #[inline]
    pub(crate) fn adopt(zone: &'z Zone<'z, P>, pin: CountedPin<'z, P::Word>) -> Self {
        Self { zone, pin }
    }

    /// The pin itself, as the protocol knows it.
    #[inline]
    pub(crate) fn pin(&self) -> PagePin {
        self.pin.pin()
    }

    /// Frame number of the pinned page.
    #[inline]
    pub fn pfn(&self) -> Pfn {
        self.pin().page
    }

    /// Head and order of the block the page is in at this moment.
    ///
    /// Progress: wait-free; a bounded number of loads.
    pub fn head(&self) -> (Pfn, Order) {
        self.zone.head_of(self.pfn()).unwrap_or((self.pfn(), Order::PAGE))
    }

    /// Takes one more pin on the page.
    ///
    /// Progress: wait-free; one fetch-and-add.
    ///
    /// # Errors
    /// [`GetError::CountLimit`].
    #[inline]
    pub fn try_clone(&self) -> Result<Self, GetError> {
        self.zone.protocol().get(self.pin, self.zone)?;
        Ok(Self { ..*self })
    }
}

impl<P: Protocol> Clone for PageRef<'_, P> {
    /// One more pin: one atomic add.
    ///
    /// Progress: wait-free; one fetch-and-add.
    ///
    /// # Panics
    /// At the limit of the count; see [`PageRef::try_clone`].
    #[inline]
    fn clone(&self) -> Self {
        self.try_clone().expect("the page's count has room")
    }
}

impl<P: Protocol> Drop for PageRef<'_, P> {
    /// One pin less.
    ///
    /// Progress: wait-free up to the last pin: one fetch-and-subtract. The last one gives back at
    /// most two holds, or frees the page, which is lock-free.
    #[inline]
    fn drop(&mut self) {
        self.zone.protocol().put(self.pin, self.zone);
    }
}

impl<P: Protocol> fmt::Debug for PageRef<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageRef({})", self.pfn())
    }
}
