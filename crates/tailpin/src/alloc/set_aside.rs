//! Frames that leave service: on demand, or because a caller misused them.

#[cfg(test)]
mod tests;

use core::sync::atomic::Ordering;

use crate::atomic::AtomicWord;
use crate::frame::{FrameRange, Order, PAGEBLOCK_FRAMES, Pfn};
use crate::page_state::{Kind, PageState};
use crate::protocol::Protocol;
use crate::report::{Cause, Misuse, Operation};

use super::allocator::Allocator;
use super::ids::PageblockId;
use super::take_frames::TURNS;

/// What became of a frame that was to go out of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SetAside {
    /// It was free and is out of service.
    Done,
    /// It is in use and leaves service when it is freed, or it is on its way from one owner to the
    /// next (which includes frames in a [`Claimed`](crate::Claimed) and pages at hand in
    /// [`Blocks`](crate::Blocks)) and leaves service where it arrives.
    WhenFreed,
    /// It is on its way, and whether the request reaches it is not certain: four other frames of
    /// its 2 MiB that are on their way, too, are waited for already, or a thread was stopped while
    /// it freed it or moved pages to where they can be claimed. To be asked again.
    AskAgain,
    /// It is not in service: outside the zone, reserved, or out of service already, also by a
    /// request that was answered [`AskAgain`](Self::AskAgain).
    NotInService,
}

/// What came of the look for a frame.
enum Found {
    /// It leaves service.
    Leaves(SetAside),
    /// It is free and in no place: the thread that has it looks for requests to set it aside before
    /// it hands it out, and after it has put it anywhere.
    OnItsWay,
    /// The thread that took the last pin is about to make it uncoalesced, without such a look.
    Dying,
}

impl Found {
    /// Of the words of a page and of a pageblock: their last reference has gone, and the last pin.
    fn is_dying(state: PageState, order: Order) -> bool {
        let is_head = matches!(state.kind, Kind::Page | Kind::Head) && state.order == order;
        is_head && (order == Order::PAGE || order == Order::HUGE) && (state.refs, state.pins) == (0, 0)
    }
}

/// Pageblocks that a block of this order, one or more, has frames in.
fn pageblocks_of(order: Order) -> usize {
    (order.frames() as usize).div_ceil(PAGEBLOCK_FRAMES)
}

