//! The top-level page table of a space, and which CPU has which loaded.
//!
//! A table that a processor may walk must not become anything else. So it is counted: by its space,
//! by each reference that a caller has, and by each CPU that loaded it. The crate itself has the
//! last kind of count, one for each CPU, and changes it in the same call that writes the CPU's root
//! register: no code can give a table back that a CPU is on.

use alloc::sync::Arc;
use alloc::vec::Vec;

use tailpin::{Order, Pfn, Zone};

use crate::block_guard::drop_block;
use crate::env::Env;
use crate::env::sync::EnvLock;

/// A top-level page table, and what the environment keeps for its space. Its frame is given back
/// with the last count.
pub(crate) struct TableRoot<'z, E: Env> {
    zone: &'z Zone<'z>,
    frame: Pfn,
    pub(crate) context: E::Context,
}

impl<'z, E: Env> TableRoot<'z, E> {
    /// A table in `frame`, whose one reference is the caller's and goes with the value.
    pub(crate) fn new(zone: &'z Zone<'z>, frame: Pfn, context: E::Context) -> Arc<Self> {
        Arc::new(Self { zone, frame, context })
    }

    /// Frame of the table.
    pub(crate) fn frame(&self) -> Pfn {
        self.frame
    }
}

impl<E: Env> Drop for TableRoot<'_, E> {
    /// The space has ended, so no thread walks the table by software, and no CPU has it loaded.
    fn drop(&mut self) {
        drop_block(self.zone, self.frame, Order::PAGE);
    }
}

/// The table that each CPU has in its root register, by the CPU's number; `None` for the kernel's
/// own.
pub(crate) struct LoadedTables<'z, E: Env> {
    /// Each is written by its CPU only: its lock is never waited for.
    cpus: Vec<EnvLock<E, Option<Arc<TableRoot<'z, E>>>>>,
}

impl<'z, E: Env> LoadedTables<'z, E> {
    /// For CPUs that have the kernel's own table.
    pub(crate) fn new(cpus: usize) -> Self {
        Self { cpus: (0..cpus).map(|_| EnvLock::new(None)).collect() }
    }

    /// Makes the CPU that the caller is on load a table, or the kernel's own.
    pub(crate) fn switch(&self, env: &E, table: Option<Arc<TableRoot<'z, E>>>) {
        let entry = table.as_ref().map(|table| (table.frame, &table.context));
        let mut kept = table.clone();
        let mut before = None;
        env.load(entry, &mut |cpu| {
            let slot = self.cpus.get(cpu);
            let slot = slot.unwrap_or_else(|| panic!("CPU {cpu} of {} has loaded a table", self.cpus.len()));
            before = core::mem::replace(&mut *slot.write(), kept.take());
            // The CPU leaves a context only for another one.
            let left = |old: &Arc<_>| table.as_ref().is_none_or(|table| !Arc::ptr_eq(table, old));
            if let Some(old) = before.as_ref().filter(|old| left(old)) {
                env.unloaded(cpu, &old.context);
            }
        });
        // The last count on the table that the CPU had may go here.
        drop(before);
    }
}

impl<E: Env> Drop for LoadedTables<'_, E> {
    /// A table that a CPU still has loaded stays a table for good.
    fn drop(&mut self) {
        self.cpus.drain(..).for_each(|slot| core::mem::forget(slot.into_inner()));
    }
}
