//! What a fresh clone shows: few crates, a first screen in plain words, and
//! commands that say how to build them.

use std::collections::BTreeSet;
use std::process::Command;

const TAILPIN: &str = env!("CARGO_BIN_EXE_tailpin");

/// Crates that the first command may compile, those of this workspace among them.
const MOST_CRATES: usize = 35;

#[test]
fn the_first_command_compiles_few_crates() {
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "-p",
            "tailpin-cli",
            "-e",
            "normal,build",
            "--prefix",
            "none",
            "-f",
            "{p}",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let crates: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(crates.contains("tailpin-replay"), "{tree}");
    assert!(crates.len() <= MOST_CRATES, "{} crates: {crates:?}", crates.len());
}

#[test]
fn a_command_that_is_not_built_says_how_to_build_it() {
    for (command, built) in [("check", cfg!(feature = "check")), ("bench", cfg!(feature = "bench"))] {
        let asked = Command::new(TAILPIN).args([command, "--help"]).output().unwrap();
        let said = String::from_utf8_lossy(&asked.stderr);
        assert_eq!(asked.status.code(), Some(if built { 0 } else { 2 }), "{said}");
        if !built {
            let profile = if command == "bench" { "--profile bench" } else { "--release" };
            let line = format!("cargo run {profile} --features {command} -- {command} --help\n");
            assert!(said.contains(&line), "{said}");
        }
    }
}

#[test]
fn the_first_screen_says_what_was_shown_and_what_comes_next() {
    let run = |by_cargo: bool| {
        let mut command = Command::new(TAILPIN);
        command.env_remove("CARGO_MANIFEST_DIR");
        if by_cargo {
            command.env("CARGO_MANIFEST_DIR", "/");
        }
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let screen = run(true);
    let at = |part: &str| screen.find(part).unwrap_or_else(|| panic!("{part} is not in\n{screen}"));
    assert!(at("What was recorded") < at("Why it matters") && at("Why it matters") < at("splits refused"));
    assert!(at("Next") < at("cargo run --release -- retain"));
    assert!(at("Next") < at("cargo run --release -- replay guest-pins --report replay.html"));
    assert!(screen.lines().all(|line| line.chars().count() <= 100), "{screen}");
    assert!(run(false).contains("  tailpin retain"));
}

#[test]
fn shells_complete_it_and_it_has_manual_pages() {
    let run = |args: &[&str]| {
        let output = Command::new(TAILPIN).args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    for shell in ["bash", "zsh", "fish"] {
        let (code, script) = run(&["completions", shell]);
        assert!(code == Some(0) && script.contains("replay") && script.contains("remove-log"), "{shell}");
    }
    assert_eq!(run(&["completions", "no-such-shell"]).0, Some(2));
    let (code, page) = run(&["man", "replay"]);
    assert!(code == Some(0) && page.contains("tailpin\\-replay") && page.contains("as\\-recorded"), "{page}");
    assert_eq!(run(&["man", "no-such-command"]).0, Some(2));
}
