//! A wait that ends by its time in the moment in which it is counted as woken, moved or given the
//! lock: both sides say the same of it.
//!
//! The thread that takes the waiter out keeps the list locked until the waiter, its time gone,
//! wants to leave it: see [`Told`].

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

use tailpin_futex::model::ModelMemory;
use tailpin_futex::{Acquired, Error, Expect, Futex, Futexes, Scheduler};

use crate::common::told::Told;
use crate::common::{LOST, lost, word};

type Table = Futexes<Told>;

/// Runs `wait` in a thread; when `waits` says that it waits, `take` takes it out as its time ends.
/// Returns what both say.
fn race<R: Send, Q>(
    wait: impl FnOnce(&Table, &ModelMemory) -> R + Send,
    waits: impl Fn(&Table, &ModelMemory) -> bool,
    take: impl FnOnce(&Table, &ModelMemory) -> Q,
) -> (R, Q) {
    let (futexes, memory) = (Futexes::with_buckets(Told::new(), 64), ModelMemory::anonymous(1));
    let said = thread::scope(|scope| {
        let waiter = scope.spawn(|| wait(&futexes, &memory));
        let start = Instant::now();
        while !waits(&futexes, &memory) {
            assert!(start.elapsed() < LOST, "it does not wait");
            thread::yield_now();
        }
        futexes.scheduler().orders.hold.store(true, Ordering::SeqCst);
        let taken = take(&futexes, &memory);
        assert!(!futexes.scheduler().orders.hold.load(Ordering::SeqCst), "nothing was taken out");
        (waiter.join().unwrap(), taken)
    });
    assert!(futexes.is_idle());
    said
}

fn at(memory: &ModelMemory, at: u64) -> Futex<'_, ModelMemory> {
    Futex::private(memory, at)
}

fn one_waits(futexes: &Table, memory: &ModelMemory) -> bool {
    futexes.waiters(&at(memory, 0)) == Ok(1)
}

#[test]
fn a_wake_that_counts_a_wait_ends_it() {
    let wait = |futexes: &Table, memory: &ModelMemory| futexes.wait(&at(memory, 0), 0, lost());
    let said = race(wait, one_waits, |futexes, memory| futexes.wake(&at(memory, 0), 1));
    assert_eq!(said, (Ok(()), Ok(1)));
}

#[test]
fn a_wake_that_counts_one_of_several_words_is_told_by_its_index() {
    let wait = |futexes: &Table, memory: &ModelMemory| {
        let words = [8, 4, 0].map(|word| Expect { futex: at(memory, word), value: 0 });
        futexes.wait_multiple(&words, lost())
    };
    let said = race(wait, one_waits, |futexes, memory| futexes.wake(&at(memory, 0), 1));
    assert_eq!(said, (Ok(2), Ok(1)));
}

#[test]
fn a_requeue_to_a_free_lock_that_counts_a_wait_ends_with_the_lock() {
    let wait = |futexes: &Table, memory: &ModelMemory| {
        let taken = futexes.wait_requeue_pi(&at(memory, 0), 0, !0, &at(memory, 4), lost());
        taken.inspect(|_| futexes.unlock_pi(&at(memory, 4)).unwrap())
    };
    let requeue =
        |futexes: &Table, memory: &ModelMemory| futexes.cmp_requeue_pi(&at(memory, 0), &at(memory, 4), 0, 0);
    assert_eq!(race(wait, one_waits, requeue), (Ok(Acquired::Clean), Ok(1)));
}

/// The main thread owns the lock at 0 and another waits for it; `give` gives it away as the wait's
/// time ends.
fn race_for_the_lock<Q>(give: impl FnOnce(&Table, &ModelMemory) -> Q) -> (Result<Acquired, Error>, Q, u32) {
    let (futexes, memory) = (Futexes::with_buckets(Told::new(), 64), ModelMemory::anonymous(1));
    let lock = at(&memory, 0);
    futexes.lock_pi(&lock, None).unwrap();
    let (taken, given) = thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let taken = futexes.lock_pi(&lock, lost());
            taken.inspect(|_| futexes.unlock_pi(&lock).unwrap())
        });
        let start = Instant::now();
        while futexes.pi_waiters(&lock) != Ok(1) {
            assert!(start.elapsed() < LOST, "it does not wait");
        }
        futexes.scheduler().orders.hold.store(true, Ordering::SeqCst);
        let given = give(&futexes, &memory);
        (waiter.join().unwrap(), given)
    });
    assert!(futexes.is_idle());
    (taken, given, word(&memory, 0))
}

#[test]
fn a_lock_that_is_handed_over_is_the_waiters() {
    let said = race_for_the_lock(|futexes, memory| futexes.unlock_pi(&at(memory, 0)));
    assert_eq!(said, (Ok(Acquired::Clean), Ok(()), 0));
}

#[test]
fn a_dead_owners_lock_goes_to_the_wait_that_its_end_has_counted() {
    let end = |futexes: &Table, memory: &ModelMemory| {
        futexes.exit_thread(memory, futexes.scheduler().tid(), None).woken
    };
    assert_eq!(race_for_the_lock(end), (Ok(Acquired::OwnerDied), 1, 0));
}
