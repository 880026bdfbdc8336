//! Locks with priority inheritance.

use crate::common;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{LOST, Table, lost, table, word};
use tailpin_futex::model::ModelMemory;
use tailpin_futex::{
    Acquired, Error, Futex, Memory, OWNER_DIED, Priority, RobustEnd, Scheduler, TID_MASK, Tid, Timeout,
    WAITERS,
};

fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LOST, "{what}");
        thread::yield_now();
    }
}

fn urgent(futexes: &Table, priority: u32) {
    futexes.scheduler().current().set_priority(Priority(priority));
}

#[test]
fn the_word_names_the_owner_and_is_zero_when_free() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let lock = Futex::private(&memory, 0);
    assert_eq!(futexes.lock_pi(&lock, None), Ok(Acquired::Clean));
    let me = futexes.scheduler().tid();
    assert_eq!(word(&memory, 0), me.0);
    assert_eq!(futexes.lock_pi(&lock, None), Err(Error::Deadlock { chain: 1 }));
    assert_eq!(futexes.trylock_pi(&lock), Err(Error::Deadlock { chain: 1 }));
    assert_eq!(futexes.unlock_pi(&lock), Ok(()));
    assert_eq!(word(&memory, 0), 0);
    assert_eq!(futexes.unlock_pi(&lock), Err(Error::NotOwner { owner: Tid(0) }));
    memory.store(0, 0x3fff_0000);
    assert_eq!(futexes.lock_pi(&lock, None), Err(Error::NoSuchOwner { owner: Tid(0x3fff_0000) }));
    assert_eq!(futexes.trylock_pi(&lock), Err(Error::WouldBlock { found: 0x3fff_0000 }));
}

#[test]
fn the_most_urgent_waiter_is_next_and_lends_its_urgency_meanwhile() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let lock = Futex::private(&memory, 0);
    let order = Mutex::new(Vec::new());
    futexes.lock_pi(&lock, None).unwrap();
    let me = futexes.scheduler().current();
    thread::scope(|scope| {
        for (count, priority) in [3, 1, 7, 7, 5].into_iter().enumerate() {
            let (futexes, order, lock) = (&futexes, &order, &lock);
            scope.spawn(move || {
                urgent(futexes, priority);
                futexes.lock_pi(lock, lost()).unwrap();
                order.lock().unwrap().push((priority, count));
                futexes.unlock_pi(lock).unwrap();
            });
            let most = [3, 3, 7, 7, 7][count];
            // One after the other, so that those of the same urgency have an order.
            until("the waiter has come", || {
                futexes.pi_waiters(lock) == Ok(count + 1) && me.effective_priority() == Priority(most)
            });
        }
        futexes.unlock_pi(&lock).unwrap();
        assert_eq!(me.effective_priority(), Priority::NORMAL);
    });
    assert_eq!(order.into_inner().unwrap(), [(7, 2), (7, 3), (5, 4), (3, 0), (1, 1)]);
    assert_eq!(word(&memory, 0), 0);
    assert!(futexes.is_idle());
}

#[test]
fn the_word_says_whether_others_wait_as_the_lock_goes_from_one_to_the_next() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let lock = Futex::private(&memory, 0);
    let others_wait = Mutex::new(Vec::new());
    futexes.lock_pi(&lock, None).unwrap();
    thread::scope(|scope| {
        for waiters in 1..=3 {
            scope.spawn(|| {
                futexes.lock_pi(&lock, lost()).unwrap();
                let found = word(&memory, 0);
                assert_eq!(found & TID_MASK, futexes.scheduler().tid().0);
                others_wait.lock().unwrap().push(found & WAITERS != 0);
                futexes.unlock_pi(&lock).unwrap();
            });
            until("the waiter has come", || futexes.pi_waiters(&lock) == Ok(waiters));
            assert!(!futexes.is_idle());
        }
        futexes.unlock_pi(&lock).unwrap();
    });
    assert_eq!(others_wait.into_inner().unwrap(), [true, true, false]);
    assert!(futexes.is_idle());
}

