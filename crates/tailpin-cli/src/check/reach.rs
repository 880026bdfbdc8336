//! The table that says how far each scenario was explored, written anew after each of them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tailpin_check::report::{Bound, Verdict};
use tailpin_check::suite::{Check, Checked, Layer};

use crate::Status;
use crate::output::{Target, save};
use crate::page::machine;

/// One scenario with every step in place.
#[derive(Serialize)]
struct Reached {
    scenario: &'static str,
    protocol: &'static str,
    threads: usize,
    found: Verdict,
    bounds: Vec<Bound>,
}

/// The table, and where it goes.
pub(super) struct Reach<'c> {
    target: Target,
    /// What is explored in this run, in the order of the table.
    checks: &'c [Check],
    /// Longest time for each, all its bounds together, in one run.
    time: Duration,
    rows: Mutex<Rows>,
}

struct Rows {
    /// A row, or that it is still to come, for each of the checks.
    rows: Vec<Option<Reached>>,
    status: Status,
}

impl<'c> Reach<'c> {
    /// An empty table of these checks, of which those with a step left out have no row, and neither
    /// have samples.
    pub(super) fn new(target: Target, checks: &'c [Check], time: Duration) -> Self {
        let rows = Rows { rows: checks.iter().map(|_| None).collect(), status: Status::Clean };
        Self { target, checks, time, rows: Mutex::new(rows) }
    }

    /// Enters what came of a check, and writes the table.
    pub(super) fn enter(&self, Checked { row, check, .. }: &Checked) {
        if check.layer != Layer::Loom || check.safeguard.is_some() {
            return;
        }
        let is_it = |one: &Check| {
            one.layer == check.layer
                && one.safeguard.is_none()
                && (one.protocol, one.scenario) == (check.protocol, check.scenario)
        };
        let Some(at) = self.checks.iter().position(is_it) else { return };
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.rows[at] = Some(Reached {
            scenario: row.scenario,
            protocol: row.protocol,
            threads: row.threads,
            found: row.found,
            bounds: row.bounds.clone(),
        });
        let written = save(&self.target, &self.text(&rows.rows));
        rows.status = rows.status.max(written);
    }

    /// How writing ended.
    pub(super) fn status(&self) -> Status {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).status
    }

    /// One line for each scenario.
    fn text(&self, rows: &[Option<Reached>]) -> String {
        let json = |value: &Reached| serde_json::to_string(value).expect("numbers and names");
        let lines: Vec<_> = rows.iter().flatten().map(|row| format!("    {}", json(row))).collect();
        let (machine, seconds) = (serde_json::json!(machine()), self.time.as_secs());
        format!(
            "{{\n  \"made_with\": {machine},\n  \"seconds_each\": {seconds},\n  \"scenarios\": [\n{}\n  ]\n}}\n",
            lines.join(",\n")
        )
    }
}
