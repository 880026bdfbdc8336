//! A zone: frames, the protocol that counts them and the store that knows which are free.

mod find;
mod give;
mod set_aside;

pub use set_aside::SetAside;

use crate::audit::{Audit, audit};
use crate::error::{AllocError, ZoneError};
use crate::frame::{FrameRange, Order, Pfn};
use crate::handle::{Block, Raw};
use crate::one_word::OneWord;
use crate::protocol::{Attach, Protocol};

use super::config::{Request, ZoneConfig};
use super::layout::ZoneLayout;
use super::slot::{SLOT_WORDS, SPARE, Slot};
use super::store::{Store, Taken};

/// Times a request may call the reclaim hook before it fails, though the hook says it freed something.
const RECLAIM_ROUNDS: usize = 16;

/// Frames of one or more memory ranges, with everything that hands them out, counts them and takes them back.
///
/// Shared by reference between threads and CPUs. The metadata memory is the caller's; its size is asked first.
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
/// No operation takes a lock, and a thread that is stopped anywhere keeps nobody. Pin and unpin by a holder are
/// wait-free up to the last pin of a tail, which may have to give back a hold or free a page; everything else is
/// lock-free: a loop goes round only because another thread's operation changed the word in between. Each operation says
/// which it is.
pub struct Zone<'m, P: Protocol = OneWord<'m>> {
    protocol: P,
    store: Store<'m, P::Word>,
    slots: &'m [[P::Word; SLOT_WORDS]],
    set_aside: &'m P::Word,
    config: ZoneConfig<'m>,
    usable: u64,
}

