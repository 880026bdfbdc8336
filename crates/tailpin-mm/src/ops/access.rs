//! Memory through its address: reading, writing (`copy_from_user`, `copy_to_user`), the words of
//! futexes, and what a page is.
//!
//! All accesses go through the page table, as the hardware's do: inside a read-side section,
//! checking what the leaf allows and setting accessed and dirty in it.
//! [`Tlb::invalidate`](crate::Tlb::invalidate) waits for open sections of the space, so no access
//! is to a page that was given back.

use tailpin::Pfn;

use crate::addr::{Access, PAGE_BYTES, VirtAddr};
use crate::arch::{Arch, Flags, Leaf};
use crate::env::Env;
use crate::error::{FaultError, NotPresent};
use crate::frame_info::PageOwner;
use crate::mm::MmCore;
use crate::object::config::ObjectId;
use crate::ops::fault::{AccessBy, Want};
use crate::ops::pin::CountLimit;
use crate::page_table::walk::{Entries, LocklessWalk};
use crate::space::{Space, SpaceInner};

/// What a page is, for keys that have to be the same for all threads that wait on the same word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageIdentity {
    /// Private memory: known by space and address.
    Anonymous {
        /// Whether the mapping allowed writing at that moment.
        writable: bool,
    },
    /// An object's page: known by identity and index, in whatever space and at whatever address it
    /// is mapped.
    Object {
        /// The object's identity.
        object: ObjectId,
        /// Index of exactly this 4 KiB page in the object, read from the page itself (H9, H10).
        index: u64,
        /// Whether the mapping allowed writing at that moment.
        writable: bool,
    },
    /// A page of zeroes, which is never written to.
    Special,
}

impl<E: Env> Space<'_, E> {
    /// Reads bytes into `buf`; faults pages in where they aren't present.
    ///
    /// # Errors
    /// [`FaultError`] with the first address that can't be read; what is before it has been.
    pub fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), FaultError> {
        self.each_page(addr, buf.len(), Access::Read, |core, frame, at, part| {
            core.read_bytes(frame, at, &mut buf[part]);
        })
    }

    /// Writes the bytes of `buf`; faults pages in where they aren't present, and breaks
    /// copy-on-write.
    ///
    /// # Errors
    /// [`FaultError`] with the first address that can't be written; what is before it has been.
    pub fn write(&self, addr: VirtAddr, buf: &[u8]) -> Result<(), FaultError> {
        self.each_page(addr, buf.len(), Access::Write, |core, frame, at, part| {
            core.write_bytes(frame, at, &buf[part]);
        })
    }

    fn each_page(
        &self,
        addr: VirtAddr,
        len: usize,
        access: Access,
        mut f: impl FnMut(&MmCore<'_, E>, Pfn, usize, core::ops::Range<usize>),
    ) -> Result<(), FaultError> {
        let mut done = 0;
        while done < len {
            let at = addr.offset(done as u64);
            let in_page = (at.get() % PAGE_BYTES) as usize;
            // Below a page, and below what is left.
            let n = (PAGE_BYTES as usize).saturating_sub(in_page).min(len.saturating_sub(done));
            let part = done..done.saturating_add(n);
            match self.inner.touch(at, access, |frame| f(&self.inner.core, frame, in_page, part.clone())) {
                Ok(()) => done = part.end,
                Err(NotPresent { addr }) => self.inner.fault(addr, Want::of(access), AccessBy::Crate)?,
            }
        }
        Ok(())
    }

    /// The 32-bit word at `addr`. Never faults. Acquire.
    ///
    /// # Errors
    /// [`NotPresent`] if no page is, if it does not allow reading, or if `addr` is no multiple of
    /// 4.
    pub fn load_u32(&self, addr: VirtAddr) -> Result<u32, NotPresent> {
        let at = word_in_page(addr)?;
        self.inner.touch(addr, Access::Read, |frame| self.inner.core.load_u32(frame, at))
    }

    /// Writes the 32-bit word at `addr`. Release. Never faults: the first store to a page that was
    /// never touched fails. [`Space::write`] brings the page in, as does [`Space::fault`].
    ///
    /// # Errors
    /// [`NotPresent`] if no page is that allows writing, or if `addr` is no multiple of 4.
    pub fn store_u32(&self, addr: VirtAddr, value: u32) -> Result<(), NotPresent> {
        self.fetch_update_u32(addr, |_| Some(value)).map(|_| ())
    }

    /// Writes `new` to the 32-bit word at `addr` if it is `old`; the word found is returned either
    /// way. Never faults. AcqRel.
    ///
    /// # Errors
    /// [`NotPresent`] if no page is that allows writing, or if `addr` is no multiple of 4.
    pub fn compare_exchange_u32(
        &self,
        addr: VirtAddr,
        old: u32,
        new: u32,
    ) -> Result<Result<u32, u32>, NotPresent> {
        self.fetch_update_u32(addr, |found| (found == old).then_some(new))
    }

    /// Changes the 32-bit word at `addr` to what `new` makes of it, in one atomic step, unless that
    /// is `None`; the word found is returned either way. `new` may be called more than once, inside
    /// a section: it must not use this space. Never faults. AcqRel.
    ///
    /// # Errors
    /// [`NotPresent`] if no page is that allows writing, or if `addr` is no multiple of 4.
    pub fn fetch_update_u32(
        &self,
        addr: VirtAddr,
        new: impl FnMut(u32) -> Option<u32>,
    ) -> Result<Result<u32, u32>, NotPresent> {
        let at = word_in_page(addr)?;
        self.inner.touch(addr, Access::Write, |frame| self.inner.core.update_u32(frame, at, new))
    }

    /// What the page at `addr` is, made present as `access` needs. Its identity and index are read
    /// from the page itself, under a pin that is given back before the return: so they are right
    /// also if the page is split, merged or moved at the same time.
    ///
    /// # Errors
    /// [`FaultError`] if the page can't be made present so.
    pub fn identify(&self, addr: VirtAddr, access: Access) -> Result<PageIdentity, FaultError> {
        let inner = &self.inner;
        loop {
            match inner.look_at(addr, Want::of(access)).map_err(|_| FaultError::CountLimit { addr })? {
                Some(place) => return Ok(place),
                None => inner.fault(addr, Want::of(access), AccessBy::Crate)?,
            }
        }
    }
}

