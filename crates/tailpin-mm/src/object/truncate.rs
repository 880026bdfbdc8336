//! Truncation and holes, under mappings and pins.
//!
//! An operation that removes pages first takes them out of the page cache, under its lock; then it
//! clears the leaves of every space; last it gives back the cache's references. A fault puts its
//! leaf in place while it holds the cache's lock, so it is either before the removal, and its leaf
//! is found and cleared, or after, and finds no page. A pinned page is kept by its pin, with
//! contents, identity and index; everything else is free on return.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::ops::Range;

use crate::addr::{PAGE_BYTES, VirtAddr};
use crate::block_guard::BlockGuard;
use crate::env::Env;
use crate::error::MmError;
use crate::object::page_cache::{CacheBlock, ObjectPages, PageCache};
use crate::object::{Object, check_len};

impl<E: Env> Object<'_, E> {
    /// Makes the object `len` bytes long. What is cut off is unmapped everywhere, private copies of
    /// it too, and free on return but for pages that are pinned; the rest of a page that is cut in
    /// two reads as zeroes if the object grows again.
    ///
    /// # Errors
    /// [`MmError::Misaligned`] for a hugetlb object whose unit does not divide `len`.
    pub fn truncate(&self, len: u64) -> Result<(), MmError> {
        check_len(len, self.pages.unit)?;
        self.pages.set_len(len);
        Ok(())
    }

    /// Makes a hole: the bytes read as zeroes afterwards. Whole pages (for hugetlb: whole units) in
    /// it are free on return but for those that are pinned; private copies stay with the spaces
    /// that made them.
    pub fn punch_hole(&self, bytes: Range<u64>) {
        if !bytes.is_empty() {
            self.pages.clear_hole(bytes);
        }
    }
}

impl<'z, E: Env> ObjectPages<'z, E> {
    /// Changes the object's length.
    fn set_len(&self, len: u64) {
        let unit = self.unit.bytes();
        let first = len.div_ceil(unit).saturating_mul(self.unit.frames());
        let pages = first..u64::MAX.div_ceil(PAGE_BYTES);
        let gone = {
            let mut cache = self.cache.write();
            // Growing shows what was written behind the old end in the last page: that has to be
            // zeroes, too.
            let end = cache.len.min(len);
            self.clear_bytes(&cache, end..end.checked_next_multiple_of(PAGE_BYTES).unwrap_or(u64::MAX));
            cache.len = len;
            self.take(&mut cache, pages.clone())
        };
        self.release(gone, pages, true);
    }

    /// Makes a hole in the object, of whole units and of bytes at its ends.
    fn clear_hole(&self, bytes: Range<u64>) {
        let (unit, frames) = (self.unit.bytes(), self.unit.frames());
        let (first, last) = (bytes.start.div_ceil(unit), bytes.end.checked_div(unit).unwrap_or(0));
        let (pages, gone) = {
            let mut cache = self.cache.write();
            if first >= last {
                return self.clear_bytes(&cache, bytes);
            }
            // At most what `bytes` has: `first` is less than `last`.
            self.clear_bytes(&cache, bytes.start..first.saturating_mul(unit));
            self.clear_bytes(&cache, last.saturating_mul(unit)..bytes.end);
            let pages = first.saturating_mul(frames)..last.saturating_mul(frames);
            (pages.clone(), self.take(&mut cache, pages))
        };
        self.release(gone, pages, false);
    }

    /// Unmaps pages that were taken out of the cache, then gives the cache's references back.
    fn release(&self, gone: Vec<BlockGuard<'z>>, pages: Range<u64>, copies: bool) {
        if !pages.is_empty() {
            self.clear_everywhere(pages, copies);
        }
        drop(gone);
    }

    /// Clears the leaves of every space for these pages, of which the cache has none. A space that
    /// begins to map the object during this call either finds nothing in the cache or has forked
    /// from a space that is cleared later: so spaces that appeared during a round are cleared in
    /// the next.
    pub(crate) fn clear_everywhere(&self, pages: Range<u64>, copies: bool) {
        let mut done = BTreeSet::new();
        loop {
            let places = self.rmap.ranges(pages.clone());
            let new: Vec<_> = places.into_iter().filter(|place| done.insert(place.space.id)).collect();
            if new.is_empty() {
                return;
            }
            for place in new {
                let regions = place.space.regions.read();
                for region in regions.iter().filter(|region| region.is_of(self)) {
                    place.space.clear_object(region.range_of(pages.clone()), copies);
                }
            }
        }
    }

    /// Takes the pages out of the cache, splitting blocks at the ends. The references go to the
    /// caller.
    fn take(&self, cache: &mut PageCache, pages: Range<u64>) -> Vec<BlockGuard<'z>> {
        if pages.is_empty() {
            return Vec::new();
        }
        self.cut_at(cache, pages.start);
        self.cut_at(cache, pages.end);
        let taken: Vec<CacheBlock> = cache.blocks.range(pages).map(|(_, block)| *block).collect();
        taken.iter().for_each(|block| {
            cache.blocks.remove(&block.index);
        });
        taken.into_iter().map(|block| BlockGuard::new(self.core.zone, block.head, block.order)).collect()
    }

    /// Zeroes bytes of pages that stay in the cache.
    fn clear_bytes(&self, cache: &PageCache, bytes: Range<u64>) {
        let mut at = bytes.start;
        while at < bytes.end {
            let page = at / PAGE_BYTES;
            let end = VirtAddr::new(at).align_down(PAGE_BYTES).offset(PAGE_BYTES).get().min(bytes.end);
            if let Some(block) = cache.find(page) {
                let zeroes = [0; PAGE_BYTES as usize];
                let frame = block.head.offset(page.saturating_sub(block.index));
                self.core.write_bytes(
                    frame,
                    (at % PAGE_BYTES) as usize,
                    &zeroes[..end.saturating_sub(at) as usize],
                );
            }
            at = end;
        }
    }
}
