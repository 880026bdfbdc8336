//! What is to be checked, and running all of it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::engine::Loom;
use crate::family::{ClassicFamily, ClassicSwitched, Family, OneWordFamily, OneWordSwitched, Which};
use crate::plan::Plan;
use crate::report::Row;
use crate::runner::{Counterexample, Limits, Outcome, explore};
use crate::scenarios;
use crate::switches::Switch;
use crate::word::LoomWord;

/// Which of the checks to run, and how thoroughly.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only this protocol.
    pub protocol: Option<Which>,
    /// Only scenarios of this name.
    pub scenario: Option<String>,
    /// Only switches whose name is this, or begins with it and a dash.
    pub hazard: Option<String>,
    /// Two threads exhaustively, more to three preemptions.
    pub full: bool,
    /// Longest time for one scenario with every step in place; a default for the depth if absent.
    pub time: Option<Duration>,
}

/// One check: a scenario with everything in place, or with one step left out.
#[derive(Clone, Debug)]
pub struct Check {
    /// Name of the scenario.
    pub scenario: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// On which protocol.
    pub protocol: Which,
    /// What is left out.
    pub switch: Option<Switch>,
    /// Threads it has.
    pub threads: usize,
}

/// A check that was run.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The row of the report.
    pub row: Row,
    /// What the scenario is about.
    pub title: &'static str,
    /// The execution that went wrong, if one did.
    pub counterexample: Option<Counterexample>,
}

/// How far a run has got, for whoever watches.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Executions explored.
    pub executions: Arc<AtomicU64>,
    /// Checks done.
    pub done: Arc<AtomicUsize>,
}

impl Selection {
    /// The checks that are selected.
    pub fn checks(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        for which in Which::ALL.into_iter().filter(|which| self.protocol.is_none_or(|only| only == *which)) {
            match which {
                Which::OneWord => self.collect::<OneWordFamily>(&mut checks),
                Which::Classic => self.collect::<ClassicFamily>(&mut checks),
            }
        }
        checks
    }

    fn collect<F: Family<LoomWord>>(&self, checks: &mut Vec<Check>) {
        for plan in scenarios::all::<Loom, F>() {
            if self.scenario.as_ref().is_some_and(|only| !only.eq_ignore_ascii_case(plan.name)) {
                continue;
            }
            let found_here = plan.finds.iter().copied().filter(|switch| switch.protocol() == F::WHICH);
            let wanted: Vec<_> = found_here.filter(|switch| self.wants(*switch)).collect();
            // With a hazard named, the same scenario with the step in place is the other half of the evidence.
            let clean = self.hazard.is_none() || !wanted.is_empty();
            for switch in clean.then_some(None).into_iter().chain(wanted.into_iter().map(Some)) {
                checks.push(Check {
                    scenario: plan.name,
                    title: plan.title,
                    protocol: F::WHICH,
                    switch,
                    threads: plan.roles.len(),
                });
            }
        }
    }

    fn wants(&self, switch: Switch) -> bool {
        self.hazard.as_ref().is_none_or(|only| {
            let (name, only) = (switch.name().to_lowercase(), only.to_lowercase());
            name == only || name.strip_prefix(&only).is_some_and(|rest| rest.starts_with('-'))
        })
    }

    /// Runs the checks on two OS threads and returns them in order.
    pub fn run(&self, checks: &[Check], progress: &Progress) -> Vec<Checked> {
        let queue: Mutex<VecDeque<usize>> = Mutex::new((0..checks.len()).collect());
        let results: Mutex<Vec<Option<Checked>>> = Mutex::new(vec![None; checks.len()]);
        let workers = std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                        let Some(index) = next else { break };
                        let checked = self.run_one(&checks[index], progress);
                        results.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(checked);
                        // Relaxed: a number for people.
                        progress.done.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.into_iter().flatten().collect()
    }

    fn limits(&self, check: &Check) -> Limits {
        let (preemptions, seconds) = match (self.full, check.threads, check.switch) {
            // A find ends the run; the bound only keeps the search near the short ones.
            (_, _, Some(_)) => (Some(3), 60),
            (false, ..) => (Some(2), 10),
            (true, 0..=2, None) => (None, 3600),
            (true, _, None) => (Some(3), 3600),
        };
        let default = Duration::from_secs(seconds);
        // What is to be found is searched for until it is.
        let time = if check.switch.is_some() { default } else { self.time.unwrap_or(default) };
        Limits { preemptions, time }
    }

    fn run_one(&self, check: &Check, progress: &Progress) -> Checked {
        let limits = self.limits(check);
        let outcome = match (check.protocol, check.switch) {
            (Which::OneWord, None) => run::<OneWordFamily>(check, limits, progress),
            (Which::Classic, None) => run::<ClassicFamily>(check, limits, progress),
            (Which::OneWord, Some(_)) => run::<OneWordSwitched>(check, limits, progress),
            (Which::Classic, Some(_)) => run::<ClassicSwitched>(check, limits, progress),
        };
        Checked {
            row: Row::new(check, &outcome, limits.preemptions),
            title: check.title,
            counterexample: outcome.found,
        }
    }
}

fn run<F: Family<LoomWord>>(check: &Check, limits: Limits, progress: &Progress) -> Outcome {
    let plan: Plan<Loom, F> = scenarios::all()
        .into_iter()
        .find(|plan| plan.name == check.scenario)
        .expect("checks are made of these scenarios");
    explore(plan, check.switch, limits, Arc::clone(&progress.executions))
}
