//! Bytes in pieces that many may read.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;
use std::ops::{Range, RangeBounds};

use crate::error::SliceError;
use crate::handles::range::resolve;
use crate::handles::scattered::pieces::VECTOR_LIMIT;
use crate::handles::slice::Slice;

/// Read-only bytes in pieces, of a [`ScatteredBuffer`](crate::ScatteredBuffer) or a part of one: a
/// list of [`Slice`]s.
///
/// A part of it keeps the pages that it touches. What lies within one piece is a [`Slice`] like any
/// other ([`Scattered::contiguous`]), at the cost of one count.
#[derive(Clone)]
pub struct Scattered {
    /// None is empty.
    slices: VecDeque<Slice>,
    /// Bytes of the first that are gone already.
    skip: usize,
    len: usize,
    /// Bytes of each slice but the first and the last, as a power of two.
    piece_log2: u32,
}

impl Scattered {
    /// Slices of 2^`piece_log2` bytes each, `len` in all; the first and the last may be shorter.
    pub(crate) fn new(slices: VecDeque<Slice>, len: usize, piece_log2: u32) -> Self {
        debug_assert_eq!(len, slices.iter().map(Slice::len).sum::<usize>());
        Self { slices, skip: 0, len, piece_log2 }
    }

    /// Length of all pieces together, in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes in any piece.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes, piece by piece.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        let skips = std::iter::once(self.skip).chain(std::iter::repeat(0));
        self.slices.iter().zip(skips).map(|(slice, skip)| &slice[skip..])
    }

    /// For one vectored write: at most 1,024 ranges.
    pub fn io_slices(&self) -> Vec<IoSlice<'_>> {
        self.chunks().take(VECTOR_LIMIT).map(IoSlice::new).collect()
    }

    /// The part of it in `range`, which keeps only the pages it touches.
    ///
    /// # Panics
    /// If the range is not within it, or a count is at its limit. See [`Scattered::try_slice`].
    #[must_use]
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
    pub fn try_slice(&self, range: impl RangeBounds<usize>) -> Result<Self, SliceError> {
        let range = resolve(range, self.len)?;
        let mut slices = VecDeque::new();
        let mut at = range.start;
        while at < range.end {
            let (slice, within) = self.piece_at(at, range.end);
            at = at.saturating_add(within.len());
            slices.push_back(slice.try_slice(within)?);
        }
        Ok(Self::new(slices, range.len(), self.piece_log2))
    }

    /// The part of it in `range` as one slice, if it lies within one piece.
    ///
    /// # Errors
    /// [`SliceError::OutOfRange`] if it doesn't lie within these bytes, [`SliceError::InPieces`] if
    /// it lies in several, [`SliceError::CountLimit`].
    pub fn contiguous(&self, range: impl RangeBounds<usize>) -> Result<Slice, SliceError> {
        let range = resolve(range, self.len)?;
        if range.is_empty() {
            return Ok(self.slices.front().map_or_else(Slice::default, |slice| slice.slice(..0)));
        }
        let (slice, within) = self.piece_at(range.start, range.end);
        if within.len() < range.len() {
            return Err(SliceError::InPieces { start: range.start, end: range.end });
        }
        slice.try_slice(within)
    }

    /// The piece with byte `at`, and where in it that and what follows up to `end` lie.
    fn piece_at(&self, at: usize, end: usize) -> (&Slice, Range<usize>) {
        let at_all = at.saturating_add(self.skip);
        let first = self.slices[0].len();
        let (index, start) = match at_all.checked_sub(first) {
            None => (0, at_all),
            Some(behind) => {
                ((behind >> self.piece_log2).saturating_add(1), behind & !(usize::MAX << self.piece_log2))
            }
        };
        let slice = &self.slices[index];
        let len = slice.len().saturating_sub(start).min(end.saturating_sub(at));
        (slice, start..start.saturating_add(len))
    }

    /// The slices it consists of.
    pub fn into_slices(mut self) -> Vec<Slice> {
        if self.skip > 0
            && let Some(first) = self.slices.front_mut()
        {
            *first = first.slice(self.skip..);
        }
        std::mem::take(&mut self.slices).into()
    }

    /// Copies the bytes of all pieces into one vector.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len);
        self.chunks().for_each(|chunk| all.extend_from_slice(chunk));
        all
    }

    /// The next bytes that lie side by side; none at the end.
    #[cfg(feature = "bytes")]
    pub(crate) fn front(&self) -> &[u8] {
        self.slices.front().map_or(&[], |slice| &slice[self.skip..])
    }

    /// Leaves out the first `n` bytes; pieces that are behind are given up.
    ///
    /// # Panics
    /// If there are fewer.
    #[cfg(feature = "bytes")]
    pub(crate) fn leave_out(&mut self, n: usize) {
        assert!(n <= self.len, "{n} bytes of {}", self.len);
        self.len = self.len.saturating_sub(n);
        self.skip = self.skip.saturating_add(n);
        let mut behind = 0;
        while let Some(slice) = self.slices.get(behind)
            && slice.len() <= self.skip
        {
            self.skip = self.skip.saturating_sub(slice.len());
            behind = behind.saturating_add(1);
        }
        // Last: their end may wake a request, whose waker may panic.
        Slice::drop_all(self.slices.drain(..behind));
    }

    /// Bytes of the pages it touches. See [`Slice::footprint`].
    pub fn footprint(&self) -> usize {
        self.slices.iter().map(Slice::footprint).sum()
    }
}

impl Default for Scattered {
    fn default() -> Self {
        Self::new(VecDeque::new(), 0, 0)
    }
}

impl Drop for Scattered {
    fn drop(&mut self) {
        Slice::drop_all(self.slices.drain(..));
    }
}

impl IntoIterator for Scattered {
    type Item = Slice;
    type IntoIter = std::vec::IntoIter<Slice>;

    fn into_iter(self) -> Self::IntoIter {
        self.into_slices().into_iter()
    }
}

impl From<Slice> for Scattered {
    fn from(slice: Slice) -> Self {
        // The first may have any length.
        let len = slice.len();
        Self::new(Some(slice).filter(|slice| !slice.is_empty()).into_iter().collect(), len, 0)
    }
}

impl fmt::Debug for Scattered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scattered({} bytes in {} pieces)", self.len, self.slices.len())
    }
}
