//! What comes back after the last reference: it becomes loose, or goes to the store.

use core::sync::atomic::Ordering;

use crate::atomic::AtomicWord;
use crate::frame::{Order, Pfn};
use crate::protocol::{Owner, Protocol};
use crate::report::Misuse;

use super::Zone;

impl<P: Protocol> Zone<'_, P> {
    /// Gives a block to the store.
    #[inline(never)]
    pub(in crate::alloc) fn give(&self, head: Pfn, order: Order) {
        self.given(self.store.give(head, order));
    }

    /// What the store was given it may have already.
    #[inline]
    pub(in crate::alloc) fn given(&self, given: Result<(), Pfn>) {
        if let Err(frame) = given {
            self.refuse_free_frame(frame);
        }
    }

    /// Tells those who want to know that a block was freed.
    #[inline]
    fn attend_free(&self, head: Pfn, order: Order) {
        if let Some(hooks) = self.config.hooks {
            hooks.after_last_reference(head, order);
        }
        if self.config.low_watermark != 0 {
            self.slot().note_taken(-(order.frames() as i64));
        }
    }

    /// A page or 2 MiB that was freed becomes loose, now that everybody has heard of it.
    fn loosen(&self, head: Pfn, order: Order) {
        match self.protocol.loosen(head, order) {
            Ok(()) => {
                // SeqCst: what leads to it is looked at after it is loose, as where it became so in the step that freed it.
                P::Word::fence(Ordering::SeqCst);
                self.loosened(head, order);
            }
            // The protocol has just freed it, so somebody has written its word who had no business to.
            Err(_) => self.refuse_bad_frame(head, order, head),
        }
    }
}

impl<P: Protocol> Owner for Zone<'_, P> {
    #[inline]
    fn takes_loose(&self) -> bool {
        !self.attended
    }

    #[inline]
    fn loosened(&self, head: Pfn, order: Order) {
        if order == Order::PAGE { self.lead_to_page(head) } else { self.lead_to_area(head) }
    }

    fn freed_block(&self, head: Pfn, order: Order) {
        self.attend_free(head, order);
        if order == Order::PAGE || order == Order::HUGE {
            self.loosen(head, order);
        } else {
            self.give(head, order);
        }
    }

    fn freed_frames(&self, area: Pfn, frames: &[u64; 8]) {
        let freed = |i: &u64| frames[(i / 64) as usize] >> (i % 64) & 1 != 0;
        if self.attended {
            for index in (0..Order::HUGE.frames()).filter(freed) {
                self.attend_free(area.offset(index), Order::PAGE);
            }
        }
        self.given(self.store.give_area(area, frames));
    }

    fn retired(&self, _frame: Pfn) {
        self.count_set_aside(1);
    }

    #[cold]
    fn misuse(&self, misuse: Misuse) {
        self.tell(&misuse);
        self.set_aside(misuse.frame);
    }
}
