//! Objects: files, shared memory, hugetlb. A cache of blocks of any order, and who maps it.
//!
//! # Truncation under mappings and pins
//!
//! Whoever removes pages first takes them out of the cache, under its lock; then has every space clear its leaves; last
//! gives back the cache's references. A fault puts its leaf in place while it holds the cache's lock, so it is either before the
//! removal, and its leaf is found and cleared, or after, and finds no page. A pinned page is kept by its pin, with contents,
//! identity and index; everything else is free on return.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use tailpin::{Order, Pfn, RawBlock, Request};

use crate::addr::{Level, PAGE_BYTES, VirtAddr, VirtRange};
use crate::arch::{Arch, Entry, Flags, Leaf};
use crate::collapse::{CollapseLimits, Collapsed};
use crate::env::Env;
use crate::error::{CollapseError, FaultError, MmError, PageSplitError, Shortage};
use crate::fault::{Turn, huge_around};
use crate::frame_info::Owner;
use crate::mm::{Core, Mm};
use crate::region::Region;
use crate::reverse::Reverse;
use crate::space::Inner;
use crate::sync::Locked;

/// Identity of an object; never used for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub(crate) u64);

impl ObjectId {
    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Where an object's contents come from when they are first used, if not from nothing: a file system.
pub trait Source: Send + Sync {
    /// Fills page `index`, which is all zeroes before. Called with the object's cache locked, so it must not use the
    /// object or a space that maps it.
    fn fill(&self, index: u64, page: &mut [u8; PAGE_BYTES as usize]);
}

/// What kind of object to make.
#[derive(Clone)]
pub struct ObjectConfig<'z> {
    len: u64,
    unit: Order,
    huge: bool,
    tracks_writes: bool,
    source: Option<Arc<dyn Source + 'z>>,
}

impl<'z> ObjectConfig<'z> {
    /// `len` bytes of zeroes in pages of 4 KiB.
    pub const fn new(len: u64) -> Self {
        Self { len, unit: Order::PAGE, huge: false, tracks_writes: false, source: None }
    }

    /// With blocks of 2 MiB in the cache wherever they fit, also beyond the end.
    #[must_use]
    pub fn huge(mut self) -> Self {
        self.huge = true;
        self
    }

    /// Of the hugetlb class: made of blocks of 2 MiB ([`Order::HUGE`]) or 1 GiB ([`Order::MAX`]) that never split; every
    /// address and length of a mapping is a multiple of that.
    #[must_use]
    pub fn hugetlb(mut self, unit: Order) -> Self {
        self.unit = if unit > Order::HUGE { Order::MAX } else { Order::HUGE };
        self
    }

    /// Every write has to be noticed (a file system that writes back): long-term pins for writing are refused.
    #[must_use]
    pub fn tracks_writes(mut self) -> Self {
        self.tracks_writes = true;
        self
    }

    /// With these contents.
    #[must_use]
    pub fn source(mut self, source: Arc<dyn Source + 'z>) -> Self {
        self.source = Some(source);
        self
    }
}

/// A file, a piece of shared memory, a hugetlb object. Cheap to clone; all clones are the same. The pages go when
/// the last clone and the last mapping are gone.
pub struct Object<'z, E: Env> {
    pub(crate) pages: Arc<Pages<'z, E>>,
}

impl<E: Env> Clone for Object<'_, E> {
    fn clone(&self) -> Self {
        Self { pages: self.pages.clone() }
    }
}

/// A block in the cache, of which the cache has a reference. Its index is a multiple of its size.
#[derive(Clone, Copy, Debug)]
struct Cached {
    index: u64,
    head: Pfn,
    order: Order,
}

impl Cached {
    fn pages(self) -> Range<u64> {
        self.index..self.index + self.order.frames()
    }
}

struct Cache {
    /// Length of the object in bytes.
    len: u64,
    blocks: BTreeMap<u64, Cached>,
    /// Pages that are being collapsed: faults wait.
    busy: Vec<Range<u64>>,
}

impl Cache {
    fn find(&self, index: u64) -> Option<Cached> {
        let (_, block) = self.blocks.range(..=index).next_back()?;
        block.pages().contains(&index).then_some(*block)
    }

    fn insert(&mut self, block: Cached) {
        self.blocks.insert(block.index, block);
    }

