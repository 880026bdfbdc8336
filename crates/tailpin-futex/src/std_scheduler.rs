//! The standard library's threads.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::scheduler::{Clock, Deadline, Priority, Scheduler, Tid};

/// Longest sleep on the time of day before looking at it again: it may have been set.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Spins before it lets other threads run: the holder of a bucket may not be running.
const SPINS: u32 = 64;

struct Record {
    tid: Tid,
    thread: thread::Thread,
    interrupted: AtomicBool,
    priority: AtomicU32,
    boosted: AtomicU32,
}

/// A thread, as [`StdScheduler`] knows it.
#[derive(Clone)]
pub struct StdThread(Arc<Record>);

impl StdThread {
    /// The thread's number.
    pub fn tid(&self) -> Tid {
        self.0.tid
    }

    /// Ends its current wait, and all that it begins until [`resume`](Self::resume).
    pub fn interrupt(&self) {
        // Release: pairs with the load in `interrupted`: what the interrupter did before is seen.
        self.0.interrupted.store(true, Ordering::Release);
        self.0.thread.unpark();
    }

    /// Lets the thread wait again after an [`interrupt`](Self::interrupt).
    pub fn resume(&self) {
        // Relaxed: for this flag alone.
        self.0.interrupted.store(false, Ordering::Relaxed);
    }

    /// Sets its priority, which decides the order in which it is woken. The operating system is not
    /// told.
    pub fn set_priority(&self, priority: Priority) {
        // Relaxed: a number for later decisions, here and below.
        self.0.priority.store(priority.0, Ordering::Relaxed);
        self.0.boosted.fetch_max(priority.0, Ordering::Relaxed);
    }

    /// Its priority at present, with what waiters lend it.
    pub fn effective_priority(&self) -> Priority {
        Priority(self.0.boosted.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for StdThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StdThread({})", self.0.tid)
    }
}

/// The number of the thread after the one with this number; `None` if a lock's word has no room for
/// it.
fn number_after(last: u32) -> Option<u32> {
    last.checked_add(1).filter(|number| *number <= Tid::MAX)
}

std::thread_local! {
    static CURRENT: StdThread = {
        static LAST: AtomicU32 = AtomicU32::new(0);
        // Relaxed: only has to be another number each time.
        let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, number_after);
        let tid = Tid(last.ok().and_then(number_after).expect("fewer than 2^30 threads in a process's life"));
        StdThread(Arc::new(Record {
            tid,
            thread: thread::current(),
            interrupted: AtomicBool::new(false),
            priority: AtomicU32::new(Priority::NORMAL.0),
            boosted: AtomicU32::new(Priority::NORMAL.0),
        }))
    };
}

/// Waits by [`std::thread::park`]. The monotonic clock begins with the scheduler, the time of day
/// in 1970.
///
/// A wait leaves the thread's park token as it may be found: code that parks must, as always,
/// expect to be woken for no reason.
#[derive(Debug)]
pub struct StdScheduler {
    start: Instant,
    /// Threads that have asked for their number.
    known: Mutex<HashMap<Tid, Weak<Record>>>,
}

impl Default for StdScheduler {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({})", self.tid)
    }
}

impl StdScheduler {
    /// One that knows no thread yet.
    pub fn new() -> Self {
        Self { start: Instant::now(), known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Tid, Weak<Record>>> {
        // Nothing in here panics half-way.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, tid: Tid) -> Option<StdThread> {
        self.known().get(&tid).and_then(Weak::upgrade).map(StdThread)
    }
}

impl Scheduler for StdScheduler {
    type Thread = StdThread;

    fn current(&self) -> StdThread {
        CURRENT.with(Clone::clone)
    }

    fn tid(&self) -> Tid {
        let current = self.current();
        let mut known = self.known();
        if known.len() > 64 && known.len().is_power_of_two() {
            known.retain(|_, thread| thread.strong_count() > 0);
        }
        known.entry(current.0.tid).or_insert_with(|| Arc::downgrade(&current.0));
        current.0.tid
    }

    fn park(&self, until: Option<Deadline>) {
        match until {
            None => thread::park(),
            Some(Deadline { clock, time }) => {
                let left = time.saturating_sub(self.now(clock));
                thread::park_timeout(if clock == Clock::Realtime { left.min(LOOK_AGAIN) } else { left });
            }
        }
    }

    fn unpark(&self, thread: &StdThread) {
        thread.0.thread.unpark();
    }

    fn now(&self, clock: Clock) -> Duration {
        match clock {
            Clock::Monotonic => self.start.elapsed(),
            Clock::Realtime => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }

    fn interrupted(&self) -> bool {
        // Acquire: pairs with the store in `interrupt`.
        CURRENT.with(|current| current.0.interrupted.load(Ordering::Acquire))
    }

    fn current_priority(&self) -> Priority {
        CURRENT.with(|current| Priority(current.0.priority.load(Ordering::Relaxed)))
    }

    fn priority(&self, tid: Tid) -> Option<Priority> {
        self.find(tid).map(|thread| Priority(thread.0.priority.load(Ordering::Relaxed)))
    }

    fn ended(&self, tid: Tid) {
        self.known().remove(&tid);
    }

    fn boost(&self, tid: Tid, to: Priority) {
        if let Some(thread) = self.find(tid) {
            thread.0.boosted.store(to.0, Ordering::Relaxed);
        }
    }

    fn relax(&self, turns: u32) {
        if turns < SPINS {
            core::hint::spin_loop();
        } else {
            thread::yield_now();
        }
    }
}
