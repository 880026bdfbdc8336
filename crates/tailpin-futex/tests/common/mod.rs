//! What the tests of the operations have in common.

#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tailpin_futex::model::{Mapping, Model, ModelMemory, Object, Size};
use tailpin_futex::{Futex, Futexes, Memory, StdScheduler, Timeout};

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

/// Waits until so many wait.
pub fn until_waiting<M: Memory>(futexes: &Table, futex: &Futex<'_, M>, waiters: usize) {
    let start = Instant::now();
    while futexes.waiters(futex).unwrap() != waiters {
        assert!(start.elapsed() < LOST, "{:?} of {waiters} wait", futexes.waiters(futex));
        thread::yield_now();
    }
}
