//! What a page protocol is: how frames are counted, pinned, split and merged.
//!
//! Two exist. [`OneWord`](crate::OneWord) keeps a frame's whole state in one word and takes no
//! lock; the classic one (`tailpin-classic`) is the design of the 2013 mail with the mail's
//! corrections. The allocator, the handles and the audit are written against this trait and run on
//! either.

use core::cell::Cell;
use core::fmt;

use crate::atomic::AtomicWord;
use crate::error::{GetError, MergeError, SplitError, TokenError};
use crate::finally::to_the_end;
use crate::frame::{FrameRange, Order, Pfn};
use crate::frame_mask::{FrameMask, RowMask};
use crate::page_state::{Class, Kind, PageState};
use crate::page_word::PageWord;
use crate::report::{Cause, Misuse};

/// What seals [`Protocol`]: its implementors are this crate and `tailpin-classic`.
#[doc(hidden)]
pub mod sealed {
    /// A protocol of this workspace.
    pub trait Sealed {}
}

/// A pin on `page` as a plain value, and the frame in whose word it is counted.
///
/// The two frames differ only for tails of an unsplittable block. The place is settled when the pin
/// is taken, so that "is this tail counted?" has the same answer when it is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "pin_user_pages")]
#[doc(alias = "gup")]
pub struct PagePin {
    /// The page that is pinned.
    pub page: Pfn,
    /// The frame whose word counts the pin.
    pub counted_at: Pfn,
}

/// A pin, and the word that counts it. Handles keep it at hand: what comes after an atomic step
/// begins with looking the word up, and this is the longest part of it.
pub struct CountedPin<'a, W> {
    pin: PagePin,
    word: &'a W,
}

impl<W> Clone for CountedPin<'_, W> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for CountedPin<'_, W> {}

impl<W> fmt::Debug for CountedPin<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pin.fmt(f)
    }
}

impl<'a, W> CountedPin<'a, W> {
    /// The pin that is counted in this word.
    #[inline]
    pub fn counted_in(word: &'a W, pin: PagePin) -> Self {
        Self { pin, word }
    }

    /// The pin as a plain value.
    #[inline]
    pub fn pin(self) -> PagePin {
        self.pin
    }

    /// The word in which the pin is counted.
    #[inline]
    pub fn word(self) -> &'a W {
        self.word
    }
}

/// One reference to a block as a plain value: where, how large, and which generation of the frame.
///
/// It goes on standing for one reference to each piece when another holder splits the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RawBlock {
    head: Pfn,
    order: Order,
    generation: u8,
}

impl RawBlock {
    /// A token from its parts, as read back from wherever a kernel keeps them.
    pub const fn from_parts(head: Pfn, order: Order, generation: u8) -> Self {
        Self { head, order, generation }
    }

    /// First frame of the block.
    pub const fn pfn(self) -> Pfn {
        self.head
    }

    /// Order of the block.
    pub const fn order(self) -> Order {
        self.order
    }

    /// Which generation of the frame, modulo 64: a token of another one is noticed.
    pub const fn generation(self) -> u8 {
        self.generation
    }

    /// All frames of the block.
    ///
    /// # Panics
    /// If they leave the range of 64 bits.
    #[inline]
    pub const fn frames(self) -> FrameRange {
        FrameRange::block(self.head, self.order)
    }
}

/// Where a CPU cache names a block of order 1 to 8 that is uncoalesced, or about to become so.
#[derive(Clone, Copy, Debug)]
pub struct ParkingPlace {
    /// The number of the CPU cache.
    pub(crate) cache: u32,
    /// Which of its words.
    pub(crate) word: u32,
}

