//! What the Linux Test Project's futex tests assert, and the kernel's own functional tests (F1 to
//! F7).

use crate::common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{LOST, Meddled, Table, another, lost, read_only, shared, table, until_waiting};
use tailpin_futex::model::{Mapping, Model, ModelMemory, Size};
use tailpin_futex::{
    Acquired, Call, Clock, Error, Expect, Fault, Futex, Invalid, MAX_WAITV, Operation, RawEntry, Scheduler,
    Scope, StdScheduler, StdThread, Timeout,
};

const BOTH: [Scope; 2] = [Scope::Private, Scope::Shared];
const EAGAIN: i32 = 11;
const EFAULT: i32 = 14;
const EINVAL: i32 = 22;
const ETIMEDOUT: i32 = 110;

fn scoped(memory: &ModelMemory, at: u64, scope: Scope) -> Futex<'_, ModelMemory> {
    Futex { scope, ..Futex::private(memory, at) }
}

fn soon() -> Option<Timeout> {
    Some(Timeout::After(Duration::from_micros(10)))
}

fn private_flag(scope: Scope) -> u32 {
    if scope == Scope::Private { Operation::PRIVATE } else { 0 }
}

#[test]
fn futex_wait01_times_out_or_finds_another_value() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    for scope in BOTH {
        let call = Call {
            operation: Operation::Wait as u32 | private_flag(scope),
            at: 8,
            timeout: Some((0, 10_000)),
            ..Call::default()
        };
        assert_eq!(futexes.call(&memory, &call).unwrap_err().errno(), ETIMEDOUT);
        let other = Call { value: 1, ..call };
        assert_eq!(futexes.call(&memory, &other).unwrap_err().errno(), EAGAIN);
    }
    assert!(futexes.is_idle());
}

#[test]
fn futex_wait02_a_waiter_in_another_process_is_woken() {
    let (memory, object) = shared(8);
    let other = another(memory.model(), 16, 8, object);
    let futexes = table();
    thread::scope(|scope| {
        let child = scope.spawn(|| futexes.wait(&Futex::shared(&other, 16 * 4096 + 4), 0, lost()));
        let futex = Futex::shared(&memory, 4);
        until_waiting(&futexes, &futex, 1);
        assert_eq!(futexes.wake(&futex, 1), Ok(1));
        assert_eq!(child.join().unwrap(), Ok(()));
    });
}

#[test]
fn futex_wait03_a_waiter_of_the_same_process_is_woken() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    for scope in BOTH {
        let futex = scoped(&memory, 0, scope);
        thread::scope(|threads| {
            let waiter = threads.spawn(|| futexes.wait(&futex, 0, lost()));
            until_waiting(&futexes, &futex, 1);
            assert_eq!(futexes.wake(&futex, 1), Ok(1));
            assert_eq!(waiter.join().unwrap(), Ok(()));
        });
    }
}

#[test]
fn futex_wait04_memory_never_touched_is_zero() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    for scope in BOTH {
        let futex = scoped(&memory, 0, scope);
        assert_eq!(futexes.wait(&futex, 1, soon()), Err(Error::WouldBlock { found: 0 }));
    }
}

/// Waits for `time` and is not woken early. Late is the machine's business; hours late is ours.
fn takes(time: Duration, wait: impl FnOnce() -> Result<(), Error>) {
    let start = Instant::now();
    assert_eq!(wait(), Err(Error::TimedOut));
    let took = start.elapsed();
    assert!(took >= time && took < LOST, "{took:?} for {time:?}");
}

#[test]
fn futex_wait05_takes_the_time_it_was_given() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let time = Duration::from_millis(20);
    let futex = Futex::shared(&memory, 0);
    takes(time, || futexes.wait(&futex, 0, Some(Timeout::After(time))));
}

