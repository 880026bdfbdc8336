//! What Linux changed in its futexes since 2019 because it was wrong, as far as it can be wrong
//! here. `docs/scenarios.md` has the whole list.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tailpin_futex::model::ModelMemory;
use tailpin_futex::{
    Acquired, Address, Call, Error, Futex, Invalid, Modify, OWNER_DIED, Operation, ROBUST_LIMIT, RawEntry,
    RobustEnd, Scheduler, TID_MASK, Tid, Timeout, WAITERS, WakeOp,
};

use crate::common::{LOST, Meddled, Table, lost, table, until_waiting, word};
use crate::exit::{DEAD, HEAD, OFFSET, entry, large, list, store64};

const EINVAL: i32 = 22;
const ENOSYS: i32 = 38;
const MISMATCHED: Error = Error::Invalid(Invalid::Mismatched);

fn soon() -> Option<Timeout> {
    Some(Timeout::After(Duration::from_millis(20)))
}

/// Thread 0x1234 ends while `entry(0)` is pending and its word is `found`. Returns whether a waiter
/// was woken, and what the word is then.
fn ends_at(found: u32, inherits: bool) -> (bool, u32) {
    let (futexes, memory) = (table(), large());
    list(&memory, 0);
    store64(&memory, HEAD + 16, entry(0) | u64::from(inherits));
    memory.store(entry(0) + OFFSET, found);
    let lock = Futex::private(&memory, entry(0) + OFFSET);
    let woken = thread::scope(|scope| {
        let waiter = scope.spawn(|| futexes.wait(&lock, found, lost()));
        until_waiting(&futexes, &lock, 1);
        let report = futexes.exit_thread(&memory, DEAD, Some(Address::new(HEAD)));
        assert_eq!(report.robust, RobustEnd::Complete);
        if report.woken == 0 {
            assert_eq!(futexes.wake(&lock, 1), Ok(1));
        }
        assert_eq!(waiter.join().unwrap(), Ok(()));
        report.woken == 1
    });
    assert!(futexes.is_idle());
    (woken, word(&memory, entry(0) + OFFSET))
}

#[test]
fn a_wake_that_a_dead_thread_owed_or_was_given_goes_to_the_next_waiter() {
    // It had unlocked and did not come to wake; or it was woken and did not come to lock: by an
    // unlock that left the bit of those who wait, or by the end of the owner before.
    for found in [0, WAITERS, OWNER_DIED, OWNER_DIED | WAITERS] {
        assert_eq!(ends_at(found, false), (true, found), "{found:#x}");
        // Of a lock with inheritance the table knows who is next.
        assert_eq!(ends_at(found, true), (false, found), "{found:#x}");
    }
    // Another thread has the lock: it will wake the next.
    assert_eq!(ends_at(99 | WAITERS, false), (false, 99 | WAITERS));
    // It held the lock itself.
    assert_eq!(ends_at(DEAD.0 | WAITERS, false), (true, OWNER_DIED | WAITERS));
}

#[test]
fn a_lock_in_the_list_that_is_free_is_left_alone() {
    let (futexes, memory) = (table(), large());
    list(&memory, 3);
    let words = [0, OWNER_DIED | WAITERS, WAITERS];
    for (n, found) in (0..).zip(words) {
        memory.store(entry(n) + OFFSET, found);
    }
    // No thread has the number 0, whatever the caller says.
    for tid in [DEAD, Tid(0)] {
        let report = futexes.exit_thread(&memory, tid, Some(Address::new(HEAD)));
        assert_eq!((report.locks_died, report.woken, report.robust), (0, 0, RobustEnd::Complete));
        assert_eq!([0, 1, 2].map(|n| word(&memory, entry(n) + OFFSET)), words);
    }
}

#[test]
fn a_list_as_long_as_the_limit_is_complete_and_one_more_is_not() {
    assert_eq!(ROBUST_LIMIT, 2048);
    let limit = |count: u64| {
        let (futexes, memory) = (table(), huge_list(count));
        let report = futexes.exit_thread(&memory, DEAD, Some(Address::new(HEAD)));
        (report.locks_died, report.robust)
    };
    assert_eq!(limit(2048), (2048, RobustEnd::Complete));
    assert_eq!(limit(2049), (2048, RobustEnd::Limit));
}

