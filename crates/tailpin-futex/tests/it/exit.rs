//! Threads that end: robust lists, whole and damaged, and an exit that always ends.

use crate::common;

use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use common::{LOST, Meddled, lost, shared, table, until_waiting, word};
use tailpin_futex::model::{Model, ModelMemory, Size};
use tailpin_futex::{
    Acquired, Address, Error, Futex, OWNER_DIED, ROBUST_LIMIT, RobustEnd, Scheduler, TID_MASK, Tid, WAITERS,
};

pub(crate) const HEAD: u64 = 0;
/// From an entry to its lock's word.
pub(crate) const OFFSET: u64 = 8;
pub(crate) const DEAD: Tid = Tid(0x1234);

pub(crate) fn large() -> ModelMemory {
    let model = Model::new(Size { frames: 16, pages: 16, words: 1024, order: 3 });
    let memory = model.space();
    memory.map_anonymous(0, 8, true);
    memory
}

pub(crate) fn store64(memory: &ModelMemory, at: u64, value: u64) {
    memory.store(at, value as u32);
    memory.store(at + 4, (value >> 32) as u32);
}

/// Address of the n-th entry.
pub(crate) fn entry(n: u64) -> u64 {
    4096 + n * 16
}

/// A list of `count` locks that the dead thread holds.
pub(crate) fn list(memory: &ModelMemory, count: u64) {
    for n in 0..count {
        store64(memory, entry(n), if n + 1 == count { HEAD } else { entry(n + 1) });
        memory.store(entry(n) + OFFSET, DEAD.0);
    }
    store64(memory, HEAD, if count == 0 { HEAD } else { entry(0) });
    store64(memory, HEAD + 8, OFFSET);
    store64(memory, HEAD + 16, 0);
}

#[test]
fn locks_of_a_dead_thread_are_marked_and_one_waiter_of_each_is_woken() {
    let (futexes, memory) = (table(), large());
    list(&memory, 5);
    memory.store(entry(1) + OFFSET, DEAD.0 | WAITERS);
    memory.store(entry(3) + OFFSET, 99);
    let lock = Futex::private(&memory, entry(1) + OFFSET);
    thread::scope(|scope| {
        let waiters: Vec<_> =
            (0..2).map(|_| scope.spawn(|| futexes.wait(&lock, DEAD.0 | WAITERS, lost()))).collect();
        until_waiting(&futexes, &lock, 2);
        let report = futexes.exit_thread(&memory, DEAD, Some(Address::new(HEAD)));
        assert_eq!((report.locks_died, report.woken, report.robust), (4, 1, RobustEnd::Complete));
        assert_eq!(futexes.wake(&lock, 9), Ok(1));
        waiters.into_iter().for_each(|waiter| assert_eq!(waiter.join().unwrap(), Ok(())));
    });
    let words: Vec<_> = (0..5).map(|n| word(&memory, entry(n) + OFFSET)).collect();
    assert_eq!(words, [OWNER_DIED, OWNER_DIED | WAITERS, OWNER_DIED, 99, OWNER_DIED]);
}

#[test]
fn a_lock_wakes_nobody_if_its_word_names_no_waiters_or_it_inherits_priority() {
    let (futexes, memory) = (table(), large());
    list(&memory, 2);
    store64(&memory, entry(0), entry(1) | 1);
    memory.store(entry(1) + OFFSET, DEAD.0 | WAITERS);
    let locks = [(0, DEAD.0), (1, DEAD.0 | WAITERS)]
        .map(|(n, found)| (Futex::private(&memory, entry(n) + OFFSET), found));
    thread::scope(|scope| {
        for (lock, found) in &locks {
            scope.spawn(|| assert_eq!(futexes.wait(lock, *found, lost()), Ok(())));
            until_waiting(&futexes, lock, 1);
        }
        let report = futexes.exit_thread(&memory, DEAD, Some(Address::new(HEAD)));
        assert_eq!((report.locks_died, report.woken, report.robust), (2, 0, RobustEnd::Complete));
        locks.iter().for_each(|(lock, _)| assert_eq!(futexes.wake(lock, 1), Ok(1)));
    });
}

