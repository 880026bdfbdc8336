//! Merging in place, also while pages are pinned.
//!
//! The first piece becomes the head of the whole block and can be held as such at once; then every
//! other piece becomes tails of it, its head first. Pins stay where they are; a pinned page takes a
//! hold on its new head first. A piece that could still have implicit tails pinned under it is
//! taken to pages before.
//!
//! # The only reference
//!
//! A thread that looks a block up by its number can take a reference to a piece at any moment
//! before the piece is a tail. So a page becomes one only from a word with one reference. A page
//! that has more stays as it is, and in the end the merge is undone: what has become of the other
//! pieces is split to pages. Pieces of several frames are set apart before the first piece heads
//! the whole: from then on a tail of theirs may be pinned as a tail of the whole, so no other
//! thread may come to own them.
//!
//! # Implicit again
//!
//! Where pieces fill a 2 MiB pageblock and none has a pin or hold, their words become implicit, and
//! the next split can be heads-only. This is the one way back for frames in use, and must not fool
//! a compare-and-swap from an implicit word: a thread that has read an implicit word T, holds the
//! head found for it and is about to pin it has to find that T changed, or has to be right about
//! its head.
//!
//! Such a hold is on a word of T's own pageblock, and keeps that word and every head over it
//! counted for as long as it is there. (a) It was there when the pieces were checked, before the
//! merge: then some piece had a count, and no word becomes implicit. (b) It was taken on a piece
//! since: then T is a tail of that very piece, which the merge, finding it held, first takes to
//! pages; T changes, and from that piece on no word becomes implicit. (c) It is on the head of the
//! whole: then T is pinned as a tail of the whole, which it is. The generation in the word is not
//! relied on.

use super::{OneWord, Safeguard, Safeguards};
use crate::atomic::AtomicWord;
use crate::error::MergeError;
use crate::frame::{FrameRange, Order, Pfn};
use crate::page_word::PageWord;
use crate::protocol::FreeSink;

/// The block that pieces are merged into.
#[derive(Clone, Copy)]
pub(super) struct Whole {
    pub(super) head: Pfn,
    pub(super) order: Order,
}

/// What is known about a merge under way.
#[derive(Default)]
struct Progress {
    /// Words of unpinned parts become implicit.
    implicit: bool,
    /// Some word that was to become implicit could not.
    some_explicit: bool,
    /// A frame of the block is marked hwpoison.
    has_hwpoisoned: bool,
    /// A page that another thread has a reference to, which it took since the pieces were checked.
    shared: Option<Pfn>,
}

/// One block of `order` at `head` out of the pieces there, on each of which the caller has a
/// reference. If it is not the only one, the caller has one on each frame afterwards too, though
/// perhaps in smaller pieces, or in 2 MiB.
pub(super) fn merge<W: AtomicWord, S: Safeguards<Safeguard>>(
    this: &OneWord<'_, W, S>,
    head: Pfn,
    order: Order,
    sink: &impl FreeSink,
) -> Result<(), MergeError> {
    if !head.is_aligned(order) {
        return Err(MergeError::NotABlock);
    }
    let (whole, range) = (Whole { head, order }, FrameRange::block(head, order));
    let unpinned = this.check_pieces(range)?;
    let merged =
        this.join_pageblocks(whole, unpinned, sink).and_then(|()| this.join(whole, unpinned, true, sink));
    if merged.is_err() {
        this.set_together(range);
    }
    merged
}

