//! The command: arguments, a run, and what is printed of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::{Effort, Judged, Profiled, Report};
use crate::{html, judge, markdown, measure, profile, replace, table, unjudged, verdicts};

const EXAMPLES: &str = "\
Examples:
  tailpin bench --quick                            every row, in less than two minutes
  tailpin bench --filter pair --report pairs.html  a few rows, with pictures
  tailpin bench --quick --filter o0 --profile      instructions per operation too (needs valgrind)
  tailpin bench --profile --markdown docs/performance-run.md

Times are nanoseconds per operation on each thread: median, fastest and slowest of the repetitions, in which all subjects take turns.
/peer and /limit: beside the fastest peer and beside the bare limit of the same scenario.

Exit codes: 0 done, 1 a file could not be written or valgrind not be run, 2 bad usage or nothing to measure.";

/// Measure this library beside its peers, all in one run.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_long_help = EXAMPLES, after_help = "More, with examples: tailpin bench --help")]
pub struct Args {
    /// Fewer and shorter repetitions: less than two minutes.
    #[arg(long)]
    pub quick: bool,
    /// Only scenarios whose name contains S.
    #[arg(long, value_name = "S")]
    pub filter: Option<String>,
    /// One JSON object on standard output.
    #[arg(long)]
    pub json: bool,
    /// Also write a report with pictures, one HTML file.
    #[arg(long, value_name = "F.html")]
    pub report: Option<PathBuf>,
    /// Also count instructions per operation with valgrind's callgrind, ours and the best of the
    /// others: minutes more.
    #[arg(long)]
    pub profile: bool,
    /// Also write everything as text for docs/performance-run.md: between its two marks if the file
    /// has them, else as a new file.
    #[arg(long, value_name = "F.md")]
    pub markdown: Option<PathBuf>,
    /// Run one subject in one scenario for callgrind to watch.
    #[arg(long, hide = true, num_args = 2, value_names = ["SCENARIO", "SUBJECT"])]
    pub once: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Json<'r> {
    #[serde(flatten)]
    report: &'r Report,
    goals: Vec<Judged>,
    goals_not_judged: Vec<&'static str>,
    profile: &'r [Profiled],
    quick: bool,
}

/// The report as one JSON object.
///
/// # Panics
/// Never: everything in a report can be written.
pub fn json(report: &Report, profile: &[Profiled], quick: bool) -> String {
    let (goals, goals_not_judged) = (judge(report), unjudged(report));
    serde_json::to_string(&Json { report, goals, goals_not_judged, profile, quick })
        .expect("a report is plain data")
}

/// Runs the command. Returns the process's exit code: 0 done, 1 a file could not be written or
/// valgrind not be run, 2 bad usage.
pub fn run(args: &Args) -> u8 {
    if let Some([scenario, subject]) = args.once.as_deref() {
        return once(scenario, subject);
    }
    let effort = if args.quick { Effort::quick() } else { Effort::full() };
    let measuring = bar("bench");
    let report = measure(&effort, args.filter.as_deref(), &mut steps(&measuring));
    measuring.finish_and_clear();
    if report.rows.is_empty() && report.facts.is_empty() {
        let filter = args.filter.as_deref().unwrap_or_default();
        eprintln!("tailpin bench: no scenario's name contains {filter:?}");
        return 2;
    }
    let mut code = 0;
    let mut complain = |what: String| {
        eprintln!("tailpin bench: {what}");
        code = 1;
    };
    let mut profiled = Vec::new();
    if args.profile {
        let counting = bar("profile");
        match profile(&report, &again, &mut steps(&counting)) {
            Ok(done) => profiled = done,
            Err(error) => complain(format!("no profile: {error}")),
        }
        counting.finish_and_clear();
    }
    if args.json {
        println!("{}", json(&report, &profiled, args.quick));
    } else {
        print!("{}\n{}", table(&report), verdicts(&report, args.filter.is_none()));
        if !profiled.is_empty() {
            print!("\n{}", crate::profile::table(&profiled));
        }
    }
    let mut save = |path: &Path, text: String| {
        if let Err(error) = std::fs::write(path, text) {
            complain(format!("cannot write {}: {error}", path.display()));
        }
    };
    if let Some(path) = &args.report {
        save(path, html(&report));
    }
    if let Some(path) = &args.markdown {
        let old = std::fs::read_to_string(path).unwrap_or_default();
        save(path, replace(&old, &markdown(&report, &profiled)));
    }
    code
}

fn once(scenario: &str, subject: &str) -> u8 {
    match crate::profile::count(scenario, subject) {
        Some(counted) => {
            println!("{counted}");
            0
        }
        None => {
            eprintln!("tailpin bench: nothing to count of {subject} in {scenario}");
            2
        }
    }
}

/// This program again, as far as the name of the command.
fn again(command: &mut Command) {
    command.args(std::env::current_exe());
    command.args(std::env::args().skip(1).take_while(|argument| argument == "bench"));
}

fn bar(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {percent:>3} %") {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}

fn steps(bar: &ProgressBar) -> impl FnMut(usize, usize) + use<'_> {
    |done, of| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    }
}
