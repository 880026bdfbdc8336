//! What all handles of an arena share, and the pointer they share it through.

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::io::{self, Errno};
use tailpin::{
    FrameRange, FreeSink, GetError, Misuse, OneWord, Order, PagePin, Pfn, Protocol, SplitError, Zone,
};

use crate::builder::Settings;
use crate::error::{AllocError, ReleaseError};
use crate::liveness::Life;
use crate::memory::backing::{Backing, Reason};
use crate::memory::fork::ForkMark;
use crate::memory::mapping::{Harmless, Mapping};
use crate::memory::{AREA, Data, PAGE, Words};
use crate::observe::history::History;
use crate::reclaim::residency::{ALL, Residency};

/// Everything behind an arena.
pub(crate) struct Inner {
    pub(crate) zone: Zone<'static>,
    pub(crate) life: Life,
    pub(crate) history: History,
    pub(crate) residency: Residency,
    pub(crate) settings: Settings,
    pub(crate) backing: Backing,
    /// The page words once more, with the frame of the first: what a count on a frame needs, and
    /// all it needs.
    page_words: &'static [AtomicU64],
    page_base: Pfn,
    /// Registrations that forbid giving memory back.
    pub(crate) registrations: AtomicU64,
    /// Somebody is giving memory back.
    pub(crate) releasing: Turn,
    /// Somebody is taking small pages from an area for a huge one.
    pub(crate) smoothing: Turn,
    /// Where the next release begins to look for single pages.
    pub(crate) release_from: AtomicU64,
    /// In a process whose memory is shared, says whether this is a forked child.
    fork: Option<ForkMark>,
    pub(crate) data: Data,
    /// Last: everything above uses the words.
    pub(crate) words: Words,
}

// SAFETY: the only field that is not `Send` and `Sync` by itself is `data`, whose addresses are of
// memory that belongs to the process; who may read or write it is settled by counts on frames.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

/// The parts an arena is put together from.
pub(crate) struct Parts {
    pub(crate) zone: Zone<'static>,
    pub(crate) history: History,
    pub(crate) residency: Residency,
    pub(crate) settings: Settings,
    pub(crate) backing: Backing,
    pub(crate) fork: Option<ForkMark>,
    pub(crate) data: Data,
    pub(crate) words: Words,
}

impl Inner {
    /// Frame numbers of the data.
    pub(crate) fn frames(&self) -> FrameRange {
        FrameRange::new(self.data.first, self.data.pages)
    }

    pub(crate) fn address(&self, page: Pfn) -> NonNull<u8> {
        debug_assert!(page >= self.data.first && page <= self.frames().end);
        // SAFETY: frame numbers are the data's, or the one after it, so the address is within or at
        // its end.
        unsafe { self.data.base.add((page.get() - self.data.first.get()) as usize * PAGE) }
    }

    pub(crate) fn page_of(&self, address: NonNull<u8>) -> Pfn {
        let offset = address.as_ptr() as usize - self.data.base.as_ptr() as usize;
        self.data.first.offset((offset / PAGE) as u64)
    }

    /// Where an area begins in the mapping.
    pub(crate) fn offset_of(&self, area: Pfn) -> usize {
        (area.get() - self.data.first.get()) as usize * PAGE
    }

    #[inline]
    pub(crate) fn is_child(&self) -> bool {
        self.fork.as_ref().is_some_and(ForkMark::is_child)
    }

    /// # Panics
    /// In a forked child that has no part in the memory and its words: to read there would be a
    /// segmentation fault.
    #[inline]
    pub(crate) fn assert_home(&self) {
        if self.is_child() {
            not_home();
        }
    }

    /// Sees to it that a block just handed out has memory under it when it is touched, huge where
    /// it can be.
    pub(crate) fn furnish(&self, head: Pfn, order: Order) -> Result<(), AllocError> {
        let part = order.min(Order::HUGE);
        let parts = order.frames() / part.frames();
        for at in (0..parts).map(|i| head.offset(i * part.frames())) {
            if part == Order::HUGE && self.residency.is_rough(at) {
                self.smooth(at);
            }
            if self.residency.is_all_there(at, part) {
                continue;
            }
            if let (Backing::HugeTlb(size), Some(mapping)) = (self.backing, self.data.mapping()) {
                let begin = self.offset_of(at) / size.bytes() * size.bytes();
                mapping
                    .advise(begin..begin + size.bytes(), Harmless::Populate)
                    .map_err(|_| AllocError::HugePageShortage { size })?;
            }
            self.residency.mark(at, part);
        }
        Ok(())
    }

