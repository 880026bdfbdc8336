//! What one execution acts on: frames, the protocol over them, and a ledger of what each may be
//! used for.
//!
//! Threads act through the methods here. Each notes what it is entitled to, so that a protocol that
//! breaks a promise is caught where it does: a pin on a free frame, a frame freed under a pin or
//! twice, a frame handed out dirty.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tailpin::{
    Attach, BlockLife, BlockRefs, Checked, Class, CountedPin, FrameMask, FrameRange, FrameWords, FreeSink,
    GetError, Kind, Misuse, Order, PagePin, Pfn, Pins, RawBlock, Rearrange,
};

use crate::engine::Engine;
use crate::safeguards::{self, Safeguard};
use crate::tested_protocol::{Field, TestedProtocol};
use crate::trace::{self, Name, violation};
use crate::word::CheckWord;
use zone::allocator_words;

mod zone;

#[derive(Clone, Copy, Default)]
struct Frame {
    used: bool,
    retired: bool,
    /// A request to set it aside was granted.
    aside: bool,
    pins: u32,
    refs: u32,
}

impl Frame {
    /// Whether the allocator may hand it out.
    fn is_free(&self) -> bool {
        !self.used && !self.retired
    }
}

/// The frames of one execution and everything around them.
pub(crate) struct Fixture<E: Engine, F> {
    words: Vec<CheckWord<E>>,
    /// The allocator's words, where there is one.
    allocator: Vec<CheckWord<E>>,
    /// Caches of the allocator.
    slots: usize,
    /// The zone has hooks, which do nothing.
    hooked: AtomicBool,
    /// Contents of the explored frames: used under a pin, overwritten by the thread that allocates
    /// or frees.
    memory: Vec<Option<E::Contents>>,
    /// Where freed frames wait for the next owner, as the allocator's words are.
    free_list: Option<E::Atomic>,
    ledger: Mutex<Vec<Frame>>,
    kept: Mutex<[Option<PagePin>; 8]>,
    blocks: Mutex<Vec<RawBlock>>,
    /// What else is done with a frame that is freed.
    when_freed: OnceLock<fn(&Self, u64)>,
    /// A thread has marked a page.
    marked: AtomicBool,
    /// What a scenario brings along that is no frame.
    extension: OnceLock<Box<dyn Any + Send + Sync>>,
    tested_protocol: PhantomData<fn() -> F>,
}

/// The block of `order` at frame `head`.
pub(crate) fn block(head: u64, order: u8) -> FrameRange {
    FrameRange::block(Pfn::new(head), to_order(order))
}

/// Order `order`.
pub(crate) fn to_order(order: u8) -> Order {
    Order::new(order).expect("scenarios name real orders")
}

impl<E: Engine, F: TestedProtocol<CheckWord<E>>> Fixture<E, F> {
    /// `frames` free frames, of which the words of those that `explored` names are explored; they
    /// are allocated again after they were freed if the scenario `reuses` them. With `slots` there
    /// is a whole zone over them, of so many CPU caches.
    pub(crate) fn new(frames: u64, explored: fn(u64) -> bool, reuses: bool, slots: Option<usize>) -> Self {
        let word = |frame: u64, (field, decode): &Field| {
            let name = Name { frame: frame as u32, field, decode: *decode };
            if explored(frame) { CheckWord::explored(name) } else { CheckWord::plain(name) }
        };
        Self {
            words: (0..frames).flat_map(|frame| F::FIELDS.iter().map(move |f| word(frame, f))).collect(),
            allocator: slots.map(|slots| allocator_words(frames, explored, slots)).unwrap_or_default(),
            slots: slots.unwrap_or_default(),
            hooked: AtomicBool::new(false),
            memory: (0..frames).map(|frame| explored(frame).then(E::contents)).collect(),
            free_list: reuses.then(|| E::atomic(0)),
            ledger: Mutex::new(vec![Frame::default(); frames as usize]),
            kept: Mutex::default(),
            blocks: Mutex::default(),
            when_freed: OnceLock::new(),
            marked: AtomicBool::new(false),
            extension: OnceLock::new(),
            tested_protocol: PhantomData,
        }
    }

    /// The set-up is over, and the threads start.
    pub(crate) fn begin(&self) {
        self.words.iter().chain(&self.allocator).for_each(CheckWord::begin);
        trace::note(|| "the threads start".to_owned());
    }

    /// The threads have ended.
    pub(crate) fn end(&self) {
        self.words.iter().chain(&self.allocator).for_each(CheckWord::end);
    }

