//! An address space (`mm_struct`): its regions, its page table, and making new mappings.

pub(crate) mod region;

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::AtomicU64;

use tailpin::{FrameRange, Order, Pfn};

use crate::addr::{CacheType, Level, PAGE_BYTES, Prot, SpaceId, VirtAddr, VirtRange};
use crate::arch::{Arch, Flags};
use crate::block_guard::BlockGuard;
use crate::env::Env;
use crate::env::sync::EnvLock;
use crate::error::{MapError, MmError};
use crate::mm::{HugePages, Mm, MmCore};
use crate::object::Object;
use crate::page_table::walk::{Entries, EntrySlot, LocklessWalk, WalkEnd};
use crate::rmap::{AnonRoot, Rmap};
use crate::root::TableRoot;
use crate::space::region::{Region, RegionBacking, Regions};

/// What is to be mapped, and where.
///
/// ```
/// # use tailpin_mm::*;
/// # let ram = Ram::new(16 << 20);
/// # let zone = ram.zone()?;
/// # let mm = Mm::new(&zone, ram.env(), ram.infos(), MmConfig::default())?;
/// # let space = mm.space()?;
/// let object = mm.object(ObjectConfig::new(1 << 20))?;
/// let stack = space.map(Map::anonymous(64 << 10, Prot::READ_WRITE).huge(HugePages::Never))?;
/// let file = space.map(Map::private(&object, 0, 1 << 20, Prot::READ_EXEC))?;
/// let fixed = space.map(Map::shared(&object, 4096, 8192, Prot::READ_WRITE).at(VirtAddr::new(0x4000_0000)))?;
/// # let _ = (stack, file);
/// assert_eq!(fixed.get(), 0x4000_0000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "vma")]
#[doc(alias = "mmap")]
pub struct Map<'z, E: Env> {
    at: Option<VirtAddr>,
    len: u64,
    prot: Prot,
    huge: HugePages,
    what: MapTarget<'z, E>,
}

enum MapTarget<'z, E: Env> {
    Anonymous,
    Shared(Object<'z, E>, u64),
    Private(Object<'z, E>, u64),
    Foreign(FrameRange, CacheType),
    Guard,
}

impl<'z, E: Env> Map<'z, E> {
    fn new(len: u64, prot: Prot, what: MapTarget<'z, E>) -> Self {
        Self { at: None, len, prot, huge: HugePages::Default, what }
    }

    /// `len` bytes of private memory that begin as zeroes.
    pub fn anonymous(len: u64, prot: Prot) -> Self {
        Self::new(len, prot, MapTarget::Anonymous)
    }

    /// `len` bytes of an object from byte `offset`; what is written there is written to the object.
    /// The mapping may reach beyond the object's end; accesses there are errors until the object
    /// grows.
    pub fn shared(object: &Object<'z, E>, offset: u64, len: u64, prot: Prot) -> Self {
        Self::new(len, prot, MapTarget::Shared(object.clone(), offset))
    }

    /// `len` bytes of an object from byte `offset`, copy-on-write: a page that is written to
    /// becomes the space's own first. The mapping may reach beyond the object's end; accesses there
    /// are errors until the object grows.
    pub fn private(object: &Object<'z, E>, offset: u64, len: u64, prot: Prot) -> Self {
        Self::new(len, prot, MapTarget::Private(object.clone(), offset))
    }

    /// Frames that the space neither counts nor frees: registers of a device, a framebuffer, a page
    /// of the kernel that users may read (vDSO). The processor accesses them; this crate's own
    /// accesses, pins and futexes are refused there with
    /// [`FaultError::Foreign`](crate::FaultError::Foreign).
    ///
    /// # Safety
    /// Until the mapping is gone, in this space and in its forks, what a user does to these frames
    /// as far as `prot` allows breaks no memory of Rust's: they are no memory of the kernel, or it
    /// expects such accesses. Frames of the zone among them stay in use.
    #[allow(unsafe_code)]
    #[doc(alias = "remap_pfn_range")]
    #[doc(alias = "ioremap")]
    pub unsafe fn foreign(frames: FrameRange, cache: CacheType, prot: Prot) -> Self {
        // A length that can't be said is too long for every space.
        let len = frames.frames().checked_mul(PAGE_BYTES).unwrap_or(u64::MAX - (PAGE_BYTES - 1));
        Self::new(len, prot, MapTarget::Foreign(frames, cache))
    }

    /// `len` bytes of addresses that can't be accessed and at which nothing else is mapped.
    pub fn guard(len: u64) -> Self {
        Self::new(len, Prot::NONE, MapTarget::Guard)
    }

    /// Maps at this address, or fails (`MAP_FIXED_NOREPLACE`).
    #[must_use]
    pub fn at(mut self, addr: VirtAddr) -> Self {
        self.at = Some(addr);
        self
    }

    /// Whether the mapping gets huge pages.
    #[must_use]
    pub fn huge(mut self, huge: HugePages) -> Self {
        self.huge = huge;
        self
    }
}

/// What a space has mapped, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Addresses in regions, guards included.
    pub mapped_bytes: u64,
    /// Memory present, the pages of zeroes not included.
    pub present_bytes: u64,
    /// The part of the memory present that leaves of 2 MiB and more map.
    pub huge_bytes: u64,
    /// Reach of leaves that map a page of zeroes.
    pub zero_bytes: u64,
    /// Reach of leaves that map frames which the space doesn't count.
    pub foreign_bytes: u64,
}

