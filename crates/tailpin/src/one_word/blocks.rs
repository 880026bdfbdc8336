//! References to whole blocks: more of them, fewer of them, and what the last one sets off.

use super::{OneWord, Steps};
use crate::atomic::AtomicWord;
use crate::error::GetError;
use crate::frame::{FrameRange, Order, Pfn};
use crate::page_word::PageWord;
use crate::protocol::Owner;
use crate::report::{Cause, Misuse, Operation};

impl<W: AtomicWord, S: Steps> OneWord<'_, W, S> {
    /// `n` more references on each piece of `range`. Where a later piece refuses, the earlier ones are undone.
    #[inline]
    pub(super) fn get_refs(&self, range: FrameRange, n: u64, owner: &impl Owner) -> Result<(), GetError> {
        if let Some(seen) = self.load_whole(range)
            && seen.refs() > 0
            && let Some(new) = seen.add_refs(n)
            && self.change(range.start, seen, new)
        {
            return Ok(());
        }
        self.get_refs_on_each(range, n, owner)
    }

    /// The head's word, if the block is still all of `range` and nothing is happening to it: then that word is all
    /// there is to change.
    #[inline]
    fn load_whole(&self, range: FrameRange) -> Option<PageWord> {
        if range.frames() == 0 {
            return None;
        }
        let seen = self.load(range.start);
        (seen.is_settled_head() && seen.order().frames() == range.frames()).then_some(seen)
    }

    #[cold]
    fn get_refs_on_each(&self, range: FrameRange, n: u64, owner: &impl Owner) -> Result<(), GetError> {
        let mut at = range.start;
        while range.contains(at) {
            match self.get_refs_on(at, n, owner) {
                Ok(order) => at = at.offset(order.frames()),
                Err(error) => {
                    self.put_refs_on_each(FrameRange { start: range.start, end: at }, n, owner);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn get_refs_on(&self, at: Pfn, n: u64, owner: &impl Owner) -> Result<Order, GetError> {
        loop {
            let seen = self.load(at);
            if S::are_refs_frozen(seen.is_splitting()) {
                self.help_split(at, seen, owner);
            } else if !seen.is_head() || seen.is_merging() || seen.refs() == 0 {
                return Err(GetError::NotInUse);
            } else if self.change(at, seen, seen.add_refs(n).ok_or(GetError::CountLimit)?) {
                return Ok(seen.order());
            }
        }
    }

    /// One more reference on the block of exactly `order` at `head`, for one who has none: only on a settled block that
    /// somebody has a reference to.
    #[inline]
    pub(crate) fn get_block_found(&self, head: Pfn, order: Order) -> Result<(), GetError> {
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

    /// `n` references less on each piece of `range`.
    #[inline]
    pub(super) fn put_refs(&self, range: FrameRange, n: u64, owner: &impl Owner) {
        if let Some(seen) = self.load_whole(range)
            && let Some(new) = seen.drop_refs(n)
        {
            if new.refs() > 0 {
                if self.change(range.start, seen, new) {
                    return;
                }
            } else if let Some(freed) = new.frees_at_once()
                && self.change(range.start, seen, freed)
            {
                return owner.freed_block(range.start, seen.order());
            }
        }
        self.put_refs_on_each(range, n, owner);
    }

    #[cold]
    fn put_refs_on_each(&self, range: FrameRange, n: u64, owner: &impl Owner) {
        let mut at = range.start;
        while range.contains(at) {
            let order = match self.put_refs_on(at, n, |_| Ok(()), owner) {
                Ok(order) => order,
                Err((seen, cause)) => {
                    let state = seen.decode();
                    owner.misuse(Misuse { frame: at, state, operation: Operation::PutBlock, cause });
                    if seen.is_head() { seen.order() } else { Order::PAGE }
                }
            };
            at = at.offset(order.frames());
        }
    }

    /// `n` references less on the piece at `at`, whose order is returned, if `check` agrees with its state.
    pub(super) fn put_refs_on(
        &self,
        at: Pfn,
        n: u64,
        check: impl Fn(PageWord) -> Result<(), Cause>,
        owner: &impl Owner,
    ) -> Result<Order, (PageWord, Cause)> {
        loop {
            let seen = self.load(at);
            if S::are_refs_frozen(seen.is_splitting()) {
                self.help_split(at, seen, owner);
                continue;
            }
            if !seen.is_head() || seen.is_merging() {
                return Err((seen, Cause::FrameIsFree));
            }
            check(seen).map_err(|cause| (seen, cause))?;
            let order = seen.order();
            let Some(new) = seen.drop_refs(n) else { return Err((seen, Cause::TooFewReferences)) };
            let live = new.is_live_head();
            if live && new.refs() == 0 && order > Order::PAGE && !new.is_unsplittable() {
                if self.self_split(at, seen, new, owner) {
                    return Ok(order);
                }
                continue;
            }
            let freed = new.frees_at_once();
            if self.change(at, seen, freed.unwrap_or(new)) {
                match freed {
                    Some(_) => owner.freed_block(at, order),
                    None if live => {}
                    None => self.free_block(at, new, owner),
                }
                return Ok(order);
            }
        }
    }
}
