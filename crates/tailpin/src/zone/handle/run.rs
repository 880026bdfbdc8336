//! A reference to frames side by side, as many as one likes.

use core::fmt;
use core::mem::ManuallyDrop;

use crate::error::{GetError, RunError};
use crate::frame::{FrameRange, Pfn};
use crate::one_word::OneWord;
use crate::protocol::Protocol;
use crate::report::Operation;
use crate::zone::Zone;

use super::PageRef;
use crate::alloc::run_request::RunRequest;

/// One reference to each of any number of frames side by side; they are free again when it is
/// dropped, except those that are pinned.
///
/// A run of five frames takes five. It may be [parted](Run::split_at) anywhere, and each part given
/// back by another thread.
///
/// ```
/// # use tailpin::*;
/// # let ranges = [FrameRange::new(Pfn::new(0), 4096)];
/// # let layout = ZoneLayout::new(&ranges, 1).unwrap();
/// # let memory = ZoneMemory::for_layout(&layout);
/// # let zone = memory.zone(layout, ZoneConfig::default()).unwrap();
/// let run = zone.alloc_run(5, 1)?;
/// assert_eq!(zone.used_frames(), 5);
/// let (three, two) = run.split_at(3);
/// drop(three);
/// assert_eq!(zone.used_frames(), 2);
/// let pin = two.pin(0).unwrap();
/// drop(two);
/// assert_eq!(zone.used_frames(), 1);
/// # drop(pin);
/// # Ok::<(), RunError>(())
/// ```
#[doc(alias = "alloc_contig_range")]
#[doc(alias = "CMA")]
pub struct Run<'z, P: Protocol = OneWord<'z>> {
    zone: &'z Zone<'z, P>,
    frames: FrameRange,
}

impl<'z, P: Protocol> Run<'z, P> {
    /// All frames of the run.
    pub fn frames(&self) -> FrameRange {
        self.frames
    }

    /// First frame of the run.
    pub fn pfn(&self) -> Pfn {
        self.frames.start
    }

    /// The zone that the run is from.
    pub fn zone(&self) -> &'z Zone<'z, P> {
        self.zone
    }

    /// The first `n` frames, and the others. Nothing shared is touched.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn split_at(self, n: u64) -> (Self, Self) {
        let frames = self.frames;
        assert!(n <= frames.frames(), "a run of {} frames has no frame {n}", frames.frames());
        let zone = ManuallyDrop::new(self).zone;
        let middle = frames.start.offset(n);
        let part = |start, end| Self { zone, frames: FrameRange { start, end } };
        (part(frames.start, middle), part(middle, frames.end))
    }

    /// Pins page `index` of the run.
    ///
    /// Progress: lock-free; as [`Block::pin`](crate::Block::pin).
    ///
    /// # Errors
    /// [`GetError::NotInUse`] for an index beyond the run, [`GetError::CountLimit`].
    pub fn pin(&self, index: u64) -> Result<PageRef<'z, P>, GetError> {
        let page = self.frames.start.checked_offset(index).filter(|page| self.frames.contains(*page));
        self.zone.try_pin(page.ok_or(GetError::NotInUse)?)
    }

    /// The run's frames as numbers, to be given back by [`Raw::free_run`](crate::Raw::free_run), in
    /// any parts.
    pub fn into_raw(self) -> FrameRange {
        ManuallyDrop::new(self).frames
    }
}

impl<P: Protocol> Drop for Run<'_, P> {
    fn drop(&mut self) {
        if let Err((frame, cause)) = self.zone.allocator.free_run(self.frames) {
            self.zone.report(frame, Operation::Free, cause);
        }
    }
}

impl<P: Protocol> fmt::Debug for Run<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Run({}..{})", self.frames.start, self.frames.end)
    }
}

impl<'m, P: Protocol> Zone<'m, P> {
    /// `n` free frames side by side, the number of the first a multiple of `align`, a power of two:
    /// just as many, for any `n`.
    ///
    /// Under a protocol that splits blocks they are naturally aligned blocks, as large as fit, up
    /// to 2 MiB; but up to eight frames that are no such block as a whole are single pages, as are
    /// all under the classic protocol.
    ///
    /// Progress: lock-free; as [`Zone::alloc`]. A request that finds no place where a block with
    /// room for the run would fit looks at every row of frames.
    ///
    /// # Errors
    /// [`RunError::Empty`], [`RunError::BadAlignment`]; [`RunError::Exhausted`] if no run is free,
    /// also after uncoalesced pages were drained and the reclaim hook asked.
    pub fn alloc_run(&self, n: u64, align: u64) -> Result<Run<'_, P>, RunError> {
        self.alloc_run_with(RunRequest::new(n).aligned(align))
    }

    /// As [`Zone::alloc_run`], with all options.
    ///
    /// Progress: lock-free; as [`Zone::alloc_run`].
    ///
    /// # Errors
    /// As [`Zone::alloc_run`].
    pub fn alloc_run_with(&self, request: RunRequest) -> Result<Run<'_, P>, RunError> {
        let frames = self.allocator.alloc_run(request)?;
        Ok(Run { zone: self, frames })
    }

    /// Just these frames, if all of them are free.
    ///
    /// Progress: lock-free; one look at each row of them, and at each of their words that is not
    /// free in the pool.
    ///
    /// # Errors
    /// [`RunError::Empty`], [`RunError::NotInZone`]; [`RunError::InUse`] names a frame that is not
    /// free, or that another thread was moving at that moment. None is taken then.
    ///
    /// ```
    /// # use tailpin::*;
    /// # let ranges = [FrameRange::new(Pfn::new(0), 4096)];
    /// # let layout = ZoneLayout::new(&ranges, 1).unwrap();
    /// # let memory = ZoneMemory::for_layout(&layout);
    /// # let zone = memory.zone(layout, ZoneConfig::default()).unwrap();
    /// let named = FrameRange::new(Pfn::new(1000), 48);
    /// let run = zone.alloc_run_at(named)?;
    /// assert_eq!(zone.alloc_run_at(named).unwrap_err(), RunError::InUse { frame: Pfn::new(1000) });
    /// # drop(run);
    /// # Ok::<(), RunError>(())
    /// ```
    pub fn alloc_run_at(&self, range: FrameRange) -> Result<Run<'_, P>, RunError> {
        self.allocator.alloc_run_at(range)?;
        Ok(Run { zone: self, frames: range })
    }
}
