//! A zone: frames, the protocol that counts them and the pool that knows which are free.

pub(crate) mod audit;
pub(crate) mod claim;
pub(crate) mod config;
mod find;
mod free_sink;
pub mod handle;
pub(crate) mod hooks;
pub(crate) mod many;
#[cfg(feature = "std")]
pub(crate) mod memory;
pub(crate) mod nodes;
mod set_aside;
mod take_frames;
mod uncoalesced;

pub use set_aside::SetAside;

use core::sync::atomic::Ordering;

use crate::atomic::AtomicWord;
use crate::error::{AllocError, ZoneError};
use crate::finally::Finally;
use crate::frame::{FrameRange, Order, Pfn};
use crate::one_word::OneWord;
use crate::page_state::Class;
use crate::protocol::{Attach, Protocol};
use crate::zone::audit::{Audit, audit};
use crate::zone::handle::{Block, Raw};

use self::config::{Request, ZoneConfig};
use crate::alloc::cpu_cache::{CPU_CACHE_WORDS, CpuCache, SPARE};
use crate::alloc::layout::ZoneLayout;
use crate::alloc::pool::{Pool, Taken};
use crate::alloc::uncoalesced::Uncoalesced;

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
/// let (pages, areas) = (words(layout.page_words::<OneWord>()), words(layout.area_words()));
/// let zone: Zone = Zone::new(layout, ZoneConfig::default(), &pages, &areas)?;
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
    pub(super) protocol: P,
    pub(super) pool: Pool<'m, P::Word>,
    pub(super) uncoalesced: Uncoalesced<'m, P::Word>,
    slots: &'m [[P::Word; CPU_CACHE_WORDS]],
    set_aside: &'m P::Word,
    config: ZoneConfig<'m>,
    /// A hook or a watermark is set, so that neither handing out nor freeing can be one step.
    has_hooks: bool,
    usable: u64,
}

