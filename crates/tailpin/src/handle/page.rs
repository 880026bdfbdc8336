//! A reference to one page.

use core::fmt;

use crate::error::GetError;
use crate::frame::Pfn;
use crate::one_word::OneWord;
use crate::protocol::Protocol;

use super::{Block, PageRef};

/// One reference to a page of its own: a [`Block`] of order 0.
pub struct Page<'z, P: Protocol = OneWord<'z>>(Block<'z, P>);

impl<'z, P: Protocol> Page<'z, P> {
    pub(crate) fn adopt(block: Block<'z, P>) -> Self {
        Self(block)
    }

    /// Its frame.
    #[inline]
    pub fn pfn(&self) -> Pfn {
        self.0.pfn()
    }

    /// Pins it.
    ///
    /// Progress: lock-free; one compare-and-swap, which fails only because another one got on.
    ///
    /// # Errors
    /// [`GetError::CountLimit`].
    #[inline]
    pub fn pin(&self) -> Result<PageRef<'z, P>, GetError> {
        self.0.pin(0)
    }

    /// The same reference as a block.
    ///
    /// Progress: wait-free; nothing shared is touched.
    pub fn into_block(self) -> Block<'z, P> {
        self.0
    }
}

impl<P: Protocol> Clone for Page<'_, P> {
    /// One more reference: one atomic step.
    ///
    /// Progress: lock-free; as [`Block::try_clone`].
    ///
    /// # Panics
    /// At the limit of the count.
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P: Protocol> fmt::Debug for Page<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Page({})", self.pfn())
    }
}