/// A list of more entries than [`large`] has room for.
fn huge_list(count: u64) -> ModelMemory {
    use tailpin_futex::model::{Model, Size};
    let model = Model::new(Size { frames: 32, pages: 16, words: 1024, order: 3 });
    let memory = model.space();
    memory.map_anonymous(0, 16, true);
    list(&memory, count);
    memory
}

#[test]
fn the_next_entry_is_read_before_the_lock_is_given_away() {
    let (futexes, memory) = (table(), large());
    list(&memory, 4);
    let mut view = Meddled::new(&memory, |_| {});
    // The next owner of each lock has it in a list of its own at once.
    view.exchanged = Some(Box::new(|at: Address| store64(&memory, at.get() - OFFSET, 1 << 40)));
    let report = futexes.exit_thread(&view, DEAD, Some(Address::new(HEAD)));
    assert_eq!((report.locks_died, report.robust), (4, RobustEnd::Complete));
}

#[test]
fn the_time_of_day_is_for_three_operations() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    for number in 0..=20 {
        for private in [0, Operation::PRIVATE] {
            // Long ago, and a word that is another: nothing waits.
            let operation = number | private | Operation::REALTIME;
            let call =
                Call { operation, value: 7, timeout: Some((0, 1)), at2: 4, value3: 1, ..Call::default() };
            let said = futexes.call(&memory, &call).map_err(|error| error.errno());
            let may = [Operation::WaitBitset, Operation::WaitRequeuePi, Operation::LockPi2];
            let takes_it = may.into_iter().any(|operation| operation as u32 == number);
            assert_eq!(said == Err(ENOSYS), !takes_it, "operation {number}: {said:?}");
        }
    }
    assert!(futexes.is_idle());
}

#[test]
fn counts_are_taken_as_they_are_meant() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let futex = Futex::private(&memory, 0);
    let call = |operation: Operation, value: u32, value2: u32| {
        let operation = operation as u32 | Operation::PRIVATE;
        let call = Call { operation, value, value2, at2: 4, ..Call::default() };
        futexes.call(&memory, &call).map_err(|error| error.errno())
    };
    thread::scope(|scope| {
        let waiter = scope.spawn(|| futexes.wait(&futex, 0, lost()));
        until_waiting(&futexes, &futex, 1);
        assert_eq!(call(Operation::Wake, 0, 0), Ok(0));
        assert_eq!(call(Operation::Requeue, 0, 0), Ok(0));
        for negative in [u32::MAX, 1 << 31] {
            assert_eq!(call(Operation::Wake, negative, 0), Err(EINVAL));
            for operation in [Operation::Requeue, Operation::CmpRequeue, Operation::WakeOp] {
                assert_eq!(call(operation, negative, 0), Err(EINVAL), "{operation:?}");
                assert_eq!(call(operation, 0, negative), Err(EINVAL), "{operation:?}");
            }
            assert_eq!(call(Operation::CmpRequeuePi, 1, negative), Err(EINVAL));
        }
        for not_one in [0, 2] {
            assert_eq!(call(Operation::CmpRequeuePi, not_one, 0), Err(EINVAL));
        }
        assert_eq!(futexes.waiters(&futex), Ok(1));
        assert_eq!(call(Operation::Wake, i32::MAX as u32, 0), Ok(1));
        assert_eq!(waiter.join().unwrap(), Ok(()));
    });
}

#[test]
fn words_of_other_sizes_and_of_a_node_are_refused() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let good = RawEntry { value: 1, at: 0, flags: RawEntry::U32, reserved: 0 };
    let wait = |entry: RawEntry, clock| {
        futexes.call_waitv(&memory, &[entry], 0, Some((0, 1)), clock).map_err(|error| error.errno())
    };
    assert_eq!(wait(good, 1), Err(11));
    // 8, 16 and 64 bits; a node in the word; a node's policy; what was never given a meaning.
    for flags in [0, 1, 3, 2 | 4, 2 | 8, 2 | 16, 2 | 64, 2 | 256, 2 | 1 << 31] {
        assert_eq!(wait(RawEntry { flags, ..good }, 1), Err(EINVAL), "{flags:#x}");
    }
    for clock in [-1, 2, 7, i32::MAX, i32::MIN] {
        assert_eq!(wait(good, clock), Err(EINVAL), "{clock}");
    }
}

