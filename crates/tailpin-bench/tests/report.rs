//! A small run end to end: rows, JSON, table and pictures.

use tailpin_bench::{Effort, json, judge, measure, table, unjudged, verdicts};

#[test]
fn a_filtered_run_is_valid_json() {
    let report = measure(&Effort::tiny(), Some("o0-fresh"), &mut |_, _| {});
    let json: serde_json::Value = serde_json::from_str(&json(&report, &[], true)).unwrap();
    let rows = json["rows"].as_array().unwrap();
    assert!(rows.iter().filter(|row| row["threads"] == 1).count() >= 9, "one row per subject");
    assert!(report.row("pair-o0-fresh", "tailpin-local", 1).is_some());
    for row in rows {
        assert_eq!(row["scenario"], "pair-o0-fresh");
        let of = |key: &str| row[key].as_f64().unwrap();
        assert!(of("ns_per_op_min") > 0.0);
        assert!(of("ns_per_op_min") <= of("ns_per_op_median"));
        assert!(of("ns_per_op_median") <= of("ns_per_op_max"));
    }
    let goals = json["goals"].as_array().unwrap();
    let pair = goals.iter().find(|goal| goal["goal"] == "order-0-pair-hot").unwrap();
    let (limit, measured) = (pair["limit"].as_f64().unwrap(), pair["measured"].as_f64().unwrap());
    assert_eq!(pair["met"].as_bool().unwrap(), measured <= limit);
    assert!(json["goals_not_judged"].as_array().unwrap().iter().any(|goal| goal == "growth-order-9-pair"));
}

#[test]
fn churn_rows_tell_of_failures_and_huge_blocks() {
    let report = measure(&Effort::tiny(), Some("churn-90-mixed"), &mut |_, _| {});
    let ours = report.row("churn-90-mixed", "tailpin", 1).unwrap();
    assert!(ours.failed.is_some() && ours.huge_left.is_some());
    assert!(ours.huge_left <= ours.huge_ideal);
}

#[test]
fn split_merge_and_tails_are_measured_for_every_subject() {
    let report = measure(&Effort::tiny(), Some("2m"), &mut |_, _| {});
    for (scenario, subject) in [
        ("split-2m-100-pins", "tailpin"),
        ("split-2m-100-pins", "tailpin-classic"),
        ("split-2m-around-one", "tailpin"),
        ("merge-2m", "bare-cas-511"),
        ("last-slice-2m", "tailpin"),
        ("last-slice-2m", "tailpin-classic"),
        ("last-slice-2m", "bare-cas-511"),
        ("block-2m-clone-drop", "bare-512-counts"),
    ] {
        let row = report.row(scenario, subject, 1).unwrap_or_else(|| panic!("{subject} in {scenario}"));
        assert!(row.ns_per_op_median > 0.0 && row.ns_per_op_median.is_finite());
    }
    assert!(table(&report).contains("merge-2m"));
}

#[test]
fn address_spaces_are_measured_beside_the_kernel_or_it_is_told_why_not() {
    let report = measure(&Effort::tiny(), Some("mm-"), &mut |_, _| {});
    for scenario in
        ["mm-pin-1", "mm-pin-512", "mm-split-0-pins", "mm-unmap-4k", "mm-dontneed-4k", "mm-fork-huge"]
    {
        assert!(report.row(scenario, "tailpin", 1).is_some(), "{scenario}");
        let note = report.notes.iter().find(|note| note.contains(scenario));
        note.iter().for_each(|note| println!("skipped: {note}"));
        let beside = report.of(scenario, 1).len() > 1;
        assert!(
            !cfg!(target_os = "linux") || note.is_some() || beside,
            "{scenario}: no kernel, and no reason"
        );
    }
    if let Some(refused) = report.row("mm-split-1-pin", "linux-thp", 1) {
        assert_eq!(refused.failed, refused.operations, "the kernel splits no huge page under a pin");
    }
    for name in [
        "mm-split-one-pin-done",
        "mm-collapse-one-pin-done",
        "mm-unmap-4k-comes-back",
        "mm-dontneed-4k-comes-back",
    ] {
        let judged = judge(&report).into_iter().find(|one| one.goal == name).expect(name);
        assert!(judged.met, "{judged:?}");
    }
    let pins = report.growth("mm-pin", "tailpin");
    assert_eq!(pins.iter().map(|(gib, _)| *gib).collect::<Vec<_>>(), [1, 4]);
}

