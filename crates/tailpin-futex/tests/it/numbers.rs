//! Every public function that takes a number, with the ends of its range: an answer each time, and
//! nothing done.

use std::pin::pin;
use std::time::Duration;

use tailpin_futex::{
    Access, Address, Call, Clock, Compare, Error, Expect, Futex, Futexes, Key, Modify, ObjectId, Priority,
    RawEntry, Scheduler, Scope, SpaceId, StdScheduler, Tid, Timeout, WakeOp, derive,
};

use crate::common::{table, word};
use crate::exit::large;

const ENDS: [u64; 12] = [
    0,
    1,
    3,
    4,
    4092,
    4096,
    u32::MAX as u64,
    i64::MAX as u64,
    i64::MAX as u64 + 1,
    u64::MAX - 4095,
    u64::MAX - 3,
    u64::MAX,
];

/// Bytes that [`large`] has mapped, from address 0 on.
const MAPPED: u64 = 8 * 4096;

const COUNTS: [u32; 5] = [0, 1, i32::MAX as u32, 1 << 31, u32::MAX];

#[test]
fn addresses_and_counts() {
    let (futexes, memory) = (table(), large());
    let good = Futex::private(&memory, 8);
    let op = |count| WakeOp { modify: Modify::Add(count), compare: Compare::Less(i32::MIN) };
    for at in ENDS {
        for scope in [Scope::Private, Scope::Shared] {
            let futex = Futex { memory: &memory, at: Address::new(at), scope };
            // A word that is another is said to be another, where there is a word at all; nothing
            // waits.
            let refused = futexes.wait(&futex, 7, None).unwrap_err();
            let here = at % 4 == 0 && at < MAPPED;
            assert_eq!(matches!(refused, Error::WouldBlock { found: 0 }), here, "{at:#x}: {refused}");
            for bitset in [0, 1, 1 << 31, u32::MAX] {
                assert!(futexes.wait_bitset(&futex, 7, bitset, None).is_err());
                let waiter = pin!(futexes.waiter());
                assert!(waiter.as_ref().queue(&futex, 7, bitset).is_err());
            }
            assert_eq!(futexes.key(&Futex::shared(&memory, at), Access::Read).is_ok(), here);
            assert!(futexes.wait_requeue_pi(&futex, 7, !0, &good, None).is_err());
            assert!(futexes.wait_requeue_pi(&good, 7, !0, &futex, None).is_err());
            assert!(futexes.wait_multiple(&[Expect { futex, value: 7 }], None).is_err());
            assert_eq!(
                futexes.key(&futex, Access::Write).is_ok(),
                here || at % 4 == 0 && scope == Scope::Private
            );
            let derived = derive::<_, tailpin_futex::AllSafeguards>(&futex, Access::Read, |_| None);
            assert_eq!(derived.is_ok(), futexes.waiters(&futex).is_ok());
            assert!(matches!(futexes.pi_waiters(&futex), Ok(0) | Err(_)));
            if !here {
                assert!(futexes.lock_pi(&futex, None).is_err());
                assert!(futexes.trylock_pi(&futex).is_err());
            }
            assert!(futexes.unlock_pi(&futex).is_err());
            for count in COUNTS {
                for done in [futexes.wake(&futex, count), futexes.wake_bitset(&futex, count, u32::MAX)] {
                    assert!(matches!(done, Ok(0) | Err(Error::Misaligned { .. } | Error::Fault { .. })));
                }
                for other in COUNTS {
                    let moved = futexes.requeue(&futex, &good, count, other);
                    assert_eq!(moved.unwrap_or_default().requeued, 0);
                    let moved = futexes.cmp_requeue(&good, &futex, count, other, 7);
                    assert!(moved.is_err());
                    let woken = futexes.wake_op(&good, &futex, count, other, op(0));
                    assert!(matches!(woken, Ok(0) | Err(Error::Misaligned { .. } | Error::Fault { .. })));
                }
                assert!(futexes.cmp_requeue_pi(&futex, &good, count, 7).is_err());
                assert!(futexes.cmp_requeue_pi(&good, &futex, count, 7).is_err());
            }
            // A list anywhere, with words of any kind in it.
            let report = futexes.exit_thread(&memory, Tid(u32::MAX), Some(Address::new(at)));
            assert_eq!((report.locks_died, report.woken), (0, 0));
            let report = futexes.exec_thread(&memory, Tid(0), Some(Address::new(at)));
            assert_eq!((report.locks_died, report.woken), (0, 0));
        }
    }
    assert!((0..4096).step_by(4).take(16).all(|at| word(&memory, at) == 0));
    assert!(futexes.is_idle());
}

