//! What one replay came to: the object behind `--json`, the table and the report.

use serde::Serialize;

use super::Protocol;
use super::plan::Plan;
use super::run::Measured;

/// Bytes of metadata Linux keeps for each 4 KiB page: its `struct page`.
pub(crate) const LINUX_BYTES_PER_FRAME: u64 = 64;

/// One replayed trace. Counts are of all copies in the fastest round together, but of every round for what went
/// wrong; what a trace says about Linux is of one copy.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) trace: String,
    pub(crate) protocol: Protocol,
    pub(crate) threads: u64,
    pub(crate) rounds: u64,
    pub(crate) events: u64,
    pub(crate) allocs: u64,
    pub(crate) frees: u64,
    pub(crate) splits: u64,
    pub(crate) splits_under_pins: u64,
    pub(crate) pins: u64,
    pub(crate) unpins: u64,
    pub(crate) collapses: u64,
    pub(crate) merges: u64,
    pub(crate) refused_by_linux: u64,
    pub(crate) freed_at_once_frames: u64,
    pub(crate) linux_split_later_ns: u64,
    pub(crate) linux_thp_split_page_failed: Option<u64>,
    pub(crate) skipped: u64,
    pub(crate) failed_allocs: u64,
    pub(crate) violations: u64,
    pub(crate) findings: Vec<String>,
    pub(crate) leaked_frames: u64,
    pub(crate) live_frames_at_end: u64,
    pub(crate) trace_live_frames_at_end: u64,
    pub(crate) elapsed_ns: u64,
    pub(crate) events_per_s: u64,
    pub(crate) metadata_bytes_per_frame: f64,
    pub(crate) linux_metadata_bytes_per_frame: u64,
    pub(crate) peak_used_frames: u64,
    pub(crate) huge_free_at_peak: u64,
    pub(crate) zone_frames: u64,
}

impl Outcome {
    pub(crate) fn new(
        trace: &str,
        protocol: Protocol,
        threads: u64,
        rounds: u64,
        refused: Option<u64>,
        plan: &Plan,
        measured: Measured,
    ) -> Self {
        let tally = measured.tally;
        let events = plan.records * threads;
        let per_s = u128::from(events) * 1_000_000_000 / u128::from(measured.elapsed_ns.max(1));
        Self {
            trace: trace.to_owned(),
            protocol,
            threads,
            rounds,
            events,
            allocs: tally.allocs,
            frees: tally.frees,
            splits: tally.splits,
            splits_under_pins: tally.splits_under_pins,
            pins: tally.pins,
            unpins: tally.unpins,
            collapses: tally.collapses,
            merges: tally.merges,
            refused_by_linux: tally.refused_by_linux,
            freed_at_once_frames: tally.freed_at_once_frames,
            linux_split_later_ns: plan.waited_ns,
            linux_thp_split_page_failed: refused,
            skipped: tally.skipped,
            failed_allocs: tally.failed_allocs,
            violations: measured.violations,
            findings: measured.findings,
            leaked_frames: measured.leaked_frames,
            live_frames_at_end: measured.live_frames_at_end,
            trace_live_frames_at_end: plan.trace_frames_at_end * threads,
            elapsed_ns: measured.elapsed_ns,
            events_per_s: per_s as u64,
            metadata_bytes_per_frame: measured.metadata_bytes as f64 / measured.zone_frames.max(1) as f64,
            linux_metadata_bytes_per_frame: LINUX_BYTES_PER_FRAME,
            peak_used_frames: measured.peak_used_frames,
            huge_free_at_peak: measured.huge_free_at_peak,
            zone_frames: measured.zone_frames,
        }
    }

    /// Whether nothing went wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.violations == 0 && self.leaked_frames == 0 && self.skipped == 0 && self.failed_allocs == 0
    }
}