    fn is_busy(&self, pages: &Range<u64>) -> bool {
        self.busy.iter().any(|busy| busy.start < pages.end && pages.start < busy.end)
    }

    fn is_empty(&self, pages: Range<u64>) -> bool {
        self.find(pages.start).is_none() && self.blocks.range(pages).next().is_none()
    }
}

pub(crate) struct Pages<'z, E: Env> {
    core: Arc<Core<'z, E>>,
    pub(crate) id: u64,
    /// Blocks are of this order and don't split, unless it is that of a page.
    pub(crate) unit: Order,
    huge: bool,
    pub(crate) tracks_writes: bool,
    source: Option<Arc<dyn Source + 'z>>,
    cache: Locked<E, Cache>,
    pub(crate) reverse: Reverse<'z, E>,
}

impl<'z, E: Env> Mm<'z, E> {
    /// A new object.
    ///
    /// # Errors
    /// [`MmError::Misaligned`] if a hugetlb object's length is no multiple of its unit.
    pub fn object(&self, config: ObjectConfig<'z>) -> Result<Object<'z, E>, MmError> {
        let ObjectConfig { len, unit, huge, tracks_writes, source } = config;
        check_len(len, unit)?;
        let core = self.core.clone();
        let cache = Locked::new(Cache { len, blocks: BTreeMap::new(), busy: Vec::new() });
        let (id, reverse) = (core.new_id(), Reverse::new());
        Ok(Object { pages: Arc::new(Pages { core, id, unit, huge, tracks_writes, source, cache, reverse }) })
    }
}

fn check_len(len: u64, unit: Order) -> Result<(), MmError> {
    let bytes = if unit > Order::PAGE { unit.bytes() } else { 1 };
    if len % bytes == 0 { Ok(()) } else { Err(MmError::Misaligned { value: len, unit: bytes }) }
}

impl<E: Env> Object<'_, E> {
    /// Its identity, never used again.
    pub fn id(&self) -> ObjectId {
        ObjectId(self.pages.id)
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.pages.cache.read().len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Order of the blocks that a hugetlb object is made of; else that of a page.
    pub fn unit(&self) -> Order {
        self.pages.unit
    }

    /// Blocks in its cache: index of the first page, first frame, order; by index. A snapshot.
    pub fn blocks(&self) -> Vec<(u64, Pfn, Order)> {
        let cache = self.pages.cache.read();
        cache.blocks.values().map(|block| (block.index, block.head, block.order)).collect()
    }

    /// Makes it `len` bytes long. What is cut off is unmapped everywhere, private copies of it too, and free on return
    /// but for pages that are pinned; the rest of a page that is cut in two reads as zeroes if the object grows again.
    ///
    /// # Errors
    /// [`MmError::Misaligned`] for a hugetlb object whose unit does not divide `len`.
    pub fn truncate(&self, len: u64) -> Result<(), MmError> {
        check_len(len, self.pages.unit)?;
        let old = core::mem::replace(&mut self.pages.cache.write().len, len);
        if len < old {
            self.pages.remove(len, u64::MAX, true);
        }
        Ok(())
    }

    /// Makes a hole: the bytes read as zeroes afterwards. Whole pages (for hugetlb: whole units) in it are free on return
    /// but for those that are pinned; private copies stay with who made them.
    pub fn punch_hole(&self, bytes: Range<u64>) {
        if !bytes.is_empty() {
            self.pages.remove(bytes.start, bytes.end, false);
        }
    }
}

impl<E: Env> fmt::Debug for Object<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Object({}, {} bytes)", self.pages.id, self.len())
    }
}

