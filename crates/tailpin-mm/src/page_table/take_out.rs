//! Taking entries out of a page table: absent first, then the shootdown, then their counts.
//!
//! An entry is made *absent* by clearing the one bit without which the processor ignores it
//! ([`Arch::PRESENT`]); its other bits stay. So the table itself remembers what is to be given back
//! after the shootdown, of however many entries: one shootdown does for a page and for a whole
//! space. A table in which nothing is left present is taken out in the same way, by its own entry.
//!
//! For every walk an absent entry is an empty one. A thread that would put a leaf or a table in its
//! place sees that it is not zero, and first waits for the thread that works on it
//! (`SpaceInner::wait_for_absent`).

use core::sync::atomic::Ordering;

use tailpin::{Order, Pfn};

use crate::addr::VirtRange;
use crate::arch::{Arch, Leaf, TableEntry};
use crate::env::{Env, Stale};
use crate::mm::MmCore;
use crate::page_table::table::is_absent;
use crate::page_table::walk::{Entries, EntrySlot};

/// What is to be taken out of a range.
pub(crate) struct TakeOut<'f> {
    /// Which leaves.
    pub(crate) leaves: &'f dyn Fn(Leaf) -> bool,
    /// Whether tables go in which nothing is present any more. With the region lock held
    /// exclusively.
    pub(crate) tables: bool,
}

/// What a shootdown has to get rid of, as far as it is known.
#[derive(Default)]
pub(crate) struct Absent {
    stale: Option<Stale>,
}

impl Absent {
    /// Translations of `range` are stale.
    pub(crate) fn add(&mut self, range: VirtRange) {
        self.stale = Some(match self.stale {
            Some(stale) => Stale { range: stale.range.join(range), ..stale },
            None => Stale { range, tables: false },
        });
    }

    /// A table that some addresses of `range` were translated by went out of use.
    fn add_table(&mut self, range: VirtRange) {
        self.add(range);
        self.stale = self.stale.map(|stale| Stale { tables: true, ..stale });
    }

    /// What is stale, if anything is.
    pub(crate) fn stale(&self) -> Option<Stale> {
        self.stale
    }
}

impl<E: Env> MmCore<'_, E> {
    /// Makes the entries of `range` absent that `what` says; notes in `absent` what is stale then.
    /// No leaf reaches over an end of the range.
    pub(crate) fn make_absent(&self, root: Pfn, range: VirtRange, what: &TakeOut<'_>, absent: &mut Absent) {
        let first = EntrySlot { table: root, index: 0, level: E::Arch::TOP };
        self.make_absent_below(first, range, what, absent);
    }

    /// Makes entries of the table of `first` and of those below it absent; says whether nothing in
    /// the table is present any more.
    fn make_absent_below(
        &self,
        first: EntrySlot,
        range: VirtRange,
        what: &TakeOut<'_>,
        absent: &mut Absent,
    ) -> bool {
        let level = first.level;
        let mut left = false;
        let mut at = range.start;
        while at < range.end {
            let slot = EntrySlot { index: E::Arch::index(at, level), ..first };
            let reach = slot.reach(at);
            let part = reach.meet(range);
            let bits = self.bits(slot);
            at = reach.end;
            match E::Arch::decode(level, bits) {
                // One that an operation left absent that panicked goes with the others.
                TableEntry::Empty if bits != 0 => absent.add_table(part),
                TableEntry::Empty => {}
                TableEntry::Leaf(leaf) if !(what.leaves)(leaf) => left = true,
                // Again where the hardware has set accessed or dirty, or another fault has put
                // another leaf there.
                TableEntry::Leaf(_) if !self.change(slot, bits, bits & !E::Arch::PRESENT) => {
                    at = part.start;
                }
                TableEntry::Leaf(_) => absent.add(reach),
                TableEntry::Table(table) => {
                    let below = EntrySlot { table, index: 0, level: level.below() };
                    if self.make_absent_below(below, part, what, absent) && what.tables {
                        self.set_absent(slot);
                        absent.add_table(part);
                    } else {
                        left = true;
                    }
                }
            }
        }
        let is_present = |index| self.bits(EntrySlot { index, ..first }) & E::Arch::PRESENT != 0;
        what.tables && !left && level < E::Arch::TOP && !(0..512).any(is_present)
    }

    /// Empties the absent entries of `range` and gives back what they led to. After the shootdown;
    /// with the lock under which they were made absent.
    pub(crate) fn give_back_absent(&self, root: Pfn, range: VirtRange) {
        self.give_back_below(EntrySlot { table: root, index: 0, level: E::Arch::TOP }, range);
    }

    fn give_back_below(&self, first: EntrySlot, range: VirtRange) {
        let level = first.level;
        let mut at = range.start;
        while at < range.end {
            let slot = EntrySlot { index: E::Arch::index(at, level), ..first };
            let reach = slot.reach(at);
            let bits = self.bits(slot);
            if is_absent::<E::Arch>(bits) {
                self.give_back_entry(slot, bits, reach);
            } else if let TableEntry::Table(table) = E::Arch::decode(level, bits) {
                let below = EntrySlot { table, index: 0, level: level.below() };
                self.give_back_below(below, reach.meet(range));
            }
            at = reach.end;
        }
    }

    /// Empties an absent entry, which has these bits and this reach, and gives back what it led to.
    pub(crate) fn give_back_entry(&self, slot: EntrySlot, bits: u64, reach: VirtRange) {
        // Emptied first: if a hook of the zone panics, no other call gives the same count back.
        self.put(slot, 0);
        match E::Arch::decode(slot.level, bits | E::Arch::PRESENT) {
            TableEntry::Leaf(leaf) => self.uncount_leaf(slot.level, leaf),
            TableEntry::Table(table) => {
                // All that is in it is absent or empty.
                self.give_back_below(EntrySlot { table, index: 0, level: slot.level.below() }, reach);
                self.drop_block(table, Order::PAGE);
            }
            TableEntry::Empty => {}
        }
    }

    /// Makes an entry absent and returns the bits that it had. AcqRel: what the hardware set until
    /// this moment is in the bits, and the entry is absent before the shootdown.
    pub(crate) fn set_absent(&self, slot: EntrySlot) -> u64 {
        self.entry(slot).fetch_and(!E::Arch::PRESENT, Ordering::AcqRel)
    }
}