fn word_in_page(addr: VirtAddr) -> Result<usize, NotPresent> {
    if addr.is_aligned(4) { Ok((addr.get() % PAGE_BYTES) as usize) } else { Err(NotPresent { addr }) }
}

impl<E: Env> SpaceInner<'_, E> {
    /// Calls `f` with the frame of the page at `addr` if the leaf there allows `access`, and sets
    /// accessed and dirty, as the hardware does.
    #[inline]
    fn touch<R>(&self, addr: VirtAddr, access: Access, f: impl FnOnce(Pfn) -> R) -> Result<R, NotPresent> {
        if addr >= E::Arch::USER_END {
            return Err(NotPresent { addr });
        }
        let core = &self.core;
        let _section = self.enter();
        loop {
            let found = core.look_up(self.root(), addr);
            let Some(leaf) = core.leaf_of(found).filter(|leaf| Want::of(access).is_met_here(leaf.flags))
            else {
                return Err(NotPresent { addr });
            };
            let notes = Flags::ACCESSED.with_if(Flags::DIRTY, access == Access::Write);
            if !leaf.flags.has(notes) {
                let bits = E::Arch::leaf(found.slot.level, Leaf { flags: leaf.flags.with(notes), ..leaf });
                if !core.change(found.slot, found.bits, bits) {
                    continue;
                }
            }
            return Ok(f(leaf.frame.offset(Self::page_in(found, addr))));
        }
    }

    /// What the page is; `None` if no leaf meets `want`, or another thread changed it during the
    /// call. The pin ends with the call, so the leaf need not be `EXCLUSIVE`: a page shared after a
    /// fork is identified as it is.
    fn look_at(&self, addr: VirtAddr, want: Want) -> Result<Option<PageIdentity>, CountLimit> {
        if addr >= E::Arch::USER_END {
            return Ok(None);
        }
        let Some((pin, flags)) = self.pin_page(addr, want)? else { return Ok(None) };
        let (owner, index) = self.core.infos.read(pin.pfn());
        let writable = flags.has(Flags::WRITE);
        Ok(Some(match owner {
            PageOwner::Object(object) => PageIdentity::Object { object: ObjectId(object), index, writable },
            PageOwner::Anonymous(_) => PageIdentity::Anonymous { writable },
            PageOwner::None => PageIdentity::Special,
        }))
    }
}
