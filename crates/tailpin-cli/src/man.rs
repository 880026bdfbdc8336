//! `tailpin man`: the manual page of a command, made from what its `--help` is made from.

use std::fmt::Write;

use clap::{Arg, Command};

use crate::Status;
use crate::output::{complain, print};

const EXAMPLES: &str = "\
Examples:
  tailpin man | man -l -                               the page of the command itself
  tailpin man replay | man -l -                        of one of its commands
  tailpin man replay > /usr/local/share/man/man1/tailpin-replay.1";

/// Print the manual page of a command
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The command; none for the page of all of them
    command: Option<String>,
}

/// Prints the page of a command of `root`, or its own.
pub(crate) fn run(args: &Args, mut root: Command) -> Status {
    // Names and usages of commands are known only then.
    root.build();
    let wanted = match &args.command {
        None => Some(&root),
        Some(name) => root.find_subcommand(name).filter(|found| !found.is_hide_set()),
    };
    let Some(wanted) = wanted else {
        complain(format_args!("there is no command {:?}", args.command.as_deref().unwrap_or_default()));
        return Status::Unusable;
    };
    print(&page(wanted, &root))
}

fn page(command: &Command, root: &Command) -> String {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).replace(' ', "-");
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let version = root.get_version().unwrap_or_default();
    let mut page = format!(".TH {} 1 \"\" \"tailpin {version}\"\n", name.to_uppercase());
    let _ = write!(page, ".SH NAME\n{} \\- {}\n", roff(&name), roff(&about));
    let usage = command.clone().render_usage().to_string();
    let _ = write!(page, ".SH SYNOPSIS\n{}\n", roff(usage.trim_start_matches("Usage: ")));
    if let Some(more) = command.get_long_about() {
        let _ = write!(page, ".SH DESCRIPTION\n{}\n", roff(&more.to_string()));
    }
    let arguments: Vec<&Arg> = command.get_arguments().filter(|argument| !argument.is_hide_set()).collect();
    if !arguments.is_empty() {
        page += ".SH OPTIONS\n";
    }
    for argument in arguments {
        let _ = write!(page, ".TP\n.B {}\n{}\n", roff(&shown(argument)), roff(&said(argument)));
    }
    let commands: Vec<&Command> =
        command.get_subcommands().filter(|command| !command.is_hide_set()).collect();
    if !commands.is_empty() {
        page += ".SH COMMANDS\n";
    }
    for command in commands {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = write!(page, ".TP\n.B {}\n{}\n", roff(command.get_name()), roff(&about));
    }
    if let Some(notes) = command.get_after_long_help().or_else(|| command.get_after_help()) {
        // Examples are lines, which stay as they are.
        let _ = write!(page, ".SH NOTES\n.nf\n{}\n.fi\n", roff(&notes.to_string()));
    }
    page
}

/// An argument as it is given.
fn shown(argument: &Arg) -> String {
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    let values = argument.get_value_names().map(|names| names.join(" ")).unwrap_or_default();
    match (names.is_empty(), argument.get_action().takes_values()) {
        (true, _) => values,
        (false, true) => format!("{} {values}", names.join(", ")),
        (false, false) => names.join(", "),
    }
}

/// What an argument does, what it is where it is not given, and what it may be.
fn said(argument: &Arg) -> String {
    let help = argument.get_long_help().or_else(|| argument.get_help());
    let mut said = help.map(ToString::to_string).unwrap_or_default();
    let defaults: Vec<_> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if argument.get_action().takes_values() && !defaults.is_empty() {
        let _ = write!(said, " [default: {}]", defaults.join(" "));
    }
    let values: Vec<String> =
        argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    if argument.get_action().takes_values() && !values.is_empty() {
        let _ = write!(said, " [possible values: {}]", values.join(", "));
    }
    said
}

/// Text in which nothing is taken for a request of roff.
fn roff(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    let guarded = |line: &str| match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}"),
        false => line.to_owned(),
    };
    escaped.lines().map(guarded).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{page, roff};

    #[test]
    fn no_line_of_text_is_a_request() {
        assert_eq!(roff(".x --y\n'z \\"), "\\&.x \\-\\-y\n\\&'z \\e");
    }

    #[test]
    fn every_command_has_a_page_with_its_options_and_examples() {
        let mut root = crate::Cli::command();
        root.build();
        for command in root.get_subcommands() {
            let page = page(command, &root);
            assert!(page.starts_with(".TH TAILPIN-"), "{page}");
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                let long = argument.get_long().map(|long| roff(&format!("--{long}")));
                assert!(long.is_none_or(|long| page.contains(&long)), "{argument} is not in\n{page}");
            }
        }
        let all = page(&root, &root);
        assert!(all.contains(".SH COMMANDS") && all.contains(".B replay"));
    }
}
