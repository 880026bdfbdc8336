//! Parking places of one owner, at which blocks are named and named no longer by plain stores.
//!
//! A CPU cache has places for all threads, at which a compare-and-swap names a block, as two
//! threads may be at the same CPU, and as many for one thread that [owns](CpuCache::own) them. No
//! other thread names a block there, so none can overwrite a name, and a block's life is two locked
//! instructions.
//!
//! What is named is there for all others as well. The owner names a block before the step that
//! frees it, and names it no longer after the step that claims it, so a free block is named at each
//! moment. Another thread that looks for larger blocks claims what it finds named, and takes the
//! name away then: as long as it has the block, the owner can't name it anew. A name that it does
//! not see yet is of a block that is just being freed.

use core::sync::atomic::Ordering;

use super::allocator::Allocator;
use super::cpu_cache::{CpuCache, FIRST_OWN_DEPTH, FIRST_OWN_PARKED, OWNED, PARKED_EACH};
use crate::atomic::AtomicWord;
use crate::frame::{Order, Pfn};
use crate::page_state::Class;
use crate::protocol::{ParkingPlace, Protocol};

impl ParkingPlace {
    /// Whether it is one of an owner's.
    #[inline]
    pub(crate) fn is_own(self) -> bool {
        self.word as usize >= FIRST_OWN_PARKED
    }
}

impl<W: AtomicWord> CpuCache<'_, W> {
    /// The places of one owner are the caller's; false if they are another thread's.
    pub(crate) fn own(&self) -> bool {
        // Acquire: pairs with the Release of the owner before.
        self.words[OWNED].compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// They are no thread's any more. What is named stays so.
    pub(crate) fn disown(&self) {
        // Release: the next owner sees the names as this one has left them.
        self.words[OWNED].store(0, Ordering::Release);
    }

    /// How many blocks of `order`, 1 to 8, the owner has named.
    #[inline]
    pub(crate) fn own_parked(&self, order: Order) -> usize {
        (self.hint(Self::own_depth(order)) as usize).min(PARKED_EACH)
    }

    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "the order is 1 to 8")]
    fn own_depth(order: Order) -> usize {
        FIRST_OWN_DEPTH + order.get() as usize - 1
    }

    /// Names a block that is about to become uncoalesced; `None` if all places are taken.
    #[inline]
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "a frame's number within its zone, and a place's number"
    )]
    pub(crate) fn park_own(&self, order: Order, number: u64) -> Option<ParkingPlace> {
        let depth = self.own_parked(order);
        if depth == PARKED_EACH {
            return None;
        }
        let place = self.parking_place(FIRST_OWN_PARKED, order, depth);
        // Release: a thread that sees the name sees what the owner did before. The step that frees
        // the block is SeqCst and comes after it.
        self.parking_word(place).store(number + 1, Ordering::Release);
        self.set_hint(Self::own_depth(order), depth as u64 + 1);
        Some(place)
    }

    /// Where the owner named a block last.
    #[inline]
    fn last_own(&self, order: Order) -> Option<(usize, &W)> {
        let last = self.own_parked(order).checked_sub(1)?;
        Some((last, self.parking_word(self.parking_place(FIRST_OWN_PARKED, order, last))))
    }
}

impl<'m, P: Protocol> Allocator<'m, P> {
    /// A block that the owner named became uncoalesced, or did not.
    #[inline]
    pub(crate) fn parked_own(
        &self,
        cache: CpuCache<'m, P::Word>,
        head: Pfn,
        place: ParkingPlace,
        freed: bool,
    ) {
        if freed {
            self.note_any_parked();
        } else {
            cache.unpark(place, self.pool.number(head));
        }
    }

    /// A block of `order`, 1 to 8, that the owner of the CPU cache's places named, or else another
    /// thread at the places of all, in use from here on.
    #[inline(never)]
    pub(super) fn claim_own(&self, cache: CpuCache<'m, P::Word>, order: Order, class: Class) -> Option<Pfn> {
        // Each turn goes one place down.
        while let Some((last, place)) = cache.last_own(order) {
            // Relaxed: the owner wrote it; whether the block is there still its word says.
            let named = place.load(Ordering::Relaxed).checked_sub(1).map(|number| self.pool.frame(number));
            let claimed = named.filter(|head| self.protocol.claim_and_publish(*head, order, class));
            // Relaxed: a thread that sees the name still finds that the block is not uncoalesced.
            place.store(0, Ordering::Relaxed);
            cache.set_hint(CpuCache::<P::Word>::own_depth(order), last as u64);
            if claimed.is_some() {
                return claimed;
            }
        }
        // What all threads may name there, as rests of lines are.
        self.claim_parked(cache, order, class)
    }
}
