//! `tailpin check`: its options and what it prints.

mod html;
mod reach;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tailpin_check::changes::Changes;
use tailpin_check::report::{Report, Verdict};
use tailpin_check::safeguards::Safeguard;
use tailpin_check::suite::{Checked, Progress, Selection};
use tailpin_check::{Counterexample, ProtocolKind, Resume};
use tailpin_check::{names, table};

use self::reach::Reach;
use crate::Status;
use crate::output::{complain, print, save, targets};
use crate::units::counted;

/// How long to look for a shorter run than the first that goes wrong.
const SHORTEN: Duration = Duration::from_millis(1500);
/// Rows of all stories together, and of one.
const ROWS_IN_ALL: usize = 28;
const FEWEST_ROWS: usize = 12;
const MOST_ROWS: usize = 20;

/// Model check both page protocols: no race with every step in place, and each race with its step
/// left out.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(
    after_help = "Examples:\n  tailpin check                    every scenario, every safeguard, in one to three minutes\n  \
    tailpin check --hazard H2        the mail's race, told: what each thread did and believed\n  \
    tailpin check --hazard H2 --steps   every step of it\n  \
    tailpin check --hazard H2 --report h2.html   the same as a page to step through\n  \
    tailpin check --full --resume DIR --reach reach.json   hours, in as many runs as one likes\n  \
    tailpin check --scenario I4      one scenario, both protocols\n  \
    tailpin check --json             one row per check, for machines\n  \
    tailpin check --list             all names\n\nExit codes: 0 all came as expected, 1 something did not or was not run, 2 bad usage \
    or output that can't be written."
)]
pub(crate) struct Args {
    /// Only this protocol
    #[arg(long, value_enum)]
    protocol: Option<ProtocolKind>,
    /// Only this scenario, as I4
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Only the scenarios that show this hazard, as H2, and tell the shortest run that goes wrong
    #[arg(long, value_name = "NAME")]
    hazard: Option<String>,
    /// Every step of each run that goes wrong
    #[arg(long)]
    steps: bool,
    /// To as many preemptions as five minutes for each scenario allow, in the end to any number:
    /// takes hours
    #[arg(long)]
    full: bool,
    /// Longest time for one scenario with every step in place, all bounds together, in seconds; 30
    /// by default, 300 with --full
    #[arg(long, value_name = "SECONDS")]
    time: Option<u64>,
    /// Keep in this directory how far each scenario was explored, and go on from there: with --full
    /// the whole of it, in as many runs as it takes
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    /// Also write the races as a page to step through, one HTML file
    #[arg(long, value_name = "FILE", requires = "hazard")]
    report: Option<PathBuf>,
    /// Also write how far each scenario was explored, and where each step that is left out was
    /// missed, as JSON, after each of them; what the file says of others stays
    #[arg(long, value_name = "FILE")]
    reach: Option<PathBuf>,
    /// Run the one-word protocol with every step in place, and also write each distinct change of a
    /// page word that was met, with the line of code that made it, as JSON: what `proof/prove
    /// --changes FILE` holds the steps of the proof against
    #[arg(long, value_name = "FILE", conflicts_with = "hazard")]
    changes: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print the names of all scenarios and hazards, and run nothing
    #[arg(long, exclusive = true)]
    list: bool,
}

