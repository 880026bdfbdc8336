//! Holds a report against the goals.

use serde::Serialize;

use crate::goals::{GOALS, Goal, Limit};
use crate::report::{Report, Row};

const OURS: &str = "tailpin";

/// A goal and how far it was reached.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// The goal's name.
    pub goal: &'static str,
    /// The scenario, or the fact, it is about.
    pub scenario: String,
    /// Threads.
    pub threads: usize,
    /// What is wanted, in words, with its unit.
    pub wanted: String,
    /// What must be reached: at most or at least, as the words say.
    pub limit: f64,
    /// What was, in the same unit.
    pub measured: f64,
    /// Whether it was.
    pub met: bool,
}

/// Whether a subject comes from another project and is no bare limit.
pub(crate) fn is_peer(subject: &str) -> bool {
    !subject.starts_with(OURS) && !subject.starts_with("bare-")
}

/// The fastest peer of a scenario.
pub fn best_peer<'r>(report: &'r Report, scenario: &str, threads: usize) -> Option<&'r Row> {
    report.of(scenario, threads).into_iter().find(|row| is_peer(row.subject))
}

/// The fastest limit of a scenario.
pub(crate) fn limit<'r>(report: &'r Report, scenario: &str, threads: usize) -> Option<&'r Row> {
    report.of(scenario, threads).into_iter().find(|row| row.subject.starts_with("bare-"))
}

/// Holds every row and fact of tailpin against its goals. Those whose sides were not all measured
/// are left out.
pub fn judge(report: &Report) -> Vec<Judged> {
    GOALS.iter().flat_map(|goal| judge_one(report, goal)).collect()
}

/// Names of the goals that this report says nothing about.
pub fn unjudged(report: &Report) -> Vec<&'static str> {
    let silent = |goal: &&Goal| judge_one(report, goal).is_empty();
    GOALS.iter().filter(silent).map(|goal| goal.name).collect()
}

fn judge_one(report: &Report, goal: &Goal) -> Vec<Judged> {
    match goal.limit {
        Limit::Flat(_) | Limit::Fact(_) | Limit::FactBelow(_) => at_large(report, goal).into_iter().collect(),
        _ => {
            let wanted = |row: &&Row| {
                let threads = goal.threads.is_none_or(|threads| threads == row.threads);
                row.subject == OURS && row.scenario == goal.scenario && threads
            };
            report.rows.iter().filter(wanted).filter_map(|row| of_row(report, goal, row)).collect()
        }
    }
}

/// Goals that are not about one row.
fn at_large(report: &Report, goal: &Goal) -> Option<Judged> {
    let judged = |scenario: String, wanted: String, limit: f64, measured: f64| Judged {
        goal: goal.name,
        scenario,
        threads: goal.threads.unwrap_or(1),
        wanted,
        limit,
        measured,
        met: measured <= limit,
    };
    let fact = |fact: &'static str| report.facts.iter().find(|one| one.fact == fact && one.subject == OURS);
    match goal.limit {
        Limit::Flat(limit) => {
            let curve = report.growth(goal.scenario, OURS);
            let [(small, first), rest @ ..] = &curve[..] else { return None };
            let (large, _) = rest.last()?;
            let slowest = rest.iter().map(|(_, row)| row.ns_per_op_median).fold(0.0, f64::max);
            Some(judged(
                format!("growth-{}", goal.scenario),
                format!("up to {large} GiB at most {limit} × its time at {small} GiB"),
                limit,
                slowest / first.ns_per_op_median,
            ))
        }
        Limit::Fact(limit) => {
            let fact = fact(goal.scenario)?;
            Some(judged(fact.fact.into(), format!("at most {limit} {}", fact.unit), limit, fact.value))
        }
        Limit::FactBelow(other) => {
            let (fact, other) = (fact(goal.scenario)?, fact(other)?);
            let wanted = format!("at most {} {}, the {}", other.value, other.unit, other.fact);
            Some(judged(fact.fact.into(), wanted, other.value, fact.value))
        }
        _ => None,
    }
}

