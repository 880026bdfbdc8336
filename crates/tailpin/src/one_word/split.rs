//! Splitting: to pages or to any lower order, around one page, and of itself on the last reference.
//!
//! A split is three steps: the head is frozen (references stand still, pins go on), each tail is
//! rewritten by a compare-and-swap that carries its pins over and moves or gives back its hold, the
//! head is settled as the first piece. Any thread with a reference can do all of it (*helping*), so
//! none waits.
//!
//! A split to larger pieces of a block all of whose tails are implicit is *heads-only*: implicit
//! tails belong to the head that covers them, whichever it is, so only the heads of the pieces are
//! made. The first hold that is taken during it turns it into an ordinary one, in the same step.
//!
//! A block whose last reference goes while pages of it are pinned is split by the thread that drops
//! it, and no other helps. Its pinned tails become pages, whose holds that thread keeps for itself;
//! then one step on the head frees everything else, be it one page or 511, if the head has no other
//! pins than these holds, or was never held at all: then no thread can be between its hold and the
//! first pin of a tail. Only where the head has others, which may be pins of its own page as well,
//! each tail is rewritten.
//!
//! # Why the head's word can be believed
//!
//! *If a head says that all its tails are implicit, they are, and no thread has ever held the head
//! since they became so.*
//!
//! * A tail becomes explicit by a first pin, which is made under a hold: the hold says so on the
//!   head, in the step that takes it, before the tail is touched, and nothing takes that back while
//!   the block lives. So a thread that is *about* to pin a tail, however long ago it looked at the
//!   tail, is seen as well: a hold that was there when the split began makes it an ordinary one, a
//!   hold that comes later does so then.
//! * Or it becomes explicit because an ordinary split or a merge makes it name its new order. Such
//!   a split begins with a head that says so, and every piece says so before a tail of it is
//!   rewritten: the pieces made in the ordinary way copy it from the head; those made while the
//!   split was still heads-only are marked in passing.
//! * A tail can name an order from an earlier life of its frame. Below 2 MiB each tail is looked at
//!   before the block is handed out, and the head says what was found. Whole pageblocks are handed
//!   out without a look: there the word of the first frame goes on saying it while the pageblock is
//!   free, until all words of the pageblock are made implicit.
//! * A larger block has a word for each 2 MiB; each of these says it of its own 511, and is held by
//!   them. Splitting to 2 MiB and merging from it leave those 511 alone, and what is said of them.

use core::cell::Cell;
use core::sync::atomic::Ordering;

use super::{OneWord, Safeguard, Safeguards, merge};
use crate::atomic::AtomicWord;
use crate::error::{MergeError, SplitError};
use crate::finally::{Finally, to_the_end};
use crate::frame::{FrameRange, Order, Pfn};
use crate::frame_mask::FrameMask;
use crate::page_word::PageWord;
use crate::protocol::{FreeSink, Rearrange};

/// A block of at most 2 MiB without references that its last owner takes apart.
struct Dying {
    head: Pfn,
    /// The head's word when it began.
    begun: PageWord,
    /// Its frames that are not free: in use as pages, or out of service.
    kept: FrameMask,
    /// Holds on the head that are the thread's: its own, and those of tails that have become pages.
    held: u64,
}

impl Dying {
    fn new(head: Pfn, begun: PageWord, has_own_hold: bool) -> Self {
        Self { head, begun, kept: FrameMask::NONE, held: u64::from(has_own_hold) }
    }

    fn pageblock(&self) -> Pfn {
        self.head.head(Order::HUGE)
    }

    fn keep(&mut self, frame: Pfn) {
        self.kept.insert(Self::number(frame));
    }

    fn keeps(&self, frame: Pfn) -> bool {
        self.kept.contains(Self::number(frame))
    }

    #[expect(clippy::arithmetic_side_effects, reason = "the first frame is not above it")]
    fn number(frame: Pfn) -> u64 {
        frame.get() - frame.head(Order::HUGE).get()
    }

    /// Whether no thread can have a hold on the head, still as it is `seen`, besides this one: it
    /// was never held, or its pins are the holds of this thread. Pins of the first page can't be
    /// told from holds. Nor is any unpinned tail marked hwpoison.
    fn has_no_other_hold(&self, seen: PageWord) -> bool {
        !seen.has_hwpoisoned() && (seen.all_tails_implicit() || seen.pins() == self.held)
    }
}

