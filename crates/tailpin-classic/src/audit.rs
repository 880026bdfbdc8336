//! One live block at a quiet moment: whether its words agree with each other.

use core::sync::atomic::Ordering;

use super::page::{PG_COMPOUND_LOCK, PG_HUGETLB};
use super::{Classic, Safeguard, Safeguards};
use tailpin::AtomicWord;
use tailpin::{FrameRange, Order, Pfn};

impl<W: AtomicWord, S: Safeguards<Safeguard>> Classic<'_, W, S> {
    /// Calls `found` for each frame that is wrong; returns how many pages are pinned.
    pub(super) fn audit_live(
        &self,
        head: Pfn,
        order: Order,
        found: &mut dyn FnMut(Pfn, &'static str),
    ) -> u64 {
        let flags = self.page_flags(head);
        if flags & PG_COMPOUND_LOCK != 0 {
            found(head, "a compound lock was left taken");
        }
        if self.order_by_flags(head, flags) != order {
            found(head, "a head has another order than its block");
        }
        let (mut pinned, mut tail_count) = (0, 0);
        for tail in FrameRange::block(head, order).iter().skip(1) {
            // Relaxed, here and below: a quiet moment.
            let pins = self.mapcount(tail).load(Ordering::Relaxed);
            if !self.is_tail_of(tail, head) {
                found(tail, "a frame inside a block is not a tail of its head");
            } else if self.count(tail).load(Ordering::Relaxed) != 0 {
                found(tail, "a tail has a count");
            } else if flags & PG_HUGETLB != 0 && pins > 0 {
                found(tail, "a tail of an unsplittable block is counted");
            }
            pinned += u64::from(pins > 0);
            tail_count += pins;
        }
        let maps = self.mapcount(head).load(Ordering::Relaxed);
        let Some(own) = self.count(head).load(Ordering::Relaxed).checked_sub(maps + tail_count) else {
            found(head, "a head counts less than its references and its tails' pins");
            return pinned;
        };
        pinned + u64::from(own > 0)
    }
}
