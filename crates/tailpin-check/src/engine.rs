//! What scenarios run on: a model checker's threads and atomics, a random scheduler's, or the
//! machine's.
//!
//! A scenario is written once against [`Engine`]; only words and threads differ.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Threads, atomic words and tracked memory of one kind.
pub trait Engine: Sized + Send + Sync + 'static {
    /// A 64-bit atomic.
    type Atomic: Send + Sync;
    /// Memory whose unordered use is noticed, where the engine can.
    type Memory: Send + Sync;
    /// A thread to wait for.
    type Join;
    /// A thread that may be blocked.
    type Thread: Clone + Send + Sync + 'static;
    /// Whether one thread runs at a time, so that a trace has an order.
    const TRACES: bool;
    /// Whether SeqCst of an operation is no more than AcqRel here, and takes a fence to be what it
    /// is.
    const NEEDS_FENCES: bool = false;

    /// A new atomic word.
    fn atomic(value: u64) -> Self::Atomic;
    /// As the method of [`AtomicU64`].
    fn load(word: &Self::Atomic, order: Ordering) -> u64;
    /// As the method of [`AtomicU64`].
    fn store(word: &Self::Atomic, value: u64, order: Ordering);
    /// As the method of [`AtomicU64`].
    fn swap(word: &Self::Atomic, value: u64, order: Ordering) -> u64;
    /// As the method of [`AtomicU64`].
    fn compare_exchange(
        word: &Self::Atomic,
        current: u64,
        new: u64,
        ok: Ordering,
        err: Ordering,
    ) -> Result<u64, u64>;
    /// As the method of [`AtomicU64`].
    fn fetch_add(word: &Self::Atomic, value: u64, order: Ordering) -> u64;
    /// As the method of [`AtomicU64`].
    fn fetch_sub(word: &Self::Atomic, value: u64, order: Ordering) -> u64;
    /// As the method of [`AtomicU64`].
    fn fetch_and(word: &Self::Atomic, value: u64, order: Ordering) -> u64;
    /// As the method of [`AtomicU64`].
    fn fetch_or(word: &Self::Atomic, value: u64, order: Ordering) -> u64;
    /// As [`std::sync::atomic::fence`].
    fn fence(order: Ordering);
    /// Lets other threads go on.
    fn relax();

    /// Names the thread that calls.
    fn current() -> Self::Thread;
    /// Lets other threads go on until somebody [releases](Self::release) this one, or some time.
    fn block();
    /// Ends the current or next [`block`](Self::block) of a thread.
    fn release(thread: &Self::Thread);

    /// New tracked memory.
    fn memory() -> Self::Memory;
    /// Reads it: wrong while anybody may write.
    fn read(memory: &Self::Memory);
    /// Writes it: wrong while anybody else may read or write.
    fn write(memory: &Self::Memory);

    /// Starts a thread.
    fn spawn(body: impl FnOnce() + Send + 'static) -> Self::Join;
    /// Waits for it.
    fn join(thread: Self::Join);
}

thread_local! {
    static ROLE: Cell<usize> = const { Cell::new(MAIN) };
}

/// The role of whatever is not one: set-up and final audit.
pub const MAIN: usize = usize::MAX;

/// Which role is running.
pub(crate) fn role() -> usize {
    ROLE.get()
}

/// Says which role is running from here on.
pub(crate) fn enter_role(role: usize) {
    ROLE.set(role);
}

/// Model threads are coroutines of one OS thread: whenever one may have been switched away from, it
/// says again who it is.
fn switching<T>(operation: impl FnOnce() -> T) -> T {
    let role = ROLE.get();
    let result = operation();
    ROLE.set(role);
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
pub struct LoomMemory(loom::cell::UnsafeCell<()>);

// SAFETY: the pointers that loom gives out are never followed, and loom itself runs one thread at a
// time.
unsafe impl Sync for LoomMemory {}

/// All interleavings and weak-memory outcomes, through loom.
pub struct Loom;

impl Engine for Loom {
    atomic_by_method!(loom::sync::atomic::AtomicU64);
    type Memory = LoomMemory;
    type Join = loom::thread::JoinHandle<()>;
    type Thread = loom::thread::Thread;
    const TRACES: bool = true;
    const NEEDS_FENCES: bool = true;

    fn fence(order: Ordering) {
        switching(|| loom::sync::atomic::fence(order));
    }
    fn relax() {
        switching(loom::thread::yield_now);
    }
    fn current() -> Self::Thread {
        loom::thread::current()
    }
    fn block() {
        switching(loom::thread::park);
    }
    fn release(thread: &Self::Thread) {
        switching(|| thread.unpark());
    }
    fn memory() -> Self::Memory {
        LoomMemory(loom::cell::UnsafeCell::new(()))
    }
    fn read(memory: &Self::Memory) {
        switching(|| memory.0.with(|_| ()));
    }
    fn write(memory: &Self::Memory) {
        switching(|| memory.0.with_mut(|_| ()));
    }
    fn spawn(body: impl FnOnce() + Send + 'static) -> Self::Join {
        switching(|| loom::thread::spawn(body))
    }
    fn join(thread: Self::Join) {
        switching(|| thread.join()).expect("a role that fails ends the run");
    }
}

/// Random schedules of many threads, sequentially consistent, through shuttle.
pub struct Shuttle;

impl Engine for Shuttle {
    atomic_by_method!(shuttle::sync::atomic::AtomicU64);
    type Memory = ();
    type Join = shuttle::thread::JoinHandle<()>;
    type Thread = ();
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
    fn memory() {}
    fn read((): &()) {}
    fn write((): &()) {}
    fn spawn(body: impl FnOnce() + Send + 'static) -> Self::Join {
        switching(|| shuttle::thread::spawn(body))
    }
    fn join(thread: Self::Join) {
        switching(|| thread.join()).expect("a role that fails ends the run");
    }
}

/// Ends an execution that lacks what it needs of the machine, and says what: nothing was found out
/// by it.
#[derive(Debug)]
pub(crate) struct Hindered(pub(crate) String);

/// The machine's own threads.
pub struct Machine;

impl Engine for Machine {
    atomic_by_method!(AtomicU64);
    type Memory = ();
    type Join = std::thread::JoinHandle<()>;
    type Thread = ();
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
    fn memory() {}
    fn read((): &()) {}
    fn write((): &()) {}
    fn spawn(body: impl FnOnce() + Send + 'static) -> Self::Join {
        let thread = std::thread::Builder::new().spawn(body);
        // No panic of the model's: the hook has nothing to report, and what is above tells it from
        // a find.
        thread.unwrap_or_else(|error| {
            let why = format!("a thread can't be started: {error}");
            std::panic::resume_unwind(Box::new(Hindered(why)))
        })
    }
    fn join(thread: Self::Join) {
        if let Err(cause) = thread.join() {
            std::panic::resume_unwind(cause);
        }
    }
}
