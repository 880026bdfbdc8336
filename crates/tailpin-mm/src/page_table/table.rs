//! Page tables: changing entries by compare-and-swap, and making tables.
//!
//! A table is a frame of the zone, an entry an [`AtomicU64`] in it. What a thread needs to change
//! an entry:
//!
//! | change | needs |
//! | --- | --- |
//! | empty → leaf, empty → table, more rights on a leaf | the region lock, shared |
//! | leaf → absent, absent → anything | the region lock, shared, and the leaf lock; or the region lock, exclusive |
//! | table → absent | the region lock, exclusive |
//! | accessed, dirty | nothing: the hardware sets them as well |
//!
//! So everything changes by compare-and-swap, and a walk needs no lock as long as it is inside a
//! read-side section. A leaf is never changed to a table or to a leaf of other memory in one step:
//! it becomes absent, translations are invalidated, then the new entry is put there
//! (break-before-make). No CPU ever has the old translation while another has the new one.
//!
//! # Invariants
//!
//! * A table that an entry leads to is complete: its own entries were written before that entry
//!   was.
//! * What an entry led to, a page or a table, is given back after the entry is absent and its
//!   translations are invalidated, which waits for the sections of the space that were open.
//! * A leaf's count is taken before the leaf is published.

use core::sync::atomic::{AtomicU64, Ordering};

use tailpin::{Order, Pfn};

use crate::addr::{Level, VirtAddr};
use crate::arch::{Arch, Leaf, TableEntry};
use crate::env::Env;
use crate::error::Shortage;
use crate::frame_info::PageOwner;
use crate::mm::MmCore;
use crate::page_table::walk::{Entries, EntrySlot, WalkEnd};

/// Whether an entry is absent: it led somewhere, and a thread is about to give that back or to put
/// something else in its place.
pub(crate) fn is_absent<A: Arch>(bits: u64) -> bool {
    bits != 0 && bits & A::PRESENT == 0
}

impl<E: Env> Entries for MmCore<'_, E> {
    type Arch = E::Arch;
    type Word = AtomicU64;

    /// Acquire: pairs with the Release of the thread that wrote the entry, so what it leads to is
    /// ready.
    #[inline]
    fn bits(&self, slot: EntrySlot) -> u64 {
        self.entry(slot).load(Ordering::Acquire)
    }
}

impl<E: Env> MmCore<'_, E> {
    pub(crate) fn entry(&self, slot: EntrySlot) -> &AtomicU64 {
        &self.words(slot.table)[slot.index]
    }

    /// Changes an entry from the bits `seen`; false if it has changed. AcqRel: publishes what the
    /// new bits lead to, and sees what was written before the old ones.
    pub(crate) fn change(&self, slot: EntrySlot, seen: u64, new: u64) -> bool {
        self.entry(slot).compare_exchange(seen, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Empties an entry and returns its bits, with accessed and dirty as the hardware left them.
    /// AcqRel: sees what was written before these bits, and is ordered before what the caller frees
    /// next.
    pub(crate) fn take(&self, slot: EntrySlot) -> u64 {
        self.entry(slot).swap(0, Ordering::AcqRel)
    }

    /// Writes an entry that no other thread changes: of a table that no walk finds yet, or one that
    /// this thread made absent. Release: pairs with the Acquire of a walk.
    pub(crate) fn put(&self, slot: EntrySlot, bits: u64) {
        self.entry(slot).store(bits, Ordering::Release);
    }

    pub(crate) fn decode(&self, found: WalkEnd) -> TableEntry {
        E::Arch::decode(found.slot.level, found.bits)
    }

    pub(crate) fn leaf_of(&self, found: WalkEnd) -> Option<Leaf> {
        match self.decode(found) {
            TableEntry::Leaf(leaf) => Some(leaf),
            _ => None,
        }
    }

    /// Where the entry for `addr` in the table of `level` is, if the tables above exist.
    pub(crate) fn slot_at(&self, root: Pfn, addr: VirtAddr, level: Level) -> Option<EntrySlot> {
        let mut slot =
            EntrySlot { table: root, index: E::Arch::index(addr, E::Arch::TOP), level: E::Arch::TOP };
        while slot.level > level {
            let TableEntry::Table(table) = E::Arch::decode(slot.level, self.bits(slot)) else { return None };
            let level = slot.level.below();
            slot = EntrySlot { table, index: E::Arch::index(addr, level), level };
        }
        Some(slot)
    }

    /// Where the entry for `addr` in the table of `level` is. Makes the tables that are missing;
    /// ends early at a leaf, and at an absent entry.
    pub(crate) fn make_slot(&self, root: Pfn, addr: VirtAddr, level: Level) -> Result<EntrySlot, Shortage> {
        let mut slot =
            EntrySlot { table: root, index: E::Arch::index(addr, E::Arch::TOP), level: E::Arch::TOP };
        while slot.level > level {
            let bits = self.bits(slot);
            let table = match E::Arch::decode(slot.level, bits) {
                TableEntry::Table(table) => table,
                TableEntry::Leaf(_) => return Ok(slot),
                TableEntry::Empty if bits != 0 => return Ok(slot),
                TableEntry::Empty => {
                    let table = self.new_table()?;
                    if !self.change(slot, 0, E::Arch::table(table)) {
                        // Another thread was first; no walk has found this table.
                        self.drop_block(table, Order::PAGE);
                        continue;
                    }
                    table
                }
            };
            let level = slot.level.below();
            slot = EntrySlot { table, index: E::Arch::index(addr, level), level };
        }
        Ok(slot)
    }

    /// Allocates an empty table, which no entry leads to.
    pub(crate) fn new_table(&self) -> Result<Pfn, Shortage> {
        Ok(self.alloc_zeroed(Order::PAGE, PageOwner::None, 0)?.pfn())
    }
}