#[test]
fn a_lock_that_was_being_unlocked_wakes_its_waiter() {
    let (futexes, memory) = (table(), large());
    list(&memory, 0);
    store64(&memory, HEAD + 16, entry(7));
    let lock = Futex::shared(&memory, entry(7) + OFFSET);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| futexes.wait(&lock, 0, lost()));
        until_waiting(&futexes, &lock, 1);
        assert_eq!(futexes.exit_thread(&memory, DEAD, Some(Address::new(HEAD))).woken, 1);
        assert_eq!(waiter.join().unwrap(), Ok(()));
    });
}

#[test]
fn a_pending_lock_that_is_in_the_list_too_is_seen_to_once() {
    let (futexes, memory) = (table(), large());
    list(&memory, 3);
    store64(&memory, HEAD + 16, entry(1));
    memory.store(entry(1) + OFFSET, DEAD.0 | WAITERS);
    let lock = Futex::private(&memory, entry(1) + OFFSET);
    let (first, second) = (pin!(futexes.waiter()), pin!(futexes.waiter()));
    first.as_ref().queue(&lock, DEAD.0 | WAITERS, !0).unwrap();
    second.as_ref().queue(&lock, DEAD.0 | WAITERS, !0).unwrap();
    let report = futexes.exit_thread(&memory, DEAD, Some(Address::new(HEAD)));
    assert_eq!((report.locks_died, report.woken, report.robust), (3, 1, RobustEnd::Complete));
    assert!(first.is_woken() && !second.is_woken());
}

#[test]
fn a_list_that_loops_or_leads_nowhere_ends() {
    let exits = |damage: &dyn Fn(&ModelMemory)| {
        let (futexes, memory) = (table(), large());
        list(&memory, 4);
        damage(&memory);
        futexes.exit_thread(&memory, DEAD, Some(Address::new(HEAD)))
    };
    let looping = exits(&|memory| store64(memory, entry(2), entry(1)));
    assert_eq!((looping.locks_died, looping.robust), (3, RobustEnd::Limit));
    let itself = exits(&|memory| store64(memory, entry(2), entry(2)));
    assert_eq!((itself.locks_died, itself.robust), (3, RobustEnd::Limit));
    for nowhere in [!7, 1 << 40, 15 * 4096] {
        let damaged = exits(&|memory| store64(memory, entry(2), nowhere));
        let at = Address::new(nowhere);
        assert_eq!((damaged.locks_died, damaged.robust), (3, RobustEnd::Damaged { at }), "{nowhere:#x}");
    }
    let crooked = exits(&|memory| store64(memory, entry(2), entry(3) + 2));
    assert_eq!(crooked.robust, RobustEnd::Damaged { at: Address::new(entry(3) + 2) });
    let offset = exits(&|memory| store64(memory, HEAD + 8, 3));
    assert_eq!(
        (offset.locks_died, offset.robust),
        (0, RobustEnd::Damaged { at: Address::new(entry(0) + 3) })
    );
    let offset = exits(&|memory| store64(memory, HEAD + 8, u64::MAX - 7));
    assert_eq!(offset.robust, RobustEnd::Complete);
    let head = exits(&|memory| store64(memory, HEAD, 0));
    assert_eq!(head.robust, RobustEnd::Complete, "an entry at the head itself is the end");
    let (futexes, memory) = (table(), large());
    assert_eq!(futexes.exit_thread(&memory, DEAD, None).robust, RobustEnd::Absent);
    let at = Address::new(9 << 40);
    assert_eq!(futexes.exit_thread(&memory, DEAD, Some(at)).robust, RobustEnd::Damaged { at });
}

#[test]
fn a_long_list_is_followed_to_the_limit() {
    let (futexes, memory) = (table(), large());
    list(&memory, 1700);
    let report = futexes.exit_thread(&memory, DEAD, Some(Address::new(HEAD)));
    assert_eq!((report.locks_died, report.robust), (1700, RobustEnd::Complete));
    const { assert!(1700 < ROBUST_LIMIT) };
}

#[test]
fn an_exit_ends_though_others_change_its_memory_all_the_time() {
    let (memory, object) = shared(8);
    store64(&memory, HEAD, 4096);
    store64(&memory, HEAD + 8, OFFSET);
    store64(&memory, HEAD + 16, 0);
    store64(&memory, 4096, HEAD);
    memory.store(4096 + OFFSET, DEAD.0 | WAITERS);
    let futexes = table();
    // Whenever the exit looks at a page for its key, it is gone again.
    let restless = Meddled::new(&memory, |_| {
        memory.model().relocate(object, 1, 3);
    });
    let start = Instant::now();
    let report = futexes.exit_thread(&restless, DEAD, Some(Address::new(HEAD)));
    assert!(start.elapsed() < LOST);
    assert_eq!((report.locks_died, report.robust), (1, RobustEnd::Complete));
    assert_eq!(word(&memory, 4096 + OFFSET), OWNER_DIED | WAITERS);
    assert!(restless.pins.load(Ordering::SeqCst) > 1000, "it was patient");
}