#[test]
fn times() {
    let (futexes, memory) = (table(), large());
    let futex = Futex::private(&memory, 0);
    let ends = [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(u64::MAX), Duration::MAX];
    for time in ends {
        for timeout in
            [Timeout::After(time), Timeout::At(Clock::Monotonic, time), Timeout::At(Clock::Realtime, time)]
        {
            let other = Err(Error::WouldBlock { found: 0 });
            assert_eq!(futexes.wait(&futex, 7, Some(timeout)), other);
            // A time that never comes: woken in the end.
            std::thread::scope(|scope| {
                let waiter = scope.spawn(|| futexes.wait(&futex, 0, Some(timeout)));
                let never = time > Duration::from_secs(1);
                if never {
                    while futexes.wake(&futex, 1) != Ok(1) {
                        std::thread::yield_now();
                    }
                }
                assert_eq!(waiter.join().unwrap(), if never { Ok(()) } else { Err(Error::TimedOut) });
            });
        }
    }
    assert!(futexes.is_idle());
}

#[test]
fn calls_by_number() {
    let (futexes, memory) = (table(), large());
    let times =
        [None, Some((i64::MAX, 999_999_999)), Some((i64::MIN, 0)), Some((0, i64::MAX)), Some((0, -1))];
    for operation in
        (0..16).flat_map(|number| [number, number | 128, number | 256]).chain([u32::MAX, 1 << 31])
    {
        for at in ENDS {
            for value in COUNTS {
                for timeout in times {
                    let wanted = value | 2;
                    let call =
                        Call { operation, at, value: wanted, timeout, value2: value, at2: 4, value3: value };
                    // No word is what is expected and no thread waits: whatever is asked, it has an
                    // answer.
                    let _ = futexes.call(&memory, &call);
                    // Locks that were taken, and what a wake-op wrote.
                    [at, 4]
                        .iter()
                        .filter(|at| **at % 4 == 0 && **at < MAPPED)
                        .for_each(|at| memory.store(*at, 0));
                }
            }
        }
    }
    let entries = ENDS.map(|at| RawEntry { value: at | 1, at, flags: 2, reserved: 0 });
    for entry in entries {
        assert!(futexes.call_waitv(&memory, &[entry], 0, None, i32::MIN).is_err());
        let reserved = RawEntry { reserved: u32::MAX, flags: u32::MAX, ..entry };
        assert!(futexes.call_waitv(&memory, &[reserved], 0, None, 0).is_err());
    }
    assert!(futexes.is_idle());
}

#[test]
fn keys_operations_and_tables() {
    for raw in
        COUNTS.into_iter().chain((0..32).map(|bit| 1 << bit)).chain((0..=15).map(|top| top << 28 | 0xfff))
    {
        let _ = WakeOp::from_raw(raw);
    }
    // A shift by 31, by -1 and by 32: modulo 32.
    let shifted = |by: u32| WakeOp::from_raw(1 << 31 | (by & 0xfff) << 12).map(|op| op.modify);
    assert_eq!(shifted(31), Ok(Modify::Set(1 << 31)));
    assert_eq!(shifted(u32::MAX), Ok(Modify::Set(1 << 31)));
    assert_eq!(shifted(32), Ok(Modify::Set(1)));
    for at in ENDS.map(Address::new) {
        assert_eq!(at.page().get() + u64::from(at.offset()), at.get());
        for number in ENDS {
            let keys = [
                Key::private(SpaceId(number), at),
                Key::anonymous(SpaceId(number), at),
                Key::object(ObjectId(number), number, at),
            ];
            assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
        }
    }
    let thread = StdScheduler::new().current();
    for priority in COUNTS.map(Priority) {
        thread.set_priority(priority);
        assert_eq!(thread.effective_priority(), priority);
    }
    thread.set_priority(Priority::NORMAL);
    // A table is at least one bucket; more than there can be is a panic that says so.
    assert!(Futexes::with_buckets(StdScheduler::new(), 0).is_idle());
    assert!(Futexes::with_buckets(StdScheduler::new(), 3).is_idle());
    let words =
        |buckets| Futexes::<_, std::sync::atomic::AtomicU64>::with_words(StdScheduler::new(), buckets);
    assert!(words(0).is_idle() && std::panic::catch_unwind(|| words(usize::MAX)).is_err());
    let all = std::panic::catch_unwind(|| Futexes::with_buckets(StdScheduler::new(), usize::MAX));
    let half = std::panic::catch_unwind(|| Futexes::with_buckets(StdScheduler::new(), usize::MAX / 2));
    assert!(all.is_err() && half.is_err());
}
