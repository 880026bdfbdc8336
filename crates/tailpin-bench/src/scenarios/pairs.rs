//! Alloc, then free of the same block, over and over.

use std::sync::Mutex;

use tailpin::{Order, Zone};

use crate::clock::repeat;
use crate::cores::{mean, on_cores};
use crate::effort::Effort;
use crate::recorder::{Recorder, Run, Sample};
use crate::rng::Rng;
use crate::subjects::{Frames, Group, Ours, with_subjects};

/// Nanoseconds per pair, on each of `threads`.
fn pair<S: Frames>(effort: &Effort, scenario: &str, threads: usize, order: u8, subject: &S) -> f64 {
    mean(&on_cores(threads, |_| {
        repeat(effort, scenario, || {
            if let Some(held) = subject.take(order) {
                subject.give(held, order);
            }
        })
    }))
}

/// Takes every page and gives half of them back, at random; what is held is returned.
fn half_full<S: Frames>(subject: &S) -> Vec<S::Held> {
    let mut rng = Rng::new(7);
    let mut all: Vec<S::Held> = std::iter::from_fn(|| subject.take(0)).collect();
    rng.shuffle(&mut all);
    for held in all.split_off(all.len() / 2) {
        subject.give(held, 0);
    }
    all
}

struct Pairs {
    scenario: &'static str,
    order: u8,
    threads: usize,
    half_full: bool,
}

impl Group for Pairs {
    fn case<'s, S: Frames>(&self, subject: &'s S) -> Run<'s> {
        let Self { scenario, order, threads, half_full: half } = *self;
        let held = Mutex::new(Vec::new());
        Box::new(move |effort| {
            let mut held = held.lock().expect("not poisoned");
            if half && held.is_empty() {
                *held = half_full(subject);
            }
            vec![Sample::new(scenario, threads, pair(effort, scenario, threads, order, subject))]
        })
    }

    fn local<'s>(&self, zone: &'s Zone<'s>) -> Option<Run<'s>> {
        let Self { scenario, order, threads, half_full: half } = *self;
        let (subject, held) = (Ours::new(zone, 0), Mutex::new(Vec::new()));
        Some(Box::new(move |effort| {
            let mut held = held.lock().expect("not poisoned");
            if half && held.is_empty() {
                *held = half_full(&subject);
            }
            let times = on_cores(threads, |seat| {
                let local = zone.local(seat.index);
                repeat(effort, scenario, || {
                    if let Some(block) = Order::new(order).and_then(|order| local.alloc(order).ok()) {
                        local.free(block);
                    }
                })
            });
            vec![Sample::new(scenario, threads, mean(&times))]
        }))
    }
}

fn measure(recorder: &mut Recorder<'_>, scenario: &'static str, order: u8, half_full: bool) {
    if !recorder.wants(scenario) {
        return;
    }
    for threads in recorder.thread_counts() {
        let (frames, repetitions) = (recorder.effort.frames, recorder.effort.repetitions);
        with_subjects(frames, &Pairs { scenario, order, threads, half_full }, |cases| {
            recorder.interleave(repetitions, cases);
        });
    }
}

pub(super) fn order_0(recorder: &mut Recorder<'_>) {
    measure(recorder, "pair-o0-fresh", 0, false);
    measure(recorder, "pair-o0-half-full", 0, true);
}

/// Orders 1 to 8: blocks with tails that are less than a pageblock.
pub(super) fn orders_1_to_8(recorder: &mut Recorder<'_>) {
    const SCENARIOS: [&str; 8] =
        ["pair-o1", "pair-o2", "pair-o3", "pair-o4", "pair-o5", "pair-o6", "pair-o7", "pair-o8"];
    for (order, scenario) in (1..).zip(SCENARIOS) {
        measure(recorder, scenario, order, false);
    }
}

pub(super) fn order_9(recorder: &mut Recorder<'_>) {
    measure(recorder, "pair-o9", 9, false);
}
