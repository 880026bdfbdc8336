//! A scheduler that can be told to do things at the worst moment.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tailpin_futex::{Clock, Deadline, Priority, Scheduler, StdScheduler, StdThread, Tid};

use super::LOST;

/// What it is told.
#[derive(Default)]
pub struct Orders {
    /// The next thread that takes a waiter out of a list keeps the list locked until another wants
    /// it. The time of every wait ends then.
    pub hold: AtomicBool,
    late: AtomicBool,
    holding: AtomicBool,
    wanted: AtomicBool,
    /// The number that every thread has, instead of its own.
    pub tid: Mutex<Option<u32>>,
    /// The next threads that are asked how urgent they are panic.
    pub panic_priority: AtomicU32,
    /// The next threads that are told something panic after they were told.
    pub panic_unpark: AtomicU32,
}

/// Counts down to zero; true if it was more.
fn take(count: &AtomicU32) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl Orders {
    /// With a list locked, by a thread that takes a waiter out.
    fn takes_out(&self) {
        if !self.hold.swap(false, Ordering::SeqCst) {
            return;
        }
        self.holding.store(true, Ordering::SeqCst);
        self.late.store(true, Ordering::SeqCst);
        let start = Instant::now();
        while !self.wanted.load(Ordering::SeqCst) {
            assert!(start.elapsed() < LOST, "no other thread wants the list");
            thread::yield_now();
        }
        self.holding.store(false, Ordering::SeqCst);
    }
}

/// [`StdScheduler`], but for what it is told.
pub struct Told {
    scheduler: StdScheduler,
    pub orders: Arc<Orders>,
}

impl Told {
    pub fn new() -> Self {
        Self { scheduler: StdScheduler::new(), orders: Arc::default() }
    }
}

/// A thread; a list clones it when it takes it out.
pub struct ToldThread {
    pub thread: StdThread,
    orders: Arc<Orders>,
}

impl Clone for ToldThread {
    fn clone(&self) -> Self {
        self.orders.takes_out();
        Self { thread: self.thread.clone(), orders: self.orders.clone() }
    }
}

impl Scheduler for Told {
    type Thread = ToldThread;

    fn current(&self) -> ToldThread {
        ToldThread { thread: self.scheduler.current(), orders: self.orders.clone() }
    }

    fn tid(&self) -> Tid {
        let told = *self.orders.tid.lock().unwrap();
        told.map_or_else(|| self.scheduler.tid(), Tid)
    }

    fn park(&self, until: Option<Deadline>) {
        // For no reason early, so that a time that is moved is noticed.
        thread::park_timeout(Duration::from_millis(1));
        let _ = until;
    }

    fn unpark(&self, thread: &ToldThread) {
        self.scheduler.unpark(&thread.thread);
        assert!(!take(&self.orders.panic_unpark), "told to panic");
    }

    fn now(&self, clock: Clock) -> Duration {
        let moved = if self.orders.late.load(Ordering::SeqCst) { 2 * LOST } else { Duration::ZERO };
        self.scheduler.now(clock) + moved
    }

    fn interrupted(&self) -> bool {
        self.scheduler.interrupted()
    }

    fn current_priority(&self) -> Priority {
        assert!(!take(&self.orders.panic_priority), "told to panic");
        self.scheduler.current_priority()
    }

    fn priority(&self, thread: Tid) -> Option<Priority> {
        self.scheduler.priority(thread)
    }

    fn ended(&self, thread: Tid) {
        self.scheduler.ended(thread);
    }

    fn boost(&self, thread: Tid, to: Priority) {
        self.scheduler.boost(thread, to);
    }

    fn relax(&self, turns: u32) {
        if self.orders.holding.load(Ordering::SeqCst) {
            self.orders.wanted.store(true, Ordering::SeqCst);
        }
        self.scheduler.relax(turns);
    }
}
