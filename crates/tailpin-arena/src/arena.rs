//! The arena: where buffers come from.

use std::any::Any;
use std::fmt;
use std::mem::ManuallyDrop;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use tailpin::{Audit, FrameRange, Order, Pfn, Request};

use crate::arena_ptr::Root;
use crate::backing::{Ability, Backing};
use crate::error::{AllocError, ReleaseError};
use crate::handles::buffer::Buffer;
use crate::handles::fragments::Fragments;
use crate::handles::scattered::pieces::Pieces;
use crate::memory::abilities::Abilities;
use crate::memory::{PAGE_SIZE, bytes_of, release_failed};
use crate::observe::counters::{self, Counters};
use crate::observe::page_walk;
use crate::observe::stats::{Holder, LeakReport, Stats};
use crate::page_notes::TagNumber;
use crate::reclaim::release::{ReleaseCall, Released};
use crate::reclaim::releaser::{Pace, Releaser, is_passing};
use crate::shared_state::Inner;
use crate::thread_slot::processors;

/// Memory for buffers of any size up to 1 GiB, whose slices keep only the pages they touch.
///
/// A handle: clones are the same arena, for any thread. Slices and buffers don't need a handle to
/// stay; the memory is unmapped when the last of all these is gone.
///
/// ```
/// use tailpin_arena::Arena;
///
/// let arena = Arena::builder().size(64 << 20).build()?;
/// let mut buffer = arena.alloc(2 << 20)?;       // writable, and this thread's alone
/// buffer[5000..5011].copy_from_slice(b"hello world");
/// let whole = buffer.freeze();                  // readable, from any thread
/// let record = whole.slice(5000..5011);
/// drop(whole);                                  // 511 of its 512 pages are free again
/// assert_eq!(&record[..], b"hello world");
/// assert_eq!(record.retained_bytes(), 4096);
/// assert_eq!(arena.stats().pinned_by_last_slice, 4096);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Arena {
    handles: Arc<Handles>,
}

/// Times an allocation looks again while memory is being given back.
const RELEASE_TRIES: usize = 1000;

/// The one keepalive of all handles together.
struct Handles {
    root: Root,
    /// Pages that are being filled with small copies.
    fragments: Fragments,
    /// Called if anything is in use when the last handle goes.
    on_leak: Option<fn(&LeakReport)>,
}

impl Drop for Handles {
    fn drop(&mut self) {
        // Its drop is last of all, also when the caller's report panics.
        let last = HandlesCount(self.root);
        // SAFETY: the handles' keepalive lasts until `last` is dropped.
        let inner = unsafe { self.root.inner() };
        if let Some(releaser) = inner.releaser.get() {
            // It finds that no handle is left.
            releaser.unpark();
        }
        if !inner.is_child() {
            self.fragments.give_up(self.root);
        }
        let left = inner.budget.used();
        if left > 0 && !inner.is_child() {
            inner.events.outlived(bytes_of(left));
        }
        if left > 0
            && !inner.is_child()
            && let Some(on_leak) = self.on_leak
        {
            on_leak(&LeakReport {
                bytes: bytes_of(left),
                holders: page_walk::worst_holders(inner, usize::MAX),
            });
        }
        drop(last);
    }
}

/// A block that was handed out and is no buffer yet: its pages are not counted. Its owner has a
/// handle of the arena.
struct Uncharged {
    root: Root,
    block: FrameRange,
}

impl Uncharged {
    /// The block with its one reference.
    fn into_block(self) -> FrameRange {
        ManuallyDrop::new(self).block
    }
}

impl Drop for Uncharged {
    fn drop(&mut self) {
        // SAFETY: the one reference is this value's, and its owner has a handle.
        unsafe { self.root.drop_uncharged(self.block) };
    }
}

/// Blocks that were handed out and are no buffer yet: their pages are not counted. Their owner has
/// a handle of the arena.
struct UnchargedPieces {
    root: Root,
    heads: Vec<Pfn>,
    order: Order,
}

impl UnchargedPieces {
    /// The blocks with their one reference each.
    fn into_heads(mut self) -> Vec<Pfn> {
        std::mem::take(&mut self.heads)
    }
}

impl Drop for UnchargedPieces {
    fn drop(&mut self) {
        for head in self.heads.drain(..) {
            // SAFETY: the one reference is this value's, and its owner has a handle.
            unsafe { self.root.drop_uncharged(FrameRange::block(head, self.order)) };
        }
    }
}

