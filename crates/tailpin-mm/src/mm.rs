//! What all spaces over one zone share: frames, the pages of zeroes, identities, and which CPU has
//! which table loaded.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use tailpin::{FrameRange, Order, Pfn, RawBlock, Request, Zone};

use crate::arch::Arch;
use crate::block_guard::{self, BlockGuard};
use crate::env::Env;
use crate::error::{MmError, Shortage};
use crate::frame_info::{ClaimedInfos, FrameInfos, PageOwner};
use crate::root::LoadedTables;

/// Copy-on-write: what a write to a huge page does that other spaces also map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[doc(alias = "copy-on-write")]
pub enum Cow {
    /// Splits this space's mapping and copies 4 KiB (what Linux does).
    #[default]
    Page,
    /// Copies all 2 MiB if there is a free block, else as [`Cow::Page`].
    Whole,
}

/// Whether a region gets huge pages (THP) of 2 MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[doc(alias = "THP")]
pub enum HugePages {
    /// As [`MmConfig::huge_by_default`] says.
    #[default]
    Default,
    /// Wherever they fit.
    Always,
    /// Never.
    Never,
}

/// Settings of an [`Mm`]; everything has a default.
#[derive(Clone, Copy, Debug)]
pub struct MmConfig {
    /// Whether regions of [`HugePages::Default`] get huge pages (THP `always`).
    pub huge_by_default: bool,
    /// What a write to a huge page does that other spaces also map.
    pub cow: Cow,
    /// A page table at the top level of which every new space shares the entries from
    /// [`Arch::KERNEL_ENTRIES`] on: the kernel's own part of the address space. Its frame need not
    /// be the zone's; the environment has a pointer to it ([`DirectMap`](crate::DirectMap)).
    pub kernel_root: Option<Pfn>,
}

impl Default for MmConfig {
    fn default() -> Self {
        Self { huge_by_default: true, cow: Cow::Page, kernel_root: None }
    }
}

/// Address spaces over a zone. Cheap to clone; all clones are the same.
///
/// ```
/// use tailpin_mm::{Map, Mm, MmConfig, Prot, Ram};
///
/// let ram = Ram::new(64 << 20); // 64 MiB of memory, in user space
/// let zone = ram.zone()?;
/// let mm = Mm::new(&zone, ram.env(), ram.infos(), MmConfig::default())?;
///
/// let space = mm.space()?;
/// let addr = space.map(Map::anonymous(4 << 20, Prot::READ_WRITE))?;
/// space.write(addr, b"hello")?;          // a fault, a huge page, five bytes
/// assert_eq!(space.usage().huge_bytes, 2 << 20);
///
/// let child = space.fork()?;
/// space.write(addr, b"HELLO")?;          // copied on write
/// let mut bytes = [0; 5];
/// child.read(addr, &mut bytes)?;
/// assert_eq!(&bytes, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Mm<'z, E: Env> {
    pub(crate) core: Arc<MmCore<'z, E>>,
}

impl<E: Env> Clone for Mm<'_, E> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone() }
    }
}

impl<'z, E: Env> Mm<'z, E> {
    /// Address spaces over `zone`. `infos` has at least one entry for each frame of the zone's span
    /// and serves one `Mm` at a time. The zone may have other users.
    ///
    /// # Errors
    /// [`MmError::TooFewInfos`]; [`MmError::InfosInUse`]; [`MmError::FrameTooHigh`] if the zone has
    /// frames that no page-table entry can name; [`MmError::OutOfMemory`] if there is no frame for
    /// the page of zeroes.
    ///
    /// # Panics
    /// Where the environment does that as it has no pointer to [`MmConfig::kernel_root`].
    pub fn new(
        zone: &'z Zone<'z>,
        env: &'z E,
        infos: &'z FrameInfos<'_>,
        config: MmConfig,
    ) -> Result<Self, MmError> {
        let (needed, given) = (zone.span().frames(), infos.len());
        if given < needed {
            return Err(MmError::TooFewInfos { needed, given });
        }
        let frames = zone.span();
        if frames.end > E::Arch::FRAMES_END {
            return Err(MmError::FrameTooHigh { frames: frames.end, most: E::Arch::FRAMES_END });
        }
        let mut core = MmCore {
            zone,
            env,
            infos: infos.claim(zone.span().start).ok_or(MmError::InfosInUse)?,
            config,
            ids: AtomicU64::new(1),
            zero: None,
            huge_zero: AtomicU64::new(NO_FRAME),
            loaded: LoadedTables::new(env.cpus()),
        };
        let _ = config.kernel_root.map(|frame| core.words(frame));
        core.zero = Some(core.alloc_zeroed(Order::PAGE, PageOwner::None, 0)?.pfn());
        Ok(Self { core: Arc::new(core) })
    }

    /// The zone that the frames come from.
    pub fn zone(&self) -> &'z Zone<'z> {
        self.core.zone
    }

