//! Pinned bytes: a range of a block that keeps just the pages it touches.

use core::cell::Cell;
use core::fmt;
use core::ops::Range;

use crate::error::GetError;
use crate::finally::to_the_end;
use crate::frame::{FrameRange, PAGE_BYTES, Pfn};
use crate::one_word::OneWord;
use crate::protocol::{CountedPin, PagePin, Protocol};
use crate::zone::Zone;

use super::Block;

/// A range of bytes with a pin on each page it touches.
///
/// The core knows frames, not memory: a range says *where* its bytes are, and keeps them there. A
/// clone is one atomic add per page touched, so one for anything that fits into a page.
///
/// ```
/// # use tailpin::*;
/// # let ranges = [FrameRange::new(Pfn::new(0), 512)];
/// # let layout = ZoneLayout::new(&ranges, 1).unwrap();
/// # let memory = ZoneMemory::for_layout(&layout);
/// # let zone = memory.zone(layout, ZoneConfig::default()).unwrap();
/// let block = zone.alloc(Order::HUGE)?;
/// let record = block.slice(5000..5200)?;
/// drop(block);
/// assert_eq!(zone.used_frames(), 1); // 200 bytes keep one page, not 512
/// assert_eq!((record.pages().start.get(), record.offset(), record.len()), (1, 904, 200));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PinnedRange<'z, P: Protocol = OneWord<'z>> {
    zone: &'z Zone<'z, P>,
    /// Address of the first byte, as if frame 0 began at address 0.
    start: u64,
    /// Bytes.
    len: u64,
    /// Where the pins are counted, if not on the pages themselves.
    counted_at: Option<Pfn>,
}

impl<'z, P: Protocol> PinnedRange<'z, P> {
    #[expect(clippy::arithmetic_side_effects, reason = "within the block, which ends below 2^64")]
    pub(super) fn of_block(block: &Block<'z, P>, bytes: Range<u64>) -> Result<Self, GetError> {
        if bytes.is_empty() || bytes.end > block.order().bytes() {
            return Err(GetError::NotInUse);
        }
        let start = block.pfn().get() * PAGE_BYTES + bytes.start;
        let len = bytes.end - bytes.start;
        let mut slice = Self { zone: block.zone(), start, len: 0, counted_at: None };
        for page in pages_of(start, len).iter() {
            // On an error the pages pinned so far are given back with `slice`.
            let PagePin { counted_at, .. } = slice.zone.protocol().try_get(page, slice.zone)?.pin();
            slice.counted_at = (counted_at != page).then_some(counted_at);
            slice.reach(page, len);
        }
        Ok(slice)
    }

    /// A part of it, which pins only the pages that it touches itself.
    ///
    /// Progress: wait-free; one fetch-and-add for each page.
    ///
    /// # Errors
    /// [`GetError::NotInUse`] for a range that is empty or leaves the slice,
    /// [`GetError::CountLimit`].
    #[expect(clippy::arithmetic_side_effects, reason = "within the slice")]
    pub fn slice(&self, bytes: Range<u64>) -> Result<Self, GetError> {
        if bytes.is_empty() || bytes.end > self.len() {
            return Err(GetError::NotInUse);
        }
        self.share(self.start + bytes.start, bytes.end - bytes.start)
    }

    fn share(&self, start: u64, len: u64) -> Result<Self, GetError> {
        let mut part = Self { start, len: 0, ..*self };
        for page in pages_of(start, len).iter() {
            self.zone.protocol().get(self.pin_on(page), self.zone)?;
            part.reach(page, len);
        }
        Ok(part)
    }

    /// It is as long as it can be up to the end of `page`, `len` at most.
    #[expect(clippy::arithmetic_side_effects, reason = "a page of a zone begins below 2^64")]
    fn reach(&mut self, page: Pfn, len: u64) {
        let before = page.get() * PAGE_BYTES;
        self.len = len.min(before.wrapping_sub(self.start).wrapping_add(PAGE_BYTES));
    }

    fn pin_on(&self, page: Pfn) -> CountedPin<'z, P::Word> {
        self.zone.protocol().counted(PagePin { page, counted_at: self.counted_at.unwrap_or(page) })
    }

    /// The pages it touches and pins.
    pub fn pages(&self) -> FrameRange {
        pages_of(self.start, self.len)
    }

    /// Where in the first page it begins, in bytes.
    pub fn offset(&self) -> u64 {
        self.start % PAGE_BYTES
    }

    /// Length of the range in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes; no slice is made empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[expect(clippy::arithmetic_side_effects, reason = "bytes of a block, and less than a page more")]
#[inline]
fn pages_of(start: u64, len: u64) -> FrameRange {
    // The end of the last page may be address 2⁶⁴, so pages are counted from the first one.
    let pages = if len == 0 { 0 } else { (start % PAGE_BYTES + len).div_ceil(PAGE_BYTES) };
    FrameRange::new(Pfn::new(start / PAGE_BYTES), pages)
}

impl<P: Protocol> Clone for PinnedRange<'_, P> {
    /// One more pin on each page touched.
    ///
    /// Progress: wait-free; one fetch-and-add for each page.
    ///
    /// # Panics
    /// At the limit of a page's count; [`PinnedRange::slice`] returns that as an error.
    fn clone(&self) -> Self {
        self.share(self.start, self.len).expect("the pages' counts have room")
    }
}

impl<P: Protocol> Drop for PinnedRange<'_, P> {
    /// One pin less on each page touched.
    ///
    /// Progress: as the drop of a [`PageRef`](crate::PageRef), for each page.
    fn drop(&mut self) {
        let FrameRange { start, end } = self.pages();
        let next = Cell::new(start);
        let rest = || {
            while next.get() < end {
                let page = next.replace(next.get().offset(1));
                self.zone.protocol().put(self.pin_on(page), self.zone);
            }
        };
        // A page that is freed is told to hooks, and they may panic.
        to_the_end(rest);
    }
}

impl<P: Protocol> fmt::Debug for PinnedRange<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PinnedRange({} bytes at {:#x})", self.len, self.start)
    }
}
