//! Keeping a piece of data for long: by a pin, or by a copy.

use std::fmt;
use std::ops::{Deref, RangeBounds};

use crate::handles::range::resolve;
use crate::handles::slice::Slice;

/// When [`Slice::keep`] copies.
///
/// The default copies below 8 KiB. Measured by `examples/break_even.rs` (two processors of a shared
/// virtual machine; best of five; times include giving up what was kept and taking the 2 MiB buffer
/// apart), for each record kept:
///
/// | record | 1 % kept: copy, pin | 10 % | 30 % | 60 % | arena bytes a lone pin keeps per byte |
/// | --- | --- | --- | --- | --- | --- |
/// | 256 B | 39, 109 ns | 32, 56 | 36, 58 | 126, 78 | 15.7 |
/// | 1 KiB | 87, 239 ns | 79, 93 | 73, 68 | 85, 56 | 4.9 |
/// | 4 KiB | 231, 638 ns | 180, 179 | 171, 133 | 175, 110 | 2.0 |
/// | 8 KiB | 386, 1121 ns | 392, 273 | 294, 177 | 361, 155 | 1.5 |
/// | 64 KiB | 3761, 4582 ns | 11551, 1367 | 4349, 860 | 2269, 738 | 1.1 |
///
/// So 8 KiB is the smallest of these sizes at which a pin is clearly quicker wherever a tenth of
/// the data or more is kept, and it keeps at most half as much again as it has to. Where a
/// hundredth is kept, copying is quicker at every size: taking a buffer apart then costs more than
/// the few copies. Where addresses must not change, or most is kept, pin from fewer bytes on. (The
/// machine was busy; an odd figure among the small ones is noise.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// Copies what is shorter than this many bytes, pins the rest.
    CopyBelow(usize),
}

impl Default for Policy {
    fn default() -> Self {
        Self::CopyBelow(8192)
    }
}

/// What [`Slice::keep`] kept: the data pinned where it is, or a copy.
#[derive(Clone)]
pub enum Kept {
    /// Still in the arena.
    Pinned(Slice),
    /// A copy; the pages it came from are free as far as this is concerned.
    Copied(Box<[u8]>),
}

impl Slice {
    /// Keeps the bytes the cheaper way: small ones as a copy, so that 100 bytes don't keep a page
    /// of 4096, large ones by the pin that the slice already is.
    ///
    /// ```
    /// # use tailpin_arena::{Arena, Kept, Policy};
    /// # let arena = Arena::builder().size(16 << 20).build()?;
    /// let whole = arena.alloc(1 << 20)?.freeze();
    /// assert!(matches!(whole.slice(0..100).keep(Policy::default()), Kept::Copied(_)));
    /// assert!(matches!(whole.slice(0..100_000).keep(Policy::default()), Kept::Pinned(_)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn keep(self, policy: Policy) -> Kept {
        match policy {
            Policy::CopyBelow(bytes) if self.len() < bytes => Kept::Copied(Box::from(&*self)),
            Policy::CopyBelow(_) => Kept::Pinned(self),
        }
    }
}

impl Slice {
    /// Keeps the part of it in `range` the cheaper way, as [`Slice::keep`] does, without a slice
    /// of it in between: a copy takes no pin.
    ///
    /// ```
    /// # use tailpin_arena::{Arena, Kept, Policy};
    /// # let arena = Arena::builder().size(16 << 20).build()?;
    /// let whole = arena.alloc(1 << 20)?.freeze();
    /// let records = [0..100, 100..300, 300..100_000];
    /// let kept = records.map(|record| whole.keep_part(record, Policy::default()));
    /// assert!(matches!(kept, [Kept::Copied(_), Kept::Copied(_), Kept::Pinned(_)]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// As [`Slice::slice`].
    #[must_use]
    pub fn keep_part(&self, range: impl RangeBounds<usize>, policy: Policy) -> Kept {
        let Policy::CopyBelow(least) = policy;
        let range = resolve(range, self.len()).unwrap_or_else(|error| panic!("{error}"));
        if range.len() < least { Kept::Copied(Box::from(&self[range])) } else { self.slice(range).into() }
    }
}

impl Deref for Kept {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Pinned(slice) => slice,
            Self::Copied(bytes) => bytes,
        }
    }
}

impl From<Slice> for Kept {
    fn from(slice: Slice) -> Self {
        Self::Pinned(slice)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned(slice) => write!(f, "Pinned({slice:?})"),
            Self::Copied(bytes) => write!(f, "Copied({} bytes)", bytes.len()),
        }
    }
}
