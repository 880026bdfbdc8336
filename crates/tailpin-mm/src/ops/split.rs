//! Splitting a mapping, and splitting the page (folio) under it. The two are separate.
//!
//! * The *mapping* is split when one space needs a part of it: a leaf of 2 MiB becomes a table with
//!   512 leaves. Where no other mapping has the memory, the block is split with it, and each leaf
//!   has a reference on one page. Where another owner has a reference on the block (another space
//!   after `fork`, an object's page cache), it stays whole: the new leaves are pins.
//! * The *page* is split through any space that maps it; all its mappings are found by the rmap and
//!   rewritten. A split never fails because of a pin, and pins stay where they are.
//!
//! Neither changes what a thread reads. Between the huge leaf and the table the entry is absent
//! (break-before-make): a CPU that had the huge translation and the small ones at once would break
//! the rules of Arm, and some x86-64 processors report a machine check. A thread that pins a page
//! at the same time finds the entry absent, or finds by walking again that it has changed; a thread
//! that faults on it waits until the table is there.

use tailpin::Order;

use crate::addr::{Level, PAGE_BYTES, VirtAddr, VirtRange};
use crate::arch::{Arch, Flags, Leaf};
use crate::block_guard::BlockGuard;
use crate::env::Env;
use crate::error::{PageSplitError, Shortage};
use crate::object::page_cache::ObjectPages;
use crate::page_table::walk::{Entries, EntrySlot, WalkEnd};
use crate::space::region::Region;
use crate::space::{Space, SpaceInner};

/// Entries in a table.
const ENTRIES: u64 = 512;

impl<'z, E: Env> SpaceInner<'z, E> {
    /// Splits the 2 MiB leaf in `found`, which reaches `addr`. Does nothing if the entry is no
    /// longer what was found. With the leaf lock, or the region lock exclusively: so the leaf and
    /// its count stay during the call.
    pub(crate) fn split_leaf(&self, found: WalkEnd, addr: VirtAddr) -> Result<(), Shortage> {
        let core = &self.core;
        if core.bits(found.slot) != found.bits || found.slot.level != Level::PMD {
            return Ok(());
        }
        let made = BlockGuard::new(core.zone, core.new_table()?, Order::PAGE);
        let table = made.head();
        let Some((absent, leaf)) = self.break_leaf(found, addr) else { return Ok(()) };
        let zero = leaf.flags.has(Flags::ZERO);
        let anonymous = leaf.flags.has(Flags::ANON);
        let counted = leaf.flags.is_counted();
        let ours = anonymous && (leaf.flags.has(Flags::EXCLUSIVE) || core.is_exclusive(Level::PMD, leaf));
        if ours && counted {
            // The leaf's reference on the block becomes one on each page. Infallible: the block is
            // of the splittable class.
            let split = core.zone.raw().split(core.token(leaf.frame, Order::HUGE), Order::PAGE);
            debug_assert!(split.is_ok(), "anonymous memory splits");
        } else if counted {
            for i in 0..ENTRIES {
                if let Err(shortage) = core.pin(leaf.frame.offset(i)) {
                    (0..i).for_each(|i| core.unpin(leaf.frame.offset(i)));
                    return Err(shortage);
                }
            }
        }
        let flags = leaf.flags.with_if(Flags::BY_PIN, !ours && counted);
        for index in 0..ENTRIES as usize {
            let frame = if zero { core.zero_page() } else { leaf.frame.offset(index as u64) };
            let bits = E::Arch::leaf(Level::PTE, Leaf { frame, flags });
            core.put(EntrySlot { table, index, level: Level::PTE }, bits);
        }
        absent.put(E::Arch::table(made.keep()));
        if !ours && counted {
            core.drop_block(leaf.frame, Order::HUGE);
        }
        Ok(())
    }
}

impl<'z, E: Env> Space<'z, E> {
    /// Splits this space's huge mapping at `addr` into mappings of 4 KiB, if there is one. Other
    /// spaces keep theirs, and the memory stays one block if another owner has a reference on all
    /// of it.
    ///
    /// # Errors
    /// [`PageSplitError::NotPresent`], [`PageSplitError::Unsplittable`] for hugetlb,
    /// [`PageSplitError::OutOfMemory`] without a frame for the table.
    pub fn split_mapping(&self, addr: VirtAddr) -> Result<(), PageSplitError> {
        let regions = self.inner.regions.read();
        let region = regions.find(addr).ok_or(PageSplitError::NotPresent { addr })?;
        if region.is_hugetlb() {
            return Err(PageSplitError::Unsplittable { addr });
        }
        self.inner.split_mapping_at(addr)
    }