/// The page that a leaf maps, as found at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "vma")]
#[doc(alias = "pte")]
pub struct MappedPage {
    /// Frame of the base page asked for.
    pub frame: Pfn,
    /// Size of the leaf: 0, 9 or 18.
    pub order: Order,
    /// Whether the leaf allows writing, without a fault.
    pub writable: bool,
    /// Whether the page is anonymous memory; a page of zeroes is.
    pub anonymous: bool,
    /// Whether pins through the leaf and the mapping never part (anon-exclusive): the page is an
    /// object's mapped shared, or anonymous memory that no other mapping has.
    pub exclusive: bool,
    /// Whether it is a page of zeroes.
    pub zero: bool,
    /// Whether it is a frame that the space doesn't count ([`Map::foreign`]).
    pub foreign: bool,
    /// Whether users may execute what is in it.
    pub executable: bool,
    /// Whether the page was used since it was mapped.
    pub accessed: bool,
    /// Whether the page was written to since it was mapped.
    pub dirty: bool,
}

/// An address space. All methods take `&self`, and any number of threads may call them at once;
/// dropping the space is exit.
///
/// Each method is in the file of its subject: `map` in this one; reading and writing,
/// [`identify`](Space::identify) and the words of futexes in `access.rs`; [`fault`](Space::fault),
/// [`pin_pages`](Space::pin_pages), [`unmap`](Space::unmap), [`protect`](Space::protect),
/// [`advise`](Space::advise), [`remap`](Space::remap), [`fork`](Space::fork),
/// [`split_mapping`](Space::split_mapping), [`split_page`](Space::split_page),
/// [`collapse`](Space::collapse) in files of their names.
///
/// # Invariants
///
/// * A leaf lies within one region, and the memory it maps is that region's backing.
/// * The page table changes only as the table at the head of `page_table/table.rs` says.
/// * Each leaf, but for those of pages of zeroes, stands for one count on the memory it maps.
#[doc(alias = "mm_struct")]
#[doc(alias = "vma")]
pub struct Space<'z, E: Env> {
    pub(crate) inner: Arc<SpaceInner<'z, E>>,
}

/// What a space's handles share: the [`Space`], and the rmaps, weakly.
pub(crate) struct SpaceInner<'z, E: Env> {
    pub(crate) core: Arc<MmCore<'z, E>>,
    pub(crate) id: SpaceId,
    /// The top-level page table. Fixed; its entries change as `page_table/table.rs` says.
    pub(crate) table: Arc<TableRoot<'z, E>>,
    /// The region lock (`mmap_lock`), shared by faults, exclusive for every operation that changes
    /// regions or removes tables. The order of locks is: regions of a parent, regions of its child,
    /// leaf lock, an object's page cache, rmaps.
    pub(crate) regions: EnvLock<E, Regions<'z, E>>,
    /// The leaf lock: a thread that makes a leaf absent holds it, with the region lock shared,
    /// until something else is in the leaf's place.
    pub(crate) leaves: EnvLock<E, ()>,
}