#[test]
fn wait_bitset01_and_02_end_at_a_time_of_either_clock() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let time = Duration::from_millis(20);
    for clock in [Clock::Monotonic, Clock::Realtime] {
        let until = futexes.scheduler().now(clock) + time;
        takes(time, || {
            futexes.wait_bitset(&Futex::shared(&memory, 0), 0, 1, Some(Timeout::At(clock, until)))
        });
    }
}

#[test]
fn wait_bitset_meets_only_wakes_that_name_one_of_its_bits() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let futex = Futex::private(&memory, 0);
    assert_eq!(futexes.wait_bitset(&futex, 0, 0, None), Err(Invalid::EmptyBitset.into()));
    assert_eq!(futexes.wake_bitset(&futex, 1, 0), Err(Invalid::EmptyBitset.into()));
    thread::scope(|scope| {
        let low = scope.spawn(|| futexes.wait_bitset(&futex, 0, 0b0011, lost()));
        until_waiting(&futexes, &futex, 1);
        let high = scope.spawn(|| futexes.wait_bitset(&futex, 0, 0b1100, lost()));
        until_waiting(&futexes, &futex, 2);
        assert_eq!(futexes.wake_bitset(&futex, 9, 0b1_0000), Ok(0));
        assert_eq!(futexes.wake_bitset(&futex, 9, 0b0100), Ok(1));
        assert_eq!(high.join().unwrap(), Ok(()));
        assert_eq!(futexes.wake(&futex, 9), Ok(1));
        assert_eq!(low.join().unwrap(), Ok(()));
    });
}

#[test]
fn futex_wake01_nobody_waits() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    for scope in BOTH {
        for count in [0, 1, i32::MAX as u32] {
            assert_eq!(futexes.wake(&scoped(&memory, 0, scope), count), Ok(0));
        }
    }
}

/// 55 waiters; 1, 2, … 10 are woken.
fn wakes_as_many_as_asked(
    futexes: &Table,
    waiters: &[Futex<'_, ModelMemory>],
    waker: &Futex<'_, ModelMemory>,
) {
    let awake = AtomicU32::new(0);
    thread::scope(|scope| {
        for index in 0..55 {
            let (futex, awake) = (waiters[index % waiters.len()], &awake);
            scope.spawn(move || {
                assert_eq!(futexes.wait(&futex, 0, lost()), Ok(()));
                awake.fetch_add(1, Ordering::SeqCst);
            });
        }
        until_waiting(futexes, waker, 55);
        let mut total = 0;
        for count in 1..=10 {
            assert_eq!(futexes.wake(waker, count), Ok(count));
            total += count;
            assert_eq!(futexes.waiters(waker), Ok(55 - total as usize));
            let start = Instant::now();
            while awake.load(Ordering::SeqCst) < total {
                assert!(start.elapsed() < LOST);
                thread::yield_now();
            }
        }
        assert_eq!(futexes.wake(waker, 1), Ok(0));
    });
    assert_eq!(awake.into_inner(), 55);
    assert!(futexes.is_idle());
}

#[test]
fn futex_wake02_wakes_as_many_threads_as_asked() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let futex = Futex::private(&memory, 12);
    wakes_as_many_as_asked(&futexes, &[futex], &futex);
}

#[test]
fn futex_wake03_wakes_as_many_processes_as_asked() {
    let (memory, object) = shared(8);
    let others: Vec<_> = (0..5).map(|page| another(memory.model(), page, 8, object)).collect();
    let waiters: Vec<_> =
        others.iter().zip(0..).map(|(space, page)| Futex::shared(space, page * 4096 + 4096 + 8)).collect();
    wakes_as_many_as_asked(&table(), &waiters, &Futex::shared(&memory, 4096 + 8));
}

