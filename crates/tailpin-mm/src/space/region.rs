//! Regions (VMAs): what a space's addresses stand for.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::addr::{Access, CacheType, PAGE_BYTES, Prot, VirtAddr, VirtRange};
use crate::arch::Flags;
use crate::env::Env;
use crate::mm::HugePages;
use crate::object::page_cache::ObjectPages;
use crate::rmap::{AnonRoot, Rmap};
use crate::space::SpaceInner;

/// What memory is behind a region.
pub(crate) enum RegionBacking<'z, E: Env> {
    /// Private memory that begins as zeroes.
    Anonymous(Arc<AnonRoot<E, SpaceInner<'z, E>>>),
    /// An object; what is written goes to the object's pages.
    Shared(Arc<ObjectPages<'z, E>>),
    /// An object until written to, then private pages of this root.
    Private(Arc<ObjectPages<'z, E>>, Arc<AnonRoot<E, SpaceInner<'z, E>>>),
    /// Frames that the space doesn't count; the index of a page is its frame.
    Foreign(CacheType),
    /// Nothing: addresses that are kept free.
    Guard,
}

impl<E: Env> Clone for RegionBacking<'_, E> {
    fn clone(&self) -> Self {
        match self {
            Self::Anonymous(root) => Self::Anonymous(root.clone()),
            Self::Shared(pages) => Self::Shared(pages.clone()),
            Self::Private(pages, root) => Self::Private(pages.clone(), root.clone()),
            Self::Foreign(cache) => Self::Foreign(*cache),
            Self::Guard => Self::Guard,
        }
    }
}

impl<'z, E: Env> RegionBacking<'z, E> {
    /// The reverse mappings (rmap) in which the region is listed.
    fn rmap(&self) -> impl Iterator<Item = &Rmap<E, SpaceInner<'z, E>>> {
        let (root, pages) = match self {
            Self::Anonymous(root) => (Some(root), None),
            Self::Shared(pages) => (None, Some(pages)),
            Self::Private(pages, root) => (Some(root), Some(pages)),
            Self::Foreign(_) | Self::Guard => (None, None),
        };
        root.map(|root| &root.rmap).into_iter().chain(pages.map(|pages| &pages.rmap))
    }

    /// Whether the pages of both regions belong to the same memory.
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Anonymous(root), Self::Anonymous(other)) => Arc::ptr_eq(root, other),
            (Self::Shared(pages), Self::Shared(other)) => Arc::ptr_eq(pages, other),
            (Self::Private(pages, root), Self::Private(other_pages, other_root)) => {
                Arc::ptr_eq(pages, other_pages) && Arc::ptr_eq(root, other_root)
            }
            (Self::Foreign(cache), Self::Foreign(other)) => cache == other,
            (Self::Guard, Self::Guard) => true,
            _ => false,
        }
    }

    /// The object, if there is one.
    pub(crate) fn object(&self) -> Option<&Arc<ObjectPages<'z, E>>> {
        match self {
            Self::Shared(pages) | Self::Private(pages, _) => Some(pages),
            Self::Anonymous(_) | Self::Foreign(_) | Self::Guard => None,
        }
    }

    /// The root that the region's anonymous pages belong to, if it can have any.
    pub(crate) fn anon_root(&self) -> Option<&Arc<AnonRoot<E, SpaceInner<'z, E>>>> {
        match self {
            Self::Anonymous(root) | Self::Private(_, root) => Some(root),
            Self::Shared(_) | Self::Foreign(_) | Self::Guard => None,
        }
    }
}

/// A region, `vma` in Linux: a range of addresses with one backing and one set of rights.
///
/// # Invariants
///
/// * `range` is not empty, its ends are multiples of [`Region::unit`], and it overlaps no other
///   region of the space.
/// * No leaf reaches over an end of `range`: a border is made between leaves before it is made
///   between regions.
/// * Page `first + n` of the backing is at `range.start` + `n` × 4096 bytes, for every page of the
///   range.
/// * While the region is in the tree, each rmap of its backing has an entry that covers it.
///
/// All fields are written under the space's region lock, held exclusively.
pub(crate) struct Region<'z, E: Env> {
    pub(crate) range: VirtRange,
    pub(crate) prot: Prot,
    pub(crate) huge: HugePages,
    pub(crate) backing: RegionBacking<'z, E>,
    /// Index in its root or object of the page at the first address.
    pub(crate) first: u64,
}

