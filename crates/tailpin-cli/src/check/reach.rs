//! The table that says how far each scenario was explored, and where each step that is left out was
//! missed. It is written after each of them, and keeps what it says of those that are not run.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tailpin_check::report::{Bound, Verdict};
use tailpin_check::suite::{Checked, Layer, Selection};

use crate::Status;
use crate::output::{Target, save};
use crate::page::machine;

/// One scenario, with every step in place or one left out.
#[derive(Clone, Serialize, Deserialize)]
struct Reached {
    scenario: String,
    protocol: String,
    threads: usize,
    /// The step that is left out.
    hazard: Option<String>,
    found: Verdict,
    /// Which of the runs it is of.
    run: usize,
    bounds: Vec<Bound>,
}

/// One run of the command.
#[derive(Clone, Serialize, Deserialize)]
struct Run {
    made_with: String,
    /// Longest time for each scenario with every step in place, all its bounds together, in
    /// seconds.
    seconds_each: u64,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Table {
    runs: Vec<Run>,
    scenarios: Vec<Reached>,
}

/// The table, and where it goes.
pub(super) struct Reach {
    target: Target,
    /// Scenario, protocol and step of each line that there can be, in the order of the table.
    order: Vec<Key>,
    written: Mutex<Written>,
}

type Key = (String, String, Option<String>);

struct Written {
    table: Table,
    status: Status,
}

impl Reached {
    fn key(&self) -> Key {
        (self.scenario.clone(), self.protocol.clone(), self.hazard.clone())
    }
}

impl Reach {
    /// The table that is there, for a run that gives each scenario so much time. Samples have no
    /// line.
    ///
    /// # Errors
    /// Why what is there is no such table.
    pub(super) fn new(target: Target, time: Duration) -> Result<Self, String> {
        let mut table = match target.text() {
            Some(text) if !text.trim().is_empty() => serde_json::from_str(&text).map_err(|error| {
                format!("{} is no table that --reach has written: {error}", target.name())
            })?,
            _ => Table::default(),
        };
        table.runs.push(Run { made_with: machine(), seconds_each: time.as_secs() });
        let checks = Selection::default().checks().into_iter().filter(|check| check.layer == Layer::Loom);
        let names = checks.map(|check| {
            let hazard = check.safeguard.map(|safeguard| safeguard.name().to_owned());
            (check.scenario.to_owned(), check.protocol.name().to_owned(), hazard)
        });
        let written = Mutex::new(Written { table, status: Status::Clean });
        Ok(Self { target, order: names.collect(), written })
    }

    /// Enters what came of a check, and writes the table.
    pub(super) fn enter(&self, Checked { row, check, .. }: &Checked) {
        if check.layer != Layer::Loom {
            return;
        }
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let Written { table, status } = &mut *written;
        let entered = Reached {
            scenario: row.scenario.to_owned(),
            protocol: row.protocol.to_owned(),
            threads: row.threads,
            hazard: row.hazard.map(str::to_owned),
            found: row.found,
            run: table.runs.len() - 1,
            bounds: row.bounds.clone(),
        };
        table.scenarios.retain(|other| other.key() != entered.key());
        table.scenarios.push(entered);
        *status = (*status).max(save(&self.target, &self.text(table)));
    }

    /// How writing ended.
    pub(super) fn status(&self) -> Status {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).status
    }

    /// One line for each scenario that there still is, and the runs that they are of.
    fn text(&self, table: &Table) -> String {
        let line_of = |key: &Key| table.scenarios.iter().find(|reached| reached.key() == *key);
        let mut lines: Vec<Reached> = self.order.iter().filter_map(line_of).cloned().collect();
        let is_named = |run: &usize| lines.iter().any(|reached| reached.run == *run);
        let runs: Vec<usize> = (0..table.runs.len()).filter(is_named).collect();
        for reached in &mut lines {
            reached.run = runs.iter().position(|run| *run == reached.run).unwrap_or_default();
        }
        fn one_a_line<T: Serialize>(values: impl Iterator<Item = T>) -> String {
            let json = |value| serde_json::to_string(&value).expect("numbers and names");
            values.map(|value| format!("    {}", json(value))).collect::<Vec<_>>().join(",\n")
        }
        format!(
            "{{\n  \"runs\": [\n{}\n  ],\n  \"scenarios\": [\n{}\n  ]\n}}\n",
            one_a_line(runs.iter().map(|run| &table.runs[*run])),
            one_a_line(lines.iter())
        )
    }
}
