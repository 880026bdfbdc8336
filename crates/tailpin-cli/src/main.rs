//! The `tailpin` command. Each subcommand is a module with its arguments and a `run`.

#![cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "what only commands of Linux use"))]

#[cfg(not(all(feature = "bench", feature = "check", target_os = "linux")))]
mod absent;
#[cfg(target_os = "linux")]
mod arenas;
#[cfg(feature = "bench")]
mod bench;
mod boot;
mod busy;
#[cfg(target_os = "linux")]
mod capture;
#[cfg(feature = "check")]
mod check;
mod completions;
#[cfg(target_os = "linux")]
mod doctor;
mod grid;
#[cfg(target_os = "linux")]
mod holders;
#[cfg(target_os = "linux")]
mod linux;
mod man;
#[cfg(target_os = "linux")]
mod map;
mod output;

mod page;
mod progress;
mod replay;
#[cfg(target_os = "linux")]
mod retain;
mod style;
#[cfg(target_os = "linux")]
mod top;
mod units;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// How a command ended; the number is the process's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    /// Done, and everything was as it should be.
    Clean = 0,
    /// A violation, a leak or a failed check.
    Failed = 1,
    /// Bad usage, unreadable input, output that can't be written, or a limit of this process in the
    /// way.
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
                        2 bad usage, unreadable input, output that can't be \
                        written, or a limit of this process in the way.")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Replay(replay::Args),
    #[cfg(feature = "check")]
    Check(check::Args),
    /// Model check both page protocols (not in this build: says how to get it)
    #[cfg(not(feature = "check"))]
    Check(absent::Args),
    #[cfg(feature = "bench")]
    Bench(bench::Args),
    /// Measure this library beside its peers (not in this build: says how to get it)
    #[cfg(not(feature = "bench"))]
    Bench(absent::Args),
    #[cfg(target_os = "linux")]
    Retain(retain::Args),
    /// What of a log stays in memory, by four ways to keep its records (only on Linux)
    #[cfg(not(target_os = "linux"))]
    Retain(absent::Args),
    #[cfg(target_os = "linux")]
    Doctor(doctor::Args),
    /// What this machine allows (only on Linux)
    #[cfg(not(target_os = "linux"))]
    Doctor(absent::Args),
    Boot(boot::Args),
    #[cfg(target_os = "linux")]
    Capture(capture::Args),
    /// Record what this kernel does with its pages (only on Linux)
    #[cfg(not(target_os = "linux"))]
    Capture(absent::Args),
    #[cfg(target_os = "linux")]
    Top(top::Args),
    /// What a running program's arenas hold (only on Linux)
    #[cfg(not(target_os = "linux"))]
    Top(absent::Args),
    #[cfg(target_os = "linux")]
    Map(map::Args),
    /// Where a running program's arenas hold it (only on Linux)
    #[cfg(not(target_os = "linux"))]
    Map(absent::Args),
    #[cfg(target_os = "linux")]
    Holders(holders::Args),
    /// What keeps a running program's memory (only on Linux)
    #[cfg(not(target_os = "linux"))]
    Holders(absent::Args),
    Completions(completions::Args),
    Man(man::Args),
}

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    linux::signals::become_errors();
    let status = match Cli::try_parse() {
        Ok(Cli { command }) => match command {
            None => replay::run(&replay::Args::default()),
            Some(Command::Replay(args)) => replay::run(&args),
            #[cfg(feature = "check")]
            Some(Command::Check(args)) => check::run(&args),
            #[cfg(not(feature = "check"))]
            Some(Command::Check(args)) => absent::run("check", &args),
            #[cfg(feature = "bench")]
            Some(Command::Bench(args)) => bench::run(&args),
            #[cfg(not(feature = "bench"))]
            Some(Command::Bench(args)) => absent::run("bench", &args),
            #[cfg(target_os = "linux")]
            Some(Command::Retain(args)) => retain::run(&args),
            #[cfg(not(target_os = "linux"))]
            Some(Command::Retain(_)) => absent::only_on_linux("retain"),
            #[cfg(target_os = "linux")]
            Some(Command::Doctor(args)) => doctor::run(&args),
            #[cfg(not(target_os = "linux"))]
            Some(Command::Doctor(_)) => absent::only_on_linux("doctor"),
            Some(Command::Boot(args)) => boot::run(&args),
            #[cfg(target_os = "linux")]
            Some(Command::Capture(args)) => capture::run(&args),
            #[cfg(not(target_os = "linux"))]
            Some(Command::Capture(_)) => absent::only_on_linux("capture"),
            #[cfg(target_os = "linux")]
            Some(Command::Top(args)) => top::run(&args),
            #[cfg(not(target_os = "linux"))]
            Some(Command::Top(_)) => absent::only_on_linux("top"),
            #[cfg(target_os = "linux")]
            Some(Command::Map(args)) => map::run(&args),
            #[cfg(not(target_os = "linux"))]
            Some(Command::Map(_)) => absent::only_on_linux("map"),
            #[cfg(target_os = "linux")]
            Some(Command::Holders(args)) => holders::run(&args),
            #[cfg(not(target_os = "linux"))]
            Some(Command::Holders(_)) => absent::only_on_linux("holders"),
            Some(Command::Completions(args)) => completions::run(&args, Cli::command()),
            Some(Command::Man(args)) => man::run(&args, Cli::command()),
        },
        // Help and version come this way too.
        Err(asked) if !asked.use_stderr() => output::printed(asked.print()),
        Err(error) => {
            let _ = error.print();
            Status::Unusable
        }
    };
    #[cfg(all(target_os = "linux", feature = "bench"))]
    linux::ending::end(status);
    #[cfg(not(all(target_os = "linux", feature = "bench")))]
    status.into()
}
