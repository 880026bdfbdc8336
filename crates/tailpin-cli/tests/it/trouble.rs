//! Every command where the machine says no: output that can't be written, and limits of the
//! process. What comes is an exit code with a cause, and soon; never a signal, a panic or silence.

#![cfg(target_os = "linux")]

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::replay::support::Writer;

const TAILPIN: &str = env!("CARGO_BIN_EXE_tailpin");

/// A few short runs, one of each command that is in this build.
fn commands() -> Vec<(&'static str, String)> {
    let dir = std::env::temp_dir().join(format!("tailpin-trouble-{}", std::process::id()));
    let mut commands = vec![
        ("replay", format!("{TAILPIN} replay guest-pins --rounds 1")),
        ("retain", format!("{TAILPIN} retain --size 4 --backend copy --dir {}", dir.display())),
        ("doctor", format!("{TAILPIN} doctor")),
    ];
    if cfg!(feature = "check") {
        // Both protocols, clean and with a safeguard left out, in a few hundred executions.
        commands.push(("check", format!("{TAILPIN} check --scenario I16-page")));
    }
    if cfg!(feature = "bench") {
        commands.push(("bench", format!("{TAILPIN} bench --quick --filter metadata")));
    }
    commands
}

/// Whether the command that a line begins with is in this build.
fn is_here(line: &str) -> bool {
    let left_out = |command| line == command || line.starts_with(&format!("{command} "));
    (cfg!(feature = "check") || !left_out("check")) && (cfg!(feature = "bench") || !left_out("bench"))
}

/// Runs a line of shell, which must end on its own account, and soon.
fn shell(line: &str) -> Output {
    let began = Instant::now();
    let output = Command::new("timeout").args(["-k", "1", "120", "bash", "-c", line]).output().unwrap();
    assert!(began.elapsed() < Duration::from_secs(120), "{line}: hangs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked"), "{line}: {said}");
    let code = output.status.code().unwrap_or_else(|| panic!("{line}: signal {:?}", output.status.signal()));
    assert!(code < 100, "{line}: exit code {code}: {said}");
    output
}

#[test]
fn a_full_disk_is_no_success() {
    for (name, command) in commands() {
        for json in ["", " --json"] {
            let output = shell(&format!("{command}{json} > /dev/full"));
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{name}{json}: {said}");
            assert!(said.contains("standard output can't be written: No space left"), "{name}{json}: {said}");
        }
    }
    for asked in
        ["--help", "--version", "replay --help", "check --list"].into_iter().filter(|asked| is_here(asked))
    {
        assert_eq!(shell(&format!("{TAILPIN} {asked} > /dev/full")).status.code(), Some(2), "{asked}");
    }
}

