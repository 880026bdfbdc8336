//! Memory under blocks, huge where it can be: populated when a block is handed out, and made
//! eligible for transparent huge pages (THP) again where a release has split one.

use std::sync::atomic::Ordering;

use tailpin::{FrameMask, Order, Pfn, RowMask};

use crate::backing::Backing;
use crate::error::AllocError;
use crate::memory::mapped::Mapped;
use crate::memory::mapping::{Advice, Mapping};
use crate::memory::system::Errno;
use crate::memory::{PAGE_SIZE, PAGEBLOCK_SIZE};
use crate::shared_state::Inner;

impl Inner {
    /// Populates a block that was just handed out: when it is touched it has memory, huge where
    /// that can be.
    #[inline]
    pub(crate) fn populate(&self, head: Pfn, order: Order) -> Result<(), AllocError> {
        if order < Order::HUGE && self.residency.is_all_there(head, order) {
            return Ok(());
        }
        self.populate_parts(head, order)
    }

    /// As [`Inner::populate`], of pages of one row.
    #[inline]
    pub(crate) fn populate_pages(&self, pages: RowMask) -> Result<(), AllocError> {
        if self.residency.is_there(pages) {
            return Ok(());
        }
        pages.iter().try_for_each(|page| self.populate(page, Order::PAGE))
    }

    #[inline(never)]
    fn populate_parts(&self, head: Pfn, order: Order) -> Result<(), AllocError> {
        let part = order.min(Order::HUGE);
        let parts = order.frames() / part.frames();
        for at in (0..parts).map(|i| head.offset(i * part.frames())) {
            if part == Order::HUGE && self.residency.is_split(at) {
                self.restore_huge(at);
            }
            if self.residency.is_all_there(at, part) {
                continue;
            }
            if let (Backing::HugeTlb(size), Some(mapping)) = (self.backing, self.data.mapping()) {
                let begin = self.offset_of(at) / size.bytes() * size.bytes();
                mapping
                    .advise(begin..begin + size.bytes(), Advice::Populate)
                    .map_err(|_| AllocError::HugePageShortage { size })?;
            }
            self.residency.mark(at, part);
        }
        Ok(())
    }

    /// Has the kernel's pool put its huge pages under all of a hugetlb arena again.
    pub(crate) fn populate_pool(&self) -> Result<(), Errno> {
        let (Backing::HugeTlb(size), Some(mapping)) = (self.backing, self.data.mapping()) else {
            return Ok(());
        };
        for begin in (0..mapping.len()).step_by(size.bytes()) {
            mapping.advise(begin..begin + size.bytes(), Advice::Populate)?;
            // Each page that came is marked, also if the next doesn't come: a page that isn't
            // marked would never go back.
            let first = self.data.first.offset((begin / PAGE_SIZE) as u64);
            for pageblock in
                (0..size.bytes() / PAGEBLOCK_SIZE).map(|i| first.offset(i as u64 * Order::HUGE.frames()))
            {
                self.residency.mark(pageblock, Order::HUGE);
            }
        }
        Ok(())
    }

    /// Makes a pageblock of which the caller has every frame eligible for a huge page again: the
    /// small pages that it still has go, so that the next touch brings a huge one. Where the kernel
    /// refuses, or memory is registered, whose frames must not change, the pageblock stays as it
    /// is.
    fn restore_huge(&self, pageblock: Pfn) {
        let Some(mapping) = self.data.mapping() else { return };
        // A thread that comes while another has the lock leaves the pageblock for the next time.
        let Some(_turn) = self.restoring.try_lock() else { return };
        // After the lock is taken; SeqCst: see `Arena::registered`.
        if self.registrations.load(Ordering::SeqCst) == 0 {
            self.drop_small_pages(mapping, pageblock);
        }
    }

    fn drop_small_pages(&self, mapping: &Mapping, pageblock: Pfn) {
        let range = self.offset_of(pageblock)..self.offset_of(pageblock) + PAGEBLOCK_SIZE;
        // A file keeps its pages, small as they are; only by a hole in it would they go.
        let is_file = self.data.mapped().is_some_and(Mapped::is_file);
        // SAFETY: all frames of the pageblock are the caller's, who has given out no reference into
        // them yet.
        if !is_file && unsafe { mapping.discard(range.clone()) }.is_ok() {
            self.residency.clear(pageblock, &FrameMask::ALL);
        }
        if mapping.advise(range, Advice::Huge).is_ok() {
            self.residency.set_huge_eligible(pageblock);
        }
    }
}
