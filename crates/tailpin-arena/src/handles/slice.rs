//! Bytes that many may read, and that keep the pages they lie in and no others.

use std::fmt;
use std::mem::{self, ManuallyDrop};
use std::ops::{Deref, Range, RangeBounds};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use tailpin::{FrameRange, GetError, Order, Pfn, Zone};

use crate::arena_ptr::{PinWord, Root, one_block};
use crate::error::SliceError;
use crate::handles::buffer::Buffer;
use crate::handles::range::resolve;
use crate::memory::{PAGE_SIZE, bytes_of};
use crate::observe::page_walk;
use crate::shared_state::Inner;

/// Read-only bytes of an arena, for any thread and any time.
///
/// A slice of part of a buffer pins just the 4 KiB pages it touches; one of all of it has a
/// reference to its block. A clone is one atomic add either way. Slices of slices pin what they
/// touch themselves: dropping the larger one frees the rest.
///
/// An empty slice keeps nothing.
///
/// # Invariants
/// While the slice has bytes, `kept_by` counts on every page that they lie in: a pin on the page,
/// or a reference on its block. So these pages stay in use, no buffer has them and nothing writes
/// to them. That count is the slice's keepalive, see `Root`; an empty slice has none and never uses
/// its `root`.
pub struct Slice {
    root: Root,
    ptr: NonNull<u8>,
    len: usize,
    kept_by: KeptBy,
}

/// The count by which a slice keeps its pages.
///
/// Both parts are whole words: a processor that copies a handle waits where parts of a word were
/// written just before.
#[repr(u64)]
enum KeptBy {
    /// Nothing: it is empty. Then the root must not be used.
    Nothing,
    /// A pin on the one page it lies in, counted in this word: a look for the word would be the
    /// longest part of a clone.
    Pin(PinWord),
    /// A reference on the block that it begins in, all pages of which it touches.
    Reference(WideOrder),
    /// A share of the counts on several pages or blocks, given up by the drop of the slice.
    Shared(ManuallyDrop<Arc<Counts>>),
}

impl KeptBy {
    fn shared(counts: Counts) -> Self {
        Self::Shared(ManuallyDrop::new(Arc::new(counts)))
    }
}

/// An order that is a word.
#[derive(Clone, Copy)]
struct WideOrder(u64);

impl WideOrder {
    #[inline]
    fn new(order: Order) -> Self {
        Self(u64::from(order.get()))
    }

    #[inline]
    fn get(self) -> Order {
        // It was made from one.
        Order::new(self.0 as u8).unwrap_or(Order::MAX)
    }
}

/// Counts on several pages or blocks, taken and given up together, so that sharing them is one
/// atomic step.
struct Counts {
    root: Root,
    frames: FrameRange,
    kind: CountKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CountKind {
    /// A pin on each page.
    Pins,
    /// A reference on each of the blocks that the range consists of.
    References,
}

impl Drop for Counts {
    fn drop(&mut self) {
        // SAFETY: the counts are this value's, and nothing uses them any more.
        unsafe {
            match self.kind {
                CountKind::Pins => self.root.unpin_all(self.frames.iter()),
                CountKind::References => self.root.drop_run(self.frames),
            }
        }
    }
}

// SAFETY: the bytes are only ever read, by threads with a count on their pages, and the counts are
// atomic.
unsafe impl Send for Slice {}
// SAFETY: threads that share a slice only read through it, and count atomically.
unsafe impl Sync for Slice {}

// All shared state behind a slice is atomic words, consistent after every step.
impl UnwindSafe for Slice {}
impl RefUnwindSafe for Slice {}

impl Slice {
    /// # Safety
    /// A reference on each of the blocks passes to the slice, and `len` bytes from their first on
    /// may be read.
    pub(crate) unsafe fn adopt(root: Root, blocks: FrameRange, len: usize) -> Self {
        // SAFETY: the references are a keepalive.
        let ptr = unsafe { root.inner() }.address(blocks.start);
        if len == 0 {
            // SAFETY: the references are given up; an empty slice keeps nothing.
            unsafe { root.drop_run(blocks) };
            return Self { root, ptr, len, kept_by: KeptBy::Nothing };
        }
        let kept_by = match one_block(blocks) {
            Some(order) => KeptBy::Reference(WideOrder::new(order)),
            None => KeptBy::shared(Counts { root, frames: blocks, kind: CountKind::References }),
        };
        Self { root, ptr, len, kept_by }
    }