#[test]
fn a_robust_mutex_survives_owners_that_die_in_it() {
    let (futexes, memory) = (table(), large());
    let lock = Futex::private(&memory, entry(0) + OFFSET);
    let (inside, deaths) = (AtomicU32::new(0), AtomicU32::new(0));
    let cas = |old, new| {
        use tailpin_futex::Memory;
        memory.compare_exchange(lock.at, old, new).unwrap()
    };
    list(&memory, 1);
    memory.store(entry(0) + OFFSET, 0);
    thread::scope(|scope| {
        for tid in 1..=4 {
            let (futexes, inside, deaths, memory, cas) = (&futexes, &inside, &deaths, &memory, &cas);
            scope.spawn(move || {
                for round in 0..200 {
                    // Taken as a user of the classic protocol does: free or orphaned, else wait
                    // with the bit set.
                    let died = loop {
                        let seen = word(memory, lock.at.get());
                        if seen & TID_MASK == 0 {
                            // Another thread may wait too; that bit must not be lost.
                            if cas(seen, tid | WAITERS).is_ok() {
                                break seen & OWNER_DIED != 0;
                            }
                        } else if cas(seen, seen | WAITERS).is_ok() {
                            match futexes.wait(&lock, seen | WAITERS, lost()) {
                                Ok(()) | Err(Error::WouldBlock { .. }) => {}
                                Err(error) => panic!("{error}"),
                            }
                        }
                    };
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    deaths.fetch_add(u32::from(died), Ordering::SeqCst);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    if round % 3 == 0 {
                        futexes.exit_thread(memory, Tid(tid), Some(Address::new(HEAD)));
                    } else {
                        cas(tid | WAITERS, 0).unwrap();
                        futexes.wake(&lock, 1).unwrap();
                    }
                }
            });
        }
    });
    // Every death but, perhaps, the last was seen by the next owner.
    let last = u32::from(word(&memory, lock.at.get()) & OWNER_DIED != 0);
    assert_eq!(deaths.into_inner() + last, 4 * 67);
    assert!(futexes.is_idle());
}

#[test]
fn who_waits_for_a_lock_with_inheritance_takes_over_from_the_dead() {
    let (futexes, memory) = (table(), large());
    let lock = Futex::private(&memory, 64);
    thread::scope(|scope| {
        let (futexes, memory) = (&futexes, &memory);
        let owner = thread::Builder::new().spawn_scoped(scope, move || {
            futexes.lock_pi(&lock, None).unwrap();
            // Both: who comes when the owner is gone finds a number without a thread.
            while futexes.pi_waiters(&lock) != Ok(2) {
                thread::yield_now();
            }
            assert_eq!(word(memory, 64), futexes.scheduler().tid().0 | WAITERS);
            futexes.exit_thread(memory, futexes.scheduler().tid(), None)
        });
        let owner = owner.unwrap();
        while word(memory, 64) == 0 {
            thread::yield_now();
        }
        let heirs: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(move || {
                    let taken = futexes.lock_pi(&lock, lost()).unwrap();
                    // Made consistent, as its user would.
                    let seen = word(memory, 64);
                    if taken == Acquired::OwnerDied {
                        use tailpin_futex::Memory;
                        let mut seen = seen;
                        while let Err(found) =
                            memory.compare_exchange(lock.at, seen, seen & !OWNER_DIED).unwrap()
                        {
                            seen = found;
                        }
                    }
                    futexes.unlock_pi(&lock).unwrap();
                    taken
                })
            })
            .collect();
        let report = owner.join().unwrap();
        let taken: Vec<_> = heirs.into_iter().map(|heir| heir.join().unwrap()).collect();
        assert_eq!(report.woken, 2);
        let died = taken.iter().filter(|&&taken| taken == Acquired::OwnerDied).count();
        assert!(died >= 1, "{taken:?}");
    });
    assert_eq!(word(&memory, 64), 0);
    assert!(futexes.is_idle());
}
