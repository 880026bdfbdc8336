//! What is sent from process to process in place of a slice.

use std::ops::Range;

use tailpin::{FrameRange, Pfn};

use crate::memory::PAGE_SIZE;

/// A slice as 24 bytes: where it is, how long, and in which generation of its pages. It holds
/// nothing: until the other process has [adopted](super::SharedArena::adopt) it, some process has
/// to keep the slice, or the adoption is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) generation: u64,
}

impl Token {
    /// The token as 24 bytes, for a message.
    pub fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        for (bytes, word) in
            bytes.as_chunks_mut::<8>().0.iter_mut().zip([self.offset, self.len, self.generation])
        {
            *bytes = word.to_le_bytes();
        }
        bytes
    }

    /// From a message. Whatever the bytes, an adoption gives memory that was frozen, or is refused.
    pub fn from_bytes(bytes: [u8; 24]) -> Self {
        let [offset, len, generation] = [0, 1, 2].map(|i| u64::from_le_bytes(bytes.as_chunks::<8>().0[i]));
        Self { offset, len, generation }
    }

    /// The bytes it stands for, if there are any and they lie within `size` bytes.
    pub(super) fn bytes(self, size: u64) -> Option<Range<u64>> {
        let end = self.offset.checked_add(self.len).filter(|end| *end <= size && self.len > 0)?;
        Some(self.offset..end)
    }
}

/// The pages that some bytes touch.
pub(super) fn pages_of(bytes: Range<u64>) -> FrameRange {
    const BYTES: u64 = PAGE_SIZE as u64;
    FrameRange { start: Pfn::new(bytes.start / BYTES), end: Pfn::new(bytes.end.div_ceil(BYTES)) }
}
