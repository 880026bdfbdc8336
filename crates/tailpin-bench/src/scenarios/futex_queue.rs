//! Waking one of many waiters: what the queues take, without threads.
//!
//! The waiters are queued by one thread, which then wakes them one by one; so no thread sleeps and
//! the kernel has no part in it. Only waking is timed. Those that were woken queue again.

use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tailpin::PAGE_BYTES;
use tailpin_futex::{Futex, Futexes, StdScheduler, Waiter};
use tailpin_mm::{HugePages, Map, Prot, Space, VirtAddr};

use crate::clock::{goes_on, once};
use crate::cores::on_cores;
use crate::recorder::{Recorder, Run, Sample};
use crate::rng::Rng;
use crate::subjects::{LazyEnv, Machine};

/// Bytes between two words that are waited for.
const STRIDE: u64 = 64;
/// Wakes between two looks at the clock.
const BATCH: usize = 64;

struct Crowd {
    scenario: &'static str,
    /// Words that are waited for.
    words: usize,
    /// Waiters of each.
    each: usize,
    /// Buckets of the table, if it is not made for this machine's cores.
    buckets: Option<usize>,
}

const CROWDS: [Crowd; 6] = [
    Crowd { scenario: "futex-wake-1-of-1", words: BATCH, each: 1, buckets: None },
    Crowd { scenario: "futex-wake-1-of-1000", words: 1, each: 1000, buckets: None },
    Crowd { scenario: "futex-wake-1-of-100000", words: 1, each: 100_000, buckets: None },
    Crowd { scenario: "futex-wake-1000-words", words: 1000, each: 1, buckets: None },
    Crowd { scenario: "futex-wake-100000-words", words: 100_000, each: 1, buckets: None },
    Crowd { scenario: "futex-wake-100000-words-wide", words: 100_000, each: 1, buckets: Some(100_000) },
];

type Sleeper<'f> = Pin<Box<Waiter<'f, StdScheduler>>>;

/// Words with their waiters, longest waiting first.
struct Queues<'f, 'z> {
    futexes: &'f Futexes<StdScheduler>,
    space: &'f Space<'z, LazyEnv>,
    start: VirtAddr,
    /// Each word's place, in random order of memory, its waiters, and which of these is the next to
    /// be woken.
    words: Vec<(u64, Vec<Sleeper<'f>>, usize)>,
    /// The word that the next batch begins with.
    first: usize,
}

impl<'f, 'z> Queues<'f, 'z> {
    fn new(
        crowd: &Crowd,
        futexes: &'f Futexes<StdScheduler>,
        space: &'f Space<'z, LazyEnv>,
        start: VirtAddr,
    ) -> Self {
        let mut places: Vec<u64> = (0..crowd.words as u64).collect();
        Rng::new(17).shuffle(&mut places);
        let waiters = || (0..crowd.each).map(|_| Box::pin(futexes.waiter())).collect();
        let words = places.into_iter().map(|place| (place, waiters(), 0)).collect();
        let queues = Self { futexes, space, start, words, first: 0 };
        for (place, waiters, _) in &queues.words {
            waiters.iter().for_each(|waiter| queues.queue(*place, waiter));
        }
        queues
    }

    fn futex(&self, place: u64) -> Futex<'f, Space<'z, LazyEnv>> {
        Futex::private(self.space, self.start.offset(place * STRIDE).get())
    }

    fn queue(&self, place: u64, waiter: &Sleeper<'f>) {
        waiter.as_ref().queue(&self.futex(place), 0, !0).expect("the word is zero");
    }

    /// Wakes one waiter of each of these words, in turn.
    fn wake(&self, words: impl Iterator<Item = usize>) -> u64 {
        words.map(|word| self.futexes.wake(&self.futex(self.words[word].0), 1).map_or(0, u64::from)).sum()
    }

