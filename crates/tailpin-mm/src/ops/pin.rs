//! Pins by address, without a lock (`pin_user_pages_fast`, `get_user_pages_fast`, in short gup).
//!
//! # The fast path (N5, H13, H19)
//!
//! 1. Inside a read-side section, so that no table is freed under the walk: walk to the leaf; it
//!    must allow the access and be `EXCLUSIVE`.
//! 2. Pin the page by its number. The core does that only if the page is in use, and counts a hold
//!    on its head first if it is a tail; what it pins is *that page*, whatever its block becomes
//!    (the re-check of the head).
//! 3. Full barrier. Walk again from the root: if the same slot of the same table has the same
//!    value, the page was mapped at that moment and pinned already, so it can't have been anything
//!    else since. Walking again looks at every level, so a table that was taken out of the tree
//!    since is noticed as well as an entry that was changed. If anything differs, the pin is given
//!    back. The three steps are in `gup_fast.rs`.
//!
//! The thread takes no lock, and interrupts are not off longer than the section. If the leaf does
//! not allow the access, the slow path faults and the fast path tries again: each turn means that
//! another thread made a change.
//!
//! A batch that covers all of a huge page takes one reference on the block instead of 512 pins: one
//! locked instruction. If the block is split later, the reference is one on each page, so all pages
//! stay pinned. A batch that covers a part pins just its pages, so that the rest can be given back.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use tailpin::{Block, GetError, Order, PageRef, Pfn};

use crate::addr::{Access, Level, PAGE_BYTES, VirtAddr, VirtRange};
use crate::arch::{Arch, Flags, Leaf};
use crate::env::Env;
use crate::error::{FaultError, NotPresent, PinError};
use crate::mm::MmCore;
use crate::ops::fault::{AccessBy, Want};
use crate::page_table::gup_fast::{AllSafeguards, gup_fast};
use crate::page_table::walk::{Entries, WalkEnd};
use crate::space::region::RegionBacking;
use crate::space::{Space, SpaceInner};

/// What was pinned under one leaf: a page, or all of a huge page by one reference.
enum PinPart<'z> {
    Page(PageRef<'z>),
    Huge(Block<'z>),
}

impl PinPart<'_> {
    fn first(&self) -> Pfn {
        match self {
            Self::Page(page) => page.pfn(),
            Self::Huge(block) => block.pfn(),
        }
    }

    fn pages(&self) -> u64 {
        match self {
            Self::Page(_) => 1,
            Self::Huge(block) => block.order().frames(),
        }
    }
}

/// Pinned memory (`pin_user_pages`). The pages stay, with these frames and these contents, whatever
/// becomes of the mapping; dropping this unpins them, and pages that have no other count are free
/// then.
///
/// # Invariants
///
/// * The parts cover the `len` bytes, from byte `offset` of the first page on, in order and without
///   gaps.
/// * Each part was mapped, exclusively, at some moment of the call that pinned it, and its page has
///   had a count since.
///
/// ```
/// # use tailpin_mm::*;
/// # let ram = Ram::new(16 << 20);
/// # let zone = ram.zone()?;
/// # let mm = Mm::new(&zone, ram.env(), ram.infos(), MmConfig::default())?;
/// let space = mm.space()?;
/// let addr = space.map(Map::anonymous(4 << 20, Prot::READ_WRITE))?;
/// space.write(addr, b"here")?;
/// let pins = space.pin_pages(addr, 8192, Access::Read)?;
/// drop(space);                                     // exit: all but two pages are free
/// let mut bytes = [0; 4];
/// pins.read(0, &mut bytes);
/// assert_eq!(&bytes, b"here");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "gup")]
#[doc(alias = "get_user_pages")]
#[doc(alias = "pin_user_pages")]
pub struct Pins<'z, E: Env> {
    core: Arc<MmCore<'z, E>>,
    parts: Vec<PinPart<'z>>,
    access: Access,
    /// Where in the first page the bytes begin.
    offset: u64,
    len: u64,
}

