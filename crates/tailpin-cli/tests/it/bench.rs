//! `tailpin bench` from outside: exit codes, files, and instructions counted under valgrind.

use std::process::{Command, Output};

use serde_json::Value;

fn bench(args: &[&str], change: impl FnOnce(&mut Command)) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tailpin"));
    command.arg("bench").args(args);
    change(&mut command);
    command.output().unwrap()
}

#[test]
fn nothing_to_measure_is_bad_usage() {
    for args in
        [&["--filter", "no such scenario"][..], &["--once", "pair-o0-fresh", "nobody"], &["--once", "a"]]
    {
        assert_eq!(bench(args, |_| {}).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn text_for_the_page_goes_between_its_marks() {
    let path = std::env::temp_dir().join(format!("tailpin-bench-{}.md", std::process::id()));
    let path = path.to_str().unwrap();
    let args = ["--quick", "--filter", "metadata", "--markdown", path];
    assert_eq!(bench(&args, |_| {}).status.code(), Some(0));
    let part = std::fs::read_to_string(path).unwrap();
    assert!(part.contains("metadata-per-frame") && part.starts_with("<!--"));
    std::fs::write(path, format!("before\n\n{}\nafter\n", part.replace("metadata", "REPLACED"))).unwrap();
    assert_eq!(bench(&args, |_| {}).status.code(), Some(0));
    let page = std::fs::read_to_string(path).unwrap();
    std::fs::remove_file(path).unwrap();
    assert!(page.starts_with("before\n\n<!--") && page.ends_with("-->\n\nafter\n"));
    assert!(page.contains("metadata-per-frame") && !page.contains("REPLACED"));
}

#[test]
fn without_valgrind_the_rows_are_still_there() {
    let args = ["--quick", "--filter", "pageref", "--profile", "--json"];
    let output = bench(&args, |command| {
        command.env("PATH", "");
    });
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("valgrind can't be run"));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(json["rows"].as_array().unwrap().len() > 5 && json["profile"].as_array().unwrap().is_empty());
}

#[test]
fn locked_instructions_are_counted_exactly() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: valgrind is not installed");
        return;
    }
    let output = bench(&["--quick", "--filter", "pageref", "--profile", "--json"], |_| {});
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let profile = json["profile"].as_array().unwrap();
    assert_eq!(profile.len(), 3, "ours, the best peer, the limit: {profile:?}");
    for one in profile {
        let of = |key: &str| one[key].as_f64().unwrap();
        assert!(of("instructions_per_op") > of("locked_per_op"));
        // One to take the reference, one to give it back; nothing else is locked.
        if one["subject"] == "tailpin" || one["subject"] == "arc" || one["subject"] == "bare-fetch-add-sub" {
            assert_eq!(of("locked_per_op"), 2.0, "{one}");
        }
    }
}
