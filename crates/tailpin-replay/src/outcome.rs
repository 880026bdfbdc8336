//! What one replay came to: the object behind `--json`, the table and the report.

use serde::Serialize;

use super::plan::Plan;
use super::run::{Measured, Tally};
use super::setup::Protocol;

/// Bytes of metadata Linux keeps for each 4 KiB page: its `struct page`.
pub const LINUX_BYTES_PER_FRAME: u64 = 64;

/// One replayed trace. Counts are of all copies in the fastest round together, but of every round
/// for what went wrong; what a trace says about Linux is of one copy.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Name of the trace.
    pub trace: String,
    /// How frames were counted.
    pub protocol: Protocol,
    /// Copies at once.
    pub threads: u64,
    /// Rounds, each on a fresh zone.
    pub rounds: u64,
    /// Records of the trace, times copies.
    pub events: u64,
    /// What was done.
    #[serde(flatten)]
    pub tally: Tally,
    /// By how much Linux split later, in all, at most.
    pub linux_split_later_ns: u64,
    /// What the kernel's own counter of refused splits gained, if the trace says.
    pub linux_thp_split_page_failed: Option<u64>,
    /// Misuse reports, audit findings, wrong sums.
    pub violations: u64,
    /// The first of them in words.
    pub findings: Vec<String>,
    /// Frames in use with everything dropped.
    pub leaked_frames: u64,
    /// Frames in use with the trace's last state.
    pub live_frames_at_end: u64,
    /// Frames that the trace leaves live.
    pub trace_live_frames_at_end: u64,
    /// Of the fastest round.
    pub elapsed_ns: u64,
    /// Of the fastest round.
    pub events_per_s: u64,
    /// Bytes of metadata for each frame of the zone.
    pub metadata_bytes_per_frame: f64,
    /// Bytes of metadata per frame that Linux has.
    pub linux_metadata_bytes_per_frame: u64,
    /// Frames in use when the trace has most live.
    pub peak_used_frames: u64,
    /// 2 MiB pageblocks whole and free at that moment.
    pub huge_free_at_peak: u64,
    /// Frames of the zone.
    pub zone_frames: u64,
}

impl Outcome {
    /// Puts together what a plan says and what `measured`, the fastest of `rounds` rounds, found.
    /// `refused` is what the kernel's own counter of refused splits gained.
    pub fn new(
        trace: &str,
        protocol: Protocol,
        threads: u64,
        rounds: u64,
        refused: Option<u64>,
        plan: &Plan,
        measured: Measured,
    ) -> Self {
        let events = plan.records.saturating_mul(threads);
        let per_s = u128::from(events) * 1_000_000_000 / u128::from(measured.elapsed_ns.max(1));
        Self {
            trace: trace.to_owned(),
            protocol,
            threads,
            rounds,
            events,
            tally: measured.tally,
            linux_split_later_ns: plan.waited_ns,
            linux_thp_split_page_failed: refused,
            violations: measured.violations,
            findings: measured.findings,
            leaked_frames: measured.leaked_frames,
            live_frames_at_end: measured.live_frames_at_end,
            trace_live_frames_at_end: plan.trace_frames_at_end.saturating_mul(threads),
            elapsed_ns: measured.elapsed_ns,
            events_per_s: u64::try_from(per_s).unwrap_or(u64::MAX),
            metadata_bytes_per_frame: measured.metadata_bytes as f64 / measured.zone_frames.max(1) as f64,
            linux_metadata_bytes_per_frame: LINUX_BYTES_PER_FRAME,
            peak_used_frames: measured.peak_used_frames,
            huge_free_at_peak: measured.huge_free_at_peak,
            zone_frames: measured.zone_frames,
        }
    }

    /// Whether something was replayed and nothing went wrong.
    pub fn is_clean(&self) -> bool {
        self.events > 0
            && self.violations == 0
            && self.leaked_frames == 0
            && self.tally.skipped == 0
            && self.tally.failed_allocs == 0
    }
}
