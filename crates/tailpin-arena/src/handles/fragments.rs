//! Small copies that share pages of an arena: each is a slice with a pin of its own.

use std::cell::UnsafeCell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use tailpin::FrameRange;

use crate::arena_ptr::Root;
use crate::handles::buffer::Buffer;
use crate::handles::slice::Slice;
use crate::memory::PAGE_SIZE;

/// The longest copy that shares a page; of longer ones too few fit in one.
pub(crate) const LONGEST: usize = PAGE_SIZE / 4;
/// Copies begin at multiples of this.
const ALIGN: usize = 8;

/// A page that is being filled.
struct Page {
    /// One reference on it, which keeps it while it is here.
    frames: FrameRange,
    start: NonNull<u8>,
    used: usize,
}

/// The page of a CPU slot, for one thread at a time.
#[repr(align(128))]
#[derive(Default)]
struct Slot {
    taken: AtomicBool,
    page: UnsafeCell<Option<Page>>,
}

/// Pages that are being filled with copies, one for each CPU slot.
///
/// # Invariants
/// The thread that has set `taken` of a slot has its page alone. Of a page that is here the bytes
/// behind `used` are no slice's, and those before it are written by no thread; the block is noted
/// as frozen.
pub(crate) struct Fragments {
    /// A power of two of them.
    slots: Box<[Slot]>,
}

// SAFETY: a page is reached by the thread alone that has set `taken`.
unsafe impl Sync for Fragments {}
// SAFETY: the memory belongs to the arena, not to a thread.
unsafe impl Send for Fragments {}

/// What is to be done with the page, once; its drop lets other threads have the slot.
struct Turn<'s>(&'s Slot);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `turn`.
        self.0.taken.store(false, Ordering::Release);
    }
}

impl Fragments {
    pub(crate) fn new(slots: usize) -> Self {
        Self { slots: (0..slots.next_power_of_two()).map(|_| Slot::default()).collect() }
    }

    /// The slot of this CPU, unless a thread that was stopped there is in the middle of something.
    fn turn(&self, cpu: usize) -> Option<Turn<'_>> {
        let slot = &self.slots[cpu & self.slots.len().wrapping_sub(1)];
        // Acquire: pairs with the Release in the drop of a `Turn`.
        // Not before the slot is this thread's: the drop of a turn gives it to others.
        (!slot.taken.swap(true, Ordering::Acquire)).then(|| Turn(slot))
    }

    /// A copy of at most [`LONGEST`] bytes, at least one, in this CPU's page. `None` if it has no
    /// room or is another thread's at this moment: then a new page is to be brought.
    pub(crate) fn copy(&self, root: Root, cpu: usize, bytes: &[u8]) -> Option<Slice> {
        let turn = self.turn(cpu)?;
        // SAFETY: the turn is this thread's.
        let page = unsafe { &mut *turn.0.page.get() }.as_mut()?;
        page.copy(root, bytes)
    }

    /// A copy in a new page, which is this CPU's from here on, if no other thread has its turn.
    pub(crate) fn copy_to(&self, root: Root, cpu: usize, page: Buffer, bytes: &[u8]) -> Option<Slice> {
        // It is frozen, though it is being written to: behind all that is any slice's.
        page.note_frozen(true);
        page.note_fragments();
        let (frames, start) = page.into_page();
        let mut page = Page { frames, start, used: 0 };
        let copy = page.copy(root, bytes);
        let before = match self.turn(cpu) {
            // SAFETY: the turn is this thread's.
            Some(turn) => unsafe { &mut *turn.0.page.get() }.replace(page),
            None => Some(page),
        };
        if let Some(before) = before {
            // SAFETY: the page's one reference was the slot's, or never became that. If the copy
            // keeps it, the arena is there, and if not, by the caller's handle.
            unsafe { root.drop_run(before.frames) };
        }
        copy
    }

    /// Gives up all pages. The caller has a keepalive, and no thread makes copies any more.
    pub(crate) fn give_up(&self, root: Root) {
        for slot in &self.slots {
            // SAFETY: no other thread is in here.
            if let Some(page) = unsafe { &mut *slot.page.get() }.take() {
                // SAFETY: the page's one reference was the slot's.
                unsafe { root.drop_run(page.frames) };
            }
        }
    }
}

impl Page {
    fn copy(&mut self, root: Root, bytes: &[u8]) -> Option<Slice> {
        let end = self.used.checked_add(bytes.len()).filter(|end| *end <= PAGE_SIZE)?;
        // SAFETY: within the page; the bytes behind `used` are no slice's, and this thread has the
        // page alone. They are another allocation than the source: a page that is being filled is
        // lent to no caller behind `used`.
        let start = unsafe {
            let start = self.start.add(self.used);
            start.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
            start
        };
        // SAFETY: the page is kept by the reference here, and no thread writes to bytes before
        // `used`.
        let slice = unsafe { Slice::pin_new(root, start, bytes.len(), self.frames) }?;
        self.used = end.next_multiple_of(ALIGN);
        Some(slice)
    }
}
