//! The page table walk: from an address to the entry that decides about it, without a lock.
//!
//! It is written over any words that hold entries, so that what a model checker explores is what
//! ships.

use tailpin::{AtomicWord, Pfn};

use crate::addr::{Level, VirtAddr, VirtRange};
use crate::arch::{Arch, TableEntry};

/// Place of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntrySlot {
    /// Frame of the table that it is in.
    pub table: Pfn,
    /// Which of the 512.
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

/// Where a walk ended: the entry and what it was.
#[derive(Clone, Copy, Debug)]
pub struct WalkEnd {
    /// The entry's place.
    pub slot: EntrySlot,
    /// What was in it.
    pub bits: u64,
}

/// Where entries are read.
pub trait Entries {
    /// Format of the entries.
    type Arch: Arch;
    /// Keeps tables that were found from being used for something else until dropped.
    type Section<'a>
    where
        Self: 'a;
    /// A word like those that the entries are in.
    type Word: AtomicWord;

    /// Opens a section.
    fn enter(&self) -> Self::Section<'_>;

    /// Reads an entry. Acquire: what it leads to is ready.
    fn bits(&self, slot: EntrySlot) -> u64;

    /// Walks to the entry that decides about `addr`: a leaf, or the empty one at which the tables
    /// end.
    #[inline]
    fn look_up(&self, root: Pfn, addr: VirtAddr) -> WalkEnd {
        let (mut table, mut level) = (root, Level::TOP);
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
