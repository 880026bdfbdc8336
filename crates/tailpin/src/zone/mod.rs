//! A zone: an allocator, with the handles of its callers.

pub(crate) mod audit;
pub(crate) mod claim;
pub(crate) mod drop_many;
mod find;
pub mod handle;
#[cfg(feature = "std")]
mod leaked;
pub(crate) mod local;
pub(crate) mod many;
#[cfg(feature = "std")]
pub(crate) mod memory;
pub(crate) mod nodes;

use crate::alloc::allocator::Allocator;
use crate::alloc::config::{Request, ZoneConfig};
use crate::alloc::cpu_cache::{CpuCache, Places};
use crate::alloc::layout::ZoneLayout;
use crate::alloc::pool::Pool;
use crate::alloc::set_aside::SetAside;
use crate::atomic::AtomicWord;
use crate::error::{AddError, AllocError, ZoneError};
use crate::frame::{FrameRange, Order, Pfn};
use crate::frame_mask::{FrameMask, RowMask};
use crate::one_word::OneWord;
use crate::page_state::PageState;
use crate::page_word::PageWord;
use crate::protocol::{Attach, FreeSink, ParkingPlace, Protocol};
use crate::report::{Cause, Misuse, Operation};

use self::audit::{Audit, audit};
use self::handle::{Block, Raw};

/// Frames of one or more memory ranges, with everything that hands them out, counts them and takes
/// them back.
///
/// Shared by reference between threads and CPUs. The metadata memory is the caller's; its size is
/// asked first.
///
/// ```
/// use std::sync::atomic::AtomicU64;
/// use tailpin::{FrameRange, OneWord, Order, Pfn, Zone, ZoneConfig, ZoneLayout};
///
/// let ranges = [FrameRange::new(Pfn::new(0x1000), 4096)]; // 16 MiB from 16 MiB up
/// let layout = ZoneLayout::new(&ranges, 1)?;
/// let words = |n| (0..n).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
/// let (pages, allocator) = (words(layout.page_words::<OneWord>()), words(layout.allocator_words()));
/// let zone = Zone::new(layout, ZoneConfig::default(), &pages, &allocator)?;
///
/// let block = zone.alloc(Order::HUGE)?; // 2 MiB
/// let pinned = block.pin(7)?;           // one 4 KiB page of it
/// drop(block);                          // the other 511 are free at once
/// assert_eq!(zone.free_frames(), 4095);
/// drop(pinned);
/// assert_eq!(zone.audit().violations(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Progress
/// No operation takes a lock, and a thread that is stopped anywhere delays no other. Pin and unpin
/// by a holder are wait-free up to the last pin of a tail, which may have to give back a hold or
/// free a page; everything else is lock-free: a loop goes round only because another thread's
/// operation changed the word in between. Each operation says which it is.
pub struct Zone<'m, P: Protocol = OneWord<'m>> {
    allocator: Allocator<'m, P>,
}

