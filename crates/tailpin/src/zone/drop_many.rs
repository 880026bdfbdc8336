//! Many blocks dropped at once: their cache misses overlap, first those on their words, then those
//! on what leads to the pages that were freed.

use core::cell::Cell;

use crate::frame::{Order, Pfn};
use crate::frame_mask::FrameMask;
use crate::page_word::PageWord;
use crate::protocol::{FreeSink, ParkingPlace, Protocol};
use crate::report::Misuse;

use super::Zone;
use super::handle::Block;

/// Blocks that are looked at before the first of them is dropped.
const AHEAD: usize = 16;

/// Takes what is freed as the zone does, and what leads to a page when it is dropped: a locked
/// instruction frees the page, and no read begins before that is done.
struct FreedPages<'z, 'm, P: Protocol> {
    zone: &'z Zone<'m, P>,
    pages: [Cell<Pfn>; AHEAD],
    len: Cell<usize>,
}

impl<'z, 'm, P: Protocol> FreedPages<'z, 'm, P> {
    fn new(zone: &'z Zone<'m, P>) -> Self {
        Self { zone, pages: [const { Cell::new(Pfn::new(0)) }; AHEAD], len: Cell::new(0) }
    }
}

impl<P: Protocol> Drop for FreedPages<'_, '_, P> {
    #[inline]
    fn drop(&mut self) {
        let freed = &self.pages[..self.len.get()];
        self.zone.allocator.publish_page_hints(freed.iter().map(Cell::get));
    }
}

impl<P: Protocol> FreeSink for FreedPages<'_, '_, P> {
    #[inline]
    fn freed_block(&self, head: Pfn, order: Order) {
        self.zone.freed_block(head, order);
    }

    #[inline]
    fn takes_uncoalesced(&self) -> bool {
        self.zone.takes_uncoalesced()
    }

    #[inline]
    fn freed_uncoalesced(&self, head: Pfn, order: Order) {
        self.zone.freed_uncoalesced(head, order);
    }

    #[inline(always)]
    #[expect(clippy::arithmetic_side_effects, reason = "no more than there are places")]
    fn freed_page(&self, page: Pfn, left: PageWord) {
        let len = self.len.get();
        match self.pages.get(len) {
            Some(place) => {
                place.set(page);
                self.len.set(len + 1);
            }
            None => self.zone.freed_page(page, left),
        }
    }

    #[inline]
    fn park(&self, head: Pfn, order: Order) -> Option<ParkingPlace> {
        self.zone.park(head, order)
    }

    #[inline]
    fn parked(&self, head: Pfn, order: Order, place: ParkingPlace, freed: bool) {
        self.zone.parked(head, order, place, freed);
    }

    #[inline]
    fn freed_frames(&self, pageblock: Pfn, frames: &FrameMask) {
        self.zone.freed_frames(pageblock, frames);
    }

    #[inline]
    fn freed_offline(&self, frame: Pfn) {
        self.zone.freed_offline(frame);
    }

    #[cold]
    fn misuse(&self, misuse: &Misuse) {
        self.zone.misuse(misuse);
    }
}

impl<'m, P: Protocol> Zone<'m, P> {
    /// Drops blocks, as if one by one. If their words are in no cache, the misses overlap, which
    /// drops by themselves can't (the kernel's `folios_put`). A block of another zone is dropped
    /// where it belongs.
    ///
    /// Progress: as that of each drop.
    pub fn drop_many<'z>(&'z self, blocks: impl IntoIterator<Item = Block<'z, P>>) {
        let mut blocks = blocks.into_iter().fuse();
        loop {
            let mut some: [Option<Block<'z, P>>; AHEAD] = core::array::from_fn(|_| blocks.next());
            if some[0].is_none() {
                break;
            }
            some.iter().flatten().for_each(Block::look);
            // Where there is one page there are likely to be others.
            if some[0].as_ref().is_some_and(|block| block.order() == Order::PAGE) {
                self.free_pages(&mut some);
            }
        }
    }

    /// Frees the pages of which these blocks are the last references, and takes them away.
    fn free_pages<'z>(&'z self, blocks: &mut [Option<Block<'z, P>>; AHEAD]) {
        let freed = FreedPages::new(self);
        for place in blocks {
            if let Some(block) = place
                && block.order() == Order::PAGE
                && core::ptr::eq(block.zone(), self)
                && self.protocol().free_page(block.pfn(), &freed)
            {
                core::mem::forget(place.take());
            }
        }
    }
}
