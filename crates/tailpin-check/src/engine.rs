//! What scenarios run on: a model checker's threads and atomics, a random scheduler's, or the
//! machine's.
//!
//! A scenario is written once against [`Engine`]; only words and threads differ.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Threads, atomic words and tracked memory of one kind.
pub(crate) trait Engine: Sized + Send + Sync + 'static {
    /// A 64-bit atomic.
    type Atomic: Send + Sync;
    /// Memory whose unordered use is noticed, where the engine can.
    type Contents: Send + Sync;
    /// A thread that can be waited for.
    type Join;
    /// A thread that may be blocked.
    type ThreadHandle: Clone + Send + Sync + 'static;
    /// Whether one thread runs at a time, so that a trace has an order.
    const TRACES: bool;
    /// Whether SeqCst of an operation is no more than AcqRel here, and takes a fence to be what it
    /// is.
    const NEEDS_FENCES: bool = false;

    /// A new atomic word.
    fn atomic(value: u64) -> Self::Atomic;
    /// Does what the method of this name of [`AtomicU64`] does.
    fn load(word: &Self::Atomic, order: Ordering) -> u64;
    /// Does what the method of this name of [`AtomicU64`] does.
    fn store(word: &Self::Atomic, value: u64, order: Ordering);
    /// Does what the method of this name of [`AtomicU64`] does.
    fn swap(word: &Self::Atomic, value: u64, order: Ordering) -> u64;
    /// Does what the method of this name of [`AtomicU64`] does.
    fn compare_exchange(
        word: &Self::Atomic,
        current: u64,
        new: u64,
        ok: Ordering,
        err: Ordering,
    ) -> Result<u64, u64>;
    /// Does what the method of this name of [`AtomicU64`] does.
    fn fetch_add(word: &Self::Atomic, value: u64, order: Ordering) -> u64;
    /// Does what the method of this name of [`AtomicU64`] does.
    fn fetch_sub(word: &Self::Atomic, value: u64, order: Ordering) -> u64;
    /// Does what the method of this name of [`AtomicU64`] does.
    fn fetch_and(word: &Self::Atomic, value: u64, order: Ordering) -> u64;
    /// Does what the method of this name of [`AtomicU64`] does.
    fn fetch_or(word: &Self::Atomic, value: u64, order: Ordering) -> u64;
    /// Does what [`std::sync::atomic::fence`] does.
    fn fence(order: Ordering);
    /// Lets other threads go on.
    fn relax();

    /// Names the thread that calls.
    fn current() -> Self::ThreadHandle;
    /// Lets other threads go on until another thread [releases](Self::release) this one, or for
    /// some time.
    fn block();
    /// Ends the current or next [`block`](Self::block) of a thread.
    fn release(thread: &Self::ThreadHandle);

    /// New tracked memory.
    fn contents() -> Self::Contents;
    /// Reads tracked memory: wrong while another thread may write.
    fn read(contents: &Self::Contents);
    /// Writes tracked memory: wrong while another thread may read or write.
    fn write(contents: &Self::Contents);

    /// Starts a thread.
    fn spawn(body: impl FnOnce() + Send + 'static) -> Self::Join;
    /// Waits for a thread to end.
    fn join(thread: Self::Join);
}

thread_local! {
    static THREAD: Cell<usize> = const { Cell::new(MAIN) };
}

/// The thread of whatever is not one: set-up and final audit.
pub(crate) const MAIN: usize = usize::MAX;

/// Which thread is running.
pub(crate) fn current_thread() -> usize {
    THREAD.get()
}

/// Says which thread is running from here on.
pub(crate) fn enter_thread(thread: usize) {
    THREAD.set(thread);
}

/// Model threads are coroutines of one OS thread: whenever one may have been switched away from, it
/// says again who it is.
fn switching<T>(operation: impl FnOnce() -> T) -> T {
    let thread = THREAD.get();
    let result = operation();
    THREAD.set(thread);
    result
}

macro_rules! atomic_by_method {
    ($atomic:ty) => {
        type Atomic = $atomic;
        fn atomic(value: u64) -> Self::Atomic {
            <$atomic>::new(value)
        }
        fn load(word: &Self::Atomic, order: Ordering) -> u64 {
            switching(|| word.load(order))
        }
        fn store(word: &Self::Atomic, value: u64, order: Ordering) {
            switching(|| word.store(value, order));
        }
        fn swap(word: &Self::Atomic, value: u64, order: Ordering) -> u64 {
            switching(|| word.swap(value, order))
        }
        fn compare_exchange(
            word: &Self::Atomic,
            current: u64,
            new: u64,
            ok: Ordering,
            err: Ordering,
        ) -> Result<u64, u64> {
            switching(|| word.compare_exchange(current, new, ok, err))
        }
        fn fetch_add(word: &Self::Atomic, value: u64, order: Ordering) -> u64 {
            switching(|| word.fetch_add(value, order))
        }
        fn fetch_sub(word: &Self::Atomic, value: u64, order: Ordering) -> u64 {
            switching(|| word.fetch_sub(value, order))
        }
        fn fetch_and(word: &Self::Atomic, value: u64, order: Ordering) -> u64 {
            switching(|| word.fetch_and(value, order))
        }
        fn fetch_or(word: &Self::Atomic, value: u64, order: Ordering) -> u64 {
            switching(|| word.fetch_or(value, order))
        }
    };
}

