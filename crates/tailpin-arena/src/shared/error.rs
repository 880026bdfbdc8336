//! Errors of shared arenas, each with its cause.

use std::fmt;

use tailpin::{AllocError, GetError, MergeError, Order, SplitError};

use super::operation::Refusal;
use super::owner::OwnerId;

/// Why a shared arena could not be made, joined or used. Nothing is left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SharedError {
    /// An arena of so many bytes can't be made.
    BadSize {
        /// What was asked for.
        bytes: usize,
    },
    /// An arena for so many processes can't be made.
    TooManyOwners {
        /// What was asked for.
        owners: usize,
        /// What there may be.
        most: usize,
    },
    /// The processor has no atomic operation on 128 bits.
    NoWideAtomics,
    /// The file is no shared arena, or can be made shorter by others; or its creator has not yet
    /// given it its size.
    NotAnArena,
    /// The creator is still at work on it, or died before it was done. Try again for as long as the
    /// creator lives.
    Unfinished,
    /// The descriptor was not opened for reading and writing.
    NotWritable,
    /// The file was made by another version of this crate.
    OtherVersion,
    /// As many processes have joined as may. Those of them that have died make place by
    /// [`SharedArena::recover`](super::SharedArena::recover).
    Full {
        /// Processes.
        owners: usize,
    },
    /// This is a forked child, which has no part in the memory.
    Child,
    /// The process may not make a file this long (`ulimit -f`, `RLIMIT_FSIZE`).
    FileLimit {
        /// What the arena and its words need, in bytes.
        bytes: u64,
        /// What the process may have.
        limit: u64,
    },
    /// Another answer of the system's.
    System {
        /// What was being done.
        doing: &'static str,
        /// The error number.
        errno: i32,
    },
    /// A block has 1 byte to 2 MiB.
    BadLength {
        /// What was asked for.
        bytes: usize,
    },
    /// A slice that would be empty or reach beyond the end.
    OutOfRange {
        /// First byte asked for; `usize::MAX` also stands for what is beyond it.
        start: usize,
        /// The byte behind the last; the same of it.
        end: usize,
        /// Bytes there are.
        len: usize,
    },
    /// No block of this size is free.
    Exhausted {
        /// Size asked for, 4096 << order bytes.
        order: Order,
        /// Bytes that are free in smaller pieces.
        free: u64,
    },
    /// The token is of memory that was freed since, of none, or of none that was frozen.
    Stale,
    /// A pin or reference was refused.
    Get(GetError),
    /// The block can't be split so.
    Split(SplitError),
    /// The pieces can't be merged.
    Merge(MergeError),
    /// A count that was there is there no more: something else than this crate writes the memory.
    Corrupt,
    /// An earlier operation of this process panicked in the middle. Its memory can be read on, but
    /// the process has no further part in the arena: what it holds is given back by
    /// [`SharedArena::recover`](super::SharedArena::recover) after its end.
    Poisoned,
}

impl SharedError {
    pub(super) fn io(doing: &'static str, error: &std::io::Error) -> Self {
        Self::System { doing, errno: error.raw_os_error().unwrap_or(0) }
    }
}

impl From<Refusal> for SharedError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Alloc(AllocError::Exhausted { order, free_frames, .. }) => {
                Self::Exhausted { order, free: free_frames * Order::PAGE.bytes() }
            }
            Refusal::Get(error) => Self::Get(error),
            Refusal::Split(error) => Self::Split(error),
            Refusal::Merge(error) => Self::Merge(error),
            Refusal::NotHeld => Self::Corrupt,
            Refusal::Poisoned => Self::Poisoned,
        }
    }
}

impl fmt::Display for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadSize { bytes } => write!(f, "no shared arena has {bytes} bytes"),
            Self::TooManyOwners { owners, most } => {
                write!(f, "a shared arena is for 1 to {most} processes, not {owners}")
            }
            Self::NoWideAtomics => write!(f, "this processor has no atomic operation on 128 bits"),
            Self::NotAnArena => write!(f, "the file is no shared arena of a fixed size"),
            Self::Unfinished => write!(f, "the creator of the shared arena is not done with it"),
            Self::NotWritable => write!(f, "the file is not open for reading and writing"),
            Self::OtherVersion => write!(f, "the shared arena was made by another version of this crate"),
            Self::Full { owners } => {
                write!(f, "{owners} processes have joined already; recover those that died")
            }
            Self::Child => write!(f, "a forked child has no part in a shared arena: attach it anew"),
            Self::FileLimit { bytes, limit } => {
                write!(f, "a file of {bytes} bytes is needed, and the limit is {limit} (ulimit -f)")
            }
            Self::System { doing, errno } => {
                write!(f, "can't {doing}: {}", std::io::Error::from_raw_os_error(*errno))
            }
            Self::BadLength { bytes } => write!(f, "a block has 1 byte to 2 MiB, not {bytes} bytes"),
            Self::OutOfRange { start, end, len } => {
                write!(f, "the range {start}..{end} is empty or not within 0..{len}")
            }
            Self::Exhausted { order, free } => {
                write!(f, "no free block of {} bytes; {free} bytes are free in smaller ones", order.bytes())
            }
            Self::Stale => write!(f, "the token is not of memory that is in use and frozen"),
            Self::Get(error) => error.fmt(f),
            Self::Split(error) => error.fmt(f),
            Self::Merge(error) => error.fmt(f),
            Self::Corrupt => write!(f, "the shared words were written by something else"),
            Self::Poisoned => {
                write!(f, "an operation of this process panicked; only its end can settle that")
            }
        }
    }
}

impl std::error::Error for SharedError {}

/// Why an owner was not recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecoverError {
    /// The process is alive, or can't be looked at.
    Alive(OwnerId),
    /// Another process, or another thread of this one, is recovering it.
    Busy {
        /// That process.
        pid: u32,
    },
    /// It has left, or was recovered.
    Gone(OwnerId),
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alive(owner) => write!(f, "{owner} is alive"),
            Self::Busy { pid } => write!(f, "process {pid} is recovering it"),
            Self::Gone(owner) => write!(f, "{owner} has left or was recovered"),
        }
    }
}

impl std::error::Error for RecoverError {}
