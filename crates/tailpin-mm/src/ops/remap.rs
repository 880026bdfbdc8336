//! Moving mappings to other addresses (`mremap`). The pages stay where they are, with their pins
//! and counts: no migration.
//!
//! First comes everything that may fail: huge leaves that will not fit are split, tables are made.
//! No access shows a difference, so a failure leaves all as it was. Then the entries move, which
//! can't fail.

use alloc::vec::Vec;

use tailpin::Order;

use crate::addr::{Level, PAGE_BYTES, VirtAddr, VirtRange};
use crate::arch::{Arch, Flags};
use crate::env::Env;
use crate::error::{MapError, Shortage};
use crate::ops::unmap::checked_range;
use crate::page_table::take_out::Absent;
use crate::page_table::walk::Entries;
use crate::space::{Space, SpaceInner};

impl<'z, E: Env> Space<'z, E> {
    /// Moves the mappings of a range, any multiple of 4 KiB (of the unit for hugetlb), to `to`, or
    /// without that to a gap, and returns where they are now (`mremap`). Contents, pins and sharing
    /// stay; huge pages stay huge if the distance is a multiple of 2 MiB.
    ///
    /// # Errors
    /// [`MapError::Unmapped`] if a part of the range is not mapped, [`MapError::Occupied`] if
    /// something is mapped at the target (the range itself included), and the errors of
    /// [`Space::map`]; nothing was changed then.
    pub fn remap(&self, addr: VirtAddr, len: u64, to: Option<VirtAddr>) -> Result<VirtAddr, MapError> {
        let range = checked_range::<E>(addr, len)?;
        let inner = &self.inner;
        let mut regions = inner.regions.write();
        if let Some(addr) = regions.first_gap(range) {
            return Err(MapError::Unmapped { addr });
        }
        let unit = regions.within(range).map(|region| region.unit()).max().unwrap_or(PAGE_BYTES);
        let start = match to {
            Some(to) => {
                let target = checked_range::<E>(to, len)?;
                if let Some(region) = regions.within(target).next() {
                    return Err(MapError::Occupied { addr: region.range.start.max(to) });
                }
                to
            }
            None => {
                let large = if len >= Order::HUGE.bytes() { Order::HUGE.bytes() } else { PAGE_BYTES };
                let end = E::Arch::USER_END;
                regions.find_gap(len, unit.max(large), end).ok_or(MapError::NoRoom { len })?
            }
        };
        let distance = start.get().wrapping_sub(addr.get());
        if !distance.is_multiple_of(unit) {
            return Err(MapError::Misaligned { value: start.get(), unit });
        }
        let target = VirtRange::new(start, len);
        inner.split_ends(&regions, range)?;
        if let Err(shortage) = inner.prepare_move(range, distance) {
            inner.free_pgtables(target, Absent::default());
            return Err(shortage.into());
        }
        let moved = inner.move_leaves(range, distance);
        // Until here a stale translation and the new one lead to the same page.
        inner.free_pgtables(range, moved);
        regions.cut(inner, range);
        let moved: Vec<_> = regions.within(range).cloned().collect();
        for mut region in moved {
            region.range = VirtRange::new(shifted(region.range.start, distance), region.range.len());
            regions.insert(inner, region);
        }
        // Only now: a truncation at the same time looks for every range where the object is mapped.
        regions.take(inner, range);
        regions.join(inner, target);
        Ok(start)
    }
}

fn shifted(addr: VirtAddr, distance: u64) -> VirtAddr {
    VirtAddr::new(addr.get().wrapping_add(distance))
}

impl<E: Env> SpaceInner<'_, E> {
    /// Splits the huge leaves that will not fit at their new addresses, and makes the tables there.
    fn prepare_move(&self, range: VirtRange, distance: u64) -> Result<(), Shortage> {
        let mut at = range.start;
        while at < range.end {
            let found = self.core.look_up(self.root(), at);
            let reach = found.slot.reach(at);
            let level = found.slot.level;
            if self.core.leaf_of(found).is_some() {
                if !distance.is_multiple_of(level.bytes()) {
                    let _leaves = self.leaves.write();
                    self.split_leaf(found, at)?;
                    continue;
                }
                self.core.make_slot(self.root(), shifted(at, distance), level)?;
            }
            at = reach.end;
        }
        Ok(())
    }

    /// Moves the entries; returns what is stale then.
    fn move_leaves(&self, range: VirtRange, distance: u64) -> Absent {
        let mut moved = Absent::default();
        self.for_each_leaf(range, |found, start, leaf| {
            moved.add(found.slot.reach(start));
            let bits = self.core.take(found.slot);
            // A page of zeroes is found again by a fault.
            if !leaf.flags.has(Flags::ZERO) {
                let slot = self.core.slot_at(self.root(), shifted(start, distance), found.slot.level);
                // `prepare_move` made the tables, and the region lock is held exclusively.
                self.core.put(slot.expect("the tables were made"), bits);
            }
        });
        moved
    }
}

const _: () = assert!(Level::PMD.bytes() == Order::HUGE.bytes());
