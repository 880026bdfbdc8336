//! Pages taken of the budgets of an arena and of a tag, and not yet a buffer's.

use std::mem;
use std::time::Instant;

use tailpin::Finally;

use crate::arena::Arena;
use crate::budget::Budget;
use crate::budget::waiting::{Waiting, block_on};
use crate::error::AllocError;
use crate::handles::buffer::Buffer;
use crate::memory::{PAGE_SIZE, bytes_of};
use crate::page_notes::TagNumber;
use crate::thread_slot::ThreadSlot;

/// Pages of a buffer of `len` bytes.
#[inline]
pub(crate) fn buffer_pages(len: usize) -> Result<u64, AllocError> {
    Arena::order_for(len)?;
    Ok(pages_of(len).max(1))
}

/// Whole pages for so many bytes.
#[inline]
pub(crate) fn pages_of(bytes: usize) -> u64 {
    bytes.div_ceil(PAGE_SIZE) as u64
}

/// Pages taken of the budgets; dropped, they go back.
///
/// A request takes of its tag's budget first and then of the arena's. All requests do it in this
/// order, and what gives pages back takes none, so no two of them wait for each other.
pub(crate) struct Charge<'a> {
    arena: &'a Arena,
    tag: TagNumber,
    pages: u64,
    /// The tag's budget alone has been charged.
    of_tag_alone: bool,
}

impl<'a> Charge<'a> {
    /// Pages that are the caller's become a charge.
    #[inline]
    pub(crate) fn of(arena: &'a Arena, tag: TagNumber, pages: u64) -> Self {
        Self { arena, tag, pages, of_tag_alone: false }
    }

    fn check(arena: &Arena) -> Result<(), AllocError> {
        if arena.inner().is_child() { Err(AllocError::ForkedChild) } else { Ok(()) }
    }

    /// The tag's budget has been charged.
    fn tag_charged(arena: &'a Arena, tag: TagNumber, pages: u64) -> Self {
        Self { arena, tag, pages, of_tag_alone: true }
    }

    fn tag_budget(arena: &Arena, tag: TagNumber) -> Option<&Budget> {
        Some(&arena.inner().tags.get(tag)?.budget)
    }

    /// Takes the pages, if that is possible at once.
    #[inline]
    pub(crate) fn at_once(arena: &'a Arena, tag: TagNumber, pages: u64) -> Result<Self, AllocError> {
        let taken = Self::untagged(arena, tag, pages);
        taken.map_or_else(|| Self::counted(arena, Self::at_once_or_why(arena, tag, pages)), Ok)
    }

    /// Takes the pages of the arena's budget, where there is no tag's: the short way of most
    /// requests.
    #[inline(always)] // A charge that goes through memory costs more than all the rest.
    fn untagged(arena: &'a Arena, tag: TagNumber, pages: u64) -> Option<Self> {
        let inner = arena.inner();
        let taken = tag == TagNumber::NONE
            && !inner.is_child()
            && inner.budget.take(ThreadSlot::current(), pages).is_ok();
        taken.then(|| Self::of(arena, tag, pages))
    }

    /// What came of a request, counted if it was refused.
    #[inline(never)]
    fn counted(arena: &Arena, done: Result<Self, AllocError>) -> Result<Self, AllocError> {
        done.inspect_err(|why| arena.inner().events.refuse(why))
    }

    /// Takes the pages of the arena's budget and a tag's, with the reason if that is refused.
    #[inline(never)]
    fn at_once_or_why(arena: &'a Arena, tag: TagNumber, pages: u64) -> Result<Self, AllocError> {
        Self::check(arena)?;
        let slot = ThreadSlot::current();
        if let Some(budget) = Self::tag_budget(arena, tag) {
            budget.take(slot, pages).map_err(|_| over_limit(budget, pages, true))?;
        }
        let mut charge = Self::tag_charged(arena, tag, pages);
        let budget = &arena.inner().budget;
        budget.take(slot, pages).map_err(|_| over_limit(budget, pages, false))?;
        charge.of_tag_alone = false;
        Ok(charge)
    }

    /// Takes the pages once they are there.
    pub(crate) async fn wait(arena: &'a Arena, tag: TagNumber, pages: u64) -> Result<Self, AllocError> {
        Self::counted(arena, Self::wait_or_why(arena, tag, pages).await)
    }

    async fn wait_or_why(arena: &'a Arena, tag: TagNumber, pages: u64) -> Result<Self, AllocError> {
        Self::check(arena)?;
        if let Some(budget) = Self::tag_budget(arena, tag) {
            let taken = Waiting::new(budget, pages).await;
            taken.map_err(|_| over_limit(budget, pages, true))?;
        }
        let mut charge = Self::tag_charged(arena, tag, pages);
        let budget = &arena.inner().budget;
        let taken = Waiting::new(budget, pages).await;
        taken.map_err(|_| over_limit(budget, pages, false))?;
        charge.of_tag_alone = false;
        Ok(charge)
    }

