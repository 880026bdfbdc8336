//! Errors, each carrying the facts.

use core::fmt;

use tailpin::{Order, Pfn};

use crate::addr::VirtAddr;

/// No frame was free, or a count was at its limit: what every operation that allocates may meet. It
/// becomes the operation's own error where the address is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    Frames(Order),
    Count,
}

/// Why an access to an address failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultError {
    /// Nothing is mapped there (`SIGSEGV`, `EFAULT`).
    Unmapped {
        /// The address.
        addr: VirtAddr,
    },
    /// The mapping does not allow reading.
    NotReadable {
        /// The address.
        addr: VirtAddr,
    },
    /// The mapping does not allow writing.
    NotWritable {
        /// The address.
        addr: VirtAddr,
    },
    /// The mapping does not allow execution.
    NotExecutable {
        /// The address.
        addr: VirtAddr,
    },
    /// The object ends before the address (`SIGBUS`).
    BeyondEnd {
        /// The address.
        addr: VirtAddr,
    },
    /// Frames are mapped that the crate itself can't read, write or pin
    /// ([`Map::foreign`](crate::Map::foreign)); the processor can (`EFAULT`).
    Foreign {
        /// The address.
        addr: VirtAddr,
    },
    /// No block of this order was free, nor of a smaller one that would have done.
    OutOfMemory {
        /// The address.
        addr: VirtAddr,
        /// The smallest order tried.
        order: Order,
    },
    /// A page is mapped or pinned as often as its count can say.
    CountLimit {
        /// The address.
        addr: VirtAddr,
    },
}

impl FaultError {
    pub(crate) fn from_shortage(shortage: Shortage, addr: VirtAddr) -> Self {
        match shortage {
            Shortage::Frames(order) => Self::OutOfMemory { addr, order },
            Shortage::Count => Self::CountLimit { addr },
        }
    }

    /// The address at which the access failed.
    pub fn addr(self) -> VirtAddr {
        match self {
            Self::Unmapped { addr }
            | Self::NotReadable { addr }
            | Self::NotWritable { addr }
            | Self::NotExecutable { addr }
            | Self::BeyondEnd { addr }
            | Self::Foreign { addr }
            | Self::OutOfMemory { addr, .. }
            | Self::CountLimit { addr } => addr,
        }
    }
}

impl fmt::Display for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unmapped { addr } => write!(f, "nothing is mapped at {addr}"),
            Self::NotReadable { addr } => write!(f, "the mapping at {addr} does not allow reading"),
            Self::NotWritable { addr } => write!(f, "the mapping at {addr} does not allow writing"),
            Self::NotExecutable { addr } => write!(f, "the mapping at {addr} does not allow execution"),
            Self::BeyondEnd { addr } => write!(f, "the object ends before address {addr}"),
            Self::Foreign { addr } => write!(f, "the frames mapped at {addr} are not memory of the zone"),
            Self::OutOfMemory { addr, order } => write!(f, "no block of order {order} for address {addr}"),
            Self::CountLimit { addr } => write!(f, "the count of the page at {addr} has reached its limit"),
        }
    }
}

/// Why a change of the mappings was refused; nothing was changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MapError {
    /// The range is empty.
    Empty,
    /// An address, length or offset is no multiple of what the mapping needs.
    Misaligned {
        /// The value.
        value: u64,
        /// What it would have to be a multiple of, in bytes.
        unit: u64,
    },
    /// The range leaves the part of the space that users have.
    OutOfRange {
        /// Its start.
        addr: VirtAddr,
    },
    /// Something is mapped there already.
    Occupied {
        /// The first address in use.
        addr: VirtAddr,
    },
    /// No gap is large enough.
    NoRoom {
        /// Bytes asked for.
        len: u64,
    },
    /// A part of the range is not mapped.
    Unmapped {
        /// Its first address.
        addr: VirtAddr,
    },
    /// The advice is for private anonymous memory only.
    NotAnonymous {
        /// The first address that is mapped otherwise.
        addr: VirtAddr,
    },
    /// No frame for a page table or a copy.
    OutOfMemory {
        /// Order of the block that was not free.
        order: Order,
    },
    /// A page is mapped or pinned as often as its count can say.
    CountLimit,
    /// Frames to be mapped that no page-table entry can name.
    FrameTooHigh {
        /// First frame after those to be mapped.
        frames: Pfn,
        /// First frame that an entry has no room for.
        most: Pfn,
    },
}

