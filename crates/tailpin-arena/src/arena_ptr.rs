//! The pointer through which handles share an arena, and all counts on frames: the unsafe contract.

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use tailpin::{
    BlockRefs, CountedPin, Finally, FrameMask, FrameRange, FrameWords, FreeSink, GetError, LastPut, Misuse,
    OneWord, Order, PagePin, PageWord, ParkingPlace, Pfn, Pins, Rearrange, RowMask, SplitError, Zone,
};

use crate::arenas;
use crate::memory::bytes_of;
use crate::page_notes::TagNumber;
use crate::shared_state::Inner;
use crate::thread_slot::ThreadSlot;

/// A pointer to what an arena's handles share.
///
/// # Invariants
/// The pointer is valid while the arena's [`Budget`](crate::budget::Budget) counts anything: the
/// handles, or a page in use. Each owner of a `Root` has one of these, which the `SAFETY` comments
/// call its *keepalive*: the handles' one count, or a pin or reference that keeps a frame in use.
/// The shared state is never borrowed mutably before the last keepalive is gone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Root(NonNull<Inner>);

// SAFETY: `Inner` is `Send` and `Sync`.
unsafe impl Send for Root {}
// SAFETY: `&Root` is a copy of the pointer.
unsafe impl Sync for Root {}

impl Root {
    /// Of no arena, for what keeps nothing and never uses it.
    pub(crate) const NOWHERE: Self = Self(NonNull::dangling());

    /// The count of the handles is the caller's, to be given up with [`Root::lower`].
    pub(crate) fn new(inner: Inner) -> Self {
        let inner = Box::leak(Box::new(inner));
        let (start, bytes) = (inner.data.base.addr().get(), bytes_of(inner.data.pages));
        let root = Self(NonNull::from(inner));
        arenas::enter(start..start + bytes, root.0);
        root
    }

    /// The arena in which these bytes lie, if they lie in one of this process. It is there as long
    /// as they are: a handle that keeps their pages has lent them.
    pub(crate) fn around(bytes: &[u8]) -> Option<Self> {
        arenas::find(bytes).map(Self)
    }

    /// # Safety
    /// The caller is the thread that gave back the last keepalive.
    #[cold]
    unsafe fn take_down(self) {
        // SAFETY: no keepalive is left, so no other thread has a way to it; it came from a box.
        let inner = unsafe { Box::from_raw(self.0.as_ptr()) };
        arenas::leave(inner.data.base.addr().get());
        drop(inner);
    }

    /// # Safety
    /// The caller has a keepalive for as long as it uses what is returned.
    #[inline]
    pub(crate) unsafe fn inner<'a>(self) -> &'a Inner {
        // SAFETY: by the caller's keepalive the arena is there; no thread has it exclusively before
        // all keepalives are gone.
        unsafe { self.0.as_ref() }
    }

    /// Ends keepalives: `pages` pages of one tag are free again. The last of all takes the arena
    /// down.
    ///
    /// # Safety
    /// The caller has freed these pages, and uses nothing of the arena on their strength any more.
    #[inline]
    unsafe fn give_back(self, pages: u64, tag: TagNumber) {
        if pages != 0 {
            // SAFETY: the caller's promise.
            unsafe { self.give_some_back(pages, tag) };
        }
    }

    /// # Safety
    /// As [`Root::give_back`], of at least one page.
    #[inline(never)]
    unsafe fn give_some_back(self, pages: u64, tag: TagNumber) {
        // SAFETY: the caller's promise.
        unsafe { self.give_back_at(ThreadSlot::current(), pages, tag) };
    }

    /// Gives back at least one page at the thread's slot.
    ///
    /// # Safety
    /// As [`Root::give_back`].
    #[inline(always)]
    unsafe fn give_back_at(self, slot: ThreadSlot, pages: u64, tag: TagNumber) {
        // SAFETY: the pages are still counted, so the arena is there until the budget has them
        // back.
        let inner = unsafe { &*self.0.as_ptr() };
        let release = inner.release_due.filter(|_| inner.budget.counts_freed(slot, pages));
        // After that nothing is touched.
        if tag == TagNumber::NONE && release.is_none() && inner.budget.put_plainly(slot, pages) {
            return;
        }
        // SAFETY: the caller's promise.
        unsafe { self.give_back_and_tell(slot, pages, tag, release) };
    }

