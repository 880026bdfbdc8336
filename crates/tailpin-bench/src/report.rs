//! What a run found.

use serde::Serialize;

/// One subject in one scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was done.
    pub scenario: String,
    /// Who did it: `tailpin`, `tailpin-classic`, a peer by its crate's name, the kernel as
    /// `linux-…`, or a limit as `bare-…`.
    pub subject: &'static str,
    /// Threads at once.
    pub threads: usize,
    /// Nanoseconds per operation on each thread.
    pub ns_per_op_median: f64,
    /// Fastest repetition.
    pub ns_per_op_min: f64,
    /// Slowest repetition.
    pub ns_per_op_max: f64,
    /// Repetitions that count.
    pub repetitions: usize,
    /// Churn and replay: operations of one repetition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations: Option<u64>,
    /// Churn: allocations that failed, in the worst repetition. Replay: whatever went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<u64>,
    /// Churn: 2 MiB blocks that could still be allocated afterwards, in the worst repetition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub huge_left: Option<u64>,
    /// Churn: 2 MiB blocks that the free frames would make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub huge_ideal: Option<u64>,
}

/// A number that is no time: memory, pages, lines.
#[derive(Clone, Debug, Serialize)]
pub struct Fact {
    /// Of what.
    pub fact: &'static str,
    /// Whose.
    pub subject: &'static str,
    /// How much.
    pub value: f64,
    /// Of what unit.
    pub unit: &'static str,
}

/// All of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Every subject in every scenario, by scenario and threads.
    pub rows: Vec<Row>,
    /// What was found out besides times.
    pub facts: Vec<Fact>,
    /// What could not be measured here, and why.
    pub notes: Vec<String>,
    /// Cores there were.
    pub cores: usize,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

impl Report {
    /// The row of one subject.
    pub fn row(&self, scenario: &str, subject: &str, threads: usize) -> Option<&Row> {
        self.rows
            .iter()
            .find(|row| row.scenario == scenario && row.subject == subject && row.threads == threads)
    }

    /// What is known of a subject besides times.
    pub fn fact(&self, fact: &str, subject: &str) -> Option<f64> {
        self.facts.iter().find(|one| one.fact == fact && one.subject == subject).map(|one| one.value)
    }

    /// The subject's rows of the scenarios `growth-NNNgib-` with this ending, with their GiB,
    /// smallest first.
    pub fn growth(&self, ending: &str, subject: &str) -> Vec<(u64, &Row)> {
        let gib = |row: &Row| -> Option<u64> {
            let (gib, rest) = row.scenario.strip_prefix("growth-")?.split_once("gib-")?;
            gib.parse().ok().filter(|_| rest == ending && row.subject == subject)
        };
        let mut rows: Vec<(u64, &Row)> =
            self.rows.iter().filter_map(|row| gib(row).map(|gib| (gib, row))).collect();
        rows.sort_by_key(|(gib, _)| *gib);
        rows
    }

    /// All scenarios with their thread counts, in order.
    pub fn scenarios(&self) -> Vec<(&str, usize)> {
        let mut all: Vec<(&str, usize)> =
            self.rows.iter().map(|row| (row.scenario.as_str(), row.threads)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The rows of one scenario, fastest first.
    pub fn of(&self, scenario: &str, threads: usize) -> Vec<&Row> {
        let mut rows: Vec<&Row> =
            self.rows.iter().filter(|row| row.scenario == scenario && row.threads == threads).collect();
        rows.sort_by(|a, b| a.ns_per_op_median.total_cmp(&b.ns_per_op_median));
        rows
    }
}
