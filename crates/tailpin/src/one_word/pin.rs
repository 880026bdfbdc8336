//! Pins: taking one by frame number, taking one more, giving one back.

use core::sync::atomic::Ordering;

use super::{OneWord, Safeguard, Safeguards};
use crate::atomic::AtomicWord;
use crate::error::GetError;
use crate::frame::{Order, Pfn};
use crate::page_word::{PIN_LIMIT, PageWord};
use crate::protocol::{CountedPin, FreeSink, PagePin, Pins};
use crate::report::{Cause, Misuse, Operation};

/// A count taken on a word: where, and on what kind of block.
#[derive(Clone, Copy)]
pub(super) struct WordPin {
    at: Pfn,
    /// Order that a tail of this head names.
    order: Order,
    /// The block's tails are not counted: the count stays here.
    uncounted_tails: bool,
}

impl WordPin {
    /// The frame in whose word it is.
    pub(super) fn at(self) -> Pfn {
        self.at
    }

    /// On a tail's own word. If others count on it in turn, it is a 2 MiB part, and they name that
    /// order.
    fn on_tail(at: Pfn) -> Self {
        Self { at, order: Order::HUGE, uncounted_tails: false }
    }
}

/// Whose count is being taken.
#[derive(Clone, Copy)]
enum For {
    /// A caller's pin: refused at the limit.
    Caller,
    /// A tail's hold on the head of a block of this order: never refused.
    Tail(Order),
}

impl For {
    fn is_hold(self) -> bool {
        matches!(self, Self::Tail(_))
    }

    /// One more on `word`, if it may be.
    fn added_to(self, word: PageWord) -> Option<PageWord> {
        if self.is_hold() { Some(word.hold(1)) } else { word.pin(1) }
    }

    /// The first on `word`, which has none: there is room for it.
    #[expect(clippy::arithmetic_side_effects, reason = "there is no pin yet")]
    fn first_on(self, word: PageWord) -> PageWord {
        if self.is_hold() { word.hold(1) } else { PageWord(word.0 + 1) }
    }

    /// Whether `head` is the head this count is for. A tail knows the exact order, with three
    /// liberties: the first 2 MiB part of a larger block has that block's head for its own, a split
    /// under way also heads what will be its first piece, and a merge under way heads all it is
    /// going to.
    fn fits(self, head: PageWord) -> bool {
        let Self::Tail(order) = self else { return true };
        head.order() == order
            || head.is_splitting() && head.target() == order
            || head.order() > order && (order == Order::HUGE || head.is_merging())
    }

    /// Whether `part`, the 2 MiB part of a larger block, is the head that this count is for.
    fn fits_part(self, part: PageWord) -> bool {
        match self {
            Self::Caller => true,
            Self::Tail(order) => order == Order::HUGE && part.order() > Order::HUGE,
        }
    }

    /// The order that the tail names with its first pin: the one it knew its head by, or of the
    /// merge that has come over it.
    fn records(self, head: PageWord) -> Order {
        match self {
            Self::Tail(order) if order == Order::HUGE || !head.is_merging() => order,
            _ => head.order(),
        }
    }
}

impl<W: AtomicWord, S: Safeguards<Safeguard>> Pins for OneWord<'_, W, S> {
    /// `get_page_unless_zero` for any page: one look and one compare-and-swap where the page's own
    /// word is live.
    #[inline]
    fn try_get(&self, page: Pfn, sink: &impl FreeSink) -> Result<CountedPin<'_, W>, GetError> {
        let word = self.word(page);
        let seen = Self::load_at(word);
        if seen.is_pinnable_alone()
            && let Some(new) = seen.pin(1)
            && Self::change_at(word, seen, new)
        {
            return Ok(CountedPin::counted_in(word, PagePin { page, counted_at: page }));
        }
        let pin = self.pin_under_head(page, seen, sink)?;
        Ok(CountedPin::counted_in(if pin.counted_at == page { word } else { self.word(pin.counted_at) }, pin))
    }

    /// One more pin on a word that carries one of the caller's; works whatever its kind has become
    /// since.
    #[inline]
    fn get(&self, pin: CountedPin<'_, W>, _sink: &impl FreeSink) -> Result<(), GetError> {
        let word = pin.word();
        // Relaxed: the caller's own pin already orders everything.
        let seen = PageWord(word.fetch_add(1, Ordering::Relaxed));
        if seen.pins() >= PIN_LIMIT {
            // Relaxed: nothing happened under the pin just taken.
            word.fetch_sub(1, Ordering::Relaxed);
            return Err(GetError::CountLimit);
        }
        Ok(())
    }

    #[inline]
    fn put(&self, pin: CountedPin<'_, W>, sink: &impl FreeSink) {
        self.unpin_in(pin.word(), pin.pin().counted_at, sink);
    }
}

