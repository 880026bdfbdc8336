//! Changing what mappings allow (`mprotect`).

use crate::addr::{Prot, VirtAddr};
use crate::arch::{Arch, Flags, Leaf};
use crate::env::{Env, Stale};
use crate::error::MapError;
use crate::ops::unmap::checked_range;
use crate::page_table::walk::{Entries, WalkEnd};
use crate::space::{Space, SpaceInner};

impl<E: Env> Space<'_, E> {
    /// Changes what the mappings of a range allow, any multiple of 4 KiB (of the unit for hugetlb)
    /// (`mprotect`). Rights that are taken away are gone on return; rights to write that are given
    /// come with the next fault. Pins stay as they are.
    ///
    /// # Errors
    /// [`MapError::Unmapped`] if a part of the range is not mapped, and the errors of
    /// [`Space::unmap`]; nothing was changed then.
    pub fn protect(&self, addr: VirtAddr, len: u64, prot: Prot) -> Result<(), MapError> {
        let range = checked_range::<E>(addr, len)?;
        let inner = &self.inner;
        let mut regions = inner.regions.write();
        if let Some(addr) = regions.first_gap(range) {
            return Err(MapError::Unmapped { addr });
        }
        inner.split_ends(&regions, range)?;
        regions.change(inner, range, |region| region.prot = prot);
        for region in regions.within(range) {
            let rights = region.rights();
            inner.for_each_leaf(region.range, |found, _, _| inner.set_rights(found, rights, prot.write));
        }
        regions.join(inner, range);
        inner.invalidate(Stale { range, tables: false });
        Ok(())
    }
}

impl<E: Env> SpaceInner<'_, E> {
    /// Sets the rights of a leaf. With the region lock held exclusively: only the hardware changes
    /// the entry at the same time, by setting accessed and dirty.
    fn set_rights(&self, mut found: WalkEnd, rights: Flags, write: bool) {
        while let Some(leaf) = self.core.leaf_of(found) {
            let stays = leaf.flags.without(Flags::USER.with(Flags::EXEC)).with(rights);
            let flags = if write { stays } else { stays.without(Flags::WRITE) };
            let bits = E::Arch::leaf(found.slot.level, Leaf { flags, ..leaf });
            if self.core.change(found.slot, found.bits, bits) {
                return;
            }
            found.bits = self.core.bits(found.slot);
        }
    }
}
