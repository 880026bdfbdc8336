//! An entry that is absent while one thing is replaced by another (break-before-make).

use core::mem::ManuallyDrop;

use crate::arch::{Arch, TableEntry};
use crate::env::Env;
use crate::mm::MmCore;
use crate::page_table::walk::EntrySlot;

/// An entry that this thread made absent. What it led to is there again when this is dropped,
/// unless something else was put in its place: so an operation that can't go on, or panics, leaves
/// all as it was.
pub(crate) struct AbsentEntry<'c, 'z, E: Env> {
    core: &'c MmCore<'z, E>,
    slot: EntrySlot,
    /// As it was, with all that the hardware had set until the last moment.
    bits: u64,
}

impl<'c, 'z, E: Env> AbsentEntry<'c, 'z, E> {
    /// Makes an entry absent, with the locks that `table.rs` says.
    pub(crate) fn new(core: &'c MmCore<'z, E>, slot: EntrySlot) -> Self {
        Self { core, slot, bits: core.set_absent(slot) }
    }

    /// What the entry was.
    pub(crate) fn was(&self) -> TableEntry {
        E::Arch::decode(self.slot.level, self.bits)
    }

    /// Puts another entry in its place, after the shootdown.
    pub(crate) fn put(self, bits: u64) {
        let this = ManuallyDrop::new(self);
        this.core.put(this.slot, bits);
    }
}

impl<E: Env> Drop for AbsentEntry<'_, '_, E> {
    fn drop(&mut self) {
        self.core.put(self.slot, self.bits);
    }
}