/// Runs the command, prints what came of it and says how it ended.
pub(crate) fn run(args: &Args) -> Status {
    if args.list {
        return print(&listed());
    }
    let files = [&args.report, &args.reach, &args.changes].map(Option::as_ref);
    let (target, reach, changes) = match targets(files) {
        Ok([report, reach, changes]) => (report, reach, changes),
        Err(why) => {
            complain(why);
            return Status::Unusable;
        }
    };
    let resume = match args.resume.as_deref().map(Resume::in_dir).transpose() {
        Ok(resume) => resume,
        Err(error) => {
            let dir = args.resume.as_deref().unwrap_or_else(|| std::path::Path::new(""));
            complain(format_args!("{} can't be resumed from: {error}", dir.display()));
            return Status::Unusable;
        }
    };
    let selection = Selection {
        protocol: args.protocol,
        scenario: args.scenario.clone(),
        hazard: args.hazard.clone(),
        full: args.full,
        time: args.time.map(Duration::from_secs),
        resume,
        changes: changes.as_ref().map(|_| Changes::default()),
        shorten: if args.hazard.is_some() || args.steps { SHORTEN } else { Duration::ZERO },
    };
    let checks = selection.checks();
    if checks.is_empty() {
        complain(names::why_nothing(&selection));
        return Status::Unusable;
    }
    let reach = match reach.map(|target| Reach::new(target, selection.time_each())).transpose() {
        Ok(reach) => reach,
        Err(why) => {
            complain(why);
            return Status::Unusable;
        }
    };
    let progress = Progress::default();
    let each = |checked: &Checked| {
        if let Some(reach) = &reach {
            reach.enter(checked);
        }
    };
    let checked = watch(checks.len(), &progress, || selection.run_each(&checks, &progress, &each));
    let report = Report::new(checked.iter().map(|checked| checked.row.clone()).collect());
    let text = if args.json {
        serde_json::to_string_pretty(&report).expect("numbers and names") + "\n"
    } else if args.hazard.is_some() && !args.steps {
        told(&checked) + &summary(&report)
    } else {
        render(&checked, args.steps) + &summary(&report)
    };
    let mut status = if report.failed == 0 { Status::Clean } else { Status::Failed };
    if let Some(reach) = reach {
        status = status.max(reach.status());
    }
    if let Some((target, changes)) = changes.zip(selection.changes) {
        let lines: Vec<_> =
            changes.all().iter().map(|change| serde_json::json!(change).to_string()).collect();
        status = status.max(save(&target, &format!("[\n{}\n]\n", lines.join(",\n"))));
    }
    if let Some(target) = target {
        status = status.max(save(&target, &html::html(&races(&checked))));
    }
    print(&text).max(status)
}

/// All names there are, and what is behind them.
fn listed() -> String {
    let mut text = "Scenarios (--scenario):\n".to_owned();
    for check in names::scenarios() {
        let _ = writeln!(text, "  {:<18} {}", check.scenario, check.title);
    }
    text += "\nHazards (--hazard), and what is done with the step left out:\n";
    for hazard in Safeguard::ALL {
        let _ =
            writeln!(text, "  {:<18} {:<9} {}", hazard.name(), hazard.protocol().name(), hazard.without());
    }
    text += "\nNot shown by any scenario:\n";
    for (name, why) in names::NOT_SHOWN {
        let _ = writeln!(text, "  {name:<18} {why}");
    }
    text += "\nTests of another crate, by the same checker:\n";
    for (what, command) in names::ELSEWHERE {
        let _ = writeln!(text, "  {what}:\n      {command}");
    }
    text
}

/// Shows how far it is while `body` runs, on a terminal.
fn watch<T>(checks: usize, progress: &Progress, body: impl FnOnce() -> T) -> T {
    let shown = crate::progress::Progress::new("checking", checks as u64);
    /// Ends the thread that draws, also where `body` panics.
    struct Ends<'b>(&'b AtomicBool);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            // Relaxed: it carries nothing along.
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ends = Ends(&ended);
        // Where no thread can be started, nothing is drawn.
        let _ = std::thread::Builder::new().spawn_scoped(scope, || {
            while !ended.load(Ordering::Relaxed) {
                shown.set(progress.done.load(Ordering::Relaxed) as u64, checks as u64);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        body()
    })
}

/// A hazard that was found.
struct Race<'c> {
    hazard: Safeguard,
    /// Scenarios that show it.
    scenarios: Vec<&'static str>,
    /// The one with the shortest run.
    told: &'c Checked,
    /// That run.
    run: &'c Counterexample,
}

