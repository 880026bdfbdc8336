//! What a caller's range means for so many bytes.

use std::ops::{Bound, Range, RangeBounds};

use crate::error::SliceError;

/// The bytes of `range`, if they lie within the first `len`.
#[inline(always)] // A result that goes through memory costs more than all the rest.
pub(crate) fn resolve(range: impl RangeBounds<usize>, len: usize) -> Result<Range<usize>, SliceError> {
    let start = match range.start_bound() {
        Bound::Included(start) => Some(*start),
        Bound::Excluded(before) => before.checked_add(1),
        Bound::Unbounded => Some(0),
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.checked_add(1),
        Bound::Excluded(end) => Some(*end),
        Bound::Unbounded => Some(len),
    };
    let (start, end) = (start.unwrap_or(usize::MAX), end.unwrap_or(usize::MAX));
    if start > end || end > len {
        return Err(SliceError::OutOfRange { start, end, len });
    }
    Ok(start..end)
}
