//! The command alone, without the rest of the `tailpin` program.

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: tailpin_bench::cli::Args,
}

fn main() -> ExitCode {
    ExitCode::from(tailpin_bench::cli::run(&Cli::parse().args))
}
