//! What the words of a live block must look like at a quiet moment.

use super::{OneWord, Safeguard, Safeguards};
use crate::atomic::AtomicWord;
use crate::frame::{FrameRange, Order, Pfn};
use crate::page_word::PageWord;

/// Checks head, parts and tails of one block; returns how many of its pages are pinned.
#[expect(clippy::arithmetic_side_effects, reason = "at most a block's frames")]
pub(super) fn audit_block<W: AtomicWord, S: Safeguards<Safeguard>>(
    this: &OneWord<'_, W, S>,
    head: Pfn,
    order: Order,
    found: &mut dyn FnMut(Pfn, &'static str),
) -> u64 {
    let word = this.load(head);
    if !word.is_settled_head() {
        found(head, "a split or merge was left unfinished");
    }
    if word.refs() == 0 && order > Order::PAGE && !word.is_unsplittable() {
        found(head, "a block without references should have split itself");
    }
    let mut pinned = 0;
    let uncounted = word.is_unsplittable();
    let mut holds = this.audit_pageblock(head, word, order.min(Order::HUGE), uncounted, &mut pinned, found);
    if order > Order::HUGE {
        for part in OneWord::<W, S>::units(head, order) {
            let word_of_part = this.load(part);
            if !word_of_part.is_tail() || word_of_part.order() != order {
                found(part, "a 2 MiB part does not belong to its block");
            }
            let own = this.audit_pageblock(part, word_of_part, Order::HUGE, uncounted, &mut pinned, found);
            if word_of_part.pins() < own {
                found(part, "a 2 MiB part has fewer pins than holds");
            }
            pinned += u64::from(word_of_part.pins() > own);
            holds += u64::from(word_of_part.pins() > 0);
        }
    }
    if word.pins() < holds {
        found(head, "a head has fewer pins than holds");
    }
    pinned + u64::from(word.pins() > holds)
}

impl<W: AtomicWord, S: Safeguards<Safeguard>> OneWord<'_, W, S> {
    /// The 4 KiB tails under one head or part, whose word is `above`; returns how many of them hold
    /// it.
    #[expect(clippy::arithmetic_side_effects, reason = "at most a block's frames")]
    fn audit_pageblock(
        &self,
        head: Pfn,
        above: PageWord,
        order: Order,
        uncounted: bool,
        pinned: &mut u64,
        found: &mut dyn FnMut(Pfn, &'static str),
    ) -> u64 {
        let mut holds = 0;
        for tail in FrameRange::block(head, order).iter().skip(1) {
            let word = self.load(tail);
            if !word.is_tail() {
                found(tail, "a frame inside a block is not a tail");
            } else if !word.is_implicit() && word.order() != order {
                found(tail, "an explicit tail names another order than its block's");
            } else if !word.is_implicit() && above.all_tails_implicit() {
                found(tail, "a tail is explicit, but its head says that all are implicit");
            } else if uncounted && word.pins() > 0 {
                found(tail, "a tail of an unsplittable block is counted");
            }
            holds += u64::from(word.pins() > 0);
        }
        *pinned += holds;
        holds
    }
}
