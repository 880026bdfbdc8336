//! Birth and death of a block: what its frames must look like before, and what they become after.

use core::cell::Cell;
use core::sync::atomic::Ordering;

use super::page::{
    GENERATION, PG_COMPOUND_LOCK, PG_HWPOISON, PG_RESERVED, PG_UNCOALESCED, PG_UNCOALESCED_HUGE, generation,
};
use super::{Classic, Safeguard, Safeguards};
use tailpin::AtomicWord;
use tailpin::{Cause, Misuse, Operation};
use tailpin::{Class, FrameMask, FreeSink};
use tailpin::{Finally, to_the_end};
use tailpin::{FrameRange, Order, Pfn};

impl<W: AtomicWord, S: Safeguards<Safeguard>> Classic<'_, W, S> {
    /// `check_new_page` for every frame: no count, no pins, no flag. Errs with the first that has
    /// one.
    pub(super) fn check_new_pages(&self, frames: FrameRange) -> Result<(), Pfn> {
        // Relaxed: the frames are the caller's, who got them from the allocator.
        let clean = |frame: &Pfn| {
            self.count(*frame).load(Ordering::Relaxed) == 0
                && self.mapcount(*frame).load(Ordering::Relaxed) == 0
                && self.flags(*frame).load(Ordering::Relaxed) & !GENERATION == 0
        };
        frames.iter().find(|frame| !clean(frame)).map_or(Ok(()), Err)
    }

    fn uncoalesced_flag(order: Order) -> u64 {
        if order == Order::PAGE { PG_UNCOALESCED } else { PG_UNCOALESCED_HUGE }
    }

    pub(super) fn is_uncoalesced_block(&self, head: Pfn, order: Order) -> bool {
        // SeqCst: after a hint was taken away or a row left; pairs with the fence after
        // `mark_uncoalesced`.
        self.flags(head).load(Ordering::SeqCst) & !GENERATION == Self::uncoalesced_flag(order)
    }

    /// Of 2 MiB the first frame says so for all. They were looked at when they were freed and are
    /// when they are handed out.
    pub(super) fn mark_uncoalesced(&self, head: Pfn, order: Order) -> Result<(), Pfn> {
        self.check_new_pages(FrameRange::new(head, 1))?;
        // Relaxed: the frame is the caller's, and no other thread writes the flags of a free one
        // (N3).
        let flags = self.flags(head).load(Ordering::Relaxed);
        // Release: pairs with the Acquire of the claim.
        self.flags(head).store(flags | Self::uncoalesced_flag(order), Ordering::Release);
        Ok(())
    }

    pub(super) fn claim_block(&self, head: Pfn, order: Order) -> bool {
        // SeqCst: after a hint was taken away or a row left; pairs with the step that frees.
        let seen = self.flags(head).load(Ordering::SeqCst);
        // AcqRel: the claimer sees what led to the free block, and passes it on with what it makes
        // of it.
        let claim = |to| self.flags(head).compare_exchange(seen, to, Ordering::AcqRel, Ordering::Relaxed);
        seen & !GENERATION == Self::uncoalesced_flag(order) && claim(seen & GENERATION).is_ok()
    }

    /// The mail's replacement order: `prep_compound_page`, write barrier, `set_page_refcounted` as
    /// the very last action. Returns the generation.
    pub(super) fn hand_out(&self, head: Pfn, order: Order, class: Class) -> u8 {
        S::in_order(
            Safeguard::H2,
            || self.prep_new_page(head, order, class),
            || self.set_page_refcounted(head),
        );
        // Relaxed: this thread's own reference.
        generation(self.flags(head).load(Ordering::Relaxed))
    }

    fn set_page_refcounted(&self, head: Pfn) {
        if S::keeps(Safeguard::H3) {
            W::fence(Ordering::Release);
        }
        // Relaxed: the barrier is right before it. From here on others may take the compound lock.
        self.count(head).store(1, Ordering::Relaxed);
    }

    /// The count is zero and this thread was the last: the frames become the allocator's.
    ///
    /// Frames that are marked hwpoison or in a bad state stay behind, out of service.
    pub(super) fn free_block(&self, head: Pfn, order: Order, sink: &impl FreeSink) {
        // Relaxed: the last reference went with Acquire.
        let maps = self.mapcount(head).load(Ordering::Relaxed);
        if maps > 0 {
            // A caller gave back a pin that it did not have: the block references are real, so they
            // are put back. Release: this is a publication.
            self.count(head).fetch_add(maps, Ordering::Release);
            return self.bad_page(head, Operation::Put, Cause::NotPinned, sink);
        }
        let (next, bad) = (Cell::new(head), Cell::new(0_u64));
        let range = FrameRange::block(head, order);
        // However the sink ends, which is the caller's code: what is good goes back.
        let _back = Finally(|| match bad.get() {
            0 => sink.freed_block(head, order),
            bad if bad < order.frames() => self.free_the_good(range, sink),
            _ => {}
        });
        to_the_end(|| {
            while range.contains(next.get()) {
                let frame = next.replace(next.get().offset(1));
                let (aside, misuse) = self.free_pages_check(frame);
                if aside {
                    bad.set(bad.get() + 1);
                    sink.freed_offline(frame);
                }
                if let Some(misuse) = misuse {
                    sink.misuse(&misuse);
                }
            }
        });
    }

    /// Checks a frame of a block whose count is zero and clears its flags. Returns whether it goes
    /// out of service, and the misuse if it is for that.
    ///
    /// With the count at zero no other thread touches the flags (N3), as each takes a reference
    /// first (H1). So plain stores do.
    fn free_pages_check(&self, frame: Pfn) -> (bool, Option<Misuse>) {
        // Relaxed: the last reference went with Acquire.
        let flags = self.flags(frame).load(Ordering::Relaxed);
        let bad = self.count(frame).load(Ordering::Relaxed) != 0
            || self.mapcount(frame).load(Ordering::Relaxed) != 0
            || flags & (PG_COMPOUND_LOCK | PG_RESERVED) != 0;
        let state = self.decode(frame);
        let misuse = Misuse { frame, state, operation: Operation::Free, cause: Cause::BadState };
        let aside = bad || flags & PG_HWPOISON != 0;
        let kept = if aside { PG_HWPOISON | PG_RESERVED } else { 0 };
        // Release: the frame goes to the allocator, whose own Release hands it on.
        self.flags(frame).store(flags & GENERATION | kept, Ordering::Release);
        (aside, bad.then_some(misuse))
    }

    /// Hands back what of a freed block did not go offline, pageblock by pageblock.
    fn free_the_good(&self, range: FrameRange, sink: &impl FreeSink) {
        let next = Cell::new(range.start);
        to_the_end(|| {
            while range.contains(next.get()) {
                let part = next.get();
                let first = part.head(Order::HUGE);
                let end = range.end.min(first.offset(Order::HUGE.frames()));
                next.set(end);
                let mut good = FrameMask::NONE;
                for frame in (FrameRange { start: part, end }).iter() {
                    // Relaxed: this thread wrote it.
                    if self.flags(frame).load(Ordering::Relaxed) & PG_RESERVED == 0 {
                        good.insert(frame.get() - first.get());
                    }
                }
                sink.freed_frames(first, &good);
            }
        });
    }

    /// Takes a free frame of the caller's out of service, or (`aside` false) marks it as never in
    /// service.
    pub(super) fn put_into_service(&self, frame: Pfn, was_aside: bool) -> bool {
        // Acquire: pairs with the Release of `withdraw`.
        let seen = self.flags(frame).load(Ordering::Acquire);
        let mark = if was_aside { PG_HWPOISON | PG_RESERVED } else { PG_RESERVED };
        // AcqRel: as where a frame is claimed.
        let enter = || {
            self.flags(frame).compare_exchange(seen, seen & GENERATION, Ordering::AcqRel, Ordering::Relaxed)
        };
        seen & !GENERATION == mark && enter().is_ok()
    }

    pub(super) fn withdraw(&self, frame: Pfn, aside: bool) {
        // Relaxed: the frame is the caller's.
        let flags = self.flags(frame).load(Ordering::Relaxed) & GENERATION;
        let mark = if aside { PG_HWPOISON | PG_RESERVED } else { PG_RESERVED };
        // Release: pairs with the Acquire of a look-up that finds the frame out of service.
        self.flags(frame).store(flags | mark, Ordering::Release);
    }
}
