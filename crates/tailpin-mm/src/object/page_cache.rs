//! An object's cache: blocks of any order, and the leaves that map them.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use tailpin::{Order, Pfn, Request};

use crate::addr::{Level, PAGE_BYTES, VirtAddr, VirtRange};
use crate::arch::{Arch, Entry, Flags, Leaf};
use crate::env::Env;
use crate::env::sync::Locked;
use crate::error::{FaultError, PageSplitError, Shortage};
use crate::mm::Core;
use crate::object::{ObjectConfig, Source};
use crate::ops::fault::{Turn, huge_around};
use crate::page_table::frame_info::Owner;
use crate::page_table::gup_fast::Entries;
use crate::space::Inner;
use crate::space::region::{Backing, HugePages, Region};
use crate::space::rmap::Reverse;

/// A block in the cache, of which the cache has a reference. Its index is a multiple of its size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cached {
    pub(crate) index: u64,
    pub(crate) head: Pfn,
    pub(crate) order: Order,
}

impl Cached {
    pub(crate) fn pages(self) -> Range<u64> {
        self.index..self.index + self.order.frames()
    }
}

pub(crate) struct Cache {
    /// Length of the object in bytes.
    pub(crate) len: u64,
    pub(crate) blocks: BTreeMap<u64, Cached>,
    /// Pages that are being collapsed: faults wait.
    pub(crate) busy: Vec<Range<u64>>,
}

impl Cache {
    pub(crate) fn find(&self, index: u64) -> Option<Cached> {
        let (_, block) = self.blocks.range(..=index).next_back()?;
        block.pages().contains(&index).then_some(*block)
    }

    pub(crate) fn insert(&mut self, block: Cached) {
        self.blocks.insert(block.index, block);
    }

    pub(crate) fn is_busy(&self, pages: &Range<u64>) -> bool {
        self.busy.iter().any(|busy| busy.start < pages.end && pages.start < busy.end)
    }

    fn is_empty(&self, pages: Range<u64>) -> bool {
        self.find(pages.start).is_none() && self.blocks.range(pages).next().is_none()
    }
}

pub(crate) struct Pages<'z, E: Env> {
    pub(crate) core: Arc<Core<'z, E>>,
    pub(crate) id: u64,
    /// Blocks are of this order and don't split, unless it is that of a page.
    pub(crate) unit: Order,
    huge: bool,
    pub(crate) tracks_writes: bool,
    source: Option<Arc<dyn Source + 'z>>,
    pub(crate) cache: Locked<E, Cache>,
    pub(crate) reverse: Reverse<'z, E>,
}

impl<'z, E: Env> Pages<'z, E> {
    pub(crate) fn new(core: &Arc<Core<'z, E>>, config: ObjectConfig<'z>) -> Self {
        let ObjectConfig { len, unit, huge, tracks_writes, source } = config;
        let (core, id, reverse) = (core.clone(), core.new_id(), Reverse::new());
        let cache = Locked::new(Cache { len, blocks: BTreeMap::new(), busy: Vec::new() });
        Self { core, id, unit, huge, tracks_writes, source, cache, reverse }
    }

    /// Puts a leaf for the page at `addr` in place, making the page if there is none. With the
    /// space's regions shared.
    pub(crate) fn map_page(
        self: &Arc<Self>,
        space: &Inner<'z, E>,
        region: &Region<'z, E>,
        addr: VirtAddr,
    ) -> Result<Result<Turn, Shortage>, FaultError> {
        let index = region.index(addr);
        let refuse = |cache: &Cache| {
            if index >= cache.len.div_ceil(PAGE_BYTES) {
                return Err(FaultError::BeyondEnd { addr });
            }
            Ok(cache.is_busy(&(index..index + 1)))
        };
        {
            let cache = self.cache.read();
            if refuse(&cache)? {
                return Ok(Ok(Turn::Yield));
            }
            if let Some(block) = cache.find(index) {
                return Ok(self.map_block(space, region, addr, block, cache.len));
            }
        }
        let mut cache = self.cache.write();
        if refuse(&cache)? {
            return Ok(Ok(Turn::Yield));
        }
        Ok(self
            .page(&mut cache, index, region.huge)
            .and_then(|block| self.map_block(space, region, addr, block, cache.len)))
    }

    /// The block that page `index` is in, made if there is none: no huge one for a region that is
    /// to have none.
    fn page(&self, cache: &mut Cache, index: u64, advice: HugePages) -> Result<Cached, Shortage> {
        if let Some(block) = cache.find(index) {
            return Ok(block);
        }
        let aligned = index & !(Order::HUGE.frames() - 1);
        if self.unit > Order::PAGE {
            return self.new_block(cache, index & !(self.unit.frames() - 1), self.unit);
        }
        if self.huge && advice != HugePages::Never && cache.is_empty(aligned..aligned + Order::HUGE.frames())
        {
            match self.new_block(cache, aligned, Order::HUGE) {
                Err(Shortage::Frames(_)) => {}
                done => return done,
            }
        }
        self.new_block(cache, index, Order::PAGE)
    }

    fn new_block(&self, cache: &mut Cache, index: u64, order: Order) -> Result<Cached, Shortage> {
        let request = Request::new(order);
        let request = if self.unit > Order::PAGE { request.unsplittable() } else { request };
        // The source is the caller's code: if it panics, the block is free again.
        let head = self.core.allocate(request)?.pfn();
        let made = Made::new(&self.core, Cached { index, head, order });
        self.core.clear(head, order);
        self.core.infos.describe(head, order.frames(), Owner::Object(self.id), index);
        if let Some(source) = &self.source {
            for i in 0..order.frames() {
                let mut page = [0; PAGE_BYTES as usize];
                source.fill(index + i, &mut page);
                self.core.write_bytes(head.offset(i), 0, &page);
            }
        }
        let block = made.keep();
        cache.insert(block);
        Ok(block)
    }

