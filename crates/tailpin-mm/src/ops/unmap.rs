//! Unmapping (`munmap`): entries first, translations next, counts last.
//!
//! That order is the whole protocol: a page is given back only when no translation leads to it and
//! no section that found it is open. One shootdown does for all of a range, as its absent entries
//! remember what is to be given back (`page_table/take_out.rs`). Pages without another count are
//! free when `unmap` returns: a huge page of which 4 KiB go is split at once, whatever is pinned in
//! it (Linux queues the split and refuses it while a pin is left).

use alloc::sync::Arc;

use crate::addr::{PAGE_BYTES, VirtAddr, VirtRange};
use crate::arch::{Arch, Flags, Leaf};
use crate::env::{Env, Stale};
use crate::error::{MapError, Shortage};
use crate::page_table::take_out::{Absent, TakeOut};
use crate::page_table::walk::{Entries, WalkEnd};
use crate::space::region::Regions;
use crate::space::{Space, SpaceInner};

impl<'z, E: Env> Space<'z, E> {
    /// Unmaps every address in the range, any multiple of 4 KiB (of the unit for hugetlb);
    /// addresses where nothing is mapped may be in it. Every page that has no other mapping and no
    /// pin is free on return (`munmap`).
    ///
    /// # Errors
    /// [`MapError::Empty`], [`MapError::Misaligned`], [`MapError::OutOfRange`];
    /// [`MapError::OutOfMemory`] if an end of the range is inside a huge page and there is no frame
    /// for the page table to map the rest of it by. Nothing was unmapped then.
    pub fn unmap(&self, addr: VirtAddr, len: u64) -> Result<(), MapError> {
        let range = checked_range::<E>(addr, len)?;
        let inner = &self.inner;
        let mut regions = inner.regions.write();
        inner.split_ends(&regions, range)?;
        inner.clear_range(range);
        regions.take(inner, range);
        Ok(())
    }
}

/// The range of `len` bytes from `addr`, if it is one of whole pages in user space.
pub(crate) fn checked_range<E: Env>(addr: VirtAddr, len: u64) -> Result<VirtRange, MapError> {
    let range = VirtRange::new(addr, len);
    if len == 0 {
        return Err(MapError::Empty);
    }
    for value in [addr.get(), len] {
        if value % PAGE_BYTES != 0 {
            return Err(MapError::Misaligned { value, unit: PAGE_BYTES });
        }
    }
    if range.len() != len || range.end > E::Arch::USER_END {
        return Err(MapError::OutOfRange { addr });
    }
    Ok(range)
}

impl<'z, E: Env> SpaceInner<'z, E> {
    /// Makes the ends of `range` borders between leaves. With the region lock held exclusively. No
    /// access shows a difference, so the first split need not be undone if the second fails.
    pub(crate) fn split_ends(&self, regions: &Regions<'z, E>, range: VirtRange) -> Result<(), MapError> {
        self.check_units(regions, range)?;
        for end in [range.start, range.end] {
            self.split_at(end)?;
        }
        Ok(())
    }

    /// An error if an end of `range` may not be a border of regions (hugetlb).
    #[expect(clippy::arithmetic_side_effects, reason = "a region contains it; a unit is not 0")]
    pub(crate) fn check_units(&self, regions: &Regions<'z, E>, range: VirtRange) -> Result<(), MapError> {
        for end in [range.start, range.end] {
            let Some(region) = regions.find(end).filter(|region| region.range.start != end) else { continue };
            let unit = region.unit();
            if (end.get() - region.range.start.get()) % unit != 0 {
                return Err(MapError::Misaligned { value: end.get(), unit });
            }
        }
        Ok(())
    }

    /// Makes `at` a border between leaves. With the region lock held exclusively.
    pub(crate) fn split_at(&self, at: VirtAddr) -> Result<(), Shortage> {
        if at >= E::Arch::USER_END {
            return Ok(());
        }
        loop {
            let found = self.core.look_up(self.root(), at);
            let inside = found.slot.reach(at).start != at;
            if !inside || self.core.leaf_of(found).is_none() {
                return Ok(());
            }
            let _leaves = self.leaves.write();
            self.split_leaf(found, at)?;
        }
    }

