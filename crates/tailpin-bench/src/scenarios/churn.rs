//! A nearly full zone in which blocks come and go at random, and what is left of its 2 MiB
//! pageblocks.

use std::time::Instant;

use crate::clock::once;
use crate::cores::on_cores;
use crate::effort::Effort;
use crate::recorder::{Recorder, Run, Sample, Told};
use crate::rng::Rng;
use crate::subjects::{Frames, Group, with_subjects};

const BURST: usize = 4096;

#[derive(Clone, Copy)]
struct Churning {
    scenario: &'static str,
    percent: u64,
    /// Chances in a hundred of each order from 0 on.
    orders: &'static [(u8, usize)],
    bursts: bool,
}

pub(super) const MIXED: &[(u8, usize)] = &[(0, 70), (1, 10), (2, 8), (3, 6), (4, 3), (5, 1), (6, 1), (7, 1)];
pub(super) const SINGLE: &[(u8, usize)] = &[(0, 100)];

pub(super) fn pick(rng: &mut Rng, orders: &[(u8, usize)]) -> u8 {
    if orders.len() == 1 {
        return orders[0].0;
    }
    let mut chance = rng.below(100);
    for &(order, share) in orders {
        if chance < share {
            // The last share stands for two orders.
            return if order == 7 && rng.below(2) == 0 { 8 } else { order };
        }
        chance -= share;
    }
    0
}

/// The blocks held, and how many frames they are.
struct Load<'s, S: Frames> {
    subject: &'s S,
    held: Vec<(S::Held, u8)>,
    used: u64,
    operations: u64,
    failed: u64,
}

impl<S: Frames> Load<'_, S> {
    #[inline]
    fn take(&mut self, order: u8) -> bool {
        self.operations += 1;
        match self.subject.take(order) {
            Some(block) => {
                self.held.push((block, order));
                self.used += 1 << order;
                true
            }
            None => {
                self.failed += 1;
                false
            }
        }
    }

    #[inline]
    fn give_any(&mut self, rng: &mut Rng) {
        let victim = rng.below(self.held.len());
        let (block, order) = self.held.swap_remove(victim);
        self.subject.give(block, order);
        self.used -= 1 << order;
        self.operations += 1;
    }

    /// The timed part.
    #[inline]
    fn churn(&mut self, rng: &mut Rng, churning: &Churning, target: u64, effort: &Effort) {
        let start = Instant::now();
        let mut bursts_done = 0;
        loop {
            if churning.bursts {
                for _ in 0..BURST.min(self.held.len() / 2) {
                    self.give_any(rng);
                }
                while self.used < target && self.take(0) {}
                bursts_done += 1;
                if bursts_done >= effort.bursts {
                    break;
                }
            } else {
                for _ in 0..256 {
                    let order = pick(rng, churning.orders);
                    while self.used + (1 << order) > target {
                        self.give_any(rng);
                    }
                    self.take(order);
                }
                if self.operations >= effort.churn_operations {
                    break;
                }
            }
            if start.elapsed() >= effort.churn_limit {
                break;
            }
        }
    }
}

impl Group for Churning {
    fn case<'s, S: Frames>(&self, subject: &'s S) -> Run<'s> {
        let churning = *self;
        let Self { scenario, percent, orders, .. } = churning;
        Box::new(move |effort| {
            let target = effort.frames * percent / 100;
            on_cores(1, |_| {
                let mut rng = Rng::new(11);
                let mut load = Load { subject, held: Vec::new(), used: 0, operations: 0, failed: 0 };
                while load.used < target && load.failed < 64 {
                    let order = pick(&mut rng, orders);
                    load.take(if load.used + (1 << order) > target { 0 } else { order });
                }
                (load.operations, load.failed) = (0, 0);
                let (ns, ()) = once(effort, scenario, || {
                    load.churn(&mut rng, &churning, target, effort);
                    (load.operations, ())
                });
                let huge: Vec<S::Held> = std::iter::from_fn(|| subject.take(9)).collect();
                let told = Told {
                    operations: Some(load.operations),
                    failed: Some(load.failed),
                    huge_left: Some(huge.len() as u64),
                    huge_ideal: Some((effort.frames - load.used) / 512),
                };
                huge.into_iter().for_each(|held| subject.give(held, 9));
                load.held.drain(..).for_each(|(held, order)| subject.give(held, order));
                Sample::new(scenario, 1, ns).telling(told)
            })
        })
    }
}

fn measure(recorder: &mut Recorder<'_>, churning: &Churning) {
    if recorder.wants(churning.scenario) {
        let (frames, repetitions) = (recorder.effort.frames, recorder.effort.churn_repetitions);
        with_subjects(frames, churning, |cases| recorder.interleave(repetitions, cases));
    }
}

pub(super) fn mixed(recorder: &mut Recorder<'_>) {
    measure(recorder, &Churning { scenario: "churn-90-mixed", percent: 90, orders: MIXED, bursts: false });
}

pub(super) fn order_0(recorder: &mut Recorder<'_>) {
    measure(recorder, &Churning { scenario: "churn-90-o0", percent: 90, orders: SINGLE, bursts: false });
}

pub(super) fn bursts(recorder: &mut Recorder<'_>) {
    measure(recorder, &Churning { scenario: "bursts-90-o0", percent: 90, orders: SINGLE, bursts: true });
    measure(recorder, &Churning { scenario: "bursts-98-o0", percent: 98, orders: SINGLE, bursts: true });
}
