//! What a run found.

use serde::Serialize;

/// One subject in one scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was done.
    pub scenario: String,
    /// Who did it: `tailpin`, `tailpin-classic`, a peer by its crate's name, or a limit as `bare-…`.
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
    /// Churn: operations of one repetition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations: Option<u64>,
    /// Churn: allocations that failed, in the worst repetition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<u64>,
    /// Churn: 2 MiB blocks that could still be allocated afterwards, in the worst repetition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub huge_left: Option<u64>,
    /// Churn: 2 MiB blocks that the free frames would make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub huge_ideal: Option<u64>,
}

/// Memory, as far as it can be asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Space {
    /// Whose.
    pub subject: &'static str,
    /// Frames managed.
    pub frames: u64,
    /// Bytes of metadata for each.
    pub metadata_bytes_per_frame: f64,
    /// Resident memory that starting the zone took, where that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident_bytes_at_start: Option<u64>,
}

/// All of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Every subject in every scenario, by scenario and threads.
    pub rows: Vec<Row>,
    /// Memory.
    pub space: Vec<Space>,
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