/// A thread that takes the lock at 0, and has ended when `body` runs, but still has its number.
fn with_a_lock_of_the_dead(futexes: &Table, memory: &ModelMemory, body: impl FnOnce(Tid)) {
    let (ended, done) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        let owner = scope.spawn(|| {
            futexes.lock_pi(&Futex::private(memory, 0), None).unwrap();
            let tid = futexes.scheduler().tid();
            futexes.exit_thread(memory, tid, None);
            ended.wait();
            done.wait();
            tid
        });
        ended.wait();
        let tid = Tid(word(memory, 0) & TID_MASK);
        body(tid);
        done.wait();
        assert_eq!(owner.join().unwrap(), tid);
    });
}

#[test]
fn a_thread_that_has_ended_is_not_waited_for() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let (lock, condition) = (Futex::private(&memory, 0), Futex::private(&memory, 4));
    with_a_lock_of_the_dead(&futexes, &memory, |owner| {
        assert_eq!(futexes.lock_pi(&lock, lost()), Err(Error::NoSuchOwner { owner }));
        thread::scope(|scope| {
            let waiter = scope.spawn(|| futexes.wait_requeue_pi(&condition, 0, !0, &lock, lost()));
            until_waiting(&futexes, &condition, 1);
            assert_eq!(futexes.cmp_requeue_pi(&condition, &lock, 0, 0), Ok(1));
            assert_eq!(waiter.join().unwrap(), Err(Error::NoSuchOwner { owner }));
        });
    });
    assert!(futexes.is_idle());
}

#[test]
fn an_owner_that_ends_is_noticed_by_all_who_ask_around_that_time() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let lock = Futex::private(&memory, 0);
    for round in 0..400 {
        memory.store(0, 0);
        let (held, go) = (AtomicBool::new(false), Barrier::new(3));
        let taken: Vec<_> = thread::scope(|scope| {
            scope.spawn(|| {
                futexes.lock_pi(&lock, None).unwrap();
                held.store(true, Ordering::SeqCst);
                go.wait();
                futexes.exit_thread(&memory, futexes.scheduler().tid(), None);
            });
            let ask = || {
                while !held.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
                go.wait();
                let taken = futexes.lock_pi(&lock, lost());
                if taken.is_ok() {
                    assert_eq!(word(&memory, 0) & TID_MASK, futexes.scheduler().tid().0);
                    futexes.unlock_pi(&lock).unwrap();
                }
                taken
            };
            let others = [scope.spawn(ask), scope.spawn(ask)];
            others.into_iter().map(|other| other.join().unwrap()).collect()
        });
        for taken in taken {
            assert!(matches!(taken, Ok(_) | Err(Error::NoSuchOwner { .. })), "round {round}: {taken:?}");
        }
    }
    assert!(futexes.is_idle());
}

#[test]
fn a_thread_with_a_new_program_gives_away_its_locks_and_lives_on() {
    let (futexes, memory) = (table(), large());
    let (robust, waited_for, later) =
        (entry(0) + OFFSET, Futex::private(&memory, 64), Futex::private(&memory, 68));
    let me = futexes.scheduler().tid();
    list(&memory, 1);
    memory.store(robust, me.0);
    futexes.lock_pi(&waited_for, None).unwrap();
    thread::scope(|scope| {
        let heir = scope.spawn(|| {
            let taken = futexes.lock_pi(&waited_for, lost());
            futexes.unlock_pi(&waited_for).unwrap();
            taken
        });
        while futexes.pi_waiters(&waited_for) != Ok(1) {
            thread::yield_now();
        }
        let report = futexes.exec_thread(&memory, me, Some(Address::new(HEAD)));
        assert_eq!((report.locks_died, report.woken, report.robust), (1, 1, RobustEnd::Complete));
        assert_eq!(heir.join().unwrap(), Ok(Acquired::OwnerDied));
        assert_eq!(word(&memory, robust), OWNER_DIED);
        // It is an owner like any other.
        futexes.lock_pi(&later, None).unwrap();
        let other = scope.spawn(|| futexes.lock_pi(&later, soon()));
        assert_eq!(other.join().unwrap(), Err(Error::TimedOut));
    });
    futexes.unlock_pi(&later).unwrap();
    assert!(futexes.is_idle());
}

