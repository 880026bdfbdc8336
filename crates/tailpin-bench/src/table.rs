//! The report as text.

use std::fmt::Write;

use crate::goals::{best_peer, judge, limit};
use crate::report::{Report, Row};

/// Nanoseconds with as many digits as make sense.
pub(crate) fn ns(value: f64) -> String {
    match value {
        value if value < 100.0 => format!("{value:.1}"),
        value if value < 100_000.0 => format!("{value:.0}"),
        value => format!("{:.0}k", value / 1000.0),
    }
}

fn ratio(ours: &Row, other: Option<&Row>) -> String {
    other.map_or_else(String::new, |other| format!("{:.2}", ours.ns_per_op_median / other.ns_per_op_median))
}

fn churned(row: &Row) -> String {
    match (row.failed, row.huge_left, row.huge_ideal) {
        (Some(failed), Some(left), Some(ideal)) => format!("  failed {failed}, huge left {left} of {ideal}"),
        _ => String::new(),
    }
}

/// Every row, by scenario, with ratios to the best peer and to the limit; then the goals.
pub fn table(report: &Report) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<28} {:<24} {:>2} {:>9} {:>9} {:>9} {:>7} {:>7}",
        "scenario, ns per operation", "subject", "T", "median", "min", "max", "/peer", "/limit"
    );
    for (scenario, threads) in report.scenarios() {
        let (peer, bare) = (best_peer(report, scenario, threads), limit(report, scenario, threads));
        for (i, row) in report.of(scenario, threads).into_iter().enumerate() {
            let _ = writeln!(
                text,
                "{:<28} {:<24} {:>2} {:>9} {:>9} {:>9} {:>7} {:>7}{}",
                if i == 0 { scenario } else { "" },
                row.subject,
                threads,
                ns(row.ns_per_op_median),
                ns(row.ns_per_op_min),
                ns(row.ns_per_op_max),
                ratio(row, peer),
                ratio(row, bare),
                churned(row),
            );
        }
    }
    for space in &report.space {
        let resident = space
            .resident_bytes_at_start
            .map_or_else(String::new, |bytes| format!(", {} KiB resident after its start", bytes / 1024));
        let _ = writeln!(
            text,
            "metadata: {} {:.3} bytes per frame at {} GiB{resident}",
            space.subject,
            space.metadata_bytes_per_frame,
            space.frames as f64 / f64::from(1 << 18),
        );
    }
    let judged = judge(report);
    if !judged.is_empty() {
        let won = judged.iter().filter(|one| one.won).count();
        let _ = writeln!(text, "\ngoals: {won} of {} reached", judged.len());
    }
    for one in judged {
        let verdict = if one.won { "won " } else { "LOST" };
        let _ = writeln!(
            text,
            "{verdict} {:<28} {}T  {:>8.2}  ({})",
            one.scenario, one.threads, one.reached, one.goal
        );
    }
    text
}
