//! The allocator: frames in, frames out. It knows what is free, and of a frame in use only what
//! the [protocol](crate::protocol) tells.
//!
//! A page or pageblock that was freed lately is claimed and published in one step here; where the
//! frames of all other requests come from is told in [`take_frames`](super::take_frames), the way
//! back in [`free_sink`](super::free_sink).

use core::sync::atomic::Ordering;

use crate::atomic::AtomicWord;
use crate::error::{AllocError, ZoneError};
use crate::finally::Finally;
use crate::frame::{FrameRange, Order, Pfn};
use crate::page_state::Class;
use crate::protocol::{Attach, Protocol};

use super::config::{Request, ZoneConfig};
use super::cpu_cache::{ADDED, ANY_PARKED, CPU_CACHE_WORDS, CpuCache, Places, SPARE};
use super::layout::{FRAMES_END, ZoneLayout};
use super::pool::{Pool, Taken};
use super::uncoalesced_hints::Uncoalesced;

/// All free frames of a zone, and the words that count those in use.
pub(crate) struct Allocator<'m, P: Protocol> {
    pub(super) protocol: P,
    pub(super) pool: Pool<'m, P::Word>,
    pub(crate) uncoalesced: Uncoalesced<'m, P::Word>,
    cpu_caches: &'m [[P::Word; CPU_CACHE_WORDS]],
    pub(super) set_aside: &'m P::Word,
    /// Frames that entered service after the zone was made.
    pub(super) added: &'m P::Word,
    /// Whether any block may be parked.
    pub(super) any_parked: &'m P::Word,
    pub(super) config: ZoneConfig<'m>,
    /// A hook or a watermark is set, so that neither handing out nor freeing can be one step.
    pub(super) has_hooks: bool,
    pub(super) usable: u64,
}

