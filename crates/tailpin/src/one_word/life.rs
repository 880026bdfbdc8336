//! Birth and death of a block: what its words must look like before, and what they become after.

use core::cell::Cell;
use core::sync::atomic::Ordering;

use super::{OneWord, Safeguard, Safeguards};
use crate::atomic::AtomicWord;
use crate::finally::{Finally, to_the_end};
use crate::frame::{FrameRange, Order, PAGEBLOCK_FRAMES, Pfn};
use crate::frame_mask::FrameMask;
use crate::page_state::{Class, Kind};
use crate::page_word::PageWord;
use crate::protocol::{BlockLife, FreeSink};

impl<W: AtomicWord, S: Safeguards<Safeguard>> BlockLife for OneWord<'_, W, S> {
    const HANDS_OUT_AT_ONCE: bool = true;

    /// `prep_compound_page`: checks every word of the block and makes the tails tails. The head
    /// stays as it is, so no other thread can obtain any of it yet.
    #[inline]
    fn prepare(&self, head: Pfn, order: Order) -> Result<(), Pfn> {
        let first = self.load(head);
        if !first.is_idle() {
            return Err(head);
        }
        // The tails of a whole pageblock are implicit or name its order: they are tails as soon as
        // there is a head.
        if order == Order::PAGE || order == Order::HUGE {
            Ok(())
        } else {
            self.prepare_tails(head, order, first)
        }
    }

    /// `set_page_refcounted`, the very last action of an allocation. Release: pairs with the
    /// Acquire of every conditional get, so no thread has a page before its tails, hooks and
    /// zeroing are done. SeqCst: what waits to leave service is looked at after it.
    #[inline]
    fn publish(&self, head: Pfn, order: Order, class: Class) -> u8 {
        let word = self.word(head);
        // Relaxed: the frame is the caller's, and no other thread writes its word.
        let new = PageWord(word.load(Ordering::Relaxed)).publish(order, matches!(class, Class::Unsplittable));
        word.store(new.0, Ordering::SeqCst);
        new.generation()
    }

    #[inline]
    fn is_uncoalesced(&self, head: Pfn, order: Order) -> bool {
        // SeqCst: after a hint was taken away or a group left; pairs with `free_at` and with the
        // fence after `leave_uncoalesced`.
        PageWord(self.word(head).load(Ordering::SeqCst)).is_uncoalesced(order)
    }

    /// Which of some of the 64 pages from `first` on are uncoalesced.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "a set bit is there to be taken away")]
    fn uncoalesced_among(&self, first: Pfn, pages: u64) -> u64 {
        let Some(words) = self.row(first) else { return 0 };
        let (mut rest, mut uncoalesced) = (pages, 0);
        while rest != 0 {
            let i = rest.trailing_zeros() as usize;
            // SeqCst: after a hint was taken away or a row left; pairs with the step that frees.
            let word = PageWord(words[i].load(Ordering::SeqCst));
            uncoalesced |= u64::from(word.is_uncoalesced(Order::PAGE)) << i;
            rest &= rest - 1;
        }
        uncoalesced
    }

    #[inline]
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "a set bit is there to be taken away, and one of `most` left"
    )]
    fn claim_and_publish_among(&self, first: Pfn, pages: u64, most: usize, class: Class) -> u64 {
        let Some(words) = self.row(first) else { return 0 };
        let unsplittable = matches!(class, Class::Unsplittable);
        let (mut rest, mut claimed, mut left) = (pages, 0, most);
        while rest != 0 && left != 0 {
            let bit = rest.trailing_zeros();
            rest &= rest - 1;
            let word = &words[bit as usize];
            // SeqCst: as in `claim_as`.
            let seen = PageWord(word.load(Ordering::SeqCst));
            if seen.is_uncoalesced(Order::PAGE)
                && Self::change_at(word, seen, seen.publish(Order::PAGE, unsplittable))
            {
                claimed |= 1 << bit;
                left -= 1;
            }
        }
        claimed
    }

    fn leave_uncoalesced(&self, head: Pfn, order: Order) -> Result<(), Pfn> {
        // Relaxed: the frame is the caller's, and no other thread writes its word.
        let word = PageWord(self.word(head).load(Ordering::Relaxed));
        if !word.is_idle() {
            return Err(head);
        }
        // Release: pairs with the Acquire of the claim.
        self.word(head).store(word.as_uncoalesced(order).0, Ordering::Release);
        Ok(())
    }

    /// Makes all words of a wholly free pageblock implicit, checking each.
    fn scrub(&self, pageblock: Pfn) -> Result<(), Pfn> {
        for frame in FrameRange::block(pageblock, Order::HUGE).iter() {
            let word = self.load(frame);
            if !word.is_idle() {
                return Err(frame);
            }
            if !word.is_implicit() {
                // Relaxed: made visible with the next block's head.
                self.word(frame).store(word.as_implicit().0, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    #[inline]
    fn claim(&self, head: Pfn, order: Order) -> bool {
        self.claim_as(head, order, PageWord::claimed)
    }

    // Always: callers know the order, and with it half of the step is a constant.
    #[inline(always)]
    fn claim_and_publish(&self, head: Pfn, order: Order, class: Class) -> bool {
        self.claim_as(head, order, |free| free.publish(order, matches!(class, Class::Unsplittable)))
    }

    // Always: it is the whole of most requests for a page.
    #[inline(always)]
    fn claim_left(&self, page: Pfn, left: PageWord, class: Class) -> bool {
        let published = left.publish(Order::PAGE, matches!(class, Class::Unsplittable));
        left.is_uncoalesced(Order::PAGE) && self.change(page, left, published)
    }

    fn reserve(&self, frame: Pfn) {
        // Relaxed: before the zone is shared, or its pageblock is opened.
        self.word(frame).store(PageWord::reserved().0, Ordering::Relaxed);
    }

    fn take_offline(&self, frame: Pfn) {
        let seen = self.load(frame);
        // Release: pairs with the Acquire of a look-up that finds the frame out of service.
        self.word(frame).store(seen.as_offline().0, Ordering::Release);
    }

    fn enter_service(&self, frame: Pfn, from: Kind) -> bool {
        let seen = self.load(frame);
        seen.decode().kind == from && self.change(frame, seen, seen.back_in_service())
    }
}

impl<W: AtomicWord, S: Safeguards<Safeguard>> OneWord<'_, W, S> {
    /// The words of the 64 frames from `first` on.
    #[inline]
    fn row(&self, first: Pfn) -> Option<&[W; 64]> {
        let at = usize::try_from(first.get().wrapping_sub(self.base.get())).unwrap_or(usize::MAX);
        self.words.get(at..)?.first_chunk()
    }

    /// Changes the word of the uncoalesced block at `head` to what `claimed` makes of it.
    #[inline(always)]
    fn claim_as(&self, head: Pfn, order: Order, claimed: impl FnOnce(PageWord) -> PageWord) -> bool {
        let word = self.word(head);
        // SeqCst: after a hint was taken away or a row left; pairs with the step that frees.
        let seen = PageWord(word.load(Ordering::SeqCst));
        seen.is_uncoalesced(order) && Self::change_at(word, seen, claimed(seen))
    }

    /// The frames whose words tell a block of `order` apart: all of them up to 2 MiB, above it one
    /// per 2 MiB.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "a stride is not 0, and the numbers are a block's frames"
    )]
    pub(super) fn units(head: Pfn, order: Order) -> impl Iterator<Item = Pfn> {
        let stride = if order > Order::HUGE { Order::HUGE.frames() } else { 1 };
        (1..order.frames() / stride).map(move |i| head.offset(i * stride))
    }

    #[inline(never)]
    fn prepare_tails(&self, head: Pfn, order: Order, first: PageWord) -> Result<(), Pfn> {
        let below = order < Order::HUGE;
        let mut all_tails_implicit = true;
        for tail in Self::units(head, order) {
            let word = self.load(tail);
            if !word.is_idle() {
                return Err(tail);
            }
            if below && word.is_implicit() {
                continue;
            }
            all_tails_implicit = false;
            if !below || word != word.tail_of(order) {
                // Relaxed: made visible by the Release store of the head's word in `publish`.
                self.word(tail).store(word.tail_of(order).0, Ordering::Relaxed);
            }
        }
        // Above 2 MiB the parts and the first 2 MiB know about their tails from their last life.
        if below && first.all_tails_implicit() != (all_tails_implicit || !S::keeps(Safeguard::W16)) {
            // Relaxed: the head is as free as it was; made visible with its publication.
            self.word(head).store(first.as_free(all_tails_implicit).0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The step that frees a block. SeqCst: the hints to an uncoalesced block are looked at after
    /// it, and a thread that takes a hint away looks at the block then, so one of the two sees the
    /// other.
    #[inline]
    #[track_caller]
    pub(super) fn free_at(word: &W, seen: PageWord, freed: PageWord) -> bool {
        word.compare_exchange(seen.0, freed.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// The last reference to a block of at most 2 MiB goes, and it becomes uncoalesced; false if
    /// that is not all there is to do.
    #[inline]
    pub(super) fn free_uncoalesced_at(word: &W, seen: PageWord, order: Order, sink: &impl FreeSink) -> bool {
        sink.takes_uncoalesced()
            && seen.frees_uncoalesced(order).is_some_and(|uncoalesced| Self::free_at(word, seen, uncoalesced))
    }

    /// The step that frees a block whose head's word is all there is to change; a page or 2 MiB
    /// becomes uncoalesced in it if the sink takes it so.
    pub(super) fn free_at_once(
        word: &W,
        seen: PageWord,
        freed: PageWord,
        head: Pfn,
        order: Order,
        sink: &impl FreeSink,
    ) -> bool {
        let uncoalesced = sink.takes_uncoalesced() && (order == Order::PAGE || order == Order::HUGE);
        let done = Self::free_at(word, seen, if uncoalesced { freed.as_uncoalesced(order) } else { freed });
        match done {
            true if uncoalesced => sink.freed_uncoalesced(head, order),
            true => sink.freed_block(head, order),
            false => {}
        }
        done
    }

    /// The last reference or pin went: `dead` is the head's word with neither. No one else can
    /// reach the block.
    pub(super) fn free_block(&self, head: Pfn, dead: PageWord, sink: &impl FreeSink) {
        let order = dead.order();
        if dead.is_hwpoison() || dead.has_hwpoisoned() {
            return self.free_one_by_one(head, order, sink);
        }
        if order > Order::HUGE {
            for middle in Self::units(head, order) {
                self.store_freed(middle);
            }
        }
        if sink.takes_uncoalesced() && (order == Order::PAGE || order == Order::HUGE) {
            // SeqCst: as in `free_at`.
            self.word(head).store(dead.freed().as_uncoalesced(order).0, Ordering::SeqCst);
            return sink.freed_uncoalesced(head, order);
        }
        // Release: the frame goes to the allocator, whose own Release hands it on.
        self.word(head).store(dead.freed().0, Ordering::Release);
        sink.freed_block(head, order);
    }

    /// Frees a block of which some frames go out of service: each frame's word decides.
    fn free_one_by_one(&self, head: Pfn, order: Order, sink: &impl FreeSink) {
        let range = FrameRange::block(head, order);
        let next = Cell::new(range.start);
        // The sink tells hooks of what is freed, and they may panic.
        to_the_end(|| {
            while range.contains(next.get()) {
                let part = next.get();
                let frames = FrameRange::new(part, order.frames().min(PAGEBLOCK_FRAMES as u64));
                next.set(frames.end);
                let (good, bad) = self.free_part(frames);
                let _good = Finally(|| sink.freed_frames(part.head(Order::HUGE), &good));
                bad.iter().for_each(|frame| sink.freed_offline(part.head(Order::HUGE).offset(frame)));
            }
        });
    }

    /// Frees these frames of one pageblock. Returns those that are free now and those that are out
    /// of service.
    #[expect(clippy::arithmetic_side_effects, reason = "not before the head")]
    fn free_part(&self, frames: FrameRange) -> (FrameMask, FrameMask) {
        let (mut good, mut bad) = (FrameMask::NONE, FrameMask::NONE);
        for frame in frames.iter() {
            let freed = if self.load(frame).is_hwpoison() { &mut bad } else { &mut good };
            freed.insert(frame.get() - frame.head(Order::HUGE).get());
            self.store_freed(frame);
        }
        (good, bad)
    }

    fn store_freed(&self, frame: Pfn) {
        // Release: the frame goes to the allocator, whose own Release hands it on.
        self.word(frame).store(self.load(frame).freed().0, Ordering::Release);
    }
}
