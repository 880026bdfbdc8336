//! What is noted of each page: the tag it was handed out with, whether the block that begins there
//! is frozen, and whether it is a page that copies share.
//!
//! ```text
//!   15      14         13 ... 0
//! | frozen | fragments | tag    |
//! ```

use std::sync::atomic::{AtomicU16, Ordering};

use tailpin::{Order, Pfn};

const FROZEN: u16 = 1 << 15;
const FRAGMENTS: u16 = 1 << 14;
const TAG: u16 = !(FROZEN | FRAGMENTS);

/// The largest number of a tag.
pub(crate) const MOST_TAGS: u16 = TAG;

/// The number of a tag; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TagNumber(u16);

impl TagNumber {
    /// No tag.
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn new(number: u16) -> Self {
        Self(number & TAG)
    }

    pub(crate) fn get(self) -> u16 {
        self.0
    }
}

/// The notes of an arena's pages.
///
/// Those of a block in use are written by the thread that has its only handle, a buffer, and read
/// by threads that keep a page of it.
pub(crate) struct PageNotes {
    notes: &'static [AtomicU16],
    base: Pfn,
}

// Relaxed where nothing is said: handles pass from thread to thread in ways that order what was
// done with them.
impl PageNotes {
    /// Over zeroed notes, for frames from `base` on.
    pub(crate) fn new(notes: &'static [AtomicU16], base: Pfn) -> Self {
        Self { notes, base }
    }

    #[inline]
    fn note(&self, page: Pfn) -> &AtomicU16 {
        &self.notes[(page.get() - self.base.get()) as usize]
    }

    /// A block is handed out, not frozen. `all` says that pages may have tags from earlier, so that
    /// each note must be written; else the first is enough.
    #[inline]
    pub(crate) fn hand_out(&self, head: Pfn, order: Order, tag: TagNumber, all: bool) {
        // Release: pairs with the Acquire in `is_frozen`. A thread that keeps a page of the block
        // that was here before, and finds this note, sees that its page is of that block no more.
        if order == Order::PAGE || !all {
            let note = self.note(head);
            // What says so already is left alone, as the notes of neighbours lie in the same cache
            // line: who finds it saw what was done before it came to say so.
            if note.load(Ordering::Relaxed) != tag.0 {
                note.store(tag.0, Ordering::Release);
            }
            return;
        }
        let first = (head.get() - self.base.get()) as usize;
        for note in &self.notes[first..][..order.frames() as usize] {
            note.store(tag.0, Ordering::Release);
        }
    }

    /// Pages are handed out, each alone and not frozen.
    #[inline]
    pub(crate) fn hand_out_pages(&self, pages: &[Pfn], tag: TagNumber) {
        // Release: as in `hand_out`.
        pages.iter().for_each(|page| self.note(*page).store(tag.0, Ordering::Release));
    }

    /// The tag that a page in use was handed out with.
    pub(crate) fn tag(&self, page: Pfn) -> TagNumber {
        TagNumber(self.note(page).load(Ordering::Relaxed) & TAG)
    }

    /// Whether the block that begins with this page is frozen: readable for many, and written by no
    /// thread.
    pub(crate) fn is_frozen(&self, head: Pfn) -> bool {
        // Acquire: pairs with the Release of the thread that was handed the page.
        self.note(head).load(Ordering::Acquire) & FROZEN != 0
    }

    /// Notes whether the block that begins with this page is frozen. The caller has it alone.
    #[inline]
    pub(crate) fn set_frozen(&self, head: Pfn, frozen: bool) {
        let note = self.note(head);
        let tag = note.load(Ordering::Relaxed) & TAG;
        // Release: as in `hand_out`.
        note.store(tag | if frozen { FROZEN } else { 0 }, Ordering::Release);
    }

    /// Notes that this page is shared by copies. The caller has it alone.
    pub(crate) fn set_fragments(&self, page: Pfn) {
        self.note(page).fetch_or(FRAGMENTS, Ordering::Relaxed);
    }

    /// Whether this page, if it was handed out alone, is shared by copies. Of a page that was
    /// handed out within a larger block the note may be of an earlier life. In an arena of several
    /// processes, which has no notes, no page is.
    pub(crate) fn has_fragments(&self, page: Pfn) -> bool {
        let note = self.notes.get((page.get() - self.base.get()) as usize);
        note.is_some_and(|note| note.load(Ordering::Relaxed) & FRAGMENTS != 0)
    }
}
