//! In the place of `madvise.rs` where the system takes no memory back: of what returns memory there
//! is no value, so nothing of this is ever called.

use tailpin::{FrameMask, Pfn};

use crate::memory::mapping::Mapping;
use crate::memory::system::Errno;
use crate::reclaim::given::{Claimed, GivenBack};
use crate::shared_state::Inner;

/// Returns memory of this mapping, which there is none of.
pub(crate) struct Madvise<'a>(&'a Mapping);

impl<'a> Madvise<'a> {
    pub(crate) fn new(_inner: &'a Inner, mapping: &'a Mapping) -> Result<Self, Errno> {
        Ok(Self(mapping))
    }

    pub(crate) fn give_whole(&self, _pageblocks: &[Claimed<'_>]) -> Result<GivenBack, Errno> {
        match *self.0 {}
    }

    pub(crate) fn give_holes(&self, _holes: &Claimed<'_>) -> Result<GivenBack, Errno> {
        match *self.0 {}
    }

    /// # Safety
    /// There is no reference to the bytes of these pages.
    pub(crate) unsafe fn empty(&self, _at: Pfn, _frames: &FrameMask) -> Result<Option<GivenBack>, Errno> {
        match *self.0 {}
    }
}
