//! The checked operations of the raw interface, and frames that are to leave service.
//!
//! The handles can't misuse a frame, so they use the unchecked forms; here nothing is believed, and a word is
//! changed only from a state in which the change is right.

use super::{OneWord, Steps};
use crate::atomic::AtomicWord;
use crate::frame::{Order, Pfn};
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

    /// Drops the only reference to a block, if the token describes it as it is.
    pub(super) fn checked_free(
        &self,
        head: Pfn,
        order: Order,
        generation: u8,
        owner: &impl Owner,
    ) -> Result<(), Cause> {
        let as_claimed = |seen: PageWord| {
            if seen.generation() != generation {
                Err(Cause::StaleToken { claimed: generation })
            } else if seen.order() != order {
                Err(Cause::WrongOrder { claimed: order })
            } else if seen.refs() > 1 {
                Err(Cause::StillReferenced)
            } else {
                Ok(())
            }
        };
        let seen = self.load(head);
        if seen.is_tail() {
            return Err(match self.head_of(head) {
                Some((head, order)) => Cause::InsideBlock { head, order },
                None => Cause::FrameIsFree,
            });
        }
        self.put_refs_on(head, 1, as_claimed, owner).map(|_| ()).map_err(|(_, cause)| cause)
    }

    /// Marks a frame in use so that it leaves service when it is freed, and the head of its block so that the
    /// frames are looked at one by one then. False if the frame is free.
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
