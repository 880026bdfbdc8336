//! Why a plan can't be replayed, and the limits of a replay.

use std::{fmt, io};

use tailpin::ZoneError;

/// Largest zone, in frames: 512 GiB.
pub const MOST_FRAMES: u64 = 1 << 27;

/// Most copies at once.
pub const MOST_THREADS: usize = 1 << 10;

/// Why a plan can't be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayError {
    /// The zone that it needs is too large.
    NoRoom {
        /// Frames it needs.
        frames: u64,
        /// The most there may be: [`MOST_FRAMES`].
        limit: u64,
    },
    /// No zone can be made of so many frames.
    Zone(ZoneError),
    /// There is no memory for the words of a zone.
    NoMemory {
        /// Frames of the zone.
        frames: u64,
    },
    /// A thread can't be started.
    Thread {
        /// How many were asked for.
        threads: usize,
        /// What the system says; [`ErrorKind::InvalidInput`](io::ErrorKind::InvalidInput) beyond
        /// [`MOST_THREADS`].
        cause: io::ErrorKind,
    },
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoom { frames, limit } => {
                write!(f, "needs a zone of {frames} frames for all threads; {limit} is the most")
            }
            Self::Zone(error) => write!(f, "{error}"),
            Self::NoMemory { frames } => {
                write!(f, "there is no memory for the metadata of a zone of {frames} frames")
            }
            Self::Thread { threads, cause: io::ErrorKind::InvalidInput } => {
                write!(f, "{threads} threads; {MOST_THREADS} is the most")
            }
            Self::Thread { threads, cause } => {
                write!(f, "not all of {threads} threads can be started: {cause}")
            }
        }
    }
}

impl std::error::Error for ReplayError {}

impl From<ZoneError> for ReplayError {
    fn from(error: ZoneError) -> Self {
        Self::Zone(error)
    }
}