impl<'z, E: Env> Space<'z, E> {
    /// Pins the pages under `len` bytes from `addr` (`pin_user_pages_fast`); faults pages in where
    /// they aren't present. What is written through the mapping from then on is seen through the
    /// pins, and the other way round, also after a fork.
    ///
    /// # Errors
    /// [`PinError`]; nothing is pinned then.
    #[doc(alias = "gup")]
    #[doc(alias = "get_user_pages")]
    #[doc(alias = "pin_user_pages")]
    pub fn pin_pages(&self, addr: VirtAddr, len: u64, access: Access) -> Result<Pins<'z, E>, PinError> {
        self.pin_range(addr, len, access, false)
    }

    /// Pins as [`Space::pin_pages`] does, for a long time (`FOLL_LONGTERM`): refused for writing to
    /// an object that has to notice every write.
    ///
    /// # Errors
    /// The errors of [`Space::pin_pages`], and [`PinError::LongTerm`].
    #[doc(alias = "FOLL_LONGTERM")]
    pub fn pin_long_term(&self, addr: VirtAddr, len: u64, access: Access) -> Result<Pins<'z, E>, PinError> {
        self.pin_range(addr, len, access, true)
    }

    /// Pins only pages that are present with leaves that allow it already
    /// (`pin_user_pages_fast_only`): takes no lock, never faults, never waits. For interrupt
    /// handlers, and for callers that hold a lock.
    ///
    /// # Errors
    /// [`NotPresent`] with the first page that could not be pinned so; nothing is pinned then.
    #[expect(clippy::arithmetic_side_effects, reason = "within the user's part of a space")]
    pub fn pin_present(&self, addr: VirtAddr, len: u64, access: Access) -> Result<Pins<'z, E>, NotPresent> {
        let (range, want) = (VirtRange::new(addr, len), Want::pinned(access));
        if !is_user_range::<E>(range, len) {
            return Err(NotPresent { addr });
        }
        let mut pins = self.no_pins(addr, len, access);
        let mut at = addr.align_down(PAGE_BYTES);
        while at < range.end {
            match self.inner.pin_run(at, want, pages_to(at, range.end), &mut pins.parts) {
                Ok(pages) if pages > 0 => at = at.offset(pages * PAGE_BYTES),
                _ => return Err(NotPresent { addr: at }),
            }
        }
        Ok(pins)
    }

    fn no_pins(&self, addr: VirtAddr, len: u64, access: Access) -> Pins<'z, E> {
        let core = self.inner.core.clone();
        Pins { core, parts: Vec::new(), access, offset: addr.get() % PAGE_BYTES, len }
    }

    #[expect(clippy::arithmetic_side_effects, reason = "within the user's part of a space")]
    fn pin_range(
        &self,
        addr: VirtAddr,
        len: u64,
        access: Access,
        long: bool,
    ) -> Result<Pins<'z, E>, PinError> {
        let (range, want) = (VirtRange::new(addr, len), Want::pinned(access));
        if !is_user_range::<E>(range, len) {
            return Err(PinError::BadRange { addr });
        }
        let mut pins = self.no_pins(addr, len, access);
        let mut at = addr.align_down(PAGE_BYTES);
        while at < range.end {
            let before = pins.parts.len();
            let pinned = self.inner.pin_run(at, want, pages_to(at, range.end), &mut pins.parts);
            let pages = pinned.map_err(|_| FaultError::CountLimit { addr: at })?;
            if pages == 0 {
                self.inner.fault(at, want, AccessBy::Crate)?;
            } else if long && !self.inner.may_stay(at, access, pins.parts[before].first())? {
                pins.parts.truncate(before);
            } else {
                at = at.offset(pages * PAGE_BYTES);
            }
        }
        Ok(pins)
    }
}

fn is_user_range<E: Env>(range: VirtRange, len: u64) -> bool {
    len > 0 && range.len() == len && range.end <= E::Arch::USER_END
}

#[expect(clippy::arithmetic_side_effects, reason = "the end is not before `at`")]
fn pages_to(at: VirtAddr, end: VirtAddr) -> u64 {
    (end.get() - at.get()).div_ceil(PAGE_BYTES)
}

/// A page is pinned or mapped as often as its count can count.
pub(crate) struct CountLimit;

impl<'z, E: Env> SpaceInner<'z, E> {
    /// Fast GUP at `addr`: walks to the leaf, pins under it what `pin` pins, walks again. `None` if
    /// no leaf meets `want`, if there was nothing to pin, or if another thread changed the entry
    /// during the call. Says also what the leaf allowed.
    #[inline]
    fn pin_fast<R>(
        &self,
        addr: VirtAddr,
        want: Want,
        pin: impl FnOnce(WalkEnd, Leaf) -> Result<Option<R>, CountLimit>,
    ) -> Result<Option<(R, Flags)>, CountLimit> {
        gup_fast::<AllSafeguards, _, _, _>(self, self.root(), addr, |flags| want.is_met_here(flags), pin)
    }

    /// Pins the page at `addr`, and says what the leaf allowed; `None` as in
    /// [`SpaceInner::pin_fast`].
    #[inline]
    pub(crate) fn pin_page(
        &self,
        addr: VirtAddr,
        want: Want,
    ) -> Result<Option<(PageRef<'z>, Flags)>, CountLimit> {
        self.pin_fast(addr, want, |found, leaf| self.try_pin(leaf.frame.offset(Self::page_in(found, addr))))
    }

