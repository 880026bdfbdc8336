//! An address space (`mm_struct`): its regions, its page table, and making new mappings.

pub(crate) mod region;

use alloc::sync::Arc;
use core::fmt;

use tailpin::{Order, Pfn};

use crate::addr::{Level, PAGE_BYTES, Prot, SpaceId, VirtAddr, VirtRange};
use crate::arch::{Arch, Flags};
use crate::env::Env;
use crate::env::sync::EnvLock;
use crate::error::{MapError, MmError};
use crate::mm::{HugePages, Mm, MmCore};
use crate::object::Object;
use crate::page_table::walk::Entries;
use crate::page_table::walk::EntrySlot;
use crate::rmap::{AnonRoot, Rmap};
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

/// What a space's handles share: the [`Space`], each [`RootRef`], and the rmaps, weakly.
pub(crate) struct SpaceInner<'z, E: Env> {
    pub(crate) core: Arc<MmCore<'z, E>>,
    pub(crate) id: SpaceId,
    /// Frame of the top-level page table. Fixed; its entries change as `page_table/table.rs` says.
    pub(crate) root: Pfn,
    /// The region lock (`mmap_lock`), shared by faults, exclusive for every operation that changes
    /// regions or removes tables. The order of locks is: regions of a parent, regions of its child,
    /// leaf lock, an object's page cache, rmaps, retired tables.
    pub(crate) regions: EnvLock<E, Regions<'z, E>>,
    /// The leaf lock: a thread that changes a leaf above 4 KiB to something else holds it, with the
    /// region lock shared.
    pub(crate) leaves: EnvLock<E, ()>,
}

impl<'z, E: Env> Mm<'z, E> {
    /// An empty space.
    ///
    /// # Errors
    /// [`MmError::OutOfMemory`] if there is no frame for its page table.
    pub fn space(&self) -> Result<Space<'z, E>, MmError> {
        let core = self.core.clone();
        let root = core.new_table()?;
        if let Some(kernel) = core.config.kernel_root {
            for index in 256..512 {
                let slot = EntrySlot { table: kernel, index, level: Level::TOP };
                core.put(EntrySlot { table: root, ..slot }, core.bits(slot));
            }
        }
        let (id, regions) = (SpaceId(core.new_id()), EnvLock::new(Regions::new()));
        Ok(Space { inner: Arc::new(SpaceInner { core, id, root, regions, leaves: EnvLock::new(()) }) })
    }
}

impl<'z, E: Env> Space<'z, E> {
    /// The space's identity, never used for another one.
    pub fn id(&self) -> SpaceId {
        self.inner.id
    }

    /// A reference to the top-level page table, for a CPU that is to run on it.
    pub fn load(&self) -> RootRef<'z, E> {
        RootRef { inner: self.inner.clone() }
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
    /// [`MapError::NoRoom`].
    #[doc(alias = "mmap")]
    pub fn map(&self, map: Map<'z, E>) -> Result<VirtAddr, MapError> {
        let Map { at, len, prot, huge, what } = map;
        let unit = match &what {
            MapTarget::Shared(object, _) | MapTarget::Private(object, _) => object.unit().bytes(),
            MapTarget::Anonymous | MapTarget::Guard => PAGE_BYTES,
        };
        let offset = match what {
            MapTarget::Shared(_, offset) | MapTarget::Private(_, offset) => offset,
            MapTarget::Anonymous | MapTarget::Guard => 0,
        };
        if len == 0 {
            return Err(MapError::Empty);
        }
        for value in [len, offset, at.map_or(0, VirtAddr::get)] {
            if value % unit != 0 {
                return Err(MapError::Misaligned { value, unit });
            }
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
            MapTarget::Guard => (RegionBacking::Guard, 0),
        };
        let range = VirtRange::new(start, len);
        regions.insert(&self.inner, Region { range, prot, huge, backing, first });
        regions.join(&self.inner, range);
        Ok(start)
    }

