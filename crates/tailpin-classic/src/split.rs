//! The split, in the order of stores of `__split_huge_page_refcount`.
//!
//! 2013 split to pages only. Splitting to smaller blocks is the same walk with another stride: the
//! first frame of each piece is what a tail was there, and it is a head, counted and with its order
//! written, before any tail names it. A tail's pins change hands with its `first_page`: until then
//! they are guarded by the old head's lock, from then on by the new one's, and the new head's
//! `count` has them already.

use core::sync::atomic::Ordering;

use super::blocks::fits;
use super::page::{ONE_GENERATION, PG_HEAD, PG_PIECE, PG_TAIL, began};
use super::{Classic, Safeguard, Safeguards};
use tailpin::AtomicWord;
use tailpin::FreeSink;
use tailpin::SplitError;
use tailpin::{FrameRange, Order, Pfn};

impl<W: AtomicWord, S: Safeguards<Safeguard>> Classic<'_, W, S> {
    /// Splits every piece of `range` down to `target`.
    pub(super) fn split_range(
        &self,
        range: FrameRange,
        target: Order,
        sink: &impl FreeSink,
    ) -> Result<(), SplitError> {
        let mut at = range.start;
        while range.contains(at) {
            at = at.offset(self.split_huge_page(at, range.end, target, sink)?.frames());
        }
        Ok(())
    }

    /// Splits the piece at `at`, on which the caller has a reference. Returns the order it had.
    fn split_huge_page(
        &self,
        at: Pfn,
        end: Pfn,
        target: Order,
        sink: &impl FreeSink,
    ) -> Result<Order, SplitError> {
        let flags = self.page_flags(at);
        // Relaxed: only tells misuse; the caller's reference orders it.
        if flags & PG_TAIL != 0 || self.count(at).load(Ordering::Relaxed) == 0 {
            return Err(SplitError::OutOfRange);
        }
        if flags & PG_HEAD == 0 {
            return Ok(Order::PAGE);
        }
        let locked = self.lock_head(at).ok_or(SplitError::OutOfRange)?;
        let order = locked.order;
        let refused = if !fits(at, order, end) {
            Some(Err(SplitError::OutOfRange))
        } else if order <= target {
            Some(Ok(order))
        } else if !self.__compound_tail_refcounted(at) {
            Some(Err(SplitError::Unsplittable { head: at }))
        } else {
            None
        };
        if let Some(result) = refused {
            self.compound_unlock(at);
            self.put_refs(at, locked.own, None, sink);
            return result;
        }
        self.split_locked(at, order, target, locked.own, sink);
        Ok(order)
    }

    /// Splits the block at `at`, whose lock the caller has, and `own` references; both are given
    /// back.
    pub(super) fn split_locked(&self, at: Pfn, order: Order, target: Order, own: u64, sink: &impl FreeSink) {
        self.split_huge_page_refcount(at, order, target);
        // What the walk added to keep each piece; one without reference or pin is freed here,
        // outside the lock.
        for piece in pieces(at, order, target) {
            self.put_refs(piece, 1, None, sink);
        }
        self.put_refs(at, own, None, sink);
    }

    /// Under the head's lock, which it gives back, and a reference on the head.
    fn split_huge_page_refcount(&self, head: Pfn, order: Order, target: Order) {
        // Relaxed: the lock orders it.
        let maps = self.mapcount(head).load(Ordering::Relaxed);
        let tail_count = pieces(head, order, target)
            .rev()
            .map(|piece| self.split_tail(piece, target, maps))
            .fold(0, u64::wrapping_add);
        // All tail pins at once; not the last, as the caller has a reference. Release: heads the
        // chain by which a thread that reads this count as zero later sees that the tails are gone.
        self.count(head).fetch_sub(tail_count, Ordering::AcqRel);
        if target == Order::PAGE {
            // Release: who finds an ordinary page finds the tails gone and its count settled.
            self.flags(head).fetch_and(!PG_HEAD, Ordering::Release);
        } else {
            // Release: pairs with the Acquire in `order_by_flags`; the tails have their new heads
            // already.
            self.order_word(head).store(target.get().into(), Ordering::Release);
        }
        self.compound_unlock(head);
    }

    /// Changes the flags of a page that others can reach by a difference (H14).
    fn change_flags(&self, page: Pfn, difference: u64) {
        let flags = self.flags(page);
        if S::keeps(Safeguard::H14) {
            // Relaxed: the full barrier is right before it.
            flags.fetch_add(difference, Ordering::Relaxed);
        } else {
            let seen = flags.load(Ordering::Relaxed);
            flags.store(seen.wrapping_add(difference), Ordering::Relaxed);
        }
    }

    /// Makes a tail the first frame of a piece; returns its pins and those of the piece's other
    /// pages.
    fn split_tail(&self, piece: Pfn, target: Order, maps: u64) -> u64 {
        // a. Relaxed: pins of a tail change only under the lock.
        let pins: u64 = FrameRange::block(piece, target)
            .iter()
            .map(|page| self.mapcount(page).load(Ordering::Relaxed))
            .fold(0, u64::wrapping_add);
        // b. An atomic add: speculative getters may be at this word, though none gets in while it
        // is zero. Release: a thread that gets in now sees at least that the page is (or was) a
        // tail, and looks again.
        self.count(piece).fetch_add(maps.wrapping_add(pins).wrapping_add(1), Ordering::Release);
        let mut flags = ONE_GENERATION - PG_TAIL + PG_PIECE + began(target);
        if target > Order::PAGE {
            // Relaxed: the barrier comes before `PG_head` is seen.
            self.order_word(piece).store(target.get().into(), Ordering::Relaxed);
            flags += PG_HEAD;
        }
        // c. Full barrier.
        if S::keeps(Safeguard::H14Barrier) {
            W::fence(Ordering::SeqCst);
        }
        // d. `PG_tail` goes, and nothing else: as an addition it leaves the bits of others alone.
        self.change_flags(piece, flags);
        // e. The mail's time had a union to overwrite here; the pieces' tails are told their head
        // instead.
        W::fence(Ordering::Release);
        // f. Relaxed: a thread that has a reference to the piece comes through the old head's lock,
        // or after the put that ends the split.
        self.mapcount(piece).store(maps, Ordering::Relaxed);
        for tail in (1..target.frames()).rev().map(|i| piece.offset(i)) {
            // Release: pairs with the Acquire of `first_page`; from here on the pins are the new
            // head's.
            self.first_page(tail).store(piece.get(), Ordering::Release);
        }
        pins
    }
}

/// First frames of the pieces other than the first one.
fn pieces(head: Pfn, order: Order, target: Order) -> impl DoubleEndedIterator<Item = Pfn> {
    (1..order.frames() >> target.get()).map(move |i| head.offset(i << target.get()))
}