impl<'m, W: AtomicWord> Zone<'m, OneWord<'m, W>> {
    /// A zone over zero-filled metadata: `pages` of [`ZoneLayout::page_words`] and `allocator` of
    /// [`ZoneLayout::allocator_words`]; align the latter to 64 bytes if you can. Only the words of
    /// pageblocks that are not wholly in service are written, so a zone of 1 TiB starts at once.
    ///
    /// [`Zone::with_protocol`] is the same with another protocol.
    ///
    /// # Errors
    /// [`ZoneError::TooFewWords`] if a slice is too short.
    pub fn new(
        layout: ZoneLayout<'_>,
        config: ZoneConfig<'m>,
        pages: &'m [W],
        allocator: &'m [W],
    ) -> Result<Self, ZoneError> {
        Self::with_protocol(layout, config, pages, allocator)
    }

    /// The zone that [`Zone::new`] made of these words, once more: all its state is in them, so
    /// another process that has them mapped can use it too. Nothing is written. The layout must be
    /// the same.
    ///
    /// # Errors
    /// As [`Zone::new`].
    ///
    /// ```
    /// # use std::sync::atomic::AtomicU64;
    /// # use tailpin::{FrameRange, OneWord, Order, Pfn, Zone, ZoneConfig, ZoneLayout};
    /// # let ranges = [FrameRange::new(Pfn::new(0), 700)];
    /// # let layout = ZoneLayout::new(&ranges, 1)?;
    /// # let words = |n| (0..n).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
    /// # let (pages, allocator) = (words(layout.page_words::<OneWord>()), words(layout.allocator_words()));
    /// let one = Zone::new(layout, ZoneConfig::default(), &pages, &allocator)?;
    /// let block = one.alloc(Order::HUGE)?;
    /// let other = Zone::attach(layout, ZoneConfig::default(), &pages, &allocator)?;
    /// assert_eq!(other.used_frames(), 512);
    /// let pinned = other.try_pin(block.pfn())?;
    /// drop(block);
    /// assert_eq!(one.used_frames(), 1);
    /// # drop(pinned);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn attach(
        layout: ZoneLayout<'_>,
        config: ZoneConfig<'m>,
        pages: &'m [W],
        allocator: &'m [W],
    ) -> Result<Self, ZoneError> {
        Self::attach_with_protocol(layout, config, pages, allocator)
    }
}

impl<'m, P: Attach<'m>> Zone<'m, P> {
    /// As [`Zone::new`], for a protocol that the type of the zone names.
    ///
    /// # Errors
    /// As [`Zone::new`].
    pub fn with_protocol(
        layout: ZoneLayout<'_>,
        config: ZoneConfig<'m>,
        pages: &'m [P::Word],
        allocator: &'m [P::Word],
    ) -> Result<Self, ZoneError> {
        let allocator = Allocator::over(&layout, config, pages, allocator)?;
        allocator.begin(&layout);
        Ok(Self { allocator })
    }

    /// As [`Zone::attach`], for a protocol that the type of the zone names.
    ///
    /// # Errors
    /// As [`Zone::new`].
    pub fn attach_with_protocol(
        layout: ZoneLayout<'_>,
        config: ZoneConfig<'m>,
        pages: &'m [P::Word],
        allocator: &'m [P::Word],
    ) -> Result<Self, ZoneError> {
        Ok(Self { allocator: Allocator::over(&layout, config, pages, allocator)? })
    }
}