impl<P: Protocol> Allocator<'_, P> {
    /// Takes a frame out of service for good: at once if it is free, else when it is freed.
    pub(crate) fn set_aside(&self, frame: Pfn) -> SetAside {
        if !self.protocol.covers(frame) || self.is_out_of_service(frame) {
            return SetAside::NotInService;
        }
        if let Found::Leaves(said) = self.look_for(frame) {
            return said;
        }
        // It is between owners: the next one is told.
        let noted = self.pool.await_frame(frame);
        // SeqCst: pairs with that of the step after which `retire_waiting` looks whether anything
        // waits. So it sees the note, or the frame is found here.
        P::Word::fence(Ordering::SeqCst);
        for _ in 0..TURNS {
            // A move of pages that begins later sees the note before it lets them be claimed. What
            // one that has ended by now has moved is found.
            let moves_ended = self.moves_have_ended();
            let said = match self.look_for(frame) {
                Found::Leaves(said) => Some(said),
                _ if self.is_out_of_service(frame) => Some(SetAside::Done),
                _ if !noted => return SetAside::AskAgain,
                Found::OnItsWay if moves_ended => return SetAside::WhenFreed,
                _ => None,
            };
            if let Some(said) = said {
                self.forget_fulfilled(frame);
                return said;
            }
            P::Word::relax();
        }
        // The note stays: another request may have been promised that it does.
        SetAside::AskAgain
    }

    fn is_out_of_service(&self, frame: Pfn) -> bool {
        matches!(self.protocol.state(frame).kind, Kind::Reserved | Kind::Offline)
            || self.pool.is_withheld(frame)
    }

    /// Sets a frame aside wherever it is: in use, free in the pool or uncoalesced.
    fn look_for(&self, frame: Pfn) -> Found {
        let mark = || self.protocol.mark_hwpoison(frame, self);
        self.look(frame, mark, || true)
    }

    /// Sets a frame aside whose request is noted, if it is free in the pool or uncoalesced.
    ///
    /// Since the note was read the frame may have left and been restored. So, once it is the
    /// caller's, the note is looked at again: where it is gone, the frame goes back. One in use is
    /// left alone, as the mark could not be taken back: it is the thread that hands it out that
    /// looks for the note and marks it.
    fn look_for_noted(&self, frame: Pfn) -> Found {
        self.look(frame, || false, || self.waiting_among(frame, Order::PAGE).is_some())
    }

    /// `mark` marks the frame if it is in use; `leaves` says of a free one, which is the caller's
    /// by then, whether it is to leave service still.
    fn look(&self, frame: Pfn, mark: impl Fn() -> bool, leaves: impl Fn() -> bool) -> Found {
        let pageblock = frame.head(Order::HUGE);
        // A page that is uncoalesced, handed out and uncoalesced again while it is looked for is in
        // another life then.
        let orders = core::array::from_fn::<_, { Order::HUGE.get() as usize + 1 }, _>(|order| order as u8);
        let lives = || orders.map(|order| self.protocol.state(frame.head(Order::wrap(order))));
        loop {
            let before = lives();
            if mark() {
                return Found::Leaves(SetAside::WhenFreed);
            }
            let of_pool = self.pool.take_frame(frame);
            if of_pool || self.protocol.claim(frame, Order::PAGE) {
                if !leaves() {
                    self.give(frame, Order::PAGE);
                    return Found::OnItsWay;
                }
                self.take_offline(frame);
                if of_pool {
                    // Others of its word may have changed hands with it.
                    self.retire_waiting(frame, Order::PAGE);
                }
                return Found::Leaves(SetAside::Done);
            }
            if self.protocol.claim(pageblock, Order::HUGE) {
                self.give(pageblock, Order::HUGE);
            } else if self.coalesce_around(frame) {
                // It is looked for in the pool next.
            } else if before == lives() {
                let is_dying = |(order, state): (u8, PageState)| Found::is_dying(state, Order::wrap(order));
                let dying = orders.into_iter().zip(before).any(is_dying);
                return if dying { Found::Dying } else { Found::OnItsWay };
            }
        }
    }

    /// A frame of a block of the caller's that waits to leave service.
    #[inline(always)]
    pub(crate) fn waiting_among(&self, head: Pfn, order: Order) -> Option<Pfn> {
        let pageblock = self.pool.pageblock_of(head);
        if order <= Order::HUGE && !self.pool.has_waiting(pageblock) {
            return None;
        }
        self.find_waiting(pageblock, head, order)
    }

    #[inline(never)]
    fn find_waiting(&self, first: PageblockId, head: Pfn, order: Order) -> Option<Pfn> {
        first
            .following(pageblocks_of(order))
            .filter(|pageblock| self.pool.has_waiting(*pageblock))
            .find_map(|pageblock| self.waiting_in(pageblock, FrameRange::block(head, order)))
    }

    #[cold]
    fn waiting_in(&self, pageblock: PageblockId, frames: FrameRange) -> Option<Pfn> {
        self.pool.waiting(pageblock).find(|frame| frames.contains(*frame))
    }

    /// After frames in the pageblocks of this block changed hands, by a step that is SeqCst: what
    /// waits there to leave service does so, if it has arrived.
    #[inline(always)]
    pub(crate) fn retire_waiting(&self, head: Pfn, order: Order) {
        let pageblock = self.pool.pageblock_of(head);
        if order <= Order::HUGE {
            self.retire_waiting_in(pageblock);
        } else {
            pageblock.following(pageblocks_of(order)).for_each(|id| self.retire_waiting_in(id));
        }
    }

    #[inline(always)]
    pub(crate) fn retire_waiting_in(&self, pageblock: PageblockId) {
        if self.pool.has_waiting(pageblock) {
            self.retire_arrived(pageblock);
        }
    }

    #[cold]
    fn retire_arrived(&self, pageblock: PageblockId) {
        for frame in self.pool.waiting(pageblock) {
            if matches!(self.look_for_noted(frame), Found::Leaves(_)) || self.is_out_of_service(frame) {
                self.forget_fulfilled(frame);
            }
        }
    }

    /// After a block was published, by a step that is SeqCst, and while its reference is the
    /// caller's: what of it waits to leave service does so when it is freed.
    #[inline(always)]
    pub(crate) fn mark_waiting(&self, head: Pfn, order: Order) {
        if self.waiting_among(head, order).is_some() {
            self.mark_handed_out(head, order);
        }
        self.retire_waiting(head, order);
    }

    #[cold]
    fn mark_handed_out(&self, head: Pfn, order: Order) {
        let block = FrameRange::block(head, order);
        for pageblock in self.pool.pageblock_of(head).following(pageblocks_of(order)) {
            for frame in self.pool.waiting(pageblock).filter(|frame| block.contains(*frame)) {
                self.protocol.mark_hwpoison(frame, self);
                self.forget_fulfilled(frame);
            }
        }
    }

    /// The note that a frame waits to leave service is taken away, if it has left since, or does so
    /// when it is freed. Another thread may have restored it by now: what is asked of it then is
    /// noted anew.
    fn forget_fulfilled(&self, frame: Pfn) {
        let has_left = || self.is_out_of_service(frame) || self.protocol.state(frame).hwpoison;
        self.pool.forget_frame(frame, has_left);
    }

    /// A frame that has left service enters it again; false if it has not left.
    pub(crate) fn restore(&self, frame: Pfn) -> bool {
        if !self.protocol.covers(frame) {
            return false;
        }
        while self.protocol.enter_service(frame, Kind::Offline) {
            if self.waiting_among(frame, Order::PAGE).is_none() {
                // Relaxed: a statistic.
                self.set_aside.fetch_sub(1, Ordering::Relaxed);
                self.give(frame, Order::PAGE);
                return true;
            }
            // The request that made it leave is still noted, and would do so again.
            self.protocol.take_offline(frame);
            self.forget_fulfilled(frame);
        }
        false
    }

    /// Frames that have gone out of service.
    pub(crate) fn set_aside_frames(&self) -> u64 {
        self.set_aside.load(Ordering::Relaxed)
    }

    /// A frame that was to be given to the pool is there already. Only reported, not searched for
    /// among the uncoalesced ones: this may be what drains them.
    #[cold]
    pub(crate) fn refuse_free_frame(&self, frame: Pfn) {
        let state = self.protocol.state(frame);
        if self.pool.take_frame(frame) {
            self.take_offline(frame);
            // Others of its word may have changed hands with it.
            self.retire_waiting(frame, Order::PAGE);
        }
        self.tell(&Misuse { frame, state, operation: Operation::Free, cause: Cause::AlreadyFree });
    }

    pub(crate) fn tell(&self, misuse: &Misuse) {
        if let Some(sink) = self.config.sink {
            sink.misuse(misuse);
        }
    }

    /// Takes a free frame of the caller's out of service.
    fn take_offline(&self, frame: Pfn) {
        self.protocol.take_offline(frame);
        self.count_set_aside(1);
    }

    /// A frame of a free block of the caller's leaves service, the rest of the block goes back: it
    /// is not in a state to be handed out, or waits for this.
    #[cold]
    pub(crate) fn refuse_bad_frame(&self, head: Pfn, order: Order, bad: Pfn) {
        self.refuse_bad_frame_among(FrameRange::block(head, order), bad);
    }

    /// Takes `bad`, one of these frames of the caller's, out of service, and gives back the others.
    #[cold]
    pub(super) fn refuse_bad_frame_among(&self, frames: FrameRange, bad: Pfn) {
        let state = self.protocol.state(bad);
        let waited = self.waiting_among(bad, Order::PAGE).is_some();
        self.take_offline(bad);
        if waited {
            self.forget_fulfilled(bad);
        }
        for frame in frames.iter().filter(|frame| *frame != bad) {
            self.give(frame, Order::PAGE);
        }
        if !waited {
            self.tell(&Misuse { frame: bad, state, operation: Operation::Allocate, cause: Cause::BadState });
        }
    }

    pub(crate) fn count_set_aside(&self, frames: u64) {
        // Relaxed: a statistic.
        self.set_aside.fetch_add(frames, Ordering::Relaxed);
    }
}