/// Ends the handles' keepalive.
struct HandlesCount(Root);

impl Drop for HandlesCount {
    fn drop(&mut self) {
        // SAFETY: made for the end of the handles alone, which use nothing of the arena after it.
        unsafe { self.0.close() }
    }
}

/// A handle that doesn't keep the arena alive.
pub(crate) struct WeakArena(Weak<Handles>);

impl WeakArena {
    pub(crate) fn upgrade(&self) -> Option<Arena> {
        Some(Arena { handles: self.0.upgrade()? })
    }
}

impl Arena {
    pub(crate) fn new(root: Root, on_leak: Option<fn(&LeakReport)>) -> Self {
        let handles = Arc::new(Handles { root, fragments: Fragments::new(processors()), on_leak });
        let weak: Weak<dyn Any + Send + Sync> = Arc::<Handles>::downgrade(&handles);
        let arena = Self { handles };
        // This is the first handle, so nothing is there yet.
        let _ = arena.inner().handles.set(weak);
        arena
    }

    pub(crate) fn root(&self) -> Root {
        self.handles.root
    }

    /// Pages that are being filled with small copies.
    pub(crate) fn fragments(&self) -> &Fragments {
        &self.handles.fragments
    }

    /// A handle for a thread that must not keep the arena alive.
    pub(crate) fn downgrade(&self) -> WeakArena {
        WeakArena(Arc::downgrade(&self.handles))
    }

    /// What the handles share, to look at its words; panics in a child that has no part in it.
    fn at_home(&self) -> &Inner {
        let inner = self.inner();
        inner.assert_home();
        inner
    }

    #[inline]
    pub(crate) fn inner(&self) -> &Inner {
        // SAFETY: a handle is a keepalive, and this one lives as long as what is returned.
        unsafe { self.handles.root.inner() }
    }

    /// The order of the block that a buffer of `len` bytes needs.
    #[inline]
    pub(crate) fn order_for(len: usize) -> Result<Order, AllocError> {
        let pages = len.div_ceil(PAGE_SIZE).max(1);
        let order = pages.checked_next_power_of_two().and_then(|n| Order::new(n.trailing_zeros() as u8));
        order.ok_or(AllocError::TooLarge { asked: len })
    }

    /// A buffer of `len` bytes, whose pages the caller has taken of the budgets: they are the
    /// buffer's from here on, unless this is an error.
    #[inline]
    pub(crate) fn obtain(&self, len: usize, tag: TagNumber) -> Result<Buffer, AllocError> {
        // Most buffers are one page, for which half of the work is known beforehand.
        if len <= PAGE_SIZE {
            return self.obtain_of(len, Order::PAGE, tag);
        }
        self.obtain_of(len, Self::order_for(len)?, tag)
    }

    /// As [`Arena::obtain`], out of a block of that order.
    #[inline(always)]
    fn obtain_of(&self, len: usize, order: Order, tag: TagNumber) -> Result<Buffer, AllocError> {
        if self.inner().is_child() {
            return Err(AllocError::ForkedChild);
        }
        match self.take(order) {
            Some(head) => self.hand_out(head, order, len, tag),
            None => Err(self.out_of_memory(len, order)),
        }
    }

    /// A buffer of `len` bytes out of a block that was just taken, whose pages are counted as the
    /// caller of [`Arena::obtain`] says.
    #[inline(always)]
    pub(crate) fn hand_out(
        &self,
        head: Pfn,
        order: Order,
        len: usize,
        tag: TagNumber,
    ) -> Result<Buffer, AllocError> {
        let head = match self.inner().populate(head, order) {
            Ok(()) => head,
            Err(shortage) => self.another(head, order, shortage)?,
        };
        Ok(self.noted(head, order, len, tag))
    }

    /// As [`Arena::hand_out`], where the block has memory: it is noted whose it is.
    #[inline(always)]
    pub(crate) fn noted(&self, head: Pfn, order: Order, len: usize, tag: TagNumber) -> Buffer {
        let (inner, root) = (self.inner(), self.handles.root);
        inner.history.record(head, order);
        inner.notes.hand_out(head, order, tag, inner.tags.any());
        // SAFETY: the block's only reference is the new buffer's from here on, and so many of
        // its pages are counted as `len` bytes need.
        let made = unsafe { Buffer::adopt_longer(root, FrameRange::block(head, order), len) };
        #[cfg(feature = "compio")]
        // SAFETY: the block is this buffer's alone, and no reference to its bytes was made yet.
        unsafe {
            made.define();
        }
        made
    }

