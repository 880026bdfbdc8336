//! Wake-op: the change, the condition, and who is woken.

use crate::common;

use std::thread;

use common::{lost, table, until_waiting, word};
use tailpin_futex::model::ModelMemory;
use tailpin_futex::{
    Call, Compare, Error, Fault, Futex, Invalid, Modify, Operation, Priority, Scheduler, WakeOp,
};

#[test]
fn every_change_and_condition_is_what_it_says() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let (a, b) = (Futex::private(&memory, 0), Futex::private(&memory, 4));
    let minus = -5_i32 as u32;
    for (before, modify, after) in [
        (7, Modify::Set(9), 9),
        (7, Modify::Add(3), 10),
        (u32::MAX, Modify::Add(1), 0),
        (0b0101, Modify::Or(0b0011), 0b0111),
        (0b0101, Modify::AndNot(0b0001), 0b0100),
        (0b0101, Modify::Xor(0b0011), 0b0110),
    ] {
        memory.store(4, before);
        assert_eq!(futexes.wake_op(&a, &b, 1, 1, WakeOp { modify, compare: Compare::Equal(0) }), Ok(0));
        assert_eq!(word(&memory, 4), after, "{modify:?}");
    }
    for (before, compare, holds) in [
        (5, Compare::Equal(5), true),
        (5, Compare::NotEqual(5), false),
        (minus, Compare::Less(-4), true),
        (minus, Compare::LessOrEqual(-5), true),
        (minus, Compare::Greater(0), false),
        (minus, Compare::GreaterOrEqual(-5), true),
    ] {
        memory.store(4, before);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| futexes.wait(&b, before, lost()));
            until_waiting(&futexes, &b, 1);
            let woken = futexes.wake_op(&a, &b, 1, 1, WakeOp { modify: Modify::Set(before), compare });
            assert_eq!(woken, Ok(u32::from(holds)), "{compare:?} of {}", before as i32);
            if !holds {
                assert_eq!(futexes.wake(&b, 1), Ok(1));
            }
            assert_eq!(waiter.join().unwrap(), Ok(()));
        });
    }
    assert!(futexes.is_idle());
}

#[test]
fn both_words_may_be_the_same_and_both_counts_are_kept() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let (a, b) = (Futex::private(&memory, 0), Futex::private(&memory, 4));
    thread::scope(|scope| {
        for futex in [&a, &a, &a, &b, &b, &b] {
            scope.spawn(|| futexes.wait(futex, 0, lost()));
        }
        until_waiting(&futexes, &a, 3);
        until_waiting(&futexes, &b, 3);
        // Set b to 1 if it was 0: encoded as a system call has it.
        let call = Call {
            operation: Operation::WakeOp as u32 | Operation::PRIVATE,
            at: 0,
            value: 1,
            value2: 2,
            at2: 4,
            value3: 1 << 12,
            ..Call::default()
        };
        assert_eq!(futexes.call(&memory, &call), Ok(3));
        assert_eq!((futexes.waiters(&a), futexes.waiters(&b)), (Ok(2), Ok(1)));
        assert_eq!(word(&memory, 4), 1);
        let op = WakeOp { modify: Modify::Add(1), compare: Compare::Equal(0) };
        assert_eq!(futexes.wake_op(&a, &a, 1, 9, op), Ok(2));
        assert_eq!(futexes.wake(&b, 9), Ok(1));
    });
    assert!(futexes.is_idle());
}

#[test]
fn encodings_are_read_as_linux_does() {
    let op = |raw| WakeOp::from_raw(raw);
    let add_minus_one = 1 << 28 | 4 << 24 | 0xfff << 12 | 0xfff;
    let expected = WakeOp { modify: Modify::Add(u32::MAX), compare: Compare::Greater(-1) };
    assert_eq!(op(add_minus_one), Ok(expected));
    let shifted = 0x8000_0000 | 2 << 28 | 5 << 12;
    assert_eq!(op(shifted), Ok(WakeOp { modify: Modify::Or(32), compare: Compare::Equal(0) }));
    for unknown in [5 << 28, 7 << 28, 6 << 24, 15 << 24] {
        assert_eq!(op(unknown), Err(Invalid::Operation(unknown)));
    }
}

#[test]
fn the_second_word_must_be_writable() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let (a, b) = (Futex::private(&memory, 0), Futex::private(&memory, 9 * 4096));
    let op = WakeOp { modify: Modify::Set(1), compare: Compare::Equal(0) };
    let failed = futexes.wake_op(&a, &b, 1, 1, op);
    assert!(matches!(failed, Err(Error::Fault { fault: Fault::Unmapped, .. })), "{failed:?}");
    assert!(futexes.is_idle());
}

#[test]
fn the_more_urgent_is_woken_first_and_then_the_one_who_has_waited_longest() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let futex = Futex::private(&memory, 0);
    let order = std::sync::Mutex::new(Vec::new());
    thread::scope(|scope| {
        for (count, priority) in [1, 5, 5, 0, 9].into_iter().enumerate() {
            let (futexes, futex, order) = (&futexes, &futex, &order);
            scope.spawn(move || {
                futexes.scheduler().current().set_priority(Priority(priority));
                futexes.wait(futex, 0, lost()).unwrap();
                order.lock().unwrap().push((priority, count));
            });
            until_waiting(futexes, futex, count + 1);
        }
        for woken in 1..=5 {
            assert_eq!(futexes.wake(&futex, 1), Ok(1));
            while order.lock().unwrap().len() < woken {
                thread::yield_now();
            }
        }
    });
    assert_eq!(order.into_inner().unwrap(), [(9, 4), (5, 1), (5, 2), (1, 0), (0, 3)]);
}
