//! Keeping a piece of data for long: by a pin, or by a copy.

use std::fmt;
use std::ops::Deref;

use crate::slice::Slice;

/// When [`Slice::keep`] copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// Copies what is shorter than this many bytes, pins the rest.
    CopyBelow(usize),
}

impl Default for Policy {
    fn default() -> Self {
        Self::CopyBelow(1024)
    }
}

/// Kept data: pinned where it is, or copied.
#[derive(Clone)]
pub enum Kept {
    /// Still in the arena.
    Pinned(Slice),
    /// A copy; the pages it came from are free as far as this is concerned.
    Copied(Box<[u8]>),
}

impl Slice {
    /// Keeps the bytes the cheaper way: small ones as a copy, so that 100 bytes don't keep a page of 4096, large ones
    /// by the pin that the slice already is.
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

impl Deref for Kept {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Pinned(slice) => slice,
            Self::Copied(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        self
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
