//! Handles on the memory of a shared arena: a buffer to write, a block to share, a slice of it.

use std::fmt;
use std::ops::{Bound, Deref, DerefMut, Range, RangeBounds};
use std::sync::Arc;

use tailpin::{FrameRange, Order, Pfn};

use crate::memory::PAGE_SIZE;

use super::attachment::Attachment;
use super::error::SharedError;
use super::operation::Operation;
use super::token::{Token, pages_of};

/// A reference to a block, which is counted in the ledger.
struct Reference {
    arena: Arc<Attachment>,
    head: Pfn,
    order: Order,
    len: usize,
}

impl Reference {
    #[expect(clippy::arithmetic_side_effects, reason = "a page of the arena")]
    fn start(&self) -> u64 {
        self.head.get() * PAGE_SIZE as u64
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        self.arena.let_go(Operation::Put(self.head, self.order));
    }
}

/// # Panics
/// In a forked child, where the memory is not.
fn assert_home(arena: &Attachment) {
    assert!(!arena.is_child(), "a forked child has no part in a shared arena");
}

/// Memory that only this handle reaches, to be written.
pub struct SharedBuffer(Reference);

impl SharedBuffer {
    pub(super) fn new(arena: Arc<Attachment>, head: Pfn, order: Order, len: usize) -> Self {
        Self(Reference { arena, head, order, len })
    }

    /// The contents are settled: from now on they can be shared, and no longer be written.
    ///
    /// # Panics
    /// In a forked child.
    pub fn freeze(self) -> SharedBlock {
        assert_home(&self.0.arena);
        let pages = FrameRange::block(self.0.head, self.0.order);
        self.0.arena.memory.generations.freeze(pages);
        SharedBlock(self.0)
    }
}

impl Deref for SharedBuffer {
    type Target = [u8];

    /// # Panics
    /// In a forked child.
    fn deref(&self) -> &[u8] {
        assert_home(&self.0.arena);
        let address = self.0.arena.memory.address(self.0.start()).as_ptr();
        // SAFETY: the block was handed out to this handle, is at least `len` bytes, and is written
        // only through `&mut self`: adoption wants pages that were frozen in this generation, which
        // these are not.
        unsafe { std::slice::from_raw_parts(address, self.0.len) }
    }
}

impl DerefMut for SharedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        assert_home(&self.0.arena);
        let address = self.0.arena.memory.address(self.0.start()).as_ptr();
        // SAFETY: as in `deref`; and `&mut self` excludes readers too.
        unsafe { std::slice::from_raw_parts_mut(address, self.0.len) }
    }
}

impl fmt::Debug for SharedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBuffer({} bytes at page {})", self.0.len, self.0.head)
    }
}

/// A reference to a whole block, be it in one piece or split by now.
///
/// When the last one goes, of whichever process, every page of the block without a pin is free at
/// once.
pub struct SharedBlock(Reference);

impl SharedBlock {
    /// Some of its bytes, with a pin on each page they touch.
    ///
    /// # Errors
    /// [`SharedError::OutOfRange`], [`SharedError::Get`] at the limit of a page's count,
    /// [`SharedError::Child`], [`SharedError::Poisoned`].
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Result<SharedSlice, SharedError> {
        let bytes = within(range, self.0.len, self.0.start())?;
        SharedSlice::pin(&self.0.arena, bytes)
    }

    /// Splits the block into pieces of `order`; one that is smaller stays. Never refused because of
    /// a pin, of whichever process. Threads may split through the same reference at once: one that
    /// meets a split half done finishes it.
    ///
    /// # Errors
    /// [`SharedError::Child`], [`SharedError::Poisoned`]; otherwise only [`SharedError::Split`],
    /// where something else writes the words.
    pub fn split_to(&self, order: Order) -> Result<(), SharedError> {
        self.operate(Operation::Split(self.0.head, self.0.order, order))
    }

    /// Makes one block of the pieces again, pinned or not. It takes the handle for itself: a merge
    /// is right only while nothing else is done through the one reference there is, not even by
    /// another thread.
    ///
    /// ```
    /// # use tailpin_arena::shared::SharedArena;
    /// # let arena = SharedArena::create(2 << 20, 1)?;
    /// let mut block = arena.alloc(65_536)?.freeze();
    /// block.split_to(tailpin::Order::PAGE)?;
    /// block.merge()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// So this is refused by the compiler, whatever the other thread does with the handle:
    ///
    /// ```compile_fail,E0502
    /// # use tailpin_arena::shared::SharedArena;
    /// # let arena = SharedArena::create(2 << 20, 1).unwrap();
    /// let mut block = arena.alloc(65_536).unwrap().freeze();
    /// std::thread::scope(|threads| {
    ///     threads.spawn(|| block.split_to(tailpin::Order::PAGE));
    ///     threads.spawn(|| block.merge());
    /// });
    /// ```
    ///
    /// # Errors
    /// [`SharedError::Merge`] if there are further references to it, [`SharedError::Child`],
    /// [`SharedError::Poisoned`].
    pub fn merge(&mut self) -> Result<(), SharedError> {
        self.operate(Operation::Merge(self.0.head, self.0.order))
    }

