//! Collapse of an object's pages in its page cache (khugepaged for files and shared memory).

use alloc::vec::Vec;
use core::ops::Range;

use tailpin::{Order, Request};

use crate::addr::{PAGE_BYTES, VirtAddr};
use crate::env::Env;
use crate::env::sync::EnvLock;
use crate::error::CollapseError;
use crate::frame_info::PageOwner;
use crate::object::page_cache::{CacheBlock, ObjectPages, PageCache};
use crate::ops::collapse::{CollapseLimits, CollapseOutcome};

/// Pages of a page cache that faults don't map until this is dropped.
struct BusyPages<'c, E: Env> {
    cache: &'c EnvLock<E, PageCache>,
    pages: Range<u64>,
}

impl<E: Env> Drop for BusyPages<'_, E> {
    fn drop(&mut self) {
        self.cache.write().busy.retain(|busy| *busy != self.pages);
    }
}

impl<E: Env> ObjectPages<'_, E> {
    /// Makes the 512 pages from the aligned `index` one block of the page cache: by merging them
    /// where they are, with their pins, if they are the frames of one aligned block in order, else
    /// by copying, if none of them is pinned.
    #[expect(clippy::arithmetic_side_effects, reason = "pages of an object of less than 2^64 bytes")]
    pub(crate) fn collapse(
        &self,
        index: u64,
        limits: CollapseLimits,
        addr: VirtAddr,
    ) -> Result<CollapseOutcome, CollapseError> {
        let frames = Order::HUGE.frames();
        let pages = index..index + frames;
        if !index.is_multiple_of(frames) {
            return Err(CollapseError::NotEligible { addr });
        }
        {
            let mut cache = self.cache.write();
            if cache.find(index).is_some_and(|block| block.order >= Order::HUGE) {
                return Ok(CollapseOutcome::AlreadyHuge);
            }
            if cache.is_busy(&pages) || pages.end > cache.len.div_ceil(PAGE_BYTES) {
                return Err(CollapseError::NotEligible { addr });
            }
            let present: u64 = cache.blocks.range(pages.clone()).map(|(_, block)| block.order.frames()).sum();
            let absent = (frames - present) as u32;
            if present == 0 {
                return Err(CollapseError::Nothing { addr });
            }
            if absent > limits.max_ptes_none {
                return Err(CollapseError::TooManyAbsent { addr, absent });
            }
            // From here on no fault maps these pages, so once they are cleared they stay so.
            cache.busy.push(pages.clone());
        }
        let _busy = BusyPages { cache: &self.cache, pages: pages.clone() };
        self.clear_everywhere(pages.clone(), false);
        self.collapse_unmapped(&mut self.cache.write(), pages, addr)
    }

    /// Collapses pages for which no space has a leaf: all counts on them besides the page cache's
    /// are pins.
    #[expect(clippy::arithmetic_side_effects, reason = "blocks of these pages, at their index or after")]
    fn collapse_unmapped(
        &self,
        cache: &mut PageCache,
        pages: Range<u64>,
        addr: VirtAddr,
    ) -> Result<CollapseOutcome, CollapseError> {
        let core = &self.core;
        let index = pages.start;
        // A truncation may have removed pages since they were counted.
        let blocks: Vec<CacheBlock> = cache.blocks.range(pages).map(|(_, block)| *block).collect();
        let first = *blocks.first().ok_or(CollapseError::Nothing { addr })?;
        let head = first.head;
        let in_order = first.index == index
            && head.is_aligned(Order::HUGE)
            && blocks.iter().map(|block| block.order.frames()).sum::<u64>() == Order::HUGE.frames()
            && blocks.iter().all(|block| block.head == head.offset(block.index - index));
        let in_place = in_order && core.merge_huge(head);
        let new = if in_place {
            head
        } else {
            let sole = |block: &&CacheBlock| {
                let state = core.zone.state(block.head);
                state.is_none_or(|state| state.refs != 1 || state.pins != 0)
            };
            if let Some(pinned) = blocks.iter().find(sole) {
                return Err(CollapseError::Pinned { addr: addr.offset((pinned.index - index) * PAGE_BYTES) });
            }
            let new = core
                .allocate(Request::new(Order::HUGE))
                .map_err(|_| CollapseError::OutOfMemory { addr })?
                .pfn();
            core.clear(new, Order::HUGE);
            for block in &blocks {
                core.copy_frames(block.head, new.offset(block.index - index), block.order.frames());
            }
            core.infos.describe(new, Order::HUGE.frames(), PageOwner::Object(self.id), index);
            new
        };
        blocks.iter().for_each(|block| {
            cache.blocks.remove(&block.index);
        });
        cache.insert(CacheBlock { index, head: new, order: Order::HUGE });
        if in_place {
            return Ok(CollapseOutcome::InPlace);
        }
        blocks.into_iter().for_each(|block| core.drop_block(block.head, block.order));
        Ok(CollapseOutcome::ByCopy)
    }
}