    /// Calls `f` for each leaf that meets `range`, lowest first, with the walk's end and the
    /// address at which the leaf begins. `f` may change the entry. With the region lock held, so
    /// that tables stay.
    pub(crate) fn for_each_leaf(&self, range: VirtRange, mut f: impl FnMut(WalkEnd, VirtAddr, Leaf)) {
        let mut at = range.start;
        while at < range.end {
            let found = self.core.look_up(self.root(), at);
            let reach = found.slot.reach(at);
            if let Some(leaf) = self.core.leaf_of(found) {
                f(found, reach.start, leaf);
            }
            at = reach.end;
        }
    }

    /// Removes all leaves in `range`, whose ends are borders, and the tables that become empty,
    /// with one shootdown if anything was there. With the region lock held exclusively.
    pub(crate) fn clear_range(&self, range: VirtRange) {
        let mut absent = Absent::default();
        let all = TakeOut { leaves: &|_| true, tables: true };
        self.core.make_absent(self.root(), range, &all, &mut absent);
        self.give_back(range, &absent);
    }

    /// Takes the empty page tables in `range` out of use, and invalidates what is `stale` besides.
    /// With the region lock held exclusively.
    pub(crate) fn free_pgtables(&self, range: VirtRange, mut stale: Absent) {
        let tables = TakeOut { leaves: &|_| false, tables: true };
        self.core.make_absent(self.root(), range, &tables, &mut stale);
        self.give_back(range, &stale);
    }

    /// Invalidates what is stale, then gives back what the absent entries in `range` led to.
    pub(crate) fn give_back(&self, range: VirtRange, absent: &Absent) {
        if let Some(stale) = absent.stale() {
            self.invalidate(stale);
            self.core.give_back_absent(self.root(), range);
        }
    }

    /// Invalidates stale translations, and waits for the sections of this space.
    pub(crate) fn invalidate(&self, stale: Stale) {
        self.core.env.invalidate(&self.table.context, stale);
    }

    /// Removes everything, as the space ends. With the region lock held exclusively.
    ///
    /// No thread is inside a section of the space, as it has no handle any more. A CPU may still
    /// have the table loaded and its translations cached; without any there is nothing to
    /// invalidate.
    pub(crate) fn clear_all(&self, user: VirtRange) {
        let mut absent = Absent::default();
        let all = TakeOut { leaves: &|_| true, tables: true };
        self.core.make_absent(self.root(), user, &all, &mut absent);
        if Arc::strong_count(&self.table) > 1 {
            self.give_back(user, &absent);
        } else {
            self.core.give_back_absent(self.root(), user);
        }
    }

    /// Removes the leaves that map an object's own pages in `range`; with `copies`, also the
    /// private copies made of them. With the region lock shared: the object makes sure that no page
    /// comes back.
    pub(crate) fn clear_object(&self, range: VirtRange, copies: bool) {
        if range.is_empty() {
            return;
        }
        let wanted = |leaf: Leaf| copies || !leaf.flags.has(Flags::ANON);
        let _leaves = self.leaves.write();
        for end in [range.start, range.end] {
            let found = self.core.look_up(self.root(), end);
            let inside = found.slot.reach(end).start != end;
            if inside && self.core.leaf_of(found).is_some_and(wanted) {
                // Without a frame for the table, the whole leaf goes: an object's pages can be
                // mapped again by a fault.
                let _ = self.split_leaf(found, end);
            }
        }
        let mut absent = Absent::default();
        let what = TakeOut { leaves: &wanted, tables: false };
        self.core.make_absent(self.root(), range, &what, &mut absent);
        self.give_back(range, &absent);
    }

    /// Waits for the thread that works on the absent entry in `found`, which a walk to `addr` ended
    /// at. With the region lock shared, and no other.
    pub(crate) fn wait_for_absent(&self, found: WalkEnd, addr: VirtAddr) {
        // That thread has this lock, or the region lock exclusively.
        let _leaves = self.leaves.write();
        if self.core.bits(found.slot) == found.bits {
            // There is no such thread: an operation panicked before it could give back what the
            // entry led to.
            let reach = found.slot.reach(addr);
            self.invalidate(Stale { range: reach, tables: true });
            self.core.give_back_entry(found.slot, found.bits, reach);
        }
    }
}
