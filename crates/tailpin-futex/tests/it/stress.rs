//! Everything at once, on the machine's own threads: no thread is lost, and nothing is left.

use crate::common;

use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::{another, lost, shared, table, until_waiting};
use tailpin_futex::model::{Model, ModelMemory, Size};
use tailpin_futex::{Error, Expect, Futex, Futexes, Memory, Scheduler, StdScheduler, StdThread, Timeout};

/// A generator for schedules, not for secrets.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

const WORDS: u64 = 6;

/// Waiters of all kinds over two spaces, against wakes, requeues, timeouts, interrupts, splits,
/// moves and collapses.
#[test]
fn nobody_is_lost() {
    let (memory, object) = shared(8);
    let other = another(memory.model(), 8, 8, object);
    // Few buckets, so that keys meet in them.
    let futexes = Futexes::with_buckets(StdScheduler::new(), 2);
    let (stop, ended) = (AtomicBool::new(false), AtomicU64::new(0));
    let threads: Mutex<Vec<StdThread>> = Mutex::default();
    let here = |n: u64| Futex::shared(&memory, n * 4096 + 4 * n);
    let there = |n: u64| Futex::shared(&other, (8 + n) * 4096 + 4 * n);
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..12)
            .map(|n| {
                let (futexes, stop, ended, threads, here, there) =
                    (&futexes, &stop, &ended, &threads, &here, &there);
                scope.spawn(move || {
                    let me = futexes.scheduler().current();
                    threads.lock().unwrap().push(me.clone());
                    let mut rng = Rng(0x9e37 + n);
                    while !stop.load(Ordering::SeqCst) {
                        let word = rng.below(WORDS);
                        let futex = if n % 2 == 0 { here(word) } else { there(word) };
                        let soon = Some(Timeout::After(Duration::from_micros(rng.below(300))));
                        let kind = rng.below(4);
                        let outcome = match kind {
                            0 => futexes.wait(&futex, 0, soon),
                            1 => futexes.wait_bitset(&futex, 0, 1 << rng.below(4), lost()),
                            2 => {
                                let words = [0, 1, 2]
                                    .map(|more| Expect { futex: here((word + more) % WORDS), value: 0 });
                                futexes.wait_multiple(&words, lost()).map(|_| ())
                            }
                            _ => futexes.wait(&futex, 0, lost()),
                        };
                        match outcome {
                            Ok(()) | Err(Error::WouldBlock { .. }) => {}
                            Err(Error::TimedOut) => assert_eq!(kind, 0, "it was lost"),
                            Err(Error::Interrupted) => me.resume(),
                            Err(error) => panic!("{error}"),
                        }
                        ended.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        for n in 0..2 {
            let (futexes, stop, threads, here, there) = (&futexes, &stop, &threads, &here, &there);
            scope.spawn(move || {
                let mut rng = Rng(0xabcd + n);
                while !stop.load(Ordering::SeqCst) {
                    let (a, b) = (rng.below(WORDS), rng.below(WORDS));
                    let done = match rng.below(6) {
                        0 => futexes.wake_bitset(&there(a), 2, 1 << rng.below(4)),
                        1 | 2 => futexes.wake(&here(a), 1),
                        3 => futexes.requeue(&here(a), &there(b), 1, 3).map(|done| done.woken),
                        4 => futexes.cmp_requeue(&there(a), &here(b), 0, 9, 0).map(|done| done.requeued),
                        _ => {
                            let threads = threads.lock().unwrap();
                            if !threads.is_empty() {
                                threads[rng.below(threads.len() as u64) as usize].interrupt();
                            }
                            Ok(0)
                        }
                    };
                    assert!(done.is_ok(), "{done:?}");
                    if rng.below(8) == 0 {
                        thread::yield_now();
                    }
                }
            });
        }
        for _ in 0..400 {
            memory.model().split(object, 3);
            memory.model().relocate(object, 5, 0);
            thread::sleep(Duration::from_micros(200));
            memory.model().relocate(object, 0, 3);
        }
        // The end: all words change, and then everybody is woken once.
        (0..WORDS).for_each(|n| memory.store(n * 4096 + 4 * n, 1));
        stop.store(true, Ordering::SeqCst);
        (0..WORDS).for_each(|n| {
            futexes.wake(&here(n), u32::MAX).unwrap();
        });
        // A requeue that had begun before the words changed may have moved a waiter behind a wake
        // that was already done.
        while waiters.iter().any(|waiter| !waiter.is_finished()) {
            (0..WORDS).for_each(|n| {
                futexes.wake(&there(n), u32::MAX).unwrap();
            });
            thread::yield_now();
        }
    });
    assert!(ended.into_inner() > 100);
    assert!(futexes.is_idle());
}

/// A lock made of a word, handed back and forth a great many times: one wake lost and it hangs.
#[test]
fn no_wake_is_lost_between_two() {
    let memory = ModelMemory::anonymous(1);
    let futexes = table();
    let turn = Futex::private(&memory, 0);
    let play = |mine: u32| {
        for _ in 0..20_000 {
            loop {
                let seen = memory.load(turn.at).unwrap();
                if seen == mine {
                    break;
                }
                match futexes.wait(&turn, seen, lost()) {
                    Ok(()) | Err(Error::WouldBlock { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            memory.store(0, 1 - mine);
            futexes.wake(&turn, 1).unwrap();
        }
    };
    memory.store(0, 0);
    thread::scope(|scope| {
        scope.spawn(|| play(0));
        scope.spawn(|| play(1));
    });
    assert!(futexes.is_idle());
}

/// A hundred of each of a thousand keys: each wake meets the one that has waited longest.
#[test]
fn a_hundred_thousand_waiters_wait_in_order() {
    let memory = Model::new(Size { frames: 8, pages: 1, words: 1024, order: 0 }).space();
    memory.map_anonymous(0, 1, false);
    let futexes = Futexes::new(StdScheduler::new(), 8);
    let futex = |n: u64| Futex::private(&memory, n % 1024 * 4);
    let waiters: Vec<_> = (0..100_000).map(|_| Box::pin(futexes.waiter())).collect();
    for (waiter, n) in waiters.iter().zip(0..) {
        waiter.as_ref().queue(&futex(n), 0, !0).unwrap();
    }
    for (waiter, n) in waiters.iter().zip(0..) {
        assert!(!waiter.is_woken());
        assert_eq!(futexes.wake(&futex(n), 1), Ok(1));
        assert!(waiter.is_woken());
    }
    assert!(futexes.is_idle());
}

/// A wake is not given up because a signal waits for the thread that wakes.
#[test]
fn a_thread_that_is_interrupted_still_wakes() {
    let (memory, object) = shared(8);
    let futexes = table();
    let futex = Futex::shared(&memory, 4096);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| futexes.wait(&futex, 0, lost()));
        until_waiting(&futexes, &futex, 1);
        let me = futexes.scheduler().current();
        me.interrupt();
        // The page is absent, so there is a second attempt, before which another thread may ask.
        assert!(memory.model().relocate(object, 1, 3));
        assert_eq!(futexes.wait(&futex, 0, None), Err(Error::Interrupted));
        assert!(memory.model().relocate(object, 1, 3));
        assert_eq!(futexes.wake(&futex, 1), Ok(1));
        me.resume();
        assert_eq!(waiter.join().unwrap(), Ok(()));
    });
}

#[test]
fn a_waiter_that_is_dropped_or_queued_again_leaves_nothing() {
    let (futexes, memory) = (table(), ModelMemory::anonymous(1));
    let (a, b) = (Futex::private(&memory, 0), Futex::private(&memory, 4));
    {
        let waiter = pin!(futexes.waiter());
        waiter.as_ref().queue(&a, 0, !0).unwrap();
        waiter.as_ref().queue(&b, 0, !0).unwrap();
        assert_eq!((futexes.waiters(&a), futexes.waiters(&b)), (Ok(0), Ok(1)));
        assert_eq!(futexes.requeue(&b, &a, 0, 1).unwrap().requeued, 1);
        assert_eq!((futexes.waiters(&a), futexes.waiters(&b)), (Ok(1), Ok(0)));
        assert!(!waiter.leave());
        assert!(waiter.as_ref().queue(&a, 1, !0).is_err());
        waiter.as_ref().queue(&a, 0, !0).unwrap();
    }
    assert!(futexes.is_idle());
    thread::scope(|scope| {
        let thread = scope.spawn(|| futexes.wait(&a, 0, lost()));
        until_waiting(&futexes, &a, 1);
        assert_eq!(futexes.wake(&a, 1), Ok(1));
        thread.join().unwrap().unwrap();
    });
}
