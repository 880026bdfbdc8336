//! The pieces of a scattered buffer, and where in them a byte lies.

use std::mem;
use std::ops::Range;
use std::ptr::NonNull;

use tailpin::{FrameRange, Order, Pfn};

use crate::arena_ptr::Root;
use crate::handles::buffer::Buffer;
use crate::handles::scattered::frozen::FrozenPieces;
use crate::handles::slice::Slice;
use crate::memory::bytes_of;
use crate::shared_state::Inner;

/// Most ranges in one vectored call (`IOV_MAX`).
pub(crate) const VECTOR_LIMIT: usize = 1024;

/// Blocks of one order, in the order of the bytes.
///
/// # Invariants
/// There is one reference on each block, the only one, which is this value's, and no pin: no other
/// handle reaches their bytes. The references are its keepalive, see `Root`; without blocks it has
/// none, and the root is not used.
pub(crate) struct Pieces {
    root: Root,
    heads: Vec<Pfn>,
    order: Order,
}

impl Pieces {
    /// # Safety
    /// The one reference on each block passes to this value. There is no other, and no pin.
    pub(crate) unsafe fn adopt(root: Root, heads: Vec<Pfn>, order: Order) -> Self {
        Self { root, heads, order }
    }

    /// Bytes of a piece.
    pub(crate) fn piece(&self) -> usize {
        bytes_of(self.order.frames())
    }

    /// Bytes of all of them.
    pub(crate) fn bytes(&self) -> usize {
        self.heads.len().saturating_mul(self.piece())
    }

    /// Whether its process is a forked child that has no part in the memory.
    pub(crate) fn is_child(&self) -> bool {
        // SAFETY: with blocks, the references are a keepalive.
        !self.heads.is_empty() && unsafe { self.root.inner() }.is_child()
    }

    /// What its arena's handles share, if there are blocks.
    ///
    /// # Panics
    /// In a forked child that has no part in the memory.
    fn home(&self) -> Option<&Inner> {
        // SAFETY: with blocks, the references are a keepalive.
        let inner = (!self.heads.is_empty()).then(|| unsafe { self.root.inner() })?;
        inner.assert_home();
        Some(inner)
    }

    /// The bytes from `from` on that lie side by side, up to `to`, which is within all bytes; none
    /// if `from` is not less.
    pub(crate) fn run(&self, from: usize, to: usize) -> NonNull<[u8]> {
        self.runs(from..to).next().unwrap_or(NonNull::slice_from_raw_parts(NonNull::dangling(), 0))
    }

    /// All runs within these bytes.
    pub(crate) fn runs(&self, bytes: Range<usize>) -> impl Iterator<Item = NonNull<[u8]>> + '_ {
        let (piece, frames) = (self.piece(), self.order.frames());
        let mut within = bytes.start & piece.wrapping_sub(1);
        let first = bytes.start >> piece.trailing_zeros();
        let inner = if bytes.is_empty() { None } else { self.home() };
        // Of the pieces that are left, and of the bytes from the first one on.
        let (mut heads, mut left) = (self.heads.get(first..).unwrap_or(&[]), bytes.len());
        std::iter::from_fn(move || {
            let (inner, &head) = (inner?, heads.first().filter(|_| left > 0)?);
            let wanted = within.saturating_add(left);
            let (mut n, mut there) = (1_usize, piece);
            while there < wanted
                && let Some(next) = heads.get(n)
                && next.get().wrapping_sub(head.get()) == frames.wrapping_mul(n as u64)
            {
                (n, there) = (n.saturating_add(1), there.saturating_add(piece));
            }
            let len = there.min(wanted).saturating_sub(within);
            // SAFETY: within the first piece.
            let start = unsafe { inner.address(head).add(within) };
            heads = heads.get(n..).unwrap_or(&[]);
            (within, left) = (0, left.saturating_sub(len));
            Some(NonNull::slice_from_raw_parts(start, len))
        })
    }

    /// Gives up the pieces behind the first `bytes` bytes.
    fn keep_first(&mut self, bytes: usize) {
        let n = bytes.div_ceil(self.piece());
        if n < self.heads.len() {
            let rest = self.heads.drain(n..);
            // SAFETY: the references on these are given up, and no handle is left through which
            // their bytes could be reached.
            unsafe { self.root.drop_blocks(rest.as_slice(), self.order) };
        }
    }

    /// The first `filled` bytes, readable for many: whole pieces, and a slice of the one that is
    /// filled in part. Whole pages behind them are free for others at once.
    pub(crate) fn freeze(mut self, filled: usize) -> (FrozenPieces, Slice) {
        self.keep_first(filled);
        let (root, order, piece) = (self.root, self.order, self.piece());
        let mut heads = mem::take(&mut self.heads);
        let part = if heads.len().saturating_mul(piece) > filled { heads.pop() } else { None };
        // SAFETY: with the one reference on each block, which passes to the pieces.
        let whole = unsafe { FrozenPieces::freeze(root, heads, order) };
        let last = part.map_or_else(Slice::default, |head| {
            // SAFETY: the one reference passes to the buffer.
            let mut buffer = unsafe { Buffer::adopt(root, FrameRange::block(head, order), piece) };
            buffer.truncate(filled & piece.wrapping_sub(1));
            buffer.freeze()
        });
        (whole, last)
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.keep_first(0);
    }
}
