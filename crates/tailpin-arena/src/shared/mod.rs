//! Arenas that several processes use at once, and that outlive any of them.
//!
//! A [`SharedArena`] is one memory file: the data, and every word that says what becomes of it.
//! Each process that has it mapped can allocate, pin, split, merge and drop, whichever process the
//! memory came from; what goes from one to the other is a [`Token`] of 24 bytes, in any message.
//! See [`SharedArena`] for an example.
//!
//! | handle | holds | made by |
//! | --- | --- | --- |
//! | [`SharedBuffer`] | a block that only this handle reaches, to be written | [`SharedArena::alloc`] |
//! | [`SharedBlock`] | a reference to a block, frozen, whole or in pieces | [`SharedBuffer::freeze`] |
//! | [`SharedSlice`] | a pin on each page that some bytes touch | [`SharedBlock::slice`], [`SharedArena::adopt`] |
//!
//! # When a process dies
//!
//! It may die anywhere: between any two instructions, in the middle of a split, a merge, an
//! allocation, or of recovering another one. No process waits for it. Any other may
//! [`recover`](SharedArena::recover) it: what it was in the middle of is brought to its end, then
//! all it held is given back. No window is left in which a page gets lost or a pin stays:
//!
//! 1. *Operations are programs.* What an operation does depends on its parameters and on what it
//!    reads in shared words, on nothing else. The parameters and the outcome of each step are
//!    recorded in a *journal* that lies in the file too. So a process that runs the same program
//!    again, and is given the recorded outcomes for the steps that were made, comes to the place
//!    where the first one stopped, and goes on from there. There is no special case for any
//!    operation.
//! 2. *Words know which step wrote them.* Of one step it is not recorded whether it was made: the
//!    one in which the process died. So each word has a *stamp* beside its 64 bits, which names the
//!    step that wrote it, and both change as one (a compare-and-swap of 128 bits). A process that
//!    overwrites a stamp first acknowledges that the step it names was made. Thus the step in doubt
//!    was made exactly if its stamp is in the word or was acknowledged.
//! 3. *The ledger is part of the program.* What a process holds is counted in words of its own, by
//!    the same operations. So at the end of each, whichever process brought it there, the ledger is
//!    right, and says what is to be given back.
//! 4. *A recovery is such operations too*, done in the name of the dead, in its journals. A process
//!    that dies in a recovery leaves nothing but another operation to be finished.
//!
//! The step that is acknowledged without asking is what the literature calls recoverable or
//! detectable compare-and-swap (Attiya, Ben-Baruch, Hendler, *Nesting-safe recoverable
//! linearizability*, PODC 2018), there for memory that survives a crash.
//!
//! # Progress
//!
//! All operations are lock-free, of live processes and of recoveries, among all of them. At most 8
//! threads of one process are in an operation at once; further ones wait for a thread of their own
//! process, never for another process.
//!
//! An operation that panics, which only something else that writes the memory can bring about, ends
//! the part that its process has in the arena: every further one is [`SharedError::Poisoned`], and
//! all it holds comes back when it has ended.
//!
//! # Joining
//!
//! A file becomes an arena by the last word that its creator writes. Until then
//! [`attach`](SharedArena::attach) says [`SharedError::Unfinished`]; what it reads in the file's
//! header it believes only after a check. The file is sealed: no process can make it shorter or
//! longer. So it is always a memory file (`memfd_create`); a file on a path can't be sealed, and is
//! refused.
//!
//! # What it costs
//!
//! A step takes a locked instruction of 128 bits and a few stores into the journal, so a pin and
//! its return cost several times what they do in an [`Arena`](crate::Arena): `cargo run --release
//! -p tailpin-arena --example shared` says how much. The file has 24 bytes of words for each page,
//! 16 more for each process that holds something near it, and 256 KiB of journal for each thread,
//! of which only what is used takes memory. A recovery looks at each page once.
//!
//! # Limits
//!
//! * A block has at most 2 MiB, so that an operation on it fits its journal. An operation that
//!   collided with others thousands of times would not fit; if its process died in it, then
//!   [`Recovered::ambiguous`] says so.
//! * All processes have to use the same version of this crate, to be in the same process and time
//!   namespaces, and to be trusted: each can write all of the memory, or punch holes in it.
//! * Memory is taken when it is first used. If the system has none left then, it ends the process
//!   (SIGBUS, or the OOM killer), as with all shared memory. The others can recover it.
//! * I/O that a process has begun may outlive it: what io_uring, a direct read from a remote file
//!   system or a device (RDMA, VFIO) was told to put into a buffer may arrive after the process was
//!   recovered, in pages that others have by then. A buffered `read` does not: the process itself
//!   copies what it reads.
//! * A process that replaces its program (`exec`) counts as alive until that ends.
//! * A forked child has no part in what its parent holds: reading there panics, dropping does
//!   nothing. It may attach anew.
//! * Free memory is not given back to the system.

// Arithmetic on a caller's numbers is checked, or its place says why it can't overflow.
#[deny(clippy::arithmetic_side_effects)]
mod arena;
mod arena_file;
#[deny(clippy::arithmetic_side_effects)]
mod attachment;
mod error;
mod fail_point;
mod generations;
#[deny(clippy::arithmetic_side_effects)]
mod handles;
mod journal;
mod ledger;
#[deny(clippy::arithmetic_side_effects)]
mod operation;
#[deny(clippy::arithmetic_side_effects)]
mod owner;
mod owners;
mod recover;
mod step_recorder;
#[deny(clippy::arithmetic_side_effects)]
mod token;
mod word;

#[cfg(test)]
mod tests;

pub use arena::SharedArena;
pub(crate) use arena_file::{FILE_NAME, FileParts};
pub use error::{RecoverError, SharedError};
pub use handles::{SharedBlock, SharedBuffer, SharedSlice};
pub(crate) use ledger::LedgerEntry;
pub(crate) use owner::Identity;
pub use owner::OwnerId;
pub use recover::Recovered;
pub use token::Token;

/// Handles go to other threads.
const _: () = {
    const fn shared<T: Send + Sync + 'static>() {}
    shared::<SharedArena>();
    shared::<SharedBuffer>();
    shared::<SharedBlock>();
    shared::<SharedSlice>();
};