impl<'z, E: Env> Mm<'z, E> {
    /// An address space in which nothing is mapped.
    ///
    /// # Errors
    /// [`MmError::OutOfMemory`] if there is no frame for its page table.
    pub fn space(&self) -> Result<Space<'z, E>, MmError> {
        let core = self.core.clone();
        let made = BlockGuard::new(core.zone, core.new_table()?, Order::PAGE);
        if let Some(kernel) = core.config.kernel_root {
            for index in E::Arch::KERNEL_ENTRIES..512 {
                let slot = EntrySlot { table: kernel, index, level: E::Arch::TOP };
                core.put(EntrySlot { table: made.head(), ..slot }, core.bits(slot));
            }
        }
        let id = SpaceId(core.new_id());
        let context = core.env.new_context(id);
        let table = TableRoot::new(core.zone, made.keep(), context);
        let (regions, leaves) = (EnvLock::new(Regions::new()), EnvLock::new(()));
        Ok(Space { inner: Arc::new(SpaceInner { core, id, table, regions, leaves }) })
    }
}

impl<'z, E: Env> Space<'z, E> {
    /// The space's identity, never used for another one.
    pub fn id(&self) -> SpaceId {
        self.inner.id
    }

    /// A reference to the top-level page table, for a thread that runs on it or may.
    pub fn load(&self) -> RootRef<'z, E> {
        RootRef { core: self.inner.core.clone(), id: self.inner.id, table: self.inner.table.clone() }
    }

    /// Makes the CPU that the caller is on load this space's page table (`switch_mm`), as
    /// [`RootRef::switch_to`] does.
    ///
    /// # Panics
    /// If the environment names a CPU that is not one of [`Tlb::cpus`](crate::Tlb::cpus).
    #[doc(alias = "switch_mm")]
    pub fn switch_to(&self) {
        self.inner.core.loaded.switch(self.inner.core.env, Some(self.inner.table.clone()));
    }

    /// What the environment keeps for the space.
    pub fn context(&self) -> &E::Context {
        &self.inner.table.context
    }

    /// The `Mm` that the space belongs to.
    pub fn mm(&self) -> Mm<'z, E> {
        Mm { core: self.inner.core.clone() }
    }

    /// Maps memory. Nothing is allocated until it is used.
    ///
    /// # Errors
    /// [`MapError::Empty`], [`MapError::Misaligned`] (lengths, addresses and offsets are multiples
    /// of 4 KiB; for hugetlb objects of their unit), [`MapError::OutOfRange`],
    /// [`MapError::Occupied`] if something is mapped at the address asked for,
    /// [`MapError::NoRoom`], [`MapError::FrameTooHigh`].
    #[doc(alias = "mmap")]
    #[expect(clippy::arithmetic_side_effects, reason = "a unit is not 0")]
    pub fn map(&self, map: Map<'z, E>) -> Result<VirtAddr, MapError> {
        let Map { at, len, prot, huge, what } = map;
        let unit = match &what {
            MapTarget::Shared(object, _) | MapTarget::Private(object, _) => object.unit().bytes(),
            MapTarget::Anonymous | MapTarget::Foreign(..) | MapTarget::Guard => PAGE_BYTES,
        };
        let offset = match what {
            MapTarget::Shared(_, offset) | MapTarget::Private(_, offset) => offset,
            MapTarget::Anonymous | MapTarget::Foreign(..) | MapTarget::Guard => 0,
        };
        if len == 0 {
            return Err(MapError::Empty);
        }
        for value in [len, offset, at.map_or(0, VirtAddr::get)] {
            if value % unit != 0 {
                return Err(MapError::Misaligned { value, unit });
            }
        }
        if let MapTarget::Foreign(frames, _) = what
            && frames.end > E::Arch::FRAMES_END
        {
            return Err(MapError::FrameTooHigh { frames: frames.end, most: E::Arch::FRAMES_END });
        }
        let end = E::Arch::USER_END;
        let mut regions = self.inner.regions.write();
        let start = match at {
            Some(addr) => {
                let range = VirtRange::new(addr, len);
                if range.len() != len || range.end > end || addr.get() == 0 {
                    return Err(MapError::OutOfRange { addr });
                }
                if let Some(region) = regions.within(range).next() {
                    return Err(MapError::Occupied { addr: region.range.start.max(addr) });
                }
                addr
            }
            None => {
                let large = if len >= Order::HUGE.bytes() { Order::HUGE.bytes() } else { PAGE_BYTES };
                regions.find_gap(len, unit.max(large), end).ok_or(MapError::NoRoom { len })?
            }
        };
        let root = || Arc::new(AnonRoot { id: self.inner.core.new_id(), rmap: Rmap::new() });
        let (backing, first) = match what {
            MapTarget::Anonymous => (RegionBacking::Anonymous(root()), start.page()),
            MapTarget::Shared(object, offset) => (RegionBacking::Shared(object.pages), offset / PAGE_BYTES),
            MapTarget::Private(object, offset) => {
                (RegionBacking::Private(object.pages, root()), offset / PAGE_BYTES)
            }
            MapTarget::Foreign(frames, cache) => (RegionBacking::Foreign(cache), frames.start.get()),
            MapTarget::Guard => (RegionBacking::Guard, 0),
        };
        let range = VirtRange::new(start, len);
        regions.insert(&self.inner, Region { range, prot, huge, backing, first });
        regions.join(&self.inner, range);
        Ok(start)
    }

    /// What is mapped at `addr` at this moment; `None` if nothing is present. An entry that another
    /// thread is about to replace counts as what it was.
    #[doc(alias = "page table walk")]
    #[doc(alias = "follow_page")]
    #[expect(clippy::arithmetic_side_effects, reason = "the reach of the leaf contains it")]
    pub fn mapping(&self, addr: VirtAddr) -> Option<MappedPage> {
        let core = &self.inner.core;
        if addr >= E::Arch::USER_END {
            return None;
        }
        let section = self.inner.enter();
        let found = core.look_up(self.inner.root(), addr);
        drop(section);
        let was = WalkEnd { bits: found.bits | E::Arch::PRESENT, ..found };
        let leaf = core.leaf_of(was).filter(|_| found.bits != 0)?;
        let page = (addr.get() - found.slot.reach(addr).start.get()) / PAGE_BYTES;
        Some(MappedPage {
            frame: leaf.frame.offset(page),
            order: found.slot.level.order(),
            writable: leaf.flags.has(Flags::WRITE),
            anonymous: leaf.flags.has(Flags::ANON),
            exclusive: leaf.flags.has(Flags::EXCLUSIVE),
            zero: leaf.flags.has(Flags::ZERO),
            foreign: leaf.flags.has(Flags::FOREIGN),
            executable: leaf.flags.has(Flags::EXEC),
            accessed: leaf.flags.has(Flags::ACCESSED),
            dirty: leaf.flags.has(Flags::DIRTY),
        })
    }

    /// How much is mapped and present. Walks the whole table.
    #[expect(clippy::arithmetic_side_effects, reason = "no more than a space has bytes")]
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        let regions = self.inner.regions.read();
        // So that no leaf is absent while another takes its place.
        let _leaves = self.inner.leaves.read();
        for region in regions.iter() {
            usage.mapped_bytes += region.range.len();
            self.inner.for_each_leaf(region.range, |found, _, leaf| {
                let bytes = found.slot.level.bytes();
                if leaf.flags.has(Flags::ZERO) {
                    usage.zero_bytes += bytes;
                } else if leaf.flags.has(Flags::FOREIGN) {
                    usage.foreign_bytes += bytes;
                } else {
                    usage.present_bytes += bytes;
                    usage.huge_bytes += if found.slot.level > Level::PTE { bytes } else { 0 };
                }
            });
        }
        usage
    }
}

