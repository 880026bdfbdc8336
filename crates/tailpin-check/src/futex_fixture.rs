//! What the futex scenarios act on: the shipped futexes over the checker's words, a scheduler
//! through which the checker parks and unparks threads, and a memory.

use std::ops::Deref;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tailpin::{AtomicWord, PagePin};
use tailpin_futex::model::{Model, ModelMemory, Object, Size};
use tailpin_futex::{
    Access, Address, Clock, Deadline, Fault, Futex, Futexes, Memory, NotPresent, ObjectId, PageOwner, Part,
    Priority, QueueWord, Safeguard as FutexSafeguard, Safeguards, Scheduler, SpaceId, Tid,
};

use crate::engine::{Engine, MAIN, current_thread};
use crate::lock_wait;
use crate::safeguards::{Safeguard, is_left_out};
use crate::tested_protocol::{number, page_word};
use crate::trace::{self, Name};
use crate::word::CheckWord;

// SAFETY: the engine's atomic word, whose every operation is one step of its memory model.
unsafe impl<E: Engine> QueueWord for CheckWord<E> {
    fn new(part: Part) -> Self {
        let name = |field, frame: usize, decode| Name { frame: frame as u32, field, decode };
        match part {
            Part::Lock(bucket) => Self::explored(name("lock", bucket, locked)),
            Part::Waiters(bucket) => Self::explored(name("waiters", bucket, number)),
            Part::NodeState => Self::explored(name(
                "waiter",
                if current_thread() == MAIN { 0 } else { current_thread() },
                node_state,
            )),
            Part::PiLock => Self::explored(name("pi_lock", 0, locked)),
            Part::Of(field @ "mmap_lock", index) => Self::explored(name(field, index, locked)),
            Part::Of("page", index) => Self::explored(name("", index, page_word)),
            Part::Of(field, index) => Self::explored(name(field, index, number)),
        }
    }
}

fn locked(value: u64) -> String {
    if value == 0 { "free" } else { "LOCKED" }.to_owned()
}

fn node_state(value: u64) -> String {
    match value {
        0 => "idle".to_owned(),
        1 => "woken".to_owned(),
        2 => "goes on".to_owned(),
        3 => "owner gone".to_owned(),
        bucket => format!("in bucket {}", bucket - 16),
    }
}

/// Most threads that a scenario has.
const THREADS: usize = 4;

/// The threads of a scenario: one that parks lets the others go on until one of them unparks it. A
/// thread that none unparks goes on for ever, which the checker notices.
pub(crate) struct CheckScheduler<E: Engine> {
    /// One per thread. What was done before an unpark is seen after the park that it ends, as with
    /// any scheduler.
    tokens: [E::Atomic; THREADS],
    parked: Mutex<[Option<E::ThreadHandle>; THREADS]>,
    /// The number of the thread that is gone, or 0.
    ended: E::Atomic,
}

impl<E: Engine> CheckScheduler<E> {
    fn new() -> Self {
        lock_wait::blocks();
        Self { tokens: std::array::from_fn(|_| E::atomic(0)), parked: Mutex::default(), ended: E::atomic(0) }
    }

    fn parked(&self) -> MutexGuard<'_, [Option<E::ThreadHandle>; THREADS]> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Engine> Scheduler for CheckScheduler<E> {
    type Thread = usize;

    fn current(&self) -> usize {
        current_thread()
    }

    fn tid(&self) -> Tid {
        // The set-up and the audit are the last.
        Tid(if current_thread() == MAIN { THREADS } else { current_thread() + 1 } as u32)
    }

    fn park(&self, _until: Option<Deadline>) {
        self.parked()[current_thread()] = Some(E::current());
        while E::compare_exchange(&self.tokens[current_thread()], 1, 0, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            E::block();
        }
    }

    fn unpark(&self, thread: &usize) {
        E::swap(&self.tokens[*thread], 1, Ordering::Release);
        let parked = self.parked()[*thread].clone();
        if let Some(parked) = parked {
            E::release(&parked);
        }
    }

    fn now(&self, _clock: Clock) -> Duration {
        Duration::ZERO
    }

    fn interrupted(&self) -> bool {
        false
    }

    fn current_priority(&self) -> Priority {
        Priority::NORMAL
    }

    fn priority(&self, thread: Tid) -> Option<Priority> {
        // A thread that unwinds acts outside of the model.
        if std::thread::panicking() {
            return None;
        }
        // Acquire: pairs with the Release in `ended`, as with any scheduler.
        let ended = E::load(&self.ended, Ordering::Acquire);
        ((1..=4).contains(&thread.0) && ended != u64::from(thread.0)).then_some(Priority::NORMAL)
    }

    fn ended(&self, thread: Tid) {
        // Release: pairs with the Acquire in `priority`.
        E::store(&self.ended, u64::from(thread.0), Ordering::Release);
    }

    fn boost(&self, _thread: Tid, _to: Priority) {}

    fn relax(&self, _turns: u32) {
        lock_wait::relax::<E>();
    }
}

/// A few words that are always there: for scenarios that are not about pages.
pub(crate) struct Flat<E: Engine> {
    words: Vec<CheckWord<E>>,
}

/// Words that threads fight over; those after them are only read.
const EXPLORED: usize = 2;

impl<E: Engine> Flat<E> {
    fn new() -> Self {
        let word = |index| {
            let name = Name { frame: index as u32, field: "word", decode: number };
            if index < EXPLORED { CheckWord::explored(name) } else { CheckWord::plain(name) }
        };
        Self { words: (0..16).map(word).collect() }
    }