    /// All bytes of a block that is noted as frozen.
    ///
    /// # Safety
    /// A reference on the block of `order` at `head` passes to the slice.
    #[inline]
    pub(crate) unsafe fn of_block(root: Root, head: Pfn, order: Order) -> Self {
        // SAFETY: the reference is a keepalive.
        let ptr = unsafe { root.inner() }.address(head);
        Self { root, ptr, len: bytes_of(order.frames()), kept_by: KeptBy::Reference(WideOrder::new(order)) }
    }

    /// Bytes with pins of their own. `None` at the limit of a count.
    ///
    /// # Safety
    /// `len` bytes from `ptr` on, at least one, lie in `pages`, which another handle keeps for the
    /// length of the call, and which no thread writes to while any handle keeps them.
    pub(crate) unsafe fn pin_new(
        root: Root,
        ptr: NonNull<u8>,
        len: usize,
        pages: FrameRange,
    ) -> Option<Self> {
        // Until the first pin is there the slice keeps nothing.
        let mut part = Self { root, ptr, len, kept_by: KeptBy::Nothing };
        // SAFETY: another handle keeps the page.
        let kept_by = pin_pages(root, pages, |page| unsafe { root.pin_in_block(page) });
        part.kept_by = kept_by.ok()?;
        Some(part)
    }

