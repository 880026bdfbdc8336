//! Many blocks dropped at once: their cache misses overlap, first those on their words, then those
//! on what leads to the pages that were freed.

use crate::frame::{Order, Pfn};
use crate::protocol::{FreeSink, Protocol};

use super::Zone;
use super::handle::Block;

/// Blocks that are looked at before the first of them is dropped.
const AHEAD: usize = 16;

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

    /// Frees the pages of which these blocks are the last references, and takes them away. What
    /// leads to a page is looked for afterwards: a locked instruction frees the page, and no read
    /// begins before that is done.
    #[expect(clippy::arithmetic_side_effects, reason = "no more than there are blocks")]
    fn free_pages<'z>(&'z self, blocks: &mut [Option<Block<'z, P>>; AHEAD]) {
        if !self.takes_uncoalesced() {
            return;
        }
        let (mut freed, mut n) = ([Pfn::new(0); AHEAD], 0);
        for place in blocks {
            if let Some(block) = place
                && block.order() == Order::PAGE
                && core::ptr::eq(block.zone(), self)
                && self.protocol().free_page_step(block.pfn()).is_some()
            {
                freed[n] = block.pfn();
                n += 1;
                core::mem::forget(place.take());
            }
        }
        self.allocator.publish_page_hints(&freed[..n]);
    }
}
