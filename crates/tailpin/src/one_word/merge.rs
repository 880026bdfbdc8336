//! Merging in place, also while pages are pinned.
//!
//! The first piece becomes the head of the whole block and can be held as such at once; then every other piece
//! becomes tails of it, its head first. Pins stay where they are; a pinned page takes a hold on its new
//! head first. A piece that could still have resting tails pinned under it is taken to pages before.

use super::{OneWord, Steps};
use crate::atomic::AtomicWord;
use crate::error::MergeError;
use crate::frame::{FrameRange, Order, Pfn};
use crate::page_word::PageWord;
use crate::protocol::Owner;

impl<W: AtomicWord, S: Steps> OneWord<'_, W, S> {
    /// One block of `order` at `head` out of the pieces there. The caller has the only reference on each, which
    /// is checked and can't change while it has.
    pub(super) fn merge_block(&self, head: Pfn, order: Order, owner: &impl Owner) -> Result<(), MergeError> {
        if !head.is_aligned(order) {
            return Err(MergeError::NotABlock);
        }
        self.check_pieces(FrameRange::block(head, order))?;
        if order > Order::HUGE {
            for area in (0..order.frames()).step_by(Order::HUGE.frames() as usize) {
                let area = head.offset(area);
                if self.load(area).is_head() {
                    self.join(area, Order::HUGE, owner);
                }
            }
        }
        self.join(head, order, owner);
        Ok(())
    }

    fn check_pieces(&self, range: FrameRange) -> Result<(), MergeError> {
        let mut at = range.start;
        while range.contains(at) {
            let word = self.load(at);
            if !word.is_settled_head() || word.refs() == 0 {
                return Err(MergeError::NotABlock);
            }
            if word.is_unsplittable() {
                return Err(MergeError::Unsplittable { head: at });
            }
            if word.refs() > 1 {
                return Err(MergeError::Shared { head: at });
            }
            at = at.offset(word.order().frames());
        }
        if at == range.end { Ok(()) } else { Err(MergeError::NotABlock) }
    }

    /// The merge itself, of pieces that were found to be the caller's alone.
    fn join(&self, head: Pfn, order: Order, owner: &impl Owner) {
        let mut wary = false;
        loop {
            let seen = self.load(head);
            if seen.order() >= order {
                return;
            }
            if Self::may_pin_resting_tails(seen) {
                self.to_pages(head, owner);
            } else if self.change(head, seen, seen.begin_merge(order)) {
                self.adopt_tails(head, seen.order(), head, order, owner);
                break;
            }
        }
        for unit in Self::units(head, order) {
            // A piece leaves only tails behind, so the next head met begins the next piece.
            if self.load(unit).is_head() {
                wary |= self.absorb(unit, head, order, owner);
            }
        }
        loop {
            let seen = self.load(head);
            let done = seen.end_merge();
            if self.change(head, seen, if wary { done.wary() } else { done }) {
                return;
            }
        }
    }

    /// Below 2 MiB a hold on a head of several frames may be somebody about to pin a tail at rest, which would
    /// not notice that the tail has changed blocks.
    fn may_pin_resting_tails(piece: PageWord) -> bool {
        let order = piece.order();
        S::takes_apart(order > Order::PAGE && order < Order::HUGE && piece.pins() > 0)
    }

    fn to_pages(&self, piece: Pfn, owner: &impl Owner) {
        let range = FrameRange::block(piece, self.load(piece).order());
        let split = self.split_range(range, Order::PAGE, owner);
        debug_assert!(split.is_ok(), "a settled splittable piece splits");
    }

    /// Makes the piece at `piece` and its tails tails of `head`. Returns whether a frame of it is poisoned.
    fn absorb(&self, piece: Pfn, head: Pfn, order: Order, owner: &impl Owner) -> bool {
        loop {
            let seen = self.load(piece);
            if Self::may_pin_resting_tails(seen) {
                self.to_pages(piece, owner);
                continue;
            }
            if self.adopt(piece, seen, head, order, owner) {
                // Only now: until the piece was a tail, one of its own could be pinned and unpinned after it had been
                // looked at, and so record the old order under a piece whose word was just as before.
                self.adopt_tails(piece, seen.order(), head, order, owner);
                return seen.is_wary() || seen.is_poisoned();
            }
        }
    }

    /// Rewrites the tails of a piece of `old` order that record it.
    fn adopt_tails(&self, piece: Pfn, old: Order, head: Pfn, order: Order, owner: &impl Owner) {
        if order > Order::HUGE && old == Order::HUGE {
            return; // 4 KiB tails of a 2 MiB part stay tails of that part.
        }
        for tail in Self::units(piece, old) {
            loop {
                let seen = self.load(tail);
                if !seen.is_tail() || seen.is_rest() || seen.order() == order {
                    break;
                }
                let moves = S::moves_hold(seen.pins() > 0 && piece != head);
                if moves && self.hold(head, order, owner).is_err() {
                    continue;
                }
                let done = self.change(tail, seen, seen.tail_of(order));
                if moves {
                    self.unpin(if done { piece } else { head }, owner);
                }
                if done {
                    break;
                }
            }
        }
    }

    /// Makes one settled piece a tail of `head`, its pins kept under a hold. False if its word changed.
    fn adopt(&self, piece: Pfn, seen: PageWord, head: Pfn, order: Order, owner: &impl Owner) -> bool {
        let pinned = S::moves_hold(seen.pins() > 0);
        if pinned && self.hold(head, order, owner).is_err() {
            return false;
        }
        let done = self.change(piece, seen, seen.tail_of(order));
        if pinned && !done {
            self.unpin(head, owner);
        }
        done
    }
}
