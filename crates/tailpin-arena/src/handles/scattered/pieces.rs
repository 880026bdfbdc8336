//! The pieces of a scattered buffer, and where in them a byte lies.

use std::mem;
use std::ops::Range;
use std::ptr::NonNull;

use tailpin::{FrameRange, Order, Pfn};

use crate::arena_ptr::Root;
use crate::handles::buffer::Buffer;
use crate::handles::slice::Slice;
use crate::memory::bytes_of;

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

    /// The bytes from `from` on that lie side by side, up to `to`, which is within all bytes; none
    /// if `from` is not less.
    pub(crate) fn run(&self, from: usize, to: usize) -> NonNull<[u8]> {
        if from >= to {
            return NonNull::slice_from_raw_parts(NonNull::dangling(), 0);
        }
        let piece = self.piece();
        let (first, within) = (from >> piece.trailing_zeros(), from & piece.wrapping_sub(1));
        let wanted = within.saturating_add(to.saturating_sub(from));
        let (mut before, mut bytes) = (self.heads[first], piece);
        for &head in &self.heads[first.saturating_add(1)..] {
            let follows = head.get().wrapping_sub(before.get()) == self.order.frames();
            if bytes >= wanted || !follows {
                break;
            }
            (before, bytes) = (head, bytes.saturating_add(piece));
        }
        let len = bytes.min(wanted).saturating_sub(within);
        // SAFETY: there is a piece, so its reference is a keepalive.
        let inner = unsafe { self.root.inner() };
        inner.assert_home();
        // SAFETY: within the piece.
        let start = unsafe { inner.address(self.heads[first]).add(within) };
        NonNull::slice_from_raw_parts(start, len)
    }

    /// All runs within these bytes.
    pub(crate) fn runs(&self, bytes: Range<usize>) -> impl Iterator<Item = NonNull<[u8]>> + '_ {
        let (mut at, end) = (bytes.start, bytes.end);
        std::iter::from_fn(move || {
            let run = self.run(at, end);
            at = at.saturating_add(run.len());
            (!run.is_empty()).then_some(run)
        })
    }

    /// Gives up the pieces behind the first `bytes` bytes.
    pub(crate) fn keep_first(&mut self, bytes: usize) {
        let n = bytes.div_ceil(self.piece());
        if n < self.heads.len() {
            let order = self.order;
            let rest = self.heads.drain(n..).map(|head| (head, order));
            // SAFETY: the references on these are given up, and no handle is left through which
            // their bytes could be reached.
            unsafe { self.root.drop_references(rest) };
        }
    }

    /// The first `filled` bytes, readable for many: a slice of each piece. Whole pages behind them
    /// are free for others at once.
    pub(crate) fn freeze(mut self, filled: usize) -> Vec<Slice> {
        self.keep_first(filled);
        let (root, order) = (self.root, self.order);
        let heads = mem::take(&mut self.heads);
        if heads.is_empty() {
            return Vec::new();
        }
        let mut slices = Vec::with_capacity(heads.len());
        // SAFETY: the blocks' references are a keepalive: some slice or buffer has each of them.
        let inner = unsafe { root.inner() };
        let whole = filled >> bytes_of(order.frames()).trailing_zeros();
        // SAFETY: the one reference on each block passes to its slice.
        let frozen = |head: &Pfn| unsafe { Slice::freeze_block(root, inner, *head, order) };
        slices.extend(heads[..whole].iter().map(frozen));
        if let Some(&last) = heads.get(whole) {
            let piece = bytes_of(order.frames());
            // SAFETY: the one reference passes to the buffer.
            let mut buffer = unsafe { Buffer::adopt(root, FrameRange::block(last, order), piece) };
            buffer.truncate(filled & piece.wrapping_sub(1));
            slices.push(buffer.freeze());
        }
        slices
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.keep_first(0);
    }
}