/// Who takes back what the protocol frees, and hears of misuse.
pub trait FreeSink {
    /// The last reference to this block is gone; its frames are the callee's.
    fn freed_block(&self, head: Pfn, order: Order);
    /// Whether a page or 2 MiB may become uncoalesced in the very step that frees it. The callee
    /// hears of it by [`freed_uncoalesced`](Self::freed_uncoalesced) then, and of no such block by
    /// the functions above.
    #[inline]
    fn takes_uncoalesced(&self) -> bool {
        false
    }
    /// This page or 2 MiB was freed and is uncoalesced already: another thread may have it by now.
    #[inline]
    fn freed_uncoalesced(&self, head: Pfn, order: Order) {
        let _ = (head, order);
    }
    /// This page was freed and is uncoalesced already, so that another thread may have it by now.
    /// What the step that freed it left in its word [`BlockLife::claim_left`] takes.
    #[inline(always)]
    fn freed_page(&self, page: Pfn, left: PageWord) {
        let _ = left;
        self.freed_uncoalesced(page, Order::PAGE);
    }
    /// These pages were freed and are uncoalesced already, so that other threads may have them by
    /// now.
    #[inline]
    fn freed_pages(&self, pages: RowMask) {
        pages.iter().for_each(|page| self.freed_uncoalesced(page, Order::PAGE));
    }
    /// Sees to it that a block of order 1 to 8 is found once it is uncoalesced, and says where;
    /// `None` if it is to be freed by [`freed_block`](Self::freed_block), as always where the
    /// callee takes nothing uncoalesced.
    #[inline]
    fn park(&self, head: Pfn, order: Order) -> Option<ParkingPlace> {
        let _ = (head, order);
        None
    }
    /// The block that was to be parked at `place` was freed and is uncoalesced already, so that
    /// another thread may have it by now; or, unless `freed`, was not.
    #[inline]
    fn parked(&self, head: Pfn, order: Order, place: ParkingPlace, freed: bool) {
        let _ = (head, order, place, freed);
    }
    /// These frames of the pageblock that begins at `pageblock` are the callee's.
    fn freed_frames(&self, pageblock: Pfn, frames: &FrameMask);
    /// These frames of the caller's went out of service when they were freed.
    fn freed_offline(&self, frame: Pfn);
    /// A misuse was noticed: to be reported, and the frame taken offline.
    fn misuse(&self, misuse: &Misuse);
}

/// A protocol that can be put over memory of the caller's.
pub trait Attach<'m>: Protocol {
    /// Over zero-filled `words`, the first of which are for frame `base`, the first of a 2 MiB
    /// pageblock.
    fn attach(words: &'m [Self::Word], base: Pfn) -> Self;
}

/// How frames are counted, pinned, split and merged: the sum of what follows. Sealed, as its
/// methods take a caller's word that it owns the frames, which the zone alone can give.
///
/// All methods may be called from any number of threads at once, except where they say that the
/// caller owns the frames. Frame numbers must lie in the protocol's span: the zone above checks
/// what comes from outside.
///
/// # Panics
/// All methods that look at a frame outside the protocol's span.
///
/// What is said of progress is said of [`OneWord`](crate::OneWord), which never blocks: *wait-free*
/// operations end after a bounded number of their own steps; *lock-free* ones go round again only
/// because another thread's operation got on. A thread that is stopped anywhere keeps none of the
/// others from going on. The classic protocol (`tailpin-classic`) has bit locks, as its design
/// asks, and waits for the thread that has one.
pub trait Protocol: BlockLife + Pins + BlockRefs + Rearrange + Checked {}

impl<P: BlockLife + Pins + BlockRefs + Rearrange + Checked> Protocol for P {}

