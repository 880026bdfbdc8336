//! What becomes of a process that died: its operations are finished, then everything it held is
//! given back.

use super::arena::SharedArena;
use super::arena_file::THREADS;
use super::error::RecoverError;
use super::journal::NotRepeatable;
use super::operation::Operation;
use super::owner::OwnerId;
use tailpin::{FrameRange, Pfn};

/// What a recovery found and gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// Pins on pages.
    pub pins: u64,
    /// References to blocks.
    pub blocks: u64,
    /// Operations it was in the middle of, which were brought to their end.
    pub finished: u64,
    /// Operations it was in the middle of that were too long for their journal, or whose journal
    /// makes no sense. They are left where they were; what they were about to free or allocate, at
    /// most one block each, may be out of reach. Without thousands of collisions within one
    /// operation, or something else that writes the memory, this is 0.
    pub ambiguous: u64,
}

impl SharedArena {
    /// Finishes what a dead process was in the middle of, gives back everything it held, and makes
    /// its place in the table free. Live processes go on all the while and wait for nothing.
    ///
    /// A recovery that is cut short, as its process dies too, is taken up where it was by the next
    /// one.
    ///
    /// # Errors
    /// [`RecoverError`]; then nothing was done.
    ///
    /// # Panics
    /// In a forked child.
    pub fn recover(&self, owner: OwnerId) -> Result<Recovered, RecoverError> {
        let inner = &self.0;
        assert!(!inner.is_child(), "a forked child has no part in a shared arena");
        let recovery = inner.owners.begin_recovery(owner, inner.me.identity)?;
        let mut recovered = Recovered::default();
        self.finish_operations(owner, &mut recovered);
        self.give_back(owner, &mut recovered);
        recovery.complete();
        Ok(recovered)
    }

    /// [`SharedArena::recover`] for each owner that is dead. Those that another process is
    /// recovering are left to it.
    ///
    /// # Panics
    /// In a forked child.
    pub fn recover_dead(&self) -> Vec<(OwnerId, Recovered)> {
        self.owners().into_iter().filter_map(|owner| Some((owner, self.recover(owner).ok()?))).collect()
    }

    fn finish_operations(&self, owner: OwnerId, recovered: &mut Recovered) {
        for thread in 0..THREADS {
            let journal = self.0.journal(owner.index, thread);
            let Some(operation) = journal.operation() else { continue };
            let pages = self.0.memory.geometry.pages as u64;
            let operation = Operation::decode(operation).filter(|operation| operation.is_within(pages));
            let finished = operation.ok_or(NotRepeatable).and_then(|operation| {
                let recorder = self.0.recorder(journal, owner.index);
                recorder.finish(|| self.0.state_machine.run(operation, owner.index))
            });
            match finished {
                // Done or refused, as it would have been for the process itself.
                Ok(_) => recovered.finished += 1,
                Err(_) => recovered.ambiguous += 1,
            }
            journal.end();
        }
    }

    /// Operations as the dead one, in its first journal: so they are finished in turn if this
    /// process dies.
    fn give_back(&self, owner: OwnerId, recovered: &mut Recovered) {
        let as_owner = |operation| {
            // Refused only where something else has written the words; the page is out of service
            // then.
            let _ = self.0.operate_for(owner.index, 0, operation);
        };
        for page in (0..self.0.memory.geometry.pages as u64).map(Pfn::new) {
            let entry = self.0.state_machine.ledger.entry(owner.index, page);
            for _ in 0..entry.pins {
                as_owner(Operation::Unpin(FrameRange::new(page, 1)));
            }
            for _ in 0..entry.blocks {
                as_owner(Operation::Put(page, entry.order));
            }
            recovered.pins += entry.pins;
            recovered.blocks += entry.blocks;
        }
        // Free pages that it had at hand.
        as_owner(Operation::Drain);
    }
}