fn of_row(report: &Report, goal: &Goal, ours: &Row) -> Option<Judged> {
    let (scenario, threads) = (ours.scenario.as_str(), ours.threads);
    let median = |row: &Row| row.ns_per_op_median;
    let judged = |wanted: String, limit: f64, measured: f64, met: bool| {
        Some(Judged { goal: goal.name, scenario: scenario.to_owned(), threads, wanted, limit, measured, met })
    };
    let at_most = |whom: &str, theirs: f64, limit: f64| {
        let measured = median(ours) / theirs;
        judged(format!("at most {limit} × {whom}"), limit, measured, measured <= limit)
    };
    let at_least =
        |wanted: String, limit: f64, measured: f64| judged(wanted, limit, measured, measured >= limit);
    match goal.limit {
        Limit::Peers(limit) => {
            let best = best_peer(report, scenario, threads)?;
            at_most(best.subject, median(best), limit)
        }
        Limit::Subject(limit, subject) => {
            at_most(subject, median(report.row(scenario, subject, threads)?), limit)
        }
        Limit::Own(limit, other) => {
            at_most(&format!("own {other}"), median(report.row(other, OURS, 1)?), limit)
        }
        Limit::Rate(limit) => {
            let one = median(report.row(scenario, OURS, 1)?);
            let wanted = format!("total rate at least {limit} × one thread's");
            at_least(wanted, limit, threads as f64 * one / median(ours))
        }
        Limit::Faster(limit, subject) => {
            let theirs = median(report.row(scenario, subject, threads)?);
            at_least(format!("at least {limit} × as fast as {subject}"), limit, theirs / median(ours))
        }
        Limit::NoneFailed => {
            let failed = ours.failed? as f64;
            judged("nothing failed".to_owned(), 0.0, failed, failed == 0.0)
        }
        Limit::HugeOf204(of_204) => {
            let (left, ideal) = (ours.huge_left? as f64, ours.huge_ideal? as f64);
            let limit = (ideal * of_204 as f64 / 204.0).floor();
            at_least(format!("at least {limit} of {ideal} huge blocks left"), limit, left)
        }
        Limit::HugePeers => {
            let peers = report.of(scenario, threads).into_iter().filter(|row| is_peer(row.subject));
            let limit = peers.filter_map(|row| row.huge_left).max()? as f64;
            at_least("as many huge blocks left as the best peer".to_owned(), limit, ours.huge_left? as f64)
        }
        Limit::Flat(_) | Limit::Fact(_) | Limit::FactBelow(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{judge, unjudged};
    use crate::report::{Fact, Report, Row};

    fn row(scenario: &str, subject: &'static str, threads: usize, ns: f64) -> Row {
        Row {
            scenario: scenario.into(),
            subject,
            threads,
            ns_per_op_median: ns,
            ns_per_op_min: ns,
            ns_per_op_max: ns,
            repetitions: 1,
            operations: None,
            failed: None,
            huge_left: None,
            huge_ideal: None,
        }
    }

    fn verdict(report: &Report, goal: &str) -> Option<(f64, bool)> {
        judge(report).into_iter().find(|one| one.goal == goal).map(|one| (one.measured, one.met))
    }

    #[test]
    fn times_are_held_against_peers_limits_and_oneself() {
        let mut report = Report {
            rows: vec![
                row("pair-o0-fresh", "tailpin", 1, 6.0),
                row("pair-o0-fresh", "tailpin-classic", 1, 1.0),
                row("pair-o0-fresh", "slow-peer", 1, 20.0),
                row("pair-o0-fresh", "best-peer", 1, 8.0),
                row("pair-o0-fresh", "tailpin", 2, 8.0),
                row("replay-node", "tailpin", 4, 50.0),
                row("replay-node", "bare-recorded-rate", 4, 100.0),
            ],
            ..Report::default()
        };
        assert_eq!(verdict(&report, "order-0-pair-hot"), Some((0.75, true)));
        assert_eq!(verdict(&report, "two-threads-order-0-pair"), Some((1.5, false)));
        assert_eq!(verdict(&report, "replay-node-beside-recorded"), Some((2.0, false)));
        assert_eq!(verdict(&report, "replay-node-beside-classic"), None);
        assert!(unjudged(&report).contains(&"replay-node-beside-classic"));
        report.rows[0].ns_per_op_median = 7.0;
        assert_eq!(verdict(&report, "order-0-pair-hot"), Some((0.875, false)));
    }

    #[test]
    fn growth_is_judged_by_its_slowest_size() {
        let mut report = Report::default();
        for (gib, ns) in [(1, 10.0), (4, 14.0), (256, 11.0)] {
            report.rows.push(row(&format!("growth-{gib:03}gib-o9"), "tailpin", 1, ns));
            report.rows.push(row(&format!("growth-{gib:03}gib-o0"), "tailpin", 1, ns / (gib as f64)));
        }
        assert_eq!(verdict(&report, "growth-order-9-pair"), Some((1.4, false)));
        assert_eq!(verdict(&report, "growth-order-0-pair"), Some((0.35, true)));
        assert_eq!(verdict(&report, "growth-order-0-batch"), None);
        report.rows.retain(|row| row.scenario.contains("001"));
        assert_eq!(verdict(&report, "growth-order-9-pair"), None, "one size is no curve");
    }

    #[test]
    fn facts_are_held_against_numbers_and_each_other() {
        let fact = |fact, value| Fact { fact, subject: "tailpin", value, unit: "pages" };
        let mut report = Report {
            facts: vec![fact("start-touched", 3.0), fact("start-summary", 3.0)],
            ..Report::default()
        };
        assert_eq!(verdict(&report, "start-touches-summary-only"), Some((3.0, true)));
        report.facts[0].value = 4.0;
        assert_eq!(verdict(&report, "start-touches-summary-only"), Some((4.0, false)));
        report.facts.push(fact("metadata-per-frame", 9.0));
        assert_eq!(verdict(&report, "metadata-per-frame"), Some((9.0, false)));
    }

    #[test]
    fn churn_is_judged_by_failures_and_huge_blocks() {
        let churn = |subject, failed, left| Row {
            failed: Some(failed),
            huge_left: Some(left),
            huge_ideal: Some(204),
            ..row("churn-90-mixed", subject, 1, 30.0)
        };
        let mut report = Report {
            rows: vec![churn("tailpin", 0, 178), churn("frame-alloc-depot", 0, 174)],
            ..Report::default()
        };
        assert_eq!(verdict(&report, "churn-mixed-time"), Some((1.0, true)));
        assert_eq!(verdict(&report, "churn-mixed-none-failed"), Some((0.0, true)));
        assert_eq!(verdict(&report, "churn-mixed-huge-left"), Some((178.0, true)));
        report.rows[0] = churn("tailpin", 2, 177);
        assert_eq!(verdict(&report, "churn-mixed-none-failed"), Some((2.0, false)));
        assert_eq!(verdict(&report, "churn-mixed-huge-left"), Some((177.0, false)));
    }
}
