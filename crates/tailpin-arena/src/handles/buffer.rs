//! Memory that one owner alone can write to.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use tailpin::FrameRange;

use crate::arena_ptr::Root;
use crate::handles::slice::Slice;
use crate::memory::{PAGE_SIZE, bytes_of};
use crate::shared_state::Inner;

/// Writable memory with one owner, from [`Arena::alloc`](crate::Arena::alloc).
///
/// [`Buffer::freeze`] makes it readable for many.
///
/// # Invariants
/// The buffer has one reference on each of its blocks, which is the only one, and no page of them
/// is pinned: no other handle reaches the bytes, which is what makes writing safe. The references
/// are its keepalive, see `Root`.
pub struct Buffer {
    root: Root,
    ptr: NonNull<u8>,
    len: usize,
    /// The blocks: one reference on each, the only one, and no pins.
    blocks: FrameRange,
}

// SAFETY: a buffer owns its bytes as a `Box<[u8]>` does.
unsafe impl Send for Buffer {}
// SAFETY: a shared buffer can only be read.
unsafe impl Sync for Buffer {}

/// Pages of a buffer of `len` bytes: at least one.
#[inline]
fn pages_for(len: usize) -> u64 {
    len.div_ceil(PAGE_SIZE).max(1) as u64
}

impl Buffer {
    /// # Safety
    /// The one reference on each of the blocks passes to the buffer. There is no other, and no pin.
    /// `len` bytes fit.
    #[inline]
    pub(crate) unsafe fn adopt(root: Root, blocks: FrameRange, len: usize) -> Self {
        // SAFETY: the references are a keepalive.
        let ptr = unsafe { root.inner() }.address(blocks.start);
        debug_assert!(len <= bytes_of(blocks.frames()));
        Self { root, ptr, len, blocks }
    }

    /// A buffer of `len` bytes, at the beginning of a longer block; what pages behind it are not
    /// needed are free for others at once.
    ///
    /// # Safety
    /// As [`Buffer::adopt`]; but of the block's pages as many are counted as `len` bytes need, at
    /// least one. The caller has another keepalive.
    #[inline(always)] // Of a page it is known beforehand that it is no longer than needed.
    pub(crate) unsafe fn adopt_longer(root: Root, block: FrameRange, len: usize) -> Self {
        if pages_for(len) < block.frames() {
            // SAFETY: the caller's promise.
            return unsafe { Self::adopt_part(root, block, len) };
        }
        // SAFETY: the caller's promise.
        unsafe { Self::adopt(root, block, len) }
    }

    /// # Safety
    /// As [`Buffer::adopt_longer`].
    #[inline(never)]
    unsafe fn adopt_part(root: Root, block: FrameRange, len: usize) -> Self {
        // SAFETY: the caller's promise.
        let mut buffer = unsafe { Self::adopt(root, block, len) };
        if let Some(rest) = buffer.cut(len) {
            // SAFETY: the references on the blocks from `cut` on are given up, whose pages are not
            // counted; the caller has another keepalive.
            unsafe { root.drop_uncharged(rest) };
        }
        buffer
    }

    /// Length of the buffer in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the buffer has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the pages it has: the length rounded up, at least one page.
    pub fn capacity(&self) -> usize {
        bytes_of(self.blocks.frames())
    }

    /// Where in the arena it begins, in bytes.
    pub fn offset(&self) -> usize {
        // SAFETY: the buffer's references are a keepalive.
        unsafe { self.root.inner() }.offset_of(self.blocks.start)
    }

