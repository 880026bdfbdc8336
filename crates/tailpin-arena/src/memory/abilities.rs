//! What an arena can do with its memory, which the system is asked for.

use crate::backing::{Ability, Backing, Reason};
use crate::memory::system::{self, Errno, HugePages};

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
    /// Other processes can look at it: `tailpin top`, and [`outside`](crate::outside).
    pub look: Ability,
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
        let others = match backing {
            Backing::Heap => Some(Reason::OfTheHeap),
            Backing::Plain => Some(Reason::CallersMemory),
            Backing::Anonymous | Backing::HugeTlb(_) | Backing::Memfd { .. } => None,
        };
        let whole_only = match backing {
            Backing::HugeTlb(size) => Some(Reason::OnlyWholeHugePages(size)),
            _ => None,
        };
        Self {
            small: Ability::unless(others.or(whole_only).or(held)),
            huge: Ability::unless(others.or(held)),
        }
    }
}

impl Backing {
    /// Whether the first touch of this memory brings a huge page, where that is for the system to
    /// say.
    pub(crate) fn gets_huge_pages(self) -> Result<bool, Errno> {
        Ok(match self {
            Self::Anonymous => system::thp()? != HugePages::Off,
            Self::Memfd { huge } => huge && system::shmem_thp()? != HugePages::Off,
            Self::HugeTlb(_) | Self::Heap | Self::Plain => false,
        })
    }
}

impl Abilities {
    /// Asks the system about huge pages.
    pub(crate) fn of(backing: Backing, locked: bool, registered: bool, look: Ability) -> Self {
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
            Backing::Heap => Some(Reason::OfTheHeap),
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
            look,
        }
    }
}