impl<W: AtomicWord, S: Safeguards<Safeguard>> Rearrange for OneWord<'_, W, S> {
    const REARRANGES: bool = true;

    fn split(&self, range: FrameRange, target: Order, sink: &impl FreeSink) -> Result<(), SplitError> {
        let mut at = range.start;
        while range.contains(at) {
            at = at.offset(self.split_piece(at, target, sink)?.frames());
        }
        Ok(())
    }

    /// Halves the piece around `page` until it is of `target`: three steps each time while no tail
    /// is explicit.
    #[expect(clippy::arithmetic_side_effects, reason = "the order is above `target`")]
    fn split_around(
        &self,
        range: FrameRange,
        page: Pfn,
        target: Order,
        sink: &impl FreeSink,
    ) -> Result<(), SplitError> {
        if !range.contains(page) {
            return Err(SplitError::OutOfRange);
        }
        let mut piece = self.piece_around(range, page);
        loop {
            let (head, word) = piece.ok_or(SplitError::OutOfRange)?;
            if word.order() <= target {
                return Ok(());
            }
            let half = Order::wrap(word.order().get() - 1);
            self.split_piece(head, half, sink)?;
            // Where the half around the page begins, unless another thread has split it further.
            let head = page.head(half);
            piece = self.head_at(head, page).or_else(|| self.piece_around(range, page));
        }
    }

    fn merge(&self, head: Pfn, order: Order, sink: &impl FreeSink) -> Result<(), MergeError> {
        merge::merge(self, head, order, sink)
    }
}

