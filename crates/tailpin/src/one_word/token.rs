//! Tokens: what the raw interface is asked to do with a block it is told of.
//!
//! The handles can't name a block that is not theirs, so they use the unchecked forms. A token is a
//! number from anywhere: it may be of another block, of an earlier generation, of a wrong order, or
//! in use by another thread at this moment. So
//!
//! * a word is changed only from a state which the token describes, in the same compare-and-swap;
//! * where the block was split since, its pieces are looked at before the first one is changed. The
//!   head says how large the block was when its generation began, and every other piece that a
//!   split made it. A frame that was handed out as a block of its own since is no piece, and where
//!   such a block was split in turn, its head is none;
//! * a split is done and helped under a pin on the head, in place of the reference that the caller
//!   is believed to have. As long as the first frame is in use, no other block of that order begins
//!   there and no tail becomes implicit, so a helper that comes late finds each tail changed;
//! * a merge first sets all its blocks apart, so that no reference to them comes or goes.

use super::merge::Whole;
use super::{OneWord, Safeguard, Safeguards, misuse};
use crate::atomic::AtomicWord;
use crate::error::{GetError, MergeError, SplitError, TokenError};
use crate::frame::{FrameRange, Order, Pfn};
use crate::page_state::PageState;
use crate::page_word::PageWord;
use crate::protocol::{BlockRefs, Checked, FrameWords, FreeSink, RawBlock};
use crate::report::Cause;