#[test]
fn futex_wake04_wakes_the_waiter_of_this_word_and_not_of_the_neighbour_page() {
    // L6; for every kind of large page in `large_pages.rs`.
    let (memory, _) = shared(8);
    let futexes = table();
    let (first, second) = (Futex::shared(&memory, 0), Futex::shared(&memory, 4096));
    thread::scope(|scope| {
        let one = scope.spawn(|| futexes.wait(&first, 0, lost()));
        let two = scope.spawn(|| futexes.wait(&second, 0, lost()));
        until_waiting(&futexes, &first, 1);
        until_waiting(&futexes, &second, 1);
        assert_eq!(futexes.wake(&second, 1), Ok(1));
        assert_eq!(two.join().unwrap(), Ok(()));
        assert_eq!(futexes.waiters(&first), Ok(1));
        assert_eq!(futexes.wake(&first, 1), Ok(1));
        assert_eq!(one.join().unwrap(), Ok(()));
    });
}

#[test]
fn futex_cmp_requeue01_wakes_some_and_moves_some() {
    for (waiters, wakes, requeues) in
        [(10, 3, 7), (10, 0, 10), (10, 2, 6), (100, 50, 50), (100, 0, 70), (200, 30, 50)]
    {
        let (futexes, memory) = (table(), ModelMemory::anonymous(1));
        let (from, to) = (Futex::private(&memory, 0), Futex::private(&memory, 4));
        thread::scope(|scope| {
            let threads: Vec<_> =
                (0..waiters).map(|_| scope.spawn(|| futexes.wait(&from, 0, lost()))).collect();
            until_waiting(&futexes, &from, waiters);
            memory.store(0, 1);
            let call = Call {
                operation: Operation::CmpRequeue as u32 | Operation::PRIVATE,
                at: 0,
                value: wakes,
                value2: requeues,
                at2: 4,
                value3: 1,
                ..Call::default()
            };
            assert_eq!(futexes.call(&memory, &call), Ok(wakes + requeues));
            assert_eq!(futexes.wake(&to, waiters as u32), Ok(requeues));
            assert_eq!(futexes.wake(&from, waiters as u32), Ok(waiters as u32 - wakes - requeues));
            threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), Ok(())));
        });
        assert!(futexes.is_idle());
    }
}

#[test]
fn futex_cmp_requeue02_refuses_negative_counts_and_another_value() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    for (value, value2, value3, errno) in [(1, -1, 0, EINVAL), (-1, 1, 0, EINVAL), (1, 1, 1, EAGAIN)] {
        let call = Call {
            operation: Operation::CmpRequeue as u32,
            value: value as u32,
            value2: value2 as u32,
            at2: 4,
            value3,
            ..Call::default()
        };
        assert_eq!(futexes.call(&memory, &call).unwrap_err().errno(), errno, "{call:?}");
    }
    assert!(futexes.is_idle());
}

#[test]
fn futex_cmp_requeue03_refuses_addresses_where_nothing_is() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    for (at, at2) in [(8 * 4096, 0), (0, 8 * 4096), (1 << 40, 0)] {
        let call =
            Call { operation: Operation::CmpRequeue as u32, at, at2, value: 1, value2: 1, ..Call::default() };
        assert_eq!(futexes.call(&memory, &call).unwrap_err().errno(), EFAULT);
    }
}

#[test]
fn a_requeue_may_have_the_same_word_at_both_ends() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let futex = Futex::private(&memory, 0);
    thread::scope(|scope| {
        (0..3).for_each(|_| {
            scope.spawn(|| futexes.wait(&futex, 0, lost()));
        });
        until_waiting(&futexes, &futex, 3);
        let done = futexes.requeue(&futex, &futex, 1, 5).unwrap();
        assert_eq!((done.woken, done.requeued), (1, 2));
        assert_eq!(futexes.wake(&futex, 5), Ok(2));
    });
    assert!(futexes.is_idle());
}

fn waitv_fails(errno: i32, entry: RawEntry, timeout: Option<(i64, i64)>, clock: i32) {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let failed = futexes.call_waitv(&memory, &[entry], 0, timeout, clock);
    assert_eq!(failed.unwrap_err().errno(), errno, "{entry:?} {timeout:?} {clock}");
    assert!(futexes.is_idle());
}

