//! The command itself: exit codes, JSON, and what it says about broken input.

#[path = "../../../tailpin-replay/tests/support/mod.rs"]
pub(crate) mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use support::{Dice, Writer};

/// A file that is gone when the test is.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("tailpin-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn tailpin(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tailpin")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Replays one trace and expects this exit code.
fn replay(path: &Path, args: &[&str], code: i32) -> Value {
    let path = path.to_str().unwrap();
    let output = tailpin(&[&["replay", path, "--json", "--rounds", "1"], args].concat());
    assert_eq!(
        output.status.code(),
        Some(code),
        "{args:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

const ALL: [&[&str]; 4] = [
    &["--protocol", "one-word", "--threads", "1"],
    &["--protocol", "one-word", "--threads", "2"],
    &["--protocol", "classic", "--threads", "1"],
    &["--protocol", "classic", "--threads", "2"],
];

fn clean(run: &Value) {
    for key in ["violations", "leaked_frames", "skipped", "failed_allocs"] {
        assert_eq!(run[key], 0, "{key}: {run:#}");
    }
}

#[test]
fn builtins_replay_clean_on_both_protocols() {
    for args in ALL {
        let threads: u64 = args[3].parse().unwrap();
        let run = replay(Path::new("guest-pins"), args, 0);
        clean(&run);
        assert_eq!(run["trace"], "guest-pins");
        assert_eq!(run["protocol"], args[1]);
        assert_eq!(run["threads"], threads);
        let counts = [
            ("events", 717_323),
            ("allocs", 287_037),
            ("frees", 385_637),
            ("splits", 193),
            ("splits_under_pins", 53),
            ("pins", 22_228),
            ("unpins", 22_228),
            ("live_frames_at_end", 65),
        ];
        for (key, count) in counts {
            assert_eq!(run[key], count * threads, "{key}");
        }
        assert_eq!(run["linux_thp_split_page_failed"], 113);
        assert_eq!(run["linux_split_later_ns"], 124_952_077_150_u64);
        if args[1] == "one-word" {
            assert!(run["metadata_bytes_per_frame"].as_f64().unwrap() <= 8.5);
        }
        if threads == 1 {
            assert_eq!(run["peak_used_frames"], 42_773);
        }
        let node = replay(Path::new("node"), args, 0);
        clean(&node);
        assert_eq!(node["live_frames_at_end"], 17_216 * threads);
        assert_eq!(node["linux_thp_split_page_failed"], Value::Null);
    }
}

#[test]
fn json_has_every_key() {
    let run = replay(Path::new("node"), &[], 0);
    let keys = "trace protocol threads rounds events allocs frees splits splits_under_pins pins unpins collapses merges \
                refused_by_linux freed_at_once_frames linux_split_later_ns linux_thp_split_page_failed skipped \
                failed_allocs violations findings leaked_frames live_frames_at_end trace_live_frames_at_end \
                elapsed_ns events_per_s metadata_bytes_per_frame linux_metadata_bytes_per_frame peak_used_frames \
                huge_free_at_peak zone_frames";
    let object = run.as_object().unwrap();
    for key in keys.split_whitespace() {
        assert!(object.contains_key(key), "{key}");
    }
    assert_eq!(object.len(), keys.split_whitespace().count());
    assert_eq!(run["linux_metadata_bytes_per_frame"], 64);
}

#[test]
fn of_several_rounds_the_fastest_is_reported() {
    let output = tailpin(&["replay", "node", "--json", "--rounds", "2"]);
    let run: Value = serde_json::from_slice(&output.stdout).unwrap();
    clean(&run);
    assert_eq!((&run["rounds"], &run["events"]), (&2.into(), &204_045.into()));
}

#[test]
fn several_traces_are_one_object() {
    let output = tailpin(&["replay", "node", "guest-pins", "--json", "--rounds", "1"]);
    assert_eq!(output.status.code(), Some(0));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["runs"][0]["trace"], "node");
    assert_eq!(object["runs"][1]["trace"], "guest-pins");
}

#[test]
fn without_arguments_a_table_of_a_builtin() {
    let output = tailpin(&[]);
    assert_eq!(output.status.code(), Some(0));
    let table = text(&output.stdout);
    for part in ["guest-pins, one-word protocol", "64 B", "113", "clean: 0 violations"] {
        assert!(table.contains(part), "{part} is not in\n{table}");
    }
    assert!(!table.contains('\x1b'), "no colours away from a terminal");
    assert!(output.stderr.is_empty(), "no progress bar away from a terminal");
}

#[test]
fn as_recorded_no_split_has_a_pin_beside_it() {
    let run = replay(Path::new("guest-pins"), &["--as-recorded"], 0);
    assert_eq!((&run["splits"], &run["splits_under_pins"]), (&193.into(), &0.into()));
    assert_eq!(run["linux_split_later_ns"], 0);
}

#[test]
fn refused_splits_are_done() {
    let mut writer = Writer::new(4096);
    writer.text.push_str("vmstat thp_split_page_failed 2\n");
    // Two refused under pins, one of them twice; in the second a page is pinned again later.
    writer.alloc(512, 9).pin(600, 1).pin(601, 3).split_fail(512, 9).split_fail(512, 9);
    writer.alloc(1024, 9).pin(1100, 1).split_fail(1024, 9).pin(1200, 2).unpin(1100, 1).unpin(1200, 2);
    writer.unpin(600, 1).split(512, 9, 0).free_pages(512..600).free(1024, 9);
    let file = Scratch::new("refused", &writer.file());
    for args in ALL {
        let threads: u64 = args[3].parse().unwrap();
        let run = replay(&file.0, args, 0);
        clean(&run);
        assert_eq!(run["refused_by_linux"], 3 * threads);
        assert_eq!(run["freed_at_once_frames"], (510 + 510) * threads);
        assert_eq!(run["splits_under_pins"], 2 * threads);
        assert_eq!(run["linux_thp_split_page_failed"], 2);
        // Of all that the trace still has, only page 601 is in use: it alone is pinned.
        assert_eq!(run["live_frames_at_end"], threads);
        assert_eq!(run["trace_live_frames_at_end"], 424 * threads);
    }
}

#[test]
fn splits_happen_under_the_pins_they_waited_for() {
    let mut writer = Writer::new(4096);
    writer.alloc(512, 9).pin(600, 1).pin(700, 1).unpin(700, 1).unpin(600, 1).time().split(512, 9, 3);
    writer.alloc(1024, 9).pin(1024, 7).split(1024, 9, 0).unpin(1024, 7).free_pages(1024..1536);
    writer.alloc(1536, 9).split(1536, 9, 0);
    let file = Scratch::new("early", &writer.file());
    for args in ALL {
        let threads: u64 = args[3].parse().unwrap();
        let run = replay(&file.0, args, 0);
        clean(&run);
        assert_eq!(
            (&run["splits"], &run["splits_under_pins"]),
            (&(3 * threads).into(), &(2 * threads).into())
        );
        assert_eq!(run["linux_split_later_ns"], 2000);
        assert_eq!(run["live_frames_at_end"], 1024 * threads);
    }
}

#[test]
fn one_word_merges_in_place_and_classic_does_not() {
    let mut writer = Writer::new(4096);
    writer.alloc(512, 9).split(512, 9, 0).pin(530, 1).collapse(700).pin(531, 1).unpin(530, 1);
    writer.free_pages(512..530).collapse(700).unpin(531, 1);
    let file = Scratch::new("merge", &writer.file());
    for args in ALL {
        let threads: u64 = args[3].parse().unwrap();
        let run = replay(&file.0, args, 0);
        clean(&run);
        let merges = if args[1] == "one-word" { threads } else { 0 };
        assert_eq!((&run["merges"], &run["collapses"]), (&merges.into(), &(2 * threads).into()));
    }
}

#[test]
fn too_small_a_zone_fails_but_loses_nothing() {
    for protocol in ["one-word", "classic"] {
        for threads in ["1", "4"] {
            let args = ["--protocol", protocol, "--threads", threads, "--zone-mib", "100"];
            let run = replay(Path::new("guest-pins"), &args, 1);
            assert!(run["failed_allocs"].as_u64().unwrap() > 0);
            assert_eq!((&run["violations"], &run["leaked_frames"]), (&0.into(), &0.into()), "{run:#}");
        }
    }
}

#[test]
fn random_traces_replay_clean() {
    for seed in 1..12 {
        let file = Scratch::new(&format!("random-{seed}"), &support::random_trace(&mut Dice(seed)).file());
        for args in ALL {
            clean(&replay(&file.0, args, 0));
        }
    }
}

#[test]
fn broken_input_ends_with_2_and_says_where() {
    let complaint = |name: &str, bytes: &[u8]| {
        let file = Scratch::new(name, bytes);
        let output = tailpin(&["replay", "--json", file.0.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(output.stdout.is_empty(), "{name}");
        text(&output.stderr)
    };
    let mut writer = Writer::new(4096);
    writer.alloc(512, 9).free(512, 9);
    let whole = writer.file();
    assert!(complaint("empty", b"").contains("empty"));
    assert!(complaint("foreign", b"#!/bin/sh\necho hello\n").contains("not compressed with zstd"));
    assert!(complaint("cut", &whole[..whole.len() - 9]).contains("damaged"));
    assert!(complaint("short", &support::compress(&writer.raw()[..110])).contains("record 1 of 2"));
    // The highest frame of the header is a hint.
    let mut hint = writer.raw();
    hint[24..26].copy_from_slice(&[7, 0]);
    clean(&replay(&Scratch::new("hint", &hint).0, &[], 0));
    let mut unaligned = Writer::new(4096);
    unaligned.alloc(513, 9);
    assert!(complaint("unaligned", &unaligned.file()).contains("record 0 of 1"));
    writer.free(512, 9);
    assert!(complaint("twice", &writer.file()).contains("record 2 of 3: FREE of frame 0x200"));
    let mut huge = Writer::new(1 << 32);
    huge.alloc(0, 18).alloc(1 << 18, 18).alloc(2 << 18, 18);
    let file = Scratch::new("huge", &huge.file());
    let output = tailpin(&["replay", file.0.to_str().unwrap(), "--threads", "256"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("is the most"));
}

#[test]
fn bad_usage_ends_with_2() {
    for args in [
        &["replay", "no-such-trace"][..],
        &["replay", "/"],
        &["replay", "--protocol", "two-word"],
        &["replay", "--threads", "0"],
        &["replay", "--threads", "257"],
        &["replay", "--threads", "many"],
        &["replay", "--limit-mib", "1", "/dev/zero"],
        &["replya"],
        &["--json"],
    ] {
        let output = tailpin(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty());
    }
    assert!(text(&tailpin(&["replay", "no-such-trace"]).stderr).contains("guest-pins, node"));
}

#[test]
fn one_unreadable_trace_does_not_hide_the_others() {
    let output = tailpin(&["replay", "no-such-trace", "node", "--json", "--rounds", "1"]);
    assert_eq!(output.status.code(), Some(2));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["runs"].as_array().unwrap().len(), 1);
}

#[test]
fn help_has_examples() {
    let output = tailpin(&["replay", "--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    assert!(help.contains("tailpin replay node --threads 4") && help.contains("--as-recorded"));
}

#[test]
fn the_report_is_one_page() {
    let page = Scratch::new("report.html", b"");
    let output =
        tailpin(&["replay", "guest-pins", "node", "--rounds", "1", "--report", page.0.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    let html = std::fs::read_to_string(&page.0).unwrap();
    assert_eq!(html.matches("<h2>").count(), 2);
    assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
    assert!(html.matches("<svg").count() >= 4 && html.contains("prefers-color-scheme: dark"));
    assert!(!html.contains("http"), "nothing is fetched from anywhere");
    let nowhere = tailpin(&["replay", "node", "--report", "/no/such/folder/report.html"]);
    assert_eq!(nowhere.status.code(), Some(2));
}
