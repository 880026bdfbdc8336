//! `capture`, on the machine that runs the tests: a trace that replays where it is permitted, and
//! what is missing where it isn't.

#![cfg(target_os = "linux")]

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const TAILPIN: &str = env!("CARGO_BIN_EXE_tailpin");

/// Runs `capture` with these arguments; as root where tracefs is not mounted, with a mount that no
/// other process sees.
fn capture(args: &[&str]) -> Output {
    let mounted = Path::new("/sys/kernel/tracing/events").is_dir();
    // SAFETY: takes and changes nothing.
    let is_root = unsafe { libc::geteuid() == 0 };
    let mut command = if is_root && !mounted {
        let mut command = Command::new("unshare");
        let script = "mount -t tracefs nodev /sys/kernel/tracing; exec \"$0\" capture \"$@\"";
        command.args(["-m", "sh", "-c", script, TAILPIN]);
        command
    } else {
        let mut command = Command::new(TAILPIN);
        command.arg("capture");
        command
    };
    command.args(args).output().unwrap()
}

#[test]
fn a_recording_of_this_machine_replays_or_says_what_is_missing() {
    let out = std::env::temp_dir().join(format!("tailpin-capture-{}.pft", std::process::id()));
    let path = out.to_str().unwrap();
    let output = capture(&["--for", "300ms", "--json", path]);
    let said = String::from_utf8(output.stderr).unwrap();
    if output.status.code() == Some(2) {
        assert!(
            ["not mounted", "run as root", "no event", "No such file", "unshare", "Read-only"]
                .iter()
                .any(|reason| said.contains(reason)),
            "{said}"
        );
        assert!(!out.exists(), "nothing is left behind");
        let _ = writeln!(std::io::stderr(), "skipped: a recording of this machine: {said}");
        return;
    }
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let lost = told["lost"].as_u64().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(lost > 0)), "{said}");
    // Running this test alone allocates pages.
    assert!(told["allocs"].as_u64().unwrap() > 0 && told["seconds"].as_f64().unwrap() >= 0.3, "{told:#}");
    let replayed = Command::new(TAILPIN).args(["replay", "--rounds", "1", "--json", path]).output().unwrap();
    std::fs::remove_file(&out).unwrap();
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stderr));
    let replayed: Value = serde_json::from_slice(&replayed.stdout).unwrap();
    assert_eq!((&replayed["violations"], &replayed["leaked_frames"]), (&Value::from(0), &Value::from(0)));
    assert_eq!(replayed["allocs"], told["allocs"]);
}

#[test]
fn a_user_who_may_not_is_told_what_is_missing() {
    // SAFETY: takes and changes nothing.
    if unsafe { libc::geteuid() } != 0 {
        let _ = writeln!(std::io::stderr(), "skipped: only root can become another user");
        return;
    }
    // Where this program lies may not be open to others.
    let copy = std::env::temp_dir().join(format!("tailpin-{}", std::process::id()));
    std::fs::copy(TAILPIN, &copy).unwrap();
    let mut command = Command::new(&copy);
    let out = format!("/tmp/tailpin-none-{}.pft", std::process::id());
    let output = command.args(["capture", &out]).current_dir("/").uid(65_534).gid(65_534).output();
    std::fs::remove_file(&copy).unwrap();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "skipped: another user can't run the command: {error}");
            return;
        }
    };
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("run as root") || said.contains("as root, mount"), "{said}");
    assert!(!Path::new(&out).exists());
}

#[test]
fn what_can_not_be_written_is_said_before_anything_is_recorded() {
    let output = Command::new(TAILPIN).args(["capture", "--for", "1h", "x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output = Command::new(TAILPIN).args(["capture", "/no such folder/x"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("can't be written"), "{said}");
}