#[test]
fn futex_waitv01_refuses_what_makes_no_sense() {
    let good = RawEntry { value: 0, at: 4, flags: RawEntry::U32 | Operation::PRIVATE, reserved: 0 };
    let soon = Some((1, 0));
    waitv_fails(EINVAL, RawEntry { flags: Operation::PRIVATE, ..good }, soon, 1);
    waitv_fails(EINVAL, RawEntry { at: 1, ..good }, soon, 1);
    waitv_fails(EFAULT, RawEntry { at: 1 << 40, ..good }, soon, 1);
    waitv_fails(EFAULT, RawEntry { at: 1 << 40, flags: RawEntry::U32, ..good }, soon, 1);
    waitv_fails(EINVAL, RawEntry { reserved: 1, ..good }, soon, 1);
    waitv_fails(EINVAL, RawEntry { value: 1 << 32, ..good }, soon, 1);
    waitv_fails(EINVAL, good, soon, 11);
    waitv_fails(EINVAL, good, Some((0, 1_000_000_000)), 1);
    waitv_fails(EINVAL, good, Some((-1, 0)), 1);
    waitv_fails(EAGAIN, RawEntry { value: 1, ..good }, soon, 1);
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    for entries in [vec![], vec![good; 129]] {
        let failed = futexes.call_waitv(&memory, &entries, 0, soon, 0);
        assert_eq!(failed, Err(Invalid::Entries(entries.len()).into()));
    }
    assert_eq!(futexes.call_waitv(&memory, &[good], 1, soon, 0), Err(Invalid::Flags(1).into()));
}

/// A null address is one where nothing is mapped.
#[test]
fn futex_waitv01_null_is_a_fault() {
    let memory = Model::new(Size::default()).space();
    memory.map_anonymous(1, 1, false);
    let entry = RawEntry { flags: RawEntry::U32, ..RawEntry::default() };
    assert_eq!(table().call_waitv(&memory, &[entry], 0, None, 0).unwrap_err().errno(), EFAULT);
}

fn waitv_is_woken_by_its_last(count: usize, waiters: &ModelMemory, waker: &ModelMemory, scope: Scope) {
    let futexes = table();
    let words: Vec<_> =
        (0..count).map(|n| Expect { futex: scoped(waiters, word(n), scope), value: 0 }).collect();
    thread::scope(|threads| {
        let thread = threads.spawn(|| futexes.wait_multiple(&words, lost()));
        let last = scoped(waker, word(count - 1), scope);
        until_waiting(&futexes, &last, 1);
        assert_eq!(futexes.wake(&last, 1), Ok(1));
        assert_eq!(thread.join().unwrap(), Ok(count - 1));
    });
    assert!(futexes.is_idle());
}

/// Address of the n-th word, sixteen to a page.
fn word(n: usize) -> u64 {
    (n / 16 * 4096 + n % 16 * 4) as u64
}

#[test]
fn futex_waitv02_private_words() {
    let memory = ModelMemory::anonymous(8);
    for count in [1, 8, 9, 30, 128] {
        waitv_is_woken_by_its_last(count, &memory, &memory, Scope::Private);
    }
}

#[test]
fn futex_waitv03_shared_words() {
    let (memory, object) = shared(8);
    let other = another(memory.model(), 0, 8, object);
    for count in [1, 8, 9, 30, 128] {
        waitv_is_woken_by_its_last(count, &memory, &other, Scope::Shared);
    }
}

#[test]
fn waitv_refuses_no_words_and_too_many() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let words = |count| -> Vec<_> {
        (0..count).map(|_| Expect { futex: Futex::private(&memory, 0), value: 0 }).collect()
    };
    for count in [0, MAX_WAITV + 1] {
        let refused = futexes.wait_multiple(&words(count), soon());
        assert_eq!(refused, Err(Invalid::Entries(count).into()));
    }
    assert_eq!(futexes.wait_multiple(&words(MAX_WAITV), soon()), Err(Error::TimedOut));
}

