//! What lies under an arena, and what that can do.

use std::fmt;

use crate::memory::system::{self, HugePages};

/// Where an arena's memory comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Backing {
    /// Private memory of this process, with transparent huge pages where the system allows them.
    #[default]
    Anonymous,
    /// Huge pages from the kernel's reserved pool (hugetlb). They are taken when the arena is
    /// built, so running out is an error there and never a SIGBUS later.
    HugeTlb(HugeSize),
    /// An anonymous file that another process can map. A forked child has no part in it: what of
    /// this crate it inherited panics or refuses there, but what reads by an address of its own, as
    /// `Bytes`, Arrow buffers and collections do, meets a segmentation fault.
    Memfd {
        /// Asks for transparent huge pages, which shared memory gets only if `shmem_enabled` allows
        /// it.
        huge: bool,
    },
    /// Memory that the caller supplied through
    /// [`Builder::over_memory`](crate::Builder::over_memory).
    Plain,
}

impl fmt::Display for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => write!(f, "anonymous memory"),
            Self::HugeTlb(size) => write!(f, "hugetlb pages of {size}"),
            Self::Memfd { huge: false } => write!(f, "memfd"),
            Self::Memfd { huge: true } => write!(f, "memfd with huge pages"),
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
    /// The size in bytes.
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
    /// Whether it can.
    pub const fn is_yes(self) -> bool {
        matches!(self, Self::Yes)
    }

    /// Why it can't.
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
            Self::CallersMemory => write!(f, "the memory is the caller's, who alone can give it back"),
            Self::Private => write!(f, "only this process has this memory; use a memfd to share it"),
            Self::Registered => {
                write!(
                    f,
                    "the memory is registered: its frames must stay; free pages are reused inside the arena"
                )
            }
            Self::Locked => write!(f, "the memory is locked (mlock, mlockall)"),
            Self::NotTold => write!(f, "no file descriptor or memory is left to ask the system"),
        }
    }
}

/// What an arena can do at this moment. See [`Arena::abilities`](crate::Arena::abilities).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// What the memory is.
    pub backing: Backing,
    /// Its first touch brings huge pages.
    pub huge_now: Ability,
    /// Single free 4 KiB pages can be given back to the system.
    pub give_back_4k: Ability,
    /// Wholly free huge pages can be given back to the system.
    pub give_back_huge: Ability,
    /// Another process can map it.
    pub share: Ability,
    /// It can be registered with the kernel or a device (io_uring, RDMA).
    pub register: Ability,
}

/// The part of [`Abilities`] that giving back needs each time.
pub(crate) struct GivesBack {
    pub(crate) small: Ability,
    pub(crate) huge: Ability,
}

impl GivesBack {
    pub(crate) fn of(backing: Backing, locked: bool, registered: bool) -> Self {
        let held = if registered {
            Some(Reason::Registered)
        } else if locked {
            Some(Reason::Locked)
        } else {
            None
        };
        let callers = (backing == Backing::Plain).then_some(Reason::CallersMemory);
        let whole_only = match backing {
            Backing::HugeTlb(size) => Some(Reason::OnlyWholeHugePages(size)),
            _ => None,
        };
        Self {
            small: Ability::unless(callers.or(whole_only).or(held)),
            huge: Ability::unless(callers.or(held)),
        }
    }
}

impl Backing {
    /// Whether the first touch of this memory brings a huge page, where that is for the system to
    /// say.
    pub(crate) fn gets_huge_pages(self) -> rustix::io::Result<bool> {
        Ok(match self {
            Self::Anonymous => system::thp()? != HugePages::Off,
            Self::Memfd { huge } => huge && system::shmem_thp()? != HugePages::Off,
            Self::HugeTlb(_) | Self::Plain => false,
        })
    }
}

impl Abilities {
    /// Asks the system about huge pages.
    pub(crate) fn of(backing: Backing, locked: bool, registered: bool) -> Self {
        let off = |mode, reason| match mode {
            Ok(HugePages::Off) => Some(reason),
            Ok(HugePages::Always | HugePages::OnAdvice) => None,
            Err(_) => Some(Reason::NotTold),
        };
        let huge_now = match backing {
            Backing::Anonymous => off(system::thp(), Reason::ThpOff),
            Backing::HugeTlb(_) => None,
            Backing::Memfd { huge: false } => Some(Reason::NotAskedForHuge),
            Backing::Memfd { huge: true } => off(system::shmem_thp(), Reason::ShmemThpOff),
            Backing::Plain => Some(Reason::CallersMemory),
        };
        let private = (!matches!(backing, Backing::Memfd { .. })).then_some(Reason::Private);
        let back = GivesBack::of(backing, locked, registered);
        Self {
            backing,
            huge_now: Ability::unless(huge_now),
            give_back_4k: back.small,
            give_back_huge: back.huge,
            share: Ability::unless(private),
            register: Ability::Yes,
        }
    }
}