    /// Has the kernel's pool put its huge pages under all of a hugetlb arena again.
    pub(crate) fn populate_pool(&self) -> io::Result<()> {
        let (Backing::HugeTlb(size), Some(mapping)) = (self.backing, self.data.mapping()) else {
            return Ok(());
        };
        for begin in (0..mapping.len()).step_by(size.bytes()) {
            mapping.advise(begin..begin + size.bytes(), Harmless::Populate)?;
            // Each that came is noted, also if the next doesn't: what isn't noted would not go
            // back.
            let first = self.data.first.offset((begin / PAGE) as u64);
            for area in (0..size.bytes() / AREA).map(|i| first.offset(i as u64 * Order::HUGE.frames())) {
                self.residency.mark(area, Order::HUGE);
            }
        }
        Ok(())
    }

    /// Makes an area that is all the caller's fit for a huge page again: what small pages it still
    /// has go, so that the next touch brings one. Where the kernel refuses, or memory is
    /// registered, whose frames must not change, the area stays as it is.
    fn smooth(&self, area: Pfn) {
        let Some(mapping) = self.data.mapping() else { return };
        // Whoever comes while another thread is at it leaves the area for the next time.
        let Some(_turn) = self.smoothing.enter() else { return };
        // After `enter`; SeqCst: see `Arena::registered`.
        if self.registrations.load(Ordering::SeqCst) == 0 {
            self.exchange(mapping, area);
        }
    }

    /// Whether the memory is locked: as the arena was built, or by the process since.
    pub(crate) fn is_locked(&self) -> bool {
        self.note_locked() || self.settings.locked
    }

    /// Whether any of the memory is locked, by the kernel's word (`mlock`, `mlockall`). What is
    /// locked has memory, also where the arena has not handed it out: that is noted.
    pub(crate) fn note_locked(&self) -> bool {
        let Some(mapping) = self.data.mapping().filter(|_| !self.is_child()) else { return false };
        if !mapping.is_locked(0..mapping.len()) {
            return false;
        }
        let areas = self.data.pages / Order::HUGE.frames();
        for area in (0..areas).map(|i| self.data.first.offset(i * Order::HUGE.frames())) {
            let begin = self.offset_of(area);
            if mapping.is_locked(begin..begin + AREA) {
                self.residency.mark(area, Order::HUGE);
            }
        }
        true
    }

    /// What the kernel's refusal to take memory means.
    pub(crate) fn refusal(&self, errno: Errno) -> ReleaseError {
        if errno == Errno::INVAL && self.is_locked() {
            // Since it was looked at.
            return ReleaseError::Refused(Reason::Locked);
        }
        ReleaseError::system("give memory back")(errno)
    }

    fn exchange(&self, mapping: &Mapping, area: Pfn) {
        let range = self.offset_of(area)..self.offset_of(area) + AREA;
        // A file keeps its pages, small as they are; only by a hole in it would they go.
        // SAFETY: all frames of the area are the caller's, who has given out no reference into them
        // yet.
        if self.data.file().is_none() && unsafe { mapping.discard(range.clone()) }.is_ok() {
            self.residency.clear(area, &ALL);
        }
        if mapping.advise(range, Harmless::Huge).is_ok() {
            self.residency.set_smooth(area);
        }
    }
}

/// Who is taking memory away: one thread at a time. It is noted by its process, as a fork can copy
/// the note into a child that has no such thread.
#[derive(Default)]
pub(crate) struct Turn(AtomicU32);

impl Turn {
    /// Goes in, unless another thread of this process is inside.
    pub(crate) fn enter(&self) -> Option<Inside<'_>> {
        let this = std::process::id();
        // SeqCst: see `Arena::registered`.
        let entered =
            self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |who| (who != this).then_some(this));
        entered.is_ok().then_some(Inside(self))
    }

    /// Whether a thread of this process is inside.
    pub(crate) fn is_taken(&self) -> bool {
        self.0.load(Ordering::SeqCst) == std::process::id()
    }
}

