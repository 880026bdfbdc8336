//! Commands that this build leaves out: because they bring many crates, then each says how to build
//! it; or because only Linux has what they look at.

use std::ffi::OsString;

use crate::Status;
use crate::output::complain;

/// Whatever is asked of a command that is not here.
#[derive(Clone, Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Options, for the build that has the command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    asked: Vec<OsString>,
}

/// Says that `command` is of no use here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn only_on_linux(command: &str) -> Status {
    complain(format_args!(
        "`{command}` looks at memory as only Linux tells of it, and this is another system"
    ));
    Status::Unusable
}

/// Says how to build `command`, which is also the name of its feature.
#[cfg(not(all(feature = "bench", feature = "check")))]
pub(crate) fn run(command: &str, args: &Args) -> Status {
    let mut asked = String::new();
    for argument in &args.asked {
        asked.push(' ');
        asked.push_str(&quoted(&argument.to_string_lossy()));
    }
    // What is measured is built with optimisations across crates, which other commands do without.
    let profile = if command == "bench" { "--profile bench" } else { "--release" };
    complain(format_args!(
        "`{command}` is not in this build: it brings many more crates, which take minutes to compile.\n\
         In a checkout:  cargo run {profile} --features {command} -- {command}{asked}\n\
         To install it:  cargo install tailpin-cli --features {command}"
    ));
    Status::Unusable
}

/// An argument as a shell reads it back.
#[cfg(not(all(feature = "bench", feature = "check")))]
fn quoted(argument: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=,:".contains(letter);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', "'\\''"))
    }
}

#[cfg(all(test, not(all(feature = "bench", feature = "check"))))]
mod tests {
    use super::quoted;

    #[test]
    fn a_shell_reads_back_what_was_asked() {
        assert_eq!(["--hazard", "H2"].map(quoted), ["--hazard", "H2"]);
        assert_eq!(["a b", "", "it's"].map(quoted), ["'a b'", "''", "'it'\\''s'"]);
    }
}
