//! What is to be checked, and running all of it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::changes::Changes;
pub use crate::check::{Check, Layer};
use crate::engine::{Engine, Loom, OsThreads, Shuttle};
use crate::protocol_kind::ProtocolKind;
use crate::report::Row;
use crate::resume::Resume;
use crate::runner::{Counterexample, Limits, Outcome, explore, shorten};
use crate::safeguards::Safeguard;
use crate::scenario::Scenario;
use crate::scenarios;
use crate::stress::{Amount, os_threads, random};
use crate::tested_protocol::{ClassicLessOne, OneWordLessOne, TestedClassic, TestedOneWord, TestedProtocol};
use crate::word::{CheckWord, LoomWord, OsWord, ShuttleWord};

/// Most preemptions that a full run explores before it explores any number.
const MOST_BOUNDED: usize = 5;
/// Most preemptions among which what is left out is looked for.
const MOST_TO_FIND: usize = 3;

/// Which of the checks to run, and how thoroughly.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only this protocol.
    pub protocol: Option<ProtocolKind>,
    /// Only scenarios of this name.
    pub scenario: Option<String>,
    /// Only switches whose name is this, or begins with it and a dash.
    pub hazard: Option<String>,
    /// To as many preemptions as time allows, in the end to any number.
    pub full: bool,
    /// Longest time for one scenario with every step in place, all its bounds together; a default
    /// for the depth if absent.
    pub time: Option<Duration>,
    /// Where to keep how far each exploration has come, and to go on from.
    pub resume: Option<Resume>,
    /// Where to gather the changes that the one-word protocol makes with every step in place: only
    /// checks that can add to them are selected then.
    pub changes: Option<Changes>,
    /// How long to look for a shorter run than the first that goes wrong.
    pub shorten: Duration,
}

/// A check that was run.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The row of the report.
    pub row: Row,
    /// What was checked.
    pub check: Check,
    /// The execution that went wrong, if one did.
    pub counterexample: Option<Counterexample>,
}

