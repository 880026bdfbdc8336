//! Page faults: making a page present, and breaking copy-on-write (COW).
//!
//! Faults of one space run side by side: they share the region lock and change entries by
//! compare-and-swap. A fault whose compare-and-swap fails gives back what it had prepared and walks
//! again; each turn of its loop means that another thread made a change.
//!
//! # Copy-on-write and pins (H21)
//!
//! A leaf is [`Flags::EXCLUSIVE`] (anon-exclusive) if no operation on another mapping can replace
//! its page. Pins are taken only through such leaves, and only `fork` clears the flag, and sets it
//! again if it finds a pin: so a page whose leaf is not `EXCLUSIVE` has no lasting pin that belongs
//! to this mapping, and a write may replace it by a copy. For anonymous memory a leaf that allows
//! writing is always `EXCLUSIVE`. If the count says that this mapping is the only one, the fault
//! sets the flag again and nothing is copied.

use tailpin::{Order, Pfn, Request};

use crate::addr::{Access, CacheType, Level, VirtAddr, VirtRange};
use crate::arch::{Arch, Flags, Leaf, TableEntry};
use crate::block_guard::BlockGuard;
use crate::env::{Env, Stale};
use crate::error::{FaultError, Shortage};
use crate::frame_info::PageOwner;
use crate::mm::{Cow, HugePages};
use crate::page_table::absent::AbsentEntry;
use crate::page_table::walk::{Entries, WalkEnd};
use crate::rmap::AnonRoot;
use crate::space::region::{Region, RegionBacking};
use crate::space::{Space, SpaceInner};

/// What a thread wants of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Reading.
    Read,
    /// Execution.
    Execute,
    /// Reading, and being pinned.
    Exclusive,
    /// Writing, which for anonymous memory includes being pinned.
    Write,
}

impl Want {
    pub(crate) fn of(access: Access) -> Self {
        match access {
            Access::Read => Self::Read,
            Access::Write => Self::Write,
            Access::Execute => Self::Execute,
        }
    }

    /// For a pin that lasts. What is executed is read.
    pub(crate) fn pinned(access: Access) -> Self {
        match access {
            Access::Read | Access::Execute => Self::Exclusive,
            Access::Write => Self::Write,
        }
    }

    /// The access that the region has to allow for this.
    fn access(self) -> Access {
        match self {
            Self::Read | Self::Exclusive => Access::Read,
            Self::Execute => Access::Execute,
            Self::Write => Access::Write,
        }
    }

    /// What the hardware notes of such an access.
    fn notes(self) -> Flags {
        Flags::ACCESSED.with_if(Flags::DIRTY, self == Self::Write)
    }

    /// Whether a leaf with these flags allows it to this crate, which has no way to frames that
    /// aren't the zone's.
    pub(crate) fn is_met_here(self, flags: Flags) -> bool {
        self.is_met(flags) && !flags.has(Flags::FOREIGN)
    }

    /// Whether a leaf with these flags allows it.
    fn is_met(self, flags: Flags) -> bool {
        let needed = match self {
            Self::Read => Flags::USER,
            Self::Execute => Flags::USER.with(Flags::EXEC),
            Self::Exclusive => Flags::USER.with(Flags::EXCLUSIVE),
            Self::Write => Flags::USER.with(Flags::EXCLUSIVE).with(Flags::WRITE),
        };
        flags.has(needed)
    }
}

/// Who is to access the memory after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccessBy {
    /// The processor, through its translations.
    Processor,
    /// This crate, through the direct map and the counts of the zone.
    Crate,
}

impl<'z, E: Env> Space<'z, E> {
    /// Makes the page at `addr` present, with a leaf that allows `access`: what a kernel's
    /// page-fault handler calls (`handle_mm_fault`). On x86-64 the handler knows from its error
    /// code what the access was: bit 4 is [`Access::Execute`], else bit 1 [`Access::Write`].
    ///
    /// # Errors
    /// [`FaultError`].
    #[doc(alias = "handle_mm_fault")]
    pub fn fault(&self, addr: VirtAddr, access: Access) -> Result<(), FaultError> {
        self.inner.fault(addr, Want::of(access), AccessBy::Processor)
    }

    /// Makes the page at `addr` present, as [`Space::fault`] does, for code that then accesses it
    /// through this space's methods (`fixup_user_fault`).
    ///
    /// # Errors
    /// [`FaultError`]; [`FaultError::Foreign`] for frames that no method of a space accesses.
    #[doc(alias = "fixup_user_fault")]
    pub fn fault_in(&self, addr: VirtAddr, access: Access) -> Result<(), FaultError> {
        self.inner.fault(addr, Want::of(access), AccessBy::Crate)
    }
}