impl<'z, E: Env> Pages<'z, E> {
    /// Puts a leaf for the page at `addr` in place, making the page if there is none. With the space's regions shared.
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
            .page(&mut cache, index)
            .and_then(|block| self.map_block(space, region, addr, block, cache.len)))
    }

    /// The block that page `index` is in, made if there is none.
    fn page(&self, cache: &mut Cache, index: u64) -> Result<Cached, Shortage> {
        if let Some(block) = cache.find(index) {
            return Ok(block);
        }
        let aligned = index & !(Order::HUGE.frames() - 1);
        if self.unit > Order::PAGE {
            return self.new_block(cache, index & !(self.unit.frames() - 1), self.unit);
        }
        if self.huge && cache.is_empty(aligned..aligned + Order::HUGE.frames()) {
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
        let head = self.core.allocate(request)?.pfn();
        self.core.clear(head, order);
        self.core.infos.describe(head, order.frames(), Owner::Object(self.id), index);
        if let Some(source) = &self.source {
            for i in 0..order.frames() {
                let mut page = [0; PAGE_BYTES as usize];
                source.fill(index + i, &mut page);
                self.core.write_bytes(head.offset(i), 0, &page);
            }
        }
        let block = Cached { index, head, order };
        cache.insert(block);
        Ok(block)
    }

    /// Maps the page at `addr`, which is in `block`: all of a huge block where it fits, else 4 KiB. With the cache locked.
    fn map_block(
        &self,
        space: &Inner<'z, E>,
        region: &Region<'z, E>,
        addr: VirtAddr,
        block: Cached,
        len: u64,
    ) -> Result<Turn, Shortage> {
        let shared = matches!(region.backing, crate::region::Backing::Shared(_));
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

    /// Removes the pages that lie wholly between two bytes, and clears what is left of others.
    fn remove(&self, from: u64, to: u64, truncate: bool) {
        let unit = self.unit.bytes();
        let pages = from.div_ceil(unit) * self.unit.frames()..to / unit * self.unit.frames();
        let gone = {
            let mut cache = self.cache.write();
            self.clear_edges(&cache, from, to);
            self.take(&mut cache, pages.clone())
        };
        self.clear_everywhere(pages, truncate);
        gone.into_iter().for_each(|block| self.core.drop_block(block.head, block.order));
    }

    /// Has every space clear its leaves for these pages, of which the cache has none. A space that begins to map the
    /// object meanwhile either finds nothing in the cache or has forked from one that is cleared later: so spaces that
    /// turned up during a round are cleared in the next.
    fn clear_everywhere(&self, pages: Range<u64>, copies: bool) {
        let mut done = BTreeSet::new();
        loop {
            let places = self.reverse.places(pages.clone());
            let new: Vec<_> = places.into_iter().filter(|place| done.insert(place.space.id)).collect();
            if new.is_empty() {
                return;
            }
            for place in new {
                let regions = place.space.regions.read();
                let mine = |region: &&Region<'z, E>| {
                    region.backing.object().is_some_and(|object| object.id == self.id)
                };
                for region in regions.iter().filter(mine) {
                    place.space.clear_object(Self::range_in(region, pages.clone()), copies);
                }
            }
        }
    }

    /// Takes the pages out of the cache, splitting blocks at the ends. The references are the caller's.
    fn take(&self, cache: &mut Cache, pages: Range<u64>) -> Vec<Cached> {
        if pages.is_empty() {
            return Vec::new();
        }
        self.cut_at(cache, pages.start);
        self.cut_at(cache, pages.end);
        let taken: Vec<Cached> = cache.blocks.range(pages).map(|(_, block)| *block).collect();
        taken.iter().for_each(|block| {
            cache.blocks.remove(&block.index);
        });
        taken
    }

    /// Makes `at` a border between blocks, splitting only what is around it.
    fn cut_at(&self, cache: &mut Cache, at: u64) {
        let Some(block) = cache.find(at).filter(|block| block.index != at) else { return };
        let raw = self.core.zone.raw();
        let page = block.head.offset(at - block.index);
        // Infallible: the page is in the block, and blocks that don't split are only ever cut at their borders.
        let split = raw.split_around(RawBlock::from_parts(block.head, block.order, 0), page, Order::PAGE);
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

    /// Clears the bytes between the two that lie in pages which stay.
    fn clear_edges(&self, cache: &Cache, from: u64, to: u64) {
        let clear = |from: u64, to: u64| {
            let mut at = from;
            while at < to {
                let end = (at / PAGE_BYTES + 1).saturating_mul(PAGE_BYTES).min(to);
                if let Some(block) = cache.find(at / PAGE_BYTES) {
                    let frame = block.head.offset(at / PAGE_BYTES - block.index);
                    let zeroes = [0; PAGE_BYTES as usize];
                    let in_page = (at % PAGE_BYTES) as usize;
                    self.core.write_bytes(frame, in_page, &zeroes[..(end - at) as usize]);
                }
                at = end;
            }
        };
        let unit = self.unit.bytes();
        let (first, last) = (from.div_ceil(unit).saturating_mul(unit), to / unit * unit);
        if first > last {
            return clear(from, to);
        }
        clear(from, first.min(to));
        if to != u64::MAX {
            clear(last, to);
        }
    }

    /// Splits the block of page `index`, mapped at `addr`, and every mapping of it.
    pub(crate) fn split(&self, index: u64, order: Order, addr: VirtAddr) -> Result<Order, PageSplitError> {
        let block = {
            let mut cache = self.cache.write();
            let block = cache.find(index).ok_or(PageSplitError::NotPresent { addr })?;
            if block.order <= order {
                return Ok(block.order);
            }
            let whole = RawBlock::from_parts(block.head, block.order, 0);
            let split = self.core.zone.raw().split(whole, order);
            split.map_err(|_| PageSplitError::Unsplittable { addr })?;
            self.note_pieces(&mut cache, block);
            block
        };
        for place in self.reverse.places(block.pages()) {
            let _regions = place.space.regions.read();
            place
                .space
                .split_all(place.range)
                .map_err(|shortage| PageSplitError::from_shortage(shortage, addr))?;
        }
        Ok(order)
    }

    /// Makes the 512 pages from the aligned `index` one block of the cache: by merging them where they are, pins and all, if
    /// they are the frames of one aligned block in order, else by copying, if none of them is pinned.
    pub(crate) fn collapse(
        &self,
        index: u64,
        limits: CollapseLimits,
        addr: VirtAddr,
    ) -> Result<Collapsed, CollapseError> {
        let frames = Order::HUGE.frames();
        let pages = index..index + frames;
        if index % frames != 0 {
            return Err(CollapseError::NotEligible { addr });
        }
        {
            let mut cache = self.cache.write();
            if cache.find(index).is_some_and(|block| block.order >= Order::HUGE) {
                return Ok(Collapsed::AlreadyHuge);
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
        self.clear_everywhere(pages.clone(), false);
        let mut cache = self.cache.write();
        let done = self.collapse_unmapped(&mut cache, pages.clone(), addr);
        cache.busy.retain(|busy| *busy != pages);
        done
    }

    /// With no leaf anywhere for these pages: what counts there are besides the cache's are pins.
    fn collapse_unmapped(
        &self,
        cache: &mut Cache,
        pages: Range<u64>,
        addr: VirtAddr,
    ) -> Result<Collapsed, CollapseError> {
        let core = &self.core;
        let index = pages.start;
        // Truncation may have come in between.
        let blocks: Vec<Cached> = cache.blocks.range(pages).map(|(_, block)| *block).collect();
        let first = *blocks.first().ok_or(CollapseError::Nothing { addr })?;
        let head = first.head;
        let in_order = first.index == index
            && head.is_aligned(Order::HUGE)
            && blocks.iter().map(|block| block.order.frames()).sum::<u64>() == Order::HUGE.frames()
            && blocks.iter().all(|block| block.head == head.offset(block.index - index));
        let in_place = in_order && core.zone.raw().merge(head, Order::HUGE).is_ok();
        let new = if in_place {
            head
        } else {
            let sole = |block: &&Cached| {
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
                for i in 0..block.order.frames() {
                    core.copy_frame(block.head.offset(i), new.offset(block.index - index + i));
                }
            }
            core.infos.describe(new, Order::HUGE.frames(), Owner::Object(self.id), index);
            new
        };
        blocks.iter().for_each(|block| {
            cache.blocks.remove(&block.index);
        });
        cache.insert(Cached { index, head: new, order: Order::HUGE });
        if in_place {
            return Ok(Collapsed::InPlace);
        }
        blocks.into_iter().for_each(|block| core.drop_block(block.head, block.order));
        Ok(Collapsed::ByCopy)
    }

    /// The addresses of `region` at which pages `pages` are.
    pub(crate) fn range_in(region: &Region<'z, E>, pages: Range<u64>) -> VirtRange {
        let from = pages.start.max(region.first) - region.first;
        let to = pages.end.max(region.first) - region.first;
        let start = region.range.start.offset(from * PAGE_BYTES);
        VirtRange { start, end: region.range.start.offset(to.saturating_mul(PAGE_BYTES)) }.meet(region.range)
    }
}

impl<E: Env> Drop for Pages<'_, E> {
    fn drop(&mut self) {
        // No mapping is left, as each holds a handle.
        let blocks = core::mem::take(&mut self.cache.write().blocks);
        blocks.into_values().for_each(|block| self.core.drop_block(block.head, block.order));
    }
}
