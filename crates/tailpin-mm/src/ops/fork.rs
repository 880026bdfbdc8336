//! Fork: a copy of a space that shares its private memory until a thread writes (copy-on-write).
//!
//! # One of fork and pin always notices the other (H21)
//!
//! | fork | pin |
//! | --- | --- |
//! | clears `EXCLUSIVE` and `WRITE` in the leaf | counts its pin |
//! | full barrier | full barrier |
//! | reads the count: more than the leaf's own? | reads the leaf again: still `EXCLUSIVE`? |
//!
//! In whatever order the six steps fall, at least one of the two last reads sees the other's first
//! step. If fork sees a pin, the page is *not* shared: the leaf gets its rights back and the child
//! gets a copy, made now. If the pinning thread sees the leaf changed, it gives the pin back, and
//! its slow path waits for the fork to end. So a pinned page stays the one that its mapping has,
//! and what the parent writes is seen through the pin. A huge page with pins is shared page by
//! page, and only the pages that are pinned are copied.

use core::sync::atomic::AtomicU64;

use tailpin::Request;

use crate::addr::Level;
use crate::arch::{Arch, Flags, Leaf};
use crate::env::Env;
use crate::error::{MapError, Shortage};
use crate::frame_info::PageOwner;
use crate::page_table::gup_fast::{AllSafeguards, change_barrier};
use crate::page_table::take_out::Absent;
use crate::page_table::walk::{Entries, WalkEnd};
use crate::rmap::AnonRoot;
use crate::space::region::Region;
use crate::space::{Space, SpaceInner};

impl<'z, E: Env> Space<'z, E> {
    /// A copy of the space. Private memory is shared until one side writes, huge pages as a whole;
    /// objects are mapped by both.
    ///
    /// # Errors
    /// [`MapError::OutOfMemory`] and [`MapError::CountLimit`]; there is no child then, and the
    /// parent is as before.
    #[doc(alias = "copy-on-write")]
    #[doc(alias = "dup_mm")]
    pub fn fork(&self) -> Result<Self, MapError> {
        let child = self.mm().space().map_err(|_| MapError::OutOfMemory { order: tailpin::Order::PAGE })?;
        let regions = self.inner.regions.write();
        let mut copies = child.inner.regions.write();
        let mut shared = Absent::default();
        let result = regions.iter().try_for_each(|region| {
            copies.insert(&child.inner, region.clone());
            let Some(root) = region.backing.anon_root() else { return Ok(()) };
            self.inner.share_leaves(&child.inner, region, root, &mut shared)
        });
        // Before the child can run, and before this space goes on: no CPU may write to a page that
        // is shared now. One shootdown for all regions.
        if let Some(stale) = shared.stale() {
            self.inner.invalidate(stale);
        }
        drop(copies);
        result?;
        Ok(child)
    }
}

impl<'z, E: Env> SpaceInner<'z, E> {
    /// Maps every anonymous page of the space in `region` in `child`, too; notes in `stale` which
    /// leaves lost rights. With both spaces' region locks held exclusively.
    fn share_leaves(
        &self,
        child: &Self,
        region: &Region<'z, E>,
        root: &AnonRoot<E, SpaceInner<'z, E>>,
        stale: &mut Absent,
    ) -> Result<(), Shortage> {
        let core = &self.core;
        let mut at = region.range.start;
        while at < region.range.end {
            let found = core.look_up(self.root(), at);
            let reach = found.slot.reach(at);
            // An object's pages and zeroes are found again by a fault.
            let own = |leaf: &Leaf| leaf.flags.has(Flags::ANON) && !leaf.flags.has(Flags::ZERO);
            let Some(leaf) = core.leaf_of(found).filter(own) else {
                at = reach.end;
                continue;
            };
            let level = found.slot.level;
            let slot = core.make_slot(child.root(), at, level)?;
            let shared = Leaf { flags: leaf.flags.without(Flags::EXCLUSIVE.with(Flags::WRITE)), ..leaf };
            if leaf.flags.has(Flags::EXCLUSIVE) {
                if !core.change(found.slot, found.bits, E::Arch::leaf(level, shared)) {
                    continue; // The hardware set accessed or dirty.
                }
                stale.add(reach);
                // Pairs with the barrier between a pin and its second walk, `gup_fast.rs` (H21).
                change_barrier::<AllSafeguards, AtomicU64>();
                if !core.is_exclusive(level, leaf) {
                    self.give_back_rights(found, leaf);
                    if level == Level::PMD && !region.is_hugetlb() {
                        let _leaves = self.leaves.write();
                        self.split_leaf(WalkEnd { bits: core.bits(found.slot), ..found }, at)?;
                        continue;
                    }
                    let request = Request::new(level.order());
                    let request = if region.is_hugetlb() { request.unsplittable() } else { request };
                    let new = core.allocate(request)?.pfn();
                    let frames = level.order().frames();
                    core.copy_frames(leaf.frame, new, frames);
                    core.infos.describe(
                        new,
                        frames,
                        PageOwner::Anonymous(root.id),
                        region.index(reach.start),
                    );
                    let flags = leaf.flags.without(Flags::BY_PIN);
                    core.put(slot, E::Arch::leaf(level, Leaf { frame: new, flags }));
                    at = reach.end;
                    continue;
                }
            }
            core.count_leaf(level, leaf)?;
            core.put(slot, E::Arch::leaf(level, shared));
            at = reach.end;
        }
        Ok(())
    }

    fn give_back_rights(&self, found: WalkEnd, leaf: Leaf) {
        let core = &self.core;
        loop {
            let bits = core.bits(found.slot);
            let Some(now) = core.leaf_of(WalkEnd { bits, ..found }) else { return };
            let rights = Flags::EXCLUSIVE.with_if(Flags::WRITE, leaf.flags.has(Flags::WRITE));
            let back = Leaf { flags: now.flags.with(rights), ..now };
            if core.change(found.slot, bits, E::Arch::leaf(found.slot.level, back)) {
                return;
            }
        }
    }
}