impl<W: AtomicWord, S: Safeguards<Safeguard>> Checked for OneWord<'_, W, S> {
    // As long as a larger block around the frame is being split, its helpers rewrite tails of the
    // pieces that there are already: the hold of one with pins may not have come to its piece yet.
    // So no piece may be split or given back before.
    fn settled_block(&self, frame: Pfn, sink: &impl FreeSink) -> Option<(Pfn, PageState)> {
        loop {
            let own = self.load(frame);
            if !S::keeps(Safeguard::W21) && own.is_live_head() {
                return Some((frame, own.decode()));
            }
            // Only a piece lies in a block that is being split.
            if own.is_settled_head() && own.is_live_head() && !own.is_piece() {
                return Some((frame, own.decode()));
            }
            let (head, seen) = self.largest_around(frame)?;
            // A block without references splits itself, and no other thread helps.
            if !seen.is_splitting() || seen.refs() == 0 || !S::keeps(Safeguard::W21) {
                return Some((head, seen.decode()));
            }
            self.help_pinned(head, seen, sink);
        }
    }

    #[inline]
    fn is_lone_page(&self, frame: Pfn) -> bool {
        is_lone_page(self.load(frame))
    }

    #[inline]
    fn free_lone_page(&self, frame: Pfn, sink: &impl FreeSink) -> bool {
        let seen = self.load(frame);
        is_lone_page(seen) && self.drop_refs_from(frame, seen, 1, sink) == Some(true)
    }

    #[inline]
    fn raw_free(&self, token: RawBlock, sink: &impl FreeSink) -> Result<(), Cause> {
        let (head, order) = (token.pfn(), token.order());
        let word = self.word(head);
        let seen = Self::load_at(word);
        // By far the most frequent token is a page's, and right. What is freed in one step is a
        // settled head of just this order with one reference: generation apart, all that is to be
        // checked.
        if seen.generation() == token.generation() {
            if order == Order::PAGE || order == Order::HUGE {
                if Self::free_uncoalesced_at(word, seen, order, sink) {
                    sink.freed_uncoalesced(head, order);
                    return Ok(());
                }
            } else if order < Order::HUGE
                && Self::free_parked_at(word, seen, head, order, sink, || {
                    let _ = self.free_checked(token, sink);
                })
            {
                return Ok(());
            }
        }
        self.free_checked(token, sink)
    }

    fn raw_get_block(
        &self,
        token: RawBlock,
        n: u64,
        sink: &impl FreeSink,
    ) -> Result<(), TokenError<GetError>> {
        self.survey_pieces(token, |_| Ok(()), sink).map_err(misuse)?;
        let mut at = token.pfn();
        while token.frames().contains(at) {
            match self.get_on(token, at, n, sink) {
                Ok(order) => at = at.offset(order.frames()),
                Err(error) => {
                    self.put_pieces(FrameRange { start: token.pfn(), end: at }, n, sink);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn raw_put_block(&self, token: RawBlock, n: u64, sink: &impl FreeSink) -> Result<(), (Pfn, Cause)> {
        let enough = |seen: PageWord| if seen.refs() < n { Err(Cause::TooFewReferences) } else { Ok(()) };
        self.survey_pieces(token, enough, sink)?;
        let mut at = token.pfn();
        while token.frames().contains(at) {
            let order = self.put_on(token, at, n, |_| Ok(()), sink).map_err(|cause| (at, cause))?;
            at = at.offset(order.frames());
        }
        Ok(())
    }

    fn raw_adopt(&self, token: RawBlock, sink: &impl FreeSink) -> Result<(), Cause> {
        loop {
            let seen = self.settled(token, token.pfn(), sink)?;
            only_reference(token, seen)?;
            if self.change(token.pfn(), seen, seen.adopted()) {
                return Ok(());
            }
        }
    }

    fn raw_split(
        &self,
        token: RawBlock,
        target: Order,
        sink: &impl FreeSink,
    ) -> Result<(), TokenError<SplitError>> {
        self.survey_pieces(token, |_| Ok(()), sink).map_err(misuse)?;
        let mut at = token.pfn();
        while token.frames().contains(at) {
            at = at.offset(self.split_on(token, at, target, sink)?.frames());
        }
        Ok(())
    }

    #[expect(clippy::arithmetic_side_effects, reason = "the order is above `target`")]
    fn raw_split_around(
        &self,
        token: RawBlock,
        page: Pfn,
        target: Order,
        sink: &impl FreeSink,
    ) -> Result<(), TokenError<SplitError>> {
        self.survey(token, |_| Ok(()), sink).map_err(misuse)?;
        if !token.frames().contains(page) {
            return Err(TokenError::Refused(SplitError::OutOfRange));
        }
        loop {
            let piece = self.piece_around(token.frames(), page);
            let (head, word) = piece.ok_or(misuse((page, Cause::WrongOrder { claimed: token.order() })))?;
            if word.order() <= target {
                return Ok(());
            }
            self.split_on(token, head, Order::wrap(word.order().get() - 1), sink)?;
        }
    }

    fn raw_merge(
        &self,
        tokens: impl Iterator<Item = RawBlock> + Clone,
        sink: &impl FreeSink,
    ) -> Result<RawBlock, TokenError<MergeError>> {
        let range = FrameRange::of_row(tokens.clone().map(RawBlock::frames));
        let row = range.and_then(|range| Some((range.start, range.as_order()?)));
        let (head, order) = row.ok_or(TokenError::Refused(MergeError::NotABlock))?;
        if let Some(token) = tokens.clone().next().filter(|token| token.order() == order) {
            return self.lone(token, sink).map(|()| token); // There is nothing to merge.
        }
        let mut unpinned = true;
        let mut apart = FrameRange { start: head, end: head };
        for token in tokens {
            if let Err(error) = self.set_apart(token, &mut apart, &mut unpinned, sink) {
                self.set_together(apart);
                return Err(error);
            }
        }
        let whole = Whole { head, order };
        self.join_pageblocks(whole, unpinned, sink)
            .and_then(|()| self.join(whole, unpinned, true, sink))
            .map_err(TokenError::Refused)?;
        Ok(RawBlock::from_parts(head, order, self.load(head).generation()))
    }

    fn raw_put(&self, page: Pfn, sink: &impl FreeSink) -> Result<(), Cause> {
        misuse::raw_put(self, page, sink)
    }

    fn mark_hwpoison(&self, frame: Pfn, sink: &impl FreeSink) -> bool {
        misuse::mark_hwpoison(self, frame, sink)
    }
}

impl<W: AtomicWord, S: Safeguards<Safeguard>> OneWord<'_, W, S> {
    /// What keeps `seen`, the word of `at`, from being that of a piece of the token's block with a
    /// reference.
    fn fault(&self, token: RawBlock, at: Pfn, seen: PageWord) -> Result<(), Cause> {
        let wrong_order = Err(Cause::WrongOrder { claimed: token.order() });
        if seen.is_tail() {
            return Err(match self.head_of(at) {
                Some((head, order)) => Cause::InsideBlock { head, order },
                None => Cause::FrameIsFree,
            });
        }
        if !seen.is_live_head() {
            return Err(Cause::FrameIsFree);
        }
        if at == token.pfn() && seen.generation() != token.generation() {
            return Err(Cause::StaleToken { claimed: token.generation() });
        }
        let of_it = if at == token.pfn() {
            at.is_aligned(token.order()) && seen.was_of(token.order())
        } else {
            seen.is_piece()
                && at.is_aligned(seen.order())
                && FrameRange::block(at, seen.order()).end <= token.frames().end
        };
        if !of_it {
            wrong_order
        } else if seen.is_merging() {
            Err(Cause::BeingMerged)
        } else if seen.refs() == 0 {
            Err(Cause::TooFewReferences)
        } else {
            Ok(())
        }
    }

    /// The word of the piece at `at` once no split is under way there.
    fn settled(&self, token: RawBlock, at: Pfn, sink: &impl FreeSink) -> Result<PageWord, Cause> {
        loop {
            let seen = self.load(at);
            self.fault(token, at, seen)?;
            if !seen.is_splitting() {
                return Ok(seen);
            }
            self.help_pinned(at, seen, sink);
        }
    }

    /// Helps with the split that `seen` says is under way at `at`, unless the word has changed.
    #[expect(clippy::arithmetic_side_effects, reason = "there is room for every hold")]
    fn help_pinned(&self, at: Pfn, seen: PageWord, sink: &impl FreeSink) {
        // A pin that is never refused, like a hold: it is gone when this returns.
        let pinned = PageWord(seen.0 + 1);
        if self.change(at, seen, pinned) {
            self.help_split(at, pinned, sink);
            self.unpin(at, sink);
        }
    }

    /// The largest live block that `frame` is in.
    fn largest_around(&self, frame: Pfn) -> Option<(Pfn, PageWord)> {
        let mut last = None;
        let heads = Order::all().rev().map(|order| frame.head(order));
        let mut heads = heads.filter(|head| self.covers(*head) && last.replace(*head) != Some(*head));
        heads.find_map(|head| self.head_at(head, frame))
    }

    /// Looks at each piece of a block that may have been split since.
    fn survey(
        &self,
        token: RawBlock,
        check: impl Fn(PageWord) -> Result<(), Cause>,
        sink: &impl FreeSink,
    ) -> Result<(), (Pfn, Cause)> {
        let mut at = token.pfn();
        while token.frames().contains(at) {
            let seen = self.settled(token, at, sink).map_err(|cause| (at, cause))?;
            check(seen).map_err(|cause| (at, cause))?;
            at = at.offset(seen.order().frames());
        }
        Ok(())
    }

    /// Looks at each piece of a block that is no longer whole; if it is whole, the step that
    /// changes it is enough.
    fn survey_pieces(
        &self,
        token: RawBlock,
        check: impl Fn(PageWord) -> Result<(), Cause>,
        sink: &impl FreeSink,
    ) -> Result<(), (Pfn, Cause)> {
        let whole = self.load(token.pfn()).is_settled_head_of(token.order());
        if whole { Ok(()) } else { self.survey(token, check, sink) }
    }

    fn get_on(
        &self,
        token: RawBlock,
        at: Pfn,
        n: u64,
        sink: &impl FreeSink,
    ) -> Result<Order, TokenError<GetError>> {
        loop {
            let seen = self.settled(token, at, sink).map_err(|cause| misuse((at, cause)))?;
            let more = seen.add_refs(n).ok_or(TokenError::Refused(GetError::CountLimit))?;
            if self.change(at, seen, more) {
                return Ok(seen.order());
            }
        }
    }

    /// `n` references less on the piece at `at`, if `check` agrees with its state.
    fn put_on(
        &self,
        token: RawBlock,
        at: Pfn,
        n: u64,
        check: impl Fn(PageWord) -> Result<(), Cause>,
        sink: &impl FreeSink,
    ) -> Result<Order, Cause> {
        loop {
            let seen = self.settled(token, at, sink)?;
            check(seen)?;
            if self.drop_refs_from(at, seen, n, sink).ok_or(Cause::TooFewReferences)? {
                return Ok(seen.order());
            }
        }
    }

    /// [`OneWord::free_token`] of what is not freed in one step, or is wrong.
    #[inline(never)]
    fn free_checked(&self, token: RawBlock, sink: &impl FreeSink) -> Result<(), Cause> {
        self.put_on(token, token.pfn(), 1, |seen| only_reference(token, seen), sink).map(|_| ())
    }

    /// Splits the piece at `at` until it is no larger than `target`; returns the order of what is
    /// known to be done.
    #[expect(clippy::arithmetic_side_effects, reason = "there is room for every hold")]
    fn split_on(
        &self,
        token: RawBlock,
        at: Pfn,
        target: Order,
        sink: &impl FreeSink,
    ) -> Result<Order, TokenError<SplitError>> {
        loop {
            let seen = self.settled(token, at, sink).map_err(|cause| misuse((at, cause)))?;
            if seen.order() <= target {
                return Ok(seen.order());
            }
            if seen.is_unsplittable() {
                return Err(TokenError::Refused(SplitError::Unsplittable { head: at }));
            }
            let step = target.max(seen.smallest_pieces());
            // The pin stands for the reference, which another thread may give back during the
            // split.
            let frozen = PageWord(seen.0 + 1).begin_split(step);
            if self.change(at, seen, frozen) {
                self.help_split(at, frozen, sink);
                self.unpin(at, sink);
                if step == target {
                    return Ok(seen.order());
                }
            }
        }
    }

    /// Sets one block apart, smaller ones than 2 MiB as pages, so that no implicit tail can be
    /// pinned under it.
    fn set_apart(
        &self,
        token: RawBlock,
        apart: &mut FrameRange,
        unpinned: &mut bool,
        sink: &impl FreeSink,
    ) -> Result<(), TokenError<MergeError>> {
        let head = token.pfn();
        self.lone(token, sink)?;
        if Order::PAGE < token.order() && token.order() < Order::HUGE {
            self.split_on(token, head, Order::PAGE, sink).map_err(|error| match error {
                TokenError::Misuse { frame, cause } => misuse((frame, cause)),
                TokenError::Refused(_) => TokenError::Refused(MergeError::NotABlock),
            })?;
        }
        while token.frames().contains(apart.end) {
            let at = apart.end;
            let seen = self.settled(token, at, sink).map_err(|cause| misuse((at, cause)))?;
            if !seen.is_mergeable() {
                return Err(TokenError::Refused(MergeError::Shared { head: at }));
            }
            if self.change(at, seen, seen.set_apart()) {
                *unpinned &= seen.pins() == 0;
                apart.end = at.offset(seen.order().frames());
            }
        }
        Ok(())
    }

    /// Whether the token is the only reference to one block that can be merged.
    fn lone(&self, token: RawBlock, sink: &impl FreeSink) -> Result<(), TokenError<MergeError>> {
        let head = token.pfn();
        let seen = self.settled(token, head, sink).map_err(|cause| misuse((head, cause)))?;
        if seen.order() != token.order() {
            Err(misuse((head, Cause::WrongOrder { claimed: token.order() })))
        } else if seen.is_unsplittable() {
            Err(TokenError::Refused(MergeError::Unsplittable { head }))
        } else if seen.refs() > 1 {
            Err(TokenError::Refused(MergeError::Shared { head }))
        } else {
            Ok(())
        }
    }
}

/// A page with one reference and nothing else, that no split made.
#[inline]
fn is_lone_page(seen: PageWord) -> bool {
    seen.is_plain_page() && !seen.is_piece()
}

/// Whether the token is the only reference to a block of just its order.
fn only_reference(token: RawBlock, seen: PageWord) -> Result<(), Cause> {
    if seen.order() != token.order() {
        Err(Cause::WrongOrder { claimed: token.order() })
    } else if seen.refs() > 1 {
        Err(Cause::StillReferenced)
    } else {
        Ok(())
    }
}

fn misuse<E>((frame, cause): (Pfn, Cause)) -> TokenError<E> {
    TokenError::Misuse { frame, cause }
}
