//! The `check` command by itself.

use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: tailpin_check::cli::Args,
}

fn main() -> std::process::ExitCode {
    tailpin_check::cli::run(&Cli::parse().args)
}
