//! What all spaces over one zone share: frames, the pages of zeroes, identities, page tables that
//! wait for a grace period.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering, fence};

use tailpin::{FrameRange, Order, Pfn, RawBlock, Request, Zone};

use crate::arch::Arch;
use crate::env::sync::EnvLock;
use crate::env::{Cookie, Env};
use crate::error::{MmError, Shortage};
use crate::frame_info::{FrameInfo, FrameInfos, PageOwner};

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
    /// A page table at the top level whose upper half (entries 256 and on) every new space shares:
    /// the kernel's own part of the address space.
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
    /// Address spaces over `zone`. `infos` has one entry for each frame of the zone's span, the
    /// first for its first frame; it may serve one `Mm` only. The zone may have other users.
    ///
    /// # Errors
    /// [`MmError::TooFewInfos`]; [`MmError::FrameTooHigh`] if the zone has frames that no
    /// page-table entry can name; [`MmError::NotInZone`] for a kernel's table elsewhere;
    /// [`MmError::OutOfMemory`] if there is no frame for the page of zeroes.
    pub fn new(
        zone: &'z Zone<'z>,
        env: &'z E,
        infos: &'z [FrameInfo],
        config: MmConfig,
    ) -> Result<Self, MmError> {
        let (needed, given) = (zone.span().frames(), infos.len() as u64);
        if given < needed {
            return Err(MmError::TooFewInfos { needed, given });
        }
        let frames = zone.span();
        if frames.end > E::Arch::FRAMES_END {
            return Err(MmError::FrameTooHigh { frames: frames.end, most: E::Arch::FRAMES_END });
        }
        if let Some(frame) = config.kernel_root.filter(|frame| !frames.contains(*frame)) {
            return Err(MmError::NotInZone { frame });
        }
        let mut core = MmCore {
            zone,
            env,
            infos: FrameInfos::new(infos, zone.span().start),
            config,
            ids: AtomicU64::new(1),
            zero: None,
            huge_zero: AtomicU64::new(NO_FRAME),
            retired: EnvLock::new(RetiredTables::default()),
        };
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

    /// Waits for a grace period, after which every page table that was taken out of use is free.
    /// With all spaces and objects gone, what is in use of the zone then is the pages of zeroes,
    /// which go with the last clone of this handle.
    #[doc(alias = "grace period")]
    #[doc(alias = "synchronize_rcu")]
    pub fn synchronize(&self) {
        self.core.free_retired(true);
    }
}

/// Not a frame: no block is so near the end of the address range.
const NO_FRAME: u64 = u64::MAX;

/// Retired page tables are looked through when there are this many.
const RETIRED_BATCH: usize = 64;

/// Page tables that threads walking without a lock may still be in, as a list through their
/// [`FrameInfo`].
#[derive(Default)]
struct RetiredTables {
    first: Option<Pfn>,
    number: usize,
}

/// What every handle of an [`Mm`] shares. Its fields are fixed once it is made, but for those that
/// say who writes them.
pub(crate) struct MmCore<'z, E: Env> {
    pub(crate) zone: &'z Zone<'z>,
    pub(crate) env: &'z E,
    pub(crate) infos: FrameInfos<'z>,
    pub(crate) config: MmConfig,
    /// The next identity. Any thread takes one, by one atomic addition.
    ids: AtomicU64,
    /// The 4 KiB page of zeroes; made with the `Mm`, before it has handles.
    zero: Option<Pfn>,
    /// The 2 MiB page of zeroes, made when first asked for. Written once, by the first thread whose
    /// exchange succeeds.
    huge_zero: AtomicU64,
    /// Under its own lock, the last in the order of locks.
    retired: EnvLock<E, RetiredTables>,
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
        self.zone.raw().alloc(request).or_else(|_| {
            // What is missing may be page tables that wait for a grace period.
            self.free_retired(true);
            self.zone.raw().alloc(request).map_err(|_| Shortage::Frames(order))
        })
    }

    /// A cleared block whose frame information is written. Its one reference is the caller's.
    pub(crate) fn alloc_zeroed(
        &self,
        order: Order,
        owner: PageOwner,
        index: u64,
    ) -> Result<RawBlock, Shortage> {
        let block = self.allocate(Request::new(order))?;
        self.clear(block.pfn(), order);
        self.infos.describe(block.pfn(), order.frames(), owner, index);
        Ok(block)
    }

    /// Gives back one reference on each block of a naturally aligned range.
    pub(crate) fn drop_block(&self, head: Pfn, order: Order) {
        // On misuse the zone has reported it and taken the frame out of service: nothing is left to
        // do.
        let _ = self.zone.raw().put_many(self.token(head, order), 1);
    }

    /// The token of a reference to a naturally aligned range that was one block when the caller
    /// took the reference; its generation stays as long as the caller has that.
    pub(crate) fn token(&self, head: Pfn, order: Order) -> RawBlock {
        RawBlock::from_parts(head, order, self.zone.raw().token(head).generation())
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

    /// Takes a page table that no entry leads to any more, and whose translations are invalidated.
    /// It is freed after a grace period, when no thread walking without a lock can be in it.
    pub(crate) fn retire(&self, table: Pfn) {
        // Orders the clearing of the entry that led to the table before the cookie: a section that
        // opens after the cookie's moment does not find the table.
        fence(Ordering::SeqCst);
        let cookie = self.env.cookie();
        let many = {
            let mut retired = self.retired.write();
            self.infos.link(table, retired.first, cookie.0);
            retired.first = Some(table);
            retired.number += 1;
            retired.number >= RETIRED_BATCH
        };
        if many {
            self.free_retired(false);
        }
    }

    /// Frees the retired page tables whose grace period is over; with `wait`, waits and frees all
    /// of them.
    pub(crate) fn free_retired(&self, wait: bool) {
        let mut taken = core::mem::take(&mut *self.retired.write());
        let (mut keep, mut kept) = (None, 0);
        while let Some(table) = taken.first {
            let (next, cookie) = self.infos.linked(table);
            taken.first = next;
            if wait {
                self.env.synchronize(Cookie(cookie));
            }
            if self.env.poll(Cookie(cookie)) {
                self.drop_block(table, Order::PAGE);
            } else {
                self.infos.link(table, keep, cookie);
                keep = Some(table);
                kept += 1;
            }
        }
        if let Some(mut last) = keep {
            let mut retired = self.retired.write();
            let first = keep;
            // Tables that other threads retired during this call go behind these.
            while let (Some(next), _) = self.infos.linked(last) {
                last = next;
            }
            let (_, cookie) = self.infos.linked(last);
            self.infos.link(last, retired.first, cookie);
            retired.first = first;
            retired.number += kept;
        }
    }
}

impl<E: Env> Drop for MmCore<'_, E> {
    fn drop(&mut self) {
        self.free_retired(true);
        if let Some(zero) = self.zero {
            self.drop_block(zero, Order::PAGE);
        }
        let huge = *self.huge_zero.get_mut();
        if huge != NO_FRAME {
            self.drop_block(Pfn::new(huge), Order::HUGE);
        }
    }
}
