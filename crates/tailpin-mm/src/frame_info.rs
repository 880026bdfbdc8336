//! Two words beside each frame: whose page it is and which one (`page->mapping`, `page->index`). 16
//! bytes per frame, touched with the frame's first use.
//!
//! A thread that has just allocated a block writes them, before it publishes the entry that maps
//! the block, for *every* frame of the block; they are unchanged after that until the frame is
//! free. So a thread with a pin on a page reads from the page itself what the page is, and a split,
//! merge, move or truncation at the same time changes nothing of that (H9, H10, H11): it is never
//! computed from a head.

use core::sync::atomic::{AtomicU64, Ordering};

use tailpin::Pfn;

/// The two words of one frame; both are zero for a frame that was never used.
#[derive(Debug, Default)]
pub struct FrameInfo {
    /// Written while the frame is in no entry, by the thread that allocated it.
    owner: AtomicU64,
    /// Written with `owner`, by the same rule.
    index: AtomicU64,
}

impl FrameInfo {
    /// The words of a frame that was never used.
    pub const fn new() -> Self {
        Self { owner: AtomicU64::new(0), index: AtomicU64::new(0) }
    }
}

/// Whose a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageOwner {
    /// No owner: a page table, the page of zeroes, or a frame not used for memory.
    None,
    /// Anonymous memory of the root with this identity.
    Anonymous(u64),
    /// The object with this identity.
    Object(u64),
}

const ANONYMOUS: u64 = 1 << 63;

/// The words of all frames of the zone's span.
pub(crate) struct FrameInfos<'z> {
    infos: &'z [FrameInfo],
    base: Pfn,
}

/// In the second word of the first and the last entry: an [`Mm`](crate::Mm) has them.
const CLAIMED: u64 = 1 << 63;

impl<'z> FrameInfos<'z> {
    /// The words of frames from `base` on; `None` if the first or the last entry serves another
    /// [`Mm`](crate::Mm). At least one.
    pub(crate) fn claim(infos: &'z [FrameInfo], base: Pfn) -> Option<Self> {
        let (first, last) = (infos.first()?, infos.last()?);
        // Acquire: pairs with the Release in `drop`, after which no thread writes to any.
        if first.index.fetch_or(CLAIMED, Ordering::Acquire) & CLAIMED != 0 {
            return None;
        }
        if infos.len() > 1 && last.index.fetch_or(CLAIMED, Ordering::Acquire) & CLAIMED != 0 {
            // Relaxed: nothing was done under the claim.
            first.index.fetch_and(!CLAIMED, Ordering::Relaxed);
            return None;
        }
        Some(Self { infos, base })
    }

    #[expect(clippy::arithmetic_side_effects, reason = "a frame of the zone: not before its first")]
    fn of(&self, frame: Pfn) -> &FrameInfo {
        &self.infos[(frame.get() - self.base.get()) as usize]
    }

    /// Writes that `frames` frames from `head` are pages `index` and on of `owner`. The frames are
    /// the caller's.
    #[expect(clippy::arithmetic_side_effects, reason = "pages of an object or a space: far below 2^63")]
    pub(crate) fn describe(&self, head: Pfn, frames: u64, owner: PageOwner, index: u64) {
        let owner = match owner {
            PageOwner::None => 0,
            PageOwner::Anonymous(root) => root | ANONYMOUS,
            PageOwner::Object(object) => object,
        };
        for i in 0..frames {
            let info = self.of(head.offset(i));
            // Relaxed: published by the compare-and-swap (Release) of the entry that maps the page.
            info.owner.store(owner, Ordering::Relaxed);
            let claimed = info.index.load(Ordering::Relaxed) & CLAIMED;
            info.index.store((index + i) | claimed, Ordering::Relaxed);
        }
    }

    /// Whose page `frame` is and which one. Meaningful under a pin taken through an entry that maps
    /// it.
    pub(crate) fn read(&self, frame: Pfn) -> (PageOwner, u64) {
        let info = self.of(frame);
        // Relaxed: the entry that led here was read with Acquire, and the words don't change under
        // a pin.
        let owner = match info.owner.load(Ordering::Relaxed) {
            0 => PageOwner::None,
            root if root & ANONYMOUS != 0 => PageOwner::Anonymous(root & !ANONYMOUS),
            object => PageOwner::Object(object),
        };
        (owner, info.index.load(Ordering::Relaxed) & !CLAIMED)
    }
}

impl Drop for FrameInfos<'_> {
    fn drop(&mut self) {
        for info in self.infos.first().into_iter().chain(self.infos.last()) {
            // Release: pairs with the Acquire in `claim`.
            info.index.fetch_and(!CLAIMED, Ordering::Release);
        }
    }
}

const _: () = assert!(size_of::<FrameInfo>() == 16);
