//! Splitting and merging 2 MiB blocks, and pins on their tails, beside as many compare-and-swaps.

use std::sync::atomic::{AtomicU64, Ordering};

use tailpin::{Block, OneWord, Order, PageRef, Protocol, Zone};
use tailpin_classic::Classic;

use crate::clock::{goes_on, once, repeat};
use crate::cores::{mean, on_cores};
use crate::recorder::{Recorder, Run, Sample};
use crate::scenarios::cases::case;
use crate::subjects::{Memory, zone};

const FRAMES: u64 = 64 << 9;
/// Blocks split between two looks at the clock: their words just fill a first-level cache.
const BATCH: usize = 8;

struct Splits {
    scenario: &'static str,
    merge: Option<&'static str>,
    pins: u64,
    around: bool,
}

const SPLITS: [Splits; 4] = [
    Splits { scenario: "split-2m-0-pins", merge: Some("merge-2m"), pins: 0, around: false },
    Splits { scenario: "split-2m-1-pin", merge: None, pins: 1, around: false },
    Splits { scenario: "split-2m-100-pins", merge: Some("merge-2m-100-pins"), pins: 100, around: false },
    Splits { scenario: "split-2m-around-one", merge: None, pins: 0, around: true },
];

type Batch<'z, P> = Vec<(Block<'z, P>, Vec<PageRef<'z, P>>)>;

fn blocks<'z, P: Protocol>(zone: &'z Zone<'z, P>, pins: u64) -> Batch<'z, P> {
    let pinned = |block: &Block<'z, P>| (0..pins).filter_map(|i| block.pin(1 + i * 5).ok()).collect();
    (0..BATCH)
        .filter_map(|_| {
            let block = zone.alloc(Order::HUGE).ok()?;
            let pins = pinned(&block);
            Some((block, pins))
        })
        .collect()
}

fn split_case<'z, P: Protocol>(splits: &'static Splits, zone: &'z Zone<'z, P>) -> Run<'z> {
    Box::new(move |effort| {
        on_cores(1, |_| {
            let (mut splitting, mut merging, mut rounds) = (0.0, 0.0, 0);
            let mut batch = blocks(zone, splits.pins);
            let (mut pins, mut whole): (Vec<_>, Vec<_>) =
                batch.drain(..).map(|(block, pins)| (pins, block)).unzip();
            let mut pieces = Vec::with_capacity(BATCH);
            let start = std::time::Instant::now();
            while goes_on(effort, start, rounds) {
                let (ns, ()) = once(effort, splits.scenario, || {
                    for block in whole.drain(..) {
                        let split =
                            if splits.around { block.split_around(100, Order::PAGE) } else { block.split() };
                        pieces.extend(split.ok());
                    }
                    (BATCH as u64, ())
                });
                splitting += ns;
                rounds += 1;
                if P::REARRANGES {
                    let (ns, ()) = once(effort, splits.merge.unwrap_or_default(), || {
                        whole.extend(pieces.drain(..).filter_map(|run| run.merge().ok()));
                        (BATCH as u64, ())
                    });
                    merging += ns;
                } else {
                    pieces.clear();
                    pins.clear();
                    (pins, whole) =
                        blocks(zone, splits.pins).drain(..).map(|(block, pins)| (pins, block)).unzip();
                }
            }
            let mut samples = vec![Sample::new(splits.scenario, 1, splitting / rounds as f64)];
            if let Some(merge) = splits.merge.filter(|_| P::REARRANGES) {
                samples.push(Sample::new(merge, 1, merging / rounds as f64));
            }
            samples
        })
        .remove(0)
    })
}