/// The turn is this thread's; its drop gives it up.
pub(crate) struct Inside<'t>(&'t Turn);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // SeqCst: see `Arena::registered`.
        self.0.0.store(0, Ordering::SeqCst);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.is_child() {
            // The parent's memory is not mapped here; something else may be where it was.
            self.data.disown();
            self.words.disown();
        }
    }
}

/// A pointer to what an arena's handles share. It is valid while the arena has a handle or a frame
/// in use: each owner of such a pointer has one or the other, which is what the `SAFETY` comments
/// call a *hold*.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Root(NonNull<Inner>);

// SAFETY: `Inner` is `Send` and `Sync`.
unsafe impl Send for Root {}
// SAFETY: as above.
unsafe impl Sync for Root {}

impl Root {
    /// The count of the handles is the caller's, to be given up with [`Root::lower`].
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { zone, history, residency, settings, backing, fork, data, words } = parts;
        let inner = Inner {
            page_base: zone.span().start,
            page_words: words.pages,
            zone,
            life: Life::new(),
            history,
            residency,
            settings,
            backing,
            registrations: AtomicU64::new(0),
            releasing: Turn::default(),
            smoothing: Turn::default(),
            release_from: AtomicU64::new(0),
            fork,
            data,
            words,
        };
        Self(NonNull::from(Box::leak(Box::new(inner))))
    }

    /// # Safety
    /// The caller has a hold for as long as it uses what is returned.
    #[inline]
    pub(crate) unsafe fn inner<'a>(self) -> &'a Inner {
        // SAFETY: by the caller's hold the arena is there; nobody ever has it exclusively before
        // the holds are gone.
        unsafe { self.0.as_ref() }
    }

    /// Ends holds: `frames` frames are free again, or the handles' one count goes. The last one
    /// takes the arena down.
    ///
    /// # Safety
    /// These holds were the caller's, or those of frames that the caller has freed, and are not
    /// used any more.
    #[inline]
    pub(crate) unsafe fn lower(self, frames: u64) {
        if frames == 0 {
            return;
        }
        // SAFETY: the holds to be ended are still counted, so the arena is there until this very
        // step.
        if unsafe { &(*self.0.as_ptr()).life }.lower(frames) {
            // SAFETY: no hold is left, so nobody else has a way to it; it came from a box.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }

    /// The protocol over the arena's page words, as a value on the caller's stack.
    ///
    /// The count that ends the caller's last hold is an operation on one word, after which another
    /// thread may take the arena down before this thread has returned. So no reference to anything
    /// but atomic words may be in use there: not to the zone, not to `Inner`.
    ///
    /// # Safety
    /// The caller has a hold.
    #[inline]
    unsafe fn protocol(self) -> OneWord<'static> {
        // SAFETY: by the caller's hold; nothing borrowed is kept but the words.
        let inner = unsafe { self.inner() };
        OneWord::new(inner.page_words, inner.page_base)
    }

    #[inline]
    fn freeing(self) -> Freeing {
        Freeing { root: self, freed: Cell::new(0) }
    }

    /// One more pin on a page.
    ///
    /// # Safety
    /// The caller has a pin on it.
    #[inline]
    pub(crate) unsafe fn pin_again(self, page: Pfn) -> Result<(), GetError> {
        // SAFETY: by the caller's pin.
        let (protocol, child) = unsafe { (self.protocol(), self.inner().is_child()) };
        if child { Ok(()) } else { protocol.get(held(page), &self.freeing()) }
    }

    /// A pin on a page of a block.
    ///
    /// # Safety
    /// The caller has a reference on the block.
    pub(crate) unsafe fn pin_in_block(self, page: Pfn) -> Result<(), GetError> {
        // SAFETY: by the caller's reference.
        let (protocol, child) = unsafe { (self.protocol(), self.inner().is_child()) };
        if child { Ok(()) } else { protocol.try_get(page, &self.freeing()).map(drop) }
    }

    /// Gives back a pin on each of `pages`.
    ///
    /// # Safety
    /// The pins are the caller's and are used up; the caller uses nothing of the arena afterwards
    /// on their strength.
    #[inline]
    pub(crate) unsafe fn unpin(self, pages: FrameRange) {
        // SAFETY: by the caller's pins.
        let (protocol, child) = unsafe { (self.protocol(), self.inner().is_child()) };
        if child {
            return;
        }
        let freeing = self.freeing();
        for page in pages.iter() {
            protocol.put(held(page), &freeing);
        }
        // SAFETY: these frames were freed by the puts, which have returned. If there are none,
        // nothing is touched.
        unsafe { self.lower(freeing.freed.get()) };
    }

    /// One more reference on each block of a run.
    ///
    /// # Safety
    /// The caller has a reference on each.
    #[inline]
    pub(crate) unsafe fn add_reference(self, blocks: FrameRange) -> Result<(), GetError> {
        // SAFETY: by the caller's references.
        let (protocol, child) = unsafe { (self.protocol(), self.inner().is_child()) };
        if child { Ok(()) } else { protocol.get_block(blocks, 1, &self.freeing()) }
    }

    /// Gives back a reference on each block of a run.
    ///
    /// # Safety
    /// As for [`Root::unpin`], with references.
    #[inline]
    pub(crate) unsafe fn drop_reference(self, blocks: FrameRange) {
        // SAFETY: by the caller's references.
        let (protocol, child) = unsafe { (self.protocol(), self.inner().is_child()) };
        if child {
            return;
        }
        let freeing = self.freeing();
        protocol.put_block(blocks, 1, &freeing);
        // SAFETY: as in `unpin`.
        unsafe { self.lower(freeing.freed.get()) };
    }

    /// Splits the blocks of a run so that one of them begins at `at`.
    ///
    /// # Safety
    /// The caller has the only reference on each block, and no page of them is pinned.
    pub(crate) unsafe fn split_at(self, blocks: FrameRange, at: Pfn) -> Result<(), SplitError> {
        let order = Order::new(at.get().trailing_zeros().min(u32::from(Order::MAX.get())) as u8);
        // SAFETY: by the caller's references.
        let protocol = unsafe { self.protocol() };
        protocol.split_around(blocks, at, order.unwrap_or(Order::MAX), &self.freeing())
    }

    /// Whether whoever has one reference on each block of the run has everything: no other
    /// reference, no pin.
    ///
    /// # Safety
    /// The caller has a reference on each block.
    pub(crate) unsafe fn is_sole_owner(self, blocks: FrameRange) -> bool {
        // SAFETY: by the caller's references.
        let protocol = unsafe { self.protocol() };
        let mut at = blocks.start;
        while blocks.contains(at) {
            // An Acquire load: it sees all that was done under the references and pins that are
            // gone.
            let state = protocol.state(at);
            if state.refs != 1 || state.pins != 0 {
                return false;
            }
            at = at.offset(state.order.frames());
        }
        true
    }
}

