//! The one-word protocol: lock-free, one [`PageWord`] per frame.
//!
//! Rules, from which everything here follows:
//!
//! 1. A tail with pins names its head by its order, and that head counts one *hold* for it. The
//!    thread that makes a tail's first pin takes the hold first (the mail's "reference on the head
//!    before anything else"); the thread that gives back its last pin gives the hold back
//!    afterwards.
//! 2. A tail without pins is implicit (its word is zero but for the generation) or explicit: it
//!    names the exact order of its block. A word becomes implicit only while its whole pageblock is
//!    free, or in a merge of the whole pageblock that found no pin or hold in it (see `merge`), so
//!    a compare-and-swap from an implicit word can't be fooled. A head that does not say that a
//!    tail may be explicit has none that is (see `split`).
//! 3. A split rewrites every tail by compare-and-swap before it settles the head. References are
//!    frozen until then (the kernel's `page_ref_freeze`): a thread that wants to change them has
//!    one, helps to finish the split, and by having one keeps every piece from being freed or
//!    merged while it helps.
//! 4. A merge needs the only reference on every piece, so no helper of an earlier split can be
//!    about.
//! 5. The count is published last with Release; every conditional get is an Acquire.

mod audit;
mod blocks;
mod life;
mod merge;
mod misuse;
mod pin;
mod safeguards;
mod split;
mod token;

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};

pub use pin::LastPut;
pub use safeguards::{AllSafeguards, Safeguard, Safeguards};

use crate::atomic::AtomicWord;
use crate::frame::{FrameRange, Order, Pfn};
use crate::page_state::PageState;
use crate::page_word::PageWord;
use crate::protocol::{Attach, FrameWords};

/// The lock-free protocol over one word per frame. Users meet it as the default parameter of
/// [`Zone`](crate::Zone) and never write it.
pub struct OneWord<'m, W = AtomicU64, S = AllSafeguards> {
    /// One for each frame from `base` on. Any thread changes them, by `change_at`, an add or a
    /// subtraction; the thread that owns a free frame stores into its word.
    words: &'m [W],
    /// Frame of the first word, the first of a pageblock; fixed.
    base: Pfn,
    safeguards: PhantomData<fn() -> S>,
}

impl<'m, W: AtomicWord> OneWord<'m, W> {
    /// Over `words`, the first of which is for frame `base`; zero-filled words are free frames.
    ///
    /// # Panics
    /// If `base` is no multiple of 512.
    pub fn new(words: &'m [W], base: Pfn) -> Self {
        assert!(base.is_aligned(Order::HUGE), "the first word is that of a pageblock's first frame");
        Self::with_safeguards(words, base)
    }
}

impl<'m, W: AtomicWord, S: Safeguards<Safeguard>> OneWord<'m, W, S> {
    /// The protocol over `words` with safeguards of the caller's choice: for model checking what
    /// happens when one is missing.
    pub fn with_safeguards(words: &'m [W], base: Pfn) -> Self {
        debug_assert!(base.is_aligned(Order::HUGE));
        Self { words, base, safeguards: PhantomData }
    }

    #[inline]
    fn word(&self, frame: Pfn) -> &W {
        // What lies before the first frame is far beyond the last one.
        let index = usize::try_from(frame.get().wrapping_sub(self.base.get()));
        &self.words[index.unwrap_or(usize::MAX)]
    }

    #[inline]
    fn load(&self, frame: Pfn) -> PageWord {
        Self::load_at(self.word(frame))
    }

    /// Acquire: pairs with the Release of the step that published the state read.
    #[inline]
    fn load_at(word: &W) -> PageWord {
        PageWord(word.load(Ordering::Acquire))
    }

    #[inline]
    #[track_caller]
    fn change(&self, frame: Pfn, seen: PageWord, new: PageWord) -> bool {
        Self::change_at(self.word(frame), seen, new)
    }

    /// The one way in which a shared word changes from a state that was looked at, and so the
    /// linearization point of nearly every operation. AcqRel: a new
    /// state is published with what led to it, and its finder sees what led to the old one.
    #[inline]
    #[track_caller] // For a checker's word; others don't ask who calls.
    fn change_at(word: &W, seen: PageWord, new: PageWord) -> bool {
        word.compare_exchange(seen.0, new.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Head of the live block that `frame` is in (`compound_head`).
    fn find_head(&self, frame: Pfn) -> Option<(Pfn, PageWord)> {
        let word = self.load(frame);
        if word.is_head() {
            return word.is_live_head().then_some((frame, word));
        }
        if !word.is_tail() {
            return None;
        }
        // The order that the tail names is where to look first: during a split there may be a
        // larger head above it still.
        let recorded = if word.is_implicit() { None } else { self.head_at(frame.head(word.order()), frame) };
        recorded.or_else(|| {
            let pageblock = frame.head(Order::HUGE);
            loop {
                let part = self.load(pageblock);
                if !part.is_tail() || part.order() <= Order::HUGE {
                    return self.covering_head(frame);
                }
                let head = self.head_at(pageblock.head(part.order()), frame);
                // None because it was split in between: then the part has changed as well.
                if head.is_some() || self.load(pageblock) == part {
                    return head;
                }
            }
        })
    }

    /// The live head at `at`, if its block covers `frame`.
    fn head_at(&self, at: Pfn, frame: Pfn) -> Option<(Pfn, PageWord)> {
        let word = self.load(at);
        let covers = word.is_live_head() && FrameRange::block(at, word.order()).contains(frame);
        covers.then_some((at, word))
    }

    /// Head of the live block of at most 2 MiB, or of the first 2 MiB of a larger one, that `frame`
    /// is in: looks at every place where it could be, largest block first, as splits only move
    /// heads downward.
    fn covering_head(&self, frame: Pfn) -> Option<(Pfn, PageWord)> {
        let mut last = None;
        (0..=Order::HUGE.get())
            .rev()
            .map(|order| frame.head(Order::wrap(order)))
            .find_map(|at| if last.replace(at) == Some(at) { None } else { self.head_at(at, frame) })
    }
}

impl<W, S> crate::protocol::sealed::Sealed for OneWord<'_, W, S> {}

impl<'m, W: AtomicWord, S: Safeguards<Safeguard>> Attach<'m> for OneWord<'m, W, S> {
    fn attach(words: &'m [W], base: Pfn) -> Self {
        Self::with_safeguards(words, base)
    }
}

impl<W: AtomicWord, S: Safeguards<Safeguard>> FrameWords for OneWord<'_, W, S> {
    type Word = W;
    const NAME: &'static str = "one-word";
    const WORDS_PER_FRAME: usize = 1;

    #[inline]
    fn covers(&self, frame: Pfn) -> bool {
        // One comparison: what lies before the first frame is far beyond the last one.
        frame.get().wrapping_sub(self.base.get()) < self.words.len() as u64
    }

    fn state(&self, frame: Pfn) -> PageState {
        self.load(frame).decode()
    }

    fn head_of(&self, frame: Pfn) -> Option<(Pfn, Order)> {
        self.find_head(frame).map(|(head, word)| (head, word.order()))
    }

    #[inline]
    fn word_at(&self, frame: Pfn) -> &W {
        self.word(frame)
    }

    fn audit_block(&self, head: Pfn, order: Order, found: &mut dyn FnMut(Pfn, &'static str)) -> u64 {
        audit::audit_block(self, head, order, found)
    }
}
