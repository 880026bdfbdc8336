//! The handle on a shared arena.

use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use portable_atomic::AtomicU128;
use tailpin::{Audit, GetError, Order};

use crate::memory::{PAGE_SIZE, PAGEBLOCK_SIZE};

use super::arena_file::{ArenaFile, Geometry};
use super::attachment::Attachment;
use super::error::SharedError;
use super::handles::{SharedBuffer, SharedSlice};
use super::operation::Operation;
use super::owner::{Identity, OwnerId};
use super::token::{Token, pages_of};

/// An arena in a memory file, used by several processes at once.
///
/// ```
/// use std::fs::File;
/// use std::os::fd::AsRawFd;
/// use tailpin_arena::shared::{SharedArena, Token};
///
/// let arena = SharedArena::create(16 << 20, 8)?; // 16 MiB, for at most 8 processes
/// let path = format!("/proc/{}/fd/{}", std::process::id(), arena.as_raw_fd());
///
/// // In another process, which was told the path:
/// let file = File::options().read(true).write(true).open(path)?;
/// // SAFETY: the file is from `create`, and nothing else writes to it.
/// let other = unsafe { SharedArena::attach(file.into()) }?;
///
/// // Here:
/// let mut buffer = arena.alloc(100_000)?;
/// buffer[70_000..70_005].copy_from_slice(b"hello");
/// let block = buffer.freeze();
/// let message: [u8; 24] = block.slice(70_000..70_005)?.token().to_bytes(); // sent through a pipe, say
///
/// // There:
/// let there = other.adopt(Token::from_bytes(message))?; // its own pin on that page
/// drop(block);
/// assert_eq!(&there[..], b"hello");
/// assert_eq!(arena.free_bytes(), (16 << 20) - 4096); // one page is left of the block
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Handles keep the mapping; `SharedArena` may go first. When the last of a process is gone, it has
/// left.
#[derive(Clone)]
pub struct SharedArena(pub(super) Arc<Attachment>);

impl SharedArena {
    /// A new arena of at least `bytes` bytes, rounded up to 2 MiB, that at most `owners` processes
    /// use at the same time. Memory is taken as it is used.
    ///
    /// # Errors
    /// What [`SharedError`] says of sizes, of the processor and of the system.
    pub fn create(bytes: usize, owners: usize) -> Result<Self, SharedError> {
        Self::check_processor()?;
        let rounded = bytes.checked_next_multiple_of(PAGEBLOCK_SIZE).ok_or(SharedError::BadSize { bytes })?;
        let geometry = Geometry { pages: rounded / PAGE_SIZE, owners };
        geometry.check().map_err(|error| match error {
            SharedError::BadSize { .. } => SharedError::BadSize { bytes },
            other => other,
        })?;
        Self::join(ArenaFile::create(geometry)?, true, Self::own_identity()?)
    }

    /// Joins an arena that another process has created and whose file it has passed on: by
    /// inheritance, through a socket, or as `/proc/<pid>/fd/<number>`.
    ///
    /// # Errors
    /// [`SharedError::NotAnArena`], [`SharedError::Unfinished`], [`SharedError::NotWritable`],
    /// [`SharedError::OtherVersion`], [`SharedError::Full`]; and as [`SharedArena::create`].
    ///
    /// # Safety
    /// The file is from [`SharedArena::create`], and as long as the arena is in use it is written
    /// to only through this crate, in processes of the same process and time namespaces, which can
    /// see each other in `/proc`. The compiler can't know what another process does to memory that
    /// is borrowed in this one.
    pub unsafe fn attach(file: OwnedFd) -> Result<Self, SharedError> {
        Self::check_processor()?;
        Self::join(ArenaFile::open(file)?, false, Self::own_identity()?)
    }

    fn check_processor() -> Result<(), SharedError> {
        AtomicU128::is_lock_free().then_some(()).ok_or(SharedError::NoWideAtomics)
    }

