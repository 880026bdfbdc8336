//! The classic protocol: compound pages as the 2013 mail corrects them.
//!
//! Every frame has separate words for its count, its pins, its flags and its head, and a bit lock
//! in the head's flags keeps the four consistent. Names are the kernel's where there is one (3.13:
//! `mm/swap.c`, `mm/huge_memory.c`, `mm/page_alloc.c`); what the mail of 16 December 2013 says has
//! to change is changed, and so are the races of the same kind that mainline found later. Each of
//! those steps is a [`Safeguard`].
//!
//! | here | in the kernel |
//! | --- | --- |
//! | pin on a head or page | `get_page`: `_count` |
//! | pin on a tail | `__get_page_tail`: `_mapcount` of the tail, `_count` of the head |
//! | reference to a block | a huge mapping: `_count` and `_mapcount` of the head |
//! | block of the unsplittable class | hugetlbfs: pins of tails are in the head's `_count` only |
//!
//! While a page of a block is pinned the whole block stays, as in 2013.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod audit;
mod blocks;
mod compound;
mod count;
mod free;
mod get_put;
mod misuse;
mod page;
mod safeguards;
mod split;
#[cfg(test)]
mod tests;
mod token;

use core::marker::PhantomData;
use core::sync::atomic::AtomicU64;

pub use safeguards::{AllSafeguards, Safeguard, Safeguards};

use tailpin::AtomicWord;
use tailpin::Cause;
use tailpin::{Attach, BlockLife, BlockRefs, Checked, FrameWords, Pins, Rearrange};
use tailpin::{Class, CountedPin, FreeSink, Kind, PagePin, PageState, RawBlock};
use tailpin::{FrameRange, Order, Pfn};
use tailpin::{GetError, MergeError, SplitError, TokenError};

/// The protocol of the 2013 mail over five words per frame.
pub struct Classic<'m, W = AtomicU64, S = AllSafeguards> {
    words: &'m [W],
    base: Pfn,
    safeguards: PhantomData<fn() -> S>,
}

impl<'m, W: AtomicWord> Classic<'m, W> {
    /// Over `words`, the first five of which are for frame `base`; zero-filled words are free
    /// frames.
    ///
    /// # Panics
    /// If `base` is no multiple of 512.
    pub fn new(words: &'m [W], base: Pfn) -> Self {
        assert!(base.is_aligned(Order::HUGE), "the first words are those of a pageblock's first frame");
        Self::with_safeguards(words, base)
    }
}

impl<'m, W: AtomicWord, S: Safeguards<Safeguard>> Classic<'m, W, S> {
    /// The protocol over `words` with safeguards of the caller's choice: for model checking what
    /// happens when one is missing.
    pub fn with_safeguards(words: &'m [W], base: Pfn) -> Self {
        debug_assert!(base.is_aligned(Order::HUGE));
        Self { words, base, safeguards: PhantomData }
    }
}

impl<W, S> tailpin::sealed::Sealed for Classic<'_, W, S> {}

impl<'m, W: AtomicWord, S: Safeguards<Safeguard>> Attach<'m> for Classic<'m, W, S> {
    fn attach(words: &'m [W], base: Pfn) -> Self {
        Self::with_safeguards(words, base)
    }
}

impl<W: AtomicWord, S: Safeguards<Safeguard>> FrameWords for Classic<'_, W, S> {
    type Word = W;
    const NAME: &'static str = "classic";
    const WORDS_PER_FRAME: usize = page::WORDS;

    fn covers(&self, frame: Pfn) -> bool {
        frame.get().wrapping_sub(self.base.get()) < (self.words.len() / page::WORDS) as u64
    }

    fn state(&self, frame: Pfn) -> PageState {
        self.decode(frame)
    }

    fn head_of(&self, frame: Pfn) -> Option<(Pfn, Order)> {
        self.live_head_of(frame)
    }

    fn word_at(&self, frame: Pfn) -> &W {
        self.count(frame)
    }

    fn audit_block(&self, head: Pfn, order: Order, found: &mut dyn FnMut(Pfn, &'static str)) -> u64 {
        self.audit_live(head, order, found)
    }
}

impl<W: AtomicWord, S: Safeguards<Safeguard>> BlockLife for Classic<'_, W, S> {
    const HANDS_OUT_AT_ONCE: bool = false;

    /// Checks every frame. That they become one block is left to [`BlockLife::publish`], which is
    /// the mail's sequence as a whole.
    fn prepare(&self, head: Pfn, order: Order) -> Result<(), Pfn> {
        self.check_new_pages(FrameRange::block(head, order))
    }

    fn publish(&self, head: Pfn, order: Order, class: Class) -> u8 {
        self.hand_out(head, order, class)
    }

    fn is_uncoalesced(&self, head: Pfn, order: Order) -> bool {
        self.is_uncoalesced_block(head, order)
    }

    fn uncoalesced_among(&self, first: Pfn, pages: u64) -> u64 {
        let uncoalesced = |i: u64| pages >> i & 1 != 0 && self.is_uncoalesced(first.offset(i), Order::PAGE);
        (0..64).filter(|i| uncoalesced(*i)).fold(0, |among, i| among | 1 << i)
    }

    fn leave_uncoalesced(&self, head: Pfn, order: Order) -> Result<(), Pfn> {
        self.mark_uncoalesced(head, order)
    }

    fn claim(&self, head: Pfn, order: Order) -> bool {
        self.claim_block(head, order)
    }

    fn scrub(&self, pageblock: Pfn) -> Result<(), Pfn> {
        self.check_new_pages(FrameRange::block(pageblock, Order::HUGE))
    }

    fn reserve(&self, frame: Pfn) {
        self.withdraw(frame, false);
    }

    fn take_offline(&self, frame: Pfn) {
        self.withdraw(frame, true);
    }

    fn enter_service(&self, frame: Pfn, from: Kind) -> bool {
        matches!(from, Kind::Reserved | Kind::Offline) && self.put_into_service(frame, from == Kind::Offline)
    }
}

