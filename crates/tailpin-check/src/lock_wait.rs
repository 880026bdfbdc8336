//! Waiting for a spin lock without spinning.
//!
//! A thread that spins below the checker's bound on preemptions may be scheduled again and again
//! instead of the holder, for each number of turns anew. So in scenarios that say so a thread that
//! relaxes is blocked until some lock is given back.

use std::cell::RefCell;

use crate::engine::Engine;
use crate::trace::Name;

/// Names of the words that another thread waits for: taken by a read-modify-write, given back by a
/// store of zero.
const LOCKS: [&str; 4] = ["lock", "pi_lock", "mmap_lock", "instruction"];

#[derive(Default)]
struct Waiting {
    blocks: bool,
    /// What releases a thread that waits.
    threads: Vec<Box<dyn FnOnce()>>,
}

thread_local! {
    // Model threads are coroutines of one OS thread.
    static WAITING: RefCell<Waiting> = RefCell::default();
}

/// Forgets the execution before: a thread that relaxes spins.
pub(crate) fn begin() {
    WAITING.set(Waiting::default());
}

/// From here on a thread that relaxes is blocked.
pub(crate) fn blocks() {
    WAITING.with_borrow_mut(|waiting| waiting.blocks = true);
}

/// Called after an attempt at a lock has failed. There is no point at which threads are switched in
/// between.
pub(crate) fn relax<E: Engine>() {
    // A thread that unwinds acts outside of the model.
    if std::thread::panicking() {
        return;
    }
    if !WAITING.with_borrow(|waiting| waiting.blocks) {
        return E::relax();
    }
    let thread = E::current();
    WAITING.with_borrow_mut(|waiting| waiting.threads.push(Box::new(move || E::release(&thread))));
    E::block();
}

/// Called after a word was written.
pub(crate) fn unlocked(name: Name, value: u64) {
    if value == 0 && !std::thread::panicking() && LOCKS.contains(&name.field) {
        release_all();
    }
}

/// Lets every thread that waits go on.
pub(crate) fn release_all() {
    let threads = WAITING.with_borrow_mut(|waiting| std::mem::take(&mut waiting.threads));
    threads.into_iter().for_each(|release| release());
}