/// What is left to be done after the step that gave back a pin: it was the last one, or was not
/// there. From [`OneWord::put_step`].
#[must_use = "the page stays in use until `OneWord::finish_put` has it"]
#[derive(Debug)]
pub struct LastPut {
    seen: PageWord,
}

impl<W: AtomicWord> OneWord<'_, W> {
    /// The one step of [`Pins::put`], on the pin's word alone; `None` if that is all. A caller that
    /// seldom has the last pin looks for what [`OneWord::finish_put`] needs only then.
    ///
    /// Progress: wait-free; one subtraction.
    #[inline(always)]
    pub fn put_step(pin: CountedPin<'_, W>) -> Option<LastPut> {
        let seen = Self::unpin_step(pin.word());
        (!Self::others_keep(seen)).then_some(LastPut { seen })
    }

    /// What is left of a [`Pins::put`] on the word of frame `counted_at`.
    ///
    /// Progress: lock-free; as [`Pins::put`] of the last pin.
    #[inline]
    pub fn finish_put(&self, counted_at: Pfn, last: LastPut, sink: &impl FreeSink) {
        self.last_unpin(counted_at, last.seen, sink);
    }
}

impl<W: AtomicWord, S: Safeguards<Safeguard>> OneWord<'_, W, S> {
    /// Pins a page whose own word is not live alone: one that was last `seen` as a tail without
    /// pins, or as anything else.
    #[inline(never)]
    fn pin_under_head(&self, page: Pfn, seen: PageWord, sink: &impl FreeSink) -> Result<PagePin, GetError> {
        let first = seen.is_tail() && seen.pins() == 0;
        let counted = if first { self.pin_first(page, seen, For::Caller, sink) } else { None };
        let counted = counted.unwrap_or_else(|| self.count_on(page, For::Caller, sink))?;
        Ok(PagePin { page, counted_at: counted.at })
    }

    /// A hold on the head of a block of exactly `order` at `head`, or on the 2 MiB part of a larger
    /// block.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "there is room for every hold")]
    pub(super) fn hold(&self, head: Pfn, order: Order, sink: &impl FreeSink) -> Result<WordPin, GetError> {
        let seen = self.load(head);
        if seen.is_head_to_hold_of(order) {
            let marks = S::keeps(Safeguard::W14);
            let held = if marks { seen.hold_settled() } else { PageWord(seen.0 + 1) };
            if self.change(head, seen, held) {
                return Ok(WordPin { at: head, order, uncounted_tails: false });
            }
        }
        self.count_on(head, For::Tail(order), sink)
    }

    /// Adds one to the pins of `at`, if it is live and (for a tail) the head it is taken for.
    ///
    /// Each turn of the loop means that the word changed under us. At most two levels of recursion:
    /// tail, 2 MiB part, head of a larger block.
    #[expect(clippy::arithmetic_side_effects, reason = "there is room for every hold")]
    fn count_on(&self, at: Pfn, whose: For, sink: &impl FreeSink) -> Result<WordPin, GetError> {
        loop {
            let seen = self.load(at);
            if seen.is_head() {
                if !seen.is_live_head() || S::keeps(Safeguard::W2) && !whose.fits(seen) {
                    return Err(GetError::NotInUse);
                }
                let uncounted_tails = seen.is_unsplittable();
                let new = if whose.is_hold() && !uncounted_tails {
                    let marks = S::keeps(if seen.is_splitting() { Safeguard::W8 } else { Safeguard::W14 });
                    Some(if marks { seen.hold(1) } else { PageWord(seen.0 + 1) })
                } else {
                    seen.pin(1)
                };
                if self.change(at, seen, new.ok_or(GetError::CountLimit)?) {
                    return Ok(WordPin { at, order: whose.records(seen), uncounted_tails });
                }
                continue;
            }
            if !seen.is_tail() {
                return Err(GetError::NotInUse);
            }
            if S::keeps(Safeguard::W2) && !whose.fits_part(seen) {
                return Err(GetError::NotInUse);
            }
            if seen.pins() > 0 {
                let new = whose.added_to(seen).ok_or(GetError::CountLimit)?;
                if self.change(at, seen, new) {
                    return Ok(WordPin::on_tail(at));
                }
            } else if let Some(done) = self.pin_first(at, seen, whose, sink) {
                return done;
            }
        }
    }

    /// One attempt at the first pin or hold of the tail `seen` at `at`; `None` if it has to be
    /// looked at again.
    #[inline]
    fn pin_first(
        &self,
        at: Pfn,
        seen: PageWord,
        whose: For,
        sink: &impl FreeSink,
    ) -> Option<Result<WordPin, GetError>> {
        // H1: before a tail is touched, its head is held.
        match self.hold_head_of(at, seen, sink) {
            Ok(head) if head.uncounted_tails => Some(Ok(head)),
            Ok(head) => {
                let first = whose.first_on(seen.tail_of(head.order));
                if !S::keeps(Safeguard::W1) {
                    self.unpin(head.at, sink);
                }
                let pinned = self.change(at, seen, first);
                if !S::keeps(Safeguard::W1) {
                    let _ = self.hold_head_of(at, seen, sink);
                }
                if pinned || !S::keeps(Safeguard::W3) {
                    return Some(Ok(WordPin::on_tail(at)));
                }
                // "Is it still a tail": something happened to it, so look again.
                self.unpin(head.at, sink);
                None
            }
            Err(error) => self.is_still(at, seen).then_some(Err(error)),
        }
    }

    /// Whether a word is what it was when its head was looked for.
    fn is_still(&self, at: Pfn, seen: PageWord) -> bool {
        !S::keeps(Safeguard::W4) || self.load(at) == seen
    }

    /// A hold on the head of the unpinned tail `seen` at `tail`.
    #[inline]
    pub(super) fn hold_head_of(
        &self,
        tail: Pfn,
        seen: PageWord,
        sink: &impl FreeSink,
    ) -> Result<WordPin, GetError> {
        if !seen.is_implicit() {
            return self.hold(tail.head(seen.order()), seen.order(), sink);
        }
        while let Some((at, word)) = self.head_above_implicit(tail) {
            match self.hold(at, word.order().min(Order::HUGE), sink) {
                // The head has changed since it was found: search again. If not, the block is not
                // live.
                Err(GetError::NotInUse) if !self.is_still(at, word) => {}
                other => return other,
            }
        }
        Err(GetError::NotInUse)
    }

    /// The head of an implicit tail, or the 2 MiB part of a larger block that it is in. Not the
    /// frame itself, where it has become a head since: a hold would mark it as one with an explicit
    /// tail.
    fn head_above_implicit(&self, tail: Pfn) -> Option<(Pfn, PageWord)> {
        let pageblock = tail.head(Order::HUGE);
        let part = self.load(pageblock);
        if pageblock != tail && part.is_tail() && part.order() > Order::HUGE {
            return Some((pageblock, part));
        }
        self.covering_head(tail).filter(|(head, _)| *head != tail)
    }

    /// Gives back a pin or hold that is counted at `at`.
    #[inline]
    pub(super) fn unpin(&self, at: Pfn, sink: &impl FreeSink) {
        self.unpin_in(self.word(at), at, sink);
    }

    /// Gives back a pin or hold that is counted in `word`, which is that of `at`.
    #[inline]
    fn unpin_in(&self, word: &W, at: Pfn, sink: &impl FreeSink) {
        self.unpinned(at, Self::unpin_step(word), sink);
    }

    /// One pin or hold less in a word, which is returned as it was. Release: what was done under it
    /// is before whatever the last one does; Acquire: the last one sees all of that.
    #[inline(always)]
    fn unpin_step(word: &W) -> PageWord {
        PageWord(word.fetch_sub(1, Ordering::AcqRel))
    }

    /// Whether after a pin or hold that was counted in the word `seen` went, others keep the page.
    #[inline(always)]
    fn others_keep(seen: PageWord) -> bool {
        seen.pins() > 1 || seen.pins() == 1 && seen.is_settled_head() && seen.refs() > 0
    }

    /// What is to be done after a pin or hold that was counted in the word `seen` of `at` went.
    #[inline]
    pub(super) fn unpinned(&self, at: Pfn, seen: PageWord, sink: &impl FreeSink) {
        if !Self::others_keep(seen) {
            self.last_unpin(at, seen, sink);
        }
    }

    #[inline(never)]
    fn last_unpin(&self, at: Pfn, seen: PageWord, sink: &impl FreeSink) {
        if seen.pins() == 0 { self.repair_unpin(at, seen, sink) } else { self.last_pin_went(at, seen, sink) }
    }

    /// The pins of `at` went from 1 to 0, from `seen`.
    #[expect(clippy::arithmetic_side_effects, reason = "one pin is there")]
    pub(super) fn last_pin_went(&self, at: Pfn, seen: PageWord, sink: &impl FreeSink) {
        if seen.is_tail() {
            if S::keeps(Safeguard::W6) {
                self.unpin(at.head(seen.order()), sink);
            }
        } else if seen.is_settled_head() && seen.refs() == 0 {
            self.free_block(at, PageWord(seen.0 - 1), sink);
        }
    }

    #[cold]
    fn repair_unpin(&self, at: Pfn, seen: PageWord, sink: &impl FreeSink) {
        // Relaxed: undoes the borrow of a pin that was not there; no one was let in by it.
        self.word(at).fetch_add(1, Ordering::Relaxed);
        let cause = if seen.is_head() || seen.is_tail() { Cause::NotPinned } else { Cause::FrameIsFree };
        sink.misuse(&Misuse { frame: at, state: seen.decode(), operation: Operation::Put, cause });
    }
}
