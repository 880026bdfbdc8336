//! What lies under an arena, and why something can't be done with it.

use std::fmt;

/// Where an arena's memory comes from.
///
/// The default is [`Backing::Anonymous`] on Linux and [`Backing::Heap`] elsewhere, where an arena
/// of the backings that are Linux's is [refused](crate::BuildError::Refused).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backing {
    /// Linux: private memory of this process, with transparent huge pages where the system allows
    /// them.
    Anonymous,
    /// Linux: huge pages from the kernel's reserved pool (hugetlb). They are taken when the arena
    /// is built, so running out is an error there and never a SIGBUS later.
    HugeTlb(HugeSize),
    /// Linux: an anonymous file that another process can map. A forked child has no part in it:
    /// what of this crate it inherited panics or refuses there, but what reads by an address of its
    /// own, as `Bytes`, Arrow buffers and collections do, meets a segmentation fault.
    Memfd {
        /// Asks for transparent huge pages, which shared memory gets only if `shmem_enabled` allows
        /// it.
        huge: bool,
    },
    /// Memory of the program's allocator, on any system. The arena has all of it when it is built,
    /// and gives nothing back before it goes: what was ever handed out stays
    /// [resident](crate::Arena::resident). Most allocators have large memory from the system
    /// untouched, so that what was never handed out takes none; on Windows all of it counts as
    /// committed. A forked child has a copy of everything, as of [`Backing::Anonymous`].
    Heap,
    /// Memory that the caller supplied through
    /// [`Builder::over_memory`](crate::Builder::over_memory).
    Plain,
}

impl Default for Backing {
    fn default() -> Self {
        if cfg!(all(target_os = "linux", not(tailpin_portable))) { Self::Anonymous } else { Self::Heap }
    }
}

impl fmt::Display for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => write!(f, "anonymous memory"),
            Self::HugeTlb(size) => write!(f, "hugetlb pages of {size}"),
            Self::Memfd { huge: false } => write!(f, "memfd"),
            Self::Memfd { huge: true } => write!(f, "memfd with huge pages"),
            Self::Heap => write!(f, "memory of the program's allocator"),
            Self::Plain => write!(f, "memory of the caller's"),
        }
    }
}

/// Size of the pages of the kernel's huge page pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HugeSize {
    /// 2 MiB.
    Mib2,
    /// 1 GiB.
    Gib1,
}

impl HugeSize {
    /// The size of one such page in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Mib2 => 2 << 20,
            Self::Gib1 => 1 << 30,
        }
    }
}

impl fmt::Display for HugeSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mib2 => write!(f, "2 MiB"),
            Self::Gib1 => write!(f, "1 GiB"),
        }
    }
}

/// Whether an arena can do something, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ability {
    /// It can.
    Yes,
    /// It can't, for this reason.
    No(Reason),
}

impl Ability {
    /// Whether the arena can.
    pub const fn is_yes(self) -> bool {
        matches!(self, Self::Yes)
    }

    /// Why the arena can't; `None` if it can.
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Yes => None,
            Self::No(reason) => Some(reason),
        }
    }

    pub(crate) const fn unless(reason: Option<Reason>) -> Self {
        match reason {
            None => Self::Yes,
            Some(reason) => Self::No(reason),
        }
    }
}

impl fmt::Display for Ability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes => write!(f, "yes"),
            Self::No(reason) => write!(f, "no: {reason}"),
        }
    }
}

/// Why an arena can't do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Transparent huge pages are switched off for private memory.
    ThpOff,
    /// Transparent huge pages are switched off for shared memory.
    ShmemThpOff,
    /// This backing was asked to do without huge pages.
    NotAskedForHuge,
    /// The kernel can give back a page of its huge page pool only whole.
    OnlyWholeHugePages(HugeSize),
    /// The memory is of the program's allocator, which takes it back only whole, when the arena
    /// goes.
    OfTheHeap,
    /// Linux can do this, and this system can't, or the arena doesn't know how.
    OnlyOnLinux,
    /// The memory is the caller's: the arena knows nothing of what is under it.
    CallersMemory,
    /// Only this process has this memory.
    Private,
    /// A device or the kernel holds the frames by a registration; giving them back would pull them
    /// from under it.
    Registered,
    /// The memory, or a part of it, is locked: as was asked for when the arena was built, or by the
    /// process since (`mlock`, `mlockall`). The kernel takes nothing of what is locked.
    Locked,
    /// The system refused the memory file or the mapping of the arena's description when the arena
    /// was built.
    NotDescribed {
        /// The system's error number.
        errno: i32,
    },
    /// The system can't be asked at this moment, as no file descriptor or memory is left to do it
    /// with.
    NotTold,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ThpOff => write!(
                f,
                "transparent huge pages are off; write madvise to /sys/kernel/mm/transparent_hugepage/enabled"
            ),
            Self::ShmemThpOff => write!(
                f,
                "shared memory gets no huge pages; write advise to /sys/kernel/mm/transparent_hugepage/shmem_enabled"
            ),
            Self::NotAskedForHuge => write!(f, "the arena was built without huge pages"),
            Self::OnlyWholeHugePages(size) => {
                write!(
                    f,
                    "hugetlb memory goes back only as whole pages of {size}, which must be free all over"
                )
            }
            Self::OfTheHeap => write!(
                f,
                "the memory is of the program's allocator, which takes it back only whole, when the arena goes"
            ),
            Self::OnlyOnLinux => write!(f, "only on Linux an arena can do this"),
            Self::CallersMemory => write!(f, "the memory is the caller's, who alone can give it back"),
            Self::Private => write!(f, "only this process has this memory; use a memfd to share it"),
            Self::Registered => {
                write!(
                    f,
                    "the memory is registered: its frames must stay; free pages are reused inside the arena"
                )
            }
            Self::Locked => write!(f, "the memory is locked (mlock, mlockall)"),
            Self::NotDescribed { errno } => write!(
                f,
                "the system refused the arena's description when it was built: {}",
                std::io::Error::from_raw_os_error(*errno)
            ),
            Self::NotTold => write!(f, "no file descriptor or memory is left to ask the system"),
        }
    }
}
