//! A caller's code that panics: nothing stays locked, queued, counted or untold.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tailpin_futex::model::ModelMemory;
use tailpin_futex::{
    Acquired, Clock, Deadline, Error, Expect, Futex, Futexes, Priority, Scheduler, StdScheduler, StdThread,
    Tid,
};

use crate::common::told::Told;
use crate::common::{LOST, Meddled, lost};

/// A scheduler that panics where a thread is to block, and, once a thread that was told to is stuck
/// in the middle of a queue, where one is to wait for that queue.
struct Failing(StdScheduler, AtomicU32);

/// The next thread that is put into a queue gets stuck; and one is.
const TO_BE_STUCK: u32 = 1;
const STUCK: u32 = 2;

fn failing() -> Failing {
    Failing(StdScheduler::new(), AtomicU32::new(0))
}

impl Scheduler for Failing {
    type Thread = StdThread;
    fn current(&self) -> StdThread {
        self.0.current()
    }
    fn tid(&self) -> Tid {
        self.0.tid()
    }
    fn park(&self, _: Option<Deadline>) {
        panic!("as the test asks");
    }
    fn unpark(&self, thread: &StdThread) {
        self.0.unpark(thread);
    }
    fn now(&self, clock: Clock) -> Duration {
        self.0.now(clock)
    }
    fn interrupted(&self) -> bool {
        self.0.interrupted()
    }
    fn current_priority(&self) -> Priority {
        // Asked while the queue is this thread's.
        if self.1.load(Ordering::SeqCst) == TO_BE_STUCK {
            self.1.store(STUCK, Ordering::SeqCst);
            loop {
                thread::park();
            }
        }
        self.0.current_priority()
    }
    fn priority(&self, thread: Tid) -> Option<Priority> {
        self.0.priority(thread)
    }
    fn ended(&self, thread: Tid) {
        self.0.ended(thread);
    }
    fn boost(&self, thread: Tid, to: Priority) {
        self.0.boost(thread, to);
    }
    fn relax(&self, turns: u32) {
        assert!(self.1.load(Ordering::SeqCst) != STUCK, "as the test asks");
        self.0.relax(turns);
    }
}

/// A waiter that can't leave its queue must not go away either: what it is in is walked by others.
#[cfg(unix)]
#[test]
fn a_waiter_that_cannot_leave_its_queue_ends_the_program() {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    const ROLE: &str = "TAILPIN_FUTEX_CANNOT_LEAVE";
    if std::env::var_os(ROLE).is_none() {
        let name = "panics::a_waiter_that_cannot_leave_its_queue_ends_the_program";
        let mut child = Command::new(std::env::current_exe().unwrap());
        let ended = child.args([name, "--exact", "--nocapture"]).env(ROLE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.signal(), Some(6), "{said}");
        assert!(said.contains("as the test asks"), "{said}");
        return;
    }
    let futexes: &'static _ = Box::leak(Box::new(Futexes::<_>::with_buckets(failing(), 1)));
    let memory: &'static _ = Box::leak(Box::new(ModelMemory::anonymous(1)));
    let futex = Futex::private(memory, 0);
    let waiter = Box::pin(futexes.waiter());
    waiter.as_ref().queue(&futex, 0, !0).unwrap();
    futexes.scheduler().1.store(TO_BE_STUCK, Ordering::SeqCst);
    thread::spawn(move || futexes.wait(&Futex::private(memory, 4), 0, None));
    while futexes.scheduler().1.load(Ordering::SeqCst) != STUCK {
        thread::yield_now();
    }
    let gone = catch_unwind(AssertUnwindSafe(|| drop(waiter)));
    // The waiter's memory is free, and the queue leads to it.
    std::process::exit(i32::from(gone.is_err()));
}

#[test]
fn a_waiter_whose_wait_panics_leaves_its_queues_and_lends_nothing() {
    let (futexes, memory) = (Futexes::new(failing(), 1), ModelMemory::anonymous(1));
    let [lock, word, other] = [0, 4, 8].map(|at| Futex::private(&memory, at));
    futexes.lock_pi(&lock, None).unwrap();
    let me = futexes.scheduler().current();
    let words = [word, other].map(|futex| Expect { futex, value: 0 });
    let waits: [&(dyn Fn() + Sync); 4] = [
        &|| _ = futexes.lock_pi(&lock, None),
        &|| _ = futexes.wait(&word, 0, None),
        &|| _ = futexes.wait_multiple(&words, None),
        &|| _ = futexes.wait_requeue_pi(&word, 0, !0, &lock, None),
    ];
    for wait in waits {
        thread::scope(|scope| {
            scope.spawn(|| {
                futexes.scheduler().current().set_priority(Priority(9));
                assert!(catch_unwind(AssertUnwindSafe(wait)).is_err());
            });
        });
        assert!(futexes.is_idle());
        assert_eq!(me.effective_priority(), Priority::NORMAL);
    }
}

