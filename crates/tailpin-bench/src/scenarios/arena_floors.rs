//! What rows of the arena could cost at least: their locked steps alone, on words that lie as a
//! block's do, and those of two other designs. And what a look at an arena's figures takes.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tailpin_arena::Arena;

use super::cases::case;
use crate::recorder::{Recorder, Run};
use crate::report::Fact;

/// The words of a 2 MiB block.
pub(super) struct BareWords(Vec<AtomicU64>);

impl BareWords {
    pub(super) fn new() -> Self {
        Self((0..512).map(|_| AtomicU64::new(1)).collect())
    }

    fn swap(&self, at: usize, by: u64) {
        let word = &self.0[at];
        // As a pin does that may be refused: a look, and a step that says what it saw.
        let seen = word.load(Ordering::Acquire);
        let _ = word.compare_exchange(seen, seen.wrapping_add(by), Ordering::AcqRel, Ordering::Relaxed);
    }

    fn less(&self, at: usize, by: u64) {
        self.0[at].fetch_sub(by, Ordering::AcqRel);
    }

    /// A page is claimed and freed: a step each.
    pub(super) fn claim_and_free(&self, page: usize) {
        self.swap(page, 1);
        self.swap(page, 1);
    }

    /// The first pins of some tails as they are taken and given back: a hold on the head and a pin,
    /// for each.
    pub(super) fn hold_for_each(&self, tails: std::ops::Range<usize>) {
        for tail in tails.clone() {
            self.swap(0, 1);
            self.swap(tail, 1);
        }
        for tail in tails {
            self.less(tail, 1);
            self.less(0, 1);
        }
    }

    /// The same with one hold for all of them, in one step.
    pub(super) fn hold_for_all(&self, tails: std::ops::Range<usize>) {
        let n = tails.len() as u64;
        self.swap(0, n);
        tails.clone().for_each(|tail| self.swap(tail, 1));
        tails.for_each(|tail| self.less(tail, 1));
        self.less(0, n);
    }

    /// The same with holds that stay when the last pins go, for the thread that takes the block
    /// apart.
    pub(super) fn hold_kept(&self, tails: std::ops::Range<usize>) {
        tails.clone().for_each(|tail| self.swap(tail, 1));
        tails.for_each(|tail| self.less(tail, 1));
    }
}

/// Adds, to the subjects of a slice of so many pages, what its locked steps take alone.
pub(super) fn of_slice<'a>(
    scenario: &'static str,
    words: &'a BareWords,
    pages: usize,
) -> Vec<(&'static str, Run<'a>)> {
    let tails = move || 5..5 + pages;
    // Counts on several pages are shared by the clones of a slice.
    let shared = move || black_box((pages > 1).then(|| Arc::new(tails())));
    let run = |steps: fn(&BareWords, std::ops::Range<usize>)| {
        case(scenario, 1, move |_| {
            let counts = shared();
            steps(words, tails());
            drop(counts);
        })
    };
    vec![
        ("bare-hold-for-each", run(BareWords::hold_for_each)),
        ("bare-hold-for-all", run(BareWords::hold_for_all)),
        ("bare-hold-kept", run(BareWords::hold_kept)),
    ]
}

/// The figures of an arena of 1 TiB of address space, with something in use everywhere.
pub(super) fn scrape(recorder: &mut Recorder<'_>) {
    const FACT: &str = "arena-scrape-1t";
    const LOOKS: u32 = 1000;
    if recorder.effort.counting.is_some() || !recorder.wants(FACT) {
        return;
    }
    let arena = match Arena::builder().size(1 << 40).build() {
        Ok(arena) => arena,
        Err(error) => return recorder.skip(FACT, "tailpin", error),
    };
    let kept: Vec<_> = [4 << 10, 64 << 10, 2 << 20, 3 << 20, 1 << 30]
        .into_iter()
        .cycle()
        .take(50)
        .filter_map(|len| arena.try_alloc(len).ok())
        .collect();
    let times = (0..recorder.effort.repetitions.max(3)).map(|_| {
        let start = Instant::now();
        (0..LOOKS).for_each(|_| _ = black_box(arena.counters()));
        start.elapsed().as_nanos() as f64 / f64::from(LOOKS) / 1000.0
    });
    let mut times: Vec<f64> = times.collect();
    times.sort_by(f64::total_cmp);
    let value = times[times.len() / 2];
    drop(kept);
    recorder.facts.push(Fact { fact: FACT, subject: "tailpin", value, unit: "us" });
}