impl<W: AtomicWord, S: Safeguards<Safeguard>> OneWord<'_, W, S> {
    /// Splits the piece at `at` until it is no larger than `target`; returns the order of what is
    /// known to be done.
    fn split_piece(&self, at: Pfn, target: Order, sink: &impl FreeSink) -> Result<Order, SplitError> {
        loop {
            let seen = self.load(at);
            if seen.is_splitting() {
                self.help_split(at, seen, sink);
                continue;
            }
            if !seen.is_settled_head() {
                return Err(SplitError::OutOfRange);
            }
            if seen.order() <= target {
                return Ok(seen.order());
            }
            if seen.is_unsplittable() {
                return Err(SplitError::Unsplittable { head: at });
            }
            let step = target.max(seen.smallest_pieces());
            let frozen = seen.begin_split(step);
            if self.change(at, seen, frozen) {
                self.help_split(at, frozen, sink);
                if step == target {
                    return Ok(seen.order());
                }
            }
        }
    }

    /// The piece of `range` that `page` is in. The caller's reference on each keeps them from
    /// merging.
    pub(super) fn piece_around(&self, range: FrameRange, page: Pfn) -> Option<(Pfn, PageWord)> {
        Order::all().rev().map(|order| page.head(order)).filter(|head| range.contains(*head)).find_map(
            |head| {
                let word = self.load(head);
                (word.is_head() && FrameRange::block(head, word.order()).contains(page))
                    .then_some((head, word))
            },
        )
    }

    /// Helping: does whatever is left of the split that `seen` says is under way at `head`. The
    /// caller has a reference on the block, or began the split itself.
    pub(super) fn help_split(&self, head: Pfn, seen: PageWord, sink: &impl FreeSink) {
        if seen.is_heads_only_split() && self.split_heads_only(head, seen) {
            return;
        }
        let begun = seen.hold(0); // No longer heads-only, if it ever was.
        S::in_order(Safeguard::W9, || self.convert_all(head, begun, sink), || self.settle(head, begun));
    }

    /// The last step, by the thread that comes first.
    fn settle(&self, head: Pfn, begun: PageWord) {
        loop {
            let seen = self.load(head);
            let same = seen.is_splitting() && seen.order() == begun.order();
            if same && seen.has_hwpoisoned() {
                self.mark_pieces_hwpoisoned(head, begun);
            }
            let from = if S::keeps(Safeguard::W11) { seen } else { begun };
            if !same || self.change(head, seen, from.end_split()) {
                return;
            }
        }
    }

    /// A frame of the block was marked hwpoison, perhaps while it was being split: each piece but
    /// the first is told, whose head was.
    #[cold]
    fn mark_pieces_hwpoisoned(&self, head: Pfn, begun: PageWord) {
        let piece = begun.target().frames();
        for at in (piece..begun.order().frames()).step_by(piece as usize).map(|at| head.offset(at)) {
            loop {
                let seen = self.load(at);
                let warned = !seen.is_head() || seen.order() == Order::PAGE || seen.has_hwpoisoned();
                if warned || self.change(at, seen, seen.mark_has_hwpoisoned()) {
                    break;
                }
            }
        }
    }

    /// Makes the heads of the pieces, as all tails are implicit. False if a hold was taken before
    /// the end: then every tail has to be looked at.
    fn split_heads_only(&self, head: Pfn, begun: PageWord) -> bool {
        let (order, target) = (begun.order(), begun.target());
        for tail in (target.frames()..order.frames()).step_by(target.frames() as usize) {
            let tail = head.offset(tail);
            let seen = self.load(tail);
            if seen.is_implicit() {
                // If this fails the tail was pinned under a hold, which is noticed below, or others
                // were here.
                self.change(tail, seen, seen.piece(begun, Self::refs_of_piece(begun)));
            }
        }
        loop {
            let seen = self.load(head);
            if !seen.is_heads_only_split() || seen.order() != order {
                return !seen.is_splitting() || seen.order() != order;
            }
            if self.change(head, seen, seen.end_split()) {
                return true;
            }
        }
    }

    fn convert_all(&self, head: Pfn, begun: PageWord, sink: &impl FreeSink) {
        if begun.target() > Order::PAGE {
            return Self::units(head, begun.order()).for_each(|tail| self.convert(head, tail, begun, sink));
        }
        // Most tails are not pinned, and most splits go down to pages: between two
        // compare-and-swaps every instruction counts.
        let (order, refs) = (begun.order(), Self::refs_of_piece(begun));
        for tail in FrameRange::block(head, order).iter().skip(1) {
            let seen = self.load(tail);
            if !seen.is_plain_tail_of(order) || !self.change(tail, seen, seen.page(refs)) {
                self.convert(head, tail, begun, sink);
            }
        }
    }

    /// References that each piece of a split gets: all that the block has.
    fn refs_of_piece(begun: PageWord) -> u64 {
        if S::keeps(Safeguard::W12) { begun.refs() } else { begun.refs().min(1) }
    }

    /// Makes `tail` part of a piece, while pins on it come and go.
    fn convert(&self, head: Pfn, tail: Pfn, begun: PageWord, sink: &impl FreeSink) {
        let (order, target) = (begun.order(), begun.target());
        let piece = tail.head(target);
        loop {
            let seen = self.load(tail);
            let untouched = seen.is_tail() && (seen.order() == order || seen.is_implicit());
            if S::keeps(Safeguard::W10) && !untouched {
                // Made while the split was heads-only, the piece says that all its tails are
                // implicit; they are rewritten next.
                let marks = piece == tail
                    && order <= Order::HUGE
                    && seen.order() > Order::PAGE
                    && seen.all_tails_implicit();
                if S::keeps(Safeguard::W15)
                    && marks
                    && seen.is_settled_head()
                    && !self.change(tail, seen, seen.with_explicit_tails())
                {
                    continue;
                }
                return;
            }
            let pinned = seen.pins() > 0;
            if piece == tail {
                let refs = Self::refs_of_piece(begun);
                if self.change(tail, seen, seen.piece(begun, refs)) {
                    if pinned && S::keeps(Safeguard::W6) {
                        self.unpin(head, sink);
                    }
                    return;
                }
                continue;
            }
            // The hold moves: the new one first, the old one last. Within the first piece it stays.
            let moves = S::keeps(Safeguard::W7) && pinned && piece != head;
            if moves && self.hold(piece, target, sink).is_err() {
                continue;
            }
            let done = self.change(tail, seen, seen.tail_of(target));
            if moves {
                self.unpin(if done { head } else { piece }, sink);
            }
            if done {
                return;
            }
        }
    }

    /// The last reference goes (`seen` → `dropped`) while pages are pinned: everything unpinned is
    /// free when this returns. False if the head changed first. No other thread has a reference, so
    /// none helps.
    #[expect(clippy::arithmetic_side_effects, reason = "its hold is there")]
    pub(super) fn self_split(
        &self,
        head: Pfn,
        seen: PageWord,
        dropped: PageWord,
        sink: &impl FreeSink,
    ) -> bool {
        let target = if dropped.order() > Order::HUGE { Order::HUGE } else { Order::PAGE };
        let begun = dropped.begin_self_split(target);
        let begun = if S::keeps(Safeguard::W18) { begun } else { PageWord(begun.0 - 1) };
        if !self.change(head, seen, begun) {
            return false;
        }
        // The sink tells hooks of what is freed, and they may panic.
        let _first = Finally(|| self.scatter_pages(head, head, sink));
        if begun.order() > Order::HUGE {
            self.scatter_pageblocks(head, begun, sink);
        }
        true
    }

    /// Takes apart a dying block above 2 MiB: unpinned pageblocks are free, pinned ones are taken
    /// apart in turn.
    fn scatter_pageblocks(&self, head: Pfn, begun: PageWord, sink: &impl FreeSink) {
        // The first pageblock keeps this thread's hold and goes on being taken apart.
        let _first = Finally(|| {
            loop {
                let seen = self.load(head);
                if self.change(head, seen, seen.end_split().begin_last_split(Order::PAGE)) {
                    return;
                }
            }
        });
        let range = FrameRange::block(head, begun.order());
        let next = Cell::new(head.offset(Order::HUGE.frames()));
        to_the_end(|| {
            while range.contains(next.get()) {
                let pageblock = next.replace(next.get().offset(Order::HUGE.frames()));
                self.scatter_pageblock(head, pageblock, begun, sink);
            }
        });
    }

    /// Takes apart one of its pageblocks but the first.
    fn scatter_pageblock(&self, head: Pfn, pageblock: Pfn, begun: PageWord, sink: &impl FreeSink) {
        loop {
            let seen = self.load(pageblock);
            let pinned = seen.pins() > 0;
            // A frame may have been marked hwpoison since, under a pin that has gone.
            let begun = if self.load(head).has_hwpoisoned() { begun.mark_has_hwpoisoned() } else { begun };
            let piece = seen.piece(begun, 0);
            let new = if pinned { piece.begin_self_split(Order::PAGE) } else { piece };
            if !self.change(pageblock, seen, new) {
                continue;
            }
            if pinned {
                self.unpin(head, sink);
                self.scatter_pages(pageblock, head, sink);
            } else {
                self.free_block(pageblock, new, sink);
            }
            return;
        }
    }

    /// Takes apart a dying block of at most 2 MiB whose head, Splitting, carries this thread's
    /// hold. Pinned tails become pages of their own, and everything else is free in the step that
    /// ends the split, as one bitmap: without a step on each word if no thread can be about to pin
    /// a tail.
    ///
    /// It may be a pageblock of the larger dying block at `whole`: a thread that had a pin on one
    /// of its pages may have marked that hwpoison, and then what it took for the page's head,
    /// `whole`.
    #[expect(clippy::arithmetic_side_effects, reason = "the holds are the thread's, and there")]
    fn scatter_pages(&self, head: Pfn, whole: Pfn, sink: &impl FreeSink) {
        let mut dying = Dying::new(head, self.load(head), S::keeps(Safeguard::W18));
        self.scatter_tails(&mut dying, false, sink);
        let mut all_rewritten = false;
        let ended = loop {
            let seen = self.load(head);
            let short =
                dying.has_no_other_hold(seen) && (whole == head || !self.load(whole).has_hwpoisoned());
            if !all_rewritten && S::keeps(Safeguard::W20) && !short {
                self.scatter_tails(&mut dying, true, sink);
                all_rewritten = true;
            } else if !S::keeps(Safeguard::W18) {
                break self.settle_and_look(head, seen, dying.held);
            } else {
                // With the split the thread's holds are over.
                let page = PageWord(seen.end_split().0 - dying.held);
                let ended = if page.is_live_head() { page } else { page.freed() };
                if self.change(head, seen, ended) {
                    break ended;
                }
            }
        };
        if ended.is_head() {
            dying.keep(head);
        } else if ended.is_hwpoison() {
            dying.keep(head);
            sink.freed_offline(head);
        }
        let freed = FrameMask::of_block(head, dying.begun.order()).without(&dying.kept);
        sink.freed_frames(dying.pageblock(), &freed);
    }

    /// The tails of a dying block that are pinned become pages of their own, and if `all` are to be
    /// rewritten the others become free.
    #[expect(clippy::arithmetic_side_effects, reason = "one hold for each of its tails at most")]
    fn scatter_tails(&self, dying: &mut Dying, all: bool, sink: &impl FreeSink) {
        for tail in Self::units(dying.head, dying.begun.order()) {
            loop {
                let seen = self.load(tail);
                let pinned = seen.pins() > 0;
                // What has become a page may have got on, and be no word of this block any more.
                if !pinned && !all || dying.keeps(tail) {
                    break;
                }
                let new = if pinned { seen.page(0) } else { seen.freed() };
                if !self.change(tail, seen, new) {
                    continue;
                }
                if pinned {
                    dying.keep(tail);
                    dying.held += 1;
                } else if new.is_hwpoison() {
                    dying.keep(tail);
                    sink.freed_offline(tail);
                }
                break;
            }
        }
    }

    /// How the split would end without the safeguard W18: a look whether any pin is left comes
    /// after it, so the thread that takes the last one may free the page as well.
    #[expect(clippy::arithmetic_side_effects, reason = "the holds are the thread's, and there")]
    fn settle_and_look(&self, head: Pfn, seen: PageWord, held: u64) -> PageWord {
        self.settle(head, seen);
        // Release: as in `unpin_step`; Acquire: of what was done under all other pins.
        let left = PageWord(self.word(head).fetch_sub(held, Ordering::AcqRel) - held);
        if left.is_live_head() {
            return left;
        }
        self.change(head, left, left.freed());
        left.freed()
    }
}