    /// The first page of a block that can be populated, where the kernel's pool has no huge page
    /// for this one.
    #[cold]
    fn another(&self, first: Pfn, order: Order, shortage: AllocError) -> Result<Pfn, AllocError> {
        let uncharged = |head| Uncharged { root: self.handles.root, block: FrameRange::block(head, order) };
        // Kept until others have been tried.
        let mut unpopulated = vec![uncharged(first)];
        loop {
            let block = uncharged(self.take(order).ok_or(shortage)?);
            if self.inner().populate(block.block.start, order).is_ok() {
                return Ok(block.into_block().start);
            }
            unpopulated.push(block);
        }
    }

    /// Pieces of `order` for `len` bytes, whose pages the caller has taken of the budgets: they are
    /// the pieces' from here on, unless this is an error.
    pub(crate) fn obtain_pieces(
        &self,
        len: usize,
        order: Order,
        tag: TagNumber,
    ) -> Result<Pieces, AllocError> {
        let inner = self.inner();
        if inner.is_child() {
            return Err(AllocError::ForkedChild);
        }
        let n = len.div_ceil(order.bytes() as usize);
        if (n as u64).saturating_mul(order.frames()) > inner.data.pages {
            return Err(self.out_of_memory(len, order));
        }
        let (now, tagged) = (inner.history.now(), inner.tags.any());
        let mut taken = UnchargedPieces { root: self.handles.root, heads: Vec::with_capacity(n), order };
        // Pages come by the row; other blocks from where this thread parked them.
        let by_row = if order == Order::PAGE { n } else { 0 };
        let mut many = inner.zone.alloc_many(Request::new(order), by_row);
        while let Some(row) = many.next_row() {
            let (before, pages) = (taken.heads.len(), ManuallyDrop::new(row).pages());
            taken.heads.extend(pages.iter());
            inner.populate_pages(pages)?;
            let pages = &taken.heads[before..];
            inner.history.record_pages(pages, now);
            inner.notes.hand_out_pages(pages, tag);
        }
        drop(many);
        while taken.heads.len() < n {
            // A thread that gives memory back may have had some pages to itself.
            let head = self.take(order).ok_or_else(|| self.out_of_memory(len, order))?;
            taken.heads.push(head);
            inner.populate(head, order)?;
            inner.history.record_at(head, order, now);
            inner.notes.hand_out(head, order, tag, tagged);
        }
        // SAFETY: each block has one reference, which is the pieces' from here on, and its pages
        // are counted.
        Ok(unsafe { Pieces::adopt(self.handles.root, taken.into_heads(), order) })
    }

    /// The first page of a block with one reference.
    #[inline(always)] // A result that goes through memory costs more than all the rest.
    fn take(&self, order: Order) -> Option<Pfn> {
        let Some(zone) = self.inner().own_zone() else { return self.take_shared(order) };
        match zone.alloc(order) {
            Ok(block) => Some(ManuallyDrop::new(block).pfn()),
            Err(_) => self.take_again(order),
        }
    }

    /// The first page of a block, for a thread that shares slots.
    #[inline(never)]
    fn take_shared(&self, order: Order) -> Option<Pfn> {
        let block = self.inner().zone.alloc(order).ok();
        block.map(|block| ManuallyDrop::new(block).pfn()).or_else(|| self.take_again(order))
    }

    /// A block where the first look found none, once memory that is being given back is there
    /// again.
    #[cold]
    fn take_again(&self, order: Order) -> Option<Pfn> {
        let inner = self.inner();
        // A thread that gives memory back has some frames to itself for about a millisecond at a
        // time.
        let mut tries = 0..RELEASE_TRIES;
        while inner.releasing.is_locked() && tries.next().is_some() {
            thread::yield_now();
            if let Ok(block) = inner.zone.alloc(order) {
                return Some(ManuallyDrop::new(block).pfn());
            }
        }
        None
    }

    /// Why there is no block for `len` bytes.
    #[cold]
    fn out_of_memory(&self, len: usize, order: Order) -> AllocError {
        let free = bytes_of(self.inner().zone.free_frames());
        let block = order.bytes() as usize;
        let why = AllocError::OutOfMemory { asked: len, block, free, largest_free: self.largest_free() };
        self.inner().events.refuse(&why);
        why
    }

