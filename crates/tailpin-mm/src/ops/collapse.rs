//! Collapse (khugepaged): 512 small pages become one huge page (THP).
//!
//! *In place* where they are the 512 frames of one aligned 2 MiB in order, each with no other
//! mapping: the core merges them, with their pins, and nothing is copied. *By copy* else, which is
//! refused only if a page that would have to move is pinned.
//!
//! The table's entry is made absent first, and translations invalidated: break-before-make, as a
//! table of 4 KiB leaves and a 2 MiB leaf overlap. From then on a thread that is about to pin
//! finds, walking again from the root, that the entry is gone (H19); faults wait for the region
//! lock, which is held exclusively. Only then are the counts read. If a page is pinned or a frame
//! is missing, the table goes back as it was. The invalidation has
//! waited for every walk without a lock that may have been in the table, so it is free at once when
//! it was replaced.

use core::sync::atomic::AtomicU64;

use tailpin::{Order, Pfn, Request};

use crate::addr::{Level, PAGE_BYTES, VirtAddr, VirtRange};
use crate::arch::{Arch, Flags, Leaf, TableEntry};
use crate::block_guard::BlockGuard;
use crate::env::{Env, Stale};
use crate::error::CollapseError;
use crate::frame_info::PageOwner;
use crate::mm::HugePages;
use crate::page_table::absent::AbsentEntry;
use crate::page_table::gup_fast::{AllSafeguards, change_barrier};
use crate::page_table::walk::{Entries, EntrySlot, WalkEnd};
use crate::rmap::AnonRoot;
use crate::space::region::{Region, RegionBacking};
use crate::space::{Space, SpaceInner};

/// Limits up to which a collapse is worth its cost (khugepaged's `max_ptes_none`,
/// `max_ptes_shared`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "khugepaged")]
pub struct CollapseLimits {
    /// Most pages that may be absent (they become present, as zeroes), of 512.
    pub max_ptes_none: u32,
    /// Most pages that other spaces may share (they are copied), of 512.
    pub max_ptes_shared: u32,
}

impl CollapseLimits {
    /// No limit but that some page is present: what [`Advice::Collapse`](crate::Advice::Collapse)
    /// uses.
    pub const NONE: Self = Self { max_ptes_none: 511, max_ptes_shared: 512 };
}

impl Default for CollapseLimits {
    /// The defaults of Linux' khugepaged: 511 absent, 256 shared.
    fn default() -> Self {
        Self { max_ptes_none: 511, max_ptes_shared: 256 }
    }
}

/// How a collapse was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CollapseOutcome {
    /// The memory was a huge page already.
    AlreadyHuge,
    /// The small pages were the frames of one block in order, and were merged where they are.
    InPlace,
    /// The contents were copied to a new block.
    ByCopy,
}

/// What the 512 entries of a table map.
#[derive(Default)]
struct Survey {
    present: u32,
    shared: u32,
    /// The first frame, if the pages are the frames of one aligned block in order.
    in_order: Option<Pfn>,
}

impl<'z, E: Env> Space<'z, E> {
    /// Makes the aligned 2 MiB around `addr` one huge page, also in a region to which
    /// [`MmConfig`](crate::MmConfig) gives none by default; a region of [`HugePages::Never`] stays
    /// as it is.
    ///
    /// # Errors
    /// [`CollapseError`]; then nothing was changed.
    #[doc(alias = "khugepaged")]
    #[doc(alias = "THP")]
    pub fn collapse(&self, addr: VirtAddr, limits: CollapseLimits) -> Result<CollapseOutcome, CollapseError> {
        let range = VirtRange::huge_around(addr);
        let not_eligible = CollapseError::NotEligible { addr: range.start };
        let object = {
            let regions = self.inner.regions.write();
            let region =
                regions.find(addr).filter(|region| region.range.covers(range) && !region.is_hugetlb());
            let region = region.ok_or(not_eligible)?;
            if region.huge == HugePages::Never {
                return Err(CollapseError::NoHugePages { addr: range.start });
            }
            match &region.backing {
                RegionBacking::Anonymous(root) => {
                    return self.inner.collapse_own(region, root, range, limits);
                }
                RegionBacking::Shared(pages) => (pages.clone(), region.index(range.start)),
                RegionBacking::Private(..) | RegionBacking::Foreign(_) | RegionBacking::Guard => {
                    return Err(not_eligible);
                }
            }
        };
        let (pages, index) = object;
        let done = pages.collapse(index, limits, range.start)?;
        // The next fault maps all of the block, unless it is mapped so already.
        let regions = self.inner.regions.write();
        let same = |region: &&Region<'z, E>| region.range.covers(range) && region.is_of(&pages);
        let same_page = |region: &&Region<'z, E>| region.index(range.start) == index;
        let found = self.inner.core.look_up(self.inner.root(), range.start);
        let whole = found.slot.level == Level::PMD && self.inner.core.leaf_of(found).is_some();
        if !whole && regions.find(addr).filter(same).is_some_and(|region| same_page(&region)) {
            self.inner.clear_range(range);
        }
        Ok(done)
    }
}

