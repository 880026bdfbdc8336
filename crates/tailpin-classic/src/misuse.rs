//! `bad_page`, and the checked put of the raw interface.
//!
//! The handles can't misuse a frame. Here nothing is believed: a reference of the protocol's own
//! comes first, and a count changes only where it may.

use core::sync::atomic::Ordering;

use super::get_put::NO_LIMIT;
use super::page::{PG_HUGETLB, PG_HWPOISON};
use super::{Classic, Safeguard, Safeguards};
use tailpin::AtomicWord;
use tailpin::FreeSink;
use tailpin::{Cause, Misuse, Operation};
use tailpin::{FrameRange, Pfn};

impl<W: AtomicWord, S: Safeguards<Safeguard>> Classic<'_, W, S> {
    /// `bad_page`: marks the frame, if it is in use, so that it leaves service when freed, and
    /// reports it. A free frame is the allocator's and stays untouched.
    #[cold]
    pub(super) fn bad_page(&self, frame: Pfn, operation: Operation, cause: Cause, sink: &impl FreeSink) {
        let state = self.decode(frame);
        self.poison_page(frame, sink);
        sink.misuse(&Misuse { frame, state, operation, cause });
    }

    /// Sets `PG_hwpoison` on a frame in use, under a pin on it, so that the mark can't fall between
    /// the flags' last look and the free.
    pub(super) fn poison_page(&self, frame: Pfn, sink: &impl FreeSink) -> bool {
        if self.pin_found(frame, NO_LIMIT, sink).is_err() {
            return false;
        }
        // Relaxed: the pin's own put publishes it.
        self.flags(frame).fetch_or(PG_HWPOISON, Ordering::Relaxed);
        self.put_page(frame, sink);
        true
    }

    /// What a frame with `PG_tail` is to a caller that took it for the first one of a block.
    pub(super) fn inside_block(&self, frame: Pfn) -> Cause {
        match self.live_head_of(frame) {
            Some((head, order)) => Cause::InsideBlock { head, order },
            None => Cause::FrameIsFree,
        }
    }

    /// Whether `frame` has a pin besides its block references and `own` references of the caller's.
    ///
    /// Two words are compared that others change, so they are read until they hold still.
    pub(super) fn has_pins(&self, frame: Pfn, own: u64) -> bool {
        // Acquire: each is read after the one before it.
        let read = || {
            let count = self.count(frame).load(Ordering::Acquire);
            (count, self.mapcount(frame).load(Ordering::Acquire))
        };
        let mut seen = read();
        loop {
            let again = read();
            if seen == again {
                return seen.0.saturating_sub(own) > seen.1;
            }
            seen = again;
        }
    }

    /// Pins of the other pages of the block that `head` heads, which its count has too. Under its
    /// lock.
    fn tail_pins(&self, head: Pfn) -> u64 {
        let flags = self.page_flags(head);
        if flags & PG_HUGETLB != 0 {
            return 0;
        }
        let tails = FrameRange::block(head, self.order_by_flags(head, flags)).iter().skip(1);
        // Relaxed: pins of a tail change only under the lock.
        tails.map(|tail| self.mapcount(tail).load(Ordering::Relaxed)).sum()
    }

    /// Gives back a pin if there is one.
    pub(super) fn checked_put(&self, page: Pfn, sink: &impl FreeSink) -> Result<(), Cause> {
        loop {
            if self.page_tail(page) {
                match self.put_compound_page(page, 1, sink)? {
                    Some(_) => return Ok(()),
                    None => continue,
                }
            }
            let Some(own) = self.stabilise_head(page) else { return Err(Cause::FrameIsFree) };
            if self.page_tail(page) {
                // It was freed and handed out again in between.
                self.put_refs(page, own, None, sink);
                continue;
            }
            self.compound_lock(page);
            let pinned = self.has_pins(page, own + self.tail_pins(page));
            self.compound_unlock(page);
            self.put_refs(page, if pinned { own + 1 } else { own }, None, sink);
            return if pinned { Ok(()) } else { Err(Cause::NotPinned) };
        }
    }

    /// `page_ref_freeze`: takes all references at once if there are as many as `expected`.
    fn page_ref_freeze(&self, head: Pfn, expected: u64) -> bool {
        let count = self.count(head);
        if !S::keeps(Safeguard::H16) {
            count.store(0, Ordering::Release);
            return true;
        }
        // AcqRel: what was done under all earlier references comes before the free. Relaxed:
        // nothing happened.
        count.compare_exchange(expected, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// `__free_pages`: drops `n` references, and the block with the last one. While others have
    /// some it is theirs to free, whole (H15).
    pub(super) fn free_pages(&self, head: Pfn, n: u64, sink: &impl FreeSink) {
        let free = || {
            self.free_block(head, self.compound_order(head), sink);
        };
        // Relaxed: a guess; the freeze decides (H16).
        if self.count(head).load(Ordering::Relaxed) == n && self.page_ref_freeze(head, n) {
            return free();
        }
        match self.drop_refs(head, n) {
            Ok(last) if last || !S::keeps(Safeguard::H15) => free(),
            Ok(_) => {}
            Err(_) => self.bad_page(head, Operation::Free, Cause::TooFewReferences, sink),
        }
    }
}
