//! References to whole blocks: more of them, fewer of them, and what the last one sets off.

use core::cell::Cell;

use super::{OneWord, Safeguard, Safeguards};
use crate::atomic::AtomicWord;
use crate::error::GetError;
use crate::finally::{Finally, to_the_end};
use crate::frame::{FrameRange, Order, Pfn};
use crate::frame_mask::RowMask;
use crate::page_word::{ONE_REF, PageWord};
use crate::protocol::{BlockRefs, FreeSink};
use crate::report::{Cause, Misuse, Operation};

impl<W: AtomicWord, S: Safeguards<Safeguard>> BlockRefs for OneWord<'_, W, S> {
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "there is room for one more")]
    fn get_block(&self, head: Pfn, order: Order, sink: &impl FreeSink) -> Result<(), GetError> {
        let word = self.word(head);
        let seen = Self::load_at(word);
        // While the block is whole and nothing happens to it, its head's word is all there is to
        // change.
        if seen.is_settled_head_of(order)
            && seen.has_room_for_refs(1)
            && Self::change_at(word, seen, PageWord(seen.0 + ONE_REF))
        {
            return Ok(());
        }
        self.get_pieces(FrameRange::block(head, order), 1, sink)
    }

    /// `n` more references on each piece of `range`. Where a later piece refuses, the earlier ones
    /// are undone.
    #[inline(never)]
    fn get_pieces(&self, range: FrameRange, n: u64, sink: &impl FreeSink) -> Result<(), GetError> {
        let mut at = range.start;
        while range.contains(at) {
            match self.get_refs_on(at, n, sink) {
                Ok(order) => at = at.offset(order.frames()),
                Err(error) => {
                    self.put_pieces(FrameRange { start: range.start, end: at }, n, sink);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    #[inline(always)] // Where a page is freed in its caller, this is most of it.
    fn free_page_step(&self, page: Pfn) -> Option<PageWord> {
        let word = self.word(page);
        Self::free_page_in(word, Self::load_at(word))
    }

    #[inline]
    fn put_block(&self, head: Pfn, order: Order, sink: &impl FreeSink) {
        let word = self.word(head);
        let seen = Self::load_at(word);
        // The last reference to a page, by far the most frequent case, has a short straight line.
        if order == Order::PAGE
            && sink.takes_uncoalesced()
            && let Some(left) = Self::free_page_in(word, seen)
        {
            return sink.freed_page(head, left);
        }
        if !Self::drops_one_of_more(word, seen, order) {
            self.put_last_ref(word, seen, head, order, sink);
        }
    }

    #[inline(never)]
    #[expect(clippy::arithmetic_side_effects, reason = "not beyond the pages' number")]
    fn put_pages(&self, pages: &[Pfn], sink: &impl FreeSink) {
        let next = Cell::new(0);
        to_the_end(|| {
            while let Some(row) = pages.get(next.get()).map(|page| page.head(Order::ROW)) {
                // The sink hears of the pages of a row together, after the steps on their words.
                let (mut at, mut freed, mut other) = (next.get(), RowMask::new(row, 0), None);
                while let Some(&page) = pages.get(at).filter(|page| page.head(Order::ROW) == row) {
                    at += 1;
                    let word = self.word(page);
                    let seen = Self::load_at(word);
                    if Self::free_uncoalesced_at(word, seen, Order::PAGE, sink) {
                        freed = freed.with(page);
                    } else if !Self::drops_one_of_more(word, seen, Order::PAGE) {
                        other = Some(page);
                        break;
                    }
                }
                next.set(at);
                // The sink's code may panic.
                let _then = Finally(|| {
                    if let Some(page) = other.take() {
                        self.put_block(page, Order::PAGE, sink);
                    }
                });
                if !freed.is_empty() {
                    sink.freed_pages(freed);
                }
            }
        });
    }

    #[inline(never)]
    fn put_pieces(&self, range: FrameRange, n: u64, sink: &impl FreeSink) {
        let next = Cell::new(range.start);
        let rest = || {
            while range.contains(next.get()) {
                let at = next.get();
                // Before the step on the piece, as what follows that one may panic: hooks hear of
                // what is freed.
                let on_it = |seen: PageWord| next.set(at.offset(seen.order().frames()));
                if let Err((seen, cause)) = self.put_refs_on(at, n, on_it, sink) {
                    let (state, head) = (seen.decode(), seen.is_head());
                    next.set(at.offset(if head { state.order.frames() } else { 1 }));
                    sink.misuse(&Misuse { frame: at, state, operation: Operation::PutBlock, cause });
                }
            }
        };
        to_the_end(rest);
    }
}

impl<W: AtomicWord, S: Safeguards<Safeguard>> OneWord<'_, W, S> {
    /// The step by which the last reference to a page goes and the page becomes uncoalesced: what
    /// it left in the page's word.
    #[inline(always)]
    fn free_page_in(word: &W, seen: PageWord) -> Option<PageWord> {
        seen.frees_uncoalesced(Order::PAGE).filter(|left| Self::free_at(word, seen, *left))
    }

    /// One reference less on a whole block that has more; false if that is not all there is to do.
    #[inline(always)]
    #[expect(clippy::arithmetic_side_effects, reason = "there is one, and more")]
    fn drops_one_of_more(word: &W, seen: PageWord, order: Order) -> bool {
        seen.is_settled_head_of(order)
            && seen.has_more_refs_than(1)
            && Self::change_at(word, seen, PageWord(seen.0 - ONE_REF))
    }

    fn get_refs_on(&self, at: Pfn, n: u64, sink: &impl FreeSink) -> Result<Order, GetError> {
        loop {
            let seen = self.load(at);
            if S::keeps(Safeguard::W5) && seen.is_splitting() {
                self.help_split(at, seen, sink);
            } else if !seen.is_head() || seen.is_merging() || seen.refs() == 0 {
                return Err(GetError::NotInUse);
            } else if self.change(at, seen, seen.add_refs(n).ok_or(GetError::CountLimit)?) {
                return Ok(seen.order());
            }
        }
    }

    /// One more reference on the block of exactly `order` at `head`, for a caller that has none:
    /// only on a settled block that has a reference already. What
    /// [`Zone::try_block`](crate::Zone::try_block) does, on words alone.
    ///
    /// # Errors
    /// [`GetError::NotInUse`] if no such block is in use there or something is happening to it;
    /// [`GetError::CountLimit`].
    ///
    /// # Panics
    /// If there is no word for the frame.
    #[inline]
    pub fn get_block_found(&self, head: Pfn, order: Order) -> Result<(), GetError> {
        loop {
            let seen = self.load(head);
            if !seen.is_settled_head() || seen.order() != order || seen.refs() == 0 {
                return Err(GetError::NotInUse);
            }
            if self.change(head, seen, seen.add_refs(1).ok_or(GetError::CountLimit)?) {
                return Ok(());
            }
        }
    }

    /// One reference less where it is the last one, or where the block is no longer whole: each
    /// kind of block in a function of its own, which saves no registers for the others.
    #[inline(never)]
    fn put_last_ref(&self, word: &W, seen: PageWord, head: Pfn, order: Order, sink: &impl FreeSink) {
        match order {
            Order::HUGE => self.put_last_of_pageblock(word, seen, head, sink),
            _ if Order::PAGE < order && order < Order::HUGE => {
                self.put_last_of_parked(word, seen, head, order, sink);
            }
            _ => self.put_last_of_any(word, seen, head, order, sink),
        }
    }

    #[inline(never)]
    fn put_last_of_pageblock(&self, word: &W, seen: PageWord, head: Pfn, sink: &impl FreeSink) {
        if Self::free_uncoalesced_at(word, seen, Order::HUGE, sink) {
            return sink.freed_uncoalesced(head, Order::HUGE);
        }
        self.put_last_of_any(word, seen, head, Order::HUGE, sink);
    }

    #[inline(never)]
    fn put_last_of_parked(&self, word: &W, seen: PageWord, head: Pfn, order: Order, sink: &impl FreeSink) {
        let otherwise = move || self.put_pieces(FrameRange::block(head, order), 1, sink);
        if !Self::free_parked_at(word, seen, head, order, sink, otherwise) {
            self.put_last_of_any(word, seen, head, order, sink);
        }
    }

    #[inline(never)]
    #[expect(clippy::arithmetic_side_effects, reason = "there is one")]
    fn put_last_of_any(&self, word: &W, seen: PageWord, head: Pfn, order: Order, sink: &impl FreeSink) {
        if seen.is_settled_head_of(order)
            && seen.refs() == 1
            && let Some(freed) = PageWord(seen.0 - ONE_REF).frees_at_once()
            && Self::free_at_once(word, seen, freed, head, order, sink)
        {
            return;
        }
        self.put_pieces(FrameRange::block(head, order), 1, sink);
    }

    /// The last reference to a block of order 1 to 8 goes, and it is parked; false if that is not
    /// all there is to do. `otherwise` frees the block where the sink panics.
    #[inline]
    pub(super) fn free_parked_at(
        word: &W,
        seen: PageWord,
        head: Pfn,
        order: Order,
        sink: &impl FreeSink,
        otherwise: impl FnMut(),
    ) -> bool {
        let Some(uncoalesced) = seen.frees_uncoalesced(order) else { return false };
        // Where the block is parked the caller's code has a say in, which may panic.
        let unwinds = Finally(otherwise);
        let place = sink.park(head, order);
        core::mem::forget(unwinds);
        place.is_some_and(|place| {
            let freed = Self::free_at(word, seen, uncoalesced);
            sink.parked(head, order, place, freed);
            freed
        })
    }

    /// `n` references less on the piece at `at`, whose order is returned. `on_it` hears of its word
    /// before each attempt.
    fn put_refs_on(
        &self,
        at: Pfn,
        n: u64,
        on_it: impl Fn(PageWord),
        sink: &impl FreeSink,
    ) -> Result<Order, (PageWord, Cause)> {
        loop {
            let seen = self.load(at);
            on_it(seen);
            // Most pieces are pages, of which this is the last reference: a short straight line.
            if n == 1 && Self::free_uncoalesced_at(self.word(at), seen, Order::PAGE, sink) {
                sink.freed_uncoalesced(at, Order::PAGE);
                return Ok(Order::PAGE);
            }
            if S::keeps(Safeguard::W5) && seen.is_splitting() {
                self.help_split(at, seen, sink);
            } else if !seen.is_head() || seen.is_merging() {
                return Err((seen, Cause::FrameIsFree));
            } else if self.drop_refs_from(at, seen, n, sink).ok_or((seen, Cause::TooFewReferences))? {
                return Ok(seen.order());
            }
        }
    }

    /// One attempt to take `n` references from the head `seen` at `at`, and what is to be done if
    /// they are the last. `None`: it has fewer. False: it has changed.
    #[inline(always)] // In a loop over all pages of a block.
    pub(super) fn drop_refs_from(
        &self,
        at: Pfn,
        seen: PageWord,
        n: u64,
        sink: &impl FreeSink,
    ) -> Option<bool> {
        let (order, new) = (seen.order(), seen.drop_refs(n)?);
        let live = new.is_live_head();
        if live && new.refs() == 0 && order > Order::PAGE && !new.is_unsplittable() {
            return Some(self.self_split(at, seen, new, sink));
        }
        if let Some(freed) = new.frees_at_once() {
            return Some(Self::free_at_once(self.word(at), seen, freed, at, order, sink));
        }
        let done = self.change(at, seen, new);
        if done && !live {
            self.free_block(at, new, sink);
        }
        Some(done)
    }
}