    /// Makes it shorter; whole pages that it needs no more are free for others at once. Longer it
    /// doesn't get.
    ///
    /// ```
    /// # use tailpin_arena::Arena;
    /// # let arena = Arena::builder().size(16 << 20).build()?;
    /// let mut buffer = arena.alloc(1 << 20)?;
    /// buffer.truncate(10_000); // what was read
    /// assert_eq!((buffer.len(), buffer.capacity()), (10_000, 3 * 4096));
    /// assert_eq!(arena.stats().in_use_whole, 3 * 4096);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        // In a forked child the counts are the parent's to change.
        // SAFETY: the buffer's references are a keepalive.
        if unsafe { self.root.inner() }.is_child() {
            return;
        }
        if let Some(rest) = self.cut(self.len) {
            // SAFETY: the references on the blocks from `cut` on are given up; the pages before it
            // still keep the arena.
            unsafe { self.root.drop_run(rest) };
        }
    }

    /// Splits off the blocks that `len` bytes don't need: the references on them are the caller's.
    #[inline]
    fn cut(&mut self, len: usize) -> Option<FrameRange> {
        let pages = pages_for(len);
        if pages >= self.blocks.frames() { None } else { self.cut_behind(pages) }
    }

    #[inline(never)]
    fn cut_behind(&mut self, pages: u64) -> Option<FrameRange> {
        let cut = self.blocks.start.offset(pages);
        // SAFETY: the buffer has the only reference on each block, and there are no pins.
        unsafe { self.root.split_at(self.blocks, cut) }.ok()?;
        let rest = FrameRange { start: cut, end: self.blocks.end };
        self.blocks.end = cut;
        // What begins with a block now may have begun with a frozen one in an earlier life.
        self.note_frozen(false);
        Some(rest)
    }

    /// Its pages, with the one reference on their blocks, and the first byte.
    pub(crate) fn into_page(self) -> (FrameRange, NonNull<u8>) {
        let buffer = ManuallyDrop::new(self);
        (buffer.blocks, buffer.ptr)
    }

    /// Notes that copies share it, which is one page.
    pub(crate) fn note_fragments(&self) {
        let (inner, blocks) = self.inner_and_pages();
        inner.notes.set_fragments(blocks.start);
    }

    /// Notes of each of its blocks whether it is frozen.
    pub(crate) fn note_frozen(&self, frozen: bool) {
        let (inner, blocks) = self.inner_and_pages();
        if inner.is_child() {
            return;
        }
        let mut head = blocks.start;
        loop {
            inner.notes.set_frozen(head, frozen);
            // The blocks of a buffer halve towards its end.
            let left = blocks.end.get().saturating_sub(head.get());
            let block = 1 << (u64::BITS - 1).saturating_sub(left.leading_zeros());
            head = head.offset(block);
            if head >= blocks.end {
                break;
            }
        }
    }

    /// The shared state of its arena, and its pages.
    pub(crate) fn inner_and_pages(&self) -> (&Inner, FrameRange) {
        // SAFETY: the buffer's references are a keepalive, and it lives as long as what is
        // returned.
        (unsafe { self.root.inner() }, self.blocks)
    }

    /// Has the compiler take all its bytes for initialised, whatever was done with them as bytes
    /// that need not be.
    ///
    /// # Safety
    /// Nothing else reads or writes them during the call.
    #[cfg(feature = "compio")]
    pub(crate) unsafe fn define(&self) {
        // SAFETY: by the buffer's keepalive; in a child whose memory stayed with the parent it
        // panics.
        unsafe { self.root.inner() }.assert_home();
        // SAFETY: the pages are mapped, and the caller sees to it that nothing else uses the bytes
        // now.
        unsafe { crate::handles::defined::define(NonNull::slice_from_raw_parts(self.ptr, self.capacity())) };
    }

    /// Makes it readable for many: a [`Slice`] of all its bytes.
    pub fn freeze(self) -> Slice {
        self.note_frozen(true);
        let buffer = ManuallyDrop::new(self);
        // SAFETY: the references pass on to the slice.
        unsafe { Slice::adopt(buffer.root, buffer.blocks, buffer.len) }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: by the buffer's keepalive; in a child whose memory stayed with the parent it
        // panics to read.
        unsafe { self.root.inner() }.assert_home();
        // SAFETY: `len` bytes from `ptr` on are within pages that this buffer alone has, mapped
        // while it has them, and initialised: by the system, by the caller who supplied them, or by
        // an earlier owner. What was lent as bytes that need not be initialised is defined before
        // it is a buffer again, see `ReadBuffer` and `Arena::alloc`.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: by the buffer's keepalive; in a child whose memory stayed with the parent it
        // panics.
        unsafe { self.root.inner() }.assert_home();
        // SAFETY: as in `deref`; and no slice of these pages exists, as there is neither another
        // reference nor a pin.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl From<Buffer> for Slice {
    fn from(buffer: Buffer) -> Self {
        buffer.freeze()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the references are the buffer's, which is not used any more.
        unsafe { self.root.drop_run(self.blocks) };
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes at {})", self.len, self.offset())
    }
}
