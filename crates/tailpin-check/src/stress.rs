//! Beyond what can be explored: random schedules of many threads, and the machine's own threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shuttle::scheduler::{PctScheduler, RandomScheduler};

use crate::engine::{Machine, Shuttle};
use crate::family::Family;
use crate::plan::Plan;
use crate::runner::{Outcome, ended, quietly};
use crate::switches::{Switch, without};
use crate::word::{MachineWord, ShuttleWord};

/// How often: schedules or rounds, and the longest time.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    /// Schedules, or rounds on the machine.
    pub runs: u64,
    /// Longest time.
    pub time: Duration,
}

/// Schedules between two looks at the clock.
const CHUNK: u64 = 50;
/// Steps of one schedule beyond which somebody waits for ever.
const LONGEST: usize = 100_000;
/// Places where a schedule by priorities changes them.
const PRIORITY_CHANGES: usize = 3;

/// Runs random schedules, half of them by priorities, always the same ones.
pub fn random<F: Family<ShuttleWord>>(
    plan: Plan<Shuttle, F>,
    switch: Option<Switch>,
    amount: Amount,
    count: Arc<AtomicU64>,
) -> Outcome {
    let mut config = shuttle::Config::new();
    config.max_steps = shuttle::MaxSteps::FailAfter(LONGEST);
    config.failure_persistence = shuttle::FailurePersistence::None;
    config.silence_warnings = true;
    let roles: Vec<_> = plan.roles.iter().map(|role| role.name).collect();
    let (plan, ours, start) = (Arc::new(plan), Arc::new(AtomicU64::new(0)), Instant::now());
    let result = without(switch, || {
        quietly(|| {
            catch_unwind(AssertUnwindSafe(|| {
                for seed in 0..amount.runs.div_ceil(CHUNK) {
                    if start.elapsed() >= amount.time {
                        break;
                    }
                    let (plan, ours, count) = (Arc::clone(&plan), Arc::clone(&ours), Arc::clone(&count));
                    let once = move || {
                        // Relaxed: numbers for people.
                        ours.fetch_add(1, Ordering::Relaxed);
                        count.fetch_add(1, Ordering::Relaxed);
                        plan.execute();
                    };
                    let (config, runs) = (config.clone(), CHUNK as usize);
                    if seed % 2 == 0 {
                        shuttle::Runner::new(RandomScheduler::new_from_seed(seed, runs), config).run(once);
                    } else {
                        let scheduler = PctScheduler::new_from_seed(seed, PRIORITY_CHANGES, runs);
                        shuttle::Runner::new(scheduler, config).run(once);
                    }
                }
            }))
        })
    });
    let (found, hindered) = ended(result, roles);
    Outcome {
        found,
        hindered,
        executions: ours.load(Ordering::Relaxed),
        complete: false,
        bound: None,
        elapsed: start.elapsed(),
    }
}

/// Runs the same again and again on the machine's own threads, each round audited.
pub fn machine<F: Family<MachineWord>>(
    plan: &Plan<Machine, F>,
    amount: Amount,
    count: &AtomicU64,
) -> Outcome {
    let (start, mut executions) = (Instant::now(), 0);
    let result = catch_unwind(AssertUnwindSafe(|| {
        while executions < amount.runs && start.elapsed() < amount.time {
            plan.execute();
            executions += 1;
            // Relaxed: a number for people.
            count.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let (mut found, hindered) = ended(result, plan.roles.iter().map(|role| role.name).collect());
    if let Some(found) = &mut found {
        // Real threads leave no order of steps.
        found.events.clear();
    }
    Outcome { found, hindered, executions, complete: false, bound: None, elapsed: start.elapsed() }
}
