//! One page: by far the most frequent request, in a straight line.

use std::mem::ManuallyDrop;

use tailpin::{Order, Pfn};

use crate::arena::Arena;
use crate::error::AllocError;
use crate::handles::buffer::Buffer;
use crate::page_notes::TagNumber;
use crate::requests::charge::Charge;
use crate::thread_slot::ThreadSlot;

impl Arena {
    /// A buffer of one page without a tag, for a thread that has a slot of its own, where nothing
    /// is in the way. `None` if there is more to it; nothing has been done then.
    #[inline(always)]
    pub(crate) fn page_in_line(&self, len: usize) -> Option<Result<Buffer, AllocError>> {
        let inner = self.inner();
        if inner.is_child() {
            return None;
        }
        let slot = ThreadSlot::known_own()?;
        let zone = inner.zone_of(slot)?;
        if !inner.budget.take_plainly(slot, 1) {
            return None;
        }
        // The page that is counted is the buffer's from here on, or goes back with a charge.
        let Ok(block) = zone.alloc(Order::PAGE) else {
            return Some(Charge::long_way(Ok(Charge::of(self, TagNumber::NONE, 1)), len));
        };
        let head = ManuallyDrop::new(block).pfn();
        if !inner.residency.is_all_there(head, Order::PAGE) {
            return Some(self.page_to_populate(head, len));
        }
        Some(Ok(self.noted(head, Order::PAGE, len, TagNumber::NONE)))
    }

    /// A buffer of one page that was just taken, is counted, and has no memory yet.
    #[inline(never)]
    fn page_to_populate(&self, head: Pfn, len: usize) -> Result<Buffer, AllocError> {
        let tag = TagNumber::NONE;
        Charge::of(self, tag, 1).passes_to(|| self.hand_out(head, Order::PAGE, len, tag))
    }
}