#[test]
fn futexes_are_measured_beside_parking_lot_core_and_the_kernel() {
    let report = measure(&Effort::tiny(), Some("futex-"), &mut |_, _| {});
    for scenario in ["futex-wake-nobody", "futex-wake-1-of-1-threads", "futex-wake-1-of-1000-threads"] {
        let others: Vec<_> = report.of(scenario, 1).iter().map(|row| row.subject).collect();
        assert!(
            others.contains(&"tailpin") && others.contains(&"parking_lot_core"),
            "{scenario}: {others:?}"
        );
        assert_eq!(others.contains(&"linux-futex"), cfg!(target_os = "linux"), "{scenario}");
    }
    for scenario in ["futex-key-private", "futex-key-hugetlb", "futex-wake-1-of-100000"] {
        assert!(report.row(scenario, "tailpin", 1).is_some(), "{scenario}");
    }
    assert_eq!(report.row("futex-ping-pong", "tailpin", 2).is_some(), report.cores > 1);
}

#[test]
#[cfg(target_os = "linux")]
fn the_arena_is_measured_beside_allocators_bytes_and_copies() {
    let report = measure(&Effort::tiny(), Some("arena-"), &mut |_, _| {});
    let beside = |scenario: &str, threads: usize, others: &[&str]| {
        let subjects: Vec<_> = report.of(scenario, threads).iter().map(|row| row.subject).collect();
        for other in ["tailpin"].iter().chain(others) {
            assert!(subjects.contains(other), "{scenario}, {threads} threads: {subjects:?}");
        }
    };
    let allocators = ["linux-malloc", "mimalloc", "jemalloc"];
    for threads in [1, 2] {
        for (made, remote) in [
            ("arena-alloc-4k", "arena-remote-4k"),
            ("arena-alloc-64k", "arena-remote-64k"),
            ("arena-alloc-256k", "arena-remote-256k"),
            ("arena-alloc-2m", "arena-remote-2m"),
            ("arena-alloc-2m-and-1", "arena-remote-2m-and-1"),
        ] {
            if threads <= report.cores {
                beside(made, threads, &allocators);
            }
            if threads == 2 && report.cores > 1 {
                beside(remote, threads, &allocators);
            }
        }
    }
    for slice in ["arena-slice-200", "arena-slice-4k", "arena-slice-64k-piece", "arena-slice-64k-across"] {
        beside(slice, 1, &["bytes"]);
    }
    beside("arena-clone-drop", 1, &["bytes"]);
    for copies in ["arena-keep-200", "arena-records-1-of-100", "arena-records-1-of-10"] {
        beside(copies, 1, &["linux-malloc"]);
    }
    beside("arena-release-between-pages", 1, &["bare-read"]);
    let small = report.notes.iter().any(|note| note.starts_with("tailpin in arena-scrape-1t: "));
    let told = |goal: &&str| small && *goal == "arena-scrape-1t";
    let silent: Vec<_> = unjudged(&report).into_iter().filter(|goal| goal.starts_with("arena-")).collect();
    let silent: Vec<_> = silent.into_iter().filter(|goal| !told(goal)).collect();
    assert!(report.cores < 2 || silent.is_empty(), "{silent:?}");
}

#[test]
fn a_filter_that_fits_nothing_measures_nothing() {
    let report = measure(&Effort::tiny(), Some("no such scenario"), &mut |_, _| {});
    assert!(report.rows.is_empty() && report.facts.is_empty());
}

#[test]
fn a_whole_run_judges_every_goal() {
    let report = measure(&Effort::tiny(), None, &mut |_, _| {});
    if report.cores < 2 {
        println!("goals of two threads are not looked at: this machine has one core");
    } else {
        // What the kernel does not let us measure is told; nothing else may be missing.
        let refused: Vec<_> = report.notes.iter().filter(|note| note.starts_with("linux-")).collect();
        refused.iter().for_each(|note| println!("skipped: {note}"));
        // Where there is too little address space, that is told too.
        let small = report.notes.iter().any(|note| note.starts_with("tailpin in arena-scrape-1t: "));
        let excused = |goal: &str| {
            !refused.is_empty() && goal.starts_with("mm-")
                || small && goal == "arena-scrape-1t"
                || cfg!(not(target_os = "linux")) && goal.contains("arena-")
                || cfg!(not(target_arch = "x86_64")) && goal.starts_with("lines-arena-")
        };
        let silent: Vec<_> = unjudged(&report).into_iter().filter(|goal| !excused(goal)).collect();
        assert!(silent.is_empty(), "{silent:?}, {:?}", report.notes);
    }
    // What does not depend on how fast the machine is, nor on how small the run is.
    for name in [
        "replay-guest-pins-clean",
        "replay-node-clean",
        "metadata-per-frame-large",
        "metadata-lines-apart",
        "start-leaves-frame-words",
        "start-touches-summary-only",
    ] {
        for one in judge(&report).iter().filter(|one| one.goal == name) {
            assert!(one.met, "{one:?}");
        }
    }
    let text = verdicts(&report, true);
    for goal in judge(&report) {
        assert!(text.contains(goal.goal));
    }
}