#[cold]
#[inline(never)]
fn not_home() -> ! {
    panic!("the arena's memory stayed with the parent of this forked process")
}

fn held(page: Pfn) -> PagePin {
    // Blocks of an arena are of the class whose pages are counted each by itself.
    PagePin { page, counted_at: page }
}

/// Hands what the protocol frees to the zone, and counts it. Reaches for the arena only when
/// something was freed: then those frames are still counted in its life.
struct Freeing {
    root: Root,
    freed: Cell<u64>,
}

impl Freeing {
    /// The zone, on behalf of frames that were just freed.
    fn zone(&self) -> &Zone<'static> {
        // SAFETY: called from inside the operation that freed frames; their count in `life` ends
        // after it.
        &unsafe { self.root.inner() }.zone
    }

    fn count(&self, frames: u64) {
        self.freed.set(self.freed.get() + frames);
    }
}

impl FreeSink for Freeing {
    #[inline]
    fn freed_block(&self, head: Pfn, order: Order) {
        self.zone().freed_block(head, order);
        self.count(order.frames());
    }

    fn freed_frames(&self, area: Pfn, frames: &[u64; 8]) {
        self.zone().freed_frames(area, frames);
        self.count(frames.iter().map(|word| u64::from(word.count_ones())).sum());
    }

    fn freed_offline(&self, frame: Pfn) {
        self.zone().freed_offline(frame);
        self.count(1);
    }

    #[cold]
    fn misuse(&self, misuse: Misuse) {
        // Can't happen through this crate's handles, each of which has the count that it gives
        // back.
        self.zone().misuse(misuse);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_a_fork_has_copied_is_not_taken() {
        let turn = Turn(AtomicU32::new(std::process::id() + 1));
        assert!(!turn.is_taken());
        let inside = turn.enter().unwrap();
        assert!(turn.is_taken() && turn.enter().is_none());
        drop(inside);
        assert!(!turn.is_taken() && turn.enter().is_some());
    }
}