#[test]
fn those_who_wait_for_a_lock_lend_their_urgency_to_the_thread_that_takes_it_from_the_dead() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let lock = Futex::private(&memory, 0);
    futexes.lock_pi(&lock, None).unwrap();
    let dead = futexes.scheduler().tid();
    thread::scope(|scope| {
        scope.spawn(|| {
            urgent(&futexes, 9);
            futexes.lock_pi(&lock, lost()).unwrap();
            futexes.unlock_pi(&lock).unwrap();
        });
        until("the waiter has come", || futexes.pi_waiters(&lock) == Ok(1));
        // As in the middle of an exit: the lock is free, and its waiters have not been told.
        memory.store(0, OWNER_DIED | WAITERS);
        scope.spawn(|| {
            assert_eq!(futexes.trylock_pi(&lock), Ok(Acquired::OwnerDied));
            let me = futexes.scheduler().current();
            assert_eq!(word(&memory, 0), futexes.scheduler().tid().0 | OWNER_DIED | WAITERS);
            assert_eq!(me.effective_priority(), Priority(9));
            let report = futexes.exit_thread(&memory, dead, None);
            assert_eq!(
                (report.woken, report.robust),
                (0, RobustEnd::Absent),
                "it waits for another owner now"
            );
            futexes.unlock_pi(&lock).unwrap();
            assert_eq!(me.effective_priority(), Priority::NORMAL);
        });
    });
    assert_eq!(word(&memory, 0), 0);
    assert!(futexes.is_idle());
}

/// Threads 0 and on, each of which owns lock n and waits for lock n - 1; the main thread owns lock
/// 0.
fn chain(length: usize, body: impl FnOnce(&Table, &ModelMemory)) {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let lock = |n: usize| Futex::private(&memory, n as u64 * 4);
    futexes.lock_pi(&lock(0), None).unwrap();
    thread::scope(|scope| {
        for n in 1..=length {
            let (futexes, lock) = (&futexes, &lock);
            scope.spawn(move || {
                futexes.lock_pi(&lock(n), None).unwrap();
                futexes.lock_pi(&lock(n - 1), lost()).unwrap();
                futexes.unlock_pi(&lock(n - 1)).unwrap();
                futexes.unlock_pi(&lock(n)).unwrap();
            });
            until("it waits", || futexes.pi_waiters(&lock(n - 1)) == Ok(1));
        }
        body(&futexes, &memory);
        futexes.unlock_pi(&lock(0)).unwrap();
    });
    assert!(futexes.is_idle());
}

#[test]
fn urgency_goes_along_a_chain_of_owners_and_comes_back() {
    chain(5, |futexes, memory| {
        let me = futexes.scheduler().current();
        assert_eq!(me.effective_priority(), Priority::NORMAL);
        thread::scope(|scope| {
            scope.spawn(|| {
                urgent(futexes, 9);
                let waited = futexes
                    .lock_pi(&Futex::private(memory, 20), Some(Timeout::After(Duration::from_millis(200))));
                assert_eq!(waited, Err(Error::TimedOut));
            });
            until("it was lent", || me.effective_priority() == Priority(9));
        });
        assert_eq!(me.effective_priority(), Priority::NORMAL, "a thread that gave up lends nothing");
    });
}

#[test]
fn a_circle_of_owners_is_refused() {
    chain(4, |futexes, memory| {
        let closing = futexes.lock_pi(&Futex::private(memory, 16), None);
        assert_eq!(closing, Err(Error::Deadlock { chain: 5 }));
    });
}

#[test]
fn nobody_is_lost_and_nobody_is_inside_with_another() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let (inside, barrier) = (AtomicU32::new(0), Barrier::new(6));
    thread::scope(|scope| {
        for n in 0..6_u32 {
            let (futexes, memory, inside, barrier) = (&futexes, &memory, &inside, &barrier);
            scope.spawn(move || {
                urgent(futexes, n / 2);
                let (lock, me) = (Futex::private(memory, 8), futexes.scheduler().tid());
                barrier.wait();
                let mut taken = 0;
                while taken < 300 {
                    // As a user does: by the word alone if it is free.
                    let fast = memory.compare_exchange(lock.at, 0, me.0) == Ok(Ok(0));
                    let timeout = Some(Timeout::After(Duration::from_micros(u64::from(n) * 50)));
                    if !fast {
                        match futexes.lock_pi(&lock, timeout) {
                            Ok(_) => {}
                            Err(Error::TimedOut) => continue,
                            Err(error) => panic!("{error}"),
                        }
                    }
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    assert_eq!(word(memory, 8) & TID_MASK, me.0);
                    if taken % 16 == 0 {
                        thread::yield_now();
                    }
                    inside.fetch_sub(1, Ordering::SeqCst);
                    taken += 1;
                    if memory.compare_exchange(lock.at, me.0, 0) != Ok(Ok(me.0)) {
                        futexes.unlock_pi(&lock).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(word(&memory, 8) & !WAITERS, 0);
    assert!(futexes.is_idle());
}
