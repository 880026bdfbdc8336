//! Two words beside each frame: whose page it is and which one (`page->mapping`, `page->index`). 16
//! bytes per frame, touched with the frame's first use.
//!
//! A thread that has just allocated a block writes them, before it publishes the entry that maps
//! the block, for *every* frame of the block; they are unchanged after that until the frame is
//! free. So a thread with a pin on a page reads from the page itself what the page is, and a split,
//! merge, move or truncation at the same time changes nothing of that (H9, H10, H11): it is never
//! computed from a head.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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

/// What an [`Mm`](crate::Mm) notes of each frame of a zone's span, the first entry for its first
/// frame. It serves one `Mm` at a time, and no entry is in two of these values: they own their
/// entries, or have them lent for themselves alone.
///
/// ```
/// use tailpin_mm::{FrameInfo, FrameInfos};
///
/// let owned = FrameInfos::new(512);
/// let mut entries: Vec<FrameInfo> = (0..512).map(|_| FrameInfo::new()).collect();
/// let lent = FrameInfos::from(entries.as_mut_slice());
/// assert_eq!(owned.len(), lent.len());
/// ```
///
/// Two over entries that overlap can't be made:
///
/// ```compile_fail,E0499
/// # use tailpin_mm::{FrameInfo, FrameInfos};
/// # let mut entries: Vec<FrameInfo> = (0..512).map(|_| FrameInfo::new()).collect();
/// let first = FrameInfos::from(&mut entries[..300]);
/// let second = FrameInfos::from(&mut entries[200..]);
/// drop(first);
/// ```
pub struct FrameInfos<'m> {
    entries: Entries<'m>,
    /// An [`Mm`](crate::Mm) has them. Set by the thread that makes it, cleared by the one that
    /// drops its last handle.
    in_use: AtomicBool,
}

/// The entries, to which no other value leads.
enum Entries<'m> {
    Owned(Box<[FrameInfo]>),
    Lent(&'m [FrameInfo]),
}

impl FrameInfos<'static> {
    /// For so many frames, never used.
    ///
    /// # Panics
    /// If there is no memory for them, 16 bytes each.
    pub fn new(frames: u64) -> Self {
        let mut entries = Vec::new();
        let frames = usize::try_from(frames).unwrap_or(usize::MAX);
        entries.try_reserve_exact(frames).expect("no memory for the frame information");
        entries.resize_with(frames, FrameInfo::new);
        Self { entries: Entries::Owned(entries.into_boxed_slice()), in_use: AtomicBool::new(false) }
    }
}

impl<'m> From<&'m mut [FrameInfo]> for FrameInfos<'m> {
    fn from(entries: &'m mut [FrameInfo]) -> Self {
        Self { entries: Entries::Lent(entries), in_use: AtomicBool::new(false) }
    }
}

impl FrameInfos<'static> {
    /// Over the metadata of a machine's frames, of which its owner makes one value: for
    /// `tailpin-kernel`, which has no exclusive reference to them. No stable interface.
    #[doc(hidden)]
    pub const fn from_metadata(entries: &'static [FrameInfo]) -> Self {
        Self { entries: Entries::Lent(entries), in_use: AtomicBool::new(false) }
    }
}

impl FrameInfos<'_> {
    /// The number of entries.
    pub fn len(&self) -> u64 {
        self.entries().len() as u64
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn entries(&self) -> &[FrameInfo] {
        match &self.entries {
            Entries::Owned(entries) => entries,
            Entries::Lent(entries) => entries,
        }
    }

    /// For one [`Mm`](crate::Mm), whose first frame is `base`; `None` while they serve another.
    pub(crate) fn claim(&self, base: Pfn) -> Option<ClaimedInfos<'_>> {
        // Acquire: pairs with the Release in `drop`, after which no thread writes to any.
        if self.in_use.swap(true, Ordering::Acquire) {
            return None;
        }
        Some(ClaimedInfos { infos: self.entries(), in_use: &self.in_use, base })
    }
}

impl fmt::Debug for FrameInfos<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Relaxed: what was so at some moment.
        let in_use = self.in_use.load(Ordering::Relaxed);
        f.debug_struct("FrameInfos").field("len", &self.len()).field("in_use", &in_use).finish()
    }
}

/// The words of all frames of the zone's span, which one [`Mm`](crate::Mm) has.
pub(crate) struct ClaimedInfos<'z> {
    infos: &'z [FrameInfo],
    in_use: &'z AtomicBool,
    base: Pfn,
}

impl ClaimedInfos<'_> {
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
            info.index.store(index + i, Ordering::Relaxed);
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
        (owner, info.index.load(Ordering::Relaxed))
    }
}

impl Drop for ClaimedInfos<'_> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `claim`.
        self.in_use.store(false, Ordering::Release);
    }
}

const _: () = assert!(size_of::<FrameInfo>() == 16);