    /// Splits the page (folio) at `addr` to pieces of `order`, with any pins outstanding, and in
    /// all spaces the mappings that span more than a piece to mappings of 4 KiB. Returns the order
    /// of the piece that `addr` is in now.
    ///
    /// For an object's page the pieces stay in its cache. An anonymous page that only 4 KiB leaves
    /// map has no reference to it as a whole, so it becomes pages, whatever order was asked for.
    ///
    /// # Errors
    /// [`PageSplitError`]; some mappings may be split then, which changes the speed of accesses and
    /// nothing else.
    #[doc(alias = "split_huge_page")]
    #[doc(alias = "folio")]
    #[expect(clippy::arithmetic_side_effects, reason = "pages of a space")]
    pub fn split_page(&self, addr: VirtAddr, order: Order) -> Result<Order, PageSplitError> {
        let (mapped, object, index, id) = {
            let regions = self.inner.regions.read();
            let region = regions.find(addr).ok_or(PageSplitError::NotPresent { addr })?;
            let found = self.inner.core.look_up(self.inner.root(), addr);
            let leaf = self.inner.core.leaf_of(found).ok_or(PageSplitError::NotPresent { addr })?;
            if region.is_hugetlb() || leaf.flags.has(Flags::FOREIGN) {
                return Err(PageSplitError::Unsplittable { addr });
            }
            let index = region.index(addr);
            let huge = index.saturating_sub(ENTRIES - 1)..index + ENTRIES;
            let anonymous = leaf.flags.has(Flags::ANON);
            let root = region.backing.anon_root().filter(|_| anonymous);
            let places = root.map(|root| root.rmap.ranges(huge));
            let object = region.backing.object().filter(|_| !anonymous).cloned();
            (places, object, index, root.map_or(0, |root| root.id))
        };
        if let Some(pages) = object {
            return pages.split(index, order, addr);
        }
        let frame = self.mapping(addr).ok_or(PageSplitError::NotPresent { addr })?.frame;
        for place in mapped.into_iter().flatten() {
            let regions = place.space.regions.read();
            let root = |region: &&Region<'z, E>| region.backing.anon_root().is_some_and(|root| root.id == id);
            for region in regions.within(place.range).filter(root) {
                let maps_it = |found: &WalkEnd, leaf: Leaf| {
                    let offset = frame.get().wrapping_sub(leaf.frame.get());
                    found.slot.level == Level::PMD && leaf.flags.has(Flags::ANON) && offset < ENTRIES
                };
                let split = place.space.split_leaves(region.range.meet(place.range), maps_it);
                split.map_err(|shortage| PageSplitError::from_shortage(shortage, addr))?;
            }
        }
        let frame = self.mapping(addr).map_or(frame, |mapping| mapping.frame);
        Ok(self.inner.core.zone.head_of(frame).map_or(Order::PAGE, |(_, order)| order))
    }
}

impl<'z, E: Env> SpaceInner<'z, E> {
    /// Splits the leaf at `addr`. With the region lock shared.
    pub(crate) fn split_mapping_at(&self, addr: VirtAddr) -> Result<(), PageSplitError> {
        let _leaves = self.leaves.write();
        let found = self.core.look_up(self.root(), addr);
        if self.core.leaf_of(found).is_none() {
            return Err(PageSplitError::NotPresent { addr });
        }
        self.split_leaf(found, addr).map_err(|shortage| PageSplitError::from_shortage(shortage, addr))
    }

    /// Splits the leaves that meet `range` and of which `meant` is true. With the region lock
    /// shared.
    pub(crate) fn split_leaves(
        &self,
        range: VirtRange,
        meant: impl Fn(&WalkEnd, Leaf) -> bool,
    ) -> Result<(), Shortage> {
        let mut at = range.start;
        while at < range.end {
            let _leaves = self.leaves.write();
            let found = self.core.look_up(self.root(), at);
            if self.core.leaf_of(found).is_some_and(|leaf| meant(&found, leaf)) {
                self.split_leaf(found, at)?;
            }
            at = found.slot.reach(at).end;
        }
        Ok(())
    }

    /// Number of the page at `addr` within its leaf.
    #[expect(clippy::arithmetic_side_effects, reason = "the leaf's reach contains it")]
    pub(crate) fn page_in(found: WalkEnd, addr: VirtAddr) -> u64 {
        (addr.get() - found.slot.reach(addr).start.get()) / PAGE_BYTES
    }
}

impl<'z, E: Env> ObjectPages<'z, E> {
    /// Splits the block of page `index`, mapped at `addr`, and every mapping of it.
    pub(crate) fn split(&self, index: u64, order: Order, addr: VirtAddr) -> Result<Order, PageSplitError> {
        let block = {
            let mut cache = self.cache.write();
            let block = cache.find(index).ok_or(PageSplitError::NotPresent { addr })?;
            if block.order > order {
                let whole = self.core.token(block.head, block.order);
                let split = self.core.zone.raw().split(whole, order);
                split.map_err(|_| PageSplitError::Unsplittable { addr })?;
                self.note_pieces(&mut cache, block);
            } else if block.order >= Order::HUGE {
                return Ok(block.order);
            }
            // A block that is small already may have a huge mapping left, which an earlier call had
            // no frame to split.
            block
        };
        for place in self.rmap.ranges(block.pages()) {
            let regions = place.space.regions.read();
            for region in regions.within(place.range).filter(|region| region.is_of(self)) {
                let range = region.range_of(block.pages());
                let split = place.space.split_leaves(range, |_, leaf| !leaf.flags.has(Flags::ANON));
                split.map_err(|shortage| PageSplitError::from_shortage(shortage, addr))?;
            }
        }
        Ok(block.order.min(order))
    }
}
