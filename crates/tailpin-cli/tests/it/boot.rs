//! `tailpin boot` over a QEMU that is a script: what counts as a pass, whatever the kernel says.
//! Whether the kernel itself passes is seen by booting it, in `.ci/run`.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const WHOLE: &str = "\
tailpin cpus=2 memory=267902976 scenarios=2
run walks
note  3 faults
pass walks mcycles=70 rounds=3
run rights
pass rights mcycles=13 rounds=5
end passed=2 failed=0
";

/// A folder with a `qemu-system-x86_64` that prints `report` and ends with `status`.
struct FakeQemu(PathBuf);

impl FakeQemu {
    fn new(name: &str, report: &str, then: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tailpin-boot-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let script = folder.join("qemu-system-x86_64");
        let text =
            format!("#!/bin/sh\ncase $1 in --version) exit 0;; esac\ncat <<'END'\n{report}END\n{then}\n");
        // Written by another process: a file that is open for writing here could not be run while a
        // child that another test starts has it, too.
        let mut install = Command::new("install")
            .args(["-m", "755", "/dev/stdin"])
            .arg(script)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        install.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(install.wait().unwrap().success());
        Self(folder)
    }

    fn boot(&self, arguments: &[&str]) -> Output {
        self.boot_image(Path::new("/dev/null"), arguments)
    }

    fn boot_image(&self, image: &Path, arguments: &[&str]) -> Output {
        let path = format!("{}:{}", self.0.display(), std::env::var("PATH").unwrap());
        Command::new(env!("CARGO_BIN_EXE_tailpin"))
            .args(["boot", "--image"])
            .arg(image)
            .args(arguments)
            .env("PATH", path)
            .output()
            .unwrap()
    }
}

impl Drop for FakeQemu {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_line_and_the_status_together_are_a_pass() {
    let output = FakeQemu::new("pass", WHOLE, "exit 33").boot(&["--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = json(&output);
    assert_eq!(said["cpus"], 2);
    assert_eq!(said["scenarios"][1]["name"], "rights");
    assert_eq!(said["scenarios"][1]["passed"], true);
    assert!(said["failed"].is_null() && said["skipped"].is_null());
    assert!(said["elapsed_ms"].is_u64() && said["memory_bytes"] == 267_902_976);
}

#[test]
fn a_report_without_the_status_or_with_a_line_less_is_none() {
    let without_a_pass = WHOLE.replace("pass rights mcycles=13 rounds=5\n", "");
    let without_the_end = WHOLE.replace("end passed=2 failed=0\n", "");
    let one_cpu = WHOLE.replace("cpus=2", "cpus=1");
    let panicked = format!("{WHOLE}panic on CPU 1 at main.rs: no\n");
    let failed = WHOLE.replace("pass rights mcycles=13 rounds=5", "fail rights mcycles=13 rounds=5: stale");
    // A triple fault ends QEMU with 0.
    let cases = [
        ("reset", WHOLE, "exit 0"),
        ("wrong", WHOLE, "exit 3"),
        ("missing", &*without_a_pass, "exit 33"),
        ("endless", &*without_the_end, "exit 33"),
        ("alone", &*one_cpu, "exit 33"),
        ("panicked", &*panicked, "exit 33"),
        ("failed", &*failed, "exit 33"),
        ("mute", "", "exit 33"),
    ];
    for (name, report, then) in cases {
        let output = FakeQemu::new(name, report, then).boot(&["--json"]);
        assert_eq!(output.status.code(), Some(1), "{name}: {output:?}");
        assert!(json(&output)["failed"].is_string(), "{name}");
    }
}

/// That QEMU runs no such image, or has no such machine, is no word of the kernel's.
#[test]
fn what_can_not_be_booted_is_no_failed_scenario() {
    for (name, report) in [("no-image", ""), ("odd-image", "SeaBIOS (version 1.16)\n")] {
        let output = FakeQemu::new(name, report, "exit 1").boot(&[]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{output:?}");
    }
    let output = FakeQemu::new("broke", "tailpin cpus=2 memory=1 scenarios=1\n", "exit 1").boot(&[]);
    assert_eq!(output.status.code(), Some(1), "the kernel has begun: {output:?}");
    let qemu = FakeQemu::new("pipe", WHOLE, "exit 33");
    let pipe = qemu.0.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (image, why) in [(&pipe, "a pipe"), (&qemu.0, "directory")] {
        let output = qemu.boot_image(image, &[]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(why), "{output:?}");
    }
}

#[test]
fn a_machine_that_goes_on_for_ever_is_stopped() {
    let output =
        FakeQemu::new("endless-run", "tailpin cpus=2 memory=1 scenarios=1\nrun walks\n", "exec sleep 600")
            .boot(&["--json", "--timeout", "2"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = json(&output);
    assert_eq!(said["scenarios"][0]["why"], "it took too long");
    assert_eq!(said["scenarios"][0]["passed"], false);
}

#[test]
fn without_qemu_the_reason_is_said_and_nothing_has_failed() {
    for json in [false, true] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tailpin"));
        command.arg("boot").env("PATH", "/nowhere");
        if json {
            command.arg("--json");
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("qemu-system-x86_64 is not installed"));
    }
}

#[test]
fn a_name_that_there_is_not_is_refused_with_those_that_there_are() {
    let list = "scenario walks\nscenario rights\nbreak shootdown walks fails\n";
    let qemu = FakeQemu::new("list", list, "exit 33");
    for arguments in [["--scenario", "wlaks"], ["--break", "walks"]] {
        let output = qemu.boot(&arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("there are:"), "{output:?}");
    }
    let output = qemu.boot(&["--list"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("shootdown"));
}
