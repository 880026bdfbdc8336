//! The report as text.

use std::fmt::Write;

use crate::judge::{best_peer, judge, limit, unjudged};
use crate::report::{Report, Row};

/// Nanoseconds with as many digits as make sense.
pub fn ns(value: f64) -> String {
    match value {
        value if value < 100.0 => format!("{value:.1}"),
        value if value < 100_000.0 => format!("{value:.0}"),
        value => format!("{:.0}k", value / 1000.0),
    }
}

/// A whole number as such, any other with three digits behind the point.
pub fn amount(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.3}") }
}

fn ratio(ours: &Row, other: Option<&Row>) -> String {
    other.map_or_else(String::new, |other| match ours.ns_per_op_median / other.ns_per_op_median {
        ratio if ratio < 0.05 => format!("{ratio:.4}"),
        ratio => format!("{ratio:.2}"),
    })
}

fn churned(row: &Row) -> String {
    match (row.failed, row.huge_left, row.huge_ideal) {
        (Some(failed), Some(left), Some(ideal)) => format!("  failed {failed}, huge left {left} of {ideal}"),
        (Some(failed), ..) => format!("  failed {failed}"),
        _ => String::new(),
    }
}

/// Every row, by scenario, with ratios to the best peer and to the limit; then the facts.
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
    for fact in &report.facts {
        let _ = writeln!(text, "{:<28} {:<24} {} {}", fact.fact, fact.subject, amount(fact.value), fact.unit);
    }
    text
}

/// Every goal with its verdict, then what could not be judged or measured, and why.
pub fn verdicts(report: &Report, whole: bool) -> String {
    let mut text = String::new();
    let judged = judge(report);
    if !judged.is_empty() {
        let met = judged.iter().filter(|one| one.met).count();
        let _ = writeln!(text, "goals: {met} of {} met; measured, and what is wanted:", judged.len());
    }
    for one in judged {
        let verdict = if one.met { "met " } else { "LOST" };
        let _ = writeln!(
            text,
            "{verdict} {:<34} {}T {:>9.2}  {}",
            one.goal, one.threads, one.measured, one.wanted
        );
    }
    let silent = unjudged(report);
    if whole && !silent.is_empty() {
        let _ = writeln!(text, "not judged, for want of a measurement: {}", silent.join(", "));
    }
    for note in &report.notes {
        let _ = writeln!(text, "not measured: {note}");
    }
    text
}
