//! A reference that is given back unless it is kept: also if code of the environment panics.

use core::mem::ManuallyDrop;

use tailpin::{Order, Pfn, RawBlock, Zone};

/// The token of a reference to a naturally aligned range that was one block when the caller took
/// the reference; its generation stays as long as the caller has that.
pub(crate) fn token(zone: &Zone<'_>, head: Pfn, order: Order) -> RawBlock {
    RawBlock::from_parts(head, order, zone.raw().token(head).generation())
}

/// Gives back one reference on each block of a naturally aligned range.
pub(crate) fn drop_block(zone: &Zone<'_>, head: Pfn, order: Order) {
    // On misuse the zone has reported it and taken the frame out of service: nothing is left to do.
    let _ = zone.raw().put_many(token(zone, head, order), 1);
}

/// A reference on a block, which is given back when this is dropped.
pub(crate) struct BlockGuard<'z> {
    zone: &'z Zone<'z>,
    head: Pfn,
    order: Order,
}

impl<'z> BlockGuard<'z> {
    /// Takes over the caller's reference.
    pub(crate) fn new(zone: &'z Zone<'z>, head: Pfn, order: Order) -> Self {
        Self { zone, head, order }
    }

    /// First frame of the block.
    pub(crate) fn head(&self) -> Pfn {
        self.head
    }

    /// Hands the reference to the caller.
    pub(crate) fn keep(self) -> Pfn {
        ManuallyDrop::new(self).head
    }
}

impl Drop for BlockGuard<'_> {
    fn drop(&mut self) {
        drop_block(self.zone, self.head, self.order);
    }
}