/// How far a run has got, for a progress bar.
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
        let wanted = |which: &ProtocolKind| {
            self.protocol.is_none_or(|only| only == *which)
                && (self.changes.is_none() || *which == ProtocolKind::OneWord)
        };
        for which in ProtocolKind::ALL.into_iter().filter(wanted) {
            match which {
                ProtocolKind::OneWord => self.collect::<TestedOneWord>(&mut checks),
                ProtocolKind::Classic => self.collect::<TestedClassic>(&mut checks),
            }
        }
        checks
    }

    fn collect<F: TestedOnEveryEngine>(&self, checks: &mut Vec<Check>) {
        self.collect_from(scenarios::all::<Loom, F>(), Layer::Loom, checks);
        self.collect_from(scenarios::many_threads::<Shuttle, F>(), Layer::Shuttle, checks);
        self.collect_from(scenarios::many_threads::<OsThreads, F>(), Layer::Threads, checks);
    }

    fn collect_from<E: Engine, F: TestedProtocol<CheckWord<E>>>(
        &self,
        scenarios: Vec<Scenario<E, F>>,
        layer: Layer,
        checks: &mut Vec<Check>,
    ) {
        let gathers = self.changes.is_some();
        // Changes that the machine's own threads make have no order.
        if gathers && layer == Layer::Threads {
            return;
        }
        for scenario in scenarios {
            if self.scenario.as_ref().is_some_and(|only| !only.eq_ignore_ascii_case(scenario.name)) {
                continue;
            }
            let found_here =
                scenario.finds.iter().copied().filter(|safeguard| safeguard.protocol() == F::KIND);
            // The machine's threads are not told of switches.
            let left_out =
                |safeguard: &Safeguard| layer != Layer::Threads && !gathers && self.wants(*safeguard);
            let wanted: Vec<_> = found_here.filter(left_out).collect();
            // With a hazard named, the same scenario with the step in place is the other half of
            // the evidence.
            let clean = self.hazard.is_none() || !wanted.is_empty();
            for safeguard in clean.then_some(None).into_iter().chain(wanted.into_iter().map(Some)) {
                checks.push(Check {
                    scenario: scenario.name,
                    title: scenario.title,
                    protocol: F::KIND,
                    safeguard,
                    threads: scenario.threads.len(),
                    layer,
                    preemptions: scenario.preemptions,
                });
            }
        }
    }

    pub(crate) fn wants(&self, safeguard: Safeguard) -> bool {
        self.hazard.as_ref().is_none_or(|only| {
            let (name, only) = (safeguard.name().to_lowercase(), only.to_lowercase());
            name == only || name.strip_prefix(&only).is_some_and(|rest| rest.starts_with('-'))
        })
    }

    /// Runs the checks on a few OS threads, the calling one among them, and returns them in order.
    /// Where no other thread can be started, the calling one does all.
    pub fn run(&self, checks: &[Check], progress: &Progress) -> Vec<Checked> {
        self.run_each(checks, progress, &|_| ())
    }

    /// Like [`run`](Self::run), and says at once what came of each check, by the thread that ran
    /// it.
    pub fn run_each(
        &self,
        checks: &[Check],
        progress: &Progress,
        each: &(dyn Fn(&Checked) + Sync),
    ) -> Vec<Checked> {
        let queue: Mutex<VecDeque<usize>> = Mutex::new((0..checks.len()).collect());
        let results: Mutex<Vec<Option<Checked>>> = Mutex::new(vec![None; checks.len()]);
        let workers = std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
        let work = || {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(index) = next else { break };
                let checked = self.run_one(&checks[index], progress);
                each(&checked);
                results.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(checked);
                // Relaxed: a number for people.
                progress.done.fetch_add(1, Ordering::Relaxed);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..workers.min(checks.len()) {
                let _ = std::thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.into_iter().flatten().collect()
    }

    /// The bounds of preemption that a check goes through, the next one if the one before was
    /// explored to its end, and the time for all of them.
    fn limits(&self, check: &Check) -> (Vec<Option<usize>>, Duration) {
        if check.safeguard.is_some() {
            // A find ends the run: what is to be found is searched for until it is, among the short
            // runs first.
            let seconds = if self.full { 600 } else { 60 };
            let bounds = (1..=MOST_TO_FIND).map(Some).collect();
            return (bounds, Duration::from_secs(seconds));
        }
        let bounds = if self.full {
            (1..=MOST_BOUNDED).map(Some).chain([None]).collect()
        } else {
            vec![Some(check.preemptions)]
        };
        (bounds, self.time_each())
    }

    /// Longest time for one scenario with every step in place, all its bounds together.
    pub fn time_each(&self) -> Duration {
        self.time.unwrap_or(Duration::from_secs(if self.full { 300 } else { 30 }))
    }

    fn amount(&self, layer: Layer) -> Amount {
        let (runs, seconds) = match (layer, self.full) {
            (Layer::Threads, false) => (u64::MAX, 2),
            (_, false) => (20_000, 3),
            (_, true) => (u64::MAX, 60),
        };
        Amount { runs, time: self.time.unwrap_or(Duration::from_secs(seconds)) }
    }

    fn run_one(&self, check: &Check, progress: &Progress) -> Checked {
        let outcome = match (check.protocol, check.safeguard) {
            (ProtocolKind::OneWord, None) => {
                let run = || self.run_on::<TestedOneWord>(check, progress);
                self.changes.as_ref().map_or_else(run, |changes| changes.during(run))
            }
            (ProtocolKind::Classic, None) => self.run_on::<TestedClassic>(check, progress),
            (ProtocolKind::OneWord, Some(_)) => self.run_on::<OneWordLessOne>(check, progress),
            (ProtocolKind::Classic, Some(_)) => self.run_on::<ClassicLessOne>(check, progress),
        };
        Checked { row: Row::new(check, &outcome), check: check.clone(), counterexample: outcome.found }
    }

    fn run_on<F: TestedOnEveryEngine>(&self, check: &Check, progress: &Progress) -> Outcome {
        let (amount, count) = (self.amount(check.layer), Arc::clone(&progress.executions));
        match check.layer {
            Layer::Loom => {
                let scenario = || named::<Loom, F>(scenarios::all(), check);
                let (bounds, time) = self.limits(check);
                let mut outcome = as_far_as_it_goes(&bounds, time, |limits| {
                    let resume = self.resume.as_ref().filter(|_| check.safeguard.is_none());
                    let place = resume.map(|resume| resume.place(check, limits.preemptions));
                    explore(scenario(), check.safeguard, limits, place, Arc::clone(&count))
                });
                outcome.found =
                    outcome.found.map(|found| shorten(scenario, check.safeguard, found, self.shorten));
                outcome
            }
            Layer::Shuttle => {
                random(named::<Shuttle, F>(scenarios::many_threads(), check), check.safeguard, amount, count)
            }
            Layer::Threads => {
                os_threads(&named::<OsThreads, F>(scenarios::many_threads(), check), amount, &count)
            }
        }
    }
}

/// Explores to one bound after the other, as long as each ends in time.
fn as_far_as_it_goes(
    bounds: &[Option<usize>],
    time: Duration,
    explore: impl Fn(Limits) -> Outcome,
) -> Outcome {
    let (&lowest, higher) = bounds.split_first().expect("a scenario has a bound");
    let start = Instant::now();
    let mut outcome = explore(Limits { preemptions: lowest, time });
    for &bound in higher {
        let left = time.saturating_sub(start.elapsed());
        let ended = outcome.bounds.iter().all(|bound| bound.complete);
        if !ended || outcome.found.is_some() || outcome.hindered.is_some() || left.is_zero() {
            break;
        }
        let next = explore(Limits { preemptions: bound, time: left });
        outcome = Outcome {
            found: next.found,
            hindered: next.hindered,
            executions: outcome.executions + next.executions,
            elapsed: outcome.elapsed + next.elapsed,
            bound: if next.complete { bound } else { outcome.bound },
            bounds: [outcome.bounds, next.bounds].concat(),
            complete: true,
        };
    }
    outcome
}

/// A protocol over the words of every engine.
trait TestedOnEveryEngine:
    TestedProtocol<LoomWord> + TestedProtocol<ShuttleWord> + TestedProtocol<OsWord>
{
}

impl<F: TestedProtocol<LoomWord> + TestedProtocol<ShuttleWord> + TestedProtocol<OsWord>> TestedOnEveryEngine
    for F
{
}

fn named<E: Engine, F>(scenarios: Vec<Scenario<E, F>>, check: &Check) -> Scenario<E, F> {
    scenarios
        .into_iter()
        .find(|scenario| scenario.name == check.scenario)
        .expect("checks are made of these scenarios")
}