/// A fault under way: where, for what, and in which region that is.
struct FaultContext<'r, 'z, E: Env> {
    region: &'r Region<'z, E>,
    addr: VirtAddr,
    want: Want,
}

impl<E: Env> FaultContext<'_, '_, E> {
    /// The flags that a leaf gets from a write through this fault.
    fn write_flags(&self) -> Flags {
        Flags::NONE
            .with_if(Flags::WRITE, self.region.prot.write)
            .with_if(Flags::DIRTY, self.want == Want::Write)
    }

    /// The flags of a leaf of anonymous memory that no other mapping has.
    fn exclusive_flags(&self) -> Flags {
        let own = Flags::ANON.with(Flags::EXCLUSIVE).with(Flags::ACCESSED);
        self.region.rights().with(own).with(self.write_flags())
    }
}

/// How a turn of a fault's loop ended.
pub(crate) enum FaultTurn {
    /// The fault walks again.
    Again,
    /// The fault walks again after it has let other threads run, with no lock held: one of them
    /// works on the page.
    Yield,
}

impl<'z, E: Env> SpaceInner<'z, E> {
    pub(crate) fn fault(&self, addr: VirtAddr, want: Want, by: AccessBy) -> Result<(), FaultError> {
        loop {
            let regions = self.regions.read();
            let region = regions.find(addr).ok_or(FaultError::Unmapped { addr })?;
            match region.backing {
                RegionBacking::Guard => return Err(FaultError::Unmapped { addr }),
                RegionBacking::Foreign(_) if by == AccessBy::Crate => {
                    return Err(FaultError::Foreign { addr });
                }
                _ => {}
            }
            if !region.prot.allows(want.access()) {
                return Err(match want.access() {
                    Access::Read => FaultError::NotReadable { addr },
                    Access::Write => FaultError::NotWritable { addr },
                    Access::Execute => FaultError::NotExecutable { addr },
                });
            }
            if self.fault_in(region, addr, want)? {
                return Ok(());
            }
            drop(regions);
            self.core.env.relax();
        }
    }

    /// Handles a fault in its region, with the region lock shared. False if another thread has to
    /// finish its work on the page first.
    fn fault_in(&self, region: &Region<'z, E>, addr: VirtAddr, want: Want) -> Result<bool, FaultError> {
        let fault = FaultContext { region, addr, want };
        loop {
            let found = self.core.look_up(self.root(), addr);
            let turn = match self.core.decode(found) {
                TableEntry::Leaf(leaf) if want.is_met(leaf.flags) => {
                    if leaf.flags.has(want.notes()) {
                        return Ok(true);
                    }
                    // A processor that doesn't note accesses itself faults instead.
                    let noted = Leaf { flags: leaf.flags.with(want.notes()), ..leaf };
                    self.core.change(found.slot, found.bits, E::Arch::leaf(found.slot.level, noted));
                    Ok(FaultTurn::Again)
                }
                TableEntry::Leaf(leaf) => self.upgrade(&fault, found, leaf),
                TableEntry::Empty if found.bits != 0 => {
                    self.wait_for_absent(found, addr);
                    Ok(FaultTurn::Again)
                }
                TableEntry::Empty | TableEntry::Table(_) => match &region.backing {
                    RegionBacking::Anonymous(root) => self.new_memory(&fault, root, found),
                    RegionBacking::Shared(pages) | RegionBacking::Private(pages, _) => {
                        pages.map_page(self, region, addr)?
                    }
                    RegionBacking::Foreign(cache) => self.new_foreign(&fault, *cache, found),
                    RegionBacking::Guard => return Err(FaultError::Unmapped { addr }),
                },
            };
            match turn.map_err(|shortage| FaultError::from_shortage(shortage, addr))? {
                FaultTurn::Again => {}
                FaultTurn::Yield => return Ok(false),
            }
        }
    }

    /// Anonymous memory where there is none yet: 2 MiB if it fits, else 4 KiB; zeroes for a reader.
    fn new_memory(
        &self,
        fault: &FaultContext<'_, 'z, E>,
        root: &AnonRoot<E, SpaceInner<'z, E>>,
        found: WalkEnd,
    ) -> Result<FaultTurn, Shortage> {
        if found.slot.level >= Level::PMD && self.fits_huge(fault.region, fault.addr) {
            match self.new_leaf(fault, root, Level::PMD) {
                Ok(()) => return Ok(FaultTurn::Again),
                // There is no free block of 2 MiB, or no table: 4 KiB may do.
                Err(Shortage::Frames(_)) => {}
                Err(shortage) => return Err(shortage),
            }
        }
        self.new_leaf(fault, root, Level::PTE)?;
        Ok(FaultTurn::Again)
    }