impl<'m, P: Attach<'m>> Zone<'m, P> {
    /// A zone over zero-filled metadata: `pages` of [`ZoneLayout::page_words`] and `areas` of
    /// [`ZoneLayout::area_words`]; align the latter to 64 bytes if you can. Only the words of
    /// pageblocks that are not wholly in service are written, so a zone of 1 TiB starts at once.
    ///
    /// # Errors
    /// [`ZoneError::TooFewWords`] if a slice is too short.
    pub fn new(
        layout: ZoneLayout<'_>,
        config: ZoneConfig<'m>,
        pages: &'m [P::Word],
        areas: &'m [P::Word],
    ) -> Result<Self, ZoneError> {
        let zone = Self::over(layout, config, pages, areas)?;
        zone.pool.begin();
        zone.withhold(&layout);
        Ok(zone)
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
    /// # let (pages, areas) = (words(layout.page_words::<OneWord>()), words(layout.area_words()));
    /// let one: Zone = Zone::new(layout, ZoneConfig::default(), &pages, &areas)?;
    /// let block = one.alloc(Order::HUGE)?;
    /// let other: Zone = Zone::attach(layout, ZoneConfig::default(), &pages, &areas)?;
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
        pages: &'m [P::Word],
        areas: &'m [P::Word],
    ) -> Result<Self, ZoneError> {
        Self::over(layout, config, pages, areas)
    }

    fn over(
        layout: ZoneLayout<'_>,
        config: ZoneConfig<'m>,
        pages: &'m [P::Word],
        areas: &'m [P::Word],
    ) -> Result<Self, ZoneError> {
        for (which, needed, given) in
            [("pages", layout.page_words::<P>(), pages.len()), ("areas", layout.area_words(), areas.len())]
        {
            if given < needed {
                return Err(ZoneError::TooFewWords { which, needed, given });
            }
        }
        let slots = areas[layout.slots_at()..][..layout.slots() * CPU_CACHE_WORDS].as_chunks().0;
        Ok(Self {
            // No more than the span, so that what has a word is in the zone.
            protocol: P::attach(&pages[..layout.page_words::<P>()], layout.base()),
            pool: Pool::new(&layout, areas),
            uncoalesced: Uncoalesced::new(&layout, areas),
            slots,
            set_aside: &slots[0][SPARE],
            config,
            has_hooks: config.hooks.is_some() || config.low_watermark != 0,
            usable: layout.usable_frames(),
        })
    }

    fn withhold(&self, layout: &ZoneLayout<'_>) {
        for area in 0..self.pool.areas() {
            let first = self.pool.first_frame(area);
            match layout.area_in_service(first) {
                Some(true) => {}
                Some(false) => self.pool.withhold_area(area),
                None => {
                    for frame in FrameRange::block(first, Order::HUGE).iter() {
                        if !layout.in_service(frame) {
                            self.pool.take_frame(frame);
                            self.protocol.reserve(frame);
                        }
                    }
                }
            }
        }
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
    /// [`AllocError::Exhausted`] if there is none, also after uncoalesced pages were gathered and
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
        // What is likely to be uncoalesced has a short straight line, compiled into the caller.
        let head = match request.order {
            Order::PAGE if !self.has_hooks => self.next_page(request.class),
            Order::HUGE if !self.has_hooks => self.next_area(request.class),
            _ => None,
        };
        let head = match head {
            Some(head) => head,
            None => self.alloc_elsewhere(request)?,
        };
        Ok(Block::adopt(self, head, request.order))
    }

    /// The page that the CPU cache remembers first, if it is uncoalesced.
    #[inline(always)]
    fn next_page(&self, class: Class) -> Option<Pfn> {
        let slot = self.slot();
        let number = slot.next_page()?;
        let page = self.pool.frame(number);
        let claimed = self.protocol.claim_and_publish(page, Order::PAGE, class);
        claimed.then(|| {
            slot.pop();
            self.handed_out_uncoalesced(page, Order::PAGE);
            page
        })
    }

    /// The same for a pageblock.
    #[inline]
    fn next_area(&self, class: Class) -> Option<Pfn> {
        let slot = self.slot();
        let area = slot.next_area();
        let head = self.pool.first_frame(area);
        let claimed = self.protocol.claim_and_publish(head, Order::HUGE, class);
        claimed.then(|| {
            slot.set_next_area(self.pool.area_after(area));
            self.handed_out_uncoalesced(head, Order::HUGE);
            head
        })
    }

    #[inline(never)]
    fn alloc_elsewhere(&self, request: Request) -> Result<Pfn, AllocError> {
        loop {
            let taken = self.take_frames(request.order)?;
            match self.finish(taken, request) {
                Ok(head) => return Ok(head),
                Err(bad) => self.refuse_bad_frame(taken.head, request.order, bad),
            }
        }
    }

    /// Makes frames that were taken a block in use. Errs with a frame in a wrong state.
    #[inline]
    pub(super) fn finish(&self, taken: Taken, request: Request) -> Result<Pfn, Pfn> {
        self.prepare(taken, request.order)?;
        if let Some(frame) = self.waiting_among(taken.head, request.order) {
            return Err(frame);
        }
        self.publish(taken.head, request.order, request);
        self.retire_waiting(taken.head, request.order);
        Ok(taken.head)
    }

    /// Whether a hook or a watermark is set.
    #[inline]
    pub(super) fn has_hooks(&self) -> bool {
        self.has_hooks
    }

    #[inline]
    fn prepare(&self, taken: Taken, order: Order) -> Result<(), Pfn> {
        if taken.needs_scrub {
            self.scrub(taken.head, order)?;
        }
        self.protocol.prepare(taken.head, order)
    }

    #[inline(never)]
    fn scrub(&self, head: Pfn, order: Order) -> Result<(), Pfn> {
        let areas = (0..order.frames()).step_by(Order::HUGE.frames() as usize);
        areas.map(|area| head.offset(area)).try_for_each(|area| self.protocol.scrub(area))
    }

    #[inline]
    fn publish(&self, head: Pfn, order: Order, request: Request) {
        if self.has_hooks {
            self.call_hooks(head, order, request.zero);
        }
        // "Keeping the refcounted at the very last with a comment is preferable": this is the
        // comment.
        self.protocol.publish(head, order, request.class);
        self.fence_if_in_steps();
    }

    /// SeqCst: what waits to leave service is looked at after a block was handed out. A protocol
    /// that does that in one step does it with one that is SeqCst.
    #[inline]
    fn fence_if_in_steps(&self) {
        if !P::HANDS_OUT_AT_ONCE {
            P::Word::fence(Ordering::SeqCst);
        }
    }

    /// After an uncoalesced block was handed out: in a protocol that has to do this in several
    /// steps it was between owners.
    #[inline]
    pub(super) fn handed_out_uncoalesced(&self, head: Pfn, order: Order) {
        if !P::HANDS_OUT_AT_ONCE {
            self.fence_if_in_steps();
            self.retire_waiting(head, order);
        }
    }

    /// The hook, and the watermark.
    #[inline(never)]
    fn call_hooks(&self, head: Pfn, order: Order, zero: bool) {
        // If a hook panics the block goes back.
        let back = Finally(|| self.give(head, order));
        if let Some(hooks) = self.config.hooks {
            hooks.before_publication(head, order, zero);
        }
        self.watch(order);
        core::mem::forget(back);
    }

    #[inline]
    pub(super) fn slot(&self) -> CpuCache<'m, P::Word> {
        // The number of CPU caches is a power of two.
        self.cache_at((self.config.cpu)() & (self.slots.len() - 1))
    }

    #[inline]
    fn cache_at(&self, index: usize) -> CpuCache<'m, P::Word> {
        CpuCache::new(&self.slots[index], index)
    }

    pub(super) fn all_caches(&self) -> impl Iterator<Item = CpuCache<'m, P::Word>> {
        (0..self.slots.len()).map(|index| self.cache_at(index))
    }

    /// The interface of kernels: numbers and tokens in place of handles, everything checked.
    pub fn raw(&self) -> Raw<'_, P> {
        Raw::new(self)
    }

    /// Frames in service when the zone was made.
    pub fn usable_frames(&self) -> u64 {
        self.usable
    }

    /// Free frames, uncoalesced ones included. A snapshot; adds up at most nine words per 2 MiB,
    /// and looks at 64 pages for each row of them that has uncoalesced ones.
    ///
    /// Progress: lock-free; looks once at each place that may have free frames.
    pub fn free_frames(&self) -> u64 {
        self.pool.free_frames() + self.uncoalesced_frames()
    }

    /// Frames in use: neither free nor set aside.
    pub fn used_frames(&self) -> u64 {
        self.usable.saturating_sub(self.free_frames()).saturating_sub(self.set_aside_frames())
    }

    /// Whole free 2 MiB pageblocks; uncoalesced pages may keep some from counting until
    /// [`Zone::drain`].
    ///
    /// Progress: lock-free; up to two loads for each 2 MiB.
    pub fn free_areas(&self) -> u64 {
        self.pool.free_areas() + self.uncoalesced_areas()
    }

    /// All frame numbers the zone knows, holes included.
    pub fn span(&self) -> FrameRange {
        self.pool.span()
    }

    /// Walks every frame and proves that each is in exactly one state, that counts and holds add
    /// up, and that the allocator and the protocol agree. Only at a quiet moment: with other
    /// threads inside, it reports what they are in the middle of. Gathers uncoalesced pages.
    pub fn audit(&self) -> Audit {
        audit(self)
    }

    pub(crate) fn protocol(&self) -> &P {
        &self.protocol
    }

    pub(crate) fn pool(&self) -> &Pool<'m, P::Word> {
        &self.pool
    }
}
