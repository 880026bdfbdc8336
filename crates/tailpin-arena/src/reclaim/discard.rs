//! Memory under pages in use: taken away, and there again when it is touched.

use std::ops::Range;

use tailpin::{FrameMask, FrameRange, Order};

use crate::backing::Ability;
use crate::error::ReleaseError;
use crate::handles::buffer::Buffer;
use crate::memory::abilities::GivesBack;
use crate::memory::{PAGE_SIZE, bytes_of};
use crate::reclaim::release::{ReleaseCall, Released, Stop};
use crate::shared_state::Inner;

impl Buffer {
    /// Gives the memory under whole pages of `range` back to the system, though they are in use:
    /// they read as zero, and the next touch brings memory again. Pages of which only a part is in
    /// `range` stay as they are.
    ///
    /// Where the kernel would not let go of a huge page (something else holds it), its pages stay
    /// as they are, contents and all, and count as [`Released::stuck`].
    ///
    /// # Errors
    /// [`ReleaseError::Refused`] with the reason if single pages of this memory can't be given
    /// back, [`ReleaseError::Busy`] if another thread is giving memory back.
    ///
    /// # Panics
    /// If the range is not within the buffer.
    ///
    /// ```
    /// # use tailpin_arena::Arena;
    /// let arena = Arena::builder().size(16 << 20).build()?;
    /// let mut buffer = arena.alloc(4 << 20)?;
    /// buffer.fill(1);
    /// let discarded = buffer.discard(5000..20_000)?; // pages 2 and 3 are in it as a whole
    /// assert_eq!(discarded.returned + discarded.stuck, 8192);
    /// assert_eq!((buffer[8191], buffer[16384]), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn discard(&mut self, range: Range<usize>) -> Result<Released, ReleaseError> {
        assert!(range.start <= range.end && range.end <= self.len(), "a discard stays within the buffer");
        let (from, to) = (range.start.div_ceil(PAGE_SIZE), range.end / PAGE_SIZE);
        let (inner, blocks) = self.inner_and_pages();
        let pages = FrameRange::new(blocks.start.offset(from as u64), to.saturating_sub(from) as u64);
        // SAFETY: the buffer alone has these pages, and is borrowed exclusively.
        unsafe { discard_pages(inner, pages) }
    }
}

/// # Safety
/// The pages are the caller's, and there is no reference to their bytes.
pub(crate) unsafe fn discard_pages(inner: &Inner, pages: FrameRange) -> Result<Released, ReleaseError> {
    // Refuses registered and locked memory, and none is registered while the step lives.
    let step = ReleaseCall::begin(inner)?;
    if let Ability::No(reason) = GivesBack::of(inner.backing, false, false).small {
        return Err(ReleaseError::Refused(reason));
    }
    let (mut returned, mut stuck) = (0_usize, 0_usize);
    if pages.frames() == 0 {
        // No page is in it as a whole, so none of the huge pages around needs to be taken apart.
        return Ok(Released { asked: 0, returned, stuck, stopped: Stop::Target });
    }
    let mut pageblock = pages.start.head(Order::HUGE);
    while pageblock < pages.end {
        let frames = FrameMask::of_range(pages, pageblock);
        // SAFETY: as the caller says.
        let emptied = unsafe { step.madvise().empty(pageblock, &frames) };
        match emptied.map_err(|errno| inner.refusal(errno))? {
            Some(given) => {
                returned = returned.saturating_add(given.returned);
                stuck = stuck.saturating_add(given.stuck);
            }
            None => stuck = stuck.saturating_add(bytes_of(frames.count())),
        }
        pageblock = pageblock.offset(Order::HUGE.frames());
    }
    Ok(Released { asked: bytes_of(pages.frames()), returned, stuck, stopped: Stop::Target })
}