    /// Gives back pages of a tag, or releases memory first, if enough is free.
    ///
    /// # Safety
    /// As for `give_back`.
    #[inline(never)]
    unsafe fn give_back_and_tell(
        self,
        slot: ThreadSlot,
        pages: u64,
        tag: TagNumber,
        release: Option<fn(&Inner, u64)>,
    ) {
        // SAFETY: as in `give_back_at`.
        let inner = unsafe { &*self.0.as_ptr() };
        // However these go: they wake requests and tell subscribers, which are foreign code.
        // SAFETY: the caller's promise; the closure runs once, after all that is done here.
        let _then = Finally(|| unsafe { self.give_last_back(slot, pages) });
        if let Some(tag) = inner.tags.get(tag) {
            tag.budget.put_kept(slot, pages);
        }
        if let Some(release) = release.filter(|_| inner.is_due(pages)) {
            release(inner, pages);
        }
    }

    /// Gives back pages to the arena's own budget; after that nothing is touched.
    ///
    /// # Safety
    /// As for `give_back`.
    #[inline]
    unsafe fn give_last_back(self, slot: ThreadSlot, pages: u64) {
        // SAFETY: as in `give_back_at`.
        let inner = unsafe { &*self.0.as_ptr() };
        if inner.budget.put(slot, pages, || inner.handles.get()?.upgrade()) {
            // SAFETY: the budget says so.
            unsafe { self.take_down() };
        }
    }

    /// Ends the handles' keepalive. The last keepalive of all takes the arena down.
    ///
    /// # Safety
    /// The arena's handles are gone, and this is called once.
    pub(crate) unsafe fn close(self) {
        // SAFETY: the handles' keepalive lasts until the budget is closed.
        if unsafe { &(*self.0.as_ptr()).budget }.close() {
            // SAFETY: the budget says so.
            unsafe { self.take_down() };
        }
    }

    /// The tag of a page.
    ///
    /// # Safety
    /// The caller keeps the page.
    #[inline]
    unsafe fn tag_of(self, page: Pfn) -> TagNumber {
        // SAFETY: the caller's count is a keepalive.
        let inner = unsafe { self.inner() };
        if inner.tags.any() && !inner.is_child() { inner.notes.tag(page) } else { TagNumber::NONE }
    }