    /// Takes the pages of the budgets, blocking the thread until they are there or the deadline is.
    #[inline]
    pub(crate) fn block(
        arena: &'a Arena,
        tag: TagNumber,
        pages: u64,
        deadline: Option<Instant>,
    ) -> Result<Self, AllocError> {
        let taken = Self::untagged(arena, tag, pages);
        taken.map_or_else(|| Self::counted(arena, Self::block_or_why(arena, tag, pages, deadline)), Ok)
    }

    #[inline(never)]
    fn block_or_why(
        arena: &'a Arena,
        tag: TagNumber,
        pages: u64,
        deadline: Option<Instant>,
    ) -> Result<Self, AllocError> {
        match Self::at_once_or_why(arena, tag, pages) {
            Err(AllocError::OverLimit { asked, limit, .. }) if asked <= limit => {}
            done => return done,
        }
        let waited = block_on(Self::wait_or_why(arena, tag, pages), deadline);
        // Where the time is over, this says what stood in the way.
        waited.unwrap_or_else(|| Self::at_once_or_why(arena, tag, pages))
    }

    /// A buffer of `len` bytes, if that is possible at once.
    #[inline(always)] // As `untagged`.
    pub(crate) fn buffer_at_once(arena: &'a Arena, tag: TagNumber, len: usize) -> Result<Buffer, AllocError> {
        let page = if tag == TagNumber::NONE && len <= PAGE_SIZE { arena.page_in_line(len) } else { None };
        page.unwrap_or_else(|| Self::any_at_once(arena, tag, len))
    }

    #[inline(never)]
    fn any_at_once(arena: &'a Arena, tag: TagNumber, len: usize) -> Result<Buffer, AllocError> {
        let pages = buffer_pages(len)?;
        match Self::untagged(arena, tag, pages) {
            Some(charge) => charge.into_buffer(len),
            None => Self::long_way(Self::counted(arena, Self::at_once_or_why(arena, tag, pages)), len),
        }
    }

    /// A buffer of `len` bytes once it can be had.
    #[inline(always)] // As `untagged`.
    pub(crate) fn buffer(arena: &'a Arena, tag: TagNumber, len: usize) -> Result<Buffer, AllocError> {
        let page = if tag == TagNumber::NONE && len <= PAGE_SIZE { arena.page_in_line(len) } else { None };
        page.unwrap_or_else(|| Self::any(arena, tag, len))
    }

    #[inline(never)]
    fn any(arena: &'a Arena, tag: TagNumber, len: usize) -> Result<Buffer, AllocError> {
        let pages = buffer_pages(len)?;
        match Self::untagged(arena, tag, pages) {
            Some(charge) => charge.into_buffer(len),
            None => Self::long_way(Self::counted(arena, Self::block_or_why(arena, tag, pages, None)), len),
        }
    }

    #[inline(never)]
    pub(crate) fn long_way(charge: Result<Self, AllocError>, len: usize) -> Result<Buffer, AllocError> {
        charge?.into_buffer(len)
    }

    /// A buffer of `len` bytes, for which the pages are.
    #[inline(always)] // As `untagged`.
    pub(crate) fn into_buffer(self, len: usize) -> Result<Buffer, AllocError> {
        let (arena, tag) = (self.arena, self.tag);
        self.passes_to(|| arena.obtain(len, tag))
    }

    /// The pages pass to the buffer that is made, if it is.
    #[inline(always)] // As `untagged`.
    pub(crate) fn passes_to(
        self,
        make: impl FnOnce() -> Result<Buffer, AllocError>,
    ) -> Result<Buffer, AllocError> {
        let made = make();
        if made.is_ok() {
            mem::forget(self);
        }
        made
    }

    /// The arena.
    pub(crate) fn arena(&self) -> &'a Arena {
        self.arena
    }

    /// The tag.
    pub(crate) fn tag(&self) -> TagNumber {
        self.tag
    }

    /// The pages, for another owner.
    pub(crate) fn into_pages(self) -> (&'a Arena, TagNumber, u64) {
        let charge = mem::ManuallyDrop::new(self);
        (charge.arena, charge.tag, charge.pages)
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        // However the tag's goes: it wakes requests, and wakers are foreign code.
        let _then = Finally(|| {
            if !self.of_tag_alone {
                self.arena.inner().budget.put_kept(ThreadSlot::current(), self.pages);
            }
        });
        if let Some(budget) = Self::tag_budget(self.arena, self.tag) {
            budget.put_kept(ThreadSlot::current(), self.pages);
        }
    }
}

#[cold]
fn over_limit(budget: &Budget, pages: u64, of_tag: bool) -> AllocError {
    AllocError::OverLimit {
        asked: bytes_of(pages),
        in_use: bytes_of(budget.used()),
        limit: bytes_of(budget.limit()),
        waiting: budget.waiting(),
        of_tag,
    }
}
