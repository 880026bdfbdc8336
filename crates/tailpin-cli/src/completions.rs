//! `tailpin completions`: what makes a shell complete this command.

use clap_complete::Shell;

use crate::Status;
use crate::output::print;

const EXAMPLES: &str = "\
Examples:
  tailpin completions bash > ~/.local/share/bash-completion/completions/tailpin
  tailpin completions zsh > ~/.zfunc/_tailpin          with fpath+=~/.zfunc before compinit in .zshrc
  tailpin completions fish > ~/.config/fish/completions/tailpin.fish";

/// Print what makes a shell complete this command
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

/// Prints the script of a shell for `command`.
pub(crate) fn run(args: &Args, mut command: clap::Command) -> Status {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    print(&String::from_utf8_lossy(&script))
}
