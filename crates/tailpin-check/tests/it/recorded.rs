//! The full run that is recorded as data: a line for each check, and what the page on proofs says
//! of it.

use std::collections::BTreeSet;

use serde::Deserialize;
use tailpin_check::report::{Bound, Verdict};
use tailpin_check::suite::{Layer, Selection};

#[derive(Deserialize)]
struct Table {
    scenarios: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    scenario: String,
    protocol: String,
    threads: usize,
    hazard: Option<String>,
    found: Verdict,
    bounds: Vec<Bound>,
}

/// How far a scenario was explored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reached {
    AnyNumber,
    Preemptions(usize),
    NotItsOwnBound,
}

impl Line {
    fn reached(&self) -> Reached {
        match self.bounds.iter().rfind(|bound| bound.complete).map(|bound| bound.preemption_bound) {
            Some(None) => Reached::AnyNumber,
            Some(Some(most)) => Reached::Preemptions(most),
            None => Reached::NotItsOwnBound,
        }
    }
}

fn recorded() -> Vec<Line> {
    let table: Table = serde_json::from_str(include_str!("../../data/reach.json")).expect("a table of reach");
    table.scenarios
}

#[test]
fn each_check_has_a_line_and_came_as_expected() {
    let lines = recorded();
    for line in &lines {
        let expected = if line.hazard.is_some() { Verdict::Violation } else { Verdict::Clean };
        let name = (&line.scenario, &line.protocol, &line.hazard);
        assert_eq!(line.found, expected, "{name:?}");
        assert!(line.bounds.iter().all(|bound| bound.executions > 0), "{name:?}");
        // All bounds but the last were explored to the end.
        assert!(line.bounds.iter().rev().skip(1).all(|bound| bound.complete), "{name:?}");
        assert!(line.bounds.last().is_some_and(|last| line.hazard.is_none() || !last.complete), "{name:?}");
    }
    let named = lines.into_iter().map(|line| (line.scenario, line.protocol, line.hazard));
    let named: BTreeSet<_> = named.collect();
    let checks = Selection::default().checks().into_iter().filter(|check| check.layer == Layer::Loom);
    let there_are: BTreeSet<_> = checks
        .map(|check| {
            let hazard = check.safeguard.map(|safeguard| safeguard.name().to_owned());
            (check.scenario.to_owned(), check.protocol.name().to_owned(), hazard)
        })
        .collect();
    let missing: Vec<_> = there_are.symmetric_difference(&named).collect();
    assert!(
        missing.is_empty(),
        "record them: tailpin check --full --scenario … --reach crates/tailpin-check/data/reach.json\n{missing:?}"
    );
}

#[test]
fn the_page_says_how_far_it_went() {
    let page = include_str!("../../../../docs/proof.md");
    let lines = recorded();
    let (left_out, all_steps): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.hazard.is_some());
    let bounds = [5, 4, 3, 2, 1].map(Reached::Preemptions);
    let columns: Vec<_> =
        [Reached::AnyNumber].into_iter().chain(bounds).chain([Reached::NotItsOwnBound]).collect();
    for (protocol, threads) in [("one-word", 2), ("one-word", 3), ("classic", 2), ("classic", 3)] {
        let of = |line: &&&Line| line.protocol == protocol && line.threads.max(2) == threads;
        let these: Vec<_> = all_steps.iter().filter(of).collect();
        let counts = columns.iter().map(|reached| these.iter().filter(|l| l.reached() == *reached).count());
        let counts: Vec<String> = counts.map(|count| count.to_string()).collect();
        let many = if threads == 2 { "two or fewer" } else { "three" };
        let row = format!("| {protocol} | {many} | {} | {} |", these.len(), counts.join(" | "));
        assert!(page.contains(&row), "the page lacks: {row}");
    }
    let found = format!("Each of the {} checks with a step left out", left_out.len());
    assert!(page.contains(&found), "the page lacks: {found}");
}
