//! The command `retain` on a small log: its numbers, its files, and who dies of a limit.

#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const MIB: u64 = 1 << 20;

/// A directory for a log that goes with the test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("tailpin-retain-{}-{name}", std::process::id())))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn retain(dir: &Dir, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tailpin"));
    command.arg("retain").arg("--dir").arg(&dir.0).args(args).output().unwrap()
}

fn json(dir: &Dir, args: &[&str]) -> Value {
    let output = retain(dir, &[&["--json"], args].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn row<'v>(outcome: &'v Value, backend: &str) -> &'v Value {
    outcome["rows"].as_array().unwrap().iter().find(|row| row["backend"] == backend).unwrap()
}

fn number(row: &Value, key: &str) -> u64 {
    row[key].as_u64().unwrap_or_else(|| panic!("{key} in {row}"))
}

/// Whether the kernel's count is a cgroup's. By MemAvailable other processes are in it, and nothing
/// can be asserted.
fn counted_alone(outcome: &Value) -> bool {
    let source = outcome["rows"][0]["kernel_bytes_source"].as_str().unwrap();
    if !source.starts_with("cgroup") {
        eprintln!("skipped: the kernel's count comes from {source} here");
    }
    source.starts_with("cgroup")
}

/// A path is bytes, of which not all are text.
#[test]
fn a_folder_whose_name_is_no_text_will_do() {
    use std::os::unix::ffi::OsStringExt;

    let mut name = Dir::new("no-text").0.clone().into_os_string();
    name.push(std::ffi::OsString::from_vec(vec![0xff]));
    let dir = Dir(name.into());
    let outcome = json(&dir, &["--size", "4", "--backend", "copy"]);
    assert_eq!(number(row(&outcome, "copy"), "read_bytes"), 4 * MIB);
    assert!(outcome["log"].as_str().unwrap().contains('\u{fffd}'));
}

