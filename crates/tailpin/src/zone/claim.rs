//! Free frames taken out of circulation for a while: for a caller that does something to them while
//! no request is served with them, such as giving the memory under them back to a host.

use core::fmt;

use crate::alloc::ids::PageblockId;
use crate::frame::{Order, Pfn};
use crate::frame_mask::FrameMask;
use crate::one_word::OneWord;
use crate::protocol::Protocol;

use super::Zone;

/// Free frames of one 2 MiB pageblock that no request is served with; they are free again when this
/// is dropped.
///
/// ```
/// # use tailpin::*;
/// # let ranges = [FrameRange::new(Pfn::new(0), 512)];
/// # let layout = ZoneLayout::new(&ranges, 1).unwrap();
/// # let memory = ZoneMemory::for_layout(&layout);
/// # let zone = memory.zone(layout, ZoneConfig::default()).unwrap();
/// let page = zone.alloc(Order::PAGE)?;
/// zone.drain(); // uncoalesced pages are not found
/// let claimed = zone.claim(Pfn::new(0), &FrameMask::ALL);
/// assert_eq!(claimed.count(), 511);
/// assert!(zone.alloc(Order::PAGE).is_err());
/// drop(claimed);
/// assert!(zone.alloc(Order::PAGE).is_ok());
/// # drop(page);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Claimed<'z, P: Protocol = OneWord<'z>> {
    zone: &'z Zone<'z, P>,
    pageblock: Pfn,
    frames: FrameMask,
    /// Claimed as a whole; whether the pageblock's words were not all at rest.
    whole: Option<bool>,
}

impl<P: Protocol> Claimed<'_, P> {
    /// First frame of the pageblock that the claimed frames are of.
    pub fn pageblock(&self) -> Pfn {
        self.pageblock
    }

    /// The frames, by their numbers within the pageblock.
    pub fn frames(&self) -> &FrameMask {
        &self.frames
    }

    /// How many frames are claimed.
    pub fn count(&self) -> u64 {
        self.frames.count()
    }

    /// Whether it is the whole pageblock.
    pub fn is_whole(&self) -> bool {
        self.whole.is_some()
    }
}

impl<P: Protocol> Drop for Claimed<'_, P> {
    fn drop(&mut self) {
        if self.count() == 0 {
            return;
        }
        let pool = self.zone.pool();
        let given = match self.whole {
            Some(needs_scrub) => pool.unclaim_pageblock(pool.pageblock_of(self.pageblock), needs_scrub),
            None => pool.give_some(self.pageblock, &self.frames),
        };
        self.zone.allocator.given(self.pageblock, Order::PAGE, given);
    }
}

impl<P: Protocol> fmt::Debug for Claimed<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Claimed({} frames of pageblock {})", self.count(), self.pageblock)
    }
}

impl<'m, P: Protocol> Zone<'m, P> {
    /// Takes those frames of the pageblock beginning at `pageblock` that are free and wanted (a bit
    /// each) out of circulation, as compaction isolates the free pages that it is going to move
    /// others to. Uncoalesced frames are not found; see [`Zone::drain`].
    ///
    /// A pageblock that is not within the zone has no free frames.
    #[doc(alias = "compaction")]
    #[doc(alias = "migration")]
    pub fn claim(&self, pageblock: Pfn, wanted: &FrameMask) -> Claimed<'_, P> {
        let frames = match self.pageblock_at(pageblock) {
            Some(id) => {
                let frames = self.pool().take_all_wanted(id, wanted);
                // Others of the same words may have changed hands with them.
                self.allocator.retire_waiting_in(id);
                frames
            }
            None => FrameMask::NONE,
        };
        Claimed { zone: self, pageblock, frames, whole: None }
    }

    /// Takes the pageblock beginning at `pageblock` out of circulation if all of it is free; `None`
    /// if any of it is not.
    pub fn claim_pageblock(&self, pageblock: Pfn) -> Option<Claimed<'_, P>> {
        let needs_scrub = self.pool().claim_pageblock(self.pageblock_at(pageblock)?)?;
        Some(Claimed { zone: self, pageblock, frames: FrameMask::ALL, whole: Some(needs_scrub) })
    }

    /// Frames of the pageblock that are not free to be handed out: in use, uncoalesced, claimed, or
    /// not in service.
    pub fn used_in_pageblock(&self, pageblock: Pfn) -> u64 {
        let free = self.pageblock_at(pageblock).map_or(0, |id| self.pool().free_in_pageblock(id));
        Order::HUGE.frames().saturating_sub(free)
    }

    /// The pageblock that begins at `first`, if one of the zone does.
    fn pageblock_at(&self, first: Pfn) -> Option<PageblockId> {
        let inside = self.span().contains(first) && first.is_aligned(Order::HUGE);
        inside.then(|| self.pool().pageblock_of(first))
    }
}