    /// What is mapped at `addr` at this moment; `None` if nothing is present.
    #[doc(alias = "page table walk")]
    #[doc(alias = "follow_page")]
    pub fn mapping(&self, addr: VirtAddr) -> Option<MappedPage> {
        let core = &self.inner.core;
        if addr >= E::Arch::USER_END {
            return None;
        }
        let section = core.env.enter();
        let found = core.look_up(self.inner.root, addr);
        let leaf = core.leaf_of(found)?;
        drop(section);
        let page = (addr.get() - found.slot.reach(addr).start.get()) / PAGE_BYTES;
        Some(MappedPage {
            frame: leaf.frame.offset(page),
            order: found.slot.level.order(),
            writable: leaf.flags.has(Flags::WRITE),
            anonymous: leaf.flags.has(Flags::ANON),
            exclusive: leaf.flags.has(Flags::EXCLUSIVE),
            zero: leaf.flags.has(Flags::ZERO),
            accessed: leaf.flags.has(Flags::ACCESSED),
            dirty: leaf.flags.has(Flags::DIRTY),
        })
    }

    /// How much is mapped and present. Walks the whole table.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        let regions = self.inner.regions.read();
        for region in regions.iter() {
            usage.mapped_bytes += region.range.len();
            self.inner.for_each_leaf(region.range, |found, _, leaf| {
                let bytes = found.slot.level.bytes();
                if leaf.flags.has(Flags::ZERO) {
                    usage.zero_bytes += bytes;
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
    /// returns, page tables after a grace period: the top-level one after the last [`RootRef`] is
    /// gone.
    fn drop(&mut self) {
        let inner = &self.inner;
        let mut regions = inner.regions.write();
        let user = VirtRange { start: VirtAddr::new(0), end: E::Arch::USER_END };
        let gone = regions.take(inner, user);
        inner.clear_range(user, gone.iter().map(|region| region.range));
    }
}

impl<E: Env> Drop for SpaceInner<'_, E> {
    /// No handle is left, and no CPU has the table loaded: only threads walking without a lock may
    /// still be in it.
    fn drop(&mut self) {
        self.core.retire(self.root);
    }
}

/// A reference to a space's top-level page table, for a CPU that has it in its root register: a
/// kernel keeps one for each such CPU, and drops it after the CPU has loaded another table
/// (`mmgrab`, `active_mm`).
///
/// A space may end while a CPU is still on its table (a thread of the kernel that borrows the
/// table, a CPU that idles): nothing of the user's part is mapped then, the kernel's part stays.
///
/// ```
/// # use tailpin_mm::*;
/// # let ram = Ram::new(16 << 20);
/// # let zone = ram.zone()?;
/// # let mm = Mm::new(&zone, ram.env(), ram.infos(), MmConfig::default())?;
/// let space = mm.space()?;
/// let loaded = space.load();
/// let register = loaded.root().get() << 12; // goes into the root register of this CPU
/// drop(space);
/// mm.synchronize();
/// assert!(zone.state(loaded.root()).is_some_and(|state| state.refs == 1)); // still the table's
/// # let _ = register;
/// drop(loaded); // the CPU has loaded another
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RootRef<'z, E: Env> {
    inner: Arc<SpaceInner<'z, E>>,
}

impl<E: Env> RootRef<'_, E> {
    /// Frame of the top-level page table: what goes into the processor's root register. It is that
    /// table for as long as this reference lives.
    pub fn root(&self) -> Pfn {
        self.inner.root
    }

    /// Identity of the space whose table it is.
    pub fn id(&self) -> SpaceId {
        self.inner.id
    }
}

impl<E: Env> Clone for RootRef<'_, E> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<E: Env> fmt::Debug for RootRef<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootRef({}, root {})", self.inner.id.0, self.inner.root)
    }
}

impl<E: Env> fmt::Debug for Space<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Space({})", self.inner.id.0)
    }
}