impl<E: Env> Drop for Space<'_, E> {
    /// Exit: everything is unmapped; memory that no other mapping or pin has is free when this
    /// returns, and so are page tables, the top-level one when no [`RootRef`] and no CPU has it. No
    /// CPU is interrupted unless one may have the table.
    fn drop(&mut self) {
        let inner = &self.inner;
        let mut regions = inner.regions.write();
        let user = VirtRange { start: VirtAddr::new(0), end: E::Arch::USER_END };
        inner.clear_all(user);
        regions.take(inner, user);
    }
}

impl<E: Env> SpaceInner<'_, E> {
    /// Frame of the top-level page table.
    #[inline]
    pub(crate) fn root(&self) -> Pfn {
        self.table.frame()
    }
}

impl<E: Env> Entries for SpaceInner<'_, E> {
    type Arch = E::Arch;
    type Word = AtomicU64;

    #[inline]
    fn bits(&self, slot: EntrySlot) -> u64 {
        self.core.bits(slot)
    }
}

impl<E: Env> LocklessWalk for SpaceInner<'_, E> {
    type Section<'a>
        = E::Section<'a>
    where
        Self: 'a;

    #[inline]
    fn enter(&self) -> E::Section<'_> {
        self.core.env.enter(&self.table.context)
    }
}