    fn word(&self, at: Address) -> &CheckWord<E> {
        &self.words[at.get() as usize / 4]
    }

    /// As a program that changes a word before it wakes.
    pub(crate) fn store(&self, at: u64, value: u32) {
        self.word(Address::new(at)).store(u64::from(value), Ordering::Release);
    }
}

impl<E: Engine> Memory for Flat<E> {
    type Page = ();
    type PageName = ();

    fn space(&self) -> SpaceId {
        SpaceId(1)
    }
    fn pin(&self, _at: Address, _access: Access) -> Result<(), NotPresent> {
        Ok(())
    }
    fn unpin(&self, (): ()) {}
    fn name(&self, (): &()) {}
    fn owner(&self, (): &()) -> PageOwner {
        PageOwner::Anonymous
    }
    fn index(&self, (): &()) -> u64 {
        0
    }
    fn fault(&self, _at: Address, _access: Access) -> Result<(), Fault> {
        Ok(())
    }
    fn load(&self, at: Address) -> Result<u32, NotPresent> {
        Ok(self.word(at).load(Ordering::Acquire) as u32)
    }
    fn compare_exchange(&self, at: Address, old: u32, new: u32) -> Result<Result<u32, u32>, NotPresent> {
        let (old, new) = (u64::from(old), u64::from(new));
        let done = self.word(at).compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire);
        Ok(done.map(|found| found as u32).map_err(|found| found as u32))
    }
}

/// Futexes over a flat memory.
pub(crate) struct FutexFixture<E: Engine, G: Safeguards<FutexSafeguard>> {
    pub(crate) futexes: Futexes<CheckScheduler<E>, CheckWord<E>, G>,
    pub(crate) flat: Flat<E>,
    /// What a lock protects.
    guarded: E::Contents,
}

impl<E: Engine, G: Safeguards<FutexSafeguard>> FutexFixture<E, G> {
    pub(crate) fn new(buckets: usize) -> Self {
        let scheduler = CheckScheduler::new();
        Self { futexes: Futexes::with_words(scheduler, buckets), flat: Flat::new(), guarded: E::contents() }
    }

    /// Uses what a lock protects.
    pub(crate) fn inside(&self) {
        trace::memory("what the lock protects", 0, true);
        E::write(&self.guarded);
    }

    pub(crate) fn word(&self, at: u64) -> Futex<'_, Flat<E>> {
        Futex::private(&self.flat, at)
    }
}

/// The model's memory, which answers for the head of a page's block where the safeguard that each
/// base page answers for itself is left out, and gives a pin back at once where the safeguard that
/// a page answers while it is pinned is.
pub(crate) struct CheckMemory<E: Engine>(ModelMemory<CheckWord<E>>);

impl<E: Engine> CheckMemory<E> {
    fn answers(&self, page: &PagePin, safeguard: Safeguard) -> PagePin {
        if is_left_out(safeguard) { self.0.head_of(*page) } else { *page }
    }
}

impl<E: Engine> Deref for CheckMemory<E> {
    type Target = ModelMemory<CheckWord<E>>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<E: Engine> Memory for CheckMemory<E> {
    type Page = PagePin;
    type PageName = PagePin;

    fn space(&self) -> SpaceId {
        self.0.space()
    }
    fn pin(&self, at: Address, access: Access) -> Result<PagePin, NotPresent> {
        let page = self.0.pin(at, access)?;
        if is_left_out(Safeguard::H9) {
            self.0.unpin(page);
        }
        Ok(page)
    }
    fn unpin(&self, page: PagePin) {
        if !is_left_out(Safeguard::H9) {
            self.0.unpin(page);
        }
    }
    fn name(&self, page: &PagePin) -> PagePin {
        *page
    }
    fn owner(&self, page: &PagePin) -> PageOwner {
        match self.0.owner(&self.answers(page, Safeguard::H11)) {
            // As the address of an inode: which one is there now, not which one it was.
            PageOwner::Object(_) if is_left_out(Safeguard::H23) => {
                PageOwner::Object(ObjectId(page.page.get()))
            }
            owner => owner,
        }
    }
    fn index(&self, page: &PagePin) -> u64 {
        self.0.index(&self.answers(page, Safeguard::H10))
    }
    fn fault(&self, at: Address, access: Access) -> Result<(), Fault> {
        self.0.fault(at, access)
    }
    fn load(&self, at: Address) -> Result<u32, NotPresent> {
        self.0.load(at)
    }
    fn compare_exchange(&self, at: Address, old: u32, new: u32) -> Result<Result<u32, u32>, NotPresent> {
        self.0.compare_exchange(at, old, new)
    }
}

/// An object of two pages in one address space.
pub(crate) struct KeyFixture<E: Engine> {
    pub(crate) model: Arc<Model<CheckWord<E>>>,
    pub(crate) space: CheckMemory<E>,
    pub(crate) object: Object,
}

impl<E: Engine> KeyFixture<E> {
    /// Its pages are one block, or two.
    pub(crate) fn new(huge: bool) -> Self {
        lock_wait::blocks();
        let model = Model::with_words(Size { frames: 6, order: 1, pages: 2, words: 0 });
        let (space, object) = (CheckMemory(model.space()), model.object(2, huge));
        Self { model, space, object }
    }
}