/// Memory that has no contents: loom only notes who uses it when.
pub(crate) struct LoomContents(loom::cell::UnsafeCell<()>);

// SAFETY: the pointers that loom gives out are never followed, and loom itself runs one thread at a
// time.
unsafe impl Sync for LoomContents {}

/// All interleavings and weak-memory outcomes, through loom.
pub(crate) struct Loom;

impl Engine for Loom {
    atomic_by_method!(loom::sync::atomic::AtomicU64);
    type Contents = LoomContents;
    type Join = loom::thread::JoinHandle<()>;
    type ThreadHandle = loom::thread::Thread;
    const TRACES: bool = true;
    const NEEDS_FENCES: bool = true;

    fn fence(order: Ordering) {
        switching(|| loom::sync::atomic::fence(order));
    }
    fn relax() {
        switching(loom::thread::yield_now);
    }
    fn current() -> Self::ThreadHandle {
        loom::thread::current()
    }
    fn block() {
        switching(loom::thread::park);
    }
    fn release(thread: &Self::ThreadHandle) {
        switching(|| thread.unpark());
    }
    fn contents() -> Self::Contents {
        LoomContents(loom::cell::UnsafeCell::new(()))
    }
    fn read(contents: &Self::Contents) {
        switching(|| contents.0.with(|_| ()));
    }
    fn write(contents: &Self::Contents) {
        switching(|| contents.0.with_mut(|_| ()));
    }
    fn spawn(body: impl FnOnce() + Send + 'static) -> Self::Join {
        switching(|| loom::thread::spawn(body))
    }
    fn join(thread: Self::Join) {
        switching(|| thread.join()).expect("a thread that fails ends the run");
    }
}

/// Random schedules of many threads, sequentially consistent, through shuttle.
pub(crate) struct Shuttle;

impl Engine for Shuttle {
    atomic_by_method!(shuttle::sync::atomic::AtomicU64);
    type Contents = ();
    type Join = shuttle::thread::JoinHandle<()>;
    type ThreadHandle = ();
    const TRACES: bool = true;

    fn fence(order: Ordering) {
        switching(|| shuttle::sync::atomic::fence(order));
    }
    fn relax() {
        switching(shuttle::thread::yield_now);
    }
    fn current() {}
    fn block() {
        Self::relax();
    }
    fn release((): &()) {}
    fn contents() {}
    fn read((): &()) {}
    fn write((): &()) {}
    fn spawn(body: impl FnOnce() + Send + 'static) -> Self::Join {
        switching(|| shuttle::thread::spawn(body))
    }
    fn join(thread: Self::Join) {
        switching(|| thread.join()).expect("a thread that fails ends the run");
    }
}

/// Ends an execution that lacks what it needs of the machine, and says what: nothing was found out
/// by it.
#[derive(Debug)]
pub(crate) struct Missing(pub(crate) String);

/// The machine's own threads.
pub(crate) struct OsThreads;

impl Engine for OsThreads {
    atomic_by_method!(AtomicU64);
    type Contents = ();
    type Join = std::thread::JoinHandle<()>;
    type ThreadHandle = ();
    const TRACES: bool = false;

    fn fence(order: Ordering) {
        std::sync::atomic::fence(order);
    }
    fn relax() {
        std::thread::yield_now();
    }
    fn current() {}
    fn block() {
        Self::relax();
    }
    fn release((): &()) {}
    fn contents() {}
    fn read((): &()) {}
    fn write((): &()) {}
    fn spawn(body: impl FnOnce() + Send + 'static) -> Self::Join {
        let thread = std::thread::Builder::new().spawn(body);
        // No panic of the model's: the hook has nothing to report, and what is above tells it from
        // a find.
        thread.unwrap_or_else(|error| {
            let why = format!("a thread can't be started: {error}");
            std::panic::resume_unwind(Box::new(Missing(why)))
        })
    }
    fn join(thread: Self::Join) {
        if let Err(cause) = thread.join() {
            std::panic::resume_unwind(cause);
        }
    }
}
