//! What `tailpin check` prints of a race: short, in words, with all steps where they are asked for.

use std::process::Command;

fn check(args: &[&str]) -> String {
    let (code, told, complaint) = ended(args);
    assert_eq!(code, Some(0), "{complaint}");
    told
}

/// How the command ended, what it printed, and its complaints.
fn ended(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tailpin")).arg("check").args(args).output().unwrap();
    let [told, complaint] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code(), told, complaint)
}

#[test]
fn a_race_is_told_on_one_screen() {
    let told = check(&["--hazard", "H2"]);
    assert!(told.lines().count() <= 60, "{told}");
    for hazard in ["H2 (classic): ", "H2-stuck (classic): "] {
        assert!(told.contains(hazard), "{told}");
    }
    for part in
        ["At first: ", " believed at ", "True since ", "BROKE: ", "With every step in place, clean: I2"]
    {
        assert!(told.contains(part), "no {part:?} in: {told}");
    }
    // A row of the table fits a terminal, and states are named, not numbered.
    for row in told.lines().filter(|line| line.contains(" | ")) {
        assert!(row.chars().count() <= 80, "{row}");
    }
    assert!(told.contains("page 0 flags: head → head+LOCK"), "{told}");
}

#[test]
fn all_steps_are_there_where_they_are_asked_for() {
    let [told, steps] =
        [&["--hazard", "W1", "--scenario", "I4"][..], &["--hazard", "W1", "--scenario", "I4", "--steps"]]
            .map(check);
    let rows = |text: &str| text.lines().filter(|line| line.contains(" | ")).count();
    assert!(rows(&told) < rows(&steps), "{told}\n{steps}");
    assert!(steps.contains("load page 1: ") && !told.contains("load page 1: "), "{steps}");
}

#[test]
fn a_race_is_a_page_to_step_through() {
    let file = std::env::temp_dir().join(format!("tailpin-race-{}.html", std::process::id()));
    check(&["--hazard", "W1", "--scenario", "I4", "--report", file.to_str().unwrap()]);
    let page = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    for part in
        ["A: get(T), put", "B: split", "class=\"broke\"", "data-word=\"page 0\"", "name=\"next\"", "Broke: "]
    {
        assert!(page.contains(part), "no {part:?}");
    }
    assert!(!page.contains("http"), "it works without a network");
    let rows = |start: &str| page.matches(start).count();
    assert!(
        rows("<li data-step") > rows("<li><b>") + rows("<li class"),
        "all steps are more than those told"
    );
}

#[test]
fn the_page_of_a_run_without_an_end_has_its_first_steps() {
    let file = std::env::temp_dir().join(format!("tailpin-endless-{}.html", std::process::id()));
    check(&["--hazard", "H2-stuck", "--scenario", "I2", "--report", file.to_str().unwrap()]);
    let page = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(page.contains("<summary>The first 400 of ") && page.contains("waits for ever"));
    assert_eq!(page.matches("<li data-step").count(), 400);
}

#[test]
fn an_exploration_goes_on_where_it_stopped() {
    let dir = std::env::temp_dir().join(format!("tailpin-resumed-{}", std::process::id()));
    let run = |time: &str| {
        let args =
            ["--scenario", "lru-isolate", "--protocol", "one-word", "--time", time, "--json", "--resume"];
        let told = check(&[&args[..], &[dir.to_str().unwrap()]].concat());
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let row = &told["results"][0];
        assert!(row["hazard"].is_null());
        (row["executions"].as_u64().unwrap(), row["complete"].as_bool().unwrap())
    };
    let (mut before, mut runs) = (0, 0);
    // With no time at all each run does what lies between two looks at the clock.
    loop {
        let (executions, complete) = run("0");
        runs += 1;
        assert!(executions > before && runs < 100, "{executions} after {before}");
        before = executions;
        if complete {
            break;
        }
    }
    // What is done is not done again, and in one run it is as much.
    assert_eq!(run("60"), (before, true));
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(run("60"), (before, true));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn how_far_each_scenario_was_explored_and_what_it_changed_are_files() {
    let [reach, changes] = ["reach", "changes"]
        .map(|what| std::env::temp_dir().join(format!("tailpin-{what}-{}.json", std::process::id())));
    check(&[
        "--full",
        "--time",
        "20",
        "--protocol",
        "one-word",
        "--scenario",
        "I4",
        "--reach",
        reach.to_str().unwrap(),
        "--changes",
        changes.to_str().unwrap(),
    ]);
    let [reached, changed] = [reach, changes].map(|file| {
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    });
    let rows = reached["scenarios"].as_array().unwrap();
    assert!(rows.len() == 1 && reached["runs"][0]["seconds_each"] == 20, "{reached}");
    assert!(rows[0]["scenario"] == "I4" && rows[0]["found"] == "clean", "{reached}");
    assert!(rows[0]["hazard"].is_null() && rows[0]["run"] == 0, "{reached}");
    let bounds = rows[0]["bounds"].as_array().unwrap();
    for (bound, preemptions) in bounds.iter().zip([1, 2]) {
        assert!(bound["preemption_bound"] == preemptions && bound["complete"] == true, "{reached}");
    }
    assert!(bounds.len() > 1, "{reached}");
    let changed = changed.as_array().unwrap();
    assert!(changed.len() > 20, "{changed:?}");
    assert!(changed.iter().all(|change| change["line"].as_u64().unwrap() > 0), "{changed:?}");
}

#[test]
fn a_table_of_reach_keeps_what_it_says_of_others() {
    let file = std::env::temp_dir().join(format!("tailpin-kept-{}.json", std::process::id()));
    let path = file.to_str().unwrap();
    let run = |scenario: &str, time: &str| {
        check(&["--protocol", "one-word", "--time", time, "--scenario", scenario, "--reach", path]);
        serde_json::from_str::<serde_json::Value>(&std::fs::read_to_string(&file).unwrap()).unwrap()
    };
    let names = |table: &serde_json::Value| {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
        let rows = table["scenarios"].as_array().unwrap().iter();
        let names =
            rows.map(|row| (text(&row["scenario"]), text(&row["hazard"]), row["run"].as_u64().unwrap()));
        names.collect::<Vec<_>>()
    };
    let of = |rows: &[(&str, &str, u64)]| -> Vec<_> {
        rows.iter().map(|(name, hazard, run)| (name.to_string(), hazard.to_string(), *run)).collect()
    };
    assert_eq!(names(&run("I10", "20")), of(&[("I10", "-", 0)]));
    // A step that is left out has a line, and lines are in the order of the scenarios.
    let table = run("lru-isolate", "21");
    assert_eq!(names(&table), of(&[("I10", "-", 0), ("lru-isolate", "-", 1), ("lru-isolate", "H28", 1)]));
    let table = run("I10", "22");
    assert_eq!(names(&table), of(&[("I10", "-", 1), ("lru-isolate", "-", 0), ("lru-isolate", "H28", 0)]));
    assert!(table["runs"][0]["seconds_each"] == 21 && table["runs"][1]["seconds_each"] == 22, "{table}");
    assert_eq!(table["runs"].as_array().unwrap().len(), 2, "a run without a line is not named");

    std::fs::write(&file, "something else").unwrap();
    let (code, _, told) = ended(&["--scenario", "I10", "--reach", path]);
    assert!(code == Some(2) && told.contains("no table that --reach has written"), "{told}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "something else");
    std::fs::remove_file(&file).unwrap();
}