impl<'z, E: Env> SpaceInner<'z, E> {
    /// Collapses anonymous memory of the space. With the region lock held exclusively.
    #[expect(clippy::arithmetic_side_effects, reason = "a table has 512 entries")]
    fn collapse_own(
        &self,
        region: &Region<'z, E>,
        root: &AnonRoot<E, SpaceInner<'z, E>>,
        range: VirtRange,
        limits: CollapseLimits,
    ) -> Result<CollapseOutcome, CollapseError> {
        let core = &self.core;
        let addr = range.start;
        let nothing = CollapseError::Nothing { addr };
        let slot = core.slot_at(self.root(), addr, Level::PMD).ok_or(nothing)?;
        let table = match E::Arch::decode(Level::PMD, core.bits(slot)) {
            TableEntry::Table(table) => table,
            TableEntry::Leaf(leaf) if !leaf.flags.has(Flags::ZERO) => {
                return Ok(CollapseOutcome::AlreadyHuge);
            }
            TableEntry::Leaf(_) | TableEntry::Empty => return Err(nothing),
        };
        let survey = self.survey(table);
        if survey.present == 0 {
            return Err(nothing);
        }
        let absent = 512 - survey.present;
        if absent > limits.max_ptes_none {
            return Err(CollapseError::TooManyAbsent { addr, absent });
        }
        if survey.shared > limits.max_ptes_shared {
            return Err(CollapseError::TooManyShared { addr, shared: survey.shared });
        }
        let new_block = || match core.allocate(Request::new(Order::HUGE)) {
            Ok(block) => Ok(BlockGuard::new(core.zone, block.pfn(), Order::HUGE)),
            Err(_) => Err(CollapseError::OutOfMemory { addr }),
        };
        // Before the table is taken out, so that without memory nothing is changed.
        let new = if survey.in_order.is_none() { Some(new_block()?) } else { None };
        let detached = AbsentEntry::new(core, slot);
        self.invalidate(Stale { range, tables: true });
        // Pairs with the barrier in a pin, `gup_fast.rs`: a pin that found its entry unchanged is
        // in the count that is read from here on.
        change_barrier::<AllSafeguards, AtomicU64>();
        let flags = region
            .rights()
            .with(Flags::ANON.with(Flags::EXCLUSIVE).with(Flags::ACCESSED).with(Flags::DIRTY))
            .with_if(Flags::WRITE, region.prot.write);
        // The merge succeeds only with the only reference on each page: so no other space has any
        // of them.
        if let Some(head) = survey.in_order
            && core.merge_huge(head)
        {
            detached.put(E::Arch::leaf(Level::PMD, Leaf { frame: head, flags }));
            core.drop_block(table, Order::PAGE);
            return Ok(CollapseOutcome::InPlace);
        }
        if let Some(addr) = self.first_pinned(table, addr) {
            return Err(CollapseError::Pinned { addr });
        }
        let new = match new {
            Some(block) => block,
            None => new_block()?,
        };
        self.copy_pages(table, new.head());
        core.infos.describe(
            new.head(),
            Order::HUGE.frames(),
            PageOwner::Anonymous(root.id),
            region.index(addr),
        );
        detached.put(E::Arch::leaf(Level::PMD, Leaf { frame: new.keep(), flags }));
        // Translations were invalidated when the table was taken out.
        self.leaves_of(table)
            .filter_map(|(_, leaf)| leaf)
            .for_each(|leaf| core.uncount_leaf(Level::PTE, leaf));
        core.drop_block(table, Order::PAGE);
        Ok(CollapseOutcome::ByCopy)
    }

    /// Copies the pages that `table`, of the last level, maps to the frames from `first` on; where
    /// it maps none, the frame is cleared.
    fn copy_pages(&self, table: Pfn, first: Pfn) {
        for (index, leaf) in self.leaves_of(table) {
            let to = first.offset(index);
            match leaf.filter(|leaf| !leaf.flags.has(Flags::ZERO)) {
                Some(leaf) => self.core.copy_frames(leaf.frame, to, 1),
                None => self.core.clear(to, Order::PAGE),
            }
        }
    }

    /// The entries of a table of the last level.
    fn leaves_of(&self, table: Pfn) -> impl Iterator<Item = (u64, Option<Leaf>)> {
        (0..512).map(move |index| {
            let slot = EntrySlot { table, index, level: Level::PTE };
            (index as u64, self.core.leaf_of(WalkEnd { slot, bits: self.core.bits(slot) }))
        })
    }

    #[expect(clippy::arithmetic_side_effects, reason = "no more than 512 entries")]
    fn survey(&self, table: Pfn) -> Survey {
        let mut survey = Survey::default();
        let mut in_order = true;
        for (index, leaf) in self.leaves_of(table) {
            let Some(leaf) = leaf.filter(|leaf| !leaf.flags.has(Flags::ZERO)) else {
                in_order = false;
                continue;
            };
            survey.present += 1;
            if !leaf.flags.has(Flags::EXCLUSIVE) && !self.core.is_exclusive(Level::PTE, leaf) {
                survey.shared += 1;
            }
            if index == 0 {
                survey.in_order = leaf.frame.is_aligned(Order::HUGE).then_some(leaf.frame);
            }
            let place = survey.in_order.map(|head| head.offset(index));
            in_order &= place == Some(leaf.frame) && !leaf.flags.has(Flags::BY_PIN);
        }
        if !in_order {
            survey.in_order = None;
        }
        survey
    }

    /// The first page that may not move, as it may be pinned through this mapping. Shared pages may
    /// move: their pins were taken through other mappings.
    #[expect(clippy::arithmetic_side_effects, reason = "a page of 2 MiB")]
    fn first_pinned(&self, table: Pfn, start: VirtAddr) -> Option<VirtAddr> {
        let pinned =
            |leaf: Leaf| leaf.flags.has(Flags::EXCLUSIVE) && !self.core.is_exclusive(Level::PTE, leaf);
        let (index, _) = self.leaves_of(table).find(|(_, leaf)| leaf.is_some_and(pinned))?;
        Some(start.offset(index * PAGE_BYTES))
    }
}
