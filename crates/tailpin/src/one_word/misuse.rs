//! The checked put of the raw interface, and frames that are to leave service.
//!
//! The handles can't misuse a frame, so they use the unchecked forms; here nothing is believed, and
//! a word is changed only from a state in which the change is right.

use super::{OneWord, Steps};
use crate::atomic::AtomicWord;
use crate::frame::{FrameRange, Order, Pfn};
use crate::page_word::PageWord;
use crate::protocol::{Held, Owner, Protocol};
use crate::report::Cause;

impl<W: AtomicWord, S: Steps> OneWord<'_, W, S> {
    /// Gives back a pin if there is one.
    pub(super) fn checked_put(&self, page: Pfn, owner: &impl Owner) -> Result<(), Cause> {
        let mut at = page;
        loop {
            let seen = self.load(at);
            if let Some(new) = seen.unpin(1)
                && (seen.is_tail() || seen.is_head())
                && (self.may_have_own_pin(at, seen) || self.load(at) != seen)
            {
                if self.change(at, seen, new) {
                    if new.pins() == 0 {
                        self.last_pin_went(at, seen, owner);
                    }
                    return Ok(());
                }
                continue;
            }
            if at == page
                && seen.is_tail()
                && let Some((head, _)) = self.head_of(page)
                && self.load(head).is_unsplittable()
            {
                at = head;
                continue;
            }
            let in_use = seen.is_live_head() || seen.is_tail() && self.head_of(at).is_some();
            return Err(if in_use { Cause::NotPinned } else { Cause::FrameIsFree });
        }
    }

    /// Whether the head or 2 MiB part `seen` at `at` may have a pin of its own, besides the holds
    /// of its pinned tails. A hold is there before the pin of its tail and for longer, so "no" is
    /// certain of a word that stays as it is.
    fn may_have_own_pin(&self, at: Pfn, seen: PageWord) -> bool {
        const MOST_HOLDS: u64 = 2 * 511;
        let part = seen.is_tail() && at.is_aligned(Order::HUGE) && seen.order() > Order::HUGE;
        let several = seen.is_settled_head() && !seen.is_unsplittable() && seen.order() > Order::PAGE;
        if seen.pins() > MOST_HOLDS || !part && !several {
            return true;
        }
        let pinned = |tail: &Pfn| self.load(*tail).pins() > 0;
        let tails = FrameRange::block(at, seen.order().min(Order::HUGE)).iter().skip(1);
        let mut holds = if seen.tails_rest() { 0 } else { tails.filter(pinned).count() };
        if several && seen.order() > Order::HUGE {
            holds += Self::units(at, seen.order()).filter(pinned).count();
        }
        seen.pins() > holds as u64
    }

    /// Marks a frame in use so that it leaves service when it is freed, and the head of its block
    /// so that the frames are looked at one by one then. False if the frame is free.
    pub(super) fn poison_in_use(&self, frame: Pfn, owner: &impl Owner) -> bool {
        loop {
            let seen = self.load(frame);
            if seen.is_live_head() {
                if self.change(frame, seen, seen.poisoned()) {
                    return true;
                }
                continue;
            }
            // A pin keeps the tail with its head, or takes it along into a piece of its own.
            let Ok((Held { counted_at, .. }, _)) = self.pin_found(frame, owner) else { return false };
            self.poison_pinned(frame);
            self.unpin(counted_at, owner);
            return true;
        }
    }

    fn poison_pinned(&self, frame: Pfn) {
        loop {
            let seen = self.load(frame);
            if self.change(frame, seen, seen.poisoned()) {
                break;
            }
        }
        let mut warned = None;
        while let Some((head, _)) = self.head_of(frame)
            && warned != Some(head)
            && head != frame
        {
            let seen = self.load(head);
            if seen.is_head() && self.change(head, seen, seen.wary()) {
                warned = Some(head);
            }
        }
    }
}
