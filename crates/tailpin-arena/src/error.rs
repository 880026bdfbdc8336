//! Errors, each with its cause and what can be done.

use std::fmt;

use tailpin::{GetError, ZoneError};

use crate::backing::{HugeSize, Reason};

/// Why an arena could not be built. Nothing is left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// The size is zero, or larger than an address space.
    BadSize {
        /// What was asked for, in bytes.
        bytes: usize,
    },
    /// [`Backing::Plain`](crate::Backing::Plain) was asked for without memory, or memory was given
    /// together with another backing.
    NoMemoryGiven,
    /// Memory of this backing can't do what was asked of the arena, or this system doesn't have
    /// such memory.
    Refused(Reason),
    /// The memory given doesn't contain a single whole 4 KiB page.
    TooSmall {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The kernel's pool has too few huge pages. More: write the number to
    /// `/sys/kernel/mm/hugepages/hugepages-*kB/nr_hugepages`.
    HugePageShortage {
        /// Which pool.
        size: HugeSize,
        /// Pages needed.
        needed: u64,
        /// Pages that are free and not promised to anybody.
        free: u64,
    },
    /// The memory may not be locked: the limit of this user is lower (`ulimit -l`,
    /// `RLIMIT_MEMLOCK`).
    LockLimit {
        /// What was to be locked, in bytes.
        bytes: usize,
        /// The limit in bytes, `None` if there is none (then memory itself is short).
        limit: Option<u64>,
    },
    /// The process has as many mappings as it may have (`vm.max_map_count`).
    MapLimit {
        /// Mappings it has.
        maps: u64,
        /// Mappings it may have.
        limit: u64,
    },
    /// The process may not make a file this long, and a memory file is one (`ulimit -f`,
    /// `RLIMIT_FSIZE`).
    FileLimit {
        /// Length of the file, in bytes: the arena and its metadata.
        bytes: usize,
        /// The limit in bytes.
        limit: u64,
    },
    /// The system has no memory or address space for this (overcommit, `ulimit -v`).
    OutOfMemory {
        /// What was asked for, in bytes.
        bytes: usize,
    },
    /// Another answer of the kernel's.
    System {
        /// What was being done.
        doing: &'static str,
        /// The error number.
        errno: i32,
    },
    /// The frame allocator refused the shape.
    Zone(ZoneError),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadSize { bytes } => write!(f, "an arena can't have {bytes} bytes"),
            Self::NoMemoryGiven => {
                write!(f, "memory of the caller's comes through over_memory, and without another backing")
            }
            Self::Refused(reason) => write!(f, "{reason}"),
            Self::TooSmall { bytes } => write!(f, "no whole 4 KiB page lies within these {bytes} bytes"),
            Self::HugePageShortage { size, needed, free } => write!(
                f,
                "{needed} huge pages of {size} needed, {free} free; more: \
                 /sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages",
                size.bytes() / 1024
            ),
            Self::LockLimit { bytes, limit: Some(limit) } => {
                write!(f, "can't lock {bytes} bytes: the limit is {limit} (ulimit -l)")
            }
            Self::LockLimit { bytes, limit: None } => write!(f, "no memory to lock {bytes} bytes"),
            Self::MapLimit { maps, limit } => {
                write!(f, "the process has {maps} mappings of at most {limit} (vm.max_map_count)")
            }
            Self::FileLimit { bytes, limit } => {
                write!(f, "can't make a memory file of {bytes} bytes: the limit is {limit} (ulimit -f)")
            }
            Self::OutOfMemory { bytes } => write!(f, "the system has no room for {bytes} bytes"),
            Self::System { doing, errno } => {
                write!(f, "{doing}: {}", std::io::Error::from_raw_os_error(*errno))
            }
            Self::Zone(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Zone(error) => Some(error),
            _ => None,
        }
    }
}

