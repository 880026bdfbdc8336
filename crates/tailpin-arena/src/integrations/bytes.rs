//! `bytes`: slices as [`Bytes`](::bytes::Bytes), `Bytes` that keep no more than they weigh, and a
//! [`ReadBuffer`] as a [`BufMut`](::bytes::BufMut).

use ::bytes::buf::UninitSlice;
use ::bytes::{Buf, BufMut, Bytes};

use crate::handles::keep::{Kept, Policy};
use crate::handles::read_buffer::ReadBuffer;
use crate::handles::scattered::buffer::ScatteredBuffer;
use crate::handles::scattered::slices::Scattered;
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

/// The pinned slice as it is; a copy without another one.
impl From<Kept> for Bytes {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::Pinned(slice) => Self::from(slice),
            Kept::Copied(bytes) => Self::from(bytes),
        }
    }
}

/// What `bytes` says, keeping no more than it needs, whatever it was cut from and by which code:
/// what to call where data is kept, in place of `Bytes::copy_from_slice`.
///
/// Bytes that lie in an arena of this process, 8 KiB of them or more, are pinned where they are, by
/// pins on their own pages ([`Slice::of`]); all others are copied. [`detach_with`] takes another
/// [`Policy`].
///
/// ```
/// use bytes::Bytes;
/// use tailpin_arena::{Arena, bytes::detach};
///
/// let arena = Arena::builder().limit(64 << 20).build()?;
/// let read = Bytes::from(arena.alloc(4 << 20)?.freeze());
/// let block = read.slice(1 << 20..(1 << 20) + 16_384); // by an engine: keeps all 4 MiB
/// let cached = detach(&block);
/// drop((read, block));
/// assert_eq!((cached.len(), arena.in_use()), (16_384, 16_384));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn detach(bytes: &Bytes) -> Bytes {
    detach_with(bytes, Policy::default())
}

/// What `bytes` says, keeping no more than it needs, pinned or copied as `policy` decides.
pub fn detach_with(bytes: &Bytes, policy: Policy) -> Bytes {
    let Policy::CopyBelow(least) = policy;
    let pinned = if bytes.len() < least { None } else { Slice::of(bytes) };
    pinned.map_or_else(|| Bytes::copy_from_slice(bytes), Bytes::from)
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

// SAFETY: `chunk_mut` is room behind what is filled, and none only if `remaining_mut` is 0;
// `advance_mut` refuses to go past the room.
unsafe impl BufMut for ScatteredBuffer {
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

/// Pieces that are behind are given up at once. To go over the bytes without that, read a clone of
/// it, or [`Scattered::chunks`].
impl Buf for Scattered {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        self.front()
    }

    fn advance(&mut self, n: usize) {
        self.leave_out(n);
    }
}

/// One for each piece, each of which keeps its own pages: what `opendal`'s buffers and other lists
/// of `Bytes` are made from.
///
/// ```
/// use bytes::Bytes;
/// use tailpin_arena::Arena;
///
/// let arena = Arena::builder().limit(64 << 20).build()?;
/// let mut buffer = arena.alloc_scattered(200_000, 65_536)?;
/// buffer.fill_from(&mut &[7; 200_000][..])?;
/// let list: Vec<Bytes> = buffer.freeze().into();
/// assert_eq!(list.iter().map(Bytes::len).collect::<Vec<_>>(), [65_536, 65_536, 65_536, 3392]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl From<Scattered> for Vec<Bytes> {
    fn from(scattered: Scattered) -> Self {
        scattered.into_iter().map(Bytes::from).collect()
    }
}