    /// Maps the page at `addr`, which is in `block`: all of a huge block where it fits, else 4 KiB.
    /// With the cache locked.
    fn map_block(
        &self,
        space: &Inner<'z, E>,
        region: &Region<'z, E>,
        addr: VirtAddr,
        block: Cached,
        len: u64,
    ) -> Result<Turn, Shortage> {
        let shared = matches!(region.backing, Backing::Shared(_));
        let flags = region
            .rights()
            .with(Flags::ACCESSED)
            .with_if(Flags::OWN, shared)
            .with_if(Flags::WRITE, shared && region.prot.write);
        if self.unit > Order::PAGE {
            self.put_leaf(space, addr, Level::of(self.unit), Leaf { frame: block.head, flags })?;
            return Ok(Turn::Again);
        }
        let huge = huge_around(addr);
        // All of it has to be within the object, so that an access beyond the end is an error.
        let fits = block.order >= Order::HUGE
            && space.fits_huge(region, addr)
            && region.index(huge.start) == block.index
            && block.pages().end <= len.div_ceil(PAGE_BYTES);
        if fits && self.put_leaf(space, addr, Level::PMD, Leaf { frame: block.head, flags })? {
            return Ok(Turn::Again);
        }
        let frame = block.head.offset(region.index(addr) - block.index);
        self.put_leaf(space, addr, Level::PTE, Leaf { frame, flags: flags.with(Flags::BY_PIN) })?;
        Ok(Turn::Again)
    }

    /// False if there is a table where the leaf would go.
    fn put_leaf(
        &self,
        space: &Inner<'z, E>,
        addr: VirtAddr,
        level: Level,
        leaf: Leaf,
    ) -> Result<bool, Shortage> {
        let core = &self.core;
        let slot = core.make_slot(space.root, addr, level)?;
        let bits = core.bits(slot);
        if slot.level != level || bits != 0 {
            return Ok(!matches!(E::Arch::decode(slot.level, bits), Entry::Table(_)));
        }
        // The cache, which is locked, has a reference: so the count succeeds but for its limit.
        core.count_leaf(level, leaf)?;
        if !core.change(slot, 0, E::Arch::leaf(level, leaf)) {
            core.uncount_leaf(level, leaf);
        }
        Ok(true)
    }

    /// Makes `at` a border between blocks, splitting only what is around it.
    pub(crate) fn cut_at(&self, cache: &mut Cache, at: u64) {
        let Some(block) = cache.find(at).filter(|block| block.index != at) else { return };
        let raw = self.core.zone.raw();
        let page = block.head.offset(at - block.index);
        // Infallible: the page is in the block, and blocks that don't split are only ever cut at
        // their borders.
        let split = raw.split_around(self.core.token(block.head, block.order), page, Order::PAGE);
        debug_assert!(split.is_ok(), "a block of the cache splits");
        self.note_pieces(cache, block);
    }

    /// Replaces a block by the pieces it has been split to.
    fn note_pieces(&self, cache: &mut Cache, block: Cached) {
        cache.blocks.remove(&block.index);
        let mut at = 0;
        while at < block.order.frames() {
            let head = block.head.offset(at);
            let order = self.core.zone.state(head).map_or(Order::PAGE, |state| state.order);
            cache.insert(Cached { index: block.index + at, head, order });
            at += order.frames();
        }
    }

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
            // Of small pieces, too, a mapping may be left that an earlier call had no frame to
            // split.
            block
        };
        for place in self.reverse.places(block.pages()) {
            let regions = place.space.regions.read();
            for region in regions.within(place.range).filter(|region| self.is_behind(region)) {
                let range = Self::range_in(region, block.pages());
                let split = place.space.split_leaves(range, |_, leaf| !leaf.flags.has(Flags::ANON));
                split.map_err(|shortage| PageSplitError::from_shortage(shortage, addr))?;
            }
        }
        Ok(block.order.min(order))
    }

    /// Whether the region maps this object.
    pub(crate) fn is_behind(&self, region: &Region<'z, E>) -> bool {
        region.backing.object().is_some_and(|object| object.id == self.id)
    }

    /// The addresses of `region` at which pages `pages` are.
    pub(crate) fn range_in(region: &Region<'z, E>, pages: Range<u64>) -> VirtRange {
        let from = pages.start.max(region.first) - region.first;
        let to = pages.end.max(region.first) - region.first;
        let start = region.range.start.offset(from * PAGE_BYTES);
        VirtRange { start, end: region.range.start.offset(to.saturating_mul(PAGE_BYTES)) }.meet(region.range)
    }
}

/// A reference on a block that goes back when this is dropped.
pub(crate) struct Made<'c, 'z, E: Env> {
    core: &'c Core<'z, E>,
    block: Cached,
}

impl<'c, 'z, E: Env> Made<'c, 'z, E> {
    pub(crate) fn new(core: &'c Core<'z, E>, block: Cached) -> Self {
        Self { core, block }
    }

    /// The reference is the caller's.
    pub(crate) fn keep(self) -> Cached {
        core::mem::ManuallyDrop::new(self).block
    }
}

impl<E: Env> Drop for Made<'_, '_, E> {
    fn drop(&mut self) {
        self.core.drop_block(self.block.head, self.block.order);
    }
}

impl<E: Env> Drop for Pages<'_, E> {
    fn drop(&mut self) {
        // No mapping is left, as each holds a handle.
        let blocks = core::mem::take(&mut self.cache.write().blocks);
        blocks.into_values().for_each(|block| self.core.drop_block(block.head, block.order));
    }
}