#[test]
fn an_interruption_after_a_requeue_does_not_wait_for_a_second_one() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let (condition, lock) = (Futex::private(&memory, 0), Futex::private(&memory, 4));
    futexes.lock_pi(&lock, None).unwrap();
    thread::scope(|scope| {
        let (send, thread) = std::sync::mpsc::channel();
        let (futexes, condition, lock) = (&futexes, &condition, &lock);
        let waiter = scope.spawn(move || {
            send.send(futexes.scheduler().current()).unwrap();
            let said = futexes.wait_requeue_pi(condition, 0, !0, lock, lost());
            futexes.scheduler().current().resume();
            said
        });
        until_waiting(futexes, condition, 1);
        assert_eq!(futexes.cmp_requeue_pi(condition, lock, 0, 0), Ok(1));
        let start = Instant::now();
        while futexes.pi_waiters(lock) != Ok(1) {
            assert!(start.elapsed() < LOST);
        }
        thread.recv().unwrap().interrupt();
        let said = waiter.join().unwrap();
        assert_eq!(said, Err(Error::WouldBlock { found: 0 }));
    });
    futexes.unlock_pi(&lock).unwrap();
    assert!(futexes.is_idle());
}

#[test]
fn waiters_of_the_two_kinds_at_one_word_are_told_apart() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let (lock, other) = (Futex::private(&memory, 0), Futex::private(&memory, 4));
    futexes.lock_pi(&lock, None).unwrap();
    thread::scope(|scope| {
        let heir = scope.spawn(|| {
            let taken = futexes.lock_pi(&lock, lost());
            futexes.unlock_pi(&lock).unwrap();
            taken
        });
        while futexes.pi_waiters(&lock) != Ok(1) {
            thread::yield_now();
        }
        let compare = tailpin_futex::Compare::NotEqual(1);
        let op = WakeOp { modify: Modify::Or(0), compare };
        assert_eq!(futexes.wake(&lock, 1), Err(MISMATCHED));
        assert_eq!(futexes.wake(&lock, 0), Ok(0));
        assert_eq!(futexes.requeue(&lock, &other, 1, 1), Err(MISMATCHED));
        assert_eq!(futexes.wake_op(&lock, &other, 1, 1, op), Err(MISMATCHED));
        assert_eq!(futexes.wake_op(&other, &lock, 1, 1, op), Err(MISMATCHED));
        let found = word(&memory, 0);
        assert_eq!(futexes.cmp_requeue_pi(&lock, &other, 1, found), Err(MISMATCHED));
        // Another word in the same table says nothing of this one.
        assert_eq!(futexes.wake(&other, 1), Ok(0));
        futexes.unlock_pi(&lock).unwrap();
        assert_eq!(heir.join().unwrap(), Ok(Acquired::Clean));
        assert_eq!(futexes.wake(&lock, 1), Ok(0));

        let plain = scope.spawn(|| futexes.wait(&lock, 0, lost()));
        until_waiting(&futexes, &lock, 1);
        assert_eq!(futexes.lock_pi(&lock, soon()), Err(MISMATCHED));
        assert_eq!(futexes.trylock_pi(&lock), Err(MISMATCHED));
        assert_eq!(futexes.wake(&lock, 1), Ok(1));
        assert_eq!(plain.join().unwrap(), Ok(()));
        assert_eq!(futexes.trylock_pi(&lock), Ok(Acquired::Clean));
    });
    assert_eq!(MISMATCHED.errno(), EINVAL);
    futexes.unlock_pi(&lock).unwrap();
    assert!(futexes.is_idle());
}
