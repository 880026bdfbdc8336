//! Errors, each carrying the facts.

use core::fmt;

use crate::memory::{Address, Fault};
use crate::scheduler::Tid;

/// Which argument makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Invalid {
    /// A bitset of zero, which matches no waiter.
    EmptyBitset,
    /// A number of waiters that is negative.
    Count(i32),
    /// No such operation, or an option that it does not have.
    Operation(u32),
    /// Not 1 to 128 words to wait for.
    Entries(usize),
    /// Flags of a word to wait for: not of 32 bits, or unknown ones.
    Flags(u32),
    /// Reserved bits that are not zero, or a value of more than 32 bits.
    Reserved,
    /// No such clock.
    Clock(i32),
    /// A time that is not normalised.
    Time,
    /// A waiter is there that waits in another way, or for another target, than this operation is
    /// for.
    Mismatched,
    /// The scheduler gave the calling thread a number that no lock word can hold: 0, or 2^30 and
    /// more.
    Thread(Tid),
    /// Source and target are the same word.
    SameWord,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyBitset => write!(f, "the bitset is empty"),
            Self::Count(count) => write!(f, "{count} is no number of waiters"),
            Self::Operation(op) => write!(f, "no operation {op:#x}"),
            Self::Entries(entries) => write!(f, "{entries} words to wait for, 1 to 128 are possible"),
            Self::Flags(flags) => write!(f, "flags {flags:#x} are not those of a 32-bit word"),
            Self::Reserved => write!(f, "reserved bits are not zero"),
            Self::Clock(clock) => write!(f, "no clock {clock}"),
            Self::Time => write!(f, "the time is not normalised"),
            Self::Mismatched => write!(f, "a thread waits there for another operation"),
            Self::Thread(tid) => write!(f, "no lock word can hold {tid} as a thread's number"),
            Self::SameWord => write!(f, "source and target are the same word"),
        }
    }
}

/// Why an operation did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Error {
    /// The address is not a multiple of 4.
    Misaligned {
        /// The address.
        at: Address,
    },
    /// The page can't be made present.
    Fault {
        /// The address.
        at: Address,
        /// Why not.
        fault: Fault,
    },
    /// Anonymous memory that no thread can write: the word could never change.
    ReadOnlyAnonymous {
        /// The address.
        at: Address,
    },
    /// A page no futex may live on.
    SpecialMapping {
        /// The address.
        at: Address,
    },
    /// The mapping changed at each of so many attempts.
    TooManyRetries {
        /// The address.
        at: Address,
        /// Attempts that were made.
        attempts: u32,
    },
    /// The word is not what was expected, or a lock that was only to be tried is taken.
    WouldBlock {
        /// What it is.
        found: u32,
    },
    /// The time has come.
    TimedOut,
    /// The scheduler wants the thread for something else.
    Interrupted,
    /// An argument makes no sense.
    Invalid(Invalid),
    /// The wait would never end: the chain of lock owners comes back to the caller, or is longer
    /// than 1024.
    Deadlock {
        /// Owners on the way.
        chain: u32,
    },
    /// The word names an owner that does not exist.
    NoSuchOwner {
        /// The owner it names.
        owner: Tid,
    },
    /// The caller does not own the lock.
    NotOwner {
        /// The thread that does; zero if the lock is free.
        owner: Tid,
    },
}

impl Error {
    /// The number that Linux has for it, positive.
    pub const fn errno(&self) -> i32 {
        match self {
            Self::Invalid(Invalid::Operation(_)) => 38,
            Self::Misaligned { .. } | Self::Invalid(_) => 22,
            Self::Fault { fault: Fault::OutOfMemory, .. } => 12,
            Self::Fault { .. } | Self::ReadOnlyAnonymous { .. } | Self::SpecialMapping { .. } => 14,
            Self::TooManyRetries { .. } | Self::WouldBlock { .. } => 11,
            Self::TimedOut => 110,
            Self::Interrupted => 4,
            Self::Deadlock { .. } => 35,
            Self::NoSuchOwner { .. } => 3,
            Self::NotOwner { .. } => 1,
        }
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misaligned { at } => write!(f, "{at} is not a multiple of 4"),
            Self::Fault { at, fault: Fault::Unmapped } => write!(f, "nothing is mapped at {at}"),
            Self::Fault { at, fault: Fault::NotWritable } => write!(f, "{at} may not be written"),
            Self::Fault { at, fault: Fault::BeyondEnd } => write!(f, "the object ends before {at}"),
            Self::Fault { at, fault: Fault::OutOfMemory } => write!(f, "no page is left for {at}"),
            Self::ReadOnlyAnonymous { at } => write!(f, "{at} is anonymous and read-only"),
            Self::SpecialMapping { at } => write!(f, "no futex may live on the page at {at}"),
            Self::TooManyRetries { at, attempts } => {
                write!(f, "the mapping at {at} changed at each of {attempts} attempts")
            }
            Self::WouldBlock { found } => write!(f, "the word is {found:#x}"),
            Self::TimedOut => write!(f, "timed out"),
            Self::Interrupted => write!(f, "interrupted"),
            Self::Invalid(invalid) => invalid.fmt(f),
            Self::Deadlock { chain } => write!(f, "would wait for ever: {chain} owners wait for each other"),
            Self::NoSuchOwner { owner } => write!(f, "the word names thread {owner}, which does not exist"),
            Self::NotOwner { owner } => write!(f, "the lock belongs to thread {owner}"),
        }
    }
}

impl core::error::Error for Error {}
