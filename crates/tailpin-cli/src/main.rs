//! The `tailpin` command. Each subcommand is a module with its arguments and a `run`.

#[cfg(not(all(feature = "bench", feature = "check")))]
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
    #[cfg(target_os = "linux")]
    Doctor(doctor::Args),
    Boot(boot::Args),
    #[cfg(target_os = "linux")]
    Capture(capture::Args),
    #[cfg(target_os = "linux")]
    Top(top::Args),
    #[cfg(target_os = "linux")]
    Map(map::Args),
    #[cfg(target_os = "linux")]
    Holders(holders::Args),
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
            #[cfg(target_os = "linux")]
            Some(Command::Doctor(args)) => doctor::run(&args),
            Some(Command::Boot(args)) => boot::run(&args),
            #[cfg(target_os = "linux")]
            Some(Command::Capture(args)) => capture::run(&args),
            #[cfg(target_os = "linux")]
            Some(Command::Top(args)) => top::run(&args),
            #[cfg(target_os = "linux")]
            Some(Command::Map(args)) => map::run(&args),
            #[cfg(target_os = "linux")]
            Some(Command::Holders(args)) => holders::run(&args),
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
