//! A zone as one thread or CPU uses it.

use core::cell::Cell;
use core::fmt;
use core::mem::ManuallyDrop;

use crate::alloc::config::Request;
use crate::alloc::cpu_cache::{CpuCache, Places};
use crate::error::AllocError;
use crate::frame::{Order, Pfn};
use crate::frame_mask::{FrameMask, RowMask};
use crate::one_word::OneWord;
use crate::page_word::PageWord;
use crate::protocol::{FreeSink, ParkingPlace, Protocol};
use crate::report::Misuse;

use super::Zone;
use super::handle::Block;

/// A zone as one thread or CPU uses it: which CPU it is was asked once, and blocks of 8 KiB to
/// 1 MiB that are freed here are noted without a locked instruction. From [`Zone::local`].
///
/// Nothing is kept from others: what is freed here any thread may be given, and blocks from
/// anywhere may be freed here.
///
/// ```
/// # use tailpin::*;
/// # let ranges = [FrameRange::new(Pfn::new(0), 1024)];
/// # let layout = ZoneLayout::new(&ranges, 4).unwrap();
/// # let memory = ZoneMemory::for_layout(&layout);
/// # let zone = memory.zone(layout, ZoneConfig::default()).unwrap();
/// let local = zone.local(3);
/// let page = local.alloc(Order::PAGE)?;
/// local.free(page);
/// assert_eq!(zone.used_frames(), 0);
/// # Ok::<(), AllocError>(())
/// ```
///
/// It is one thread's at a time: it can be sent to another, not shared.
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<tailpin::Local<'_>>();
/// ```
pub struct Local<'z, P: Protocol = OneWord<'z>> {
    zone: &'z Zone<'z, P>,
    cache: CpuCache<'z, P::Word>,
    /// Its own, if no other `Local` has those of this CPU.
    places: Places,
    /// The page that was freed here last, the first one to try, and what was left in its word then:
    /// a hint, as all that the CPU remembers of pages.
    last: Cell<Pfn>,
    /// [`NOTHING`] if there is none.
    left: Cell<PageWord>,
}

/// Not what a page that was freed is left with: no uncoalesced one.
const NOTHING: PageWord = PageWord::from_bits(0);

impl<'m, P: Protocol> Zone<'m, P> {
    /// The zone as CPU `cpu` uses it, modulo CPU caches. Best one at a time for each of them: a
    /// second one works as well, and parks blocks as [`Zone::alloc`] does.
    ///
    /// Progress: wait-free; one compare-and-swap.
    pub fn local(&self, cpu: usize) -> Local<'_, P> {
        let cache = self.allocator.cache_of(cpu);
        let places = if cache.own() { Places::Own } else { Places::Shared };
        Local { zone: self, cache, places, last: Cell::new(self.span().start), left: Cell::new(NOTHING) }
    }
}

impl<'z, P: Protocol> Local<'z, P> {
    /// As [`Zone::alloc`].
    ///
    /// Progress: lock-free; as [`Zone::alloc`].
    ///
    /// # Errors
    /// As [`Zone::alloc`].
    #[inline(always)]
    pub fn alloc(&self, order: Order) -> Result<Block<'z, P>, AllocError> {
        self.alloc_with(Request::new(order))
    }

    /// As [`Zone::alloc_with`].
    ///
    /// Progress: lock-free; as [`Zone::alloc`].
    ///
    /// # Errors
    /// As [`Zone::alloc`].
    #[inline(always)] // As `Zone::alloc_with`.
    pub fn alloc_with(&self, request: Request) -> Result<Block<'z, P>, AllocError> {
        if request.is_any_of(Order::PAGE) {
            let (page, left) = (self.last.get(), self.left.replace(NOTHING));
            if self.zone.protocol().claim_left(page, left, request.class) {
                return Ok(Block::adopt(self.zone, page, Order::PAGE));
            }
        }
        self.zone.alloc_at(self.cache, self.places, request)
    }

    /// Another page is the last one that was freed here; the one before goes to the CPU's others.
    #[inline(always)]
    fn remember(&self, page: Pfn, left: PageWord) {
        let before = self.last.replace(page);
        if self.left.replace(left) != NOTHING {
            self.cache.push(self.zone.pool().number(before));
        }
    }

    /// Drops a block; if this is its last reference, its frames are likely to be the next ones that
    /// are handed out here. A block of another zone is dropped where it belongs.
    ///
    /// Progress: lock-free; as [`Block`]'s drop.
    #[inline(always)]
    pub fn free(&self, block: Block<'z, P>) {
        if core::ptr::eq(block.zone(), self.zone) {
            let block = ManuallyDrop::new(block);
            let (protocol, head, order) = (self.zone.protocol(), block.pfn(), block.order());
            // The last reference to a page, by far the most frequent case, is compiled into the
            // caller.
            if order != Order::PAGE || !protocol.free_page(head, self) {
                protocol.put_block(head, order, self);
            }
        }
    }

    /// The zone.
    pub fn zone(&self) -> &'z Zone<'z, P> {
        self.zone
    }
}

impl<P: Protocol> Drop for Local<'_, P> {
    fn drop(&mut self) {
        self.remember(self.last.get(), NOTHING);
        if self.places == Places::Own {
            self.cache.disown();
        }
    }
}

impl<P: Protocol> fmt::Debug for Local<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Local(CPU {})", self.cache.index())
    }
}

/// What is freed is remembered by this CPU.
impl<P: Protocol> FreeSink for Local<'_, P> {
    #[inline]
    fn freed_block(&self, head: Pfn, order: Order) {
        self.zone.freed_block(head, order);
    }

    #[inline]
    fn takes_uncoalesced(&self) -> bool {
        self.zone.takes_uncoalesced()
    }

    #[inline]
    fn park(&self, head: Pfn, order: Order) -> Option<ParkingPlace> {
        self.zone.allocator.park_block(self.cache, head, order, self.places)
    }

    #[inline]
    fn parked(&self, head: Pfn, order: Order, place: ParkingPlace, freed: bool) {
        match self.places {
            Places::Own => self.zone.allocator.parked_own(self.cache, head, place, freed),
            Places::Shared => self.zone.allocator.parked_block(head, order, place, freed),
        }
    }

    #[inline(always)]
    fn freed_uncoalesced(&self, head: Pfn, order: Order) {
        if order == Order::PAGE {
            self.zone.allocator.publish_page_hint_in(self.cache, head);
        } else {
            self.zone.allocator.publish_pageblock_hint_in(self.cache, head);
        }
    }

    #[inline(always)]
    fn freed_page(&self, page: Pfn, left: PageWord) {
        if self.zone.allocator.is_found_by_row(self.cache, page) {
            self.remember(page, left);
        } else {
            self.zone.allocator.publish_page_hint_at(self.cache, page);
        }
    }

    #[inline]
    fn freed_pages(&self, pages: RowMask) {
        self.zone.allocator.publish_row_hint_in(self.cache, pages);
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
