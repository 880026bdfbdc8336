//! The page cache of an object: its pages, in blocks (folios) of any order.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use tailpin::{Order, Pfn, Request};

use crate::addr::PAGE_BYTES;
use crate::block_guard::BlockGuard;
use crate::env::Env;
use crate::env::sync::EnvLock;
use crate::error::Shortage;
use crate::frame_info::PageOwner;
use crate::mm::{HugePages, MmCore};
use crate::object::config::{ObjectConfig, ObjectSource};
use crate::rmap::Rmap;
use crate::space::SpaceInner;

/// A block (folio) in a page cache, which has a reference on it. Its index is a multiple of its
/// size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheBlock {
    /// Index in the object of the block's first page.
    pub(crate) index: u64,
    pub(crate) head: Pfn,
    pub(crate) order: Order,
}

impl CacheBlock {
    #[expect(clippy::arithmetic_side_effects, reason = "pages of an object of less than 2^64 bytes")]
    pub(crate) fn pages(self) -> Range<u64> {
        self.index..self.index + self.order.frames()
    }
}

/// The page cache of one object, guarded by [`ObjectPages::cache`].
///
/// # Invariants
///
/// * Blocks don't overlap, and the cache has one reference on each.
/// * The frame information of each frame in a block says this object and the page's index.
pub(crate) struct PageCache {
    /// Length of the object in bytes.
    pub(crate) len: u64,
    /// Every block, by the index of its first page.
    pub(crate) blocks: BTreeMap<u64, CacheBlock>,
    /// Pages that a collapse works on: a fault on them waits.
    pub(crate) busy: Vec<Range<u64>>,
}

impl PageCache {
    pub(crate) fn find(&self, index: u64) -> Option<CacheBlock> {
        let (_, block) = self.blocks.range(..=index).next_back()?;
        block.pages().contains(&index).then_some(*block)
    }

    pub(crate) fn insert(&mut self, block: CacheBlock) {
        self.blocks.insert(block.index, block);
    }

    pub(crate) fn is_busy(&self, pages: &Range<u64>) -> bool {
        self.busy.iter().any(|busy| busy.start < pages.end && pages.start < busy.end)
    }

    fn is_empty(&self, pages: Range<u64>) -> bool {
        self.find(pages.start).is_none() && self.blocks.range(pages).next().is_none()
    }
}

/// What an object's handles and mappings share (`address_space`). Its fields are fixed once it is
/// made, but for those under a lock.
pub(crate) struct ObjectPages<'z, E: Env> {
    pub(crate) core: Arc<MmCore<'z, E>>,
    pub(crate) id: u64,
    /// Order of all blocks, which don't split then (hugetlb); that of a page if blocks are of any
    /// order.
    pub(crate) unit: Order,
    huge: bool,
    pub(crate) tracks_writes: bool,
    source: Option<Arc<dyn ObjectSource + 'z>>,
    /// Under the object's lock: a thread that reads the cache or maps a page of it holds it shared,
    /// one that changes it exclusively.
    pub(crate) cache: EnvLock<E, PageCache>,
    /// Where the object is mapped. Under its own lock.
    pub(crate) rmap: Rmap<E, SpaceInner<'z, E>>,
}

impl<'z, E: Env> ObjectPages<'z, E> {
    pub(crate) fn new(core: &Arc<MmCore<'z, E>>, config: ObjectConfig<'z>) -> Self {
        let ObjectConfig { len, unit, huge, tracks_writes, source } = config;
        let (core, id, rmap) = (core.clone(), core.new_id(), Rmap::new());
        let cache = EnvLock::new(PageCache { len, blocks: BTreeMap::new(), busy: Vec::new() });
        Self { core, id, unit, huge, tracks_writes, source, cache, rmap }
    }

    /// The block that page `index` is in. If there is none, one is allocated, and not a huge one
    /// for a region with [`HugePages::Never`].
    #[expect(clippy::arithmetic_side_effects, reason = "pages of an object of less than 2^64 bytes")]
    pub(crate) fn page(
        &self,
        cache: &mut PageCache,
        index: u64,
        advice: HugePages,
    ) -> Result<CacheBlock, Shortage> {
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

    #[expect(clippy::arithmetic_side_effects, reason = "pages of an object of less than 2^64 bytes")]
    fn new_block(&self, cache: &mut PageCache, index: u64, order: Order) -> Result<CacheBlock, Shortage> {
        let request = Request::new(order);
        let request = if self.unit > Order::PAGE { request.unsplittable() } else { request };
        // The source is code of the kernel's: if it panics, the block is free again.
        let made = BlockGuard::new(self.core.zone, self.core.allocate(request)?.pfn(), order);
        let head = made.head();
        self.core.clear(head, order);
        self.core.infos.describe(head, order.frames(), PageOwner::Object(self.id), index);
        if let Some(source) = &self.source {
            for i in 0..order.frames() {
                let mut page = [0; PAGE_BYTES as usize];
                source.fill(index + i, &mut page);
                self.core.write_bytes(head.offset(i), 0, &page);
            }
        }
        let block = CacheBlock { index, head: made.keep(), order };
        cache.insert(block);
        Ok(block)
    }

    /// Makes `at` a border between blocks, splitting only what is around it.
    #[expect(clippy::arithmetic_side_effects, reason = "the block contains `at`")]
    pub(crate) fn cut_at(&self, cache: &mut PageCache, at: u64) {
        let Some(block) = cache.find(at).filter(|block| block.index != at) else { return };
        let raw = self.core.zone.raw();
        let page = block.head.offset(at - block.index);
        // Infallible: the page is in the block, and blocks that don't split are only cut at their
        // borders.
        let split = raw.split_around(self.core.token(block.head, block.order), page, Order::PAGE);
        debug_assert!(split.is_ok(), "a block of the cache splits");
        self.note_pieces(cache, block);
    }

    /// Replaces a block in the cache by the pieces that it was split to.
    #[expect(clippy::arithmetic_side_effects, reason = "pages of an object of less than 2^64 bytes")]
    pub(crate) fn note_pieces(&self, cache: &mut PageCache, block: CacheBlock) {
        cache.blocks.remove(&block.index);
        let mut at = 0;
        while at < block.order.frames() {
            let head = block.head.offset(at);
            let order = self.core.zone.state(head).map_or(Order::PAGE, |state| state.order);
            cache.insert(CacheBlock { index: block.index + at, head, order });
            at += order.frames();
        }
    }
}

impl<E: Env> Drop for ObjectPages<'_, E> {
    fn drop(&mut self) {
        // No mapping is left, as each has a handle.
        let blocks = core::mem::take(&mut self.cache.write().blocks);
        blocks.into_values().for_each(|block| self.core.drop_block(block.head, block.order));
    }
}
