//! Advice about mappings (`madvise`).

use core::fmt;

use crate::addr::{Level, VirtAddr, VirtRange};
use crate::env::Env;
use crate::error::{CollapseError, MapError};
use crate::mm::HugePages;
use crate::ops::collapse::CollapseLimits;
use crate::ops::unmap::checked_range;
use crate::space::Space;
use crate::space::region::RegionBacking;

/// Advice about a range (`madvise`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Advice {
    /// Huge pages from now on, wherever they fit (`MADV_HUGEPAGE`).
    Huge,
    /// No huge pages from now on; those present stay (`MADV_NOHUGEPAGE`).
    NoHuge,
    /// The contents are not needed (`MADV_DONTNEED`): private memory reads as zeroes (or as its
    /// object) afterwards, and every page that has no other mapping and no pin is free on return.
    DontNeed,
    /// The contents of private anonymous memory may be discarded at any time from now on
    /// (`MADV_FREE`): they are at once, as with [`Advice::DontNeed`].
    Free,
    /// Every aligned 2 MiB in the range becomes one huge page now, without limits on what is absent
    /// or shared (`MADV_COLLAPSE`).
    Collapse,
}

/// Why advice was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AdviseError {
    /// The advice does not fit the range; nothing was done.
    Map(MapError),
    /// Some 2 MiB were not collapsed; the others were.
    Collapse(CollapseError),
}

impl From<MapError> for AdviseError {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

impl fmt::Display for AdviseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(error) => write!(f, "{error}"),
            Self::Collapse(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for AdviseError {}

impl<E: Env> Space<'_, E> {
    /// Takes advice about a range, any multiple of 4 KiB (of the unit for hugetlb).
    ///
    /// # Errors
    /// [`AdviseError::Map`] with [`MapError::Unmapped`] if a part of the range is not mapped,
    /// [`MapError::NotAnonymous`] for [`Advice::Free`] of something else, and the errors of
    /// [`Space::unmap`]; [`AdviseError::Collapse`] with the first 2 MiB that could not be
    /// collapsed.
    pub fn advise(&self, addr: VirtAddr, len: u64, advice: Advice) -> Result<(), AdviseError> {
        let range = checked_range::<E>(addr, len)?;
        match advice {
            Advice::Huge => Ok(self.advise_huge(range, HugePages::Always)?),
            Advice::NoHuge => Ok(self.advise_huge(range, HugePages::Never)?),
            Advice::DontNeed => Ok(self.discard(range, false)?),
            Advice::Free => Ok(self.discard(range, true)?),
            Advice::Collapse => self.collapse_range(range),
        }
    }

    fn advise_huge(&self, range: VirtRange, huge: HugePages) -> Result<(), MapError> {
        let mut regions = self.inner.regions.write();
        if let Some(addr) = regions.first_gap(range) {
            return Err(MapError::Unmapped { addr });
        }
        // No leaf reaches over the border of a region: operations that go through a space region by
        // region rely on that.
        self.inner.split_ends(&regions, range)?;
        regions.change(&self.inner, range, |region| region.huge = huge);
        regions.join(&self.inner, range);
        Ok(())
    }

    fn discard(&self, range: VirtRange, anonymous_only: bool) -> Result<(), MapError> {
        let inner = &self.inner;
        let regions = inner.regions.write();
        if let Some(addr) = regions.first_gap(range) {
            return Err(MapError::Unmapped { addr });
        }
        let other = |backing: &RegionBacking<'_, E>| !matches!(backing, RegionBacking::Anonymous(_));
        if anonymous_only && let Some(region) = regions.within(range).find(|region| other(&region.backing)) {
            return Err(MapError::NotAnonymous { addr: region.range.start.max(range.start) });
        }
        inner.split_ends(&regions, range)?;
        inner.clear_range(range);
        Ok(())
    }

    #[expect(clippy::arithmetic_side_effects, reason = "a constant")]
    fn collapse_range(&self, range: VirtRange) -> Result<(), AdviseError> {
        if let Some(addr) = self.inner.regions.read().first_gap(range) {
            return Err(MapError::Unmapped { addr }.into());
        }
        let huge = Level::PMD.bytes();
        let mut at = range.start.offset(huge - 1).align_down(huge);
        let mut first_error = None;
        while at.offset(huge) <= range.end {
            let done = self.collapse(at, CollapseLimits::NONE);
            first_error = first_error.or(done.err());
            at = at.offset(huge);
        }
        first_error.map_or(Ok(()), |error| Err(AdviseError::Collapse(error)))
    }
}
