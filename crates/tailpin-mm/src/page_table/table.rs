//! Page tables: finding an entry, making the tables above one, changing it by compare-and-swap.
//!
//! A table is a frame of the zone, an entry an [`AtomicU64`] in it. Who may do what:
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
//! section.

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

    /// Acquire: pairs with the Release of whoever wrote them, so what they lead to is ready.
    #[inline]
    fn bits(&self, slot: EntrySlot) -> u64 {
        self.entry(slot).load(Ordering::Acquire)
    }
}

impl<E: Env> MmCore<'_, E> {
    fn entry(&self, slot: EntrySlot) -> &AtomicU64 {
        &self.words(slot.table)[slot.index]
    }

    /// Changes an entry from the bits seen. AcqRel: publishes what the new bits lead to, and sees
    /// what led to the old ones.
    pub(crate) fn change(&self, slot: EntrySlot, seen: u64, new: u64) -> bool {
        self.entry(slot).compare_exchange(seen, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Empties an entry; what the hardware had noted in it until the end is returned with it.
    /// AcqRel as above.
    pub(crate) fn take(&self, slot: EntrySlot) -> u64 {
        self.entry(slot).swap(0, Ordering::AcqRel)
    }

    /// Writes an entry of a table that is not yet or no longer to be found. Release: pairs with the
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

    /// The entry for `addr` in the table of `level`, if the tables above exist.
    pub(crate) fn slot_at(&self, root: Pfn, addr: VirtAddr, level: Level) -> Option<EntrySlot> {
        let mut slot = EntrySlot { table: root, index: E::Arch::index(addr, Level::TOP), level: Level::TOP };
        while slot.level > level {
            let TableEntry::Table(table) = E::Arch::decode(slot.level, self.bits(slot)) else { return None };
            let level = slot.level.below();
            slot = EntrySlot { table, index: E::Arch::index(addr, level), level };
        }
        Some(slot)
    }

    /// As [`MmCore::slot_at`], making the tables that are missing; ends early at a leaf.
    pub(crate) fn make_slot(&self, root: Pfn, addr: VirtAddr, level: Level) -> Result<EntrySlot, Shortage> {
        let mut slot = EntrySlot { table: root, index: E::Arch::index(addr, Level::TOP), level: Level::TOP };
        while slot.level > level {
            let table = match E::Arch::decode(slot.level, self.bits(slot)) {
                TableEntry::Table(table) => table,
                TableEntry::Leaf(_) => return Ok(slot),
                TableEntry::Empty => {
                    let table = self.new_table()?;
                    if !self.change(slot, 0, E::Arch::table(table)) {
                        // Somebody else was first; nobody has seen this one.
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

    /// An empty table.
    pub(crate) fn new_table(&self) -> Result<Pfn, Shortage> {
        Ok(self.fresh(Order::PAGE, PageOwner::None, 0)?.pfn())
    }

    /// Takes the tables within `range` out of use that have become empty, calling `gone` for each.
    /// With the region lock held exclusively.
    pub(crate) fn free_pgtables(&self, root: Pfn, range: VirtRange, gone: &mut dyn FnMut(Pfn)) {
        self.free_pgtables_below(EntrySlot { table: root, index: 0, level: Level::TOP }, range, gone);
    }

    /// Prunes the tables below the table of `first`; says whether that table is empty now.
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
        // Relaxed would do: nobody else writes entries while the region lock is held exclusively.
        (0..512).all(|index| self.bits(EntrySlot { index, ..first }) == 0)
    }
}
