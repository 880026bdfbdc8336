//! `tailpin doctor`: what this machine allows, and what to do where it doesn't.

mod check;
mod probe;
mod settings;

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use crate::Status;
use crate::grid::Grid;
use crate::output::{complain, print, save, targets};
use crate::style::{Style, width, wrapped};
use crate::units::counted;
use check::{Check, Level};

const EXAMPLES: &str = "\
Examples:
  tailpin doctor                 a table; each line that isn't ok has its remedy below it
  tailpin doctor --json          one object: checks, each with name, status, value, advice
  tailpin doctor --json | jq '.checks[] | select(.status != \"ok\")'

What a file can't tell is tried: memory is mapped, a ring set up, a hole dropped, 512 pages made one. Nothing is \
changed, and what was tried is undone.

status: ok, nothing to do; hint, the library works and something is slower, smaller or refused; fail, the library can't \
run here; unknown, it could not be looked at. advice is null where there is nothing to do.

Exit codes: 0 the library runs here, 1 it doesn't, 2 bad usage.";

/// Tells what this machine allows: huge pages, locked memory, limits, io_uring
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = EXAMPLES, after_help = "More, with examples: tailpin doctor --help")]
pub(crate) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Also write the table as Markdown
    #[arg(long, value_name = "F.md")]
    markdown: Option<PathBuf>,
}

#[derive(Serialize)]
struct Diagnosis {
    checks: Vec<Check>,
}

/// Looks at everything, prints it and says whether the library can run.
pub(crate) fn run(args: &Args) -> Status {
    let [page] = match targets([args.markdown.as_ref()]) {
        Ok(targets) => targets,
        Err(error) => {
            complain(error);
            return Status::Unusable;
        }
    };
    let mut checks = probe::checks();
    checks.splice(1..1, settings::checks());
    let worst = checks.iter().map(|check| check.status).max().unwrap_or(Level::Ok);
    let saved = page.map_or(Status::Clean, |page| save(&page, &markdown(&checks)));
    let text = if args.json {
        serde_json::to_string_pretty(&Diagnosis { checks }).expect("names and strings") + "\n"
    } else {
        render(&checks, width(), Style::for_stdout())
    };
    print(&text).max(saved).max(if worst == Level::Fail { Status::Failed } else { Status::Clean })
}

fn render(checks: &[Check], width: usize, style: Style) -> String {
    let mut text = String::new();
    let names = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for Check { name, status, value, advice } in checks {
        let word = format!("{:<7}", status.name());
        let word = match status {
            Level::Ok => style.good(&word),
            Level::Unknown => style.dim(&word),
            Level::Hint => style.bold(&word),
            Level::Fail => style.bad(&word),
        };
        // The value follows the name, or stands below it where the terminal is narrow.
        let indent = if 12 + names + 24 <= width { 12 + names } else { 6 };
        let (gap, below) = (" ".repeat(indent), " ".repeat(indent + 2));
        let said = wrapped(value, &gap, &gap, width);
        let _ = match indent {
            6 => writeln!(text, "  {word} {name}\n{}", said.trim_end()),
            _ => writeln!(text, "  {word} {name:<names$}  {}", said.trim()),
        };
        if let Some(advice) = advice {
            text += &style.dim(&wrapped(&format!("→ {advice}"), &gap, &below, width));
        }
    }
    let count = |level| checks.iter().filter(|check| check.status == level).count();
    let verdict = match count(Level::Fail) {
        0 => style.good("the library runs here"),
        failed => style.bad(&format!("the library can't run here: {failed} failed")),
    };
    let _ = writeln!(
        text,
        "\n  {verdict}; {} ok, {}{}",
        count(Level::Ok),
        counted(count(Level::Hint) as u64, "hint"),
        match count(Level::Unknown) {
            0 => String::new(),
            unknown => format!(", {unknown} unknown"),
        }
    );
    text
}

/// Everything as Markdown.
fn markdown(checks: &[Check]) -> String {
    let mut grid = Grid::new(["", "", "found", "advice"]).with_words(3);
    for check in checks {
        let advice = check.advice.clone().unwrap_or_default();
        grid.row([check.name.to_owned(), check.status.name().to_owned(), check.value.clone(), advice]);
    }
    grid.markdown()
}

#[cfg(test)]
mod tests {
    use super::{Check, render};
    use crate::style::Style;

    #[test]
    fn a_failure_is_said_and_every_remedy_stands_under_its_line() {
        let checks = [
            Check::ok("a", "1"),
            Check::hint("long_name", "2", "do this"),
            Check::unreadable("c", "/nowhere"),
            Check::fail("d", "3", "or that"),
        ];
        let text = render(&checks, 80, Style::plain());
        assert!(text.contains("hint    long_name  2\n                     → do this\n"), "{text}");
        assert!(text.contains("can't run here: 1 failed; 1 ok, 1 hint, 1 unknown"), "{text}");
        assert!(render(&checks[..2], 80, Style::plain()).ends_with("the library runs here; 1 ok, 1 hint\n"));
        let narrow = render(&checks, 30, Style::plain());
        assert!(narrow.contains("  hint    long_name\n      2\n      → do this\n"), "{narrow}");
    }
}