    /// Length of the slice in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the slice has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The part of it in `range`, which keeps only the pages it touches itself.
    ///
    /// # Panics
    /// If the range is not within the slice, or a page has 8,388,608 pins. See
    /// [`Slice::try_slice`].
    #[must_use]
    #[inline(always)] // As `try_clone`.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        match self.try_slice(range) {
            Ok(part) => part,
            Err(error) => panic!("{error}"),
        }
    }

    /// The part of it in `range`.
    ///
    /// # Errors
    /// [`SliceError`].
    #[inline(always)] // As `try_clone`.
    pub fn try_slice(&self, range: impl RangeBounds<usize>) -> Result<Self, SliceError> {
        let Range { start, end } = resolve(range, self.len)?;
        let len = end.saturating_sub(start);
        // SAFETY: `start` is at most the length.
        let ptr = unsafe { self.ptr.add(start) };
        let left_in_page = PAGE_SIZE.saturating_sub(ptr.as_ptr() as usize % PAGE_SIZE);
        if 0 < len
            && len < self.len.min(left_in_page.saturating_add(1))
            && let Some(word) = self.pin_on_one(ptr)?
        {
            return Ok(Self { root: self.root, ptr, len, kept_by: KeptBy::Pin(word) });
        }
        self.other_slice(ptr, len)
    }

    /// The part of `len` bytes from `ptr` on, which lies in several pages, is all of it, or has no
    /// bytes.
    #[inline(never)]
    fn other_slice(&self, ptr: NonNull<u8>, len: usize) -> Result<Self, SliceError> {
        if len == self.len {
            return self.try_clone();
        }
        let mut part = Self { root: self.root, ptr, len, kept_by: KeptBy::Nothing };
        if !part.is_empty() {
            part.kept_by = self.count_on(part.pages())?;
        }
        Ok(part)
    }

    /// A pin on the page of an address within the slice, where that is the straight way: the slice
    /// has a pin itself, or a larger block.
    #[inline(always)] // A result that goes through memory costs more than all the rest.
    fn pin_on_one(&self, at: NonNull<u8>) -> Result<Option<PinWord>, SliceError> {
        match self.kept_by {
            KeptBy::Pin(word) => {
                // SAFETY: the slice has a pin on its page, which is this one.
                unsafe { self.root.pin_again(word) }?;
                Ok(Some(word))
            }
            KeptBy::Reference(WideOrder(order)) if order > 0 => {
                // SAFETY: the slice has a reference on the page's block.
                Ok(Some(unsafe { self.root.pin_in_block(self.inner().page_of(at)) }?))
            }
            KeptBy::Nothing | KeptBy::Reference(_) | KeptBy::Shared(_) => Ok(None),
        }
    }

    /// Counts on some of the slice's pages.
    #[inline]
    fn count_on(&self, pages: FrameRange) -> Result<KeptBy, SliceError> {
        if pages == self.pages() {
            return self.share_counts();
        }
        let inside_blocks = match &self.kept_by {
            KeptBy::Reference(_) => true,
            KeptBy::Shared(counts) => counts.kind == CountKind::References,
            KeptBy::Nothing | KeptBy::Pin(_) => false,
        };
        let pin = |page| -> Result<PinWord, GetError> {
            // SAFETY: this slice has a reference on the page's block, or a pin on the page.
            unsafe { if inside_blocks { self.root.pin_in_block(page) } else { self.root.pin_again_at(page) } }
        };
        Ok(pin_pages(self.root, pages, pin)?)
    }

    /// What keeps this slice, counted once more: one atomic step.
    #[inline]
    fn share_counts(&self) -> Result<KeptBy, SliceError> {
        Ok(match &self.kept_by {
            KeptBy::Pin(word) => {
                // SAFETY: the slice has a pin on its page.
                unsafe { self.root.pin_again(*word) }?;
                KeptBy::Pin(*word)
            }
            KeptBy::Reference(wide) => {
                let order = wide.get();
                // SAFETY: the slice has a reference on its block.
                unsafe { self.root.add_reference(self.head(order), order) }?;
                KeptBy::Reference(*wide)
            }
            KeptBy::Nothing => KeptBy::Nothing,
            KeptBy::Shared(counts) => KeptBy::Shared(ManuallyDrop::new(Arc::clone(counts))),
        })
    }

    /// A clone of what has another count than a pin.
    #[inline(never)]
    fn clone_other(&self) -> Result<Self, SliceError> {
        Ok(Self { kept_by: self.share_counts()?, ..*self })
    }

    /// One more handle on the same bytes, as [`Clone::clone`] makes it.
    ///
    /// # Errors
    /// [`SliceError::CountLimit`].
    #[inline(always)] // A result that goes through memory costs more than all the rest.
    pub fn try_clone(&self) -> Result<Self, SliceError> {
        let KeptBy::Pin(word) = self.kept_by else { return self.clone_other() };
        // SAFETY: the slice has a pin on its page.
        match unsafe { self.root.pin_again(word) } {
            Ok(()) => Ok(Self { root: self.root, ptr: self.ptr, len: self.len, kept_by: KeptBy::Pin(word) }),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives up what is no pin. The slice is not used any more.
    #[inline(never)]
    fn drop_other(&mut self) {
        match &mut self.kept_by {
            KeptBy::Reference(order) => {
                let order = order.get();
                // SAFETY: the reference is the slice's, which is not used any more.
                unsafe { self.root.drop_reference(self.head(order), order) }
            }
            // SAFETY: it is not used any more. The last drop of the `Counts` gives the counts up.
            KeptBy::Shared(counts) => unsafe { ManuallyDrop::drop(counts) },
            KeptBy::Nothing | KeptBy::Pin(_) => {}
        }
    }

    /// The page words, to be looked at. The shared state of its arena. Not for an empty slice,
    /// which has none.
    ///
    /// # Panics
    /// In a forked child that has no part in them.
    fn zone(&self) -> &Zone<'static> {
        let inner = self.inner();
        inner.assert_home();
        &inner.zone
    }

    /// The shared state of its arena. Not for an empty slice, which has none.
    #[inline]
    fn inner(&self) -> &Inner {
        debug_assert!(!self.is_empty(), "an empty slice keeps nothing");
        // SAFETY: every slice with bytes has a pin or reference, its keepalive, as long as it
        // lives.
        unsafe { self.root.inner() }
    }

    #[inline]
    fn first_page(&self) -> Pfn {
        self.inner().page_of(self.ptr)
    }

    /// The pages it touches.
    #[inline]
    pub(crate) fn pages(&self) -> FrameRange {
        if self.is_empty() {
            return FrameRange::new(Pfn::new(0), 0);
        }
        let first = self.first_page();
        let within = self.ptr.as_ptr() as usize % PAGE_SIZE;
        FrameRange::new(first, within.saturating_add(self.len).div_ceil(PAGE_SIZE) as u64)
    }

    /// The first page of the block of that order that it lies in.
    #[inline]
    fn head(&self, order: Order) -> Pfn {
        self.first_page().head(order)
    }

    fn block(&self, order: Order) -> FrameRange {
        FrameRange::block(self.head(order), order)
    }

    /// The bytes for writing again, if this is all of a buffer and no other handle keeps any page
    /// of it.
    ///
    /// # Errors
    /// The slice as it was: it is only a part, or another handle is a clone or a part of it.
    ///
    /// ```
    /// # use tailpin_arena::Arena;
    /// # let arena = Arena::builder().size(16 << 20).build()?;
    /// let whole = arena.alloc(9000)?.freeze();
    /// let part = whole.slice(0..10);
    /// let whole = whole.try_into_unique().unwrap_err(); // `part` could see us write
    /// drop(part);
    /// let mut buffer = whole.try_into_unique().unwrap();
    /// buffer[0] = 1;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_into_unique(mut self) -> Result<Buffer, Self> {
        let Some(blocks) = self.sole_blocks() else { return Err(self) };
        let (root, len) = (self.root, self.len);
        match mem::replace(&mut self.kept_by, KeptBy::Nothing) {
            KeptBy::Shared(counts) => match Arc::try_unwrap(ManuallyDrop::into_inner(counts)) {
                Ok(counts) => mem::forget(counts),
                Err(counts) => {
                    self.kept_by = KeptBy::Shared(ManuallyDrop::new(counts));
                    return Err(self);
                }
            },
            KeptBy::Nothing | KeptBy::Pin(_) | KeptBy::Reference(_) => {}
        }
        // SAFETY: the slice's references, the only ones, pass to the buffer, and `sole_blocks` saw
        // no pin. There is no handle left from which one could be taken.
        let buffer = unsafe { Buffer::adopt(root, blocks, len) };
        buffer.note_frozen(false);
        Ok(buffer)
    }

    /// The blocks of a buffer, if this is all of it and keeps them alone.
    fn sole_blocks(&mut self) -> Option<FrameRange> {
        if self.is_empty() || self.inner().is_child() {
            return None;
        }
        let blocks = match &mut self.kept_by {
            KeptBy::Nothing | KeptBy::Pin(_) => return None,
            KeptBy::Reference(order) => {
                let order = order.get();
                self.block(order)
            }
            // Acquire, in `get_mut`: it sees what was done with the shares that are gone.
            KeptBy::Shared(counts) => {
                Arc::get_mut(counts).filter(|counts| counts.kind == CountKind::References)?.frames
            }
        };
        let begins = self.inner().address(blocks.start) == self.ptr;
        // SAFETY: the slice has a reference on each of the blocks.
        (begins && unsafe { self.root.is_sole_owner(blocks) }).then_some(blocks)
    }

    /// What would be free if this handle went, now, in bytes: its pages that no other handle keeps.
    ///
    /// Zero while another slice, a clone or the whole buffer keeps them too; then it is not this
    /// handle that costs memory. A snapshot, if others are at work.
    pub fn retained_bytes(&self) -> usize {
        let zone = match self.kept_by {
            KeptBy::Nothing => return 0,
            _ => self.zone(),
        };
        let pages = match &self.kept_by {
            KeptBy::Nothing => 0,
            KeptBy::Pin(_) => u64::from(page_walk::comes_back_with_pin(zone, self.first_page())),
            KeptBy::Reference(order) => page_walk::come_back_with_reference(zone, self.block(order.get())),
            KeptBy::Shared(counts) if Arc::strong_count(counts) > 1 => 0,
            KeptBy::Shared(counts) if counts.kind == CountKind::References => {
                page_walk::come_back_with_reference(zone, counts.frames)
            }
            KeptBy::Shared(counts) => {
                counts.frames.iter().filter(|page| page_walk::comes_back_with_pin(zone, *page)).count() as u64
            }
        };
        bytes_of(pages)
    }

    /// How many handles keep these pages, this one included: its clones, slices that touch one of
    /// the pages, and the whole. For a slice of several pages, as many as keep the page that most
    /// keep; other slices of several pages count once with all their clones. A snapshot, if others
    /// are at work.
    pub fn sharers(&self) -> usize {
        let zone = match self.kept_by {
            KeptBy::Nothing => return 1,
            _ => self.zone(),
        };
        let most =
            |pages: FrameRange| pages.iter().map(|page| page_walk::keepers(zone, page)).max().unwrap_or(1);
        match &self.kept_by {
            KeptBy::Nothing => 1,
            KeptBy::Pin(_) => most(self.pages()),
            KeptBy::Reference(order) => most(self.block(order.get())),
            KeptBy::Shared(counts) => {
                let clones = Arc::strong_count(counts).saturating_sub(1);
                most(counts.frames).saturating_add(clones)
            }
        }
        .max(1)
    }

    /// Where in the arena it begins, in bytes; 0 for an empty slice.
    pub fn offset(&self) -> usize {
        if self.is_empty() {
            return 0;
        }
        self.ptr.addr().get().saturating_sub(self.inner().data.base.addr().get())
    }

    /// The tag its buffer was allocated with.
    pub fn tag(&self) -> Option<&str> {
        let inner = self.inner_at_home()?;
        Some(&inner.tags.get(inner.notes.tag(self.first_page()))?.name)
    }

    /// How long ago its buffer was allocated; zero for an empty slice.
    pub fn age(&self) -> Duration {
        let age = |inner: &Inner| Some(inner.history.age(inner.history.origin(self.first_page())?));
        self.inner_at_home().and_then(age).unwrap_or_default()
    }

    /// The shared state, to look at its words; `None` for an empty slice.
    ///
    /// # Panics
    /// In a forked child that has no part in them.
    fn inner_at_home(&self) -> Option<&Inner> {
        if self.is_empty() {
            return None;
        }
        let inner = self.inner();
        inner.assert_home();
        Some(inner)
    }
}

