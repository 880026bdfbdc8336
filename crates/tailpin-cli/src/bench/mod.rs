//! `tailpin bench`: its options, a run, and what is printed of it.

mod html;
mod standing;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;

use tailpin_bench::{
    Effort, Report, amount, count, json, markdown, measure, ns, profile, profile_table, replace, table,
    verdicts,
};

use crate::Status;
use crate::busy::{Busy, Warning};
use crate::output::{complain, print, save, targets};
use crate::progress::Progress;
use crate::style::{Style, columns, width, wrapped};

const EXAMPLES: &str = "\
Examples:
  tailpin bench --quick                            every row, in less than two minutes
  tailpin bench --filter pair --report pairs.html  a few rows, with pictures
  tailpin bench --quick --filter o0 --profile      instructions per operation too (needs valgrind)
  tailpin bench --profile --markdown docs/performance-run.md

First comes what is won and lost beside the fastest of the others, then every row. On a busy machine there is a warning and no verdict.
Times are nanoseconds per operation on each thread: median, fastest and slowest of the repetitions, in which all subjects take turns.
/peer and /limit: beside the fastest peer and beside the bare limit of the same scenario.

Exit codes: 0 done, 1 valgrind could not be run, 2 bad usage, nothing to measure or output that can't be written.";

/// Measure this library beside its peers, all in one run.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_long_help = EXAMPLES, after_help = "More, with examples: tailpin bench --help")]
pub(crate) struct Args {
    /// Fewer and shorter repetitions: less than two minutes.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only scenarios whose name contains S.
    #[arg(long, value_name = "S")]
    pub(crate) filter: Option<String>,
    /// One JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
    /// Also write a report with pictures, one HTML file.
    #[arg(long, value_name = "F.html")]
    pub(crate) report: Option<PathBuf>,
    /// Also hold the rows against the project's own goals.
    #[arg(long)]
    pub(crate) goals: bool,
    /// Also count instructions per operation with valgrind's callgrind, ours and the best of the
    /// others: minutes more.
    #[arg(long)]
    pub(crate) profile: bool,
    /// Also write everything as text for docs/performance-run.md: between its two marks if the file
    /// has them, else as a new file.
    #[arg(long, value_name = "F.md")]
    pub(crate) markdown: Option<PathBuf>,
    /// Run one subject in one scenario for callgrind to watch.
    #[arg(long, hide = true, num_args = 2, value_names = ["SCENARIO", "SUBJECT"])]
    pub(crate) once: Option<Vec<String>>,
}

/// Runs the command, prints and writes what came of it and says how it ended.
pub(crate) fn run(args: &Args) -> Status {
    if let Some([scenario, subject]) = args.once.as_deref() {
        return once(scenario, subject);
    }
    // A run takes minutes: that its files can't be written is said before.
    let prepared = targets([args.report.as_ref(), args.markdown.as_ref()])
        .and_then(|targets| Ok((targets, args.markdown.as_deref().map(page_before).transpose()?)));
    let ([html_page, text_page], before) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            complain(error);
            return Status::Unusable;
        }
    };
    let effort = if args.quick { Effort::quick() } else { Effort::full() };
    let machine = Busy::before();
    let measuring = Progress::new("bench", 0);
    let report = measure(&effort, args.filter.as_deref(), &mut steps(&measuring));
    drop(measuring);
    if report.rows.is_empty() && report.facts.is_empty() {
        report.notes.iter().for_each(|note| complain(format_args!("not measured: {note}")));
        let filter = args.filter.as_deref().unwrap_or_default();
        complain(format_args!("nothing was measured of the scenarios whose name contains {filter:?}"));
        return Status::Unusable;
    }
    let mut status = Status::Clean;
    let mut profiled = Vec::new();
    if args.profile {
        let counting = Progress::new("profile", 0);
        match profile(&report, &again, &mut steps(&counting)) {
            Ok(done) => profiled = done,
            Err(error) => {
                complain(format_args!("no profile: {error}"));
                status = Status::Failed;
            }
        }
        drop(counting);
    }
    let busy = machine.warning(standing::spread(&report));
    let text = if args.json {
        json(&report, &profiled, args.quick) + "\n"
    } else {
        let mut text = printed(&report, busy, args);
        if !profiled.is_empty() {
            text += &format!("\n{}", profile_table(&profiled));
        }
        text
    };
    status = status.max(print(&text));
    if let Some(target) = html_page {
        status = status.max(save(&target, &html::html(&report, busy, args.goals)));
    }
    if let (Some(target), Some(before)) = (text_page, before) {
        status = status.max(save(&target, &replace(&before, &markdown(&report, &profiled))));
    }
    status
}

/// For a terminal: what the times are worth, what is won and lost, every row.
fn printed(report: &Report, busy: Option<Warning>, args: &Args) -> String {
    let (width, style) = (width(), Style::for_stdout());
    let mut text = String::new();
    if let Some(warning) = busy {
        text += &format!("{}\n", style.bad(&wrapped(&warning.to_string(), "", "", width)));
    }
    text += &standing::text(report, busy.is_some(), width, style);
    text += &if std::io::stdout().is_terminal() && columns() < TABLE_COLUMNS {
        narrow(report)
    } else {
        table(report)
    };
    for note in &report.notes {
        text += &format!("not measured: {note}\n");
    }
    match busy {
        Some(_) if args.goals => text += "\nNo goal is judged on a busy machine.\n",
        None if args.goals => text += &format!("\n{}", verdicts(report, args.filter.is_none())),
        _ => {}
    }
    text
}

/// What the table of all rows needs.
const TABLE_COLUMNS: usize = 106;

/// All rows for a terminal in which they don't fit beside each other.
fn narrow(report: &Report) -> String {
    let mut text = String::new();
    for (scenario, threads) in report.scenarios() {
        text += &format!("{scenario}, {threads} T\n");
        for row in report.of(scenario, threads) {
            let (least, most) = (ns(row.ns_per_op_min), ns(row.ns_per_op_max));
            text += &format!("  {:<24} {:>8} ns  {least} to {most}\n", row.subject, ns(row.ns_per_op_median));
        }
    }
    for fact in &report.facts {
        text += &format!("{}, {}\n  {} {}\n", fact.fact, fact.subject, amount(fact.value), fact.unit);
    }
    text
}

/// What the page says so far; nothing, if there is none yet, or a pipe or a device is written to,
/// which may have no end.
fn page_before(path: &Path) -> Result<String, String> {
    if std::fs::metadata(path).is_ok_and(|kind| !kind.is_file()) {
        return Ok(String::new());
    }
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(format!("{} can't be read, so its text can't be kept: {error}", path.display())),
    }
}

fn once(scenario: &str, subject: &str) -> Status {
    match count(scenario, subject) {
        Some(counted) => print(&format!("{counted}\n")),
        None => {
            complain(format_args!("nothing to count of {subject} in {scenario}"));
            Status::Unusable
        }
    }
}

/// This program again, as far as the name of the command.
fn again(command: &mut Command) {
    command.args(std::env::current_exe());
    command.args(std::env::args_os().skip(1).take_while(|argument| argument == "bench"));
}

fn steps(progress: &Progress) -> impl FnMut(usize, usize) + use<'_> {
    |done, of| progress.set(done as u64, of as u64)
}