    fn own_identity() -> Result<Identity, SharedError> {
        Identity::own().map_err(|error| SharedError::io("find out who this is", &error))
    }

    pub(super) fn join(memory: ArenaFile, fresh: bool, identity: Identity) -> Result<Self, SharedError> {
        Ok(Self(Arc::new(Attachment::join(memory, fresh, identity)?)))
    }

    /// A buffer of `len` bytes, 1 to 2,097,152, in a block of the next power of two of pages. Its
    /// contents are what was there before.
    ///
    /// # Errors
    /// [`SharedError::BadLength`], [`SharedError::Exhausted`], [`SharedError::Child`].
    pub fn alloc(&self, len: usize) -> Result<SharedBuffer, SharedError> {
        if self.0.is_child() {
            return Err(SharedError::Child);
        }
        let pages = len.div_ceil(PAGE_SIZE).next_power_of_two();
        let order = Order::new(pages.trailing_zeros() as u8).filter(|order| len > 0 && *order <= Order::HUGE);
        let order = order.ok_or(SharedError::BadLength { bytes: len })?;
        let head = self.0.operate(Operation::Alloc(order))?;
        Ok(SharedBuffer::new(Arc::clone(&self.0), head, order, len))
    }

    /// The slice that a token stands for, with pins of this process's own. If its maker has dropped
    /// the slice since, this is an error, never other memory.
    ///
    /// # Errors
    /// [`SharedError::Stale`] if the memory is not what it was when the token was made, or if its
    /// block was being merged during the call; [`SharedError::Child`]; [`SharedError::Get`] at the
    /// limit of a count.
    pub fn adopt(&self, token: Token) -> Result<SharedSlice, SharedError> {
        let bytes = token.bytes(self.0.memory.size()).ok_or(SharedError::Stale)?;
        let pages = pages_of(bytes.clone());
        self.0.pin(pages).map_err(|error| match error {
            SharedError::Get(GetError::NotInUse) => SharedError::Stale,
            other => other,
        })?;
        let slice = SharedSlice::adopt(Arc::clone(&self.0), bytes);
        // Looked at under the pins; if it is another generation, they go with the slice.
        let same = self.0.memory.generations.are_frozen_in(pages, token.generation);
        if same { Ok(slice) } else { Err(SharedError::Stale) }
    }

    /// Size of the arena's data in bytes.
    pub fn size(&self) -> u64 {
        self.0.memory.size()
    }

    /// Bytes that are free: a snapshot.
    pub fn free_bytes(&self) -> u64 {
        if self.0.is_child() {
            0
        } else {
            self.0.state_machine.zone.free_frames().saturating_mul(PAGE_SIZE as u64)
        }
    }

    /// This process, as an owner.
    pub fn me(&self) -> OwnerId {
        self.0.me
    }

    /// All processes that have joined, dead ones that were not recovered included.
    pub fn owners(&self) -> Vec<OwnerId> {
        if self.0.is_child() { Vec::new() } else { self.0.owners.all().collect() }
    }

    /// Walks every page and proves that each is in exactly one state and that all counts add up.
    /// Only at a quiet moment: with others at work, or dead ones not recovered, it reports what
    /// they are in the middle of.
    ///
    /// # Panics
    /// In a forked child.
    pub fn audit(&self) -> Audit {
        assert!(!self.0.is_child(), "a forked child has no part in a shared arena");
        self.0.let_go(Operation::Drain);
        self.0.watch(|zone| zone.audit())
    }
}

/// The file, to be passed on to a process that is to [`attach`](SharedArena::attach) it. To do
/// anything else with it is a matter between you and the compiler, which lets memory be borrowed
/// from it.
impl AsRawFd for SharedArena {
    fn as_raw_fd(&self) -> RawFd {
        self.0.memory.file().as_raw_fd()
    }
}

impl fmt::Debug for SharedArena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedArena({} bytes, {})", self.size(), self.0.me)
    }
}
