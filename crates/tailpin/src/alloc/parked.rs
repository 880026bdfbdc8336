//! Parked blocks: the way of a block of order 1 to 8 that was freed to the next request for one.
//!
//! Such a block becomes uncoalesced in the step that takes its last reference, as pages and
//! pageblocks do, and the step that claims it publishes it again. It is found by its name at a
//! parking place of the CPU cache and by nothing else: no hint leads to it, so CPUs that free and
//! take blocks meet in no line. A request that misses a larger block takes the parked ones of all
//! CPUs to the pool, as does a [drain](Allocator::drain).
//!
//! No parked block is forgotten. The thread that frees it names it first, makes it uncoalesced
//! then, and looks afterwards whether it is still named; a thread that finds a name of a block
//! which is not uncoalesced takes the name away, and looks afterwards whether the block has become
//! so. All of it is SeqCst, so one of the two sees the other, and brings the block to the pool.
//! Of a CPU cache that one thread owns it has [places of its own](super::own_places), where naming
//! a block costs no locked instruction.

use core::sync::atomic::Ordering;

use crate::atomic::AtomicWord;
use crate::frame::{Order, Pfn};
use crate::page_state::Class;
use crate::protocol::{ParkingPlace, Protocol};

use super::allocator::Allocator;
use super::cpu_cache::{CpuCache, Places};

/// The smallest order of blocks that can be parked.
pub(super) const SMALLEST_PARKED: Order = Order::wrap(1);

/// The order of as many frames as have their words in one cache line.
pub(super) const LINE: Order = Order::wrap(3);

/// Blocks of an order whose first words are in one cache line.
fn blocks_of_line(order: Order) -> usize {
    1 << LINE.get().saturating_sub(order.get())
}

/// The orders of blocks that can be parked.
pub(super) fn parked_orders() -> impl Iterator<Item = Order> {
    (SMALLEST_PARKED.get()..Order::HUGE.get()).map(Order::wrap)
}

impl<'m, P: Protocol> Allocator<'m, P> {
    /// A block of `order`, 1 to 8, that the CPU cache names, in use from here on.
    #[inline(never)]
    pub(super) fn claim_parked(
        &self,
        cache: CpuCache<'m, P::Word>,
        order: Order,
        class: Class,
    ) -> Option<Pfn> {
        // Each turn goes one place down.
        while let Some((number, place)) = cache.next_parked(order) {
            let head = self.pool.frame(number);
            if self.protocol.claim_and_publish(head, order, class) {
                cache.unpark(place, number);
                return Some(head);
            }
            self.unpark_stale(&cache, order, place, number);
        }
        None
    }

    /// A place at which a block that is about to be freed is named; `None` if it had better go to
    /// the pool.
    #[inline(always)] // Whose places they are is known to the caller.
    pub(crate) fn park_block(
        &self,
        cache: CpuCache<'m, P::Word>,
        head: Pfn,
        order: Order,
        places: Places,
    ) -> Option<ParkingPlace> {
        if self.has_hooks() {
            return None;
        }
        // The pool tells of a frame that it has already.
        if self.pool.has_any_of(head, order) {
            return None;
        }
        let parked = match places {
            Places::Shared => cache.parked(order),
            Places::Own => cache.own_parked(order),
        };
        // A sparse pageblock is left alone, so that it becomes whole, but for one block of each
        // order, or a line's worth. Mostly there is none, which is seen at once.
        let has_enough = parked != 0 && parked >= blocks_of_line(order);
        if has_enough && self.pool.is_sparse(self.pool.pageblock_of(head)) {
            return None;
        }
        let number = self.pool.number(head);
        match places {
            Places::Shared => cache.park(order, number),
            Places::Own => cache.park_own(order, number),
        }
    }

    /// A block that is named at `place` became uncoalesced, or did not.
    #[inline(always)]
    pub(crate) fn parked_block(&self, head: Pfn, order: Order, place: ParkingPlace, freed: bool) {
        let cache = self.cache_at(place.cache as usize);
        let number = self.pool.number(head);
        if !freed {
            cache.unpark(place, number);
            return;
        }
        self.note_any_parked();
        if cache.parked_at(place) != Some(number) {
            self.coalesce_block(head, order);
        }
    }

    /// Parks a free block of the caller's, or gives it to the pool if it had better go there.
    pub(super) fn park_free(&self, cache: &CpuCache<'m, P::Word>, head: Pfn, order: Order) {
        if let Err(bad) = self.protocol.prepare(head, order) {
            return self.refuse_bad_frame(head, order, bad);
        }
        let waits = self.waiting_among(head, order).is_some();
        let place = if waits { None } else { cache.park(order, self.pool.number(head)) };
        let Some(place) = place else { return self.give(head, order) };
        // Cannot fail: the frames are the caller's and have been looked at.
        let parked = self.protocol.leave_uncoalesced(head, order).is_ok();
        // SeqCst: the name is looked at after the block is uncoalesced, as where it became so in
        // the step that freed it; and so is what waits to leave service.
        P::Word::fence(Ordering::SeqCst);
        self.parked_block(head, order, place, parked);
        self.retire_waiting(head, order);
    }