#[test]
fn waitv_waits_for_nothing_if_one_word_is_another() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    memory.store(8, 7);
    let words: Vec<_> =
        (0..4).map(|n| Expect { futex: Futex::private(&memory, word(n)), value: 0 }).collect();
    assert_eq!(futexes.wait_multiple(&words, None), Err(Error::WouldBlock { found: 7 }));
    assert!(futexes.is_idle());
    assert_eq!(futexes.wait_multiple(&words[..2], soon()), Err(Error::TimedOut));
    assert!(futexes.is_idle());
}

#[test]
fn f1_private_anonymous_and_file_words() {
    let (memory, object) = shared(8);
    memory.map_anonymous(16, 1, false);
    let other = another(memory.model(), 8, 8, object);
    let cases = [
        (Futex::private(&memory, 16 * 4096), Futex::private(&memory, 16 * 4096)),
        (Futex::shared(&memory, 16 * 4096 + 4), Futex::shared(&memory, 16 * 4096 + 4)),
        (Futex::shared(&memory, 3 * 4096), Futex::shared(&other, 11 * 4096)),
    ];
    let futexes = table();
    for (waits, wakes) in cases {
        thread::scope(|scope| {
            let waiter = scope.spawn(|| futexes.wait(&waits, 0, lost()));
            until_waiting(&futexes, &wakes, 1);
            assert_eq!(futexes.wake(&wakes, 1), Ok(1));
            assert_eq!(waiter.join().unwrap(), Ok(()));
        });
    }
}

#[test]
fn f2_a_private_file_mapping_is_waited_for_before_it_is_written() {
    let model = Model::new(Size::default());
    let (memory, object) = (model.space(), model.object(1, false));
    memory.map(Mapping { page: 0, pages: 1, object, index: 0, writable: true, private: true, huge: false });
    let futexes = table();
    let futex = Futex::shared(&memory, 0);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| futexes.wait(&futex, 0, lost()));
        until_waiting(&futexes, &futex, 1);
        memory.store(0, 1);
        assert_eq!(futexes.wake(&futex, 1), Ok(1));
        assert_eq!(waiter.join().unwrap(), Ok(()));
    });
}

#[test]
fn f3_memory_never_touched_does_not_loop() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let start = Instant::now();
    assert_eq!(futexes.wait(&Futex::shared(&memory, 0), 1, lost()), Err(Error::WouldBlock { found: 0 }));
    assert!(start.elapsed() < LOST / 2);
}

#[test]
fn f4_every_operation_that_waits_times_out_by_each_clock() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let time = Duration::from_millis(5);
    let (futex, lock) = (Futex::private(&memory, 0), Futex::private(&memory, 4));
    let (taken, done) = (Mutex::new(false), Mutex::new(()));
    let keep = done.lock().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            futexes.lock_pi(&lock, None).unwrap();
            *taken.lock().unwrap() = true;
            drop(done.lock().unwrap());
            futexes.unlock_pi(&lock).unwrap();
        });
        while !*taken.lock().unwrap() {
            thread::yield_now();
        }
        for clock in [None, Some(Clock::Monotonic), Some(Clock::Realtime)] {
            let until = || {
                Some(match clock {
                    None => Timeout::After(time),
                    Some(clock) => Timeout::At(clock, futexes.scheduler().now(clock) + time),
                })
            };
            takes(time, || futexes.wait(&futex, 0, until()));
            takes(time, || futexes.wait_bitset(&futex, 0, 1, until()));
            takes(time, || futexes.wait_multiple(&[Expect { futex, value: 0 }], until()).map(|_| ()));
            takes(time, || futexes.lock_pi(&lock, until()).map(|_| ()));
            takes(time, || futexes.wait_requeue_pi(&futex, 0, !0, &lock, until()).map(|_| ()));
        }
        drop(keep);
    });
    assert!(futexes.is_idle());
}

