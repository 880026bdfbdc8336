//! A zone: frames, the protocol that counts them and the store that knows which are free.

use core::sync::atomic::Ordering;

use crate::GetError;
use crate::atomic::AtomicWord;
use crate::audit::{Audit, audit};
use crate::error::{AllocError, ZoneError};
use crate::frame::{FrameRange, Order, Pfn};
use crate::handle::{Block, PageRef, Raw};
use crate::one_word::{OneWord, Steps};
use crate::protocol::{Attach, Owner, PageState, Protocol};
use crate::report::{Cause, Misuse, Operation};

use super::config::{Request, ZoneConfig};
use super::layout::ZoneLayout;
use super::slot::{Put, SLOT_WORDS, SPARE, Slot};
use super::store::{Store, Taken};

/// Times a request may call the reclaim hook before it fails, though the hook says it freed something.
const RECLAIM_ROUNDS: usize = 16;

/// What became of a frame that was to go out of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SetAside {
    /// It was free and is out of service.
    Done,
    /// It is in use and leaves service when it is freed.
    WhenFreed,
    /// It is not in service: outside the zone, reserved, out of service already, or on its way between owners.
    NotInService,
}

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
        for (which, needed, given) in
            [("pages", layout.page_words::<P>(), pages.len()), ("areas", layout.area_words(), areas.len())]
        {
            if given < needed {
                return Err(ZoneError::TooFewWords { which, needed, given });
            }
        }
        let slots = areas[layout.slots_at()..][..layout.slots() * SLOT_WORDS].as_chunks().0;
        let mut zone = Self {
            protocol: P::attach(pages, layout.base()),
            store: Store::new(&layout, areas),
            slots,
            set_aside: &slots[0][SPARE],
            config,
            usable: 0,
        };
        zone.withhold(&layout);
        zone.usable = zone.free_frames();
        Ok(zone)
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
    /// Progress: lock-free; the per-CPU cache is entered by one try and passed by if somebody is inside, and
    /// in the store a step fails only because another thread's succeeded. The hooks are the caller's and may
    /// do as they like.
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
        // Pages and whole areas have a short straight line each; what is not at hand is asked of the store.
        match request.order {
            Order::PAGE => {
                if let Some(page) = self.slot().pop() {
                    return self.hand_out(Taken::untouched(self.store.frame(page)), Order::PAGE, request);
                }
            }
            Order::HUGE => {
                if let Some(taken) = self.obtain_area() {
                    return self.hand_out(taken, Order::HUGE, request);
                }
            }
            _ => {}
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
        let (_, free_areas) = self.store.free();
        Err(AllocError::Exhausted { order, free_frames: self.free_frames(), free_areas })
    }

    /// Moves every cached page back to the store.
    ///
    /// Progress: lock-free; a cache is taken by one step, nobody is ever inside of it.
    pub fn drain(&self) {
        for pocket in self.all_slots().flat_map(|slot| slot.drain()) {
            self.give_pages(pocket.first(), pocket.pages());
        }
    }

    #[inline(never)]
    fn give(&self, head: Pfn, order: Order) {
        self.given(order.frames(), self.store.give(head, order));
    }

    /// Gives back pages from number `first` on, as bits; not beyond a multiple of 32.
    #[inline(never)]
    fn give_pages(&self, first: u64, pages: u32) {
        self.given(u64::from(pages.count_ones()), self.store.give_pages(first, pages));
    }

    /// Notes what the store was given, or that it has it already.
    #[inline]
    fn given(&self, frames: u64, given: Result<(), Pfn>) {
        if self.config.low_watermark != 0 {
            self.slot().note_taken(-(frames as i64));
        }
        if let Err(frame) = given {
            self.refuse_free_frame(frame);
        }
    }

    /// A frame that was to be given to the store is there already. Only reported, not searched for in the caches:
    /// this may be what empties them.
    #[cold]
    fn refuse_free_frame(&self, frame: Pfn) {
        let state = self.protocol.state(frame);
        self.tell(&Misuse { frame, state, operation: Operation::Free, cause: Cause::AlreadyFree });
        self.retire_free(frame);
    }

    fn tell(&self, misuse: &Misuse) {
        if let Some(sink) = self.config.sink {
            sink.misuse(misuse);
        }
    }

    /// Takes a frame out of service that is free in the store; false if it is not.
    fn retire_free(&self, frame: Pfn) -> bool {
        let taken = self.store.take_frame(frame);
        if taken {
            self.protocol.retire(frame);
            self.count_set_aside(1);
        }
        taken
    }

    /// A frame that came from the store is not in a state to be handed out: it leaves service, the rest of the
    /// block goes back.
    #[cold]
    fn refuse_bad_frame(&self, head: Pfn, order: Order, bad: Pfn) {
        let state = self.protocol.state(bad);
        self.protocol.retire(bad);
        self.count_set_aside(1);
        self.tell(&Misuse { frame: bad, state, operation: Operation::Allocate, cause: Cause::BadState });
        for frame in FrameRange::block(head, order).iter().filter(|frame| *frame != bad) {
            self.give(frame, Order::PAGE);
        }
    }

    fn count_set_aside(&self, frames: u64) {
        // Relaxed: a statistic.
        self.set_aside.fetch_add(frames, Ordering::Relaxed);
    }

    /// Reports a misuse and sets the frame aside; a frame outside the zone is only reported.
    pub(crate) fn report(&self, frame: Pfn, operation: Operation, cause: Cause) -> Misuse {
        let state = self.state(frame).unwrap_or(PageState::NOT_IN_ZONE);
        let misuse = Misuse { frame, state, operation, cause };
        self.misuse(misuse);
        misuse
    }

    /// Pins the page with this number if it is in use (`get_page_unless_zero`). If you found the number in some
    /// structure, look there again afterwards: the page may have been freed and handed out anew before the pin.
    ///
    /// Progress: lock-free; it looks again only where a word changed in between, that is, where another
    /// operation got on.
    ///
    /// # Errors
    /// [`GetError::NotInUse`] if the frame is free, out of service or outside the zone, or its block was being
    /// merged during the call; [`GetError::CountLimit`].
    #[inline]
    pub fn try_pin(&self, page: Pfn) -> Result<PageRef<'_, P>, GetError> {
        if !self.store.span().contains(page) {
            return Err(GetError::NotInUse);
        }
        let held = self.protocol.try_get_at(page, self)?;
        Ok(PageRef::adopt(self, held))
    }

    /// Head and order of the live block `frame` is in. A hint unless you hold a pin or reference.
    ///
    /// Progress: wait-free; at most thirteen loads.
    pub fn head_of(&self, frame: Pfn) -> Option<(Pfn, Order)> {
        if self.store.span().contains(frame) { self.protocol.head_of(frame) } else { None }
    }

    /// The state of a frame, for people; `None` outside the zone. A hint unless you hold a pin or reference.
    ///
    /// Progress: wait-free; one load.
    pub fn state(&self, frame: Pfn) -> Option<PageState> {
        self.store.span().contains(frame).then(|| self.protocol.state(frame))
    }

    /// Takes a frame out of service for good (memory failure): at once if it is free, else when it is freed.
    ///
    /// Progress: lock-free; as [`Zone::try_pin`] and [`Zone::drain`].
    pub fn set_aside(&self, frame: Pfn) -> SetAside {
        if !self.store.span().contains(frame) {
            return SetAside::NotInService;
        }
        if self.protocol.poison(frame, self) {
            return SetAside::WhenFreed;
        }
        // It may be in a cache, so empty those.
        for _ in 0..2 {
            if self.retire_free(frame) {
                return SetAside::Done;
            }
            self.drain();
        }
        SetAside::NotInService
    }

    /// The interface of kernels: numbers and tokens in place of handles, everything checked.
    pub fn raw(&self) -> Raw<'_, P> {
        Raw::new(self)
    }

    /// Frames in service when the zone was made.
    pub fn usable_frames(&self) -> u64 {
        self.usable
    }

    /// Free frames, those in caches included. A snapshot; adds up nine words per 2 MiB.
    ///
    /// Progress: wait-free; nine loads for each 2 MiB and one for each cache.
    pub fn free_frames(&self) -> u64 {
        self.store.free().0 + self.all_slots().map(|slot| slot.cached()).sum::<u64>()
    }

    /// Frames in use: neither free nor set aside.
    pub fn used_frames(&self) -> u64 {
        self.usable.saturating_sub(self.free_frames()).saturating_sub(self.set_aside_frames())
    }

    /// Whole free 2 MiB areas; pages in caches may keep some from counting until [`Zone::drain`].
    ///
    /// Progress: wait-free; one load for each 2 MiB.
    pub fn free_areas(&self) -> u64 {
        self.store.free().1
    }

    /// Frames that have gone out of service.
    pub fn set_aside_frames(&self) -> u64 {
        self.set_aside.load(Ordering::Relaxed)
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

impl<'w, W: AtomicWord, S: Steps> Zone<'_, OneWord<'w, W, S>> {
    /// One more reference to the block of exactly `order` at `head`, found by its number alone: [`Zone::try_pin`] for whole
    /// blocks. If you found the number in some structure, look there again afterwards.
    ///
    /// # Errors
    /// [`GetError::NotInUse`] if no such block is in use there, nobody has a reference to it as a whole, or it is being
    /// split or merged; [`GetError::CountLimit`].
    ///
    /// ```
    /// # use tailpin::*;
    /// # let ranges = [FrameRange::new(Pfn::new(0), 1024)];
    /// # let layout = ZoneLayout::new(&ranges, 1).unwrap();
    /// # let memory = ZoneMemory::for_layout(&layout);
    /// # let zone: Zone = memory.zone(layout, ZoneConfig::default()).unwrap();
    /// let block = zone.alloc(Order::HUGE)?;
    /// let second = zone.try_block(block.pfn(), Order::HUGE)?;
    /// assert!(zone.try_block(block.pfn(), Order::PAGE).is_err()); // it is larger than that
    /// drop(block);
    /// assert_eq!(zone.used_frames(), 512);
    /// let pin = second.pin(3)?;
    /// drop(second);
    /// assert!(zone.try_block(pin.pfn(), Order::PAGE).is_err()); // pinned, but nobody's block
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_block(&self, head: Pfn, order: Order) -> Result<Block<'_, OneWord<'w, W, S>>, GetError> {
        let span = self.store.span();
        let frames = FrameRange::block(head, order);
        if frames.start < span.start || span.end < frames.end {
            return Err(GetError::NotInUse);
        }
        self.protocol.get_block_found(head, order)?;
        Ok(Block::adopt(self, head, order))
    }
}

