//! Many blocks at once: pages by the row, and rows by the pageblock.

use core::fmt;
use core::iter::FusedIterator;

use crate::frame::{Order, Pfn};
use crate::frame_mask::RowMask;
use crate::one_word::OneWord;
use crate::protocol::Protocol;
use crate::zone::handle::{Block, PageRow};

use super::Zone;
use crate::alloc::config::Request;
use crate::alloc::ids::{RowId, Rows};
use crate::alloc::pool::Taken;

/// Pageblocks that a CPU takes where it was, a few; with more it begins in its own part.
const FEW: usize = 8;

/// Pages at hand.
#[derive(Clone, Copy)]
struct Pages {
    row: RowId,
    /// A bit for each of the row's 64.
    rest: u64,
    /// They are uncoalesced, and no hint leads to them; else they were taken from the pool.
    uncoalesced: bool,
}

/// None.
const NO_PAGES: Pages = Pages { row: RowId::FIRST, rest: 0, uncoalesced: false };

/// Blocks of one kind, one after the other: see [`Zone::alloc_many`].
#[must_use = "nothing is allocated before it is asked for"]
pub struct Blocks<'z, P: Protocol = OneWord<'z>> {
    zone: &'z Zone<'z, P>,
    request: Request,
    left: usize,
    /// Any pages will do, and no hook has to hear of each.
    by_row: bool,
    pages: Pages,
    /// To be looked at for uncoalesced pages next; no hint leads to them.
    rows: Rows,
}

impl<'z, P: Protocol> Blocks<'z, P> {
    /// A page of those at hand.
    #[inline]
    fn next_page(&mut self) -> Option<Pfn> {
        let (allocator, request, row) = (&self.zone.allocator, self.request, self.pages.row);
        while self.pages.rest != 0 {
            let page = allocator.page_of(row, self.pages.rest.trailing_zeros());
            self.pages.rest &= self.pages.rest.wrapping_sub(1);
            if self.pages.uncoalesced {
                if allocator.hand_out_uncoalesced(page, Order::PAGE, request.class) {
                    return Some(page);
                }
            } else {
                match allocator.finish(Taken::scrubbed(page), request) {
                    Ok(page) => return Some(page),
                    Err(bad) => allocator.refuse_bad_frame(page, Order::PAGE, bad),
                }
            }
        }
        None
    }

    /// The next pages, all of one row: as many as it has, and at most as many as are left; each at
    /// less cost than by [`Iterator::next`]. `None` where no pages come by the row, as with a hook
    /// or a watermark, or for blocks of other orders: what there is then the iterator finds.
    ///
    /// Progress: lock-free; as [`Zone::alloc`] of each.
    ///
    /// ```
    /// # use tailpin::*;
    /// # let ranges = [FrameRange::new(Pfn::new(0), 1024)];
    /// # let layout = ZoneLayout::new(&ranges, 1).unwrap();
    /// # let memory = ZoneMemory::for_layout(&layout);
    /// # let zone = memory.zone(layout, ZoneConfig::default()).unwrap();
    /// let mut many = zone.alloc_many(Request::new(Order::PAGE), 100);
    /// let (first, second) = (many.next_row().unwrap(), many.next_row().unwrap());
    /// assert_eq!((first.len(), second.len()), (64, 36));
    /// assert!(many.next_row().is_none());
    /// ```
    pub fn next_row(&mut self) -> Option<PageRow<'z, P>> {
        let allocator = &self.zone.allocator;
        while self.by_row && self.left > 0 {
            let pages = match self.pages.rest {
                0 => allocator.hand_out_row(&mut self.rows, self.left, self.request.class),
                _ => Some(self.rest_of_row()),
            };
            match pages {
                Some(pages) if !pages.is_empty() => {
                    self.left = self.left.saturating_sub(pages.count() as usize);
                    return Some(PageRow::adopt(self.zone, pages));
                }
                Some(_) => {}
                None => self.pages = self.take_from_pool(self.left)?,
            }
        }
        None
    }

    /// Of the pages at hand, as many as are left.
    fn rest_of_row(&mut self) -> RowMask {
        let (mut pages, mut n) = (RowMask::new(self.zone.allocator.page_of(self.pages.row, 0), 0), 0);
        while n < self.left
            && let Some(page) = self.next_page()
        {
            pages = pages.with(page);
            n = n.saturating_add(1);
        }
        pages
    }

    /// At most so many pages of a row, out of the pool.
    fn take_from_pool(&self, most: usize) -> Option<Pages> {
        let allocator = &self.zone.allocator;
        let (row, rest) = allocator.take_row_of_pages(most)?;
        // They are likely to be uncoalesced one day; then each of them is noted already.
        allocator.uncoalesced.note(row, rest);
        Some(Pages { row, rest, uncoalesced: false })
    }

    /// Has more pages at hand; false if there are none but those that a single request may find.
    #[inline(never)]
    fn look_further(&mut self) -> bool {
        // No more than are going to be handed out are kept from others. The one that is asked for
        // has been counted off.
        let most = self.left.saturating_add(1);
        let allocator = &self.zone.allocator;
        let uncoalesced = allocator.uncoalesced_row(&mut self.rows, most).map(|(row, rest)| {
            if rest.count_ones() as usize > most {
                allocator.hint_at_row(row);
            }
            Pages { row, rest, uncoalesced: true }
        });
        let found = uncoalesced.or_else(|| self.take_from_pool(most));
        self.pages = found.unwrap_or(NO_PAGES);
        found.is_some()
    }
}