    /// A leaf for frames that aren't counted: 2 MiB if that fits, else 4 KiB.
    fn new_foreign(
        &self,
        fault: &FaultContext<'_, 'z, E>,
        cache: CacheType,
        found: WalkEnd,
    ) -> Result<FaultTurn, Shortage> {
        let core = &self.core;
        let FaultContext { region, addr, .. } = *fault;
        let huge = VirtRange::huge_around(addr);
        let fits = found.slot.level >= Level::PMD
            && region.huge != HugePages::Never
            && region.range.covers(huge)
            && Pfn::new(region.index(huge.start)).is_aligned(Order::HUGE);
        let level = if fits { Level::PMD } else { Level::PTE };
        let slot = core.make_slot(self.root(), addr, level)?;
        if slot.level == level {
            let frame = Pfn::new(region.index(slot.reach(addr).start));
            let flags = region
                .rights()
                .with(Flags::FOREIGN.with(Flags::EXCLUSIVE).with(Flags::ACCESSED))
                .with(fault.write_flags())
                .with_if(Flags::WRITE_COMBINING, cache == CacheType::WriteCombining)
                .with_if(Flags::UNCACHED, cache == CacheType::Uncached);
            core.change(slot, 0, E::Arch::leaf(level, Leaf { frame, flags }));
        }
        Ok(FaultTurn::Again)
    }

    /// Whether the region allows a huge page around `addr`.
    pub(crate) fn fits_huge(&self, region: &Region<'z, E>, addr: VirtAddr) -> bool {
        let allowed = match region.huge {
            HugePages::Default => self.core.config.huge_by_default,
            HugePages::Always => true,
            HugePages::Never => false,
        };
        allowed && region.range.covers(VirtRange::huge_around(addr))
    }

    fn new_leaf(
        &self,
        fault: &FaultContext<'_, 'z, E>,
        root: &AnonRoot<E, SpaceInner<'z, E>>,
        level: Level,
    ) -> Result<(), Shortage> {
        let core = &self.core;
        let FaultContext { region, addr, want } = *fault;
        let slot = core.make_slot(self.root(), addr, level)?;
        if slot.level != level || core.bits(slot) != 0 {
            return Ok(());
        }
        let start = slot.reach(addr).start;
        let (leaf, counted) = if want == Want::Read {
            // Never writable, never dirty: a write makes a page for this mapping (H26).
            let huge = || core.huge_zero_page().ok_or(Shortage::Frames(Order::HUGE));
            let frame = if level == Level::PTE { core.zero_page() } else { huge()? };
            let flags = region.rights().with(Flags::ANON.with(Flags::ZERO).with(Flags::ACCESSED));
            (Leaf { frame, flags }, false)
        } else {
            let owner = PageOwner::Anonymous(root.id);
            let frame = core.alloc_zeroed(level.order(), owner, region.index(start))?.pfn();
            (Leaf { frame, flags: fault.exclusive_flags() }, true)
        };
        if !core.change(slot, 0, E::Arch::leaf(level, leaf)) && counted {
            core.drop_block(leaf.frame, level.order());
        }
        Ok(())
    }

    /// A leaf is present but does not allow what the thread wants: sets flags, or copies (COW).
    fn upgrade(
        &self,
        fault: &FaultContext<'_, 'z, E>,
        found: WalkEnd,
        leaf: Leaf,
    ) -> Result<FaultTurn, Shortage> {
        let core = &self.core;
        let level = found.slot.level;
        let more = |flags: Flags| {
            let bits = E::Arch::leaf(level, Leaf { flags: leaf.flags.with(flags), ..leaf });
            core.change(found.slot, found.bits, bits);
            Ok(FaultTurn::Again)
        };
        let write = fault.write_flags();
        if leaf.flags.has(Flags::EXCLUSIVE) {
            return more(write);
        }
        if leaf.flags.has(Flags::ANON) && core.is_exclusive(level, leaf) {
            return more(write.with(Flags::EXCLUSIVE));
        }
        let Some(root) = fault.region.backing.anon_root() else {
            // A leaf of an object mapped shared is exclusive from the start.
            return more(write.with(Flags::EXCLUSIVE));
        };
        if level == Level::PTE {
            self.copy_page(fault, root, found, leaf)?;
        } else {
            self.copy_huge(fault, root, found, leaf)?;
        }
        Ok(FaultTurn::Again)
    }