impl From<Shortage> for MapError {
    fn from(shortage: Shortage) -> Self {
        match shortage {
            Shortage::Frames(order) => Self::OutOfMemory { order },
            Shortage::Count => Self::CountLimit,
        }
    }
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the range is empty"),
            Self::Misaligned { value, unit } => {
                write!(f, "an address, offset or length of {value:#x} is no multiple of {unit:#x}")
            }
            Self::OutOfRange { addr } => write!(f, "the range at {addr} leaves user space"),
            Self::Occupied { addr } => write!(f, "{addr} is mapped already"),
            Self::NoRoom { len } => write!(f, "no gap of {len:#x} bytes"),
            Self::Unmapped { addr } => write!(f, "nothing is mapped at {addr}"),
            Self::NotAnonymous { addr } => write!(f, "the memory at {addr} is not private and anonymous"),
            Self::OutOfMemory { order } => write!(f, "no block of order {order} is free"),
            Self::CountLimit => write!(f, "the count of a page has reached its limit"),
            Self::FrameTooHigh { frames, most } => {
                write!(f, "the frames end before {frames}, page tables can name frames before {most}")
            }
        }
    }
}

/// Why memory was not pinned; none of it is pinned then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PinError {
    /// An empty range, or one that leaves the part of the space that users have.
    BadRange {
        /// Its start.
        addr: VirtAddr,
    },
    /// A page could not be made present.
    Fault(FaultError),
    /// A long-term pin for writing on an object that has to notice every write.
    LongTerm {
        /// The address.
        addr: VirtAddr,
    },
}

impl From<FaultError> for PinError {
    fn from(error: FaultError) -> Self {
        Self::Fault(error)
    }
}

impl fmt::Display for PinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadRange { addr } => write!(f, "the range at {addr} is empty or leaves user space"),
            Self::Fault(error) => write!(f, "{error}"),
            Self::LongTerm { addr } => {
                write!(f, "the object at {addr} tracks writes, so it can't be pinned for writing for long")
            }
        }
    }
}

/// Why a page was not split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageSplitError {
    /// Nothing is mapped or no page is present there.
    NotPresent {
        /// The address.
        addr: VirtAddr,
    },
    /// Pages of the hugetlb class never split, nor do frames that are not the zone's.
    Unsplittable {
        /// The address.
        addr: VirtAddr,
    },
    /// No frame for the page table that one of the mappings needs.
    OutOfMemory {
        /// The address.
        addr: VirtAddr,
    },
    /// A page is mapped or pinned as often as its count can say.
    CountLimit {
        /// The address.
        addr: VirtAddr,
    },
}

impl PageSplitError {
    pub(crate) fn from_shortage(shortage: Shortage, addr: VirtAddr) -> Self {
        match shortage {
            Shortage::Frames(_) => Self::OutOfMemory { addr },
            Shortage::Count => Self::CountLimit { addr },
        }
    }
}

impl fmt::Display for PageSplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPresent { addr } => write!(f, "no page is present at {addr}"),
            Self::Unsplittable { addr } => write!(f, "the page at {addr} never splits"),
            Self::OutOfMemory { addr } => write!(f, "no frame for a page table at {addr}"),
            Self::CountLimit { addr } => write!(f, "the count of the page at {addr} has reached its limit"),
        }
    }
}