/// The words of the frames, and what they say.
pub trait FrameWords: sealed::Sealed + Sized + Send + Sync {
    /// The atomic word it is made of.
    type Word: AtomicWord;
    /// Name for people and reports.
    const NAME: &'static str;
    /// Words of metadata per frame.
    const WORDS_PER_FRAME: usize;
    /// Whether this frame lies in the protocol's span: whether there are words for it.
    ///
    /// Progress: wait-free; nothing shared is touched.
    fn covers(&self, frame: Pfn) -> bool;
    /// The state of a frame, a hint unless the caller has a reference.
    ///
    /// Progress: wait-free; one load.
    fn state(&self, frame: Pfn) -> PageState;
    /// Head and order of the live block that `frame` is in, `None` if it is in none. A hint, true
    /// at some instant during the call, unless the caller has a reference.
    ///
    /// Progress: wait-free; at most thirteen loads, however large the block.
    #[doc(alias = "compound_head")]
    fn head_of(&self, frame: Pfn) -> Option<(Pfn, Order)>;
    /// The word in which pins and references that are counted at `frame` are counted.
    ///
    /// Progress: wait-free; nothing shared is touched.
    fn word_at(&self, frame: Pfn) -> &Self::Word;
    /// A pin of the caller's, with the word that counts it.
    ///
    /// Progress: wait-free; nothing shared is touched.
    #[inline]
    fn counted(&self, pin: PagePin) -> CountedPin<'_, Self::Word> {
        CountedPin::counted_in(self.word_at(pin.counted_at), pin)
    }
    /// Checks one live block at a quiet moment, calling `found` for each frame that is wrong.
    /// Returns how many of its pages are pinned.
    ///
    /// Progress: wait-free; one look at each word.
    fn audit_block(&self, head: Pfn, order: Order, found: &mut dyn FnMut(Pfn, &'static str)) -> u64;
}

/// The life of a block, from free frames to free frames.
pub trait BlockLife: FrameWords {
    /// Whether [`BlockLife::publish`] and [`BlockLife::claim_and_publish`] are one step each, so
    /// that no uncoalesced block is between owners while it is handed out.
    const HANDS_OUT_AT_ONCE: bool;

    /// Whether the frames of this block may be handed out. What is left to do then is done by
    /// [`BlockLife::publish`]; no thread can obtain any of them before. The caller owns the frames.
    /// Errs with the first frame in a wrong state.
    ///
    /// Progress: wait-free; one look at each word of the block that has to be looked at, and no
    /// other thread writes them.
    fn prepare(&self, head: Pfn, order: Order) -> Result<(), Pfn>;
    /// Last step of an allocation: one reference, visible with everything written before. SeqCst if
    /// it [hands out at once](Self::HANDS_OUT_AT_ONCE). Returns the generation of the block.
    ///
    /// Progress: wait-free; one load and one store.
    fn publish(&self, head: Pfn, order: Order, class: Class) -> u8;
    /// Whether the free block of at most 2 MiB at `head` is uncoalesced: outside the pool, there
    /// for the first thread that claims it. SeqCst: see [`BlockLife::leave_uncoalesced`].
    ///
    /// Progress: wait-free; one load.
    fn is_uncoalesced(&self, head: Pfn, order: Order) -> bool;
    /// Which of some of the 64 pages from `first` on are uncoalesced, the first in the lowest bit.
    ///
    /// Progress: wait-free; one load for each that is asked for.
    fn uncoalesced_among(&self, first: Pfn, pages: u64) -> u64;
    /// Leaves a free block of the caller's, 2 MiB at most, uncoalesced. One of order 1 to 8 has
    /// been [prepared](Self::prepare). Errs if it is in a wrong state. The hint that leads others
    /// to it comes after a SeqCst fence or change, as they look at that first and at the block
    /// then.
    ///
    /// Progress: wait-free; one load and one store.
    fn leave_uncoalesced(&self, head: Pfn, order: Order) -> Result<(), Pfn>;
    /// Makes an uncoalesced block of at most 2 MiB the caller's, as it was before; false if it is
    /// not uncoalesced.
    ///
    /// Progress: wait-free; one load and one compare-and-swap, which fails only because another
    /// thread claimed it.
    fn claim(&self, head: Pfn, order: Order) -> bool;
    /// [`BlockLife::claim`] and [`BlockLife::publish`], in one step if the protocol can.
    ///
    /// Progress: wait-free; as those.
    #[inline]
    fn claim_and_publish(&self, head: Pfn, order: Order, class: Class) -> bool {
        let claimed = self.claim(head, order);
        if claimed {
            self.publish(head, order, class);
        }
        claimed
    }
    /// [`BlockLife::claim_and_publish`] of some of the 64 pages from `first` on, those that are
    /// uncoalesced, and at most so many: the lowest. Which ones it were, the first in the lowest
    /// bit.
    ///
    /// Progress: wait-free; as that of each.
    #[inline]
    fn claim_and_publish_among(&self, first: Pfn, pages: u64, most: usize, class: Class) -> u64 {
        let claim = |page: &Pfn| self.claim_and_publish(*page, Order::PAGE, class);
        let claimed = RowMask::new(first, pages).iter().filter(claim).take(most);
        claimed.fold(0, |claimed, page| claimed | RowMask::of_page(page).bits())
    }
    /// Claims and publishes a page whose word is what the step that freed it
    /// [left](FreeSink::freed_page); false if it is any other by now. It is not looked at before.
    ///
    /// Progress: wait-free; one compare-and-swap.
    #[inline]
    fn claim_left(&self, page: Pfn, left: PageWord, class: Class) -> bool {
        let _ = left;
        self.claim_and_publish(page, Order::PAGE, class)
    }
    /// Makes all words of a wholly free pageblock that the caller owns implicit. Errs with the
    /// first frame in a wrong state.
    ///
    /// Progress: wait-free; 512 loads and at most as many stores.
    fn scrub(&self, pageblock: Pfn) -> Result<(), Pfn>;
    /// Marks a frame as never in service. Only before the first request, or in a pageblock of
    /// which no frame is in service.
    ///
    /// Progress: wait-free; one store.
    fn reserve(&self, frame: Pfn);
    /// Takes a free frame that the caller owns out of service.
    ///
    /// Progress: wait-free; one load and one store.
    fn take_offline(&self, frame: Pfn);
    /// Makes a frame that is reserved, or offline, as `from` says, a free one of the caller's;
    /// false if it is not.
    ///
    /// Progress: wait-free; one load and one compare-and-swap, which fails only because another
    /// thread did it.
    fn enter_service(&self, frame: Pfn, from: Kind) -> bool;
}

/// How pins on single pages are taken and given back (`get_page`, `put_page`).
pub trait Pins: FrameWords {
    /// Pins a page found by its number alone (`get_page_unless_zero`). A caller that found the
    /// number in some structure looks there again afterwards.
    ///
    /// Progress: lock-free; it looks again only where a word changed in between, that is, where
    /// another operation got on.
    ///
    /// # Errors
    /// [`GetError::NotInUse`] of a page that is free or not in service, [`GetError::CountLimit`].
    #[doc(alias = "get_user_pages")]
    #[doc(alias = "gup")]
    #[doc(alias = "get_page_unless_zero")]
    #[doc(alias = "folio_try_get")]
    fn try_get(&self, page: Pfn, sink: &impl FreeSink) -> Result<CountedPin<'_, Self::Word>, GetError>;
    /// One more pin where the caller has one already.
    ///
    /// Progress: wait-free; one fetch-and-add, and at the limit one subtraction.
    ///
    /// # Errors
    /// [`GetError::CountLimit`].
    fn get(&self, pin: CountedPin<'_, Self::Word>, sink: &impl FreeSink) -> Result<(), GetError>;
    /// Gives back a pin. The caller must have it.
    ///
    /// Progress: wait-free up to the last pin; that one gives back at most two holds, or frees the
    /// page, which is lock-free.
    fn put(&self, pin: CountedPin<'_, Self::Word>, sink: &impl FreeSink);
}

/// References to whole blocks.
pub trait BlockRefs: FrameWords {
    /// One more reference on what was a block of `order` at `head`, be it whole or in pieces by
    /// now; the caller has one on it.
    ///
    /// Progress: lock-free; it finishes a split that is under way in place of waiting for it, and
    /// otherwise goes round only when the word changed.
    ///
    /// # Errors
    /// [`GetError::CountLimit`], [`GetError::NotInUse`].
    #[doc(alias = "folio_get")]
    #[doc(alias = "refcount")]
    fn get_block(&self, head: Pfn, order: Order, sink: &impl FreeSink) -> Result<(), GetError>;
    /// The last reference to a page goes, and it becomes uncoalesced: the short way of
    /// [`BlockRefs::put_block`]. False if that is not all there is to do; then nothing was done.
    ///
    /// Progress: wait-free; one load and one compare-and-swap.
    #[inline(always)] // The short way of a thread that has its CPU to itself.
    fn free_page(&self, page: Pfn, sink: &impl FreeSink) -> bool {
        let left = if sink.takes_uncoalesced() { self.free_page_step(page) } else { None };
        left.inspect(|left| sink.freed_page(page, *left)).is_some()
    }
    /// The step of [`BlockRefs::free_page`] on the page's word alone: what it left there, which the
    /// caller tells by [`FreeSink::freed_page`]. `None` if nothing was done.
    ///
    /// For callers whose sinks [take uncoalesced pages](FreeSink::takes_uncoalesced).
    ///
    /// Progress: as [`BlockRefs::free_page`].
    ///
    /// # Panics
    /// If there is no word for the frame.
    #[inline]
    fn free_page_step(&self, page: Pfn) -> Option<PageWord> {
        let _ = page;
        None
    }
    /// One reference less on what was a block of `order` at `head`, be it whole or in pieces by
    /// now.
    ///
    /// Progress: lock-free; as [`BlockRefs::get_block`], and the last reference frees every page
    /// without a pin.
    #[doc(alias = "folio_put")]
    fn put_block(&self, head: Pfn, order: Order, sink: &impl FreeSink);
    /// One reference less on each of some pages, as [`BlockRefs::put_block`] of each; of those of
    /// one row that come one after the other the sink may hear
    /// [at once](FreeSink::freed_pages).
    ///
    /// Progress: as that of each.
    fn put_pages(&self, pages: &[Pfn], sink: &impl FreeSink) {
        let next = Cell::new(0_usize);
        to_the_end(|| {
            while let Some(page) = pages.get(next.get()) {
                next.set(next.get().saturating_add(1));
                self.put_block(*page, Order::PAGE, sink);
            }
        });
    }
    /// `n` more references on every piece of `range`; the caller has one on each.
    ///
    /// Progress: lock-free; as [`BlockRefs::get_block`].
    ///
    /// # Errors
    /// As [`BlockRefs::get_block`]. No reference was taken.
    fn get_pieces(&self, range: FrameRange, n: u64, sink: &impl FreeSink) -> Result<(), GetError>;
    /// Gives back `n` references on every piece of `range`.
    ///
    /// Progress: lock-free; as [`BlockRefs::put_block`].
    fn put_pieces(&self, range: FrameRange, n: u64, sink: &impl FreeSink);
}

/// Blocks made smaller and larger in place.
pub trait Rearrange: FrameWords {
    /// Whether blocks can be merged, split around a page, and split themselves on their last
    /// reference.
    const REARRANGES: bool;

    /// Splits every piece of `range` that is larger than `target`; the caller has a reference on
    /// each, and afterwards one on each of the new pieces. Pins stay on their pages.
    ///
    /// Progress: lock-free; everything that remains of it after the first step can be done by any
    /// thread with a reference, and each compare-and-swap fails only because another thread did it
    /// or a pin came or went.
    fn split(&self, range: FrameRange, target: Order, sink: &impl FreeSink) -> Result<(), SplitError>;
    /// Splits only what is around `page`: afterwards `page` heads or lies in a piece of `target`
    /// and everything else in `range` is in pieces as large as possible.
    ///
    /// Progress: lock-free; at most eighteen splits in a row.
    fn split_around(
        &self,
        range: FrameRange,
        page: Pfn,
        target: Order,
        sink: &impl FreeSink,
    ) -> Result<(), SplitError>;
    /// Makes one block of `order` at `head` of the pieces there, on each of which the caller has a
    /// reference. If another thread has one too, the caller has one on each frame as before, though
    /// perhaps in pieces of other sizes.
    ///
    /// Progress: lock-free; no thread helps and none waits: until it ends, others may be told that
    /// a page of it is not in use, and its own compare-and-swaps fail only because a pin came or
    /// went.
    fn merge(&self, head: Pfn, order: Order, sink: &impl FreeSink) -> Result<(), MergeError>;
}

/// What believes nothing of its caller, and frames that are to leave service.
pub trait Checked: FrameWords {
    /// The live block that `frame` is in, once no split of it is under way, by its first frame and
    /// the state of that: one that another thread has begun is finished first. `None` if it is in
    /// none.
    ///
    /// Progress: lock-free; it looks again only where another thread began a split.
    fn settled_block(&self, frame: Pfn, sink: &impl FreeSink) -> Option<(Pfn, PageState)>;
    /// Whether `frame` is a page with one reference and nothing else: no part of a larger block,
    /// neither pinned nor marked.
    ///
    /// Progress: wait-free; one load.
    #[inline]
    fn is_lone_page(&self, frame: Pfn) -> bool {
        let _ = frame;
        false
    }
    /// The only reference to [such a page](Self::is_lone_page) goes; false if it is no such page by
    /// now.
    ///
    /// Progress: wait-free; one load and one compare-and-swap.
    #[inline]
    fn free_lone_page(&self, frame: Pfn, sink: &impl FreeSink) -> bool {
        let _ = (frame, sink);
        false
    }
    /// The raw put: gives back a pin after checking that there is one.
    ///
    /// Progress: lock-free; its compare-and-swap fails only because the word changed.
    fn raw_put(&self, page: Pfn, sink: &impl FreeSink) -> Result<(), Cause>;
    /// The raw free: drops the only reference to a block of exactly the token's order.
    ///
    /// This and what follows believe nothing of a token whose frames lie in the protocol's span:
    /// kind, order and generation are checked in the step that changes the word. Of what has been
    /// split since, each piece is, before the first one is changed and again in the step that
    /// changes it.
    ///
    /// Progress: lock-free; as [`BlockRefs::put_pieces`].
    ///
    /// # Errors
    /// What is wrong with the token.
    fn raw_free(&self, token: RawBlock, sink: &impl FreeSink) -> Result<(), Cause>;
    /// The raw form of [`BlockRefs::get_pieces`].
    ///
    /// Progress: lock-free; as that.
    ///
    /// # Errors
    /// What is wrong with the token, or the limit of the count. No reference was taken.
    fn raw_get_block(
        &self,
        token: RawBlock,
        n: u64,
        sink: &impl FreeSink,
    ) -> Result<(), TokenError<GetError>>;
    /// The raw form of [`BlockRefs::put_pieces`].
    ///
    /// Progress: lock-free; as that.
    ///
    /// # Errors
    /// The frame at which the token is wrong or has too few references, and the cause. If the state
    /// did not change during the call, no reference was given back.
    fn raw_put_block(&self, token: RawBlock, n: u64, sink: &impl FreeSink) -> Result<(), (Pfn, Cause)>;
    /// The only reference to a block of exactly the token's order becomes that of a handle. The
    /// block's generation moves on, so the token is used up.
    ///
    /// Progress: lock-free; its compare-and-swap fails only because the word changed.
    ///
    /// # Errors
    /// What is wrong with the token.
    fn raw_adopt(&self, token: RawBlock, sink: &impl FreeSink) -> Result<(), Cause>;
    /// The raw form of [`Rearrange::split`]. Safe also if the caller's reference goes during the
    /// call.
    ///
    /// Progress: lock-free; as that.
    ///
    /// # Errors
    /// What is wrong with the token, or why the block is not split.
    fn raw_split(
        &self,
        token: RawBlock,
        target: Order,
        sink: &impl FreeSink,
    ) -> Result<(), TokenError<SplitError>>;
    /// The raw form of [`Rearrange::split_around`]. Safe also if the caller's reference goes during
    /// the call.
    ///
    /// Progress: lock-free; as that.
    ///
    /// # Errors
    /// What is wrong with the token, or why the block is not split.
    fn raw_split_around(
        &self,
        token: RawBlock,
        page: Pfn,
        target: Order,
        sink: &impl FreeSink,
    ) -> Result<(), TokenError<SplitError>>;
    /// The raw form of [`Rearrange::merge`]: makes one block of those that the tokens name one
    /// after the other, each of which is the only reference. All of them are set apart first, so
    /// that no other thread changes a reference.
    ///
    /// Progress: lock-free; as that.
    ///
    /// # Errors
    /// Which token is wrong, or why the blocks can't be merged.
    fn raw_merge(
        &self,
        tokens: impl Iterator<Item = RawBlock> + Clone,
        sink: &impl FreeSink,
    ) -> Result<RawBlock, TokenError<MergeError>>;
    /// Marks a frame that is in use so that it leaves service when freed. False if it is free.
    ///
    /// Progress: lock-free; as [`Pins::try_get`].
    #[doc(alias = "memory_failure")]
    fn mark_hwpoison(&self, frame: Pfn, sink: &impl FreeSink) -> bool;
}
