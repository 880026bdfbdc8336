//! What `tailpin check` prints of a race: short, in words, with all steps where they are asked for.

use std::process::Command;

fn check(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tailpin")).arg("check").args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
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
