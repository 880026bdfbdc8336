//! Re-pinning: from bytes that lie in an arena, however they came there, a slice of their own
//! pages.

use std::ptr::NonNull;

use tailpin::{FrameRange, FrameWords, Pfn};

use crate::arena_ptr::Root;
use crate::handles::slice::Slice;
use crate::memory::PAGE_SIZE;

impl Slice {
    /// The slice that these bytes are, with pins of its own on just the pages they touch, if they
    /// lie in frozen memory of an arena of this process: a [`Slice`], or what was cut from one by
    /// code that knows nothing of arenas, a `Bytes` for instance. No handle is needed.
    ///
    /// `None` if they lie elsewhere, if they are a [`Buffer`](crate::Buffer)'s, which can be
    /// written to again, if they are empty, or a page has as many pins as can be counted.
    ///
    /// ```
    /// use tailpin_arena::{Arena, Slice};
    ///
    /// let arena = Arena::builder().limit(64 << 20).build()?;
    /// let whole = arena.alloc(2 << 20)?.freeze();
    /// let cut: &[u8] = &whole[5000..5200]; // by an engine, say
    /// let kept = Slice::of(cut).expect("it lies in an arena");
    /// drop(whole);
    /// assert_eq!((kept.len(), arena.in_use()), (200, 4096));
    /// assert!(Slice::of(b"elsewhere").is_none());
    /// assert!(Slice::of(&arena.alloc(4096)?).is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        let root = Root::around(bytes)?;
        // SAFETY: bytes within an arena's data are borrowed from a handle that keeps their pages in
        // use, and with them the arena, as long as the borrow lasts.
        let inner = unsafe { root.inner() };
        if inner.is_child() {
            return None;
        }
        let ptr = NonNull::from(bytes).cast::<u8>();
        let within = ptr.addr().get() % PAGE_SIZE;
        let pages = within.checked_add(bytes.len())?.div_ceil(PAGE_SIZE) as u64;
        let pages = FrameRange::new(inner.page_of(ptr), pages);
        // SAFETY: as above.
        let words = unsafe { root.words() };
        if !are_frozen(&words, |head| inner.notes.is_frozen(head), pages) {
            return None;
        }
        // SAFETY: the pages are kept by the borrow, and no thread writes to them as long as any
        // handle keeps them.
        unsafe { Self::pin_new(root, ptr, bytes.len(), pages) }
    }
}

/// Whether no thread can write to these pages, all in use, while a handle keeps them. A buffer,
/// which can be written to, has the only reference on its blocks, and these are not frozen.
fn are_frozen(words: &impl FrameWords, is_frozen: impl Fn(Pfn) -> bool, pages: FrameRange) -> bool {
    let mut at = pages.start;
    while at < pages.end {
        let Some(end) = frozen_up_to(words, &is_frozen, at) else { return false };
        at = end;
    }
    true
}

/// Where the frozen block ends that this page in use is of, or the page itself where no block is
/// left of it but pinned pages.
fn frozen_up_to(words: &impl FrameWords, is_frozen: impl Fn(Pfn) -> bool, page: Pfn) -> Option<Pfn> {
    loop {
        let (head, order) = words.head_of(page)?;
        let refs = words.state(head).refs;
        let frozen = is_frozen(head);
        // Goes round only if the block was split, or given up by its last reference, since: then
        // the head may be another's by now, and what was read of it says nothing of the page.
        if words.head_of(page) != Some((head, order)) {
            continue;
        }
        if refs == 0 {
            // Pins alone keep it: they are slices'.
            return Some(page.offset(1));
        }
        return frozen.then(|| head.offset(order.frames()));
    }
}

#[cfg(test)]
mod model;