/// Why no buffer was handed out. The arena is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllocError {
    /// No block this large is free.
    OutOfMemory {
        /// Bytes asked for.
        asked: usize,
        /// Bytes of the block that was looked for: the next power of two, in whole pages.
        block: usize,
        /// Free bytes that are left, in smaller blocks.
        free: usize,
        /// Bytes of the largest of these. What needs no one block can be asked for in pieces.
        largest_free: usize,
    },
    /// So much may not be in use, or not at this moment: see
    /// [`Builder::limit`](crate::Builder::limit) and [`Tag::set_limit`](crate::Tag::set_limit).
    OverLimit {
        /// Bytes asked for. If they are more than the limit, waiting is of no use.
        asked: usize,
        /// Bytes in use or reserved.
        in_use: usize,
        /// The limit in bytes.
        limit: usize,
        /// Requests that were there first, and wait.
        waiting: usize,
        /// The limit is that of the tag, not of the arena.
        of_tag: bool,
    },
    /// The [`Reservation`](crate::Reservation) has less left.
    OverReservation {
        /// Bytes asked for, in whole pages.
        asked: usize,
        /// Bytes left.
        left: usize,
    },
    /// A piece has a power of two of bytes, 4 KiB to 2 MiB.
    BadPiece {
        /// Bytes asked for.
        piece: usize,
    },
    /// A buffer has at most 1 GiB.
    TooLarge {
        /// Bytes asked for.
        asked: usize,
    },
    /// The huge pages under this memory were given back, and the kernel's pool has none left.
    HugePageShortage {
        /// Which pool.
        size: HugeSize,
    },
    /// This is a forked child, and the arena's memory stayed with the parent.
    ForkedChild,
}

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory { asked, block, free, largest_free } => write!(
                f,
                "no free block of {block} bytes for {asked}: {free} bytes are free, in blocks of at most \
                 {largest_free}; ask for less or in pieces, or build the arena with more address space"
            ),
            Self::OverLimit { asked, in_use, limit, waiting, of_tag } => {
                let whose = if *of_tag { "tag's" } else { "arena's" };
                write!(f, "{asked} bytes asked for, {in_use} of the {whose} limit of {limit} in use")?;
                if *waiting > 0 { write!(f, ", {waiting} requests wait") } else { Ok(()) }
            }
            Self::OverReservation { asked, left } => {
                write!(f, "{asked} bytes asked for, {left} are left of the reservation")
            }
            Self::BadPiece { piece } => {
                write!(f, "a piece of {piece} bytes: it has a power of two of them, 4 KiB to 2 MiB")
            }
            Self::TooLarge { asked } => write!(f, "{asked} bytes asked for, a buffer has at most 1 GiB"),
            Self::HugePageShortage { size } => {
                write!(f, "the kernel has no free huge page of {size} left to put under this memory again")
            }
            Self::ForkedChild => write!(f, "the arena's memory stayed with the parent of this process"),
        }
    }
}

impl std::error::Error for AllocError {}

/// As many tags were made as there may be: 32,766.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyTags;

impl fmt::Display for TooManyTags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an arena has at most 32766 tags")
    }
}

impl std::error::Error for TooManyTags {}

/// Why a part of a slice was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SliceError {
    /// The range doesn't lie within the slice.
    OutOfRange {
        /// First byte asked for.
        start: usize,
        /// First byte after those asked for.
        end: usize,
        /// The slice's length.
        len: usize,
    },
    /// The range lies in several pieces; see
    /// [`Scattered::contiguous`](crate::Scattered::contiguous).
    InPieces {
        /// First byte asked for.
        start: usize,
        /// First byte after those asked for.
        end: usize,
    },
    /// A count is at its limit (8,388,608 pins of a page, 131,072 references to a block).
    CountLimit,
}

impl From<GetError> for SliceError {
    fn from(_: GetError) -> Self {
        // A slice keeps its pages in use, so only the limit is left as a cause.
        Self::CountLimit
    }
}

impl fmt::Display for SliceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { start, end, len } => {
                write!(f, "range {start}..{end} is not within the {len} bytes of the slice")
            }
            Self::InPieces { start, end } => write!(f, "range {start}..{end} lies in several pieces"),
            Self::CountLimit => write!(f, "a page or block has as many holders as can be counted"),
        }
    }
}

impl std::error::Error for SliceError {}

/// Why no memory was given back to the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The arena can't, for this reason; see [`Abilities`](crate::Abilities).
    Refused(Reason),
    /// Another thread is giving memory back.
    Busy,
    /// This is a forked child, and the arena's memory stayed with the parent.
    ForkedChild,
    /// The kernel refused.
    System {
        /// What was being done.
        doing: &'static str,
        /// The error number.
        errno: i32,
    },
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => write!(f, "{reason}"),
            Self::Busy => write!(f, "another thread is giving memory back"),
            Self::ForkedChild => write!(f, "the arena's memory stayed with the parent of this process"),
            Self::System { doing, errno } => {
                write!(f, "{doing}: {}", std::io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

impl std::error::Error for ReleaseError {}