impl<'m, P: Attach<'m>> Zone<'m, P> {
    /// A zone over zero-filled metadata: `pages` of [`ZoneLayout::page_words`] and `areas` of
    /// [`ZoneLayout::area_words`]; align the latter to 64 bytes if you can. Only the words of areas that are not
    /// wholly in service are written, so a zone of 1 TiB starts at once.
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
        zone.store.begin();
        zone.withhold(&layout);
        Ok(zone)
    }

    /// The zone that [`Zone::new`] made of these words, once more: all its state is in them, so another process that has
    /// them mapped can use it too. Nothing is written. The layout must be the same.
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
        let slots = areas[layout.slots_at()..][..layout.slots() * SLOT_WORDS].as_chunks().0;
        Ok(Self {
            protocol: P::attach(pages, layout.base()),
            store: Store::new(&layout, areas),
            slots,
            set_aside: &slots[0][SPARE],
            config,
            usable: layout.usable_frames(),
        })
    }

    fn withhold(&self, layout: &ZoneLayout<'_>) {
        for area in 0..self.store.areas() {
            let first = self.store.first_frame(area);
            match layout.area_in_service(first) {
                Some(true) => {}
                Some(false) => self.store.withhold_area(area),
                None => {
                    for frame in FrameRange::block(first, Order::HUGE).iter() {
                        if !layout.in_service(frame) {
                            self.store.take_frame(frame);
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
    /// Progress: lock-free; a page at hand or a step in the store is had by a compare-and-swap that fails only because
    /// another thread's succeeded. The hooks are the caller's and may do as they like.
    ///
    /// # Errors
    /// [`AllocError::Exhausted`] if there is none, also after the caches were drained and the reclaim hook asked.
    #[inline]
    pub fn alloc(&self, order: Order) -> Result<Block<'_, P>, AllocError> {
        self.alloc_with(Request::new(order))
    }

    /// As [`Zone::alloc`], with all options.
    ///
    /// Progress: lock-free; as [`Zone::alloc`].
    ///
    /// # Errors
    /// As [`Zone::alloc`].
    #[inline]
    pub fn alloc_with(&self, request: Request) -> Result<Block<'_, P>, AllocError> {
        // Pages at hand have a short straight line, compiled into the caller.
        if request.order == Order::PAGE
            && let Some(page) = self.slot().pop_top()
        {
            return self.hand_out(Taken::untouched(self.store.frame(page)), Order::PAGE, request);
        }
        self.alloc_elsewhere(request)
    }

    #[inline(never)]
    fn alloc_elsewhere(&self, request: Request) -> Result<Block<'_, P>, AllocError> {
        if request.order == Order::HUGE
            && let Some(taken) = self.obtain_area()
        {
            return self.hand_out(taken, Order::HUGE, request);
        }
        self.alloc_from_store(request)
    }

    #[inline(never)]
    fn alloc_from_store(&self, request: Request) -> Result<Block<'_, P>, AllocError> {
        let taken = self.obtain(request.order)?;
        self.hand_out(taken, request.order, request)
    }

    /// Checks and publishes a block, or another one in its place.
    #[inline(always)]
    fn hand_out(&self, taken: Taken, order: Order, request: Request) -> Result<Block<'_, P>, AllocError> {
        match self.prepare(taken, order) {
            Ok(()) => Ok(self.publish(taken.head, order, request)),
            Err(bad) => self.hand_out_another(taken, request, bad),
        }
    }

    #[cold]
    fn hand_out_another(&self, taken: Taken, request: Request, bad: Pfn) -> Result<Block<'_, P>, AllocError> {
        let (mut taken, mut bad) = (taken, bad);
        loop {
            self.refuse_bad_frame(taken.head, request.order, bad);
            taken = self.obtain(request.order)?;
            match self.prepare(taken, request.order) {
                Ok(()) => return Ok(self.publish(taken.head, request.order, request)),
                Err(frame) => bad = frame,
            }
        }
    }

    #[inline(always)]
    fn prepare(&self, taken: Taken, order: Order) -> Result<(), Pfn> {
        if taken.touched {
            self.scrub(taken.head, order)?;
        }
        self.protocol.prepare(taken.head, order)
    }

    #[inline(never)]
    fn scrub(&self, head: Pfn, order: Order) -> Result<(), Pfn> {
        let areas = (0..order.frames()).step_by(Order::HUGE.frames() as usize);
        areas.map(|area| head.offset(area)).try_for_each(|area| self.protocol.scrub(area))
    }

    #[inline(always)]
    fn publish(&self, head: Pfn, order: Order, request: Request) -> Block<'_, P> {
        if let Some(hooks) = self.config.hooks {
            hooks.before_publication(head, order, request.zero);
        }
        // "Keeping the refcounted at the very last with a comment is preferable": this is the comment.
        self.protocol.publish(head, order, request.class);
        Block::adopt(self, head, order)
    }

    #[inline]
    fn slot(&self) -> Slot<'m, P::Word> {
        // The number of slots is a power of two.
        self.slot_at((self.config.cpu)() & (self.slots.len() - 1))
    }

    #[inline]
    fn slot_at(&self, index: usize) -> Slot<'m, P::Word> {
        Slot::new(&self.slots[index], index)
    }

    fn all_slots(&self) -> impl Iterator<Item = Slot<'m, P::Word>> {
        (0..self.slots.len()).map(|index| self.slot_at(index))
    }

    /// A block of `order` from wherever there is one.
    fn obtain(&self, order: Order) -> Result<Taken, AllocError> {
        self.try_obtain(order).map_or_else(|| self.obtain_hard(order), Ok)
    }

    fn try_obtain(&self, order: Order) -> Option<Taken> {
        match order {
            Order::PAGE => {
                let slot = self.slot();
                let page = slot.pop().or_else(|| self.refill(&slot))?;
                return Some(Taken::untouched(self.store.frame(page)));
            }
            Order::HUGE => return self.obtain_area(),
            _ => {}
        }
        let taken = self.store.take(order)?;
        self.took(order, order.frames());
        Some(taken)
    }

    /// A whole area, if possible the one this CPU freed last.
    #[inline]
    fn obtain_area(&self) -> Option<Taken> {
        let slot = self.slot();
        let last = slot.last_area().and_then(|area| self.store.take_this_area(area));
        let taken = match last {
            Some(taken) => taken,
            None => self.store.take_area(slot.first_area(self.store.areas()))?,
        };
        self.took(Order::HUGE, Order::HUGE.frames());
        Some(taken)
    }

    /// A page from the store, and its neighbours into the pockets.
    #[inline(never)]
    fn refill(&self, slot: &Slot<'m, P::Word>) -> Option<u64> {
        let (first, pages) = self.store.take_pages()?;
        let rest = pages & (pages - 1);
        for half in [0, 32] {
            let some = (rest >> half) as u32;
            if some != 0 && !slot.fill(first + half, some) {
                self.give_pages(first + half, some);
            }
        }
        self.took(Order::PAGE, u64::from(pages.count_ones()));
        Some(first + u64::from(pages.trailing_zeros()))
    }

    /// Notes what the store gave, and has memory reclaimed when little is left.
    #[inline]
    fn took(&self, order: Order, frames: u64) {
        if self.config.low_watermark != 0 {
            self.watch(order, frames);
        }
    }

    #[inline(never)]
    fn watch(&self, order: Order, frames: u64) {
        self.slot().note_taken(frames as i64);
        if let Some(hooks) = self.config.hooks {
            let taken: i64 = self.all_slots().map(|slot| slot.taken()).sum();
            let free = self.usable.saturating_sub(taken.max(0) as u64);
            if free < self.config.low_watermark {
                hooks.reclaim(order, free);
            }
        }
    }

    /// Drains the caches and asks the reclaim hook before it gives up.
    #[cold]
    fn obtain_hard(&self, order: Order) -> Result<Taken, AllocError> {
        for _ in 0..RECLAIM_ROUNDS {
            self.drain();
            if let Some(taken) = self.try_obtain(order) {
                return Ok(taken);
            }
            if !self.config.hooks.is_some_and(|hooks| hooks.reclaim(order, self.free_frames())) {
                break;
            }
        }
        Err(AllocError::Exhausted { order, free_frames: self.free_frames(), free_areas: self.free_areas() })
    }

    /// The interface of kernels: numbers and tokens in place of handles, everything checked.
    pub fn raw(&self) -> Raw<'_, P> {
        Raw::new(self)
    }

    /// Frames in service when the zone was made.
    pub fn usable_frames(&self) -> u64 {
        self.usable
    }

    /// Free frames, those in caches included. A snapshot; adds up at most nine words per 2 MiB.
    ///
    /// Progress: wait-free; up to nine loads for each 2 MiB, and one for each pocket of a cache.
    pub fn free_frames(&self) -> u64 {
        self.store.free_frames() + self.all_slots().map(|slot| slot.cached()).sum::<u64>()
    }

    /// Frames in use: neither free nor set aside.
    pub fn used_frames(&self) -> u64 {
        self.usable.saturating_sub(self.free_frames()).saturating_sub(self.set_aside_frames())
    }

    /// Whole free 2 MiB areas; pages in caches may keep some from counting until [`Zone::drain`].
    ///
    /// Progress: wait-free; one load for each 2 MiB.
    pub fn free_areas(&self) -> u64 {
        self.store.free_areas()
    }

    /// All frame numbers the zone knows, holes included.
    pub fn span(&self) -> FrameRange {
        self.store.span()
    }

    /// Walks every frame and proves that each is in exactly one state, that counts and holds add up, and that the
    /// allocator and the protocol agree. Only at a quiet moment: with other threads inside, it reports what they
    /// are in the middle of. Empties the caches.
    pub fn audit(&self) -> Audit {
        audit(self)
    }

    pub(crate) fn protocol(&self) -> &P {
        &self.protocol
    }

    pub(crate) fn store(&self) -> &Store<'m, P::Word> {
        &self.store
    }
}
