//! Beyond what can be explored: random schedules of many threads, and the machine's own threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shuttle::scheduler::{PctScheduler, RandomScheduler};

use crate::engine::{OsThreads, Shuttle};
use crate::gather::{self, Wrong};
use crate::runner::{Counterexample, Outcome, ended, quietly};
use crate::safeguards::{Safeguard, without};
use crate::scenario::Scenario;
use crate::tested_protocol::TestedProtocol;
use crate::word::{OsWord, ShuttleWord};

/// How often: schedules or rounds, and the longest time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    /// Schedules, or rounds on the machine.
    pub(crate) runs: u64,
    /// Longest time.
    pub(crate) time: Duration,
}

/// Schedules between two looks at the clock.
const CHUNK: u64 = 50;
/// Steps of one schedule beyond which a thread waits for ever.
const LONGEST: usize = 100_000;
/// Places where a schedule by priorities changes them.
const PRIORITY_CHANGES: usize = 3;

/// Runs random schedules, half of them by priorities, always the same ones.
pub(crate) fn random<F: TestedProtocol<ShuttleWord>>(
    scenario: Scenario<Shuttle, F>,
    safeguard: Option<Safeguard>,
    amount: Amount,
    count: Arc<AtomicU64>,
) -> Outcome {
    let mut config = shuttle::Config::new();
    config.max_steps = shuttle::MaxSteps::FailAfter(LONGEST);
    config.failure_persistence = shuttle::FailurePersistence::None;
    config.silence_warnings = true;
    let threads: Vec<_> = scenario.threads.iter().map(|thread| thread.name).collect();
    let (scenario, ours, start) = (Arc::new(scenario), Arc::new(AtomicU64::new(0)), Instant::now());
    let mut result = Ok(());
    // A run that goes wrong is gathered: ended by a panic it would have the scheduler print a seed.
    let wrong = gather::shortest(|| {
        result = without(safeguard, || {
            quietly(|| {
                catch_unwind(AssertUnwindSafe(|| {
                    for seed in 0..amount.runs.div_ceil(CHUNK) {
                        if start.elapsed() >= amount.time || gather::has_found() {
                            break;
                        }
                        let (scenario, ours, count) =
                            (Arc::clone(&scenario), Arc::clone(&ours), Arc::clone(&count));
                        let once = move || {
                            // Relaxed: numbers for people.
                            ours.fetch_add(1, Ordering::Relaxed);
                            count.fetch_add(1, Ordering::Relaxed);
                            scenario.execute();
                        };
                        let (config, runs) = (config.clone(), CHUNK as usize);
                        if seed % 2 == 0 {
                            let scheduler = RandomScheduler::new_from_seed(seed, runs);
                            shuttle::Runner::new(scheduler, config).run(once);
                        } else {
                            let scheduler = PctScheduler::new_from_seed(seed, PRIORITY_CHANGES, runs);
                            shuttle::Runner::new(scheduler, config).run(once);
                        }
                    }
                }))
            })
        });
    });
    let (found, hindered) = match wrong {
        Some(Wrong { what, events }) => (Some(Counterexample { what, events, threads }), None),
        None => ended(result, threads),
    };
    Outcome {
        found,
        hindered,
        executions: ours.load(Ordering::Relaxed),
        complete: false,
        bound: None,
        elapsed: start.elapsed(),
        bounds: vec![],
    }
}

/// Runs the same again and again on the machine's own threads, each round audited.
pub(crate) fn os_threads<F: TestedProtocol<OsWord>>(
    scenario: &Scenario<OsThreads, F>,
    amount: Amount,
    count: &AtomicU64,
) -> Outcome {
    let (start, mut executions) = (Instant::now(), 0);
    let result = catch_unwind(AssertUnwindSafe(|| {
        while executions < amount.runs && start.elapsed() < amount.time {
            scenario.execute();
            executions += 1;
            // Relaxed: a number for people.
            count.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let (mut found, hindered) = ended(result, scenario.threads.iter().map(|thread| thread.name).collect());
    if let Some(found) = &mut found {
        // Real threads leave no order of steps.
        found.events.clear();
    }
    Outcome {
        found,
        hindered,
        executions,
        complete: false,
        bound: None,
        elapsed: start.elapsed(),
        bounds: vec![],
    }
}