impl<W: AtomicWord, S: Safeguards<Safeguard>> OneWord<'_, W, S> {
    /// What is smaller than 2 MiB in a larger block is merged to 2 MiB first, which stay set apart.
    pub(super) fn join_pageblocks(
        &self,
        whole: Whole,
        unpinned: bool,
        sink: &impl FreeSink,
    ) -> Result<(), MergeError> {
        if whole.order <= Order::HUGE {
            return Ok(());
        }
        for offset in (0..whole.order.frames()).step_by(Order::HUGE.frames() as usize) {
            let head = whole.head.offset(offset);
            if self.load(head).is_head() {
                self.join(Whole { head, order: Order::HUGE }, unpinned, false, sink)?;
            }
        }
        Ok(())
    }

    /// Whether the pieces fill the range and are the caller's alone; if so, whether all are without
    /// pins and holds. Pieces of several frames but the first are set apart
    /// then.
    fn check_pieces(&self, range: FrameRange) -> Result<bool, MergeError> {
        let mut at = range.start;
        let mut pins = 0;
        let refused = loop {
            if !range.contains(at) {
                break (at != range.end).then_some(MergeError::NotABlock);
            }
            let word = self.load(at);
            let order = word.order();
            if !word.is_mergeable() {
                break Some(Self::why_not(at, word));
            }
            at = if order > Order::PAGE {
                // The first piece is left as it is: the step that makes it head the whole tells.
                if at != range.start && !self.change(at, word, word.set_apart()) {
                    continue;
                }
                at.offset(order.frames())
            } else {
                // A loop of its own for pages: where the next one is need not wait until this one
                // is read.
                let (next, more) = self.check_pages(FrameRange { start: at.offset(1), end: range.end });
                pins |= more;
                next
            };
            pins |= word.pins();
        };
        let Some(error) = refused else { return Ok(pins == 0) };
        self.set_together(FrameRange { start: range.start, end: at });
        Err(error)
    }

    /// Settles again what was set apart, where the merge is refused.
    #[cold]
    pub(super) fn set_together(&self, range: FrameRange) {
        let mut at = range.start;
        while range.contains(at) {
            let seen = self.load(at);
            if !seen.is_merging() || self.change(at, seen, seen.end_merge()) {
                at = at.offset(seen.order().frames());
            }
        }
    }

    /// Where in `range` the first run of pages that may be merged ends, and the bits of all their
    /// pins.
    fn check_pages(&self, range: FrameRange) -> (Pfn, u64) {
        let mut words = PageWord(0);
        for page in range.iter() {
            let word = self.load(page);
            if !word.is_mergeable() || word.order() > Order::PAGE {
                return (page, words.pins());
            }
            words = PageWord(words.0 | word.0);
        }
        (range.end, words.pins())
    }

    #[cold]
    fn why_not(at: Pfn, word: PageWord) -> MergeError {
        if !word.is_settled_head() || word.refs() == 0 {
            MergeError::NotABlock
        } else if word.is_unsplittable() {
            MergeError::Unsplittable { head: at }
        } else {
            MergeError::Shared { head: at }
        }
    }

    /// The merge itself, of pieces that were found to be the caller's alone, larger ones than pages
    /// set apart, all `unpinned` or not. The block is settled in the end or stays set apart. If
    /// another thread has taken a reference to a page, all is pages in the end, or set apart still.
    pub(super) fn join(
        &self,
        whole: Whole,
        unpinned: bool,
        settles: bool,
        sink: &impl FreeSink,
    ) -> Result<(), MergeError> {
        let Whole { head, order } = whole;
        let mut progress = Progress::default();
        let first = loop {
            let seen = self.load(head);
            if seen.order() >= order {
                return Ok(());
            }
            if !Self::is_callers_alone(seen) {
                return Err(MergeError::Shared { head });
            }
            if Self::may_pin_implicit_tails(seen) {
                self.to_pages(head, seen, sink);
                continue;
            }
            let unheld = unpinned && seen.pins() == 0 || !S::keeps(Safeguard::W17);
            progress.implicit = order == Order::HUGE && unheld;
            let all_tails_implicit = progress.implicit || order > Order::HUGE && seen.all_tails_implicit();
            if self.change(head, seen, seen.begin_merge(order, all_tails_implicit)) {
                self.adopt_tails(head, seen, whole, &mut progress, sink);
                break seen.order();
            }
        };
        let range = FrameRange::block(head, order);
        let mut at = head.offset(first.frames());
        while range.contains(at) {
            let seen = self.load(at);
            // The common case in a line of its own: between two compare-and-swaps every instruction
            // counts.
            let tail = if progress.implicit { seen.as_implicit() } else { seen.tail_of(order) };
            at = if seen.is_plain_page() && self.change(at, seen, tail) {
                at.offset(1)
            } else {
                at.offset(self.absorb(at, whole, &mut progress, sink).frames())
            };
        }
        loop {
            let seen = self.load(head);
            if let Some(shared) = progress.shared {
                // Each other frame is a tail of the whole by now, or such a page.
                if self.to_pages(head, seen, sink) {
                    return Err(MergeError::Shared { head: shared });
                }
                continue;
            }
            let mut done = if settles { seen.end_merge() } else { seen };
            if progress.has_hwpoisoned {
                done = done.mark_has_hwpoisoned();
            }
            if progress.some_explicit {
                done = done.with_explicit_tails();
            }
            if self.change(head, seen, done) {
                return Ok(());
            }
        }
    }

    /// Whether a piece has one reference, or is set apart, which it was with one.
    fn is_callers_alone(piece: PageWord) -> bool {
        piece.is_mergeable() || piece.is_merging() || !S::keeps(Safeguard::W19)
    }

    /// Below 2 MiB a hold on a head of several frames may be that of a thread about to pin an
    /// implicit tail, and that thread would not notice that the tail has changed blocks.
    fn may_pin_implicit_tails(piece: PageWord) -> bool {
        let order = piece.order();
        S::keeps(Safeguard::W13) && order > Order::PAGE && order < Order::HUGE && piece.pins() > 0
    }

    /// Splits a piece that is the caller's alone, or a whole that some page will not become part
    /// of, to pages. In one step: no thread can take a reference to it in between. Tokens of it are
    /// used up, so that it need not be known what it was part of. False if its word changed.
    #[cold]
    fn to_pages(&self, piece: Pfn, seen: PageWord, sink: &impl FreeSink) -> bool {
        let begun = seen.end_merge().adopted().begin_split(Order::PAGE);
        let done = self.change(piece, seen, begun);
        if done {
            self.help_split(piece, begun, sink);
        }
        done
    }

    /// Makes the piece at `piece` and its tails tails of the whole. Returns how far the next one
    /// is, as an order.
    #[inline(never)]
    fn absorb(&self, piece: Pfn, whole: Whole, progress: &mut Progress, sink: &impl FreeSink) -> Order {
        loop {
            let seen = self.load(piece);
            if seen.is_tail() {
                // No piece: a frame of one that was taken to pages, all but its tails that had been
                // pinned as tails of the whole before. Such a tail is what it is to become, and
                // holds the right head; its order is the whole's.
                return Order::PAGE;
            }
            if !Self::is_callers_alone(seen) {
                progress.shared = Some(piece);
                return seen.order();
            }
            if Self::may_pin_implicit_tails(seen) {
                self.to_pages(piece, seen, sink);
            } else if self.adopt(piece, piece, seen, whole, progress, sink) {
                // Only now: until the piece was a tail, one of its own could be pinned and unpinned
                // after it had been looked at, and so name the old order under a piece whose word
                // was just as before.
                progress.has_hwpoisoned |= seen.has_hwpoisoned() || seen.is_hwpoison();
                self.adopt_tails(piece, seen, whole, progress, sink);
                return seen.order();
            }
        }
    }

    /// Rewrites the explicit tails of a piece whose word `was` so.
    fn adopt_tails(
        &self,
        piece: Pfn,
        was: PageWord,
        whole: Whole,
        progress: &mut Progress,
        sink: &impl FreeSink,
    ) {
        let old = was.order();
        // Tails of a 2 MiB part stay tails of that part.
        let stay = whole.order > Order::HUGE && old == Order::HUGE;
        if old == Order::PAGE || stay || old <= Order::HUGE && was.all_tails_implicit() {
            return;
        }
        for tail in Self::units(piece, old) {
            loop {
                let seen = self.load(tail);
                if !seen.is_tail() || seen.is_implicit() || seen.order() == whole.order {
                    break;
                }
                if self.adopt(piece, tail, seen, whole, progress, sink) {
                    break;
                }
            }
        }
    }

    /// Makes a frame of `piece`, its head or an explicit tail, a tail of the whole: implicit if
    /// that can be, else its pins kept under a hold. False if its word changed.
    #[inline]
    fn adopt(
        &self,
        piece: Pfn,
        frame: Pfn,
        seen: PageWord,
        whole: Whole,
        progress: &mut Progress,
        sink: &impl FreeSink,
    ) -> bool {
        if seen.pins() == 0 {
            let implicit = progress.implicit && !seen.is_hwpoison();
            progress.some_explicit |= progress.implicit && !implicit;
            return self.change(
                frame,
                seen,
                if implicit { seen.as_implicit() } else { seen.tail_of(whole.order) },
            );
        }
        progress.some_explicit |= progress.implicit;
        progress.implicit = false;
        self.adopt_pinned(piece, frame, seen, whole, sink)
    }

    #[cold]
    fn adopt_pinned(
        &self,
        piece: Pfn,
        frame: Pfn,
        seen: PageWord,
        whole: Whole,
        sink: &impl FreeSink,
    ) -> bool {
        // The tails of the first piece are held by the same head before and after.
        let moves = S::keeps(Safeguard::W7) && piece != whole.head;
        if moves && self.hold(whole.head, whole.order, sink).is_err() {
            return false;
        }
        let done = self.change(frame, seen, seen.tail_of(whole.order));
        if moves && !done {
            self.unpin(whole.head, sink);
        } else if moves && frame != piece {
            self.unpin(piece, sink);
        }
        done
    }
}