    /// Brings something along, once.
    pub(crate) fn extend_with<T: Any + Send + Sync>(&self, extension: T) {
        assert!(self.extension.set(Box::new(extension)).is_ok(), "a scenario brings one thing along");
    }

    /// Says what else is done with each frame that is freed, once.
    pub(crate) fn when_freed(&self, also: fn(&Self, u64)) {
        assert!(self.when_freed.set(also).is_ok(), "a scenario says it once");
    }

    /// Remembers that a page was marked.
    pub(crate) fn keep_mark(&self) {
        // Relaxed, here and below: looked at after the threads have ended.
        self.marked.store(true, Ordering::Relaxed);
    }

    /// Whether a page was marked.
    pub(crate) fn has_mark(&self) -> bool {
        self.marked.load(Ordering::Relaxed)
    }

    /// What was brought along.
    pub(crate) fn extension<T: Any>(&self) -> &T {
        let extension = self.extension.get().and_then(|extension| extension.downcast_ref());
        extension.expect("the set-up has brought it")
    }

    /// The protocol.
    pub(crate) fn protocol(&self) -> F::Over<'_> {
        F::Over::attach(&self.words, Pfn::new(0))
    }

    fn ledger(&self) -> MutexGuard<'_, Vec<Frame>> {
        // A thread that failed has left it as it was.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, frame: u64) {
        if let Some(memory) = &self.memory[frame as usize] {
            trace::memory("page", frame, true);
            E::write(memory);
        }
    }

    /// Uses the contents of a page that the caller has a pin on.
    pub(crate) fn touch(&self, frame: u64) {
        if let Some(memory) = &self.memory[frame as usize] {
            trace::memory("page", frame, false);
            E::read(memory);
        }
    }

    /// A splittable block of this order from the first frame on: what most scenarios begin with.
    pub(crate) fn begin_with(&self, order: u8) {
        self.alloc(0, order, Class::Splittable);
    }

    /// Allocates, as the allocator does once it has the frames. Returns the generation.
    pub(crate) fn alloc(&self, head: u64, order: u8, class: Class) -> u8 {
        for frame in block(head, order).iter() {
            let mut ledger = self.ledger();
            let entry = &mut ledger[frame.get() as usize];
            assert!(!entry.used, "the scenario owns the frames it allocates");
            entry.used = true;
        }
        self.hand_out(head, order, class)
    }

    /// Hands out frames that are the caller's already. Returns the generation.
    pub(crate) fn hand_out(&self, head: u64, order: u8, class: Class) -> u8 {
        let range = block(head, order);
        for frame in range.iter() {
            self.ledger()[frame.get() as usize] = Frame { used: true, refs: 1, ..Frame::default() };
        }
        let protocol = self.protocol();
        if let Err(bad) = protocol.prepare(range.start, to_order(order)) {
            violation(format!("free frame {} is in a bad state: {}", bad.get(), protocol.state(bad)));
        }
        range.iter().for_each(|frame| self.write(frame.get()));
        let generation = protocol.publish(range.start, to_order(order), class);
        trace::note(|| format!("has block {head}, order {order}"));
        generation
    }

    /// Claims a frame if it is free, without handing it out.
    pub(crate) fn isolate(&self, frame: u64) -> bool {
        self.look_at_free_list();
        let taken = {
            let entry = &mut self.ledger()[frame as usize];
            let free = entry.is_free();
            entry.used |= free;
            free
        };
        if taken {
            trace::note(|| format!("isolates frame {frame}"));
        }
        taken
    }

    /// Puts back what was isolated and not handed out.
    pub(crate) fn unisolate(&self) {
        for frame in self.ledger().iter_mut() {
            frame.used &= frame.refs > 0 || frame.pins > 0;
        }
    }

    fn look_at_free_list(&self) {
        if let Some(free_list) = &self.free_list {
            // Acquire: what was done to the frames comes first, as with the allocator's bits.
            E::fetch_add(free_list, 0, Ordering::Acquire);
        }
    }

    /// Allocates if all the frames have been freed by now.
    pub(crate) fn try_alloc(&self, head: u64, order: u8, class: Class) -> bool {
        self.look_at_free_list();
        let free = {
            let ledger = self.ledger();
            block(head, order).iter().all(|frame| ledger[frame.get() as usize].is_free())
        };
        if free {
            self.alloc(head, order, class);
        }
        free
    }

    /// A pin on a page found by its number.
    pub(crate) fn try_get(&self, page: u64) -> Result<PagePin, GetError> {
        let got = self.protocol().try_get(Pfn::new(page), self).map(CountedPin::pin);
        if got.is_ok() {
            self.pinned(page);
        }
        got
    }

    /// Pins a page found by its number, if it is in use, and gives the pin back.
    pub(crate) fn get_and_put(&self, page: u64) {
        if let Ok(held) = self.try_get(page) {
            self.put(held);
        }
    }

    fn pinned(&self, page: u64) {
        let mut ledger = self.ledger();
        let entry = &mut ledger[page as usize];
        if !entry.used {
            drop(ledger);
            violation(format!("a pin was given on frame {page}, which is free"));
        }
        entry.pins += 1;
        drop(ledger);
        trace::note(|| format!("has a pin on page {page}"));
        self.touch(page);
    }

    /// A pin on a page that is certainly in use.
    pub(crate) fn must_get(&self, page: u64) -> PagePin {
        match self.try_get(page) {
            Ok(held) => held,
            Err(error) => violation(format!("page {page} is in use, but: {error}")),
        }
    }

    /// A pin that must be had, and its end.
    pub(crate) fn must_get_and_put(&self, page: u64) {
        let held = self.must_get(page);
        self.put(held);
    }

    /// One more pin.
    pub(crate) fn get(&self, held: PagePin) {
        if let Err(error) = self.protocol().get(self.protocol().counted(held), self) {
            violation(format!("a pin was there on page {}, but: {error}", held.page.get()));
        }
        self.pinned(held.page.get());
    }

    /// Gives a pin back.
    pub(crate) fn put(&self, held: PagePin) {
        self.touch(held.page.get());
        self.ledger()[held.page.get() as usize].pins -= 1;
        self.protocol().put(self.protocol().counted(held), self);
    }

    /// `n` more references.
    pub(crate) fn more_refs(&self, head: u64, order: u8, n: u64) {
        if let Err(error) = self.protocol().get_pieces(block(head, order), n, self) {
            violation(format!("there was a reference on block {head}, but: {error}"));
        }
        self.change_refs(head, order, n as i64);
    }

    /// The ledger's part of a reference that a thread took by a token.
    pub(crate) fn count_ref(&self, page: u64) {
        self.change_refs(page, 0, 1);
    }

    /// A reference to a block found by its number. False if there is none.
    pub(crate) fn find_block(&self, head: u64, order: u8) -> bool {
        let found = F::find_block(&self.protocol(), Pfn::new(head), to_order(order)).is_ok();
        if found {
            self.change_refs(head, order, 1);
        }
        found
    }

    fn change_refs(&self, head: u64, order: u8, by: i64) {
        let mut ledger = self.ledger();
        for frame in block(head, order).iter() {
            let entry = &mut ledger[frame.get() as usize];
            entry.refs = entry.refs.wrapping_add_signed(by as i32);
        }
    }

    /// `n` references less.
    pub(crate) fn drop_refs(&self, head: u64, order: u8, n: u64) {
        block(head, order).iter().for_each(|frame| self.touch(frame.get()));
        self.change_refs(head, order, -(n as i64));
        trace::note(|| {
            format!("drops {n} reference{} on {head}, order {order}", if n == 1 { "" } else { "s" })
        });
        self.protocol().put_pieces(block(head, order), n, self);
    }

    /// Splits all of a block.
    pub(crate) fn split(&self, head: u64, order: u8, target: u8) {
        if let Err(error) = self.protocol().split(block(head, order), to_order(target), self) {
            violation(format!("block {head} can be split, but: {error}"));
        }
        trace::note(|| format!("has split {head} to order {target}"));
    }

    /// Frees through the raw interface.
    pub(crate) fn raw_free(&self, head: u64, order: u8, generation: u8) {
        self.change_refs(head, order, -1);
        safeguards::owners_lock();
        if let Err(cause) =
            self.protocol().raw_free(RawBlock::from_parts(Pfn::new(head), to_order(order), generation), self)
        {
            violation(format!("block {head} may be freed, but: {cause}"));
        }
    }

    /// Keeps a pin in a slot, for another thread or for the end.
    pub(crate) fn keep(&self, slot: usize, held: PagePin) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)[slot] = Some(held);
    }

    /// The pin kept in a slot, if any; it is not there afterwards.
    pub(crate) fn kept(&self, slot: usize) -> Option<PagePin> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)[slot].take()
    }

    /// Gives back a pin that was kept, if it was.
    pub(crate) fn put_kept(&self, slot: usize) {
        if let Some(held) = self.kept(slot) {
            self.put(held);
        }
    }

    /// Gives back a pin that was kept through the raw interface, which asks whether there is one.
    pub(crate) fn raw_put_kept(&self, slot: usize) {
        let Some(held) = self.kept(slot) else { return };
        self.touch(held.page.get());
        self.ledger()[held.page.get() as usize].pins -= 1;
        if let Err(cause) = self.protocol().raw_put(held.page, self) {
            violation(format!("page {} is pinned, but: {cause}", held.page.get()));
        }
    }

    /// Adds pins without asking.
    pub(crate) fn force_pins(&self, frame: u64, n: u64) {
        F::force_pins(&self.words, frame, n);
    }

    /// Whether a frame went out of service.
    pub(crate) fn is_retired(&self, frame: u64) -> bool {
        self.ledger()[frame as usize].retired
    }

    /// Whether a thread is entitled to a reference on the block of this frame.
    pub(crate) fn has_refs(&self, frame: u64) -> bool {
        self.ledger()[frame as usize].refs > 0
    }

    /// Audits one live block at a quiet moment and says how many of its pages are pinned.
    pub(crate) fn audit(&self, head: u64, order: u8) -> u64 {
        let protocol = self.protocol();
        let found = protocol.head_of(Pfn::new(head));
        if found != Some((Pfn::new(head), to_order(order))) {
            violation(format!("block {head} of order {order} should be live, found: {found:?}"));
        }
        protocol.audit_block(Pfn::new(head), to_order(order), &mut |frame, what| {
            violation(format!("frame {}: {what}", frame.get()));
        })
    }

    /// The end of every run: each frame was freed, once, and is as it was at the beginning.
    pub(crate) fn audit_all_free(&self) {
        if !self.allocator.is_empty() {
            self.audit_zone();
        }
        let protocol = self.protocol();
        for (index, entry) in self.ledger().iter().enumerate() {
            let frame = Pfn::new(index as u64);
            let state = protocol.state(frame);
            if entry.used {
                violation(format!("frame {index} was never freed: {state}"));
            }
            let clean = if entry.retired {
                state.kind == Kind::Offline
            } else {
                matches!(state.kind, Kind::Free | Kind::Implicit | Kind::Tail)
                    && protocol.prepare(frame, Order::PAGE).is_ok()
            };
            if !clean || state.pins > 0 || state.refs > 0 {
                violation(format!("frame {index} is free but was left in a bad state: {state}"));
            }
        }
    }

    fn free(&self, frame: Pfn, retired: bool) {
        let index = frame.get();
        let mut ledger = self.ledger();
        let entry = &mut ledger[index as usize];
        let wrong = if !entry.used {
            Some("is freed twice")
        } else if entry.pins > 0 {
            Some("is freed under a pin")
        } else if entry.refs > 0 {
            Some("is freed under a reference")
        } else {
            None
        };
        entry.used = false;
        entry.retired |= retired;
        drop(ledger);
        if let Some(wrong) = wrong {
            violation(format!("frame {index} {wrong}"));
        }
        if let Some(also) = self.when_freed.get() {
            also(self, index);
        }
    }

    fn add_to_free_list(&self) {
        if let Some(free_list) = &self.free_list {
            // Release: as the allocator gives frames back. No Acquire, which would order one free
            // after another.
            E::fetch_add(free_list, 1, Ordering::Release);
        }
    }
}