/// As many uncontended compare-and-swaps as a block has tails, over as much memory.
fn bare<'s>(words: &'s [AtomicU64], names: [Option<&'static str>; 2]) -> Run<'s> {
    Box::new(move |effort| {
        // It stands for both; asked to count, for the one that is asked for.
        let wanted =
            |name: &str| effort.counting.as_ref().is_some_and(|counting| counting.scenario() == name);
        let counted = names.into_iter().flatten().find(|name| wanted(name)).unwrap_or_default();
        let ns = on_cores(1, |_| {
            let mut at = 0;
            repeat(effort, counted, || {
                for word in &words[at * 512 + 1..(at + 1) * 512] {
                    // Relaxed: only its own cost is of interest. AcqRel costs the same on x86.
                    let seen = word.load(Ordering::Relaxed);
                    let _ = word.compare_exchange(seen, seen + 1, Ordering::AcqRel, Ordering::Relaxed);
                }
                at = (at + 1) % BATCH;
            })
        })[0];
        names.into_iter().flatten().map(|name| Sample::new(name, 1, ns)).collect()
    })
}

pub(super) fn split_and_merge(recorder: &mut Recorder<'_>) {
    let words: Vec<AtomicU64> = (0..BATCH * 512).map(|_| AtomicU64::new(0)).collect();
    for splits in &SPLITS {
        if !recorder.wants(splits.scenario) && !splits.merge.is_some_and(|merge| recorder.wants(merge)) {
            continue;
        }
        let (ours, theirs) = (Memory::new::<OneWord<'_>>(FRAMES), Memory::new::<Classic<'_>>(FRAMES));
        let (one_word, classic) = (zone::<OneWord<'_>>(&ours, FRAMES), zone::<Classic<'_>>(&theirs, FRAMES));
        let mut cases = vec![
            ("tailpin", split_case(splits, &one_word)),
            ("bare-cas-511", bare(&words, [Some(splits.scenario), splits.merge])),
        ];
        if !splits.around {
            cases.push(("tailpin-classic", split_case(splits, &classic)));
        }
        let repetitions = recorder.effort.repetitions;
        recorder.interleave(repetitions, cases);
    }
}

/// The life of a buffer of which one page outlives it: handed out whole, one page pinned, dropped,
/// and then the page.
fn last_slice_case<'z, P: Protocol>(scenario: &'static str, zone: &'z Zone<'z, P>) -> Run<'z> {
    case(scenario, 1, |_| {
        let block = zone.alloc(Order::HUGE).expect("the zone is empty");
        let pin = block.pin(100).expect("it is in use");
        drop(block);
        drop(pin);
    })
}

pub(super) fn last_slice(recorder: &mut Recorder<'_>) {
    const NAME: &str = "last-slice-2m";
    if !recorder.wants(NAME) {
        return;
    }
    let words: Vec<AtomicU64> = (0..BATCH * 512).map(|_| AtomicU64::new(0)).collect();
    let (ours, theirs) = (Memory::new::<OneWord<'_>>(FRAMES), Memory::new::<Classic<'_>>(FRAMES));
    let (one_word, classic) = (zone::<OneWord<'_>>(&ours, FRAMES), zone::<Classic<'_>>(&theirs, FRAMES));
    let cases = vec![
        ("tailpin", last_slice_case(NAME, &one_word)),
        ("tailpin-classic", last_slice_case(NAME, &classic)),
        ("bare-cas-511", bare(&words, [Some(NAME), None])),
    ];
    let repetitions = recorder.effort.repetitions;
    recorder.interleave(repetitions, cases);
}

fn tail_case<'z, P: Protocol>(threads: usize, zone: &'z Zone<'z, P>) -> Option<Run<'z>> {
    let block = zone.alloc(Order::HUGE).ok()?;
    // Eight frames apart and more: a cache line each.
    let pins: Vec<_> = (0..threads as u64).filter_map(|i| block.pin(16 + 16 * i).ok()).collect();
    Some(Box::new(move |effort| {
        let _keep = &block;
        let times = on_cores(threads, |seat| {
            let pin = &pins[seat.index];
            repeat(effort, "tail-get-put", || {
                drop(pin.clone());
            })
        });
        vec![Sample::new("tail-get-put", threads, mean(&times))]
    }))
}

pub(super) fn tails(recorder: &mut Recorder<'_>) {
    if !recorder.wants("tail-get-put") {
        return;
    }
    for threads in recorder.thread_counts() {
        let (ours, theirs) = (Memory::new::<OneWord<'_>>(FRAMES), Memory::new::<Classic<'_>>(FRAMES));
        let (one_word, classic) = (zone::<OneWord<'_>>(&ours, FRAMES), zone::<Classic<'_>>(&theirs, FRAMES));
        let mut cases = Vec::new();
        cases.extend(tail_case(threads, &one_word).map(|run| ("tailpin", run)));
        cases.extend(tail_case(threads, &classic).map(|run| ("tailpin-classic", run)));
        let repetitions = recorder.effort.repetitions;
        recorder.interleave(repetitions, cases);
    }
}