/// A reference to a space's top-level page table (`mmgrab`), from which a CPU loads it.
///
/// A space may end while a thread runs on its table (a thread of the kernel that borrows the table,
/// a CPU that idles): nothing of the user's part is mapped then, the kernel's part stays. A table
/// that a CPU has loaded by [`switch_to`](RootRef::switch_to) stays a table until that CPU has
/// loaded another, with or without references.
///
/// ```
/// # use tailpin_mm::*;
/// # let ram = Ram::new(16 << 20);
/// # let zone = ram.zone()?;
/// # let mm = Mm::new(&zone, ram.env(), ram.infos(), MmConfig::default())?;
/// let space = mm.space()?;
/// let root = space.load();
/// root.switch_to(); // `Tlb::load` writes this CPU's root register
/// drop(space);
/// assert!(zone.state(root.root()).is_some_and(|state| state.refs == 1)); // still the table's
/// mm.switch_to_kernel(); // the CPU has left it
/// drop(root); // and this was the last reference
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RootRef<'z, E: Env> {
    core: Arc<MmCore<'z, E>>,
    id: SpaceId,
    table: Arc<TableRoot<'z, E>>,
}

impl<E: Env> RootRef<'_, E> {
    /// Makes the CPU that the caller is on load this table (`switch_mm`): the environment writes
    /// the root register ([`Tlb::load`](crate::Tlb::load)), and the CPU counts as one that has the
    /// table until it loads another. The table that it had before is given back here, if nothing
    /// else keeps it.
    ///
    /// # Panics
    /// If the environment names a CPU that is not one of [`Tlb::cpus`](crate::Tlb::cpus).
    #[doc(alias = "switch_mm")]
    pub fn switch_to(&self) {
        self.core.loaded.switch(self.core.env, Some(self.table.clone()));
    }

    /// Frame of the top-level page table. It is that table for as long as this reference lives.
    pub fn root(&self) -> Pfn {
        self.table.frame()
    }

    /// Identity of the space whose table it is.
    pub fn id(&self) -> SpaceId {
        self.id
    }

    /// What the environment keeps for the space.
    pub fn context(&self) -> &E::Context {
        &self.table.context
    }
}

impl<E: Env> Clone for RootRef<'_, E> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), id: self.id, table: self.table.clone() }
    }
}

impl<E: Env> fmt::Debug for RootRef<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootRef({}, root {})", self.id.0, self.root())
    }
}

impl<E: Env> fmt::Debug for Space<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Space({})", self.inner.id.0)
    }
}
