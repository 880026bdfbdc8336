//! The handle on a shared arena, and how it does things.

use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use portable_atomic::AtomicU128;
use tailpin::{Attach, Audit, FrameRange, GetError, OneWord, Order, Pfn, Zone, ZoneConfig};

use crate::memory::fork::ForkMark;
use crate::memory::{AREA, PAGE};

use super::error::SharedError;
use super::handles::{SharedBuffer, SharedSlice};
use super::journal::Journal;
use super::memory::{Geometry, Memory, THREADS};
use super::operation::{Machine, NewLives, Operation, PAGES_AT_ONCE, Refusal};
use super::owners::{Identity, OwnerId, Owners};
use super::scribe::Scribe;
use super::stop;
use super::token::{Token, pages_of};

/// What all handles of this process share.
pub(super) struct Inner {
    pub(super) machine: Machine,
    pub(super) owners: Owners,
    pub(super) me: OwnerId,
    /// Journals that are in use; process-local, as only this process has them.
    busy: [AtomicBool; THREADS],
    /// An operation panicked in the middle. Its steps may be anywhere, under handles that the
    /// caller still has, and a recovery will go on with it: so until then these handles must do
    /// nothing more.
    poisoned: AtomicBool,
    fork: ForkMark,
    /// Last: everything above uses it.
    pub(super) memory: Memory,
}

impl Inner {
    fn join(memory: Memory, fresh: bool, identity: Identity) -> Result<Self, SharedError> {
        let zone = memory.layout(|layout| {
            let config = ZoneConfig::default().hooks(&NewLives).cpu(Scribe::acting_for);
            let (pages, areas) = (memory.page_words, memory.area_words);
            if fresh {
                // No other process has the memory yet.
                let scribe = Scribe::new(
                    Journal::new(memory.journals, memory.told, 0),
                    0,
                    memory.base(),
                    memory.lives,
                );
                scribe.watch(|| Zone::new(layout, config, pages, areas))
            } else {
                Zone::attach(layout, config, pages, areas)
            }
        });
        // The words were counted with this very layout.
        let zone = zone.map_err(|_| SharedError::NotAnArena)?;
        let owners = Owners(memory.owners);
        let fork = ForkMark::new().map_err(|errno| SharedError::System {
            doing: "mark this process",
            errno: errno.raw_os_error(),
        })?;
        let full = SharedError::Full { owners: memory.geometry.owners };
        let me = owners.join(identity).ok_or(full)?;
        if fresh {
            stop::here();
            memory.publish();
        }
        let machine = Machine {
            zone,
            protocol: OneWord::attach(memory.page_words, Pfn::new(0)),
            ledger: memory.ledger,
        };
        let busy = [const { AtomicBool::new(false) }; THREADS];
        Ok(Self { machine, owners, me, busy, poisoned: AtomicBool::new(false), fork, memory })
    }

    /// Journal `thread` of an owner.
    #[expect(clippy::arithmetic_side_effects, reason = "an owner's number is below the number of owners")]
    pub(super) fn journal(&self, owner: usize, thread: usize) -> Journal {
        Journal::new(self.memory.journals, self.memory.told, owner * THREADS + thread)
    }

    pub(super) fn scribe(&self, journal: Journal, owner: usize) -> Scribe {
        Scribe::new(journal, owner, self.memory.base(), self.memory.lives)
    }

    pub(super) fn is_child(&self) -> bool {
        self.fork.is_child()
    }

    /// An operation of this process's own.
    pub(super) fn operate(&self, operation: Operation) -> Result<Pfn, Refusal> {
        let turn = self.take_turn()?;
        let result = self.operate_for(self.me.index, turn.thread, operation);
        turn.end();
        result
    }

    /// An operation for an owner, in a journal of the owner's that is not in use.
    pub(super) fn operate_for(
        &self,
        owner: usize,
        thread: usize,
        operation: Operation,
    ) -> Result<Pfn, Refusal> {
        let journal = self.journal(owner, thread);
        journal.begin(operation);
        let result = self.scribe(journal, owner).write(|| self.machine.run(operation, owner));
        journal.end();
        result
    }

