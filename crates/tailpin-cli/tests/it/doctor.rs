//! The command `doctor` on the machine that runs the tests, whatever it allows.

#![cfg(target_os = "linux")]

use std::process::Command;

use serde_json::Value;

fn doctor(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tailpin")).arg("doctor").args(args).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

const NAMES: [&str; 21] = [
    "page_size",
    "kernel",
    "thp_enabled",
    "thp_defrag",
    "khugepaged_max_ptes_none",
    "thp_shmem",
    "thp_counters",
    "hugetlb_2mib",
    "hugetlb_1gib",
    "memlock",
    "max_map_count",
    "overcommit",
    "cgroup_memory",
    "cgroup_own",
    "memory",
    "process_madvise",
    "madvise_collapse",
    "memfd",
    "pagemap",
    "io_uring",
    "rseq",
];

#[test]
fn every_check_has_a_status_a_value_and_a_remedy_where_one_is_due() {
    let (code, text) = doctor(&["--json"]);
    let diagnosis: Value = serde_json::from_str(&text).unwrap();
    let checks = diagnosis["checks"].as_array().unwrap();
    let names: Vec<_> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(names, NAMES);
    for check in checks {
        assert!(!check["value"].as_str().unwrap().is_empty(), "{check}");
        match check["status"].as_str().unwrap() {
            "ok" => assert!(check["advice"].is_null(), "{check}"),
            "hint" | "fail" | "unknown" => {
                let advice = check["advice"].as_str().unwrap();
                assert!(!advice.is_empty() && !advice.contains('\n'), "{check}");
            }
            other => panic!("{other} is no status"),
        }
    }
    let fails = checks.iter().any(|check| check["status"] == "fail");
    assert_eq!(code, Some(i32::from(fails)));
}

#[test]
fn what_a_file_says_is_what_is_shown() {
    let (_, text) = doctor(&["--json"]);
    let diagnosis: Value = serde_json::from_str(&text).unwrap();
    let value = |name: &str| {
        let check = diagnosis["checks"].as_array().unwrap().iter().find(|check| check["name"] == name);
        check.unwrap()["value"].as_str().unwrap().to_owned()
    };
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    assert_eq!(value("kernel"), read("/proc/sys/kernel/osrelease"));
    assert!(value("max_map_count").starts_with(&read("/proc/sys/vm/max_map_count")));
    let enabled = read("/sys/kernel/mm/transparent_hugepage/enabled");
    if enabled.is_empty() {
        eprintln!("skipped: this kernel shows no transparent huge pages");
    } else {
        let chosen = value("thp_enabled");
        let chosen = chosen.split(':').next().unwrap();
        assert!(enabled.contains(&format!("[{chosen}]")), "{enabled} against {chosen}");
    }
}

#[test]
fn a_limit_on_address_space_that_leaves_no_room_is_a_failure() {
    // 4 MiB can't be mapped any more once the program itself is loaded, so the exit code must say
    // so.
    let path = env!("CARGO_BIN_EXE_tailpin");
    let mut seen = false;
    // How much the program itself needs differs from build to build.
    for kib in (6_000..80_000).step_by(500) {
        let output = Command::new("sh")
            .args(["-c", &format!("ulimit -v {kib} && exec {path} doctor --json")])
            .output()
            .unwrap();
        let Ok(diagnosis) = serde_json::from_slice::<Value>(&output.stdout) else { continue };
        let checks = diagnosis["checks"].as_array().unwrap();
        let memory = checks.iter().find(|check| check["name"] == "memory").unwrap();
        if memory["status"] == "fail" {
            assert_eq!(output.status.code(), Some(1));
            assert!(memory["advice"].as_str().unwrap().contains("ulimit"));
            seen = true;
        }
        break;
    }
    assert!(seen, "no limit left room for the program and none for 4 MiB");
}

#[test]
fn the_table_is_plain_in_a_pipe() {
    let (code, text) = doctor(&[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(NAMES.iter().all(|name| text.contains(name)), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
    assert!(text.contains("the library runs here"), "{text}");
}

#[test]
fn an_unknown_option_is_bad_usage() {
    assert_eq!(doctor(&["--no-such"]).0, Some(2));
}