    /// Lets the waiter that was woken queue again.
    fn again(&mut self, word: usize) {
        let (place, waiters, next) = &self.words[word];
        let woken = &waiters[*next];
        assert!(woken.is_woken(), "the longest waiting is the first that is woken");
        self.queue(*place, woken);
        let count = waiters.len();
        let (_, _, next) = &mut self.words[word];
        *next = (*next + 1) % count;
    }
}

fn run<'s>(
    crowd: &'static Crowd,
    futexes: &'s Futexes<StdScheduler>,
    space: &'s Space<'_, LazyEnv>,
    start: VirtAddr,
) -> Run<'s> {
    // Queueing 100,000 in a small table takes longer than waking them: done once.
    let queues = Mutex::new(None);
    Box::new(move |effort| {
        on_cores(1, |_| {
            let mut queues = queues.lock().expect("not poisoned");
            let queues = queues.get_or_insert_with(|| Queues::new(crowd, futexes, space, start));
            let (mut waking, mut rounds) = (0.0, 0);
            let started = std::time::Instant::now();
            // Where cold lines are compared, as many words lie between two wakes of one as there.
            let whole = crowd.buckets.is_some() && effort.counting.is_none();
            let goes_on = |rounds| match whole {
                true => rounds * BATCH < crowd.words,
                false => goes_on(effort, started, rounds as u64),
            };
            while goes_on(rounds) {
                let first = queues.first;
                let picked = move || (0..BATCH).map(move |i| (first + i) % crowd.words);
                let (ns, woken) = once(effort, crowd.scenario, || (BATCH as u64, queues.wake(picked())));
                assert_eq!(woken, BATCH as u64, "there is a waiter for each wake");
                picked().for_each(|word| queues.again(word));
                queues.first = (first + BATCH) % crowd.words;
                waking += ns;
                rounds += 1;
            }
            vec![Sample::new(crowd.scenario, 1, waking / rounds as f64)]
        })
        .remove(0)
    })
}

/// What a wake can't do without where all of it is out of the caches: a locked instruction in a
/// bucket, which tells where the waiter is, and a store in each of the waiter's lines. All words
/// once in each repetition.
fn cold_lines(scenario: &'static str, words: usize) -> Run<'static> {
    const LINE: usize = 8;
    const WAITER: usize = 3 * LINE;
    let lines = |n: usize| -> Vec<AtomicU64> { (0..n * LINE).map(|_| AtomicU64::new(0)).collect() };
    let (buckets, waiters) = (lines(words.next_power_of_two()), lines(words * WAITER / LINE));
    let mut rng = Rng::new(19);
    let mut order: Vec<usize> = (0..words).collect();
    rng.shuffle(&mut order);
    for bucket in buckets.iter().step_by(LINE) {
        bucket.store((rng.below(words) * WAITER) as u64, Ordering::Relaxed);
    }
    Box::new(move |effort| {
        let ns = on_cores(1, |_| {
            let all = || {
                for bucket in &order {
                    let waiter = buckets[bucket * LINE].fetch_add(0, Ordering::AcqRel) as usize;
                    for line in (waiter..waiter + WAITER).step_by(LINE) {
                        waiters[line].store(1, Ordering::Release);
                    }
                }
                (words as u64, ())
            };
            once(effort, scenario, all).0
        })[0];
        vec![Sample::new(scenario, 1, ns)]
    })
}

/// One of 1, 1,000 and 100,000, all waiting for one word, and each for a word of its own.
pub(super) fn wake_one(recorder: &mut Recorder<'_>) {
    let crowds: Vec<&'static Crowd> = CROWDS.iter().filter(|crowd| recorder.wants(crowd.scenario)).collect();
    if crowds.is_empty() {
        return;
    }
    let machine = Machine::new(32);
    let zone = machine.zone();
    let mm = machine.mm(&zone);
    let space = mm.space().expect("there is memory for a page table");
    let len = (100_000 * STRIDE).next_multiple_of(PAGE_BYTES);
    let start =
        space.map(Map::anonymous(len, Prot::READ_WRITE).huge(HugePages::Always)).expect("it is empty");
    for offset in (0..len).step_by(PAGE_BYTES as usize) {
        space.fault(start.offset(offset), tailpin_mm::Access::Write).expect("there is memory for it");
    }
    let cores = recorder.cores();
    let tables: Vec<_> = crowds
        .iter()
        .map(|crowd| match crowd.buckets {
            Some(buckets) => Futexes::with_buckets(StdScheduler::new(), buckets),
            None => Futexes::new(StdScheduler::new(), cores),
        })
        .collect();
    let mut cases = Vec::new();
    for (crowd, futexes) in crowds.into_iter().zip(&tables) {
        cases.push(("tailpin", run(crowd, futexes, &space, start)));
        if crowd.buckets.is_some() {
            cases.push(("bare-cold-lines", cold_lines(crowd.scenario, crowd.words)));
        }
    }
    let repetitions = recorder.effort.repetitions;
    recorder.interleave(repetitions, cases);
}
