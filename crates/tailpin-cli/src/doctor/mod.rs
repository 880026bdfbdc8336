//! `tailpin doctor`: what this machine allows, and what to do where it doesn't.

mod check;
mod probe;
mod settings;

use std::fmt::Write as _;

use serde::Serialize;

use crate::Status;
use crate::output::print;
use crate::style::Style;
use check::{Check, Level};

const EXAMPLES: &str = "\
Examples:
  tailpin doctor                 a table; each line that isn't ok has its remedy below it
  tailpin doctor --json          one object: checks, each with name, status, value, advice
  tailpin doctor --json | jq '.checks[] | select(.status != \"ok\")'

What a file can't tell is tried: memory is mapped, a ring set up, a hole dropped, 512 pages made one. Nothing is \
changed, and what was tried is undone.

status: ok, nothing to do; warn, the library works and something is slower, smaller or refused; fail, the library can't \
run here; unknown, it could not be looked at. advice is null where there is nothing to do.

Exit codes: 0 the library runs here, 1 it doesn't, 2 bad usage.";

/// Tells what this machine allows: huge pages, locked memory, limits, io_uring
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = EXAMPLES, after_help = "More, with examples: tailpin doctor --help")]
pub(crate) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Diagnosis {
    checks: Vec<Check>,
}

/// Looks at everything, prints it and says whether the library can run.
pub(crate) fn run(args: &Args) -> Status {
    let mut checks = probe::checks();
    checks.splice(1..1, settings::checks());
    let worst = checks.iter().map(|check| check.status).max().unwrap_or(Level::Ok);
    let text = if args.json {
        serde_json::to_string_pretty(&Diagnosis { checks }).expect("names and strings") + "\n"
    } else {
        render(&checks, Style::for_stdout())
    };
    print(&text).max(if worst == Level::Fail { Status::Failed } else { Status::Clean })
}

fn render(checks: &[Check], style: Style) -> String {
    let mut text = String::new();
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for Check { name, status, value, advice } in checks {
        let word = format!("{:<7}", status.name());
        let word = match status {
            Level::Ok => style.good(&word),
            Level::Unknown => style.dim(&word),
            Level::Warn => style.bold(&word),
            Level::Fail => style.bad(&word),
        };
        let _ = writeln!(text, "  {word} {name:<width$}  {value}");
        if let Some(advice) = advice {
            let _ = writeln!(text, "  {:<7} {:<width$}  {}", "", "", style.dim(&format!("→ {advice}")));
        }
    }
    let count = |level| checks.iter().filter(|check| check.status == level).count();
    let verdict = match count(Level::Fail) {
        0 => style.good("the library runs here"),
        failed => style.bad(&format!("the library can't run here: {failed} failed")),
    };
    let _ = writeln!(
        text,
        "\n  {verdict}; {} ok, {} to look at",
        count(Level::Ok),
        checks.len() - count(Level::Ok)
    );
    text
}

#[cfg(test)]
mod tests {
    use super::{Check, render};
    use crate::style::Style;

    #[test]
    fn a_failure_is_said_and_every_remedy_stands_under_its_line() {
        let checks = [
            Check::ok("a", "1"),
            Check::warn("long_name", "2", "do this"),
            Check::unreadable("c", "/nowhere"),
            Check::fail("d", "3", "or that"),
        ];
        let text = render(&checks, Style::plain());
        assert!(text.contains("warn    long_name  2\n                     → do this\n"), "{text}");
        assert!(text.contains("can't run here: 1 failed; 1 ok, 3 to look at"), "{text}");
        assert!(render(&checks[..3], Style::plain()).contains("the library runs here; 1 ok, 2 to look at"));
    }
}
