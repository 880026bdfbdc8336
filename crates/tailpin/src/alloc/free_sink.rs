//! What comes back after the last reference: it becomes uncoalesced, or goes to the pool.

use core::sync::atomic::Ordering;

use crate::atomic::AtomicWord;
use crate::finally::Finally;
use crate::frame::{Order, Pfn};
use crate::frame_mask::{FrameMask, RowMask};
use crate::protocol::{FreeSink, ParkingPlace, Protocol};
use crate::report::Misuse;

use super::allocator::Allocator;
use super::cpu_cache::Places;
use super::ids::RowId;
use super::set_aside::SetAside;

impl<P: Protocol> Allocator<'_, P> {
    /// Gives a block to the pool.
    #[inline(never)]
    pub(crate) fn give(&self, head: Pfn, order: Order) {
        self.given(head, order, self.pool.give(head, order));
    }

    /// Gives pages of a row to the pool.
    pub(crate) fn give_pages(&self, row: RowId, pages: u64) {
        let given = self.pool.give_frames(row, pages);
        self.given(self.page_of(row, 0), Order::PAGE, given);
    }

    /// What the pool was given, in the pageblocks of a block of `order` at `head`, it may have
    /// already; and some of it may have to leave service.
    #[inline]
    pub(crate) fn given(&self, head: Pfn, order: Order, given: Result<(), Pfn>) {
        if let Err(frame) = given {
            self.refuse_free_frame(frame);
        }
        self.retire_waiting(head, order);
    }

    /// Tells those who want to know that a block was freed.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "an order's frames fit into 63 bits")]
    fn call_free_hooks(&self, head: Pfn, order: Order) {
        if self.config.low_watermark != 0 {
            self.cpu_cache().note_taken(-(order.frames() as i64));
        }
        if let Some(hooks) = self.config.hooks {
            hooks.after_last_reference(head, order);
        }
    }

    /// A page or 2 MiB that was freed becomes uncoalesced, now that its hooks have run.
    fn leave_uncoalesced(&self, head: Pfn, order: Order) {
        // With hooks a block is looked at before it is handed out, and so it is in a protocol that
        // does that in several steps; without, a request to set a frame of it aside waits for this
        // to end.
        let _moving = (P::HANDS_OUT_AT_ONCE && !self.has_hooks).then(|| self.cache_at(0).move_pages());
        if self.waiting_among(head, order).is_some() {
            return self.give(head, order);
        }
        match self.protocol.leave_uncoalesced(head, order) {
            Ok(()) => {
                // SeqCst: what leads to it is looked at after it is uncoalesced, as where it became
                // so in the step that freed it; and so is what waits to leave service.
                P::Word::fence(Ordering::SeqCst);
                self.freed_uncoalesced(head, order);
                self.retire_waiting(head, order);
            }
            // The protocol has just freed it, so its word was written by a caller that had no
            // business to.
            Err(_) => self.refuse_bad_frame(head, order, head),
        }
    }
}

impl<P: Protocol> FreeSink for Allocator<'_, P> {
    #[inline]
    fn takes_uncoalesced(&self) -> bool {
        !self.has_hooks
    }

    #[inline]
    fn freed_uncoalesced(&self, head: Pfn, order: Order) {
        if order == Order::PAGE { self.publish_page_hint(head) } else { self.publish_pageblock_hint(head) }
    }

    #[inline]
    fn freed_pages(&self, pages: RowMask) {
        self.publish_row_hint(pages);
    }

    #[inline]
    fn park(&self, head: Pfn, order: Order) -> Option<ParkingPlace> {
        self.park_block(self.cpu_cache(), head, order, Places::Shared)
    }

    #[inline]
    fn parked(&self, head: Pfn, order: Order, place: ParkingPlace, freed: bool) {
        self.parked_block(head, order, place, freed);
    }

    fn freed_block(&self, head: Pfn, order: Order) {
        let back = Finally(|| {
            if order == Order::PAGE || order == Order::HUGE {
                self.leave_uncoalesced(head, order);
            } else {
                self.give(head, order);
            }
        });
        self.call_free_hooks(head, order);
        drop(back);
    }

    fn freed_frames(&self, pageblock: Pfn, frames: &FrameMask) {
        let back = Finally(|| self.given(pageblock, Order::PAGE, self.pool.give_some(pageblock, frames)));
        if self.has_hooks {
            for index in frames.iter() {
                self.call_free_hooks(pageblock.offset(index), Order::PAGE);
            }
        }
        drop(back);
    }

    fn freed_offline(&self, _frame: Pfn) {
        self.count_set_aside(1);
    }

    #[cold]
    fn misuse(&self, misuse: &Misuse) {
        // First, as the sink is the caller's code and may panic.
        let said = self.set_aside(misuse.frame);
        let _then = Finally(|| {
            if let (SetAside::AskAgain, Some(sink)) = (said, self.config.sink) {
                sink.ask_again(misuse.frame);
            }
        });
        self.tell(misuse);
    }
}
