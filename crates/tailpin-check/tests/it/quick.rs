//! The quick set: every scenario to two preemptions, and every step that is left out is missed.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use tailpin_check::ProtocolKind;
use tailpin_check::changes::{Change, Changes};
use tailpin_check::report::{Report, Verdict};
use tailpin_check::safeguards::Safeguard;
use tailpin_check::suite::{Progress, Selection};
use tailpin_check::{names, table};

#[test]
fn everything_comes_as_expected() {
    let selection = Selection { time: Some(Duration::from_secs(3)), ..Selection::default() };
    let checks = selection.checks();
    let checked = selection.run(&checks, &Progress::default());
    assert_eq!(checked.len(), checks.len());
    for checked in &checked {
        let shown = checked.counterexample.as_ref().map(table::steps).unwrap_or_default();
        assert!(checked.row.is_as_expected(), "{:?}\n{shown}", checked.row);
    }
}

#[test]
fn every_switch_is_found_by_a_scenario_that_is_clean_without_it() {
    let checks = Selection::default().checks();
    for &safeguard in Safeguard::ALL {
        let found = checks.iter().filter(|check| check.safeguard == Some(safeguard)).count();
        assert!(found > 0, "{}", safeguard.name());
    }
}

#[test]
fn a_find_comes_with_its_steps_and_a_stop_is_not_a_pass() {
    let selection = Selection {
        hazard: Some("H2".to_owned()),
        scenario: Some("I2".to_owned()),
        shorten: Duration::from_millis(200),
        ..Selection::default()
    };
    let checked = selection.run(&selection.checks(), &Progress::default());
    let found = checked.iter().find(|checked| checked.row.hazard == Some("H2")).expect("I2 is for H2");
    assert_eq!(found.row.found, Verdict::Violation);
    let table = table::steps(found.counterexample.as_ref().expect("a violation has its steps"));
    assert!(table.contains("LOCK") && table.contains("BROKE: "), "{table}");

    // Told, it is short, says what each thread believed, and names the two steps that clash.
    let told = table::story(found.counterexample.as_ref().expect("a violation has its steps"), 12);
    assert!(told.lines().count() <= 24, "{told}");
    assert!(told.contains(" believed at ") && told.contains("True since ") && told.contains(">"), "{told}");
    assert!(told.lines().count() * 2 < table.lines().count(), "{told}");

    let stopped = Selection {
        scenario: Some("split-two-steps".to_owned()),
        full: true,
        time: Some(Duration::ZERO),
        ..Selection::default()
    };
    let checked = stopped.run(&stopped.checks()[..1], &Progress::default());
    assert!(!checked[0].row.complete && checked[0].row.found == Verdict::Clean);
}

#[test]
fn a_full_run_goes_from_bound_to_bound_and_says_how_far() {
    let full = Selection {
        scenario: Some("I5".to_owned()),
        full: true,
        time: Some(Duration::from_secs(60)),
        ..Selection::default()
    };
    let checks: Vec<_> = full.checks().into_iter().filter(|check| check.safeguard.is_none()).collect();
    let each = Mutex::new(0);
    let checked = full.run_each(&checks[..1], &Progress::default(), &|_| *each.lock().unwrap() += 1);
    let row = &checked[0].row;
    assert!(row.is_as_expected() && row.complete && each.into_inner().unwrap() == 1, "{row:?}");
    let bounds: Vec<_> = row.bounds.iter().map(|bound| bound.preemption_bound).collect();
    assert_eq!((bounds.last(), row.preemption_bound), (Some(&None), None), "{row:?}");
    assert!(bounds.len() > 2 && bounds[..bounds.len() - 1].is_sorted(), "{row:?}");
    assert!(row.bounds.iter().all(|bound| bound.complete && bound.executions > 0), "{row:?}");
    // Without a bound the checker knows of more executions that they come to the same.
    let bounded = &row.bounds[..bounds.len() - 1];
    assert!(bounded.windows(2).all(|pair| pair[0].executions < pair[1].executions), "{row:?}");
    assert_eq!(row.bounds.iter().map(|bound| bound.executions).sum::<u64>(), row.executions);
}

#[test]
fn changes_have_their_place_in_the_code_and_no_page_is_marked_as_one_with_tails() {
    // Where a page once was: it was taken for its own head, or for a piece that has tails still.
    for scenario in ["I4", "split-two-steps", "crowd-8"] {
        let changes = Changes::default();
        let selection = Selection {
            protocol: Some(ProtocolKind::OneWord),
            scenario: Some(scenario.to_owned()),
            changes: Some(changes.clone()),
            ..Selection::default()
        };
        let checks: Vec<_> =
            selection.checks().into_iter().filter(|check| check.safeguard.is_none()).collect();
        assert!(
            selection.run(&checks, &Progress::default()).iter().all(|checked| checked.row.is_as_expected())
        );
        let all = changes.all();
        let files: BTreeSet<_> = all.iter().map(|change| change.file.as_str()).collect();
        assert!(files.contains("pin.rs") && files.contains("split.rs"), "{scenario}: {files:?}");
        for change in all {
            let Change { after, .. } = change;
            assert_ne!(change.words.get(&change.frame), Some(&after), "{change:?}");
            // Head, order 0, "a tail may record its order", as docs/proof.md's table has it.
            let marked_page = after >> 61 == 6 && after >> 56 & 31 == 0 && after >> 51 & 1 == 1;
            assert!(!marked_page, "{scenario}: {change:?}");
        }
    }
}

#[test]
fn every_hazard_of_the_page_is_shown_or_is_told_why_not() {
    let page = include_str!("../../../../docs/races.md");
    let number = |name: &str| name.len() > 1 && name[1..].bytes().all(|byte| byte.is_ascii_digit());
    let words = page.split(|letter: char| !letter.is_ascii_alphanumeric());
    let named: BTreeSet<&str> = words.filter(|word| word.starts_with(['H', 'W']) && number(word)).collect();
    assert!(named.len() > 30, "{named:?}");
    for name in named {
        let selection = Selection { hazard: Some(name.to_owned()), ..Selection::default() };
        let told = names::NOT_SHOWN.iter().any(|(not_shown, _)| *not_shown == name);
        assert_eq!(told, selection.checks().is_empty(), "{name}");
    }
}

#[test]
fn what_was_not_run_is_not_clean() {
    let none = Selection {
        scenario: Some("crowd-4".to_owned()),
        time: Some(Duration::ZERO),
        ..Selection::default()
    };
    let rows: Vec<_> =
        none.run(&none.checks(), &Progress::default()).into_iter().map(|checked| checked.row).collect();
    assert!(!rows.is_empty());
    for row in &rows {
        assert_eq!((row.found, row.executions, row.complete), (Verdict::NotRun, 0, false));
        assert!(!row.is_as_expected());
    }
    let report = Report::new(rows);
    assert_eq!((report.failed, report.not_run), (report.results.len(), report.results.len()));
    assert!(none.run(&[], &Progress::default()).is_empty());
}

#[test]
fn no_length_of_time_is_too_long() {
    let ever = Selection {
        scenario: Some("I4".to_owned()),
        time: Some(Duration::from_secs(u64::MAX)),
        ..Selection::default()
    };
    let checks = ever.checks();
    for checked in ever.run(&checks[..1], &Progress::default()) {
        assert!(checked.row.is_as_expected() && checked.row.complete, "{:?}", checked.row);
    }
}
