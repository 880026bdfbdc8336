//! The checked put of the raw interface, and frames that are to leave service.
//!
//! The handles can't misuse a frame, so they use the unchecked forms; here nothing is believed, and
//! a word is changed only from a state in which the change is right.

use super::{OneWord, Safeguard, Safeguards};
use crate::atomic::AtomicWord;
use crate::error::GetError;
use crate::frame::{FrameRange, Order, Pfn};
use crate::frame_mask::FrameMask;
use crate::page_word::PageWord;
use crate::protocol::{FrameWords, FreeSink, Pins};
use crate::report::Cause;

/// Gives back a pin if there is one.
pub(super) fn raw_put<W: AtomicWord, S: Safeguards<Safeguard>>(
    this: &OneWord<'_, W, S>,
    page: Pfn,
    sink: &impl FreeSink,
) -> Result<(), Cause> {
    let mut at = page;
    loop {
        let seen = this.load(at);
        if let Some(new) = seen.unpin(1)
            && (seen.is_tail() || seen.is_head())
            && (this.may_have_own_pin(at, seen) || !this.is_without_own_pin(at, seen, sink))
        {
            if this.change(at, seen, new) {
                if new.pins() == 0 {
                    this.last_pin_went(at, seen, sink);
                }
                return Ok(());
            }
            continue;
        }
        if at == page
            && seen.is_tail()
            && let Some((head, _)) = this.head_of(page)
            && this.load(head).is_unsplittable()
        {
            at = head;
            continue;
        }
        let in_use = seen.is_live_head() || seen.is_tail() && this.head_of(at).is_some();
        return Err(if in_use { Cause::NotPinned } else { Cause::FrameIsFree });
    }
}

/// Marks a frame in use so that it leaves service when it is freed, and the head of its block
/// so that the frames are looked at one by one then. False if the frame is free.
pub(super) fn mark_hwpoison<W: AtomicWord, S: Safeguards<Safeguard>>(
    this: &OneWord<'_, W, S>,
    frame: Pfn,
    sink: &impl FreeSink,
) -> bool {
    loop {
        let seen = this.load(frame);
        if seen.is_live_head() {
            if this.change(frame, seen, seen.mark_hwpoison()) {
                return true;
            }
            continue;
        }
        let pin = this.try_get(frame, sink).map(|pin| pin.pin().counted_at);
        let done = if pin == Ok(frame) {
            // A pin keeps the tail with its head, or takes it along into a piece of its own.
            this.mark_hwpoison_pinned(frame);
            Some(true)
        } else {
            // In use, too, is what can't be pinned: at the limit of the count, or in the middle
            // of a merge.
            this.mark_hwpoison_tail(frame, sink)
        };
        if let Ok(counted_at) = pin {
            this.unpin(counted_at, sink);
        }
        match done {
            Some(false) => {}
            done => return done.is_some(),
        }
    }
}

