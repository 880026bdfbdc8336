//! What a run has to say, for programs.

use serde::{Deserialize, Serialize};

pub use crate::bound::Bound;
use crate::check::Check;
use crate::runner::Outcome;

/// What was expected of a check, or came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No execution broke a promise.
    Clean,
    /// One did.
    Violation,
    /// There was no execution, or not what each needs of the machine: nothing is known.
    NotRun,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The scenario.
    pub scenario: &'static str,
    /// `one-word` or `classic`.
    pub protocol: &'static str,
    /// What ran it: `loom` (all interleavings and weak-memory outcomes), `shuttle` (random
    /// schedules) or `threads` (the machine's own).
    pub engine: &'static str,
    /// Threads it has.
    pub threads: usize,
    /// The step that was left out.
    pub hazard: Option<&'static str>,
    /// What should come of it.
    pub expected: Verdict,
    /// What came of it.
    pub found: Verdict,
    /// Executions explored, or run.
    pub executions: u64,
    /// Whether all executions within the preemption bound were explored. A violation ends the
    /// search; samples never are all there is.
    pub complete: bool,
    /// Most preemptions per execution that were explored to the end, or null for any number; where
    /// no bound was, the lowest.
    pub preemption_bound: Option<usize>,
    /// Each bound that was explored, the lowest first: all but the last to the end.
    pub bounds: Vec<Bound>,
    /// Time it took, in all runs that went on from one another.
    pub elapsed_ms: u64,
    /// What broke.
    pub broke: Option<String>,
    /// What the machine lacked, where that ended the check.
    pub hindered: Option<String>,
}

impl Row {
    pub(crate) fn new(check: &Check, outcome: &Outcome) -> Self {
        Self {
            scenario: check.scenario,
            protocol: check.protocol.name(),
            engine: check.layer.name(),
            threads: check.threads,
            hazard: check.safeguard.map(|safeguard| safeguard.name()),
            expected: if check.safeguard.is_some() { Verdict::Violation } else { Verdict::Clean },
            found: match (&outcome.found, &outcome.hindered, outcome.executions) {
                (Some(_), ..) => Verdict::Violation,
                (None, Some(_), _) | (None, None, 0) => Verdict::NotRun,
                (None, None, _) => Verdict::Clean,
            },
            executions: outcome.executions,
            complete: outcome.complete,
            preemption_bound: outcome.bound,
            bounds: outcome.bounds.clone(),
            elapsed_ms: outcome.elapsed.as_millis() as u64,
            broke: outcome.found.as_ref().map(|found| found.what.clone()),
            hindered: outcome.hindered.clone(),
        }
    }

    /// Whether it came as expected.
    pub fn is_as_expected(&self) -> bool {
        self.expected == self.found
    }
}

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// One row per check.
    pub results: Vec<Row>,
    /// Checks that did not come as expected, those that were not run among them.
    pub failed: usize,
    /// Checks that were not run.
    pub not_run: usize,
    /// Checks by exploration that a limit stopped: nothing was found, and not everything was
    /// explored.
    pub not_exhausted: usize,
}

impl Report {
    /// Of these rows.
    pub fn new(results: Vec<Row>) -> Self {
        let failed = results.iter().filter(|row| !row.is_as_expected()).count();
        let not_run = results.iter().filter(|row| row.found == Verdict::NotRun).count();
        let stopped = |row: &&Row| row.engine == "loom" && !row.complete && row.found == Verdict::Clean;
        let not_exhausted = results.iter().filter(stopped).count();
        Self { results, failed, not_run, not_exhausted }
    }
}
