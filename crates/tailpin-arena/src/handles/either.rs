//! Memory of an arena, or of the heap where the arena has none.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::handles::buffer::Buffer;
use crate::handles::keep::Kept;

/// Writable memory with one owner, from [`Arena::alloc_or_heap`](crate::Arena::alloc_or_heap): a
/// [`Buffer`] where the arena had room, else from the heap, beyond the arena's limit.
///
/// [`EitherBuffer::freeze`] makes it readable for many.
pub enum EitherBuffer {
    /// Of the arena.
    Arena(Buffer),
    /// Of the heap.
    Heap(Box<[u8]>),
}

impl EitherBuffer {
    /// Whether it is from the heap.
    pub const fn is_on_heap(&self) -> bool {
        matches!(self, Self::Heap(_))
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        (**self).len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        (**self).is_empty()
    }

    /// Makes it shorter: see [`Buffer::truncate`]. What is from the heap is copied if that gives
    /// memory back.
    pub fn truncate(&mut self, len: usize) {
        match self {
            Self::Arena(buffer) => buffer.truncate(len),
            Self::Heap(bytes) => {
                let mut list = std::mem::take(bytes).into_vec();
                list.truncate(len);
                *bytes = list.into_boxed_slice();
            }
        }
    }

    /// Makes it readable for many: a [`Slice`](crate::Slice) of the arena, or the bytes on the
    /// heap as they are.
    pub fn freeze(self) -> Kept {
        match self {
            Self::Arena(buffer) => Kept::Pinned(buffer.freeze()),
            Self::Heap(bytes) => Kept::Copied(bytes),
        }
    }
}

impl Deref for EitherBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Arena(buffer) => buffer,
            Self::Heap(bytes) => bytes,
        }
    }
}

impl DerefMut for EitherBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Arena(buffer) => buffer,
            Self::Heap(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for EitherBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for EitherBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl From<Buffer> for EitherBuffer {
    fn from(buffer: Buffer) -> Self {
        Self::Arena(buffer)
    }
}

impl fmt::Debug for EitherBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arena(buffer) => buffer.fmt(f),
            Self::Heap(bytes) => write!(f, "{} bytes on the heap", bytes.len()),
        }
    }
}
