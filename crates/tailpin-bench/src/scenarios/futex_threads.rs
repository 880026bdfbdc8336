//! Threads that really sleep: waking one of them, and two that wake each other.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tailpin_futex::{Futexes, StdScheduler};
use tailpin_mm::{Access, Map, Prot};

use crate::cores::{available, on_cores, pin};
use crate::effort::Effort;
use crate::recorder::{Recorder, Run, Sample};
#[cfg(target_os = "linux")]
use crate::subjects::Linux;
use crate::subjects::{Machine, OurFutex, ParkingLot, Waits};

/// A sleeper needs no more of a stack.
const STACK: usize = 64 << 10;
/// How long a thread that is about to sleep is given to fall asleep.
const SETTLE: Duration = Duration::from_micros(30);

/// Sleepers. Of 100,000 threads few machines have the memory, and most have a limit below.
const SLEEPERS: [(&str, usize); 2] =
    [("futex-wake-1-of-1-threads", 1), ("futex-wake-1-of-1000-threads", 1000)];

/// Measures with each of the three kinds of futex word.
fn each_kind(
    recorder: &mut Recorder<'_>,
    scenario: &'static str,
    threads: usize,
    measure: impl Fn(&Effort, &dyn Waits) -> f64,
) {
    let machine = Machine::new(16);
    let zone = machine.zone();
    let mm = machine.mm(&zone);
    let space = mm.space().expect("there is memory for a page table");
    let at = space.map(Map::anonymous(2 << 20, Prot::READ_WRITE)).expect("the space is empty").offset(72);
    space.fault(at, Access::Write).expect("there is memory for it");
    let futexes = Futexes::new(StdScheduler::new(), recorder.cores());
    let (ours, lot) = (OurFutex { futexes: &futexes, space: &space, at }, ParkingLot::default());
    #[cfg(target_os = "linux")]
    let linux = Linux::default();
    let words: Vec<&dyn Waits> = vec![
        &ours,
        &lot,
        #[cfg(target_os = "linux")]
        &linux,
    ];
    let measure = &measure;
    let case = |word| -> (&'static str, Run<'_>) {
        let run = move |effort: &Effort| vec![Sample::new(scenario, threads, measure(effort, word))];
        (word.name(), Box::new(run))
    };
    let cases = words.into_iter().map(case).collect();
    let repetitions = recorder.effort.repetitions;
    recorder.interleave(repetitions, cases);
}

/// Lets something on another core happen for so long.
fn let_pass(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Nanoseconds of a wake that wakes one of `sleepers` threads, which sleep on another core if there
/// is one.
fn wake(effort: &Effort, word: &dyn Waits, sleepers: usize) -> f64 {
    let (fallen_asleep, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let asleep = || fallen_asleep.load(Ordering::Relaxed);
    let sleep = || {
        pin(usize::from(available() > 1));
        // Relaxed, here and below: the word itself tells when it is over.
        while !done.load(Ordering::Relaxed) {
            fallen_asleep.fetch_add(1, Ordering::Relaxed);
            word.wait(0);
        }
        fallen_asleep.fetch_add(1, Ordering::Relaxed);
    };
    word.store(0);
    thread::scope(|scope| {
        for _ in 0..sleepers {
            let spawned = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, sleep);
            spawned.expect("a machine has that many threads");
        }
        pin(0);
        while asleep() < sleepers {
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(1));
        let (mut waking, mut woken, start) = (Duration::ZERO, 0_u32, Instant::now());
        while woken < 4 || start.elapsed() < effort.slice {
            let before = asleep();
            let at = Instant::now();
            let count = word.wake_one();
            let took = at.elapsed();
            if count == 0 {
                // It has not begun to wait yet.
                thread::yield_now();
                continue;
            }
            waking += took;
            woken += 1;
            while asleep() == before {
                thread::yield_now();
            }
            let_pass(SETTLE);
        }
        done.store(true, Ordering::Relaxed);
        word.store(1);
        word.wake_all();
        waking.as_nanos() as f64 / f64::from(woken)
    })
}

/// The waker's part of waking one of several threads.
pub(super) fn wake_one(recorder: &mut Recorder<'_>) {
    if recorder.effort.counting.is_some() {
        return; // Callgrind runs one thread at a time.
    }
    for (scenario, sleepers) in SLEEPERS {
        if recorder.wants(scenario) {
            each_kind(recorder, scenario, 1, |effort, word| wake(effort, word, sleepers));
        }
    }
}

/// Nanoseconds from before one thread changes the word to when the other, asleep until then on
/// another core, has seen it.
fn hand_over(effort: &Effort, word: &dyn Waits) -> f64 {
    let rounds = (effort.slice.as_micros() / 50).max(10) as u64;
    word.store(0);
    let (epoch, changed_at) = (Instant::now(), AtomicU64::new(0));
    let now = || epoch.elapsed().as_nanos() as u64;
    let times = on_cores(2, |seat| {
        let (mine, other) = (seat.index as u32, 1 - seat.index as u32);
        let mut total = 0;
        for round in 0..rounds {
            while word.load() != mine {
                word.wait(other);
            }
            // Relaxed: ordered by the word. No thread handed over the first turn of all.
            if round > 0 || mine > 0 {
                total += now().saturating_sub(changed_at.load(Ordering::Relaxed));
            }
            let_pass(SETTLE);
            changed_at.store(now(), Ordering::Relaxed);
            word.store(other);
            word.wake_one();
        }
        total
    });
    times.iter().sum::<u64>() as f64 / (2 * rounds - 1) as f64
}

/// Two threads in turn, one of which sleeps.
pub(super) fn ping_pong(recorder: &mut Recorder<'_>) {
    const NAME: &str = "futex-ping-pong";
    if recorder.wants(NAME) && recorder.cores() > 1 {
        each_kind(recorder, NAME, 2, hand_over);
    }
}
