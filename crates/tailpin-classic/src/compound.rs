//! Compound pages: how one is made, how a tail finds its head, and the lock that keeps it from
//! being split.

use core::sync::atomic::Ordering;

use super::count::{NEGATIVE, get_unless_zero};
use super::page::{ONE_GENERATION, PG_COMPOUND_LOCK, PG_HEAD, PG_HUGETLB, PG_TAIL, began};
use super::{Classic, Safeguard, Safeguards};
use tailpin::AtomicWord;
use tailpin::Class;
use tailpin::{FrameRange, Order, Pfn};

/// A head that is held and locked: it can't be split, and its block can't be freed.
pub(super) struct Locked {
    /// Order of the block.
    pub(super) order: Order,
    /// References to give back after unlocking.
    pub(super) own: u64,
}

impl<W: AtomicWord, S: Safeguards<Safeguard>> Classic<'_, W, S> {
    /// `prep_new_page`: everything but the count. The frames have no count, so no other thread
    /// writes their words and plain stores do (N3).
    pub(super) fn prep_new_page(&self, head: Pfn, order: Order, class: Class) {
        // Relaxed: the barrier of `set_page_refcounted` comes between all of this and the count.
        self.mapcount(head).store(1, Ordering::Relaxed);
        if order > Order::PAGE {
            self.prep_compound_page(head, order);
        }
        let class = if matches!(class, Class::Unsplittable) { PG_HUGETLB } else { 0 };
        let flags = self.flags(head).load(Ordering::Relaxed);
        self.flags(head).store(flags.wrapping_add(ONE_GENERATION) | class | began(order), Ordering::Relaxed);
    }

    /// `prep_compound_page`: order, `PG_head` (`__SetPageHead`, not atomic), then each tail.
    fn prep_compound_page(&self, head: Pfn, order: Order) {
        // Relaxed throughout: see `prep_new_page`; between a tail's two words there is the barrier
        // before `PG_tail`.
        self.order_word(head).store(order.get().into(), Ordering::Relaxed);
        let flags = self.flags(head).load(Ordering::Relaxed);
        self.flags(head).store(flags | PG_HEAD, Ordering::Relaxed);
        for tail in FrameRange::block(head, order).iter().skip(1) {
            let flags = self.flags(tail);
            let first_page = || self.first_page(tail).store(head.get(), Ordering::Relaxed);
            let tail_flag = || flags.store(flags.load(Ordering::Relaxed) | PG_TAIL, Ordering::Relaxed);
            S::in_order(Safeguard::H3Tail, first_page, || {
                if S::keeps(Safeguard::H3Tail) {
                    W::fence(Ordering::Release);
                }
                tail_flag();
            });
        }
    }

    /// A frame that was head of the block of `page` at some moment during the call; `page` itself
    /// if it is no tail (any more).
    ///
    /// It may have been split, freed and handed out again since: take a reference, then look again.
    pub(super) fn compound_trans_head(&self, page: Pfn) -> Pfn {
        if !self.page_tail(page) {
            return page;
        }
        // Acquire: the read barrier before `PG_tail` is looked at again.
        let head = Pfn::new(self.first_page(page).load(Ordering::Acquire));
        if self.page_tail(page) || !S::keeps(Safeguard::H12) { head } else { page }
    }

    /// Whether `page` is a tail of `head` now. Certain while the caller has a reference on `head`
    /// and its lock, or a pin on the page and the lock.
    pub(super) fn is_tail_of(&self, page: Pfn, head: Pfn) -> bool {
        // Acquire: a split to smaller blocks makes the new head reachable before it names it here.
        self.page_tail(page) && self.first_page(page).load(Ordering::Acquire) == head.get()
    }

    /// A reference on a head, before its lock is taken (H1): how many references this took, `None`
    /// if the head is free.
    pub(super) fn stabilise_head(&self, head: Pfn) -> Option<u64> {
        if !S::keeps(Safeguard::H1) {
            return Some(0);
        }
        get_unless_zero(self.count(head), NEGATIVE).is_ok().then_some(1)
    }

    /// Takes the bit lock of a head, on which the caller has a reference (H1). Acquire: pairs with
    /// the Release of [`compound_unlock`](Self::compound_unlock).
    pub(super) fn compound_lock(&self, head: Pfn) {
        let flags = self.flags(head);
        while flags.fetch_or(PG_COMPOUND_LOCK, Ordering::Acquire) & PG_COMPOUND_LOCK != 0 {
            // Relaxed: only waits; taking the lock is what orders.
            while flags.load(Ordering::Relaxed) & PG_COMPOUND_LOCK != 0 {
                W::relax();
            }
        }
    }

    /// Gives the lock back; the caller still has its reference. Release: pairs with the next lock's
    /// Acquire.
    pub(super) fn compound_unlock(&self, head: Pfn) {
        self.flags(head).fetch_and(!PG_COMPOUND_LOCK, Ordering::Release);
    }

    /// Whether tails of this head are counted (44518d2b3264). Stable while the caller has a
    /// reference on the head.
    pub(super) fn __compound_tail_refcounted(&self, head: Pfn) -> bool {
        self.page_flags(head) & PG_HUGETLB == 0
    }

    /// Whether pins on `page`, a tail on which the caller has one, are counted in the page itself.
    ///
    /// The answer is the same at the get and at the put, since a block keeps its class for life.
    ///
    /// Nothing holds the head, so what it said is believed only if the page is still a tail of it
    /// afterwards: a page with a pin does not come back to a head that it has left.
    ///
    /// # Panics
    /// If there are no words for the page.
    pub fn compound_tail_refcounted(&self, page: Pfn) -> bool {
        loop {
            let head = self.compound_trans_head(page);
            let counted = self.__compound_tail_refcounted(head);
            if head == page || self.is_tail_of(page, head) {
                return counted;
            }
        }
    }

    /// Takes a reference on `at`, which was a head, then its lock. By now it may be an ordinary
    /// page, which is a block of order 0 and is treated as one. `None`: it is free.
    pub(super) fn lock_head(&self, at: Pfn) -> Option<Locked> {
        let own = self.stabilise_head(at)?;
        self.compound_lock(at);
        Some(Locked { order: self.compound_order(at), own })
    }
}
