//! The command: arguments, a run, and what is printed of it.

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::{Effort, Judged, Report, html, judge, measure, table};

/// Measure this library beside its peers, all in one run.
#[derive(Clone, Debug, Default, clap::Args)]
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
}

#[derive(Serialize)]
struct Json<'r> {
    #[serde(flatten)]
    report: &'r Report,
    goals: Vec<Judged>,
    quick: bool,
}

/// The report as one JSON object.
///
/// # Panics
/// Never: everything in a report can be written.
pub fn json(report: &Report, quick: bool) -> String {
    serde_json::to_string(&Json { report, goals: judge(report), quick }).expect("a report is plain data")
}

/// Runs the command. Returns the process's exit code: 0 done, 1 the report could not be written, 2 bad usage.
pub fn run(args: &Args) -> u8 {
    let effort = if args.quick { Effort::quick() } else { Effort::full() };
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {percent:>3} %") {
        bar.set_style(style);
    }
    bar.set_message("bench");
    let report = measure(&effort, args.filter.as_deref(), &mut |done, of| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    if report.rows.is_empty() && report.space.is_empty() {
        eprintln!(
            "tailpin bench: no scenario's name contains {:?}",
            args.filter.as_deref().unwrap_or_default()
        );
        return 2;
    }
    if args.json {
        println!("{}", json(&report, args.quick));
    } else {
        print!("{}", table(&report));
    }
    match &args.report {
        Some(path) => match std::fs::write(path, html(&report)) {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("tailpin bench: cannot write {}: {error}", path.display());
                1
            }
        },
        None => 0,
    }
}