impl<W: AtomicWord, S: Safeguards<Safeguard>> Pins for Classic<'_, W, S> {
    fn try_get(&self, page: Pfn, sink: &impl FreeSink) -> Result<CountedPin<'_, W>, GetError> {
        self.pin_found(page, Self::count_limit(), sink)?;
        Ok(self.counted(PagePin { page, counted_at: page }))
    }

    fn get(&self, pin: CountedPin<'_, W>, sink: &impl FreeSink) -> Result<(), GetError> {
        self.get_page(pin.pin().page, sink)
    }

    fn put(&self, pin: CountedPin<'_, W>, sink: &impl FreeSink) {
        self.put_page(pin.pin().page, sink);
    }
}

impl<W: AtomicWord, S: Safeguards<Safeguard>> BlockRefs for Classic<'_, W, S> {
    fn get_block(&self, head: Pfn, order: Order, sink: &impl FreeSink) -> Result<(), GetError> {
        self.map_range(FrameRange::block(head, order), 1, sink)
    }

    fn put_block(&self, head: Pfn, order: Order, sink: &impl FreeSink) {
        self.unmap_range(FrameRange::block(head, order), 1, sink);
    }

    fn get_pieces(&self, range: FrameRange, n: u64, sink: &impl FreeSink) -> Result<(), GetError> {
        self.map_range(range, n, sink)
    }

    fn put_pieces(&self, range: FrameRange, n: u64, sink: &impl FreeSink) {
        self.unmap_range(range, n, sink);
    }
}

impl<W: AtomicWord, S: Safeguards<Safeguard>> Rearrange for Classic<'_, W, S> {
    const REARRANGES: bool = false;

    /// To any lower order: 2013 had pages only, but it is the same walk.
    fn split(&self, range: FrameRange, target: Order, sink: &impl FreeSink) -> Result<(), SplitError> {
        self.split_range(range, target, sink)
    }

    fn split_around(&self, _: FrameRange, _: Pfn, _: Order, _: &impl FreeSink) -> Result<(), SplitError> {
        Err(SplitError::NotSupported)
    }

    fn merge(&self, _: Pfn, _: Order, _: &impl FreeSink) -> Result<(), MergeError> {
        Err(MergeError::NotSupported)
    }
}

impl<W: AtomicWord, S: Safeguards<Safeguard>> Checked for Classic<'_, W, S> {
    fn settled_block(&self, frame: Pfn, _: &impl FreeSink) -> Option<(Pfn, PageState)> {
        // A split is done under the lock of the head.
        self.live_head_of(frame).map(|(head, _)| (head, self.decode(head)))
    }

    fn raw_put(&self, page: Pfn, sink: &impl FreeSink) -> Result<(), Cause> {
        self.checked_put(page, sink)
    }

    fn raw_free(&self, token: RawBlock, sink: &impl FreeSink) -> Result<(), Cause> {
        self.free_token(token, sink)
    }

    fn raw_get_block(
        &self,
        token: RawBlock,
        n: u64,
        sink: &impl FreeSink,
    ) -> Result<(), TokenError<GetError>> {
        self.get_token(token, n, sink)
    }

    fn raw_put_block(&self, token: RawBlock, n: u64, sink: &impl FreeSink) -> Result<(), (Pfn, Cause)> {
        self.put_token(token, n, sink)
    }

    fn raw_adopt(&self, token: RawBlock, sink: &impl FreeSink) -> Result<(), Cause> {
        self.adopt_token(token, sink)
    }

    fn raw_split(
        &self,
        token: RawBlock,
        target: Order,
        sink: &impl FreeSink,
    ) -> Result<(), TokenError<SplitError>> {
        self.split_token(token, target, sink)
    }

    fn raw_split_around(
        &self,
        _: RawBlock,
        _: Pfn,
        _: Order,
        _: &impl FreeSink,
    ) -> Result<(), TokenError<SplitError>> {
        Err(TokenError::Refused(SplitError::NotSupported))
    }

    fn raw_merge(
        &self,
        _: impl Iterator<Item = RawBlock> + Clone,
        _: &impl FreeSink,
    ) -> Result<RawBlock, TokenError<MergeError>> {
        Err(TokenError::Refused(MergeError::NotSupported))
    }

    fn mark_hwpoison(&self, frame: Pfn, sink: &impl FreeSink) -> bool {
        self.poison_page(frame, sink)
    }
}