    /// Takes one more reference to the block.
    ///
    /// # Errors
    /// [`SharedError::Get`] at the limit of the count, [`SharedError::Child`],
    /// [`SharedError::Poisoned`].
    pub fn try_clone(&self) -> Result<Self, SharedError> {
        self.operate(Operation::Get(self.0.head, self.0.order))?;
        Ok(Self(Reference { arena: Arc::clone(&self.0.arena), ..self.0 }))
    }

    fn operate(&self, operation: Operation) -> Result<(), SharedError> {
        if self.0.arena.is_child() {
            return Err(SharedError::Child);
        }
        self.0.arena.operate(operation).map(drop).map_err(SharedError::from)
    }
}

impl Deref for SharedBlock {
    type Target = [u8];

    /// # Panics
    /// In a forked child.
    fn deref(&self) -> &[u8] {
        assert_home(&self.0.arena);
        let address = self.0.arena.memory.address(self.0.start()).as_ptr();
        // SAFETY: the reference keeps the block, which is frozen: it is not written.
        unsafe { std::slice::from_raw_parts(address, self.0.len) }
    }
}

impl fmt::Debug for SharedBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBlock({} bytes at page {})", self.0.len, self.0.head)
    }
}

/// Some bytes of what was a block, with a pin on each page they touch. It keeps those pages and
/// nothing else.
pub struct SharedSlice {
    arena: Arc<Attachment>,
    /// From the beginning of the data on.
    bytes: Range<u64>,
}

impl SharedSlice {
    fn pin(arena: &Arc<Attachment>, bytes: Range<u64>) -> Result<Self, SharedError> {
        arena.pin(pages_of(bytes.clone()))?;
        Ok(Self::adopt(Arc::clone(arena), bytes))
    }

    #[expect(clippy::arithmetic_side_effects, reason = "a slice is made of bytes in their order")]
    fn length(&self) -> u64 {
        self.bytes.end - self.bytes.start
    }

    /// The caller's pins become the slice's.
    pub(super) fn adopt(arena: Arc<Attachment>, bytes: Range<u64>) -> Self {
        Self { arena, bytes }
    }

    /// Some bytes of the block, with pins on their pages.
    ///
    /// # Errors
    /// [`SharedError::OutOfRange`]; [`SharedError::Child`]; [`SharedError::Poisoned`];
    /// [`SharedError::Get`] at the limit of a page's count, or if the block was being merged during
    /// the call.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Result<Self, SharedError> {
        Self::pin(&self.arena, within(range, self.length() as usize, self.bytes.start)?)
    }

    /// One more pin on each page.
    ///
    /// # Errors
    /// [`SharedError::Get`] at the limit of a page's count, or if the block was being merged during
    /// the call; [`SharedError::Child`]; [`SharedError::Poisoned`].
    pub fn try_clone(&self) -> Result<Self, SharedError> {
        Self::pin(&self.arena, self.bytes.clone())
    }

    /// What to send to another process, so that it can [adopt](super::SharedArena::adopt) the
    /// slice.
    ///
    /// # Panics
    /// In a forked child.
    pub fn token(&self) -> Token {
        assert_home(&self.arena);
        let generation = self.arena.memory.generations.get(pages_of(self.bytes.clone()).start);
        Token { offset: self.bytes.start, len: self.length(), generation }
    }

    /// First page, and size, of the block that its first page is in at this moment.
    ///
    /// # Panics
    /// In a forked child.
    pub fn block(&self) -> (Pfn, Order) {
        assert_home(&self.arena);
        let page = pages_of(self.bytes.clone()).start;
        self.arena.state_machine.zone.head_of(page).unwrap_or((page, Order::PAGE))
    }
}

impl Deref for SharedSlice {
    type Target = [u8];

    /// # Panics
    /// In a forked child.
    fn deref(&self) -> &[u8] {
        assert_home(&self.arena);
        let address = self.arena.memory.address(self.bytes.start).as_ptr();
        // SAFETY: the pins keep the pages, which are frozen in this generation: they are not
        // written.
        unsafe { std::slice::from_raw_parts(address, self.length() as usize) }
    }
}

impl Drop for SharedSlice {
    fn drop(&mut self) {
        self.arena.unpin(pages_of(self.bytes.clone()));
    }
}

impl fmt::Debug for SharedSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedSlice({:#x}..{:#x})", self.bytes.start, self.bytes.end)
    }
}

/// Where the bytes of `range` are, of `len` bytes that begin at `start`.
fn within(range: impl RangeBounds<usize>, len: usize, start: u64) -> Result<Range<u64>, SharedError> {
    let begin = match range.start_bound() {
        Bound::Included(n) => *n,
        Bound::Excluded(n) => n.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        // Beyond the end of any memory, as it should be.
        Bound::Included(n) => n.saturating_add(1),
        Bound::Excluded(n) => *n,
        Bound::Unbounded => len,
    };
    if begin >= end || end > len {
        return Err(SharedError::OutOfRange { start: begin, end, len });
    }
    // Neither is reached: the bytes lie within an arena.
    Ok(start.saturating_add(begin as u64)..start.saturating_add(end as u64))
}
