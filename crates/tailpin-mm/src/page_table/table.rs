//! Page tables: changing entries by compare-and-swap, making tables, freeing empty ones.
//!
//! A table is a frame of the zone, an entry an [`AtomicU64`] in it. What a thread needs to change
//! an entry:
//!
//! | change | needs |
//! | --- | --- |
//! | empty → leaf, empty → table, 4 KiB leaf → another, more rights on a leaf | the region lock, shared |
//! | leaf of 2 MiB or 1 GiB → anything else | the region lock, shared, and the leaf lock; or the region lock, exclusive |
//! | 4 KiB leaf → empty | the same |
//! | table → anything | the region lock, exclusive; the table is retired, not freed |
//! | accessed, dirty | nothing: the hardware sets them as well |
//!
//! So everything changes by compare-and-swap, and a walk needs no lock as long as it is inside a
//! read-side section.
//!
//! # Invariants
//!
//! * A table that an entry leads to is complete: its own entries were written before that entry
//!   was.
//! * A table that no entry leads to any more is used for nothing else before a grace period is
//!   over.
//! * A leaf's count is taken before the leaf is published, and given back after it is gone and its
//!   translations are invalidated.

use core::sync::atomic::{AtomicU64, Ordering};

use tailpin::{Order, Pfn};

use crate::addr::{Level, VirtAddr, VirtRange};
use crate::arch::{Arch, Leaf, TableEntry};
use crate::env::Env;
use crate::error::Shortage;
use crate::frame_info::PageOwner;
use crate::mm::MmCore;
use crate::page_table::walk::{Entries, EntrySlot, WalkEnd};

impl<E: Env> Entries for MmCore<'_, E> {
    type Arch = E::Arch;
    type Section<'a>
        = E::Section<'a>
    where
        Self: 'a;
    type Word = AtomicU64;

    #[inline]
    fn enter(&self) -> E::Section<'_> {
        self.env.enter()
    }

    /// Acquire: pairs with the Release of the thread that wrote the entry, so what it leads to is
    /// ready.
    #[inline]
    fn bits(&self, slot: EntrySlot) -> u64 {
        self.entry(slot).load(Ordering::Acquire)
    }
}

impl<E: Env> MmCore<'_, E> {
    fn entry(&self, slot: EntrySlot) -> &AtomicU64 {
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

    /// Writes an entry of a table that no walk finds yet, or any more. Release: pairs with the
    /// Acquire of a walk that finds the table later.
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
        let mut slot = EntrySlot { table: root, index: E::Arch::index(addr, Level::TOP), level: Level::TOP };
        while slot.level > level {
            let TableEntry::Table(table) = E::Arch::decode(slot.level, self.bits(slot)) else { return None };
            let level = slot.level.below();
            slot = EntrySlot { table, index: E::Arch::index(addr, level), level };
        }
        Some(slot)
    }

    /// Where the entry for `addr` in the table of `level` is. Makes the tables that are missing;
    /// ends early at a leaf.
    pub(crate) fn make_slot(&self, root: Pfn, addr: VirtAddr, level: Level) -> Result<EntrySlot, Shortage> {
        let mut slot = EntrySlot { table: root, index: E::Arch::index(addr, Level::TOP), level: Level::TOP };
        while slot.level > level {
            let table = match E::Arch::decode(slot.level, self.bits(slot)) {
                TableEntry::Table(table) => table,
                TableEntry::Leaf(_) => return Ok(slot),
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

    /// Frees page tables (`free_pgtables`): takes those within `range` that are empty out of the
    /// tree and calls `gone` for each. With the region lock held exclusively.
    pub(crate) fn free_pgtables(&self, root: Pfn, range: VirtRange, gone: &mut dyn FnMut(Pfn)) {
        self.free_pgtables_below(EntrySlot { table: root, index: 0, level: Level::TOP }, range, gone);
    }

    /// Takes out the empty tables below the table of `first`; says whether that table is empty now.
    fn free_pgtables_below(&self, first: EntrySlot, range: VirtRange, gone: &mut dyn FnMut(Pfn)) -> bool {
        let level = first.level;
        let mut addr = range.start.align_down(level.bytes());
        while level > Level::PTE && addr < range.end {
            let slot = EntrySlot { index: E::Arch::index(addr, level), ..first };
            let reach = slot.reach(addr);
            if let TableEntry::Table(table) = E::Arch::decode(level, self.bits(slot)) {
                let below = EntrySlot { table, index: 0, level: level.below() };
                if self.free_pgtables_below(below, reach.meet(range), gone) {
                    self.take(slot);
                    gone(table);
                }
            }
            addr = reach.end;
        }
        // Relaxed would do: only this thread writes entries while it has the region lock
        // exclusively.
        (0..512).all(|index| self.bits(EntrySlot { index, ..first }) == 0)
    }
}