    /// The environment that it was made with.
    pub fn env(&self) -> &'z E {
        self.core.env
    }

    /// Makes the CPU that the caller is on load the kernel's own page table, so that it has that of
    /// no space.
    ///
    /// # Panics
    /// If the environment names a CPU that is not one of [`Tlb::cpus`](crate::Tlb::cpus).
    pub fn switch_to_kernel(&self) {
        self.core.loaded.switch(self.core.env, None);
    }
}

/// Not a frame: no block is so near the end of the address range.
const NO_FRAME: u64 = u64::MAX;

/// What every handle of an [`Mm`] shares. Its fields are fixed once it is made, but for those that
/// say who writes them.
pub(crate) struct MmCore<'z, E: Env> {
    pub(crate) zone: &'z Zone<'z>,
    pub(crate) env: &'z E,
    pub(crate) infos: ClaimedInfos<'z>,
    pub(crate) config: MmConfig,
    /// The next identity. Any thread takes one, by one atomic addition.
    ids: AtomicU64,
    /// The 4 KiB page of zeroes; made with the `Mm`, before it has handles.
    zero: Option<Pfn>,
    /// The 2 MiB page of zeroes, made when first asked for. Written once, by the first thread whose
    /// exchange succeeds.
    huge_zero: AtomicU64,
    /// Which CPU has which table loaded; each CPU writes its own entry.
    pub(crate) loaded: LoadedTables<'z, E>,
}

impl<'z, E: Env> MmCore<'z, E> {
    /// An identity that was never given before and never will be again. Zero is never one.
    pub(crate) fn new_id(&self) -> u64 {
        // Relaxed: only the value matters.
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// A block of the caller's; its contents are undefined.
    pub(crate) fn allocate(&self, request: Request) -> Result<RawBlock, Shortage> {
        let order = request.order();
        if !self.env.may_allocate(order) {
            return Err(Shortage::Frames(order));
        }
        self.zone.raw().alloc(request).map_err(|_| Shortage::Frames(order))
    }

    /// A cleared block whose frame information is written. Its one reference is the caller's.
    pub(crate) fn alloc_zeroed(
        &self,
        order: Order,
        owner: PageOwner,
        index: u64,
    ) -> Result<RawBlock, Shortage> {
        let block = self.allocate(Request::new(order))?;
        let made = BlockGuard::new(self.zone, block.pfn(), order);
        self.clear(made.head(), order);
        self.infos.describe(made.keep(), order.frames(), owner, index);
        Ok(block)
    }

    /// Gives back one reference on each block of a naturally aligned range.
    pub(crate) fn drop_block(&self, head: Pfn, order: Order) {
        block_guard::drop_block(self.zone, head, order);
    }

    /// The token of a reference to a naturally aligned range that was one block when the caller
    /// took the reference; its generation stays as long as the caller has that.
    pub(crate) fn token(&self, head: Pfn, order: Order) -> RawBlock {
        block_guard::token(self.zone, head, order)
    }

    /// Merges blocks, to each of which the caller has the only reference, into one of 2 MiB; false
    /// if the zone refuses.
    pub(crate) fn merge_huge(&self, head: Pfn) -> bool {
        let raw = self.zone.raw();
        raw.merge(raw.tokens(FrameRange::block(head, Order::HUGE))).is_ok()
    }

    /// The page of zeroes.
    pub(crate) fn zero_page(&self) -> Pfn {
        self.zero.expect("made with the Mm")
    }

    /// The huge page of zeroes, `None` if there is no block for it.
    pub(crate) fn huge_zero_page(&self) -> Option<Pfn> {
        // Acquire: pairs with the AcqRel of the exchange that publishes it, so its contents are
        // zeroes.
        let seen = self.huge_zero.load(Ordering::Acquire);
        if seen != NO_FRAME {
            return Some(Pfn::new(seen));
        }
        let made = self.alloc_zeroed(Order::HUGE, PageOwner::None, 0).ok()?.pfn();
        match self.huge_zero.compare_exchange(NO_FRAME, made.get(), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Some(made),
            Err(first) => {
                self.drop_block(made, Order::HUGE);
                Some(Pfn::new(first))
            }
        }
    }

    /// One more reference on each block of the naturally aligned range, which the caller knows to
    /// be in use.
    pub(crate) fn add_reference(&self, head: Pfn, order: Order) -> Result<(), Shortage> {
        self.zone.raw().get_many(self.token(head, order), 1).map_err(|_| Shortage::Count)
    }
}

impl<E: Env> Drop for MmCore<'_, E> {
    fn drop(&mut self) {
        if let Some(zero) = self.zero {
            self.drop_block(zero, Order::PAGE);
        }
        let huge = *self.huge_zero.get_mut();
        if huge != NO_FRAME {
            self.drop_block(Pfn::new(huge), Order::HUGE);
        }
    }
}
