//! Runs a scenario through the exhaustive checker and says honestly how far it got.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use crate::bound::Bound;
use crate::engine::Loom;
use crate::gather;
use crate::panics::{explain, lacking};
use crate::resume::{Kept, SavedFiles};
use crate::safeguards::{Safeguard, without};
use crate::scenario::Scenario;
use crate::tested_protocol::TestedProtocol;
use crate::trace::{self, Event};
use crate::word::LoomWord;

/// How far to explore.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Most involuntary switches per execution, or `None` for all.
    pub(crate) preemptions: Option<usize>,
    /// Longest time, after which the run counts as not exhausted.
    pub(crate) time: Duration,
}

/// A run that broke something.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// What broke.
    pub(crate) what: String,
    /// All that happened before.
    pub(crate) events: Vec<Event>,
    /// Names of the threads.
    pub(crate) threads: Vec<&'static str>,
}

impl Counterexample {
    /// How much a reader has to follow: of two the lesser is told.
    pub fn length(&self) -> impl Ord + use<> {
        gather::length(&self.events)
    }
}

/// What came of exploring one scenario.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The first execution that went wrong.
    pub(crate) found: Option<Counterexample>,
    /// What the machine lacked, where that ended the search.
    pub(crate) hindered: Option<String>,
    /// Executions explored.
    pub(crate) executions: u64,
    /// Every execution within the preemption bound was explored. False as well if exploring ended
    /// with a find.
    pub(crate) complete: bool,
    /// That bound; `None` for any number of preemptions, and where it is not explored.
    pub(crate) bound: Option<usize>,
    /// Time it took.
    pub(crate) elapsed: Duration,
    /// Each bound that was explored, the lowest first; empty where executions are samples.
    pub(crate) bounds: Vec<Bound>,
}

impl Outcome {
    /// Of one exploration.
    fn explored(
        limits: Limits,
        (found, hindered): (Option<Counterexample>, Option<String>),
        Kept { executions, elapsed, done }: Kept,
    ) -> Self {
        let bound = limits.preemptions;
        let bounds = vec![Bound::new(bound, executions, done, elapsed)];
        Self { found, hindered, executions, complete: done, bound, elapsed, bounds }
    }
}

/// Steps in one execution beyond which a thread waits for ever. The longest that does end gives
/// back 511 frames one by one, some five thousand steps (`aside-huge`).
const LONGEST: usize = 20_000;
/// How often the clock is looked at, in executions.
const CLOCK: usize = 256;

/// Explores `scenario` with a step left out or none.
pub(crate) fn explore<F: TestedProtocol<LoomWord>>(
    scenario: Scenario<Loom, F>,
    safeguard: Option<Safeguard>,
    limits: Limits,
    place: Option<SavedFiles>,
    count: Arc<AtomicU64>,
) -> Outcome {
    let mut builder = builder(limits, CLOCK);
    builder.checkpoint_file = place.as_ref().map(|place| place.path().to_owned());
    // Read after what is not whole has been removed.
    let kept = place.as_ref().map(SavedFiles::kept).unwrap_or_default();
    if kept.done {
        return Outcome::explored(limits, (None, None), kept);
    }
    let keeps = place.clone();
    let threads = scenario.threads.iter().map(|thread| thread.name).collect();
    let executions = Arc::new(AtomicU64::new(0));
    let ours = Arc::clone(&executions);
    let start = Instant::now();
    let so_far = move |executions, done| Kept {
        executions: kept.executions + executions,
        elapsed: kept.elapsed + start.elapsed(),
        done,
    };
    let result = without(safeguard, || {
        quietly(|| {
            catch_unwind(AssertUnwindSafe(|| {
                builder.check(move || {
                    // Relaxed: numbers for people.
                    let earlier = ours.fetch_add(1, Ordering::Relaxed);
                    count.fetch_add(1, Ordering::Relaxed);
                    // The checker has just written this execution down.
                    if let Some(place) = keeps.as_ref().filter(|_| (earlier + 1).is_multiple_of(CLOCK as u64))
                    {
                        place.keep(so_far(earlier, false));
                    }
                    scenario.execute();
                });
            }))
        })
    });
    let executions = executions.load(Ordering::Relaxed);
    let (found, hindered) = ended(result, threads);
    // The checker looks at the clock before every so many executions, and just returns.
    let stopped = start.elapsed() >= limits.time && (executions + 1).is_multiple_of(CLOCK as u64);
    let complete = found.is_none() && hindered.is_none() && !stopped;
    let kept = so_far(executions, complete);
    if let Some(place) = place.filter(|_| complete || stopped) {
        place.keep(kept);
    }
    Outcome::explored(limits, (found, hindered), kept)
}

fn builder(limits: Limits, clock: usize) -> loom::model::Builder {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = limits.preemptions;
    builder.max_duration = Some(limits.time);
    builder.max_branches = LONGEST;
    builder.checkpoint_interval = clock;
    builder.log = false;
    builder
}

/// Runs that are gathered before the clock is looked at.
const GATHERED: usize = 16;

/// Looks for a shorter run that goes wrong than the one found, with fewer preemptions first, for no
/// longer than `time`.
pub(crate) fn shorten<F: TestedProtocol<LoomWord>>(
    scenario: impl Fn() -> Scenario<Loom, F>,
    safeguard: Option<Safeguard>,
    found: Counterexample,
    time: Duration,
) -> Counterexample {
    let end = Instant::now() + time;
    for preemptions in 0..=2 {
        let left = end.saturating_duration_since(Instant::now());
        let limits = Limits { preemptions: Some(preemptions), time: left };
        let scenario = scenario();
        let best = gather::shortest(|| {
            without(safeguard, || {
                quietly(|| {
                    // What ends the search by a panic is a run without an end: others are gathered.
                    let _ = catch_unwind(AssertUnwindSafe(|| {
                        builder(limits, GATHERED).check(move || scenario.execute());
                    }));
                });
            });
        });
        if let Some(best) = best {
            let shorter = gather::length(&best.events) < gather::length(&found.events);
            return if shorter {
                Counterexample { what: best.what, events: best.events, ..found }
            } else {
                found
            };
        }
    }
    found
}

/// What ended a search by a panic: an execution that went wrong, or something that the machine
/// lacked.
pub(crate) fn ended(
    result: std::thread::Result<()>,
    threads: Vec<&'static str>,
) -> (Option<Counterexample>, Option<String>) {
    let Err(panic) = result else { return (None, None) };
    let (events, broke) = trace::take();
    if broke.is_none()
        && let Some(why) = lacking(&*panic)
    {
        return (None, Some(why));
    }
    (Some(Counterexample { what: broke.unwrap_or_else(|| explain(&*panic)), events, threads }), None)
}

thread_local! {
    static QUIET: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Keeps panics of explored executions, which are what is being looked for, off the terminal.
pub(crate) fn quietly<T>(body: impl FnOnce() -> T) -> T {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // The random scheduler has a hook of its own, which has to be there before this one. It
        // comes with its first run.
        shuttle::check_random(|| {}, 1);
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                hook(info);
            }
        }));
    });
    QUIET.set(true);
    let result = body();
    QUIET.set(false);
    result
}
