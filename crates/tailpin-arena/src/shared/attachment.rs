//! The part of one process in a shared arena: the mapping, its place among the owners, and how it
//! runs operations, each in a journal.

use std::sync::atomic::{AtomicBool, Ordering};

use tailpin::{Attach, FrameRange, OneWord, Pfn, Zone, ZoneConfig};

use crate::memory::fork::ForkMark;

use super::arena_file::{ArenaFile, THREADS};
use super::error::SharedError;
use super::fail_point;
use super::journal::Journal;
use super::operation::{NewGenerations, Operation, PAGES_AT_ONCE, Refusal, StateMachine};
use super::owner::{Identity, OwnerId};
use super::owners::OwnerTable;
use super::step_recorder::StepRecorder;

/// This process's part in a shared arena, which all its handles share.
pub(super) struct Attachment {
    pub(super) state_machine: StateMachine,
    pub(super) owners: OwnerTable,
    pub(super) me: OwnerId,
    /// Journals that are in use; process-local, as only this process has them.
    busy: [AtomicBool; THREADS],
    /// An operation panicked in the middle. Its steps may be anywhere, under handles that the
    /// caller still has, and a recovery will go on with it: so until then these handles must do
    /// nothing more.
    poisoned: AtomicBool,
    fork: ForkMark,
    /// Last: everything above uses it.
    pub(super) memory: ArenaFile,
}

impl Attachment {
    pub(super) fn join(memory: ArenaFile, fresh: bool, identity: Identity) -> Result<Self, SharedError> {
        let zone = memory.layout(|layout| {
            let config = ZoneConfig::default().hooks(&NewGenerations).cpu(StepRecorder::acting_for);
            let (pages, allocator) = (memory.page_words, memory.allocator_words);
            if fresh {
                // No other process has the memory yet.
                let recorder = StepRecorder::new(
                    Journal::new(memory.journals, memory.acknowledged, 0),
                    0,
                    memory.base(),
                    memory.generations,
                );
                recorder.watch(|| Zone::new(layout, config, pages, allocator))
            } else {
                Zone::attach(layout, config, pages, allocator)
            }
        });
        // The words were counted with this very layout.
        let zone = zone.map_err(|_| SharedError::NotAnArena)?;
        let owners = OwnerTable(memory.owners);
        let fork = ForkMark::new().map_err(|errno| SharedError::System {
            doing: "mark this process",
            errno: errno.raw_os_error(),
        })?;
        let full = SharedError::Full { owners: memory.geometry.owners };
        let me = owners.join(identity).ok_or(full)?;
        if fresh {
            fail_point::here();
            memory.publish();
        }
        let state_machine = StateMachine {
            zone,
            protocol: OneWord::attach(memory.page_words, Pfn::new(0)),
            ledger: memory.ledger,
        };
        let busy = [const { AtomicBool::new(false) }; THREADS];
        Ok(Self { state_machine, owners, me, busy, poisoned: AtomicBool::new(false), fork, memory })
    }

    /// Journal `thread` of an owner.
    #[expect(clippy::arithmetic_side_effects, reason = "an owner's number is below the number of owners")]
    pub(super) fn journal(&self, owner: usize, thread: usize) -> Journal {
        Journal::new(self.memory.journals, self.memory.acknowledged, owner * THREADS + thread)
    }

    pub(super) fn recorder(&self, journal: Journal, owner: usize) -> StepRecorder {
        StepRecorder::new(journal, owner, self.memory.base(), self.memory.generations)
    }

    pub(super) fn is_child(&self) -> bool {
        self.fork.is_child()
    }

    /// An operation of this process's own.
    pub(super) fn operate(&self, operation: Operation) -> Result<Pfn, Refusal> {
        let lease = self.lease_journal()?;
        let result = self.operate_for(self.me.index, lease.thread, operation);
        lease.end();
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
        journal.begin(operation.encode());
        let result = self.recorder(journal, owner).write(|| self.state_machine.run(operation, owner));
        journal.end();
        result
    }

    /// Of the journals of this process one that no thread uses. Waits while all are in use, for
    /// threads of this process.
    fn lease_journal(&self) -> Result<JournalLease<'_>, Refusal> {
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
                return Ok(JournalLease { attachment: self, thread });
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
    pub(super) fn watch<R>(
        &self,
        look: impl FnOnce(&Zone<'static, tailpin::OneWord<'static, super::word::Word>>) -> R,
    ) -> R {
        self.recorder(self.journal(self.me.index, 0), self.me.index).watch(|| look(&self.state_machine.zone))
    }
}

/// A journal in use. Dropped without an end, by a panic, it leaves the journal as it is, for a
/// recovery.
struct JournalLease<'a> {
    attachment: &'a Attachment,
    thread: usize,
}

impl JournalLease<'_> {
    fn end(self) {
        // Release: pairs with the Acquire of the thread that takes the journal next.
        self.attachment.busy[self.thread].store(false, Ordering::Release);
        std::mem::forget(self);
    }
}

impl Drop for JournalLease<'_> {
    fn drop(&mut self) {
        self.attachment.poisoned.store(true, Ordering::Relaxed);
    }
}

/// Runs of pages that fit into an operation.
fn in_parts(pages: FrameRange) -> impl Iterator<Item = FrameRange> {
    (pages.start.get()..pages.end.get()).step_by(PAGES_AT_ONCE as usize).map(move |start| FrameRange {
        start: Pfn::new(start),
        end: Pfn::new(pages.end.get().min(start.saturating_add(PAGES_AT_ONCE))),
    })
}

impl Drop for Attachment {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_that_is_in_an_operation_has_a_journal_of_its_own() {
        let arena = super::super::SharedArena::create(1, 1).unwrap();
        for _ in 0..2 {
            let leases = [(); THREADS].map(|()| arena.0.lease_journal().unwrap());
            assert!(leases.iter().map(|lease| lease.thread).eq(0..THREADS));
            leases.into_iter().for_each(JournalLease::end);
        }
    }
}
