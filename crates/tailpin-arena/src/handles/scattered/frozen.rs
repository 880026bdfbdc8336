//! Whole pieces of a scattered buffer that many may read.

use std::collections::VecDeque;
use std::mem::{self, ManuallyDrop};
use std::panic::{RefUnwindSafe, UnwindSafe};

use tailpin::{Order, Pfn};

use crate::arena_ptr::Root;
use crate::error::SliceError;
use crate::handles::slice::Slice;
use crate::memory::bytes_of;

/// Frozen blocks of one order, in the order of the bytes.
///
/// # Invariants
/// This value has one reference on each block: so the pages stay in use, no buffer has them and
/// nothing writes to them. The references are its keepalive, see `Root`; without blocks it has
/// none, and the root is not used.
pub(crate) struct FrozenPieces {
    root: Root,
    heads: VecDeque<Pfn>,
    order: Order,
}

// All shared state behind it is atomic words, consistent after every step.
impl UnwindSafe for FrozenPieces {}
impl RefUnwindSafe for FrozenPieces {}

impl FrozenPieces {
    /// Notes the blocks as frozen.
    ///
    /// # Safety
    /// The one reference on each block passes to this value. There is no other, and no pin.
    pub(crate) unsafe fn freeze(root: Root, heads: Vec<Pfn>, order: Order) -> Self {
        if !heads.is_empty() {
            // SAFETY: the references are a keepalive.
            let notes = unsafe { &root.inner().notes };
            heads.iter().for_each(|head| notes.set_frozen(*head, true));
        }
        Self { root, heads: heads.into(), order }
    }

    /// None of these.
    pub(crate) fn none(&self) -> Self {
        Self { heads: VecDeque::new(), ..*self }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.heads.len()
    }

    /// Bytes of a piece, as a power of two.
    pub(crate) fn piece_log2(&self) -> u32 {
        self.piece().trailing_zeros()
    }

    /// Bytes of a piece.
    pub(crate) fn piece(&self) -> usize {
        bytes_of(self.order.frames())
    }

    /// A slice of a piece that has no reference of its own but this value's, which is there as long
    /// as what is returned is used: it is borrowed, never dropped.
    fn lent(&self, head: Pfn) -> ManuallyDrop<Slice> {
        // SAFETY: there is a piece, so its reference is a keepalive. The slice gives no reference
        // back, as it is not dropped.
        ManuallyDrop::new(unsafe { Slice::of_block(self.root, head, self.order) })
    }

    /// Has `look` look at a piece as a slice.
    pub(crate) fn with<T>(&self, nth: usize, look: impl FnOnce(&Slice) -> T) -> T {
        look(&self.lent(self.heads[nth]))
    }

    /// The bytes of the pieces.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.heads.iter().map(|head| {
            // SAFETY: the reference on the block keeps its bytes readable as long as this value is
            // borrowed.
            unsafe { std::slice::from_raw_parts(self.lent(*head).as_ptr(), self.piece()) }
        })
    }

    /// Adds a piece of another one, with a reference of its own.
    pub(crate) fn push_shared(&mut self, other: &Self, nth: usize) -> Result<(), SliceError> {
        debug_assert!(self.order == other.order, "pieces are of one order");
        let head = other.heads[nth];
        self.heads.reserve(1);
        // SAFETY: the other one has a reference on the block.
        unsafe { other.root.add_reference(head, other.order) }?;
        self.root = other.root;
        self.heads.push_back(head);
        Ok(())
    }

    /// Takes the first `n` pieces, or all there are.
    #[cfg(feature = "bytes")]
    pub(crate) fn take_front(&mut self, n: usize) -> Self {
        let heads = self.heads.drain(..n.min(self.heads.len())).collect();
        Self { root: self.root, heads, order: self.order }
    }

    /// Takes the first piece, as a slice.
    pub(crate) fn pop_front(&mut self) -> Option<Slice> {
        // SAFETY: its reference passes to the slice.
        self.heads.pop_front().map(|head| unsafe { Slice::of_block(self.root, head, self.order) })
    }
}

impl Default for FrozenPieces {
    fn default() -> Self {
        Self { root: Root::NOWHERE, heads: VecDeque::new(), order: Order::PAGE }
    }
}

impl Drop for FrozenPieces {
    fn drop(&mut self) {
        let mut heads = mem::take(&mut self.heads);
        // SAFETY: the references are this value's, and nothing uses them any more.
        unsafe { self.root.drop_blocks(heads.make_contiguous(), self.order) };
    }
}
