//! What tailpin has to reach, relative to the others in the same run.

use serde::Serialize;

use crate::report::{Report, Row};

/// What a row is held against.
enum Goal {
    /// At most this many times the best peer.
    Peers(f64),
    /// At most this many times the named subject in the same scenario.
    Subject(f64, &'static str),
    /// At most this many times our own row in another scenario, of one thread.
    Own(f64, &'static str),
    /// All threads together this many times as fast as one alone.
    Rate(f64),
    /// This many times as fast as the classic protocol.
    Faster(f64),
    /// No allocation failed and at least this many 2 MiB blocks of each 204 were left.
    HugeOf204(u64),
    /// At least as many 2 MiB blocks left as the best peer has.
    HugePeers,
}

/// A goal and how far it was reached.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// Scenario.
    pub scenario: String,
    /// Threads.
    pub threads: usize,
    /// The goal in words.
    pub goal: String,
    /// What was reached, in the goal's unit.
    pub reached: f64,
    /// What had to be.
    pub wanted: f64,
    /// Whether it was.
    pub won: bool,
}

fn goals(scenario: &str, threads: usize) -> Vec<Goal> {
    use Goal::{Faster, HugeOf204, HugePeers, Own, Peers, Rate, Subject};
    const CAS: &str = "bare-cas-511";
    const PAIR: &str = "bare-fetch-add-sub";
    match (scenario, threads) {
        ("pair-o0-fresh" | "pair-o0-half-full", 1) => vec![Peers(0.8)],
        ("bulk-o0-alloc" | "bulk-o0-free-random", 1) => vec![Peers(1.0)],
        ("pair-o9" | "bulk-o9-alloc" | "bulk-o9-free-random", 1) => vec![Peers(0.6)],
        ("pair-o0-fresh" | "pair-o9", 2) => vec![Rate(1.8)],
        (bulk, 2) if bulk.starts_with("bulk-") => vec![Rate(1.8)],
        ("remote-free-o0" | "remote-free-o9", _) => vec![Peers(0.8)],
        ("churn-90-mixed", _) => vec![Subject(1.0, "frame-alloc-depot"), HugeOf204(178)],
        ("churn-90-o0", _) => vec![HugeOf204(204)],
        ("bursts-90-o0" | "bursts-98-o0", _) => vec![HugePeers],
        ("pageref-clone-drop", _) => vec![Subject(1.1, PAIR), Subject(1.0, "arc")],
        ("speculative-get-drop", _) => vec![Subject(1.1, "bare-get-unless-zero"), Subject(1.0, "arc")],
        ("block-2m-clone-drop" | "block-1g-clone-drop", _) => vec![Own(1.1, "block-4k-clone-drop")],
        ("contended-page" | "contended-tail", _) => vec![Subject(1.1, PAIR)],
        ("two-tails", _) => vec![Subject(1.2, PAIR)],
        ("split-2m-0-pins" | "split-2m-1-pin", _) => vec![Subject(1.6, CAS)],
        ("split-2m-100-pins" | "merge-2m", _) => vec![Subject(2.2, CAS)],
        ("split-2m-around-one", _) => vec![Subject(0.2, CAS)],
        ("tail-get-put", 1) => vec![Faster(5.0)],
        ("tail-get-put", 2) => vec![Faster(10.0)],
        (growth, _) if growth.starts_with("growth-") && growth.ends_with("o0") => {
            vec![Own(1.3, "growth-001gib-o0")]
        }
        (growth, _) if growth.starts_with("growth-") => vec![Own(1.3, "growth-001gib-o9")],
        _ => Vec::new(),
    }
}

/// Whether a subject is somebody else's work, and no bare limit.
pub(crate) fn is_peer(subject: &str) -> bool {
    !subject.starts_with("tailpin") && !subject.starts_with("bare-")
}

/// The fastest peer of a scenario.
pub(crate) fn best_peer<'r>(report: &'r Report, scenario: &str, threads: usize) -> Option<&'r Row> {
    report.of(scenario, threads).into_iter().find(|row| is_peer(row.subject))
}

/// The fastest limit of a scenario.
pub(crate) fn limit<'r>(report: &'r Report, scenario: &str, threads: usize) -> Option<&'r Row> {
    report.of(scenario, threads).into_iter().find(|row| row.subject.starts_with("bare-"))
}

/// Holds every row of tailpin against its goals. Goals whose other side was not measured are left out.
pub fn judge(report: &Report) -> Vec<Judged> {
    let mut all = Vec::new();
    for (scenario, threads) in report.scenarios() {
        let Some(ours) = report.row(scenario, "tailpin", threads) else { continue };
        for goal in goals(scenario, threads) {
            all.extend(held_against(report, ours, &goal));
        }
    }
    all
}

fn held_against(report: &Report, ours: &Row, goal: &Goal) -> Option<Judged> {
    let (scenario, threads) = (ours.scenario.as_str(), ours.threads);
    let median = |row: &Row| row.ns_per_op_median;
    let judged = |goal: String, reached: f64, wanted: f64, won: bool| {
        Some(Judged { scenario: scenario.to_owned(), threads, goal, reached, wanted, won })
    };
    let at_most = |whom: &str, theirs: f64, wanted: f64| {
        let reached = median(ours) / theirs;
        judged(format!("at most {wanted} × {whom}"), reached, wanted, reached <= wanted)
    };
    match *goal {
        Goal::Peers(wanted) => {
            let best = best_peer(report, scenario, threads)?;
            at_most(best.subject, median(best), wanted)
        }
        Goal::Subject(wanted, subject) => {
            at_most(subject, median(report.row(scenario, subject, threads)?), wanted)
        }
        Goal::Own(wanted, other) => {
            at_most(&format!("own {other}"), median(report.row(other, "tailpin", 1)?), wanted)
        }
        Goal::Rate(wanted) => {
            let one = median(report.row(scenario, "tailpin", 1)?);
            let reached = threads as f64 * one / median(ours);
            judged(format!("total rate at least {wanted} × one thread's"), reached, wanted, reached >= wanted)
        }
        Goal::Faster(wanted) => {
            let reached = median(report.row(scenario, "tailpin-classic", threads)?) / median(ours);
            judged(format!("at least {wanted} × as fast as classic"), reached, wanted, reached >= wanted)
        }
        Goal::HugeOf204(of_204) => {
            let (left, ideal) = (ours.huge_left? as f64, ours.huge_ideal? as f64);
            let wanted = (ideal * of_204 as f64 / 204.0).floor();
            let won = left >= wanted && ours.failed == Some(0);
            judged(format!("nothing failed, {wanted} of {ideal} huge blocks left"), left, wanted, won)
        }
        Goal::HugePeers => {
            let peers = report.of(scenario, threads).into_iter().filter(|row| is_peer(row.subject));
            let wanted = peers.filter_map(|row| row.huge_left).max()? as f64;
            let left = ours.huge_left? as f64;
            judged("as many huge blocks left as the best peer".to_owned(), left, wanted, left >= wanted)
        }
    }
}
