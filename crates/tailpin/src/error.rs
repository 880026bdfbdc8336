//! Errors, each carrying the facts.

use core::fmt;

use crate::frame::{FrameRange, Order, Pfn};
use crate::report::Cause;

/// Why a pin or reference was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GetError {
    /// The frame is free, out of service or outside the zone; or its block was being merged during
    /// the call.
    NotInUse,
    /// One more would pass the limit of the count.
    CountLimit,
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInUse => write!(f, "the frame is not in use"),
            Self::CountLimit => write!(f, "the count has reached its limit"),
        }
    }
}

/// Why a block can't be split. A pin is never a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SplitError {
    /// The block is of the class that never splits.
    Unsplittable {
        /// Head of the block.
        head: Pfn,
    },
    /// The page or order asked for does not lie within the block.
    OutOfRange,
    /// The protocol has no such split.
    NotSupported,
}

impl fmt::Display for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsplittable { head } => write!(f, "block {head} is unsplittable"),
            Self::OutOfRange => write!(f, "the page or order is not within the block"),
            Self::NotSupported => write!(f, "the protocol can't split around a page"),
        }
    }
}

/// Why blocks can't be merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MergeError {
    /// The pieces don't fill a naturally aligned block of the order asked for.
    NotABlock,
    /// Another handle or token has a reference to a piece. Pins are no obstacle.
    Shared {
        /// The piece.
        head: Pfn,
    },
    /// A piece is of the class that neither splits nor merges.
    Unsplittable {
        /// The piece.
        head: Pfn,
    },
    /// The protocol can't merge.
    NotSupported,
}

impl fmt::Display for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotABlock => write!(f, "the pieces do not fill one aligned block"),
            Self::Shared { head } => write!(f, "another handle or token has a reference to piece {head}"),
            Self::Unsplittable { head } => write!(f, "piece {head} is unsplittable"),
            Self::NotSupported => write!(f, "the protocol can't merge"),
        }
    }
}

/// Why a protocol refuses what a token is presented for. Then nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenError<E> {
    /// The token does not describe what is there.
    Misuse {
        /// The frame at which that was noticed: the token's own, or the first one of a later piece.
        frame: Pfn,
        /// What is wrong.
        cause: Cause,
    },
    /// The token is right, and the operation is refused for another reason.
    Refused(E),
}

impl<E: fmt::Display> fmt::Display for TokenError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misuse { frame, cause } => write!(f, "frame {frame}: {cause}"),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

/// Why no block was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AllocError {
    /// No block of this order is free.
    Exhausted {
        /// What was asked for.
        order: Order,
        /// Free frames that are left, in smaller pieces.
        free_frames: u64,
        /// Whole free 2 MiB pageblocks that are left.
        free_pageblocks: u64,
    },
}

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exhausted { order, free_frames, free_pageblocks } => write!(
                f,
                "no free block of order {order}: {free_frames} frames are free, {free_pageblocks} whole 2 MiB pageblocks"
            ),
        }
    }
}

/// Why no run of frames was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunError {
    /// No frame was asked for.
    Empty,
    /// The alignment is no power of two.
    BadAlignment {
        /// What was asked for.
        align: u64,
    },
    /// There are not as many free frames side by side.
    Exhausted {
        /// Frames asked for.
        frames: u64,
        /// What the number of the first one was to be a multiple of.
        align: u64,
        /// Free frames that are left, in shorter runs.
        free_frames: u64,
        /// Whole free 2 MiB pageblocks that are left.
        free_pageblocks: u64,
    },
    /// A frame that was asked for by its number is in use, out of service, or on its way from one
    /// owner to the next.
    InUse {
        /// The frame.
        frame: Pfn,
    },
    /// Frames that were asked for by their numbers lie outside the zone.
    NotInZone {
        /// What was asked for.
        range: FrameRange,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "no frame was asked for"),
            Self::BadAlignment { align } => write!(f, "alignment {align} is no power of two"),
            Self::Exhausted { frames, align, free_frames, free_pageblocks } => write!(
                f,
                "no {frames} free frames side by side, aligned to {align}: {free_frames} frames are free, {free_pageblocks} whole 2 MiB pageblocks"
            ),
            Self::InUse { frame } => write!(f, "frame {frame} is not free"),
            Self::NotInZone { range } => {
                write!(f, "frames {}..{} are not in the zone", range.start, range.end)
            }
        }
    }
}

/// Why frames could not be put into service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddError {
    /// The range is empty or not within the span that the zone was laid out for.
    NotInZone {
        /// What was to be added.
        range: FrameRange,
    },
    /// A frame is in service already, or was set aside. The frames of the range before it are in
    /// service now if another thread added some at the same moment; else nothing was done.
    InService {
        /// The frame.
        frame: Pfn,
    },
    /// Another thread is adding other frames of the same 2 MiB at this moment. The frames of the
    /// range before it are in service; the rest is to be added again.
    Busy {
        /// The first frame that was not added.
        frame: Pfn,
    },
}

impl fmt::Display for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInZone { range } => {
                write!(f, "frames {}..{} are not in the zone's span", range.start, range.end)
            }
            Self::InService { frame } => write!(f, "frame {frame} is in service or was set aside"),
            Self::Busy { frame } => {
                write!(f, "another thread is adding frames of the 2 MiB around frame {frame}")
            }
        }
    }
}

/// Why a zone could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ZoneError {
    /// There is no usable frame at all.
    Empty,
    /// A range ends before it begins, overlaps the one before it, is not in ascending order, or has
    /// frames of which bytes have no 64-bit address.
    BadRange {
        /// The range.
        range: FrameRange,
    },
    /// The frames and slots are so many that their metadata can't be addressed.
    TooLarge,
    /// A piece of metadata memory is too small.
    TooFewWords {
        /// Which one: `"pages"` or `"allocator"`.
        which: &'static str,
        /// Words needed.
        needed: usize,
        /// Words given.
        given: usize,
    },
}

impl fmt::Display for ZoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the ranges hold no usable frame"),
            Self::TooLarge => write!(f, "so many frames and slots have more metadata than can be addressed"),
            Self::BadRange { range } => {
                write!(
                    f,
                    "range {}..{} is empty, unordered, too high or overlaps another",
                    range.start, range.end
                )
            }
            Self::TooFewWords { which, needed, given } => {
                write!(f, "{which} metadata needs {needed} words, {given} were given")
            }
        }
    }
}

impl core::error::Error for GetError {}
impl<E: core::error::Error> core::error::Error for TokenError<E> {}
impl core::error::Error for SplitError {}
impl core::error::Error for MergeError {}
impl core::error::Error for AllocError {}
impl core::error::Error for RunError {}
impl core::error::Error for AddError {}
impl core::error::Error for ZoneError {}