/// Each hazard, where it is found, and the shortest of the runs.
fn races(checked: &[Checked]) -> Vec<Race<'_>> {
    let mut hazards: Vec<Safeguard> = Vec::new();
    for hazard in checked.iter().filter_map(|checked| checked.check.safeguard) {
        if !hazards.contains(&hazard) {
            hazards.push(hazard);
        }
    }
    let race = |hazard: Safeguard| {
        let of = |checked: &&Checked| checked.check.safeguard == Some(hazard) && checked.row.is_as_expected();
        let finds = || checked.iter().filter(of);
        let (told, run) = finds()
            .filter_map(|checked| Some((checked, checked.counterexample.as_ref()?)))
            .min_by_key(|(_, found)| found.length())?;
        Some(Race { hazard, scenarios: finds().map(|checked| checked.row.scenario).collect(), told, run })
    };
    hazards.into_iter().filter_map(race).collect()
}

/// The races in words, what is clean, and what did not come as expected.
fn told(checked: &[Checked]) -> String {
    let mut text = String::new();
    let races = races(checked);
    let rows = (ROWS_IN_ALL / races.len().max(1)).clamp(FEWEST_ROWS, MOST_ROWS);
    for Race { hazard, scenarios, told, run } in races {
        let _ = writeln!(text, "{} ({}): {}", hazard.name(), hazard.protocol().name(), hazard.without());
        let (scenario, title) = (told.row.scenario, told.check.title);
        let _ = writeln!(text, "Found in {}; told: {scenario}, {title}.", scenarios.join(", "));
        let _ = writeln!(text, "\n{}", table::story(run, rows));
    }
    let clean = |checked: &&Checked| checked.check.safeguard.is_none() && checked.row.is_as_expected();
    let names: Vec<_> = checked.iter().filter(clean).map(|checked| checked.row.scenario).collect();
    if !names.is_empty() {
        let _ = writeln!(text, "With every step in place, clean: {}.", names.join(", "));
    }
    let odd: Vec<_> = checked.iter().filter(|checked| !checked.row.is_as_expected()).cloned().collect();
    text + &render(&odd, false)
}

fn summary(report: &Report) -> String {
    format!(
        "{} checks, {} not as expected ({} of them not run), {} not exhausted\n",
        report.results.len(),
        report.failed,
        report.not_run,
        report.not_exhausted
    )
}

/// A line for each check; every step of each run that goes wrong, or of those alone that should
/// not.
fn render(checked: &[Checked], steps: bool) -> String {
    let mut text = String::new();
    for Checked { row, check, counterexample } in checked {
        let verdict = match (row.is_as_expected(), row.found) {
            (true, Verdict::Clean) => "clean",
            (true, Verdict::Violation) => "found, as it should be",
            (false, Verdict::Clean) => "NOT FOUND",
            (false, Verdict::Violation) => "VIOLATION",
            (_, Verdict::NotRun) => "NOT RUN",
        };
        let extent = match (row.found, row.engine, row.complete, row.preemption_bound) {
            (Verdict::Violation, ..) => String::new(),
            (Verdict::NotRun, ..) => row.hindered.as_ref().map_or_else(String::new, |why| format!(", {why}")),
            (_, "shuttle", ..) => format!(", random schedules of {} threads", row.threads),
            (_, "threads", ..) => format!(", rounds of {} threads of this machine", row.threads),
            (_, _, false, _) => ", not exhausted".to_owned(),
            (_, _, true, None) => ", all interleavings".to_owned(),
            (_, _, true, Some(bound)) => format!(", all with up to {bound} preemptions"),
        };
        let _ = writeln!(
            text,
            "{:8} {:7} {:15} {:11} {verdict}{extent} ({}, {} ms)",
            row.protocol,
            row.engine,
            row.scenario,
            row.hazard.unwrap_or("-"),
            counted(row.executions, "execution"),
            row.elapsed_ms
        );
        if let Some(found) = counterexample
            && (steps || !row.is_as_expected())
        {
            let _ = writeln!(text, "\n{}\n\n{}", check.title, table::steps(found));
        }
    }
    text
}