impl<W: AtomicWord, S: Safeguards<Safeguard>> OneWord<'_, W, S> {
    /// Whether the head or 2 MiB part `seen` at `at` seems to have a pin of its own, besides the
    /// holds of what is pinned below it. Looks at one word after the other, so "no" may be wrong
    /// where pins move from one tail to another while it looks.
    fn may_have_own_pin(&self, at: Pfn, seen: PageWord) -> bool {
        const MOST_HOLDS: u64 = 2 * 511;
        let part = seen.is_tail() && at.is_aligned(Order::HUGE) && seen.order() > Order::HUGE;
        let several = seen.is_settled_head() && !seen.is_unsplittable() && seen.order() > Order::PAGE;
        seen.pins() > MOST_HOLDS
            || !part && !several
            || seen.pins() > self.pinned_below(at, seen).count() as u64
    }

    /// Whether the head or 2 MiB part `seen` at `at`, still as it was, is without a pin of its own
    /// for certain.
    ///
    /// Each page that is pinned below it is pinned once more, so that they all are at the moment at
    /// which the word is looked at again, and none of their holds on it can go. There are as many
    /// holds as pins then, or more.
    #[expect(clippy::arithmetic_side_effects, reason = "a page of the block")]
    fn is_without_own_pin(&self, at: Pfn, seen: PageWord, sink: &impl FreeSink) -> bool {
        // Number of a page below: the tails of 2 MiB, then the other parts.
        let number = |page: Pfn| match page.get().wrapping_sub(at.get()) {
            tail if tail < Order::HUGE.frames() => (0, tail),
            part => (1, part / Order::HUGE.frames()),
        };
        let mut held = [FrameMask::NONE; 2];
        for page in self.pinned_below(at, seen) {
            match self.try_get(page, sink).map(|pin| pin.pin().counted_at) {
                Ok(counted_at) if counted_at == page => {
                    let (which, number) = number(page);
                    held[which].insert(number);
                }
                Ok(counted_at) => self.unpin(counted_at, sink),
                Err(_) => {}
            }
        }
        let holds: u64 = held.iter().map(FrameMask::count).sum();
        let without = self.load(at) == seen && seen.pins() <= holds;
        for (mask, stride) in held.iter().zip([1, Order::HUGE.frames()]) {
            mask.iter().for_each(|number| self.unpin(at.offset(number * stride), sink));
        }
        without
    }

    /// The pinned pages that have a hold on the head or 2 MiB part `seen` at `at`: tails, and of a
    /// head above 2 MiB also parts. Where a split has made the head of a piece before the tails of
    /// it, these name the block that was split, which has their holds.
    fn pinned_below(&self, at: Pfn, seen: PageWord) -> impl Iterator<Item = Pfn> {
        let (explicit, order) = (!seen.all_tails_implicit(), seen.order());
        let below = order.min(Order::HUGE);
        let tails = FrameRange::block(at, below).iter().skip(1).filter(move |_| explicit);
        let parts = Self::units(at, order).filter(move |_| order > below && seen.is_head());
        let named = tails.map(move |tail| (tail, below)).chain(parts.map(move |part| (part, order)));
        named.filter_map(move |(page, order)| {
            let word = self.load(page);
            (word.is_tail() && word.order() == order && word.pins() > 0).then_some(page)
        })
    }

    /// Marks a tail that has no pin of the caller's: its head first, as from then on a tail is
    /// explicit. False if one of the words changed in between, `None` if the frame is in no live
    /// block.
    ///
    /// It is done under a hold on the head, and in a larger block on the part too. So the pageblock
    /// has a count, and the tail, if it was implicit, can't be freed and be implicit in another
    /// block between the two steps.
    fn mark_hwpoison_tail(&self, frame: Pfn, sink: &impl FreeSink) -> Option<bool> {
        let seen = self.load(frame);
        let (head, above) = self.find_head(frame)?;
        if head == frame || !seen.is_tail() {
            return Some(false);
        }
        let held = match self.hold(head, above.order(), sink) {
            Ok(held) => Some(held),
            // The tails of such a block are not counted, and more pins are on its head than can go
            // between two steps.
            Err(GetError::CountLimit) => None,
            Err(GetError::NotInUse) => return Some(false),
        };
        let large = above.order() > Order::HUGE;
        let part = if large { self.hold_head_of(frame, seen, sink).ok() } else { None };
        let marked = self.mark_hwpoison_held(frame, seen);
        [part, held].into_iter().flatten().for_each(|held| self.unpin(held.at(), sink));
        marked
    }

    /// Marks the tail `seen` at `frame`, what is above it being held.
    fn mark_hwpoison_held(&self, frame: Pfn, seen: PageWord) -> Option<bool> {
        let (head, above) = self.find_head(frame)?;
        let (order, part) = (above.order(), frame.head(Order::HUGE));
        if head == frame {
            return Some(false);
        }
        let within_part = order > Order::HUGE && part != frame;
        if within_part && part != head {
            let seen = self.load(part);
            if !seen.is_tail() || !self.change(part, seen, seen.with_explicit_tails()) {
                return Some(false);
            }
        }
        let records = if within_part { Order::HUGE } else { order };
        let tail = if seen.is_implicit() { seen.tail_of(records) } else { seen };
        // Like a hold: a heads-only split has to look at every tail from here on.
        Some(
            self.change(head, above, above.hold(0).mark_has_hwpoisoned())
                && self.change(frame, seen, tail.mark_hwpoison()),
        )
    }

    fn mark_hwpoison_pinned(&self, frame: Pfn) {
        loop {
            let seen = self.load(frame);
            if self.change(frame, seen, seen.mark_hwpoison()) {
                break;
            }
        }
        let mut warned = None;
        while let Some((head, _)) = self.head_of(frame)
            && warned != Some(head)
            && head != frame
        {
            let seen = self.load(head);
            // A dead head is the thread's that frees it, and the frame's no longer.
            if seen.is_live_head() && self.change(head, seen, seen.mark_has_hwpoisoned()) {
                warned = Some(head);
            }
        }
    }
}
