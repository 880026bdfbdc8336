//! Unmapping (`munmap`): entries first, translations next, counts last.
//!
//! That order is the whole protocol: a page is given back only when no translation leads to it and
//! no section that found it is open. Pages without another count are free when `unmap` returns: a
//! huge page of which 4 KiB go is split at once, whatever is pinned in it (Linux queues the split
//! and refuses it while a pin is left).

use alloc::vec::Vec;

use tailpin::Pfn;

use crate::addr::{Level, PAGE_BYTES, VirtAddr, VirtRange};
use crate::arch::{Arch, Flags, Leaf};
use crate::env::Env;
use crate::error::{MapError, Shortage};
use crate::page_table::walk::{Entries, WalkEnd};
use crate::space::region::Regions;
use crate::space::{Space, SpaceInner};

/// At most so many leaves are removed between two invalidations.
const GATHER_SIZE: usize = 64;

/// Leaves that are gone from the table and whose counts are not given back yet (`mmu_gather`).
pub(crate) struct Gather<'a, 'z, E: Env> {
    inner: &'a SpaceInner<'z, E>,
    leaves: [Option<(Level, Leaf)>; GATHER_SIZE],
    number: usize,
    range: Option<VirtRange>,
}

impl<'a, 'z, E: Env> Gather<'a, 'z, E> {
    pub(crate) fn new(inner: &'a SpaceInner<'z, E>) -> Self {
        Self { inner, leaves: [None; GATHER_SIZE], number: 0, range: None }
    }

    /// Takes the count of a leaf that was just removed.
    pub(crate) fn push(&mut self, reach: VirtRange, level: Level, leaf: Leaf) {
        if self.number == GATHER_SIZE {
            self.flush();
        }
        self.leaves[self.number] = Some((level, leaf));
        self.number += 1;
        self.range = Some(self.range.map_or(reach, |range| range.join(reach)));
    }

    /// Invalidates translations, then gives the counts back.
    pub(crate) fn flush(&mut self) {
        let Some(range) = self.range.take() else { return };
        self.inner.core.env.invalidate(self.inner.id, range);
        for (level, leaf) in self.leaves.iter_mut().take(self.number).filter_map(Option::take) {
            self.inner.core.uncount_leaf(level, leaf);
        }
        self.number = 0;
    }
}

impl<E: Env> Drop for Gather<'_, '_, E> {
    fn drop(&mut self) {
        self.flush();
    }
}

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
        let gone = regions.take(inner, range);
        inner.clear_range(range, gone.iter().map(|region| region.range));
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
            let found = self.core.look_up(self.root, at);
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
            let found = self.core.look_up(self.root, at);
            let reach = found.slot.reach(at);
            if let Some(leaf) = self.core.leaf_of(found) {
                f(found, reach.start, leaf);
            }
            at = reach.end;
        }
    }

    /// Removes all leaves in `parts` of `range`, whose ends are borders, and the tables that become
    /// empty. With the region lock held exclusively.
    pub(crate) fn clear_range(&self, range: VirtRange, parts: impl Iterator<Item = VirtRange>) {
        let mut gather = Gather::new(self);
        for part in parts {
            self.for_each_leaf(part, |found, start, _| {
                // A swap: what the hardware sets until the last moment is in the bits.
                let bits = self.core.take(found.slot);
                if let Some(leaf) = self.core.leaf_of(WalkEnd { bits, ..found }) {
                    gather.push(found.slot.reach(start), found.slot.level, leaf);
                }
            });
        }
        gather.flush();
        self.free_pgtables(range);
    }

    /// Takes the empty page tables in `range` out of use. With the region lock held exclusively.
    pub(crate) fn free_pgtables(&self, range: VirtRange) {
        let mut gone: Vec<Pfn> = Vec::new();
        self.core.free_pgtables(self.root, range, &mut |table| gone.push(table));
        if !gone.is_empty() {
            self.core.env.invalidate(self.id, range);
            gone.into_iter().for_each(|table| self.core.retire(table));
        }
    }

    /// Removes the leaves that map an object's own pages in `range`; with `copies`, also the
    /// private copies made of them. With the region lock shared: the object makes sure that no page
    /// comes back.
    pub(crate) fn clear_object(&self, range: VirtRange, copies: bool) {
        let mut gather = Gather::new(self);
        let mut at = range.start;
        let _leaves = self.leaves.write();
        while at < range.end {
            let found = self.core.look_up(self.root, at);
            let reach = found.slot.reach(at);
            let Some(leaf) = self.core.leaf_of(found).filter(|leaf| copies || !leaf.flags.has(Flags::ANON))
            else {
                at = reach.end;
                continue;
            };
            let all = range.covers(reach);
            // Without a frame for the table, the whole leaf goes: an object's pages can be mapped
            // again by a fault.
            if !all && self.split_leaf(found, at).is_ok() {
                continue;
            }
            if self.core.change(found.slot, found.bits, 0) {
                gather.push(reach, found.slot.level, leaf);
                at = reach.end;
            }
        }
    }
}
