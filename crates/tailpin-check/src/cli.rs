//! The `check` command: its options and what it prints.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::family::Which;
use crate::report::{Report, Verdict};
use crate::suite::{Checked, Progress, Selection};
use crate::table;

/// Model check both page protocols: no race with every step in place, and each race with its step left out.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(
    after_help = "Examples:\n  tailpin check                    every scenario, every switch, in one to three minutes\n  \
    tailpin check --hazard H2        the interleaving of the mail's race, as a table\n  \
    tailpin check --scenario I4      one scenario, both protocols\n  \
    tailpin check --json             one row per check, for machines"
)]
pub struct Args {
    /// Only this protocol
    #[arg(long, value_enum)]
    protocol: Option<Which>,
    /// Only this scenario, as I4
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Only the scenarios that show this hazard, as H2, with the interleaving
    #[arg(long, value_name = "NAME")]
    hazard: Option<String>,
    /// Two threads without a bound and three to three preemptions, or to fewer where that takes over five minutes: takes hours
    #[arg(long)]
    full: bool,
    /// Longest time for one scenario with every step in place, in seconds; 30 by default, 300 with --full
    #[arg(long, value_name = "SECONDS")]
    time: Option<u64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command. Exit code 0: all as expected; 1: something else was found; 2: nothing has that name.
pub fn run(args: &Args) -> ExitCode {
    let selection = Selection {
        protocol: args.protocol,
        scenario: args.scenario.clone(),
        hazard: args.hazard.clone(),
        full: args.full,
        time: args.time.map(Duration::from_secs),
    };
    let checks = selection.checks();
    if checks.is_empty() {
        eprintln!("error: no scenario of that name shows that hazard on that protocol");
        return ExitCode::from(2);
    }
    let progress = Progress::default();
    let checked = watch(checks.len(), &progress, || selection.run(&checks, &progress));
    let report = Report::new(checked.iter().map(|checked| checked.row.clone()).collect());
    let written = if args.json {
        write_json(&report)
    } else {
        write_text(&checked, &report, args.hazard.is_some() || args.scenario.is_some())
    };
    match (written, report.failed) {
        (Ok(()), 0) => ExitCode::SUCCESS,
        // A reader that has gone away is no failed check.
        (Err(error), 0) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        _ => ExitCode::from(1),
    }
}

/// Shows how far it is while `body` runs, on a terminal.
fn watch<T: Send>(checks: usize, progress: &Progress, body: impl FnOnce() -> T + Send) -> T {
    if !std::io::stderr().is_terminal() {
        return body();
    }
    let bar = ProgressBar::with_draw_target(Some(checks as u64), ProgressDrawTarget::stderr());
    if let Ok(style) =
        ProgressStyle::with_template("{bar:30} {pos}/{len} checks, {msg} executions, {elapsed}")
    {
        bar.set_style(style);
    }
    let result = std::thread::scope(|scope| {
        let running = scope.spawn(body);
        while !running.is_finished() {
            bar.set_position(progress.done.load(Ordering::Relaxed) as u64);
            bar.set_message(progress.executions.load(Ordering::Relaxed).to_string());
            std::thread::sleep(Duration::from_millis(100));
        }
        running.join()
    });
    bar.finish_and_clear();
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn write_json(report: &Report) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, report)?;
    writeln!(out)
}

fn write_text(checked: &[Checked], report: &Report, tables: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for Checked { row, title, counterexample } in checked {
        let verdict = match (row.is_as_expected(), row.found) {
            (true, Verdict::Clean) => "clean",
            (true, Verdict::Violation) => "found, as it should be",
            (false, Verdict::Clean) => "NOT FOUND",
            (false, Verdict::Violation) => "VIOLATION",
        };
        let extent = match (row.found, row.engine, row.complete, row.preemption_bound) {
            (Verdict::Violation, ..) => String::new(),
            (_, "shuttle", ..) => format!(", random schedules of {} threads", row.threads),
            (_, "threads", ..) => format!(", rounds of {} threads of this machine", row.threads),
            (_, _, false, _) => ", not exhausted".to_owned(),
            (_, _, true, None) => ", all interleavings".to_owned(),
            (_, _, true, Some(bound)) => format!(", all with up to {bound} preemptions"),
        };
        writeln!(
            out,
            "{:8} {:7} {:15} {:11} {verdict}{extent} ({} executions, {} ms)",
            row.protocol,
            row.engine,
            row.scenario,
            row.hazard.unwrap_or("-"),
            row.executions,
            row.elapsed_ms
        )?;
        if let Some(found) = counterexample
            && (tables || !row.is_as_expected())
        {
            writeln!(out, "\n{title}\n\n{}", table::render(found))?;
        }
    }
    writeln!(
        out,
        "{} checks, {} not as expected, {} not exhausted",
        report.results.len(),
        report.failed,
        report.not_exhausted
    )
}
