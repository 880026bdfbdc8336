//! Pages of one row, each with one reference: what comes many at a time.

use core::fmt;
use core::iter::FusedIterator;

use crate::frame::{Order, Pfn};
use crate::frame_mask::RowMask;
use crate::one_word::OneWord;
use crate::protocol::Protocol;
use crate::zone::Zone;

use super::Block;

/// One reference to each of up to 64 pages of one row. Iterating takes them as [`Block`]s, lowest
/// first; what is not taken is given back on drop. From
/// [`Blocks::next_row`](crate::Blocks::next_row).
pub struct PageRow<'z, P: Protocol = OneWord<'z>> {
    zone: &'z Zone<'z, P>,
    pages: RowMask,
}

impl<'z, P: Protocol> PageRow<'z, P> {
    pub(crate) fn adopt(zone: &'z Zone<'z, P>, pages: RowMask) -> Self {
        Self { zone, pages }
    }

    /// The pages not yet taken.
    #[inline]
    pub fn pages(&self) -> RowMask {
        self.pages
    }
}

impl<'z, P: Protocol> Iterator for PageRow<'z, P> {
    type Item = Block<'z, P>;

    #[inline]
    fn next(&mut self) -> Option<Block<'z, P>> {
        let page = self.pages.iter().next()?;
        let bits = self.pages.bits();
        self.pages = RowMask::new(page, bits & bits.wrapping_sub(1));
        Some(Block::adopt(self.zone, page, Order::PAGE))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.pages.count() as usize;
        (left, Some(left))
    }
}

impl<P: Protocol> ExactSizeIterator for PageRow<'_, P> {}

impl<P: Protocol> FusedIterator for PageRow<'_, P> {}

impl<P: Protocol> Drop for PageRow<'_, P> {
    /// One reference less on each page that was not taken.
    ///
    /// Progress: lock-free; one compare-and-swap for each page.
    fn drop(&mut self) {
        let mut pages = [Pfn::new(0); Order::ROW.frames() as usize];
        let mut n = 0_usize;
        for (place, page) in pages.iter_mut().zip(self.pages.iter()) {
            *place = page;
            n = n.saturating_add(1);
        }
        self.zone.protocol().put_pages(&pages[..n], self.zone);
    }
}

impl<P: Protocol> fmt::Debug for PageRow<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageRow({} pages from {})", self.pages.count(), self.pages.row())
    }
}
