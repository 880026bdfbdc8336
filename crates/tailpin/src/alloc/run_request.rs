//! What a run is asked for with.

use crate::frame::Pfn;

use super::layout::FRAMES_END;

/// Frames side by side to allocate: how many, and where they may lie.
///
/// ```
/// # use tailpin::{Pfn, RunRequest};
/// let ring = RunRequest::new(5);                                     // 20 KiB, anywhere
/// let dma = RunRequest::new(3000).aligned(16).below(Pfn::new(1 << 20)); // below 4 GiB
/// # let _ = (ring, dma);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunRequest {
    pub(super) frames: u64,
    pub(super) align: u64,
    pub(super) below: Pfn,
    pub(super) zero: bool,
}

impl RunRequest {
    /// `frames` of them, contents as they come.
    pub const fn new(frames: u64) -> Self {
        Self { frames, align: 1, below: FRAMES_END, zero: false }
    }

    /// The number of the first one is to be a multiple of `frames`, a power of two.
    #[must_use]
    pub const fn aligned(mut self, frames: u64) -> Self {
        self.align = frames;
        self
    }

    /// All of them are to lie below frame `limit`, for devices that reach no further (the kernel's
    /// `ZONE_DMA32`). Looks through the rows of frames below it one by one.
    #[doc(alias = "DMA32")]
    #[must_use]
    pub const fn below(mut self, limit: Pfn) -> Self {
        self.below = limit;
        self
    }

    /// Has [`Hooks::before_publication`](crate::Hooks::before_publication) clear the contents.
    #[must_use]
    pub const fn zeroed(mut self) -> Self {
        self.zero = true;
        self
    }
}
