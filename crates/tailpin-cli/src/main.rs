//! The `tailpin` command. Each subcommand is a module with its arguments and a `run`.

#[cfg(target_os = "linux")]
mod doctor;
#[cfg(target_os = "linux")]
mod linux;
mod progress;
mod replay;
#[cfg(target_os = "linux")]
mod retain;
mod style;
mod units;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// How a command ended; the number is the process's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    /// Done, and everything was as it should be.
    Clean = 0,
    /// A violation, a leak or a failed check.
    Failed = 1,
    /// Bad usage or unreadable input.
    Unusable = 2,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

/// Compound pages as a library: tries it out and measures it.
///
/// Without a command: `tailpin replay` of the built-in trace `guest-pins`.
#[derive(Debug, Parser)]
#[command(name = "tailpin", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = "Exit codes: 0 done and clean, 1 a violation, a leak or a failed check, \
                        2 bad usage or unreadable input.")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Replay(replay::Args),
    Check(tailpin_check::cli::Args),
    Bench(tailpin_bench::cli::Args),
    #[cfg(target_os = "linux")]
    Retain(retain::Args),
    #[cfg(target_os = "linux")]
    Doctor(doctor::Args),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        None => replay::run(&replay::Args::default()).into(),
        Some(Command::Replay(args)) => replay::run(&args).into(),
        Some(Command::Check(args)) => tailpin_check::cli::run(&args),
        Some(Command::Bench(args)) => ExitCode::from(tailpin_bench::cli::run(&args)),
        #[cfg(target_os = "linux")]
        Some(Command::Retain(args)) => retain::run(&args).into(),
        #[cfg(target_os = "linux")]
        Some(Command::Doctor(args)) => doctor::run(&args).into(),
    }
}