    /// Size of the arena's data in bytes.
    pub fn size(&self) -> usize {
        bytes_of(self.inner().data.pages)
    }

    /// Address of the first byte.
    pub fn base(&self) -> NonNull<u8> {
        self.inner().data.base
    }

    /// The file behind a memfd arena, which only Linux has: its first [`Arena::size`] bytes are the
    /// data, what follows is the arena's own.
    ///
    /// # Safety
    /// Whatever is done by way of the file, in this process or another, the file keeps its length,
    /// its own part is not written to, and bytes of the data are written to, or holes made, only on
    /// behalf of the owner of the [`Buffer`] they lie in: a [`Slice`](crate::Slice) is read as
    /// memory that doesn't change.
    #[cfg(all(target_os = "linux", not(tailpin_portable)))]
    pub unsafe fn file(&self) -> Option<BorrowedFd<'_>> {
        self.inner().data.mapped()?.file()
    }

    /// What the arena's memory is.
    pub fn backing(&self) -> Backing {
        self.inner().backing
    }

    /// What the arena can do at this moment, and why it can't do the rest.
    pub fn abilities(&self) -> Abilities {
        let inner = self.inner();
        let registered = inner.registrations.load(Ordering::Relaxed) > 0;
        Abilities::of(inner.backing, inner.is_locked(), registered, inner.look_ability())
    }

    /// Where all bytes are. A snapshot, taken page by page; looks at every page of partly used
    /// pageblocks.
    ///
    /// # Panics
    /// In a forked child that has no part in the memory.
    pub fn stats(&self) -> Stats {
        page_walk::stats(self.at_home())
    }

    /// Figures for a scrape every few seconds: the work is the same for an arena of any size, some
    /// hundred words that are looked at.
    ///
    /// ```
    /// # use tailpin_arena::Arena;
    /// # let arena = Arena::builder().size(64 << 20).limit(8 << 20).build()?;
    /// let kept = arena.alloc(6 << 20)?;
    /// assert!(arena.try_alloc(4 << 20).is_err());
    /// let counters = arena.counters();
    /// assert_eq!((counters.in_use, counters.refused), (6 << 20, 1));
    /// assert_eq!(counters.largest_free, 32 << 20);
    /// # drop(kept);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// In a forked child that has no part in the memory.
    pub fn counters(&self) -> Counters {
        counters::counters(self.at_home())
    }

    /// Bytes of the largest block that is free: the longest buffer that can be had at this moment,
    /// if the limit allows it. Has free pages coalesce, and looks at every pageblock until it finds
    /// a block of 1 GiB.
    ///
    /// # Panics
    /// In a forked child that has no part in the memory.
    pub fn largest_free(&self) -> usize {
        let inner = self.at_home();
        inner.zone.drain();
        page_walk::largest_free(inner)
    }

    /// The buffers that keep the most memory: up to `n` buffers of which pages are still in use,
    /// those with most of them first, and among equals the oldest.
    ///
    /// ```
    /// # use tailpin_arena::Arena;
    /// # let arena = Arena::builder().size(16 << 20).build()?;
    /// let kept = arena.alloc_tagged(2 << 20, "http-header")?.freeze().slice(100..300);
    /// let worst = &arena.worst_holders(1)[0];
    /// assert_eq!((worst.tag.as_deref(), worst.kept_bytes), (Some("http-header"), 4096));
    /// assert_eq!(worst.buffer_bytes, 2 << 20);
    /// # drop(kept);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// In a forked child that has no part in the memory.
    pub fn worst_holders(&self, n: usize) -> Vec<Holder> {
        page_walk::worst_holders(self.at_home(), n)
    }

    /// As [`Arena::worst_holders`], among the buffers of a part of the arena: looks at no more than
    /// `most` 2 MiB that have memory, and goes on with the others at the next call. True if all
    /// have been looked at since the first call, or since it was true last.
    ///
    /// For a program that asks while it serves: 2 MiB are at most 512 words, and a bit for each 2
    /// MiB of address space is looked at besides.
    ///
    /// # Panics
    /// In a forked child that has no part in the memory.
    pub fn worst_holders_within(&self, n: usize, most: usize) -> (Vec<Holder>, bool) {
        page_walk::worst_holders_within(self.at_home(), n, most)
    }

    /// Declares that the memory is registered with the kernel or a device, for as long as the guard
    /// lives: its frames must not change, so nothing is given back to the system. Free pages are
    /// reused inside the arena as before.
    ///
    /// # Errors
    /// [`ReleaseError::Refused`] if this memory can't be registered; [`ReleaseError::ForkedChild`];
    /// [`ReleaseError::System`] if the kernel's pool lacks the huge pages that were given back.
    pub fn registered(&self) -> Result<Registration, ReleaseError> {
        let inner = self.inner();
        if inner.is_child() {
            return Err(ReleaseError::ForkedChild);
        }
        if let Ability::No(reason) = self.abilities().register {
            return Err(ReleaseError::Refused(reason));
        }
        // SeqCst on both sides: a thread that takes memory away locks first and then looks at the
        // registrations, so of a registration and a lock that begin at the same time, one sees the
        // other.
        inner.registrations.fetch_add(1, Ordering::SeqCst);
        let registration = Registration { arena: self.clone() };
        while inner.releasing.is_locked() || inner.restoring.is_locked() {
            // Both look at the registrations after every pageblock, about a millisecond.
            thread::yield_now();
        }
        // What is registered is touched by that: all of it has memory from now on. To believe that
        // of huge pages that aren't there would be a SIGBUS later, so the pool has to have them
        // now.
        inner.populate_pool().map_err(release_failed("populate memory to be registered"))?;
        inner.residency.mark_all();
        Ok(registration)
    }

    /// Gives up to `target` bytes of free memory back to the system and says what the kernel says
    /// became of them.
    ///
    /// Wholly free 2 MiB pageblocks go first, then single pages between pages in use, which takes
    /// the huge page around them apart. What went back is free as before: the next buffer there
    /// brings memory again, and a pageblock that is wholly free again gets huge pages again.
    ///
    /// The work is in proportion to `target` (0.1 to 1 ms for 2 MiB), so a background thread can do
    /// it bit by bit: see [`Arena::spawn_releaser`]. [`usize::MAX`] asks for everything.
    ///
    /// ```
    /// # use tailpin_arena::Arena;
    /// let arena = Arena::builder().size(64 << 20).build()?;
    /// let mut buffer = arena.alloc(32 << 20)?;
    /// buffer.fill(1);
    /// let part = buffer.freeze().slice(0..100);
    /// let released = arena.release(usize::MAX)?;
    /// assert_eq!(released.returned, (32 << 20) - 4096);
    /// assert_eq!(part.len(), 100);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ReleaseError::Refused`] with the reason: the memory is registered, locked, the caller's,
    /// or of huge pages that go back only whole while none is wholly free. [`ReleaseError::Busy`]
    /// if another thread is giving memory back. [`ReleaseError::System`] if the kernel refused;
    /// what had gone back before is gone all the same.
    #[doc(alias = "reclaim")]
    #[doc(alias = "madvise")]
    pub fn release(&self, target: usize) -> Result<Released, ReleaseError> {
        ReleaseCall::begin(self.inner())?.run(target)
    }

    /// Gives back what is free above [`Builder::release_above`](crate::Builder::release_above), if
    /// that is 2 MiB or more; `None` if it is not. For runtimes that call it when they are idle;
    /// see [`ReleaseBy::Poll`](crate::ReleaseBy::Poll). When nothing is due it costs a few loads.
    ///
    /// # Errors
    /// As [`Arena::release`].
    pub fn poll_release(&self) -> Option<Result<Released, ReleaseError>> {
        let inner = self.inner();
        (!inner.is_child() && inner.is_due(0)).then(|| inner.release_excess(0))
    }

    /// Bytes that the system has given memory to, in use or free. An upper bound: memory that was
    /// handed out counts, touched or not. Of [`Backing::Heap`], which gives nothing back, it is
    /// what was ever handed out, in whole 2 MiB. The work is the same for an arena of any size.
    pub fn resident(&self) -> usize {
        bytes_of(self.inner().residency.there())
    }

    /// Starts a thread that gives free memory back at this pace, down to what
    /// [`Builder::keep_resident`](crate::Builder::keep_resident) says shall stay. It does not keep
    /// the arena alive.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tailpin_arena::{Arena, Pace};
    ///
    /// let arena = Arena::builder().size(64 << 20).keep_resident(4 << 20).build()?;
    /// let pace = Pace { step: 16 << 20, interval: Duration::from_millis(1) };
    /// let releaser = arena.spawn_releaser(pace)?;
    /// arena.alloc(32 << 20)?.fill(1);
    /// while arena.stats().free > 4 << 20 {
    ///     std::thread::sleep(Duration::from_millis(1));
    /// }
    /// assert!(releaser.stop()? >= 28 << 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ReleaseError::Refused`] if the arena can give nothing back, ever; [`ReleaseError::System`]
    /// if the system has no further thread.
    pub fn spawn_releaser(&self, pace: Pace) -> Result<Releaser, ReleaseError> {
        // A first call shows whether a thread would be of any use.
        match self.release(0) {
            Ok(_) => {}
            Err(error) if is_passing(error) => {}
            Err(error) => return Err(error),
        }
        let arena = self.downgrade();
        Releaser::spawn(pace, move |step| Some(arena.upgrade()?.release(step)))
    }

    /// Walks every page and proves that each is in exactly one state and all counts agree. At a
    /// quiet moment only: see [`tailpin::Zone::audit`].
    ///
    /// # Panics
    /// In a forked child that has no part in the memory.
    pub fn audit(&self) -> Audit {
        self.at_home().zone.audit()
    }

    /// How long ago the arena was built.
    pub fn age(&self) -> Duration {
        self.inner().history.lifetime()
    }

    /// All frame numbers of the arena's data; a slice's [`offset`](crate::Slice::offset) counts
    /// from the first.
    pub fn frames(&self) -> FrameRange {
        self.inner().frames()
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arena({} bytes of {})", self.size(), self.backing())
    }
}