/// Why memory was not collapsed; nothing was changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CollapseError {
    /// The 2 MiB around the address are not mapped by one region of a kind that has huge pages.
    NotEligible {
        /// First address of the 2 MiB.
        addr: VirtAddr,
    },
    /// The region gets no huge pages: it was mapped, or advised, with
    /// [`HugePages::Never`](crate::HugePages::Never).
    NoHugePages {
        /// First address of the 2 MiB.
        addr: VirtAddr,
    },
    /// No page of the 2 MiB is present.
    Nothing {
        /// First address of the 2 MiB.
        addr: VirtAddr,
    },
    /// More pages are absent than the limit allows.
    TooManyAbsent {
        /// First address of the 2 MiB.
        addr: VirtAddr,
        /// How many pages are.
        absent: u32,
    },
    /// More pages are shared with other spaces than the limit allows.
    TooManyShared {
        /// First address of the 2 MiB.
        addr: VirtAddr,
        /// How many are.
        shared: u32,
    },
    /// A page that would have to move is pinned.
    Pinned {
        /// Its address.
        addr: VirtAddr,
    },
    /// No block of 2 MiB was free to copy to.
    OutOfMemory {
        /// First address of the 2 MiB.
        addr: VirtAddr,
    },
}

impl fmt::Display for CollapseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEligible { addr } => write!(f, "the 2 MiB at {addr} can't be one huge page"),
            Self::NoHugePages { addr } => write!(f, "the region at {addr} is to have no huge pages"),
            Self::Nothing { addr } => write!(f, "nothing is present in the 2 MiB at {addr}"),
            Self::TooManyAbsent { addr, absent } => {
                write!(f, "{absent} pages of the 2 MiB at {addr} are absent")
            }
            Self::TooManyShared { addr, shared } => {
                write!(f, "{shared} pages of the 2 MiB at {addr} are shared")
            }
            Self::Pinned { addr } => write!(f, "the page at {addr} is pinned and would have to move"),
            Self::OutOfMemory { addr } => write!(f, "no free block of 2 MiB for {addr}"),
        }
    }
}

/// No page is present, or it does not allow what was asked; nothing was done. Make it present with
/// [`Space::fault`](crate::Space::fault) and try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NotPresent {
    /// The address.
    pub addr: VirtAddr,
}

impl fmt::Display for NotPresent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no page that allows it is present at {}", self.addr)
    }
}

/// Why an [`Mm`](crate::Mm), a space or an object could not be made, or an object not be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MmError {
    /// The frame information does not cover the zone's span.
    TooFewInfos {
        /// Needed: one for each frame of the span.
        needed: u64,
        /// Given.
        given: u64,
    },
    /// The frame information serves another [`Mm`](crate::Mm).
    InfosInUse,
    /// No block of this order was free.
    OutOfMemory {
        /// The order.
        order: Order,
    },
    /// A length is no multiple of the object's unit.
    Misaligned {
        /// The length.
        value: u64,
        /// The unit in bytes.
        unit: u64,
    },
    /// The zone has frames that no page-table entry can name.
    FrameTooHigh {
        /// First frame after the zone's.
        frames: Pfn,
        /// First frame that an entry has no room for.
        most: Pfn,
    },
    /// A count is at its limit.
    CountLimit,
}

impl From<Shortage> for MmError {
    fn from(shortage: Shortage) -> Self {
        match shortage {
            Shortage::Frames(order) => Self::OutOfMemory { order },
            Shortage::Count => Self::CountLimit,
        }
    }
}

impl fmt::Display for MmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewInfos { needed, given } => {
                write!(f, "the zone needs frame information for {needed} frames, {given} were given")
            }
            Self::InfosInUse => write!(f, "the frame information serves other address spaces"),
            Self::OutOfMemory { order } => write!(f, "no block of order {order} is free"),
            Self::Misaligned { value, unit } => {
                write!(f, "an address, offset or length of {value:#x} is no multiple of {unit:#x}")
            }
            Self::FrameTooHigh { frames, most } => {
                write!(f, "the zone ends before frame {frames}, page tables can name frames before {most}")
            }
            Self::CountLimit => write!(f, "the count of a page has reached its limit"),
        }
    }
}

impl core::error::Error for FaultError {}
impl core::error::Error for MapError {}
impl core::error::Error for PinError {}
impl core::error::Error for PageSplitError {}
impl core::error::Error for CollapseError {}
impl core::error::Error for NotPresent {}
impl core::error::Error for MmError {}
