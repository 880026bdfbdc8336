//! The quick set: every scenario to two preemptions, and every step that is left out is missed.

use std::time::Duration;

use tailpin_check::report::Verdict;
use tailpin_check::suite::{Progress, Selection};
use tailpin_check::switches::Switch;
use tailpin_check::table;

#[test]
fn everything_comes_as_expected() {
    let selection = Selection { time: Some(Duration::from_secs(3)), ..Selection::default() };
    let checks = selection.checks();
    let checked = selection.run(&checks, &Progress::default());
    assert_eq!(checked.len(), checks.len());
    for checked in &checked {
        let shown = checked.counterexample.as_ref().map(table::render).unwrap_or_default();
        assert!(checked.row.is_as_expected(), "{:?}\n{shown}", checked.row);
    }
}

#[test]
fn every_switch_is_found_by_a_scenario_that_is_clean_without_it() {
    let checks = Selection::default().checks();
    for &switch in Switch::ALL {
        let found = checks.iter().filter(|check| check.switch == Some(switch)).count();
        assert!(found > 0, "{}", switch.name());
    }
}

#[test]
fn a_find_comes_with_its_steps_and_a_stop_is_not_a_pass() {
    let selection =
        Selection { hazard: Some("H2".to_owned()), scenario: Some("I2".to_owned()), ..Selection::default() };
    let checked = selection.run(&selection.checks(), &Progress::default());
    let found = checked.iter().find(|checked| checked.row.hazard == Some("H2")).expect("I2 is for H2");
    assert_eq!(found.row.found, Verdict::Violation);
    let table = table::render(found.counterexample.as_ref().expect("a violation has its steps"));
    assert!(table.contains("LOCK") && table.contains("BROKE: "), "{table}");

    let stopped = Selection {
        scenario: Some("split-two-steps".to_owned()),
        full: true,
        time: Some(Duration::ZERO),
        ..Selection::default()
    };
    let checked = stopped.run(&stopped.checks()[..1], &Progress::default());
    assert!(!checked[0].row.complete && checked[0].row.found == Verdict::Clean);
}
