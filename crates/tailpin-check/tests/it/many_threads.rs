//! Four to eight threads: random schedules find what is left out, and the machine's own threads end
//! clean.

use std::time::Duration;

use tailpin_check::report::Verdict;
use tailpin_check::suite::{Layer, Progress, Selection};
use tailpin_check::table;

#[test]
fn crowds_come_as_expected() {
    let selection = Selection { time: Some(Duration::from_secs(2)), ..Selection::default() };
    let checks: Vec<_> = selection.checks().into_iter().filter(|check| check.layer != Layer::Loom).collect();
    assert!(checks.iter().any(|check| check.safeguard.is_some()));
    for checked in selection.run(&checks, &Progress::default()) {
        let shown = checked.counterexample.as_ref().map(table::steps).unwrap_or_default();
        assert!(checked.row.is_as_expected(), "{:?}\n{shown}", checked.row);
        assert!(checked.row.executions > 0 && !checked.row.complete, "a sample is not all there is");
        assert!((4..=8).contains(&checked.row.threads));
        assert_eq!(checked.row.expected == Verdict::Violation, checked.row.hazard.is_some());
    }
}