#[test]
fn every_back_end_keeps_the_same_records_and_says_what_it_holds() {
    let dir = Dir::new("all");
    let outcome = json(&dir, &["--size", "64"]);
    let rows = outcome["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["backend"].as_str().unwrap()).collect();
    assert_eq!(names, ["bytes", "copy", "pins", "hybrid"]);
    for row in rows {
        assert_eq!(row["outcome"], "finished", "{row}");
        assert_eq!(number(row, "damaged_records"), 0);
        assert_eq!(number(row, "read_bytes"), 64 * MIB);
        assert_eq!(number(row, "kept_bytes"), number(&rows[0], "kept_bytes"));
        assert_eq!(number(row, "kept_bytes"), number(row, "kept_records") * 1024);
        assert!(number(row, "retained_bytes") >= number(row, "kept_bytes"), "{row}");
        assert!(row["elapsed_ms"].as_f64().unwrap() > 0.0);
    }
    // One percent of 65,536, give or take.
    assert!((500..=820).contains(&number(&rows[0], "kept_records")), "{}", rows[0]);
    // Nearly every buffer has a survivor.
    assert!(number(row(&outcome, "bytes"), "retained_bytes") > 60 * MIB);
    assert_eq!(number(row(&outcome, "copy"), "retained_bytes"), number(&rows[0], "kept_bytes"));
}

#[test]
fn the_kernel_holds_a_small_part_for_pins_of_what_it_holds_for_slices() {
    let dir = Dir::new("kernel");
    let outcome = json(&dir, &["--size", "64"]);
    if !counted_alone(&outcome) {
        return;
    }
    let held = |backend| number(row(&outcome, backend), "kernel_bytes");
    assert!(held("bytes") > 60 * MIB, "{outcome:#}");
    // The law says 3.9 % of 64 MiB; at this size the fixed costs show.
    assert!(held("pins") * 8 < held("bytes"), "{outcome:#}");
    assert!(held("copy") < 5 * MIB, "{outcome:#}");
}

#[test]
fn small_records_are_copied_by_the_hybrid_and_large_ones_pinned() {
    let dir = Dir::new("hybrid");
    let small = json(&dir, &["--size", "64", "--record", "256"]);
    let retained = |outcome: &Value, backend| number(row(outcome, backend), "retained_bytes");
    assert_eq!(retained(&small, "hybrid"), retained(&small, "copy"));
    let large = json(&dir, &["--size", "64", "--record", "65536", "--keep", "0.1"]);
    assert_eq!(retained(&large, "hybrid"), retained(&large, "pins"));
}

#[test]
fn records_of_an_odd_size_survive_too() {
    let dir = Dir::new("odd");
    let outcome = json(&dir, &["--size", "16", "--record", "3001", "--keep", "0.2"]);
    for row in outcome["rows"].as_array().unwrap() {
        assert_eq!((row["outcome"].as_str(), number(row, "damaged_records")), (Some("finished"), 0), "{row}");
        assert_eq!(number(row, "read_bytes"), 16 * MIB / 3001 * 3001);
    }
}

#[test]
fn nothing_survives_and_everything_survives() {
    let dir = Dir::new("ends");
    for (keep, kept) in [("0", 0), ("1", 16 * MIB)] {
        let outcome = json(&dir, &["--size", "16", "--keep", keep]);
        for row in outcome["rows"].as_array().unwrap() {
            assert_eq!(number(row, "kept_bytes"), kept, "{row}");
            assert_eq!(row["outcome"], "finished", "{row}");
        }
    }
}

#[test]
fn slices_die_of_the_limit_and_the_others_live() {
    let dir = Dir::new("limit");
    let outcome = json(&dir, &["--size", "128", "--limit", "48"]);
    assert_eq!(number(&outcome, "limit_bytes"), 48 * MIB);
    let dead = row(&outcome, "bytes");
    assert_eq!(dead["outcome"], "out_of_memory", "{dead}");
    assert!(number(dead, "read_bytes") < 128 * MIB, "{dead}");
    assert!(dead["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
    for backend in ["copy", "pins", "hybrid"] {
        assert_eq!(row(&outcome, backend)["outcome"], "finished", "{outcome:#}");
    }
}

#[test]
fn the_log_is_used_again_and_the_files_are_whole() {
    let dir = Dir::new("files");
    let (report, picture) = (dir.file("r.html"), dir.file("p.svg"));
    let files = ["--report", report.to_str().unwrap(), "--picture", picture.to_str().unwrap()];
    let args = [&["--size", "8", "--backend", "copy"], &files[..]].concat();
    let first = retain(&dir, &args);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let text = String::from_utf8(first.stdout).unwrap();
    assert!(text.contains("copy") && !text.contains("pins ") && !text.contains('\x1b'), "{text}");

    let log = dir.file("retain-8192x1024.log");
    let made = std::fs::metadata(&log).unwrap().modified().unwrap();
    assert!(retain(&dir, &args).status.success());
    assert_eq!(std::fs::metadata(&log).unwrap().modified().unwrap(), made);

    let html = std::fs::read_to_string(&report).unwrap();
    assert!(
        html.ends_with("</html>\n") && html.contains("<svg") && html.contains("prefers-color-scheme: dark")
    );
    assert!(
        !html.contains("http://")
            || html.matches("http://").count() == html.matches("http://www.w3.org/").count()
    );
    let svg = std::fs::read_to_string(&picture).unwrap();
    assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
    assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count());
}

#[test]
fn a_log_that_was_tampered_with_is_noticed() {
    let dir = Dir::new("tampered");
    let args = ["--size", "4", "--backend", "copy", "--keep", "1", "--json"];
    assert!(retain(&dir, &args).status.success());
    let log = dir.file("retain-4096x1024.log");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[4096 + 5000] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let output = retain(&dir, &args);
    assert_eq!(output.status.code(), Some(1));
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(row(&outcome, "copy")["damaged_records"], 1);
}

#[test]
fn bad_usage_is_said_and_does_no_work() {
    let dir = Dir::new("usage");
    for args in [
        &["--keep", "1.5"][..],
        &["--keep", "x"],
        &["--record", "8"],
        &["--size", "0"],
        &["--backend", "none"],
        &["--job", "{}"],
    ] {
        let output = retain(&dir, args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty());
    }
    assert!(!Path::new(&dir.0).exists());
    let nowhere = Dir(PathBuf::from("/proc/no/such/place"));
    let output = retain(&nowhere, &["--size", "1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--dir"));
}

#[test]
fn the_log_stays_or_goes_as_is_asked() {
    let dir = Dir::new("log");
    let logs = || {
        let names = std::fs::read_dir(&dir.0).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".log")).count()
    };
    let args = ["--size", "4", "--backend", "copy"];
    let kept = retain(&dir, &args);
    assert!(kept.status.success() && logs() == 1);
    assert!(String::from_utf8_lossy(&kept.stdout).contains("--remove-log removes it"));
    let page = dir.file("table.md");
    let gone = retain(&dir, &[&args[..], &["--remove-log", "--markdown", page.to_str().unwrap()]].concat());
    assert!(gone.status.success() && logs() == 0);
    assert!(!String::from_utf8_lossy(&gone.stdout).contains("log:"));
    assert!(std::fs::read_to_string(page).unwrap().contains("\n| copy | "));
}

#[test]
fn a_cache_in_steady_state_goes_round_in_pieces() {
    let run = |args: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_tailpin")).args(["retain", "--steady"]).args(args).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let outcome: Value = serde_json::from_slice(&run(&["--reads", "8", "--json"])).unwrap();
    let rows = outcome["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 16, "four back ends, two sizes, two shares");
    let cache = number(&outcome, "cache_bytes");
    for row in rows {
        assert_eq!((number(row, "refused"), number(row, "cached_bytes")), (0, cache), "{row}");
        assert!(row["cpu_us_per_read"].as_f64().unwrap() > 0.0 && row["cpu_of_copy"].is_number());
        if row["backend"] == "scattered" {
            // The list of pieces and the like beside it.
            assert!(number(row, "peak_bytes") <= cache + cache / 4 + 2 * MIB, "{row}");
        }
    }
    let text = run(&["--reads", "1", "--way", "copy", "--way", "scattered"]);
    assert!(String::from_utf8(text).unwrap().contains("scattered"));
}
