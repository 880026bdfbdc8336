//! Bytes in pieces that many may read.

use std::fmt;
use std::io::IoSlice;
use std::mem;
use std::ops::{Range, RangeBounds};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::error::SliceError;
use crate::handles::range::resolve;
use crate::handles::scattered::frozen::FrozenPieces;
use crate::handles::scattered::pieces::VECTOR_LIMIT;
use crate::handles::slice::Slice;

/// Read-only bytes in pieces, of a [`ScatteredBuffer`](crate::ScatteredBuffer) or a part of one: a
/// list of [`Slice`]s.
///
/// A part of it keeps the pages that it touches. What lies within one piece is a [`Slice`] like any
/// other ([`Scattered::contiguous`]), at the cost of one count.
#[derive(Default)]
pub struct Scattered {
    /// The part of a piece that it begins with, or none.
    first: Slice,
    /// Bytes of the first that are gone already.
    skip: usize,
    whole: FrozenPieces,
    /// The part of a piece that it ends with, or none.
    last: Slice,
    len: usize,
}

/// Where a byte lies.
enum PieceAt {
    First,
    /// In this one of the whole pieces.
    Whole(usize),
    Last,
}

impl Scattered {
    /// Whole pieces, and the part of one behind them.
    pub(crate) fn new(whole: FrozenPieces, last: Slice) -> Self {
        let len = whole.len().saturating_mul(whole.piece()).saturating_add(last.len());
        Self { first: Slice::default(), skip: 0, whole, last, len }
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
        let part = |bytes| std::iter::once(bytes).filter(|bytes: &&[u8]| !bytes.is_empty());
        part(&self.first[self.skip..]).chain(self.whole.chunks()).chain(part(&self.last))
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
        let mut part = Self::new(self.whole.none(), Slice::default());
        while part.len < range.len() {
            let (place, within) = self.place_of(range.start.saturating_add(part.len), range.end);
            let len = within.len();
            match place {
                PieceAt::Whole(nth) if len == self.whole.piece() => {
                    part.whole.push_shared(&self.whole, nth)?
                }
                place if part.is_empty() => {
                    part.first = self.piece(place, |piece| piece.try_slice(within))?
                }
                place => part.last = self.piece(place, |piece| piece.try_slice(within))?,
            }
            part.len = part.len.saturating_add(len);
        }
        Ok(part)
    }

    /// The part of it in `range` as one slice, if it lies within one piece.
    ///
    /// # Errors
    /// [`SliceError::OutOfRange`] if it doesn't lie within these bytes, [`SliceError::InPieces`] if
    /// it lies in several, [`SliceError::CountLimit`].
    pub fn contiguous(&self, range: impl RangeBounds<usize>) -> Result<Slice, SliceError> {
        let range = resolve(range, self.len)?;
        if self.is_empty() {
            return Ok(Slice::default());
        }
        let (place, within) = self.place_of(range.start.min(self.len.saturating_sub(1)), range.end);
        if within.len() < range.len() {
            return Err(SliceError::InPieces { start: range.start, end: range.end });
        }
        self.piece(place, |piece| piece.try_slice(within))
    }

    /// In which piece byte `at` lies, and where in it that and what follows up to `end` lie.
    fn place_of(&self, at: usize, end: usize) -> (PieceAt, Range<usize>) {
        let at_all = at.saturating_add(self.skip);
        let wanted = end.saturating_sub(at);
        let (place, start, len) = match at_all.checked_sub(self.first.len()) {
            None => (PieceAt::First, at_all, self.first.len()),
            Some(behind) => match behind >> self.whole.piece_log2() {
                nth if nth < self.whole.len() => {
                    (PieceAt::Whole(nth), behind & self.whole.piece().wrapping_sub(1), self.whole.piece())
                }
                _ => {
                    let whole = self.whole.len().saturating_mul(self.whole.piece());
                    (PieceAt::Last, behind.saturating_sub(whole), self.last.len())
                }
            },
        };
        (place, start..start.saturating_add(wanted).min(len))
    }

    /// Has `look` look at a piece as a slice.
    fn piece<T>(&self, place: PieceAt, look: impl FnOnce(&Slice) -> T) -> T {
        match place {
            PieceAt::First => look(&self.first),
            PieceAt::Whole(nth) => self.whole.with(nth, look),
            PieceAt::Last => look(&self.last),
        }
    }

    /// The slices it consists of.
    pub fn into_slices(mut self) -> Vec<Slice> {
        if self.skip > 0 {
            self.first = self.first.slice(self.skip..);
        }
        let mut slices = Vec::with_capacity(self.whole.len().saturating_add(2));
        let mut part = |slice: Slice| slices.extend(Some(slice).filter(|slice| !slice.is_empty()));
        part(mem::take(&mut self.first));
        while let Some(slice) = self.whole.pop_front() {
            part(slice);
        }
        part(mem::take(&mut self.last));
        slices
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
        self.chunks().next().unwrap_or_default()
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
        let Some(behind_first) = self.skip.checked_sub(self.first.len()) else { return };
        let first = mem::take(&mut self.first);
        let whole = self.whole.take_front(behind_first >> self.whole.piece_log2());
        self.skip = behind_first.saturating_sub(whole.len().saturating_mul(whole.piece()));
        if self.skip > 0 {
            // The next one begins within a piece.
            self.first = self.whole.pop_front().unwrap_or_else(|| mem::take(&mut self.last));
        }
        let mut last = Slice::default();
        if self.skip == self.first.len() {
            (self.skip, last) = (0, mem::take(&mut self.first));
        }
        // Last: their end may wake a request, whose waker may panic.
        give_up(first, whole, last);
    }

    /// Bytes of the pages it touches. See [`Slice::footprint`].
    pub fn footprint(&self) -> usize {
        let whole = self.whole.len().saturating_mul(self.whole.piece());
        self.first.footprint().saturating_add(whole).saturating_add(self.last.footprint())
    }
}

/// One more reference on each piece.
///
/// # Panics
/// If a count is at its limit.
impl Clone for Scattered {
    fn clone(&self) -> Self {
        self.slice(..)
    }
}

impl Drop for Scattered {
    fn drop(&mut self) {
        give_up(mem::take(&mut self.first), mem::take(&mut self.whole), mem::take(&mut self.last));
    }
}

/// Drops pieces. The end of each may wake requests, whose wakers are foreign code: a panic of one
/// waits until all is given back.
fn give_up(first: Slice, whole: FrozenPieces, last: Slice) {
    let first = catch_unwind(AssertUnwindSafe(|| drop(first))).err();
    let whole = catch_unwind(AssertUnwindSafe(|| drop(whole))).err();
    let last = catch_unwind(AssertUnwindSafe(|| drop(last))).err();
    if let Some(panic) = first.or(whole).or(last) {
        resume_unwind(panic);
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
        let len = slice.len();
        Self { first: slice, skip: 0, whole: FrozenPieces::default(), last: Slice::default(), len }
    }
}

impl fmt::Debug for Scattered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scattered({} bytes in {} pieces)", self.len, self.chunks().count())
    }
}
