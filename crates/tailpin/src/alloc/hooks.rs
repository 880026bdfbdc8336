//! What a caller may do at the two ends of a block's life, and when memory runs short.

use crate::frame::{Order, Pfn};

/// Hooks of a zone, the kernel's `arch_alloc_page` and `arch_free_page`; all of them do nothing by
/// default.
///
/// They are called from inside allocation and free, so they must not allocate from the same zone;
/// freeing to it is fine in [`Hooks::reclaim`].
pub trait Hooks: Sync {
    /// A block is about to be handed out; no other caller can obtain any of its pages yet ("I
    /// wonder if arch_alloc_page needs refcount 1": it doesn't). `zero` asks for its contents to be
    /// cleared: the crate itself never touches the frames.
    fn before_publication(&self, head: Pfn, order: Order, zero: bool) {
        let _ = (head, order, zero);
    }

    /// The last reference to a block (or to one page of a split one) is gone; no caller has
    /// obtained it again yet.
    fn after_last_reference(&self, head: Pfn, order: Order) {
        let _ = (head, order);
    }

    /// Free memory is below the low watermark, or a request for `order` found nothing. Frees what
    /// it can and says whether it freed anything; a failed request is then tried again.
    fn reclaim(&self, order: Order, free_frames: u64) -> bool {
        let _ = (order, free_frames);
        false
    }
}
