//! The fault on an object's page: the page cache has it or makes it, and a leaf maps it.

use alloc::sync::Arc;

use tailpin::Order;

use crate::addr::{Level, PAGE_BYTES, VirtAddr, VirtRange};
use crate::arch::{Arch, Flags, Leaf, TableEntry};
use crate::env::Env;
use crate::error::{FaultError, Shortage};
use crate::object::page_cache::{CacheBlock, ObjectPages, PageCache};
use crate::ops::fault::FaultTurn;
use crate::page_table::walk::Entries;
use crate::space::SpaceInner;
use crate::space::region::{Region, RegionBacking};

impl<'z, E: Env> ObjectPages<'z, E> {
    /// Puts a leaf for the page at `addr` in place; allocates the page if the cache has none. With
    /// the space's region lock shared.
    #[expect(clippy::arithmetic_side_effects, reason = "pages of an object of less than 2^64 bytes")]
    pub(crate) fn map_page(
        self: &Arc<Self>,
        space: &SpaceInner<'z, E>,
        region: &Region<'z, E>,
        addr: VirtAddr,
    ) -> Result<Result<FaultTurn, Shortage>, FaultError> {
        let index = region.index(addr);
        let refuse = |cache: &PageCache| {
            if index >= cache.len.div_ceil(PAGE_BYTES) {
                return Err(FaultError::BeyondEnd { addr });
            }
            Ok(cache.is_busy(&(index..index + 1)))
        };
        {
            let cache = self.cache.read();
            if refuse(&cache)? {
                return Ok(Ok(FaultTurn::Yield));
            }
            if let Some(block) = cache.find(index) {
                return Ok(self.map_block(space, region, addr, block, cache.len));
            }
        }
        let mut cache = self.cache.write();
        if refuse(&cache)? {
            return Ok(Ok(FaultTurn::Yield));
        }
        Ok(self
            .page(&mut cache, index, region.huge)
            .and_then(|block| self.map_block(space, region, addr, block, cache.len)))
    }

    /// Maps the page at `addr`, which is in `block`: all of a huge block where it fits, else 4 KiB.
    /// With the page cache locked.
    #[expect(clippy::arithmetic_side_effects, reason = "the block contains the page at `addr`")]
    fn map_block(
        &self,
        space: &SpaceInner<'z, E>,
        region: &Region<'z, E>,
        addr: VirtAddr,
        block: CacheBlock,
        len: u64,
    ) -> Result<FaultTurn, Shortage> {
        let shared = matches!(region.backing, RegionBacking::Shared(_));
        let flags = region
            .rights()
            .with(Flags::ACCESSED)
            .with_if(Flags::EXCLUSIVE, shared)
            .with_if(Flags::WRITE, shared && region.prot.write);
        if self.unit > Order::PAGE {
            self.put_leaf(space, addr, Level::of(self.unit), Leaf { frame: block.head, flags })?;
            return Ok(FaultTurn::Again);
        }
        let huge = VirtRange::huge_around(addr);
        // All of it has to be within the object, so that an access beyond the end is an error.
        let fits = block.order >= Order::HUGE
            && space.fits_huge(region, addr)
            && region.index(huge.start) == block.index
            && block.pages().end <= len.div_ceil(PAGE_BYTES);
        if fits && self.put_leaf(space, addr, Level::PMD, Leaf { frame: block.head, flags })? {
            return Ok(FaultTurn::Again);
        }
        let frame = block.head.offset(region.index(addr) - block.index);
        self.put_leaf(space, addr, Level::PTE, Leaf { frame, flags: flags.with(Flags::BY_PIN) })?;
        Ok(FaultTurn::Again)
    }

    /// Puts a leaf in place if its entry is empty; false if there is a table instead.
    fn put_leaf(
        &self,
        space: &SpaceInner<'z, E>,
        addr: VirtAddr,
        level: Level,
        leaf: Leaf,
    ) -> Result<bool, Shortage> {
        let core = &self.core;
        let slot = core.make_slot(space.root(), addr, level)?;
        let bits = core.bits(slot);
        if slot.level != level || bits != 0 {
            return Ok(!matches!(E::Arch::decode(slot.level, bits), TableEntry::Table(_)));
        }
        // The page cache, which is locked, has a reference: so counting fails only at the count's
        // limit.
        core.count_leaf(level, leaf)?;
        if !core.change(slot, 0, E::Arch::leaf(level, leaf)) {
            core.uncount_leaf(level, leaf);
        }
        Ok(true)
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;
    use crate::{Map, Mm, MmConfig, ObjectConfig, Prot, Ram};

    #[test]
    fn a_fault_on_any_page_that_a_collapse_works_on_yields() {
        let ram = Ram::new(16 << 20);
        let zone = ram.zone().unwrap();
        let mm = Mm::new(&zone, ram.env(), ram.infos(), MmConfig::default()).unwrap();
        let (space, bytes) = (mm.space().unwrap(), 8 * PAGE_BYTES);
        let object = mm.object(ObjectConfig::new(bytes)).unwrap();
        let addr = space.map(Map::shared(&object, 0, bytes, Prot::READ_WRITE)).unwrap();
        let busy = 2..5;
        object.pages.cache.write().busy.push(busy.clone());
        let regions = space.inner.regions.read();
        let region = regions.find(addr).unwrap();
        for page in 0..8 {
            let at = addr.offset(page * PAGE_BYTES);
            let turn = object.pages.map_page(&space.inner, region, at).unwrap().unwrap();
            assert_eq!(matches!(turn, FaultTurn::Yield), busy.contains(&page), "page {page}");
        }
    }
}
