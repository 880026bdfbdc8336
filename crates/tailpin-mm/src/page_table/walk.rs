//! The page table walk: from an address to the entry that decides about it, without a lock.
//!
//! It is written over any words that hold entries, so that what a model checker explores is what
//! ships.

use tailpin::{AtomicWord, Pfn};

use crate::addr::{Level, VirtAddr, VirtRange};
use crate::arch::{Arch, TableEntry};

/// Where an entry is: its table, and its index there (`pte_t *`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntrySlot {
    /// Frame of the table that the entry is in.
    pub table: Pfn,
    /// Which of the table's 512 entries it is.
    pub index: usize,
    /// Reach of the table's entries.
    pub level: Level,
}

impl EntrySlot {
    /// The addresses that the entry for `addr` reaches.
    pub(crate) fn reach(self, addr: VirtAddr) -> VirtRange {
        VirtRange::new(addr.align_down(self.level.bytes()), self.level.bytes())
    }
}

/// Where a page table walk ended: the entry's place and what was in it.
#[derive(Clone, Copy, Debug)]
pub struct WalkEnd {
    /// The entry's place.
    pub slot: EntrySlot,
    /// What was in it.
    pub bits: u64,
}

/// Words with the entries of page tables, over which a walk goes.
pub trait Entries {
    /// Format of the entries.
    type Arch: Arch;
    /// The type of the words that the entries are in.
    type Word: AtomicWord;

    /// Reads an entry. Acquire, as the entry's writer published what it leads to with Release.
    fn bits(&self, slot: EntrySlot) -> u64;

    /// Walks to the entry that decides about `addr`: a leaf, or the empty entry at which the tables
    /// end. Inside a section, or with a lock that keeps the tables.
    #[inline]
    fn look_up(&self, root: Pfn, addr: VirtAddr) -> WalkEnd {
        let (mut table, mut level) = (root, Self::Arch::TOP);
        loop {
            let slot = EntrySlot { table, index: Self::Arch::index(addr, level), level };
            let bits = self.bits(slot);
            match Self::Arch::decode(level, bits) {
                TableEntry::Table(next) => (table, level) = (next, level.below()),
                _ => return WalkEnd { slot, bits },
            }
        }
    }
}

/// Entries of one space, which may be walked without a lock.
pub trait LocklessWalk: Entries {
    /// A read-side section: until it is dropped, the tables that a walk found are used for nothing
    /// else, and no page that an entry led to is given back for that entry.
    type Section<'a>
    where
        Self: 'a;

    /// Opens a read-side section.
    fn enter(&self) -> Self::Section<'_>;
}