fn futexes() -> Futexes<Told> {
    // One bucket, so that anything left in it is in everybody's way.
    Futexes::with_buckets(Told::new(), 1)
}

#[test]
fn a_scheduler_that_panics_as_a_thread_begins_to_wait() {
    let (futexes, memory) = (futexes(), ModelMemory::anonymous(1));
    let (futex, lock) = (Futex::private(&memory, 0), Futex::private(&memory, 4));
    let orders = &futexes.scheduler().orders;
    orders.panic_priority.store(1, Ordering::SeqCst);
    assert!(catch_unwind(AssertUnwindSafe(|| futexes.wait(&futex, 0, lost()))).is_err());
    assert!(futexes.is_idle(), "counted though it does not wait");
    // The lock of the main thread, for which another begins to wait.
    assert_eq!(futexes.lock_pi(&lock, None), Ok(Acquired::Clean));
    orders.panic_priority.store(1, Ordering::SeqCst);
    thread::scope(|scope| {
        let asked =
            scope.spawn(|| catch_unwind(AssertUnwindSafe(|| futexes.lock_pi(&lock, lost()))).is_err());
        assert!(asked.join().unwrap());
    });
    assert_eq!(futexes.pi_waiters(&lock), Ok(0));
    assert_eq!(futexes.unlock_pi(&lock), Ok(()));
    assert!(futexes.is_idle());
}

#[test]
fn a_scheduler_that_panics_as_it_is_to_tell_one_thread_tells_the_others() {
    const WAITERS: usize = 40;
    let (futexes, memory) = (futexes(), ModelMemory::anonymous(1));
    let futex = Futex::private(&memory, 0);
    thread::scope(|scope| {
        let wait = || scope.spawn(|| futexes.wait(&futex, 0, lost()));
        let waiters: Vec<_> = (0..WAITERS).map(|_| wait()).collect();
        let start = Instant::now();
        while futexes.waiters(&futex) != Ok(WAITERS) {
            assert!(start.elapsed() < LOST);
            thread::yield_now();
        }
        futexes.scheduler().orders.panic_unpark.store(1, Ordering::SeqCst);
        // The first 8 are told after the lock is released; of 32 and more, the first when there is
        // no room for another.
        assert!(catch_unwind(AssertUnwindSafe(|| futexes.wake(&futex, 8))).is_err());
        assert_eq!(futexes.waiters(&futex), Ok(WAITERS - 8));
        assert_eq!(futexes.wake(&futex, u32::MAX), Ok(WAITERS as u32 - 8));
        waiters.into_iter().for_each(|waiter| assert_eq!(waiter.join().unwrap(), Ok(())));
    });
    assert!(futexes.is_idle());
}

#[test]
fn a_memory_that_panics_as_it_is_asked_for_a_page() {
    let (futexes, memory) = (futexes(), ModelMemory::anonymous(1));
    let view = Meddled::new(&memory, |_| panic!("told to panic"));
    let futex = Futex::shared(&view, 0);
    let waits = || catch_unwind(AssertUnwindSafe(|| futexes.wait(&futex, 0, lost()))).is_err();
    let wakes = || catch_unwind(AssertUnwindSafe(|| futexes.wake(&futex, 1))).is_err();
    let moves = || catch_unwind(AssertUnwindSafe(|| futexes.requeue(&futex, &futex, 1, 1))).is_err();
    assert!(waits() && wakes() && moves());
    assert!(futexes.is_idle());
}

#[test]
fn numbers_of_threads_that_no_lock_can_hold_are_refused() {
    let (futexes, memory) = (futexes(), ModelMemory::anonymous(1));
    let lock = Futex::private(&memory, 0);
    let condition = Futex::private(&memory, 4);
    let pretend = |tid| *futexes.scheduler().orders.tid.lock().unwrap() = Some(tid);
    for tid in [0, 1 << 30, 1 << 31, u32::MAX] {
        pretend(tid);
        let refused = Error::Invalid(tailpin_futex::Invalid::Thread(Tid(tid)));
        assert_eq!(futexes.lock_pi(&lock, None), Err(refused));
        assert_eq!(futexes.trylock_pi(&lock), Err(refused));
        // Before it waits: a requeue would be lost on a thread that can't take the lock.
        assert_eq!(futexes.wait_requeue_pi(&condition, 0, !0, &lock, lost()), Err(refused));
        assert_eq!(futexes.unlock_pi(&lock), Err(Error::NotOwner { owner: Tid(0) }));
    }
    pretend((1 << 30) - 1);
    assert_eq!(futexes.lock_pi(&lock, None), Ok(Acquired::Clean));
    assert_eq!(futexes.unlock_pi(&lock), Ok(()));
    assert_eq!(futexes.scheduler().tid(), Tid((1 << 30) - 1));
}