    /// Of the journals of this process one that no thread uses. Waits while all are in use, for
    /// threads of this process.
    fn take_turn(&self) -> Result<Turn<'_>, Refusal> {
        loop {
            // Relaxed: a thread that has a handle which was in the panicked operation got it
            // after the panic.
            if self.poisoned.load(Ordering::Relaxed) {
                return Err(Refusal::Poisoned);
            }
            // Acquire and, when it is given back, Release: a journal goes from thread to thread.
            let take = |busy: &AtomicBool| {
                !busy.load(Ordering::Relaxed)
                    && busy.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
            };
            if let Some(thread) = self.busy.iter().position(take) {
                return Ok(Turn { inner: self, thread });
            }
            std::thread::yield_now();
        }
    }

    /// A pin on each page, or none.
    pub(super) fn pin(&self, pages: FrameRange) -> Result<(), SharedError> {
        if self.is_child() {
            return Err(SharedError::Child);
        }
        for some in in_parts(pages) {
            if let Err(refusal) = self.operate(Operation::Pin(some)) {
                self.unpin(FrameRange { start: pages.start, end: some.start });
                return Err(refusal.into());
            }
        }
        Ok(())
    }

    pub(super) fn unpin(&self, pages: FrameRange) {
        for some in in_parts(pages) {
            self.let_go(Operation::Unpin(some));
        }
    }

    /// Gives back what a handle has, which can't be refused unless something else writes the words;
    /// then the page has been taken out of service. In a forked child, which has nothing, nothing
    /// is given back; nor where an operation panicked, which leaves it to a recovery.
    pub(super) fn let_go(&self, operation: Operation) {
        if !self.is_child() {
            let _ = self.operate(operation);
        }
    }

    /// A look at all words, of which nothing is left to be finished if it is cut short.
    fn watch<R>(
        &self,
        look: impl FnOnce(&Zone<'static, tailpin::OneWord<'static, super::word::Word>>) -> R,
    ) -> R {
        self.scribe(self.journal(self.me.index, 0), self.me.index).watch(|| look(&self.machine.zone))
    }
}

/// A journal in use. Dropped without an end, by a panic, it leaves the journal as it is, for a
/// recovery.
struct Turn<'a> {
    inner: &'a Inner,
    thread: usize,
}

impl Turn<'_> {
    fn end(self) {
        // Release: pairs with the Acquire of the thread that takes the journal next.
        self.inner.busy[self.thread].store(false, Ordering::Release);
        std::mem::forget(self);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.inner.poisoned.store(true, Ordering::Relaxed);
    }
}

/// Runs of pages that fit into an operation.
fn in_parts(pages: FrameRange) -> impl Iterator<Item = FrameRange> {
    (pages.start.get()..pages.end.get()).step_by(PAGES_AT_ONCE as usize).map(move |start| FrameRange {
        start: Pfn::new(start),
        end: Pfn::new(pages.end.get().min(start.saturating_add(PAGES_AT_ONCE))),
    })
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.is_child() {
            return self.memory.disown();
        }
        // All handles are gone, so nothing is held. An operation that panicked is left for a
        // recovery after this process.
        if !*self.poisoned.get_mut() {
            self.owners.leave(self.me);
        }
    }
}

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
pub struct SharedArena(pub(super) Arc<Inner>);

impl SharedArena {
    /// A new arena of at least `bytes` bytes, rounded up to 2 MiB, that at most `owners` processes
    /// use at the same time. Memory is taken as it is used.
    ///
    /// # Errors
    /// What [`SharedError`] says of sizes, of the processor and of the system.
    pub fn create(bytes: usize, owners: usize) -> Result<Self, SharedError> {
        Self::check_processor()?;
        let rounded = bytes.checked_next_multiple_of(AREA).ok_or(SharedError::BadSize { bytes })?;
        let geometry = Geometry { pages: rounded / PAGE, owners };
        geometry.check().map_err(|error| match error {
            SharedError::BadSize { .. } => SharedError::BadSize { bytes },
            other => other,
        })?;
        Self::join(Memory::create(geometry)?, true, Self::own_identity()?)
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
        Self::join(Memory::open(file)?, false, Self::own_identity()?)
    }

    fn check_processor() -> Result<(), SharedError> {
        AtomicU128::is_lock_free().then_some(()).ok_or(SharedError::NoWideAtomics)
    }

    fn own_identity() -> Result<Identity, SharedError> {
        Identity::own().map_err(|error| SharedError::io("find out who this is", &error))
    }

    pub(super) fn join(memory: Memory, fresh: bool, identity: Identity) -> Result<Self, SharedError> {
        Ok(Self(Arc::new(Inner::join(memory, fresh, identity)?)))
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
        let pages = len.div_ceil(PAGE).next_power_of_two();
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
        // Looked at under the pins; if it is another life, they go with the slice.
        let same = self.0.memory.lives.are_frozen_in(pages, token.life);
        if same { Ok(slice) } else { Err(SharedError::Stale) }
    }

    /// Bytes of data.
    pub fn size(&self) -> u64 {
        self.0.memory.size()
    }

    /// Bytes that are free: a snapshot.
    pub fn free_bytes(&self) -> u64 {
        if self.0.is_child() { 0 } else { self.0.machine.zone.free_frames().saturating_mul(PAGE as u64) }
    }

    /// This process.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_that_is_in_an_operation_has_a_journal_of_its_own() {
        let arena = SharedArena::create(1, 1).unwrap();
        for _ in 0..2 {
            let turns = [(); THREADS].map(|()| arena.0.take_turn().unwrap());
            assert!(turns.iter().map(|turn| turn.thread).eq(0..THREADS));
            turns.map(Turn::end);
        }
    }
}