    fn copy_page(
        &self,
        fault: &FaultContext<'_, 'z, E>,
        root: &AnonRoot<E, SpaceInner<'z, E>>,
        found: WalkEnd,
        leaf: Leaf,
    ) -> Result<(), Shortage> {
        let core = &self.core;
        let FaultContext { region, addr, .. } = *fault;
        let new = BlockGuard::new(core.zone, core.allocate(Request::new(Order::PAGE))?.pfn(), Order::PAGE);
        // Another fault may replace the leaf and give its page back: a pin keeps the page for the
        // copy. If the frame has got another owner before the pin, the entry has changed, and the
        // copy is given back.
        let source = (!leaf.flags.has(Flags::ZERO)).then(|| core.zone.try_pin(leaf.frame));
        if matches!(source, Some(Err(_))) {
            return Ok(());
        }
        core.copy_frames(leaf.frame, new.head(), 1);
        drop(source);
        let _leaves = self.leaves.write();
        core.infos.describe(new.head(), 1, PageOwner::Anonymous(root.id), region.index(addr));
        self.replace(fault, found, new);
        Ok(())
    }

    /// A write to a leaf above 4 KiB whose memory is not exclusive to it: copies all of it, or
    /// splits the mapping.
    fn copy_huge(
        &self,
        fault: &FaultContext<'_, 'z, E>,
        root: &AnonRoot<E, SpaceInner<'z, E>>,
        found: WalkEnd,
        leaf: Leaf,
    ) -> Result<(), Shortage> {
        let core = &self.core;
        let FaultContext { region, addr, .. } = *fault;
        // While the lock is held the leaf stays, and with it the count that keeps its memory.
        let _leaves = self.leaves.write();
        if core.bits(found.slot) != found.bits {
            return Ok(());
        }
        let order = found.slot.level.order();
        let request = Request::new(order);
        let whole = if region.is_hugetlb() {
            Some(core.allocate(request.unsplittable())?)
        } else if leaf.flags.has(Flags::ANON)
            && self.fits_huge(region, addr)
            && (leaf.flags.has(Flags::ZERO) || core.config.cow == Cow::Whole)
        {
            core.allocate(request).ok()
        } else {
            None
        };
        let Some(whole) = whole else { return self.split_leaf(found, addr) };
        let new = BlockGuard::new(core.zone, whole.pfn(), order);
        if leaf.flags.has(Flags::ZERO) {
            core.clear(new.head(), order);
        } else {
            core.copy_frames(leaf.frame, new.head(), order.frames());
        }
        let start = found.slot.reach(addr).start;
        let owner = PageOwner::Anonymous(root.id);
        core.infos.describe(new.head(), order.frames(), owner, region.index(start));
        self.replace(fault, found, new);
        Ok(())
    }

    /// Puts a leaf for the copy in the place of the leaf found, unless the entry has changed. With
    /// the leaf lock.
    ///
    /// The entry is absent until no CPU has the old translation: else one thread would write to the
    /// copy while another still reads the page that was copied.
    fn replace(&self, fault: &FaultContext<'_, 'z, E>, found: WalkEnd, new: BlockGuard<'z>) {
        let Some((absent, old)) = self.break_leaf(found, fault.addr) else { return };
        let level = found.slot.level;
        let leaf = Leaf { frame: new.keep(), flags: fault.exclusive_flags() };
        absent.put(E::Arch::leaf(level, leaf));
        self.core.uncount_leaf(level, old);
    }

    /// Makes the leaf in `found`, which reaches `addr`, absent, and invalidates its translations;
    /// `None` if the entry is no longer what was found. With the leaf lock, or the region lock
    /// exclusively.
    pub(crate) fn break_leaf(
        &self,
        found: WalkEnd,
        addr: VirtAddr,
    ) -> Option<(AbsentEntry<'_, 'z, E>, Leaf)> {
        let unchanged = self.core.bits(found.slot) == found.bits;
        let absent = unchanged.then(|| AbsentEntry::new(&self.core, found.slot))?;
        let TableEntry::Leaf(leaf) = absent.was() else { return None };
        self.invalidate(Stale { range: found.slot.reach(addr), tables: false });
        Some((absent, leaf))
    }
}