#[test]
fn a_reader_that_has_gone_away_is_no_failure() {
    for (name, command) in commands() {
        let output = shell(&format!("set -o pipefail; {command} --json | true"));
        assert_eq!(output.status.code(), Some(0), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let output = shell(&format!("set -o pipefail; {command} | head -1"));
        assert_eq!(output.status.code(), Some(0), "{name}");
    }
    assert_eq!(shell(&format!("set -o pipefail; {TAILPIN} --help | true")).status.code(), Some(0));
}

#[test]
fn closed_or_full_standard_streams_change_no_verdict() {
    for (name, command) in commands() {
        for closed in [">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"] {
            assert_eq!(shell(&format!("{command} {closed}")).status.code(), Some(0), "{name} {closed}");
        }
    }
    for wrong in
        ["replay no-such-trace", "check --scenario no-such-name", "bench --filter no-such-row", "replya"]
    {
        for closed in ["2>&-", "2>/dev/full"] {
            assert_eq!(
                shell(&format!("{TAILPIN} {wrong} {closed}")).status.code(),
                Some(2),
                "{wrong} {closed}"
            );
        }
    }
}

#[test]
fn files_that_cannot_be_written_are_refused_before_the_work() {
    let nowhere = "/no/such/folder/file";
    for (line, what) in [
        // Each would take minutes.
        ("replay guest-pins --rounds 60000 --report", "report"),
        ("bench --report", "report"),
        ("bench --markdown", "markdown"),
        ("retain --size 1000000 --report", "report"),
        ("retain --size 1000000 --picture", "picture"),
    ]
    .into_iter()
    .filter(|(line, _)| is_here(line))
    {
        for path in [nowhere, "/"] {
            let began = Instant::now();
            let output = shell(&format!("{TAILPIN} {line} {path}"));
            assert_eq!(output.status.code(), Some(2), "{what}");
            assert!(String::from_utf8_lossy(&output.stderr).contains("can't be written"), "{what}");
            assert!(output.stdout.is_empty() && began.elapsed() < Duration::from_secs(20), "{what}");
        }
    }
}

#[test]
fn a_file_of_a_run_takes_the_place_of_no_other() {
    let dir = std::env::temp_dir().join(format!("tailpin-place-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let trace = dir.join("trace");
    std::fs::write(&trace, Writer::new(0).alloc(0, 0).free(0, 0).raw()).unwrap();
    let before = std::fs::read(&trace).unwrap();
    for line in [
        "replay trace --report trace",
        "replay node ./trace --markdown ../$(basename $PWD)/trace",
        "replay trace --report page --markdown page",
        "retain --size 1 --report page --picture page",
    ] {
        let output = shell(&format!("cd {}; {TAILPIN} {line}", dir.display()));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {said}");
        assert!(said.contains("can't be written") && output.stdout.is_empty(), "{line}: {said}");
        assert_eq!(std::fs::read(&trace).unwrap(), before, "{line}");
        assert!(!dir.join("page").exists());
    }
    // A trace of that name is another thing than the one that is built in.
    let output = shell(&format!("cd {}; {TAILPIN} replay node --rounds 1 --report node", dir.display()));
    assert_eq!(output.status.code(), Some(0));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn what_no_command_can_mean_is_refused() {
    let dir = std::env::temp_dir().join(format!("tailpin-no-meaning-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (dir_text, pipe) = (dir.display(), dir.join("pipe"));
    assert!(shell(&format!("mkfifo {}", pipe.display())).status.success());
    let cached = |piece, admitted, reads| {
        format!(r#"{{"way":"copy","piece":{piece},"admitted":{admitted},"reads":{reads}}}"#)
    };
    let kept = |record, records: u64, keep| {
        format!(
            r#"{{"backend":"copy","log":[47],"record":{record},"records":{records},"keep":{keep},"slack":0}}"#
        )
    };
    let lines = [
        "holders --older-than nan".to_owned(),
        "holders --older-than inf".into(),
        "holders --older-than 1e999".into(),
        "holders --older-than=-1".into(),
        "holders --older-than ''".into(),
        // There is no writer.
        format!("top {dir_text}/pipe"),
        format!("map --json {dir_text}"),
        "holders ''".into(),
        format!("retain --steady-job '{}'", cached("0", "0.05", "1")),
        format!("retain --steady-job '{}'", cached("4096", "0", "1")),
        format!("retain --steady-job '{}'", cached("5000", "0.5", "1")),
        format!("retain --steady-job '{}'", cached("4096", "0.5", "18446744073709551615")),
        format!("retain --job '{}'", kept("0", 1, "0.5")),
        format!("retain --job '{}'", kept("4096", u64::MAX, "0.5")),
        format!("retain --job '{}'", kept("4096", 1, "-1")),
    ];
    for line in lines {
        let output = shell(&format!("{TAILPIN} {line}"));
        assert_eq!(output.status.code(), Some(2), "{line}: {output:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{line}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[cfg(feature = "bench")]
#[test]
fn what_a_page_said_before_is_not_lost() {
    let page = std::env::temp_dir().join(format!("tailpin-page-{}.md", std::process::id()));
    let bench = format!("{TAILPIN} bench --quick --filter metadata --markdown {}", page.display());
    // Not text: what it says can't be kept.
    std::fs::write(&page, b"\xff\xfe").unwrap();
    assert_eq!(shell(&bench).status.code(), Some(2));
    assert_eq!(std::fs::read(&page).unwrap(), b"\xff\xfe");
    // No room for the new text.
    let old = "before\n".repeat(200);
    std::fs::write(&page, &old).unwrap();
    let output = shell(&format!("ulimit -f 1; {bench}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("File too large"), "{said}");
    assert_eq!(std::fs::read_to_string(&page).unwrap(), old);
    std::fs::remove_file(&page).unwrap();
    // Devices and pipes are written as they are, and not read, which may have no end.
    for (device, code) in [("/dev/full", 2), ("/dev/zero", 0)] {
        let bench = format!("{TAILPIN} bench --quick --filter metadata --markdown {device}");
        let output = shell(&format!("ulimit -v 4000000; {bench}"));
        assert_eq!(output.status.code(), Some(code), "{device}: {output:?}");
    }
    let output = shell(&format!("{TAILPIN} replay guest-pins --rounds 1 --report /dev/full"));
    assert_eq!(output.status.code(), Some(2));
    let output =
        shell(&format!("{TAILPIN} replay guest-pins --rounds 1 --report /dev/stdout | grep -c '<svg'"));
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn limits_of_the_process_end_in_an_exit_code() {
    let limits =
        ["-v 150000", "-v 300000", "-v 1000000", "-d 20000", "-d 60000", "-f 0", "-n 4", "-n 6", "-l 0"];
    let run = |(name, command): (&str, String)| {
        for limit in limits {
            let output = shell(&format!("ulimit {limit}; {command}"));
            let said = String::from_utf8_lossy(&output.stderr);
            let code = output.status.code();
            assert!(
                code == Some(0) || !said.is_empty() || !output.stdout.is_empty(),
                "{name} {limit}: {code:?}"
            );
        }
    };
    // The commands side by side: they share nothing, and most of a run is waiting to be scheduled.
    std::thread::scope(|scope| {
        for command in commands() {
            scope.spawn(move || run(command));
        }
    });
}

/// What a frame asks the decoder to keep says nothing of how much there is.
#[test]
fn a_small_trace_with_a_long_window_needs_little_memory() {
    let raw = Writer::new(0).alloc(0, 9).free(0, 9).raw();
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(31).unwrap();
    encoder.include_contentsize(false).unwrap();
    // A stream: its end is not known at its beginning.
    raw.chunks(50).for_each(|part| encoder.write_all(part).unwrap());
    let path = std::env::temp_dir().join(format!("tailpin-long-{}.zst", std::process::id()));
    std::fs::write(&path, encoder.finish().unwrap()).unwrap();
    let output = shell(&format!("ulimit -v 1000000; {TAILPIN} replay --rounds 1 {}", path.display()));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    std::fs::remove_file(&path).unwrap();
}

#[cfg(feature = "bench")]
#[test]
fn a_bench_without_address_space_names_the_cause() {
    // Each maps more than these limits allow.
    for filter in ["pair-o0-fresh", "churn-90", "bursts", "bulk"] {
        for limit in ["-v 300000", "-v 1000000", "-d 60000"] {
            let output = shell(&format!("ulimit {limit}; {TAILPIN} bench --quick --filter {filter}"));
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{filter} {limit}: {said}");
            assert!(said.contains("no address space"), "{filter} {limit}: {said}");
        }
    }
}

#[test]
fn threads_that_cannot_be_started_are_told_of() {
    // The limit counts threads of the user, and does not hold for one with privileges.
    let as_user = "setpriv --reuid 61234 --clear-groups";
    for (name, command, most, code) in [
        ("replay", "replay guest-pins --rounds 1 --threads 8", 2, 2),
        ("check", "check --scenario crowd-4 --time 1", 2, 1),
        ("bench", "bench --quick --filter pair-o0-fresh", 1, 2),
        ("doctor", "doctor", 2, 0),
    ]
    .into_iter()
    .filter(|(_, command, ..)| is_here(command))
    {
        let line = format!("{as_user} bash -c 'ulimit -u {most}; exec {TAILPIN} {command}'");
        let output = shell(&line);
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("setpriv") || said.contains("ermission denied") {
            println!("skipped: {said}");
            return;
        }
        assert_eq!(output.status.code(), Some(code), "{name}: {said}");
        let all = format!("{said}{}", String::from_utf8_lossy(&output.stdout));
        assert!(code == 0 || all.contains("be started"), "{name}: {all}");
    }
}

#[cfg(feature = "check")]
#[test]
fn what_was_not_run_is_not_clean() {
    let output = shell(&format!("{TAILPIN} check --scenario crowd-4 --time 0"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("NOT RUN (0 executions") && !said.contains("clean"), "{said}");

    let output = shell(&format!("{TAILPIN} check --scenario crowd-4 --time 0 --json"));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let rows = report["results"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["found"] == "not_run" && row["executions"] == 0));
    assert_eq!((&report["failed"], &report["not_run"]), (&rows.len().into(), &rows.len().into()));

    for nothing in [
        "retain --size 0",
        "replay --rounds 0",
        "replay --threads 0",
        "replay --zone-mib 0",
        "check --scenario ''",
        "bench --filter no-such-row",
        "retain --record 0",
        "retain --record 15",
        "retain --keep nan",
        "retain --keep inf",
        "retain --keep -0.1",
        "retain --keep 1.1",
        "retain --keep ''",
        "retain --size 18446744073709551615",
        "replay --zone-mib 18446744073709551615",
        "replay --threads 18446744073709551615",
        "replay --rounds 18446744073709551616",
        "replay --limit-mib 18446744073709551615",
        "check --time -1",
        "check --time 18446744073709551616",
        "retain --limit 0",
        "check --hazard no-such-hazard",
        "check --list --json",
    ] {
        let output = shell(&format!("{TAILPIN} {nothing}"));
        assert_eq!(output.status.code(), Some(2), "{nothing}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{nothing}");
    }
    let output = shell(&format!("{TAILPIN} check --scenario I4 --time 18446744073709551615"));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn an_empty_replay_is_refused() {
    let output = piped(&["replay", "-"], &Writer::new(1).file());
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no records"));
}

fn piped(args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(TAILPIN)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Input that is refused early is not read to its end.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[test]
fn traces_come_in_every_way() {
    let mut writer = Writer::new(0);
    // Each huge page is split, and one page of it stays: the zone has to be larger than what is
    // live.
    for huge in 0..400 {
        writer.alloc(huge * 512, 9).split(huge * 512, 9, 0).free_pages(huge * 512 + 1..huge * 512 + 512);
    }
    let path = std::env::temp_dir().join(format!("tailpin-ways-{}.pft", std::process::id()));
    std::fs::write(&path, writer.raw()).unwrap();
    let path_text = path.to_str().unwrap();
    for output in [
        piped(&["replay", "-", "--json", "--rounds", "1"], &writer.file()),
        piped(&["replay", "/dev/stdin", "--json", "--rounds", "1"], &writer.raw()),
        piped(&["replay", path_text, "--json", "--rounds", "2"], b""),
        piped(&["replay", path_text, "--json", "--threads", "2", "--protocol", "classic"], b""),
    ] {
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let run: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&run["failed_allocs"], &run["violations"]), (&0.into(), &0.into()));
        assert_eq!(run["allocs"], 400 * run["threads"].as_u64().unwrap());
    }
    std::fs::remove_file(&path).unwrap();
}