impl<E: Env> Clone for Region<'_, E> {
    fn clone(&self) -> Self {
        Self { backing: self.backing.clone(), ..*self }
    }
}

impl<'z, E: Env> Region<'z, E> {
    /// Index in its root or object of the page at `addr`.
    pub(crate) fn index(&self, addr: VirtAddr) -> u64 {
        self.first.saturating_add(addr.page().saturating_sub(self.range.start.page()))
    }

    /// Bytes of which every border within the region is a multiple.
    pub(crate) fn unit(&self) -> u64 {
        self.backing.object().map_or(PAGE_BYTES, |pages| pages.unit.bytes())
    }

    /// Whether the region's pages are of the hugetlb class.
    pub(crate) fn is_hugetlb(&self) -> bool {
        self.unit() > PAGE_BYTES
    }

    /// The rights that every leaf in the region has.
    pub(crate) fn rights(&self) -> Flags {
        Flags::NONE.with_if(Flags::USER, self.prot.allows(Access::Read)).with_if(Flags::EXEC, self.prot.exec)
    }

    /// Whether the region's backing is this object.
    pub(crate) fn is_of(&self, object: &ObjectPages<'z, E>) -> bool {
        self.backing.object().is_some_and(|pages| pages.id == object.id)
    }

    /// The addresses in the region of the pages with these indices, perhaps none.
    pub(crate) fn range_of(&self, pages: core::ops::Range<u64>) -> VirtRange {
        let at =
            |page: u64| self.range.start.offset(page.saturating_sub(self.first).saturating_mul(PAGE_BYTES));
        VirtRange { start: at(pages.start), end: at(pages.end) }.meet(self.range)
    }

    /// Whether `next` begins where this region ends, in addresses and in pages, and everything else
    /// is the same.
    fn goes_on_in(&self, next: &Self) -> bool {
        self.range.end == next.range.start
            && self.prot == next.prot
            && self.huge == next.huge
            && self.index(self.range.end) == next.first
            && self.backing.is_same(&next.backing)
    }

    /// Cuts the first `bytes` off, as a region of their own.
    fn cut(&mut self, bytes: u64) -> Self {
        let mut front = self.clone();
        front.range.end = front.range.start.offset(bytes);
        self.range.start = front.range.end;
        self.first = self.first.saturating_add(bytes / PAGE_BYTES);
        front
    }
}

/// All regions (VMAs) of a space, by address. Guarded by the space's region lock.
pub(crate) struct Regions<'z, E: Env> {
    tree: BTreeMap<VirtAddr, Region<'z, E>>,
    /// Where the next search for a gap begins.
    next: VirtAddr,
}

/// No mapping is placed below this address, so that small numbers are never addresses.
const LOWEST: VirtAddr = VirtAddr::new(0x1_0000);

impl<'z, E: Env> Regions<'z, E> {
    pub(crate) fn new() -> Self {
        Self { tree: BTreeMap::new(), next: LOWEST }
    }