#[test]
fn f5_another_value_is_said_at_once() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let futex = Futex::private(&memory, 0);
    let found = Err(Error::WouldBlock { found: 0 });
    assert_eq!(futexes.wait(&futex, 1, None), found);
    assert_eq!(futexes.wait_multiple(&[Expect { futex, value: 1 }], None).map(|_| ()), found);
    assert_eq!(futexes.cmp_requeue(&futex, &futex, 1, 1, 1).map(|_| ()), found);
}

#[test]
fn f6_requeue_pi_hands_the_lock_from_one_to_the_next() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let (condition, lock) = (Futex::private(&memory, 0), Futex::private(&memory, 4));
    let inside = AtomicU32::new(0);
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let taken = futexes.wait_requeue_pi(&condition, 0, !0, &lock, lost());
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    futexes.unlock_pi(&lock).unwrap();
                    taken
                })
            })
            .collect();
        until_waiting(&futexes, &condition, 8);
        futexes.lock_pi(&lock, None).unwrap();
        assert_eq!(futexes.cmp_requeue_pi(&condition, &lock, 2, 0), Ok(3));
        assert_eq!(futexes.waiters(&condition), Ok(5));
        futexes.unlock_pi(&lock).unwrap();
        assert_eq!(futexes.cmp_requeue_pi(&condition, &lock, i32::MAX as u32, 0), Ok(5));
        assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap() == Ok(Acquired::Clean)));
    });
    assert!(futexes.is_idle());
    assert_eq!(futexes.trylock_pi(&lock), Ok(Acquired::Clean));
}

#[test]
fn f6_requeue_pi_mismatched_ops_are_refused() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let (condition, lock, other) =
        (Futex::private(&memory, 0), Futex::private(&memory, 4), Futex::private(&memory, 8));
    let mismatched = Error::Invalid(Invalid::Mismatched);
    thread::scope(|scope| {
        let plain = scope.spawn(|| futexes.wait(&condition, 0, lost()));
        until_waiting(&futexes, &condition, 1);
        let failed = futexes.cmp_requeue_pi(&condition, &lock, 1, 0);
        assert_eq!(failed, Err(mismatched));
        assert_eq!(mismatched.errno(), EINVAL);
        assert_eq!(futexes.wake(&condition, 1), Ok(1));
        assert_eq!(plain.join().unwrap(), Ok(()));

        let inheriting = scope.spawn(|| futexes.wait_requeue_pi(&condition, 0, !0, &lock, lost()));
        until_waiting(&futexes, &condition, 1);
        assert_eq!(futexes.wake(&condition, 1), Err(mismatched));
        assert_eq!(futexes.requeue(&condition, &other, 0, 1), Err(mismatched));
        assert_eq!(futexes.requeue(&condition, &other, 1, 1), Err(mismatched));
        assert_eq!(futexes.cmp_requeue_pi(&condition, &other, 1, 0), Err(mismatched));
        assert_eq!(futexes.waiters(&condition), Ok(1));
        assert_eq!(futexes.cmp_requeue_pi(&condition, &lock, 0, 0), Ok(1));
        assert_eq!(inheriting.join().unwrap(), Ok(Acquired::Clean));
    });
    assert_eq!(futexes.cmp_requeue_pi(&condition, &lock, 1, 0), Ok(0), "no waiter is no mismatch");
    let same = Err(Invalid::SameWord.into());
    assert_eq!(futexes.cmp_requeue_pi(&condition, &condition, 1, 0), same);
    assert!(futexes.is_idle());
}

/// A thread that can be interrupted, and its result.
fn interrupts<T: Send>(wait: impl FnOnce() -> T + Send, ready: impl FnOnce()) -> T {
    let handle: Mutex<Option<StdThread>> = Mutex::new(None);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            *handle.lock().unwrap() = Some(StdScheduler::new().current());
            wait()
        });
        while handle.lock().unwrap().is_none() {
            thread::yield_now();
        }
        ready();
        handle.lock().unwrap().take().unwrap().interrupt();
        waiter.join().unwrap()
    })
}

