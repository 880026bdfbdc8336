//! The table of the processes that use a shared arena, and who recovers whom.

use std::sync::atomic::Ordering;

use portable_atomic::AtomicU128;

use super::error::RecoverError;
use super::owner::{Identity, OwnerId};

/// One place in the table: below, the process that has it, or 0; above, the process that is
/// recovering that one, or 0. Written by the process that joins, leaves or recovers. Both change as
/// one, so that the next process at a place finds no other at work there.
#[repr(transparent)]
pub(super) struct OwnerEntry(AtomicU128);

fn owner(both: u128) -> Identity {
    Identity(both as u64)
}

fn recoverer(both: u128) -> Identity {
    Identity((both >> 64) as u64)
}

fn both(owner: Identity, recoverer: Identity) -> u128 {
    u128::from(recoverer.0) << 64 | u128::from(owner.0)
}

impl OwnerEntry {
    fn load(&self) -> u128 {
        // Acquire: pairs with the AcqRel of `change`.
        self.0.load(Ordering::Acquire)
    }

    /// AcqRel: what a process did that had the place, or recovered the one that had it, is before
    /// what the next one does.
    fn change(&self, from: u128, to: u128) -> Result<u128, u128> {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
    }
}

/// The table of owners.
#[derive(Clone, Copy)]
pub(super) struct OwnerTable(pub(super) &'static [OwnerEntry]);

impl OwnerTable {
    /// A place for a process; `None` if all are taken.
    pub(super) fn join(self, identity: Identity) -> Option<OwnerId> {
        let index =
            self.0.iter().position(|entry| entry.change(0, both(identity, Identity::NONE)).is_ok())?;
        Some(OwnerId { index, identity })
    }

    /// A living process gives up its place: nothing is held and no operation under way.
    pub(super) fn leave(self, owner: OwnerId) {
        // It can't fail: the living are not recovered.
        let _ = self.0[owner.index].change(both(owner.identity, Identity::NONE), 0);
    }

    pub(super) fn all(self) -> impl Iterator<Item = OwnerId> {
        self.0.iter().enumerate().filter_map(|(index, entry)| {
            let identity = owner(entry.load());
            (identity != Identity::NONE).then_some(OwnerId { index, identity })
        })
    }

    /// Begins the recovery of an owner that is dead, unless another process is at it that is not
    /// dead itself.
    pub(super) fn begin_recovery(self, dead: OwnerId, me: Identity) -> Result<Recovery, RecoverError> {
        // An owner of another arena may have a number that is none here.
        let entry = self.0.get(dead.index).ok_or(RecoverError::Gone(dead))?;
        let mut seen = entry.load();
        loop {
            if owner(seen) != dead.identity {
                return Err(RecoverError::Gone(dead));
            }
            if !dead.is_dead() {
                return Err(RecoverError::Alive(dead));
            }
            let other = recoverer(seen);
            if other != Identity::NONE && !other.is_dead() {
                return Err(RecoverError::Busy { pid: other.pid() });
            }
            let mine = both(dead.identity, me);
            match entry.change(seen, mine) {
                Ok(_) => return Ok(Recovery { entry, mine }),
                Err(now) => seen = now,
            }
        }
    }
}

/// The right to recover an owner. Given up, and the owner left where it is, when this is dropped.
pub(super) struct Recovery {
    entry: &'static OwnerEntry,
    /// What the place says as long as the right is there: only its owner changes it.
    mine: u128,
}

impl Recovery {
    /// Nothing is left of the owner: its place is free.
    pub(super) fn complete(self) {
        let _ = self.entry.change(self.mine, 0);
    }
}

impl Drop for Recovery {
    fn drop(&mut self) {
        // After `complete` the place says something else, and this does nothing.
        let _ = self.entry.change(self.mine, both(owner(self.mine), Identity::NONE));
    }
}