    /// The region that `addr` is in (`find_vma`).
    pub(crate) fn find(&self, addr: VirtAddr) -> Option<&Region<'z, E>> {
        let (_, region) = self.tree.range(..=addr).next_back()?;
        region.range.contains(addr).then_some(region)
    }

    /// The regions that have an address in `range`, lowest first.
    pub(crate) fn within(&self, range: VirtRange) -> impl Iterator<Item = &Region<'z, E>> {
        let from = self.find(range.start).map_or(range.start, |region| region.range.start);
        let to = range.end.max(from);
        self.tree.range(from..to).map(|(_, region)| region).filter(move |_| !range.is_empty())
    }

    /// The first address in `range` that no region has.
    pub(crate) fn first_gap(&self, range: VirtRange) -> Option<VirtAddr> {
        let mut at = range.start;
        for region in self.within(range) {
            if region.range.start > at {
                return Some(at);
            }
            at = region.range.end;
        }
        (at < range.end).then_some(at)
    }

    /// A free range of `len` bytes that begins at a multiple of `unit`.
    pub(crate) fn find_gap(&self, len: u64, unit: u64, end: VirtAddr) -> Option<VirtAddr> {
        self.gap_from(self.next, len, unit, end).or_else(|| self.gap_from(LOWEST, len, unit, end))
    }

    fn gap_from(&self, from: VirtAddr, len: u64, unit: u64, end: VirtAddr) -> Option<VirtAddr> {
        let align_up = |addr: VirtAddr| addr.offset(unit.saturating_sub(1)).align_down(unit);
        let mut at = align_up(from);
        let everything = VirtRange { start: from, end };
        for region in self.within(everything) {
            if VirtRange::new(at, len).end <= region.range.start {
                break;
            }
            at = at.max(align_up(region.range.end));
        }
        let found = VirtRange::new(at, len);
        (found.len() == len && found.end <= end).then_some(at)
    }

    /// Adds a region where there is none.
    pub(crate) fn insert(&mut self, space: &Arc<SpaceInner<'z, E>>, region: Region<'z, E>) {
        self.next = region.range.end;
        self.place(space, region);
    }

    /// Puts a region into the tree and into the rmap of its backing, in the place of one that
    /// begins where it does.
    fn place(&mut self, space: &Arc<SpaceInner<'z, E>>, region: Region<'z, E>) {
        for rmap in region.backing.rmap() {
            rmap.attach(space, space.id, region.range, region.first);
        }
        self.tree.insert(region.range.start, region);
    }

    fn remove(&mut self, space: &Arc<SpaceInner<'z, E>>, start: VirtAddr) -> Option<Region<'z, E>> {
        let region = self.tree.remove(&start)?;
        for rmap in region.backing.rmap() {
            rmap.detach(space.id, start);
        }
        Some(region)
    }

    /// Makes `at` a border between regions, if it is inside one.
    fn cut_at(&mut self, space: &Arc<SpaceInner<'z, E>>, at: VirtAddr) {
        let Some(inside) = self.find(at).map(|region| region.range) else { return };
        if inside.start < at
            && let Some(mut back) = self.tree.remove(&inside.start)
        {
            let front = back.cut(at.get().saturating_sub(inside.start.get()));
            // The back first: in the rmap every page has an entry all the time, or a truncation
            // would miss it. The front's entry then takes the place of that of the whole.
            self.place(space, back);
            self.place(space, front);
        }
    }

    /// Makes the ends of `range` borders between regions.
    pub(crate) fn cut(&mut self, space: &Arc<SpaceInner<'z, E>>, range: VirtRange) {
        self.cut_at(space, range.start);
        self.cut_at(space, range.end);
    }

    /// Joins regions at the borders in `range`, its ends included, where everything on both sides
    /// is the same (`vma_merge`): a huge page fits there again.
    pub(crate) fn join(&mut self, space: &Arc<SpaceInner<'z, E>>, range: VirtRange) {
        let borders: Vec<VirtAddr> = self.tree.range(range.start..=range.end).map(|(at, _)| *at).collect();
        for at in borders {
            let Some(back) = self.tree.get(&at) else { continue };
            let before = self.tree.range(..at).next_back();
            let Some((_, front)) = before.filter(|(_, front)| front.goes_on_in(back)) else { continue };
            let mut whole = front.clone();
            whole.range.end = back.range.end;
            // In the rmap the entry of the whole takes the place of that of the front before that
            // of the back goes: every page has an entry all the time.
            self.place(space, whole);
            self.remove(space, at);
        }
    }

    /// Takes all regions in `range` out, cutting those at its ends.
    pub(crate) fn take(&mut self, space: &Arc<SpaceInner<'z, E>>, range: VirtRange) -> Vec<Region<'z, E>> {
        self.cut(space, range);
        let starts: Vec<VirtAddr> = self.within(range).map(|region| region.range.start).collect();
        starts.into_iter().filter_map(|start| self.remove(space, start)).collect()
    }

    /// Changes every region in `range`, cutting those at its ends.
    pub(crate) fn change(
        &mut self,
        space: &Arc<SpaceInner<'z, E>>,
        range: VirtRange,
        change: impl Fn(&mut Region<'z, E>),
    ) {
        self.cut(space, range);
        for (_, region) in self.tree.range_mut(range.start..range.end) {
            change(region);
        }
    }

    /// Every region, lowest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Region<'z, E>> {
        self.tree.values()
    }
}
