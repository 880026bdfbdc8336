//! Arms of a demo: the same work done in one way or another, each in a process of its own, so that
//! one leaves nothing behind for the next.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The arm that this process is to run; `None` in the process that starts them.
pub fn arm() -> Option<String> {
    env::var("DEMO_ARM").ok()
}

/// This program once more, to run one arm.
pub fn again(arm: &str) -> std::io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.env("DEMO_ARM", arm);
    Ok(command)
}

/// Runs an arm, which prints numbers: those of its last line, for each of `times` runs.
pub fn numbers(arm: &str, times: usize, set: &[(&str, &str)]) -> Result<Vec<Vec<f64>>, Box<dyn Error>> {
    numbers_of(&env::current_exe()?, arm, times, set)
}

/// The same of another build of this program.
pub fn numbers_of(
    program: &Path,
    arm: &str,
    times: usize,
    set: &[(&str, &str)],
) -> Result<Vec<Vec<f64>>, Box<dyn Error>> {
    let mut all = Vec::new();
    for _ in 0..times {
        let output = Command::new(program).env("DEMO_ARM", arm).envs(set.iter().copied()).output()?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{arm}: {}: {why}", output.status).into());
        }
        let told = String::from_utf8(output.stdout)?;
        let last = told.lines().last().unwrap_or_default();
        all.push(last.split_whitespace().map(str::parse).collect::<Result<_, _>>()?);
    }
    Ok(all)
}

/// The middle one of the runs' numbers in this column.
pub fn median(runs: &[Vec<f64>], column: usize) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(|run| run[column]).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The file after `--svg`, where the picture goes.
pub fn picture() -> Option<PathBuf> {
    file_after("--svg")
}

/// The file after an option.
pub fn file_after(option: &str) -> Option<PathBuf> {
    env::args_os().skip_while(|arg| arg != option).nth(1).map(PathBuf::from)
}