impl<'z, P: Protocol> Iterator for Blocks<'z, P> {
    type Item = Block<'z, P>;

    #[inline]
    fn next(&mut self) -> Option<Block<'z, P>> {
        self.left = self.left.checked_sub(1)?;
        if self.by_row {
            loop {
                if let Some(page) = self.next_page() {
                    return Some(Block::adopt(self.zone, page, Order::PAGE));
                }
                if !self.look_further() {
                    break;
                }
            }
        }
        let block = self.zone.alloc_with(self.request).ok();
        if block.is_none() {
            self.left = 0;
        }
        block
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

impl<P: Protocol> FusedIterator for Blocks<'_, P> {}

impl<P: Protocol> Drop for Blocks<'_, P> {
    fn drop(&mut self) {
        let allocator = &self.zone.allocator;
        self.rows.for_each(|row| allocator.hint_at_row(row));
        match self.pages {
            Pages { rest: 0, .. } => {}
            Pages { row, uncoalesced: true, .. } => allocator.hint_at_row(row),
            Pages { row, rest, .. } => allocator.give_pages(row, rest),
        }
    }
}

impl<P: Protocol> fmt::Debug for Blocks<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blocks(up to {} of order {})", self.left, self.request.order())
    }
}

impl<'m, P: Protocol> Zone<'m, P> {
    /// Up to `n` blocks, one for each turn of the iterator; fewer if there are no more. Pages are
    /// looked for up to 512 at a time, which makes each of them cheaper than by [`Zone::alloc`]
    /// (the kernel's `alloc_pages_bulk`). Up to 511 free pages, of a request for no more than 512
    /// up to 63, belong to the iterator until it is dropped, so don't forget it (or keep it for
    /// long).
    ///
    /// Progress: lock-free; as [`Zone::alloc`].
    ///
    /// ```
    /// # use tailpin::*;
    /// # let ranges = [FrameRange::new(Pfn::new(0), 1024)];
    /// # let layout = ZoneLayout::new(&ranges, 1).unwrap();
    /// # let memory = ZoneMemory::for_layout(&layout);
    /// # let zone = memory.zone(layout, ZoneConfig::default()).unwrap();
    /// let pages: Vec<_> = zone.alloc_many(Request::new(Order::PAGE), 1000).collect();
    /// assert_eq!(pages.len(), 1000);
    /// let others: Vec<_> = zone.alloc_many(Request::new(Order::PAGE), 1000).collect();
    /// assert_eq!(others.len(), 24); // no more are left
    /// zone.drop_many(pages.into_iter().chain(others));
    /// assert_eq!(zone.used_frames(), 0);
    /// ```
    pub fn alloc_many(&self, request: Request, n: usize) -> Blocks<'_, P> {
        if request.is_any_of(Order::HUGE) && n > FEW {
            self.allocator.begin_in_own_part();
        }
        let by_row = request.is_any_of(Order::PAGE) && !self.allocator.has_hooks();
        Blocks { zone: self, request, left: n, by_row, pages: NO_PAGES, rows: Rows::NONE }
    }
}