impl<'m, P: Protocol> Zone<'m, P> {
    /// A block of `order`, 4 KiB to 1 GiB, naturally aligned, with one reference.
    ///
    /// Progress: lock-free; an uncoalesced page or a step in the pool is had by a compare-and-swap
    /// that fails only because another thread's succeeded. The hooks are the caller's and may do as
    /// they like.
    ///
    /// # Errors
    /// [`AllocError::Exhausted`] if there is none, also after uncoalesced pages were drained and
    /// the reclaim hook asked.
    #[inline(always)]
    pub fn alloc(&self, order: Order) -> Result<Block<'_, P>, AllocError> {
        self.alloc_with(Request::new(order))
    }

    /// As [`Zone::alloc`], with all options.
    ///
    /// Progress: lock-free; as [`Zone::alloc`].
    ///
    /// # Errors
    /// As [`Zone::alloc`].
    #[inline(always)] // A result that goes through memory costs more than all the rest.
    pub fn alloc_with(&self, request: Request) -> Result<Block<'_, P>, AllocError> {
        self.alloc_at(self.allocator.cpu_cache(), Places::Shared, request)
    }

    /// A block for the CPU with this cache, one that is parked at these places if it has any there.
    #[inline(always)]
    fn alloc_at(
        &self,
        cache: CpuCache<'m, P::Word>,
        places: Places,
        request: Request,
    ) -> Result<Block<'_, P>, AllocError> {
        let head = match self.allocator.alloc_fast(request, cache, places) {
            Some(head) => head,
            None => self.allocator.alloc_slow(request, cache)?,
        };
        Ok(Block::adopt(self, head, request.order()))
    }

    /// The interface of kernels: numbers and tokens in place of handles, everything checked.
    pub fn raw(&self) -> Raw<'_, P> {
        Raw::new(self)
    }

    /// Frames in service when the zone was made.
    pub fn usable_frames(&self) -> u64 {
        self.allocator.usable_frames()
    }

    /// Free frames, uncoalesced ones included. A snapshot; adds up at most nine words per 2 MiB,
    /// and looks at 64 pages for each row of them that has uncoalesced ones.
    ///
    /// Progress: lock-free; looks once at each place that may have free frames.
    pub fn free_frames(&self) -> u64 {
        self.allocator.free_frames()
    }

    /// Frames in use: neither free nor set aside.
    pub fn used_frames(&self) -> u64 {
        self.usable_frames().saturating_sub(self.free_frames()).saturating_sub(self.set_aside_frames())
    }

    /// Whole free 2 MiB pageblocks; uncoalesced pages may keep some from counting until
    /// [`Zone::drain`].
    ///
    /// Progress: lock-free; up to two loads for each 2 MiB.
    pub fn free_pageblocks(&self) -> u64 {
        self.allocator.free_pageblocks()
    }

    /// The order of the largest free block, of at most 2 MiB, that hints lead to: for a gauge, as
    /// it may be less than what a request finds that gathers free pages first.
    ///
    /// Progress: lock-free; a few words for each order, and one for each order and CPU, however
    /// large the zone.
    pub fn likely_largest(&self) -> Option<Order> {
        self.allocator.likely_largest()
    }

    /// All frame numbers the zone knows, holes included.
    pub fn span(&self) -> FrameRange {
        self.pool().span()
    }

    /// Walks every frame and proves that each is in exactly one state, that counts and holds add
    /// up, and that the allocator and the protocol agree. Only at a quiet moment: with other
    /// threads inside, it reports what they are in the middle of. Drains uncoalesced pages first.
    pub fn audit(&self) -> Audit {
        audit(self)
    }

    /// Brings uncoalesced pages and pageblocks into the pool, where they come together to larger
    /// blocks.
    ///
    /// Progress: lock-free; it looks once at each row and pageblock that is hinted at.
    pub fn drain(&self) {
        self.allocator.drain();
    }

    /// Takes a frame out of service for good (memory failure): at once if it is free, else when it
    /// is freed. Unless the answer is [`SetAside::AskAgain`], no request that is made later is
    /// served with it.
    ///
    /// Progress: lock-free; as [`Zone::try_pin`]. It looks again only where the frame changed hands
    /// during the look.
    #[doc(alias = "soft_offline_page")]
    pub fn set_aside(&self, frame: Pfn) -> SetAside {
        self.allocator.set_aside(frame)
    }

    /// Puts a frame back into service that has left it, by [`Zone::set_aside`] or because it was
    /// misused (the kernel's `unpoison_memory`). Of a misused frame the caller has to know that no
    /// code uses it any more. False if it has not left: it is in service, reserved, in use and
    /// about to leave, or outside the zone.
    ///
    /// Progress: lock-free; one compare-and-swap, and what giving back a page takes.
    ///
    /// ```
    /// # use tailpin::*;
    /// # let ranges = [FrameRange::new(Pfn::new(0), 512)];
    /// # let layout = ZoneLayout::new(&ranges, 1).unwrap();
    /// # let memory = ZoneMemory::for_layout(&layout);
    /// # let zone = memory.zone(layout, ZoneConfig::default()).unwrap();
    /// let frame = Pfn::new(7);
    /// assert_eq!(zone.set_aside(frame), SetAside::Done);
    /// assert!(zone.restore(frame));
    /// assert_eq!((zone.set_aside_frames(), zone.free_pageblocks()), (0, 1));
    /// assert!(!zone.restore(frame));
    /// ```
    #[doc(alias = "unpoison_memory")]
    pub fn restore(&self, frame: Pfn) -> bool {
        self.allocator.restore(frame)
    }

    /// Puts frames into service that never were: memory that is found or plugged in after the zone
    /// was made, within the span that it was laid out for ([`ZoneLayout::spanning`]).
    ///
    /// Progress: lock-free; one compare-and-swap for each 2 MiB that enters service as a whole, for
    /// others one for each frame. It does not wait for another thread: see [`AddError::Busy`].
    ///
    /// # Errors
    /// [`AddError`]. If a frame is in service already, nothing has changed.
    ///
    /// ```
    /// # use tailpin::*;
    /// let layout = ZoneLayout::spanning(FrameRange::new(Pfn::new(0), 1 << 18), 1)?; // up to 1 GiB
    /// let memory = ZoneMemory::for_layout(&layout);
    /// let zone = memory.zone(layout, ZoneConfig::default())?;
    /// assert!(zone.alloc(Order::PAGE).is_err());
    /// zone.add(FrameRange::new(Pfn::new(100), 1000))?;
    /// zone.add(FrameRange::new(Pfn::new(4096), 512))?;
    /// assert_eq!((zone.usable_frames(), zone.free_frames()), (1512, 1512));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "add_memory")]
    pub fn add(&self, range: FrameRange) -> Result<(), AddError> {
        self.allocator.add(range)
    }

    /// Frames that have gone out of service.
    pub fn set_aside_frames(&self) -> u64 {
        self.allocator.set_aside_frames()
    }

    /// Reports a misuse and sets the frame aside; a frame outside the zone is only reported.
    fn report(&self, frame: Pfn, operation: Operation, cause: Cause) -> Misuse {
        let state = self.state(frame).unwrap_or(PageState::NOT_IN_ZONE);
        let misuse = Misuse { frame, state, operation, cause };
        self.misuse(&misuse);
        misuse
    }

    #[inline]
    fn protocol(&self) -> &P {
        self.allocator.protocol()
    }

    #[inline]
    fn pool(&self) -> &Pool<'m, P::Word> {
        self.allocator.pool()
    }
}

