//! What the tests of the operations have in common.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod told;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tailpin_futex::model::{Mapping, Model, ModelMemory, Object, Size};
use tailpin_futex::{
    Access, Address, Fault, Futex, Futexes, Memory, NotPresent, PageOwner, SpaceId, StdScheduler, Timeout,
};

pub type Table = Futexes<StdScheduler>;

/// Longest that anything in a test may take: a wait that lasts so long has been lost.
pub const LOST: Duration = Duration::from_secs(30);

pub fn lost() -> Option<Timeout> {
    Some(Timeout::After(LOST))
}

pub fn table() -> Table {
    Futexes::new(StdScheduler::new(), 2)
}

/// A space with `pages` pages of a shared object, mapped as large as they come.
pub fn shared(pages: usize) -> (ModelMemory, Object) {
    let model = Model::new(Size { frames: 128, ..Size::default() });
    let object = model.object(pages, true);
    let space = model.space();
    space.map_shared(0, pages, object, true);
    (space, object)
}

/// Another space that maps the object elsewhere, by pages.
pub fn another(model: &Arc<Model>, page: usize, pages: usize, object: Object) -> ModelMemory {
    let space = model.space();
    space.map_shared(page, pages, object, false);
    space
}

/// A read-only view of the object at the same pages.
pub fn read_only(model: &Arc<Model>, pages: usize, object: Object, private: bool) -> ModelMemory {
    let space = model.space();
    space.map(Mapping { page: 0, pages, object, index: 0, writable: false, private, huge: true });
    space
}

/// A memory that counts, and at each attempt to pin lets another thread meddle first.
pub struct Meddled<'m, F> {
    pub memory: &'m ModelMemory,
    pub pins: AtomicU32,
    pub meddle: F,
    /// Called after each word that was changed.
    pub exchanged: Option<Box<dyn Fn(Address) + Sync + 'm>>,
}

impl<'m, F: Fn(u32) + Sync> Meddled<'m, F> {
    pub fn new(memory: &'m ModelMemory, meddle: F) -> Self {
        Self { memory, pins: AtomicU32::new(0), meddle, exchanged: None }
    }
}

impl<F: Fn(u32) + Sync> Memory for Meddled<'_, F> {
    type Page = <ModelMemory as Memory>::Page;
    type PageName = <ModelMemory as Memory>::PageName;
    fn space(&self) -> SpaceId {
        self.memory.space()
    }
    fn pin(&self, at: Address, access: Access) -> Result<Self::Page, NotPresent> {
        (self.meddle)(self.pins.fetch_add(1, Ordering::SeqCst) + 1);
        self.memory.pin(at, access)
    }
    fn unpin(&self, page: Self::Page) {
        self.memory.unpin(page);
    }
    fn name(&self, page: &Self::Page) -> Self::PageName {
        self.memory.name(page)
    }
    fn owner(&self, page: &Self::Page) -> PageOwner {
        self.memory.owner(page)
    }
    fn index(&self, page: &Self::Page) -> u64 {
        self.memory.index(page)
    }
    fn fault(&self, at: Address, access: Access) -> Result<(), Fault> {
        self.memory.fault(at, access)
    }
    fn load(&self, at: Address) -> Result<u32, NotPresent> {
        self.memory.load(at)
    }
    fn compare_exchange(&self, at: Address, old: u32, new: u32) -> Result<Result<u32, u32>, NotPresent> {
        let done = self.memory.compare_exchange(at, old, new);
        if let (Ok(Ok(_)), Some(exchanged)) = (done, &self.exchanged) {
            exchanged(at);
        }
        done
    }
}

/// Waits until so many wait.
pub fn until_waiting<M: Memory>(futexes: &Table, futex: &Futex<'_, M>, waiters: usize) {
    let start = Instant::now();
    while futexes.waiters(futex).unwrap() != waiters {
        assert!(start.elapsed() < LOST, "{:?} of {waiters} wait", futexes.waiters(futex));
        thread::yield_now();
    }
}

/// The word at an address, faulted in.
pub fn word(memory: &ModelMemory, at: u64) -> u32 {
    let at = Address::new(at);
    loop {
        match memory.load(at) {
            Ok(word) => return word,
            Err(NotPresent) => memory.fault(at, Access::Read).unwrap(),
        }
    }
}