impl<'m, P: Attach<'m>> Allocator<'m, P> {
    /// Over words that an earlier one has begun to use, or that [`begin`](Self::begin) gets next.
    #[expect(clippy::arithmetic_side_effects, reason = "the layout has seen that all words fit into memory")]
    pub(crate) fn over(
        layout: &ZoneLayout<'_>,
        config: ZoneConfig<'m>,
        pages: &'m [P::Word],
        allocator: &'m [P::Word],
    ) -> Result<Self, ZoneError> {
        for (which, needed, given) in [
            ("pages", layout.page_words::<P>(), pages.len()),
            ("allocator", layout.allocator_words(), allocator.len()),
        ] {
            if given < needed {
                return Err(ZoneError::TooFewWords { which, needed, given });
            }
        }
        let cpu_caches =
            allocator[layout.cpu_caches_at()..][..layout.cpu_caches() * CPU_CACHE_WORDS].as_chunks().0;
        Ok(Self {
            // No more than the span, so that what has a word is in the zone.
            protocol: P::attach(&pages[..layout.page_words::<P>()], layout.base()),
            pool: Pool::new(layout, allocator),
            uncoalesced: Uncoalesced::new(layout, allocator),
            cpu_caches,
            set_aside: &cpu_caches[0][SPARE],
            added: &cpu_caches[0][ADDED],
            any_parked: &cpu_caches[0][ANY_PARKED],
            config,
            has_hooks: config.hooks.is_some() || config.low_watermark != 0,
            usable: layout.usable_frames(),
        })
    }

    /// Completes zero-filled words: what is not in service can't be handed out.
    pub(crate) fn begin(&self, layout: &ZoneLayout<'_>) {
        self.pool.begin();
        for pageblock in self.pool.pageblocks() {
            let first = self.pool.first_frame(pageblock);
            match layout.pageblock_in_service(first) {
                Some(true) => {}
                Some(false) => self.pool.withhold(pageblock),
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

impl<'m, P: Protocol> Allocator<'m, P> {
    /// The head of a block of at most 2 MiB that was freed lately and is in use now, with one
    /// reference, which is the caller's: for a page a short straight line, compiled into the
    /// caller.
    #[inline(always)]
    pub(crate) fn alloc_fast(
        &self,
        request: Request,
        cache: CpuCache<'m, P::Word>,
        places: Places,
    ) -> Option<Pfn> {
        match request.order {
            _ if self.has_hooks || request.below < FRAMES_END => None,
            Order::PAGE => self.next_page(cache, request.class),
            Order::HUGE => self.next_pageblock(cache, request.class),
            order if order < Order::HUGE => match places {
                Places::Shared => self.claim_parked(cache, order, request.class),
                Places::Own => self.claim_own(cache, order, request.class),
            },
            _ => None,
        }
    }

    /// The page that the CPU cache remembers first, if it is uncoalesced.
    #[inline(always)]
    fn next_page(&self, cache: CpuCache<'m, P::Word>, class: Class) -> Option<Pfn> {
        let number = cache.next_page()?;
        let page = self.pool.frame(number);
        let claimed = self.hand_out_uncoalesced(page, Order::PAGE, class);
        claimed.then(|| {
            cache.pop();
            page
        })
    }

    /// The pageblock that the CPU cache is to try next, if it is uncoalesced.
    #[inline]
    fn next_pageblock(&self, cache: CpuCache<'m, P::Word>, class: Class) -> Option<Pfn> {
        let pageblock = cache.next_pageblock();
        let head = self.pool.first_frame(pageblock);
        let claimed = self.hand_out_uncoalesced(head, Order::HUGE, class);
        claimed.then(|| {
            cache.set_next_pageblock(self.pool.pageblock_after(pageblock));
            head
        })
    }

    /// The head of a block from wherever there is one, in use now with one reference, which is the
    /// caller's.
    #[inline(never)]
    pub(crate) fn alloc_slow(
        &self,
        request: Request,
        cache: CpuCache<'m, P::Word>,
    ) -> Result<Pfn, AllocError> {
        loop {
            let taken = if request.below < self.pool.span().end {
                self.take_below(request)?
            } else {
                self.take_frames(request.order, &cache)?
            };
            match self.finish(taken, request) {
                Ok(head) => return Ok(head),
                Err(bad) => self.refuse_bad_frame(taken.head, request.order, bad),
            }
        }
    }

    /// Makes frames that were taken a block in use. Errs with a frame in a wrong state.
    #[inline]
    pub(crate) fn finish(&self, taken: Taken, request: Request) -> Result<Pfn, Pfn> {
        self.prepare(taken, request.order)?;
        if let Some(frame) = self.waiting_among(taken.head, request.order) {
            return Err(frame);
        }
        self.publish(taken.head, request.order, request);
        self.mark_waiting(taken.head, request.order);
        Ok(taken.head)
    }

    /// Whether a hook or a watermark is set.
    #[inline]
    pub(crate) fn has_hooks(&self) -> bool {
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
        let firsts = (0..order.frames()).step_by(Order::HUGE.frames() as usize);
        firsts.map(|first| head.offset(first)).try_for_each(|first| self.protocol.scrub(first))
    }

    #[inline]
    pub(super) fn publish(&self, head: Pfn, order: Order, request: Request) {
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

    /// Makes an uncoalesced page or pageblock a block in use; false if it is not uncoalesced.
    #[inline(always)] // For a page a short straight line.
    pub(crate) fn hand_out_uncoalesced(&self, head: Pfn, order: Order, class: Class) -> bool {
        if P::HANDS_OUT_AT_ONCE {
            self.protocol.claim_and_publish(head, order, class)
        } else {
            self.protocol.claim(head, order) && self.hand_out_in_steps(head, order, class)
        }
    }

    /// Hands out a block that was claimed, in a protocol that does both in several steps: it is
    /// between owners then. So it is looked at before, as it may have become uncoalesced after a
    /// request to set it aside, and afterwards, as that may have come in between. False if it
    /// leaves service.
    fn hand_out_in_steps(&self, head: Pfn, order: Order, class: Class) -> bool {
        if let Some(bad) = self.waiting_among(head, order) {
            self.refuse_bad_frame(head, order, bad);
            return false;
        }
        self.protocol.publish(head, order, class);
        self.fence_if_in_steps();
        self.mark_waiting(head, order);
        true
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

    /// What the CPU that is asking remembers.
    #[inline]
    pub(crate) fn cpu_cache(&self) -> CpuCache<'m, P::Word> {
        self.cache_of((self.config.cpu)())
    }

    /// What this CPU remembers.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "there is one CPU cache or more")]
    pub(crate) fn cache_of(&self, cpu: usize) -> CpuCache<'m, P::Word> {
        // The number of CPU caches is a power of two.
        self.cache_at(cpu & (self.cpu_caches.len() - 1))
    }

    #[inline]
    pub(super) fn cache_at(&self, index: usize) -> CpuCache<'m, P::Word> {
        CpuCache::new(&self.cpu_caches[index], index)
    }

    pub(super) fn all_caches(&self) -> impl Iterator<Item = CpuCache<'m, P::Word>> {
        (0..self.cpu_caches.len()).map(|index| self.cache_at(index))
    }

    /// Frames that have ever been in service.
    #[expect(clippy::arithmetic_side_effects, reason = "no more than the zone has frames")]
    pub(crate) fn usable_frames(&self) -> u64 {
        // Relaxed: a statistic.
        self.usable + self.added.load(Ordering::Relaxed)
    }

    /// Free frames, uncoalesced ones included, by a look from outside.
    #[expect(clippy::arithmetic_side_effects, reason = "no more than the zone has frames")]
    pub(crate) fn free_frames(&self) -> u64 {
        self.pool.free_frames() + self.uncoalesced_frames() + self.parked_frames()
    }

    /// Wholly free pageblocks, uncoalesced ones included, by a look from outside.
    #[expect(clippy::arithmetic_side_effects, reason = "no more than the zone has frames")]
    pub(crate) fn free_pageblocks(&self) -> u64 {
        self.pool.free_pageblocks() + self.uncoalesced_pageblocks()
    }

    #[inline]
    pub(crate) fn protocol(&self) -> &P {
        &self.protocol
    }

    #[inline]
    pub(crate) fn pool(&self) -> &Pool<'m, P::Word> {
        &self.pool
    }
}