    /// The protocol over the arena's page words, as a value on the caller's stack.
    ///
    /// The count that ends the caller's last keepalive is an operation on one word, after which
    /// another thread may take the arena down before this thread has returned. So no reference to
    /// anything but atomic words may be in use there: not to the zone, not to `Inner`.
    ///
    /// # Safety
    /// The caller has a keepalive.
    #[inline]
    unsafe fn protocol(self) -> OneWord<'static> {
        // SAFETY: by the caller's keepalive; nothing borrowed is kept but the words.
        let inner = unsafe { self.inner() };
        OneWord::with_safeguards(inner.page_words, inner.page_base)
    }

    /// The page words, to look at.
    ///
    /// # Safety
    /// The caller has a keepalive for as long as it uses them.
    pub(crate) unsafe fn words(self) -> impl FrameWords {
        // SAFETY: by the caller's keepalive.
        unsafe { self.protocol() }
    }

    #[inline]
    fn freeing(self) -> Freeing {
        Freeing { root: self, freed: Cell::new(0) }
    }

    /// One more pin on a page.
    ///
    /// # Safety
    /// The caller has a pin on it, which is counted in this word.
    #[inline(always)]
    pub(crate) unsafe fn pin_again(self, word: PinWord) -> Result<(), GetError> {
        // SAFETY: by the caller's pin.
        let (protocol, child) = unsafe { (self.protocol(), self.inner().is_child()) };
        // SAFETY: by the caller's pin.
        if child { Ok(()) } else { protocol.get(unsafe { word.pin_on(Pfn::new(0)) }, &self.freeing()) }
    }

    /// One more pin on a page, and the word in which it is counted.
    ///
    /// # Safety
    /// The caller has a pin on it.
    pub(crate) unsafe fn pin_again_at(self, page: Pfn) -> Result<PinWord, GetError> {
        // SAFETY: by the caller's pin.
        let inner = unsafe { self.inner() };
        if inner.is_child() {
            return Ok(PinWord::UNUSED);
        }
        // SAFETY: by the caller's pin.
        let protocol = unsafe { self.protocol() };
        let word = PinWord(NonNull::from(protocol.counted(pin_on(page)).word()));
        // SAFETY: by the caller's pin.
        unsafe { self.pin_again(word) }.map(|()| word)
    }

    /// A pin on a page of a block, and the word in which it is counted.
    ///
    /// # Safety
    /// The caller has a reference on the block.
    #[inline]
    pub(crate) unsafe fn pin_in_block(self, page: Pfn) -> Result<PinWord, GetError> {
        // SAFETY: by the caller's reference.
        let inner = unsafe { self.inner() };
        if inner.is_child() {
            return Ok(PinWord::UNUSED);
        }
        // SAFETY: by the caller's reference.
        let protocol = unsafe { self.protocol() };
        // It is counted on the page itself, see `pin_on`; what comes with the pin would come
        // through memory.
        let word = PinWord(NonNull::from(protocol.word_at(page)));
        protocol.try_get(page, &self.freeing()).map(|_| word)
    }

    /// Gives back a pin on a page.
    ///
    /// # Safety
    /// The pin is the caller's, is counted in this word and is used up; the caller uses nothing of
    /// the arena afterwards on its strength.
    #[inline(always)]
    pub(crate) unsafe fn unpin(self, word: PinWord) {
        // SAFETY: by the caller's pin.
        let inner = unsafe { self.inner() };
        if inner.is_child() {
            return;
        }
        let (words, base) = (inner.page_words, inner.page_base);
        let tag = if inner.tags.any() { inner.notes.tag(word.page(words, base)) } else { TagNumber::NONE };
        // SAFETY: by the caller's pin; which page it is on matters after the last one alone.
        if let Some(last) = OneWord::<AtomicU64>::put_step(unsafe { word.pin_on(base) }) {
            // SAFETY: the pin was on this page, and the step on its word is done.
            unsafe { self.unpin_last(words, base, word, last, tag) };
        }
    }

    /// What is left to be done after the step that gave back the last pin on a page.
    ///
    /// # Safety
    /// As [`Root::unpin`]; the words are those of the arena.
    #[inline(never)] // All of it comes in registers, unlike a protocol.
    unsafe fn unpin_last(
        self,
        words: &'static [AtomicU64],
        base: Pfn,
        word: PinWord,
        last: LastPut,
        tag: TagNumber,
    ) {
        let freeing = self.freeing();
        OneWord::new(words, base).finish_put(word.page(words, base), last, &freeing);
        // SAFETY: the frame was freed by the put, which has returned. If not, nothing is touched.
        unsafe { self.give_back(freeing.freed.get(), tag) };
    }

    /// Gives back a pin on each of some pages, which are of one buffer.
    ///
    /// # Safety
    /// As [`Root::unpin`], for each of them.
    #[inline]
    pub(crate) unsafe fn unpin_all(self, mut pages: impl Iterator<Item = Pfn>) {
        let Some(first) = pages.next() else { return };
        // SAFETY: by the caller's pins.
        let (protocol, child, tag) =
            unsafe { (self.protocol(), self.inner().is_child(), self.tag_of(first)) };
        if child {
            return;
        }
        let freeing = self.freeing();
        protocol.put(protocol.counted(pin_on(first)), &freeing);
        // What was freed is counted until all have returned, so the arena is there as long; and if
        // nothing was, by the pages that are still to come.
        pages.for_each(|page| protocol.put(protocol.counted(pin_on(page)), &freeing));
        // SAFETY: these frames were freed by the puts, which have returned. If there are none,
        // nothing is touched.
        unsafe { self.give_back(freeing.freed.get(), tag) };
    }

    /// One more reference on what was a block when the caller got its own on it.
    ///
    /// # Safety
    /// The caller has a reference on it.
    #[inline]
    pub(crate) unsafe fn add_reference(self, head: Pfn, order: Order) -> Result<(), GetError> {
        // SAFETY: by the caller's reference.
        let (protocol, child) = unsafe { (self.protocol(), self.inner().is_child()) };
        if child { Ok(()) } else { protocol.get_block(head, order, &self.freeing()) }
    }

    /// Gives back a reference on what was a block when the caller got it.
    ///
    /// # Safety
    /// The reference is the caller's and is used up; the caller uses nothing of the arena
    /// afterwards on its strength.
    #[inline]
    pub(crate) unsafe fn drop_reference(self, head: Pfn, order: Order) {
        // SAFETY: the caller's promise.
        unsafe { if order == Order::PAGE { self.drop_page(head) } else { self.drop_block(head, order) } }
    }

    /// As [`Root::drop_reference`], on a page. Where the reference is the last one and the thread
    /// has a slot of its own, by far the most frequent case, it is one straight line.
    ///
    /// # Safety
    /// As [`Root::drop_reference`].
    #[inline(never)]
    unsafe fn drop_page(self, page: Pfn) {
        // SAFETY: by the caller's reference.
        let (inner, protocol) = unsafe { (self.inner(), self.protocol()) };
        if inner.is_child() {
            return;
        }
        let tag = if inner.tags.any() { inner.notes.tag(page) } else { TagNumber::NONE };
        let Some(left) = protocol.free_page_step(page) else {
            // SAFETY: the caller's promise.
            return unsafe { self.drop_block(page, Order::PAGE) };
        };
        let slot = ThreadSlot::known_own();
        let Some((slot, zone)) = slot.and_then(|slot| Some((slot, inner.zone_of(slot)?))) else {
            inner.zone.freed_page(page, left);
            // SAFETY: the page was freed above, and is counted in the budget until now.
            return unsafe { self.give_some_back(1, tag) };
        };
        // Another thread may have the page by now; the budget still counts what was freed here.
        zone.freed_page(page, left);
        // SAFETY: as above.
        unsafe { self.give_back_at(slot, 1, tag) };
    }

    /// As [`Root::drop_reference`], on any block.
    ///
    /// # Safety
    /// As [`Root::drop_reference`].
    #[inline(never)]
    unsafe fn drop_block(self, head: Pfn, order: Order) {
        // SAFETY: by the caller's reference.
        let (protocol, child, tag) = unsafe { (self.protocol(), self.inner().is_child(), self.tag_of(head)) };
        if child {
            return;
        }
        let freeing = self.freeing();
        protocol.put_block(head, order, &freeing);
        // SAFETY: these frames were freed by the put, which has returned. If there are none,
        // nothing is touched.
        unsafe { self.give_back(freeing.freed.get(), tag) };
    }

    /// Gives back a reference on each block of a run, which are of one buffer.
    ///
    /// # Safety
    /// As [`Root::drop_reference`], for each block.
    #[inline]
    pub(crate) unsafe fn drop_run(self, blocks: FrameRange) {
        if blocks.frames() == 1 {
            // SAFETY: the caller's promise.
            unsafe { self.drop_page(blocks.start) };
        } else if let Some(order) = one_block(blocks) {
            // SAFETY: the caller's promise.
            unsafe { self.drop_block(blocks.start, order) };
        } else {
            // SAFETY: the caller's promise.
            unsafe { self.drop_several(blocks) };
        }
    }

    #[inline(never)]
    unsafe fn drop_several(self, blocks: FrameRange) {
        // SAFETY: by the caller's references.
        let (protocol, child) = unsafe { (self.protocol(), self.inner().is_child()) };
        if child {
            return;
        }
        // SAFETY: by the caller's references.
        let tag = unsafe { self.tag_of(blocks.start) };
        let freeing = self.freeing();
        protocol.put_pieces(blocks, 1, &freeing);
        // SAFETY: these frames were freed by the put, which has returned. If there are none,
        // nothing is touched.
        unsafe { self.give_back(freeing.freed.get(), tag) };
    }

    /// Gives back a reference on each of some blocks of one order, which are of one buffer.
    ///
    /// # Safety
    /// As [`Root::drop_reference`], of each block.
    pub(crate) unsafe fn drop_blocks(self, heads: &[Pfn], order: Order) {
        let Some(&first) = heads.first() else { return };
        // SAFETY: by the reference on the first block.
        let (protocol, child, tag) =
            unsafe { (self.protocol(), self.inner().is_child(), self.tag_of(first)) };
        if child {
            return;
        }
        let freeing = self.freeing();
        // What was freed is counted until all have returned, so the arena is there as long; and if
        // nothing was, by the blocks that are still to come.
        if order == Order::PAGE {
            protocol.put_pages(heads, &freeing);
        } else {
            heads.iter().for_each(|head| protocol.put_block(*head, order, &freeing));
        }
        // SAFETY: these frames were freed by the puts, which have returned. If there are none,
        // nothing is touched.
        unsafe { self.give_back(freeing.freed.get(), tag) };
    }

    /// Gives back the reference on each block of a run whose pages were not taken of the budget.
    ///
    /// # Safety
    /// The references are the caller's, the only ones, and are used up. The caller has another
    /// keepalive.
    pub(crate) unsafe fn drop_uncharged(self, blocks: FrameRange) {
        // SAFETY: by the caller's keepalive.
        let protocol = unsafe { self.protocol() };
        let freeing = self.freeing();
        protocol.put_pieces(blocks, 1, &freeing);
        debug_assert_eq!(freeing.freed.get(), blocks.frames(), "no other handle kept any of them");
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

    /// Whether the caller's one reference on each block of the run is all there is: no other
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

/// The word in which a pin is counted, that of its page: there as long as the pin is.
#[derive(Clone, Copy)]
pub(crate) struct PinWord(NonNull<AtomicU64>);

impl PinWord {
    /// In a forked child that has no part in the words, where none is looked at.
    const UNUSED: Self = Self(NonNull::dangling());

    /// Whose word it is, of an arena's words, the first of which is for frame `base`.
    #[inline]
    fn page(self, words: &[AtomicU64], base: Pfn) -> Pfn {
        let bytes = (self.0.as_ptr() as usize).wrapping_sub(words.as_ptr() as usize);
        base.offset((bytes / size_of::<AtomicU64>()) as u64)
    }

    /// # Safety
    /// The caller has a pin on the page, which is counted in this word, in a process that has a
    /// part in it. What is returned is used up to the end of that pin.
    #[inline]
    unsafe fn pin_on<'a>(self, page: Pfn) -> CountedPin<'a, AtomicU64> {
        // SAFETY: by the caller's pin the arena's words are there.
        CountedPin::counted_in(unsafe { self.0.as_ref() }, pin_on(page))
    }
}

/// The order of a run of blocks that is one block. The blocks of a buffer halve towards its end, so
/// a power of two of frames at a multiple of itself is one.
#[inline]
pub(crate) fn one_block(blocks: FrameRange) -> Option<Order> {
    let order = Order::new(blocks.frames().trailing_zeros() as u8)?;
    (order.frames() == blocks.frames() && blocks.start.is_aligned(order)).then_some(order)
}

#[inline]
fn pin_on(page: Pfn) -> PagePin {
    // Blocks of an arena are of the class each of whose pages has a count of its own.
    PagePin { page, counted_at: page }
}

/// Hands what the protocol frees to the zone, and counts it. Reaches for the arena only when
/// something was freed: then those frames are still counted in its budget.
struct Freeing {
    root: Root,
    freed: Cell<u64>,
}

impl Freeing {
    /// The arena, on behalf of frames that were just freed, or are about to be.
    #[inline]
    fn inner(&self) -> &Inner {
        // SAFETY: called from inside the operation that freed frames, whose count in the budget
        // ends after it, or before the step that gives back the caller's own count.
        unsafe { self.root.inner() }
    }

    /// The zone, as above.
    #[inline]
    fn zone(&self) -> &Zone<'static> {
        &self.inner().zone
    }

    #[inline]
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

    /// The arena's zone has no hooks, so pages and 2 MiB go back where the next request finds them
    /// by one step. It says so without a look at the arena, as the step that follows may be the
    /// last.
    #[inline]
    fn takes_uncoalesced(&self) -> bool {
        true
    }

    #[inline]
    fn freed_uncoalesced(&self, head: Pfn, order: Order) {
        // Another thread may have the block by now; the budget still counts what was freed here.
        match self.inner().own_zone() {
            Some(zone) => zone.freed_uncoalesced(head, order),
            None => self.zone().freed_uncoalesced(head, order),
        }
        self.count(order.frames());
    }

    #[inline(never)] // So that a drop which frees nothing saves no registers for it.
    fn freed_page(&self, page: Pfn, left: PageWord) {
        // As above.
        match self.inner().own_zone() {
            Some(zone) => zone.freed_page(page, left),
            None => self.zone().freed_page(page, left),
        }
        self.count(1);
    }

    fn freed_pages(&self, pages: RowMask) {
        // As above.
        match self.inner().own_zone() {
            Some(zone) => zone.freed_pages(pages),
            None => self.zone().freed_pages(pages),
        }
        self.count(pages.count());
    }

    /// The caller still has the reference that it is about to give back.
    #[inline]
    fn park(&self, head: Pfn, order: Order) -> Option<ParkingPlace> {
        match self.inner().own_zone() {
            Some(zone) => zone.park(head, order),
            None => self.zone().park(head, order),
        }
    }

    /// Either the block was freed, and is counted in the budget, or the caller still has its
    /// reference.
    #[inline]
    fn parked(&self, head: Pfn, order: Order, place: ParkingPlace, freed: bool) {
        match self.inner().own_zone() {
            Some(zone) => zone.parked(head, order, place, freed),
            None => self.zone().parked(head, order, place, freed),
        }
        if freed {
            self.count(order.frames());
        }
    }

    fn freed_frames(&self, pageblock: Pfn, frames: &FrameMask) {
        self.zone().freed_frames(pageblock, frames);
        self.count(frames.count());
    }

    fn freed_offline(&self, frame: Pfn) {
        self.zone().freed_offline(frame);
        self.count(1);
    }

    #[cold]
    fn misuse(&self, misuse: &Misuse) {
        // Can't happen through this crate's handles, each of which has the count that it gives
        // back.
        self.zone().misuse(misuse);
    }
}