/// A thread that unwinds has ended: what it still gives back counts no more.
impl<E: Engine, F: TestedProtocol<CheckWord<E>>> FreeSink for Fixture<E, F> {
    fn freed_block(&self, head: Pfn, order: Order) {
        if std::thread::panicking() {
            return;
        }
        trace::note(|| format!("frees block {} of order {order}", head.get()));
        FrameRange::block(head, order).iter().for_each(|frame| self.write(frame.get()));
        self.add_to_free_list();
        FrameRange::block(head, order).iter().for_each(|frame| self.free(frame, false));
    }

    fn freed_frames(&self, pageblock: Pfn, frames: &FrameMask) {
        if std::thread::panicking() {
            return;
        }
        if frames.is_empty() {
            return;
        }
        let freed = || frames.iter().map(|index| pageblock.offset(index));
        freed().for_each(|frame| self.write(frame.get()));
        self.add_to_free_list();
        for frame in freed() {
            trace::note(|| format!("frees frame {}", frame.get()));
            self.free(frame, false);
        }
    }

    fn freed_offline(&self, frame: Pfn) {
        if std::thread::panicking() {
            return;
        }
        trace::note(|| format!("takes frame {} out of service", frame.get()));
        self.write(frame.get());
        self.free(frame, !safeguards::is_left_out(Safeguard::H29));
    }

    fn misuse(&self, misuse: &Misuse) {
        if std::thread::panicking() {
            return;
        }
        violation(format!("reported as misuse: frame {}: {misuse}", misuse.frame.get()));
    }
}