/// A pin on each page, taken by `pin`.
#[inline]
fn pin_pages(
    root: Root,
    pages: FrameRange,
    pin: impl Fn(Pfn) -> Result<PinWord, GetError>,
) -> Result<KeptBy, GetError> {
    if pages.frames() == 1 {
        return pin(pages.start).map(KeptBy::Pin);
    }
    pin_several(root, pages, pin)
}

#[inline(never)]
fn pin_several(
    root: Root,
    pages: FrameRange,
    pin: impl Fn(Pfn) -> Result<PinWord, GetError>,
) -> Result<KeptBy, GetError> {
    let mut counts = Counts { root, frames: FrameRange::new(pages.start, 0), kind: CountKind::Pins };
    for page in pages.iter() {
        // On an error the pins taken so far are given back with `counts`.
        pin(page)?;
        counts.frames.end = page.offset(1);
    }
    Ok(KeptBy::shared(counts))
}

impl Clone for Slice {
    /// One more handle on the same bytes: one atomic step.
    ///
    /// # Panics
    /// At the limit of the count; see [`Slice::try_clone`].
    #[inline(always)] // As `try_clone`.
    fn clone(&self) -> Self {
        match self.try_clone() {
            Ok(slice) => slice,
            Err(error) => panic!("{error}"),
        }
    }
}

impl Drop for Slice {
    #[inline]
    fn drop(&mut self) {
        match self.kept_by {
            // SAFETY: the pin is the slice's, which is not used any more.
            KeptBy::Pin(word) => unsafe { self.root.unpin(word) },
            KeptBy::Nothing => {}
            KeptBy::Reference(_) | KeptBy::Shared(_) => self.drop_other(),
        }
    }
}

impl Deref for Slice {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        if self.is_empty() {
            return &[];
        }
        self.inner().assert_home();
        // SAFETY: the bytes lie in pages that this slice keeps, which are mapped and initialised.
        // Nothing writes to them: a buffer, which can be written to, never has pages on which there
        // is another count.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

/// No bytes, of no arena.
impl Default for Slice {
    fn default() -> Self {
        Self { root: Root::NOWHERE, ptr: NonNull::dangling(), len: 0, kept_by: KeptBy::Nothing }
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slice({} bytes at {})", self.len, self.offset())
    }
}