impl<P: Protocol> Owner for Zone<'_, P> {
    #[inline]
    fn freed_block(&self, head: Pfn, order: Order) {
        if let Some(hooks) = self.config.hooks {
            hooks.after_last_reference(head, order);
        }
        match order {
            Order::PAGE => {
                let number = self.store.number(head);
                match self.slot().put(number) {
                    Put::Kept => {}
                    Put::Refused => self.give_pages(number, 1),
                    Put::Displaced(others) => self.give_pages(others.first(), others.pages()),
                    Put::AlreadyFree => self.refuse_free_frame(head),
                }
            }
            Order::HUGE => {
                let area = self.store.area_of(head);
                self.slot().set_last_area(area);
                self.given(Order::HUGE.frames(), self.store.give_whole(area));
            }
            _ => self.give(head, order),
        }
    }

    fn freed_frames(&self, area: Pfn, frames: &[u64; 8]) {
        if let Some(hooks) = self.config.hooks {
            let freed = |i: &u64| frames[(i / 64) as usize] >> (i % 64) & 1 != 0;
            for index in (0..Order::HUGE.frames()).filter(freed) {
                hooks.after_last_reference(area.offset(index), Order::PAGE);
            }
        }
        let n: u32 = frames.iter().map(|word| word.count_ones()).sum();
        self.given(u64::from(n), self.store.give_area(area, frames));
    }

    fn retired(&self, _frame: Pfn) {
        self.count_set_aside(1);
    }

    #[cold]
    fn misuse(&self, misuse: Misuse) {
        self.tell(&misuse);
        self.set_aside(misuse.frame);
    }
}
