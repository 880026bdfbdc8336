//! `bytes`: slices as [`Bytes`](::bytes::Bytes), and a [`ReadBuffer`] as a
//! [`BufMut`](::bytes::BufMut).

use ::bytes::buf::UninitSlice;
use ::bytes::{BufMut, Bytes};

use crate::handles::read_buffer::ReadBuffer;
use crate::handles::slice::Slice;

/// **Slice first, wrap second.** `Bytes` counts its owner and knows nothing of pages: whatever part
/// of it is kept keeps the whole owner. So cut a [`Slice`] and wrap that:
///
/// ```
/// use bytes::Bytes;
/// use tailpin_arena::Arena;
///
/// let arena = Arena::builder().size(16 << 20).build()?;
/// let kept = |bytes: Bytes| (arena.stats().pinned_by_last_slice + arena.stats().in_use_whole, bytes).0;
///
/// let whole = arena.alloc(2 << 20)?.freeze();
/// let right = Bytes::from(whole.slice(5000..5200));
/// drop(whole);
/// assert_eq!(kept(right), 4096);
///
/// let whole = arena.alloc(2 << 20)?.freeze();
/// let trap = Bytes::from(whole).slice(5000..5200); // wrapped first: the old disease is back
/// assert_eq!(kept(trap), 2 << 20);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Each `Bytes` made so costs a small allocation for its owner; clones of it don't. It is never
/// unique: `try_into_mut` returns it as an error, and conversion into `BytesMut` copies.
impl From<Slice> for Bytes {
    fn from(slice: Slice) -> Self {
        Self::from_owner(slice)
    }
}

// SAFETY: `chunk_mut` is all the room behind what is filled, `remaining_mut` its length, and
// `advance_mut` refuses to go past it.
unsafe impl BufMut for ReadBuffer {
    fn remaining_mut(&self) -> usize {
        self.room()
    }

    unsafe fn advance_mut(&mut self, n: usize) {
        self.advance(n);
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        UninitSlice::new(self.spare())
    }
}
