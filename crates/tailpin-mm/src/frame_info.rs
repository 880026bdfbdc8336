//! Two words beside each frame: whose page it is and which one. 16 bytes per frame, touched with
//! the frame's first use.
//!
//! Written by whoever has a fresh block to himself, before the entry that maps it is published, for
//! *every* frame of the block; after that unchanged until the frame is free. So whoever has a pin
//! on a page reads from the page itself what it is, whatever is split, merged, moved or truncated
//! meanwhile (H9, H10, H11): nobody computes it from a head.

use core::sync::atomic::{AtomicU64, Ordering};

use tailpin::Pfn;

/// The words of one frame; all zero for a frame never used.
#[derive(Debug, Default)]
pub struct FrameInfo {
    owner: AtomicU64,
    index: AtomicU64,
}

impl FrameInfo {
    /// For a frame never used.
    pub const fn new() -> Self {
        Self { owner: AtomicU64::new(0), index: AtomicU64::new(0) }
    }
}

/// Whose a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageOwner {
    /// Nobody's: a page table, the page of zeroes, or a frame not used for memory.
    None,
    /// Anonymous memory of the family of spaces with this root.
    Anonymous(u64),
    /// The object with this identity.
    Object(u64),
}

const ANONYMOUS: u64 = 1 << 63;

/// All frames of the zone's span.
pub(crate) struct FrameInfos<'z> {
    infos: &'z [FrameInfo],
    base: Pfn,
}

impl<'z> FrameInfos<'z> {
    pub(crate) fn new(infos: &'z [FrameInfo], base: Pfn) -> Self {
        Self { infos, base }
    }

    fn of(&self, frame: Pfn) -> &FrameInfo {
        &self.infos[(frame.get() - self.base.get()) as usize]
    }

    /// Notes that `frames` frames from `head` are pages `index` and on of `owner`. The frames are
    /// the caller's.
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
            info.index.store(index + i, Ordering::Relaxed);
        }
    }

    /// Whose page `frame` is and which. Meaningful under a pin taken through an entry that maps it.
    pub(crate) fn read(&self, frame: Pfn) -> (PageOwner, u64) {
        let info = self.of(frame);
        // Relaxed: the entry that led here was read with Acquire, and the words don't change under
        // a pin.
        let owner = match info.owner.load(Ordering::Relaxed) {
            0 => PageOwner::None,
            root if root & ANONYMOUS != 0 => PageOwner::Anonymous(root & !ANONYMOUS),
            object => PageOwner::Object(object),
        };
        (owner, info.index.load(Ordering::Relaxed))
    }

    /// The words of a page-table frame on its way to being free: which one is next, and when it was
    /// taken out of use.
    pub(crate) fn link(&self, table: Pfn, next: Option<Pfn>, cookie: u64) {
        let info = self.of(table);
        // Relaxed: under the lock of the list.
        info.owner.store(next.map_or(u64::MAX, Pfn::get), Ordering::Relaxed);
        info.index.store(cookie, Ordering::Relaxed);
    }

    pub(crate) fn linked(&self, table: Pfn) -> (Option<Pfn>, u64) {
        let info = self.of(table);
        // Relaxed: under the lock of the list.
        let next = info.owner.load(Ordering::Relaxed);
        ((next != u64::MAX).then(|| Pfn::new(next)), info.index.load(Ordering::Relaxed))
    }
}

const _: () = assert!(size_of::<FrameInfo>() == 16);