    /// Pins up to `pages` pages from `addr`, as far as one leaf reaches, under one walk. Returns
    /// how many: none if that was not possible or another thread changed the entry.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "a page of the leaf")]
    fn pin_run(
        &self,
        addr: VirtAddr,
        want: Want,
        pages: u64,
        parts: &mut Vec<PinPart<'z>>,
    ) -> Result<u64, CountLimit> {
        let before = parts.len();
        // Allocates here, and not in the section, which is to be short.
        parts.reserve(pages.min(Order::HUGE.frames()) as usize);
        let run = self.pin_fast(addr, want, |found, leaf| {
            let page = Self::page_in(found, addr);
            if found.slot.level == Level::PMD && page == 0 && pages >= Order::HUGE.frames() {
                match self.core.zone.try_block(leaf.frame, Order::HUGE) {
                    Ok(block) => {
                        parts.push(PinPart::Huge(block));
                        return Ok(Some(Order::HUGE.frames()));
                    }
                    Err(GetError::CountLimit) => return Err(CountLimit),
                    // The memory is in smaller pieces, which are pinned page by page.
                    Err(GetError::NotInUse) => {}
                }
            }
            let left = found.slot.level.order().frames() - page;
            let run = left.min(pages).min(Order::HUGE.frames());
            for i in page..page + run {
                let Some(pin) = self.try_pin(leaf.frame.offset(i))? else { return Ok(None) };
                parts.push(PinPart::Page(pin));
            }
            Ok(Some(run))
        });
        if !matches!(run, Ok(Some(_))) {
            parts.truncate(before);
        }
        Ok(run?.map_or(0, |(pages, _)| pages))
    }

    /// Pins a page by its number, if it is in use.
    #[inline]
    fn try_pin(&self, page: Pfn) -> Result<Option<PageRef<'z>>, CountLimit> {
        match self.core.zone.try_pin(page) {
            Ok(pin) => Ok(Some(pin)),
            Err(GetError::CountLimit) => Err(CountLimit),
            Err(GetError::NotInUse) => Ok(None),
        }
    }

    /// Whether a pin just taken may last. False if the page is mapped there no longer.
    fn may_stay(&self, addr: VirtAddr, access: Access, pinned: Pfn) -> Result<bool, PinError> {
        let regions = self.regions.read();
        let region = regions.find(addr).ok_or(FaultError::Unmapped { addr })?;
        let found = self.core.look_up(self.root(), addr);
        let leaf = self.core.leaf_of(found);
        if leaf.is_none_or(|leaf| leaf.frame.offset(Self::page_in(found, addr)) != pinned) {
            return Ok(false);
        }
        match &region.backing {
            RegionBacking::Shared(pages) if pages.tracks_writes && access == Access::Write => {
                Err(PinError::LongTerm { addr })
            }
            _ => Ok(true),
        }
    }
}

impl<'z, E: Env> Pins<'z, E> {
    /// How many bytes are pinned: bytes, not pages, as the length that was asked for.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether no bytes are pinned: never, as empty ranges are refused.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where in the first page the pinned bytes begin.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The pinned frames, one for each page, in order.
    pub fn frames(&self) -> impl Iterator<Item = Pfn> + '_ {
        self.parts.iter().flat_map(|part| (0..part.pages()).map(|i| part.first().offset(i)))
    }

    /// Copies bytes out of the pinned memory, from its byte `at` on.
    ///
    /// # Panics
    /// If the bytes are not all in the pinned range.
    pub fn read(&self, at: u64, buf: &mut [u8]) {
        self.each_page(at, buf.len(), |core, frame, in_page, part| {
            core.read_bytes(frame, in_page, &mut buf[part]);
        });
    }

    /// Copies bytes into the pinned memory, from its byte `at` on.
    ///
    /// # Panics
    /// If the bytes are not all in the pinned range, or the pins are for reading.
    pub fn write(&self, at: u64, buf: &[u8]) {
        assert!(self.access == Access::Write, "the pins are for reading");
        self.each_page(at, buf.len(), |core, frame, in_page, part| {
            core.write_bytes(frame, in_page, &buf[part]);
        });
    }

    #[expect(clippy::arithmetic_side_effects, reason = "bytes that are pinned, so of less than a space")]
    fn each_page(
        &self,
        at: u64,
        len: usize,
        mut f: impl FnMut(&MmCore<'z, E>, Pfn, usize, core::ops::Range<usize>),
    ) {
        let end = at.checked_add(len as u64).filter(|end| *end <= self.len);
        assert!(end.is_some(), "{len} bytes at {at} are not within {} pinned bytes", self.len);
        let from = self.offset + at;
        let to = from + len as u64;
        let mut first = 0;
        for part in &self.parts {
            let bytes = part.pages() * PAGE_BYTES;
            let mut pos = from.max(first);
            while pos < to.min(first + bytes) {
                let in_page = pos % PAGE_BYTES;
                let n = (PAGE_BYTES - in_page).min(to - pos);
                let frame = part.first().offset((pos - first) / PAGE_BYTES);
                let done = (pos - from) as usize;
                f(&self.core, frame, in_page as usize, done..done + n as usize);
                pos += n;
            }
            first += bytes;
        }
    }
}

impl<E: Env> fmt::Debug for Pins<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pins({} bytes in {} parts)", self.len, self.parts.len())
    }
}