#[test]
fn f6_requeue_pi_signal_restart() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let (condition, lock) = (Futex::private(&memory, 0), Futex::private(&memory, 4));
    let ready = || until_waiting(&futexes, &condition, 1);
    let ended = interrupts(|| futexes.wait_requeue_pi(&condition, 0, !0, &lock, lost()), ready);
    assert_eq!(ended, Err(Error::Interrupted));
    assert!(futexes.is_idle());
}

#[test]
fn f7_waitv_is_interrupted() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let words = [0, 4].map(|at| Expect { futex: Futex::private(&memory, at), value: 0 });
    let ready = || until_waiting(&futexes, &words[1].futex, 1);
    assert_eq!(interrupts(|| futexes.wait_multiple(&words, lost()), ready), Err(Error::Interrupted));
    assert!(futexes.is_idle());
}

#[test]
fn a_wait_is_interrupted() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let futex = Futex::private(&memory, 0);
    let ready = || until_waiting(&futexes, &futex, 1);
    assert_eq!(interrupts(|| futexes.wait(&futex, 0, lost()), ready), Err(Error::Interrupted));
    assert!(futexes.is_idle());
}

#[test]
fn bad_addresses_are_told_apart() {
    let (memory, object) = shared(8);
    memory.map_special(20);
    let futexes = table();
    let error = |at| futexes.wait(&Futex::shared(&memory, at), 0, None).unwrap_err();
    assert!(matches!(error(2), Error::Misaligned { .. }));
    assert!(matches!(futexes.wake(&Futex::private(&memory, 2), 1), Err(Error::Misaligned { .. })));
    assert!(matches!(error(30 * 4096), Error::Fault { fault: Fault::Unmapped, .. }));
    assert!(matches!(error(20 * 4096), Error::SpecialMapping { .. }));
    memory.model().truncate(object, 5);
    assert!(matches!(error(6 * 4096), Error::Fault { fault: Fault::BeyondEnd, .. }));
    assert_eq!(futexes.wake(&Futex::shared(&memory, 4 * 4096), 1), Ok(0));
    // Anonymous memory that may only be read could never be woken.
    let anonymous = memory.map_anonymous(24, 1, false);
    let view = read_only(memory.model(), 1, anonymous, false);
    assert!(matches!(futexes.wait(&Futex::shared(&view, 0), 0, None), Err(Error::ReadOnlyAnonymous { .. })));
    assert!(futexes.is_idle());
}

#[test]
fn unknown_operations_and_options_are_refused() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    for operation in [2, 14, 99, Operation::Wake as u32 | Operation::REALTIME, 1 << 20] {
        let failed = futexes.call(&memory, &Call { operation, ..Call::default() });
        assert_eq!(failed, Err(Invalid::Operation(operation).into()));
    }
    let wake = Call { operation: Operation::Wake as u32, value: 1, ..Call::default() };
    assert_eq!(futexes.call(&memory, &wake), Ok(0));
    let negative = Call { value: -1_i32 as u32, ..wake };
    assert_eq!(futexes.call(&memory, &negative), Err(Invalid::Count(-1).into()));
}

/// Two of three words are woken, the later one first, before the third is looked at.
#[test]
fn of_several_words_that_were_woken_the_first_is_told() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    memory.store(8, 5);
    let wakes = |pins: u32| {
        // Three pins for the keys, then one for each word that is entered.
        if pins == 6 {
            for at in [4, 0] {
                assert_eq!(futexes.wake(&Futex::shared(&memory, at), 1), Ok(1));
            }
        }
    };
    let meddled = Meddled::new(&memory, wakes);
    let words = [0, 4, 8].map(|at| Expect { futex: Futex::shared(&meddled, at), value: 0 });
    assert_eq!(futexes.wait_multiple(&words, lost()), Ok(0));
    assert!(futexes.is_idle());
}