    /// Says that there may be parked blocks.
    #[inline(always)]
    pub(super) fn note_any_parked(&self) {
        // SeqCst: after the block is named, as `coalesce_parked` looks for names after it has
        // written here.
        if self.any_parked.load(Ordering::SeqCst) == 0 {
            self.any_parked.store(1, Ordering::SeqCst);
        }
    }

    /// A block that is named is not uncoalesced: it is named no longer, unless it became so by now.
    /// Whether it did, and is in the pool.
    #[cold]
    fn unpark_stale(
        &self,
        cache: &CpuCache<'m, P::Word>,
        order: Order,
        place: ParkingPlace,
        number: u64,
    ) -> bool {
        cache.unpark(place, number) && self.coalesce_block(self.pool.frame(number), order)
    }

    /// Brings a block to the pool if it is uncoalesced; false if it is not.
    pub(super) fn coalesce_block(&self, head: Pfn, order: Order) -> bool {
        let claimed = self.protocol.claim(head, order);
        if claimed {
            self.give(head, order);
        }
        claimed
    }

    /// Brings the blocks that all CPUs have parked, of order `lowest` and above, to the pool, if
    /// there may be any; false if there was none. Looks where they are likely to be named.
    pub(super) fn coalesce_parked(&self, lowest: Order) -> bool {
        // SeqCst: as in `parked_block`.
        if self.any_parked.load(Ordering::SeqCst) == 0 {
            return false;
        }
        // Else there may be some of lower orders.
        if lowest == SMALLEST_PARKED {
            self.any_parked.store(0, Ordering::SeqCst);
        }
        self.coalesce_named(lowest, |cache, order| cache.likely_parked(order))
    }

    /// Brings all parked blocks to the pool, whether or not there seem to be any.
    pub(super) fn coalesce_all_parked(&self) {
        self.coalesce_named(SMALLEST_PARKED, |cache, order| cache.all_parked(order));
    }

    fn coalesce_named<I: Iterator<Item = (u64, ParkingPlace)>>(
        &self,
        lowest: Order,
        named: impl Fn(CpuCache<'m, P::Word>, Order) -> I,
    ) -> bool {
        let mut any = false;
        for cache in self.all_caches() {
            for order in parked_orders().filter(|order| *order >= lowest) {
                for (number, place) in named(cache, order) {
                    let head = self.pool.frame(number);
                    if self.protocol.claim(head, order) {
                        // Until it is in the pool no thread names it anew.
                        cache.unpark(place, number);
                        self.give(head, order);
                        any = true;
                    } else if !place.is_own() {
                        any |= self.unpark_stale(&cache, order, place, number);
                    }
                }
            }
        }
        any
    }

    /// Brings the parked block that `frame` is in to the pool; false if it is in none.
    pub(super) fn coalesce_around(&self, frame: Pfn) -> bool {
        // A protocol that hands out in several steps parks no blocks.
        P::HANDS_OUT_AT_ONCE
            && parked_orders().any(|order| {
                let head = frame.head(order);
                let claimed = self.protocol.is_uncoalesced(head, order) && self.protocol.claim(head, order);
                if claimed {
                    let number = self.pool.number(head);
                    self.all_caches().for_each(|cache| cache.unpark_anywhere(order, number));
                    self.give(head, order);
                }
                claimed
            })
    }

    /// The largest order of which a CPU cache has a block parked.
    pub(super) fn likely_parked(&self) -> Option<Order> {
        let largest =
            |cache: CpuCache<'m, P::Word>| parked_orders().filter(|order| cache.parked(*order) != 0).last();
        self.all_caches().filter_map(largest).max()
    }

    /// Frames of parked blocks, by a look from outside.
    #[expect(clippy::arithmetic_side_effects, reason = "no more than the zone has frames")]
    pub(super) fn parked_frames(&self) -> u64 {
        let of_order = |cache: &CpuCache<'m, P::Word>, order: Order| {
            let uncoalesced = |(number, _): &(u64, ParkingPlace)| {
                self.protocol.is_uncoalesced(self.pool.frame(*number), order)
            };
            cache.all_parked(order).filter(uncoalesced).count() as u64 * order.frames()
        };
        self.all_caches().map(|cache| parked_orders().map(|order| of_order(&cache, order)).sum::<u64>()).sum()
    }
}