/// While it lives, the arena's memory counts as registered. See [`Arena::registered`].
#[must_use = "the memory counts as registered only while this lives"]
pub struct Registration {
    arena: Arena,
}

impl Registration {
    /// The arena that stays registered.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SeqCst: pairs with the loads that follow a lock, see `Arena::registered`.
        self.arena.inner().registrations.fetch_sub(1, Ordering::SeqCst);
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registration({:?})", self.arena)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::try_lock::TryLock;

    /// A registration that begins while memory is being taken away must not end before that does.
    #[test]
    fn a_registration_waits_for_memory_that_is_on_its_way_out() {
        let arena = Arena::builder().size(4 << 20).build().unwrap();
        let turns: [fn(&Inner) -> &TryLock; 2] = [|inner| &inner.releasing, |inner| &inner.restoring];
        for turn in turns {
            let taken = turn(arena.inner()).try_lock().unwrap();
            let (told, hear) = mpsc::channel();
            thread::scope(|scope| {
                scope.spawn(|| told.send(arena.registered().unwrap()).unwrap());
                while arena.inner().registrations.load(Ordering::SeqCst) == 0 {
                    thread::yield_now();
                }
                assert!(hear.recv_timeout(Duration::from_millis(200)).is_err(), "while the turn is taken");
                drop(taken);
                drop(hear.recv().unwrap());
            });
            assert_eq!(arena.inner().registrations.load(Ordering::SeqCst), 0);
        }
    }

    #[test]
    #[cfg(all(target_os = "linux", not(tailpin_portable)))]
    fn a_releaser_waits_for_its_turn_and_does_not_keep_the_arena() {
        use std::sync::atomic::AtomicUsize;

        static LEFT: AtomicUsize = AtomicUsize::new(0);
        let report = |report: &LeakReport| LEFT.store(report.bytes, Ordering::SeqCst);
        let arena = Arena::builder().size(4 << 20).on_leak(report).build().unwrap();
        let mut buffer = arena.alloc(2 << 20).unwrap();
        buffer.fill(1);
        drop(buffer);
        let kept = arena.alloc(10).unwrap();
        let turn = arena.inner().releasing.try_lock().unwrap();
        let pace = crate::Pace { step: usize::MAX, interval: Duration::from_millis(1) };
        let releaser = arena.spawn_releaser(pace).unwrap();
        thread::sleep(Duration::from_millis(20));
        drop(turn);
        while arena.stats().given_back < 2 << 20 {
            thread::yield_now();
        }
        drop(arena);
        // It may be about its work for a moment more.
        while LEFT.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        assert_eq!(LEFT.load(Ordering::SeqCst), PAGE_SIZE);
        drop(kept);
        releaser.stop().unwrap();
    }
}