/// What is freed goes to the allocator.
impl<P: Protocol> FreeSink for Zone<'_, P> {
    #[inline]
    fn freed_block(&self, head: Pfn, order: Order) {
        self.allocator.freed_block(head, order);
    }

    #[inline]
    fn takes_uncoalesced(&self) -> bool {
        self.allocator.takes_uncoalesced()
    }

    #[inline]
    fn park(&self, head: Pfn, order: Order) -> Option<ParkingPlace> {
        self.allocator.park(head, order)
    }

    #[inline]
    fn parked(&self, head: Pfn, order: Order, place: ParkingPlace, freed: bool) {
        self.allocator.parked(head, order, place, freed);
    }

    #[inline]
    fn freed_uncoalesced(&self, head: Pfn, order: Order) {
        self.allocator.freed_uncoalesced(head, order);
    }

    #[inline(never)] // So that a drop which frees nothing saves no registers for it.
    fn freed_page(&self, page: Pfn, _left: PageWord) {
        self.allocator.publish_page_hint(page);
    }

    #[inline]
    fn freed_pages(&self, pages: RowMask) {
        self.allocator.freed_pages(pages);
    }

    #[inline]
    fn freed_frames(&self, pageblock: Pfn, frames: &FrameMask) {
        self.allocator.freed_frames(pageblock, frames);
    }

    #[inline]
    fn freed_offline(&self, frame: Pfn) {
        self.allocator.freed_offline(frame);
    }

    #[cold]
    fn misuse(&self, misuse: &Misuse) {
        self.allocator.misuse(misuse);
    }
}
