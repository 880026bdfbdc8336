//! A count that is taken only if it is not zero.

use core::sync::atomic::Ordering;

use tailpin::{AtomicWord, GetError};

/// From this count on no caller gets another reference (H18).
pub(super) const COUNT_LIMIT: u64 = 1 << 31;

/// A count from here on is one that is just being repaired after a caller gave back more than there
/// was.
pub(super) const NEGATIVE: u64 = 1 << 63;

/// `atomic_inc_not_zero`, refusing at `limit`.
///
/// Acquire on success: pairs with the publication of the count, so that the caller sees the page
/// prepared. Release on success: keeps the kernel's full order. Acquire on refusal: a thread that
/// reads zero sees what led to it, and so whether the page still is a tail of that head.
pub(super) fn get_unless_zero<W: AtomicWord>(count: &W, limit: u64) -> Result<(), GetError> {
    let mut seen = count.load(Ordering::Acquire);
    loop {
        if seen == 0 || seen >= NEGATIVE {
            return Err(GetError::NotInUse);
        }
        if seen >= limit {
            return Err(GetError::CountLimit);
        }
        match count.compare_exchange(seen, seen + 1, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Ok(()),
            Err(now) => seen = now,
        }
    }
}
