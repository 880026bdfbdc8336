//! `tailpin boot`: the library under a kernel of its own, on QEMU.

mod image;
mod qemu;
mod report;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Status;
use crate::output::{complain, print};
use crate::progress::Progress;
use crate::style::Style;
use crate::units::counted;
use image::NoImage;
use qemu::{End, Limits, Machine};
use report::{BreakEntry, Catalogue, Event, Outcome, Report};

const EXAMPLES: &str = "\
Examples:
  tailpin boot                              every scenario on two CPUs
  tailpin boot --cpus 4 --quick             the same in a quarter of the rounds, on four
  tailpin boot --scenario walks,rights      two scenarios
  tailpin boot --memory 3072 --scenario high_memory,gigantic_leaf
  tailpin boot --break all                  a step left out at a time: each must be found
  tailpin boot --json | jq '.scenarios[] | select(.passed | not)'

QEMU emulates the machine (Debian: apt-get install qemu-system-x86); where it is not installed, nothing is run, and the \
reason is printed. The image is built from the sources in kernel/ first.

Exit codes: 0 every scenario passed (with --break: every break was found), or nothing could be run here; 1 not so; \
2 bad usage, or the image can't be built or booted.";

/// Boots a kernel on this library in QEMU and runs its scenarios on a real MMU's terms
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = EXAMPLES, after_help = "More, with examples: tailpin boot --help")]
pub(crate) struct Args {
    /// CPUs of the machine
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=8))]
    cpus: u32,
    /// Memory of the machine, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(64..=65536))]
    memory: u64,
    /// Only these scenarios
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    scenario: Vec<String>,
    /// Break the kernel on purpose, one way at a time, and see it found; `all` does each in turn
    #[arg(long = "break", value_name = "NAME", value_delimiter = ',', conflicts_with_all = ["scenario", "list"])]
    breaks: Vec<String>,
    /// A quarter of the rounds
    #[arg(long)]
    quick: bool,
    /// Boot this image instead of building one
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Longest time for one boot, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// Print the names of all scenarios and breaks, and run none
    #[arg(long)]
    list: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Longest time without a line: longer than any scenario takes on a busy machine.
const SILENCE: Duration = Duration::from_secs(180);

/// Boots after which a break counts as missed. Most breaks open a window between two CPUs, which
/// one boot may miss where the machine is busy.
const MOST_BOOTS: u32 = 3;

#[derive(Default, Serialize)]
struct Summary {
    cpus: u64,
    memory_bytes: u64,
    /// Why nothing was run.
    skipped: Option<String>,
    scenarios: Vec<Outcome>,
    breaks: Vec<Found>,
    /// Why this is no pass.
    failed: Option<String>,
    image_bytes: u64,
    metadata_bytes: u64,
    fault_stack_bytes: u64,
    elapsed_ms: u64,
}

/// A break, and whether its scenario showed it.
#[derive(Serialize)]
struct Found {
    name: String,
    scenario: String,
    /// What was to be seen: `fails`, `panics` or `resets`.
    sign: String,
    found: bool,
    /// What was seen.
    seen: String,
    /// How often it was booted for that.
    boots: u32,
    elapsed_ms: u64,
}

/// Why a boot came to nothing.
enum Trouble {
    /// It can't be done here.
    Skipped(String),
    /// The caller asked for something that there is not, or the image could not be built or booted.
    Unusable(String),
}

/// Runs the command, prints what came of it and says how it ended.
pub(crate) fn run(args: &Args) -> Status {
    let start = Instant::now();
    let mut summary = match boot(args) {
        Ok(Some(summary)) => summary,
        Ok(None) => return Status::Clean,
        Err(Trouble::Skipped(reason)) => Summary { skipped: Some(reason), ..Summary::default() },
        Err(Trouble::Unusable(why)) => {
            complain(why);
            return Status::Unusable;
        }
    };
    summary.elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let status = if summary.failed.is_none() { Status::Clean } else { Status::Failed };
    let text = if args.json {
        serde_json::to_string_pretty(&summary).expect("numbers and strings") + "\n"
    } else {
        closing(&summary, Style::for_stdout())
    };
    print(&text).max(status)
}

/// Does what was asked for; `None` if that was a list, which is printed.
fn boot(args: &Args) -> Result<Option<Summary>, Trouble> {
    if !qemu::is_installed() {
        return Err(Trouble::Skipped(
            "qemu-system-x86_64 is not installed (Debian: apt-get install qemu-system-x86)".to_owned(),
        ));
    }
    let image = match &args.image {
        Some(image) => image.clone(),
        None => {
            let _building = Progress::new("building the image", 0);
            image::build().map_err(|error| match error {
                NoImage::Impossible(reason) => Trouble::Skipped(reason),
                NoImage::Failed(why) => Trouble::Unusable(why),
            })?
        }
    };
    let runner = Runner { args, image: &image };
    let image_bytes = image::bytes(&image)
        .map_err(|error| Trouble::Unusable(format!("{} can't be read: {error}", image.display())))?;
    if args.list || !args.breaks.is_empty() || !args.scenario.is_empty() {
        let catalogue = runner.catalogue()?;
        if args.list {
            print(&listed(&catalogue));
            return Ok(None);
        }
        known(&args.scenario, catalogue.scenarios.iter(), "scenario")?;
        if !args.breaks.is_empty() {
            let all = args.breaks.iter().any(|name| name == "all");
            let names = catalogue.breaks.iter().map(|entry| &entry.name);
            if !all {
                known(&args.breaks, names, "break")?;
            }
            let chosen = catalogue.breaks.iter().filter(|entry| all || args.breaks.contains(&entry.name));
            let breaks = chosen.map(|entry| runner.break_once(entry)).collect::<Result<Vec<_>, _>>()?;
            let missed = breaks.iter().filter(|found| !found.found).count();
            let failed = (missed > 0).then(|| format!("{missed} breaks were not found"));
            let memory_bytes = args.memory << 20;
            let cpus = args.cpus.into();
            return Ok(Some(Summary {
                cpus,
                memory_bytes,
                breaks,
                failed,
                image_bytes,
                ..Summary::default()
            }));
        }
    }
    let words = format!("scenario={}{}", args.scenario.join(","), if args.quick { " quick" } else { "" });
    let (report, end) = runner.boot(words, !args.json)?;
    let failed = match report.shortcoming() {
        // Only this status and every line together are a pass.
        None if end == End::Well && report.cpus == Some(args.cpus.into()) => None,
        None if end == End::Well => Some("not all CPUs came up".to_owned()),
        None => Some(end.what().to_owned()),
        Some(why) if end == End::Well || end == End::Wrong => Some(why),
        Some(why) => Some(format!("{}: {why}", end.what())),
    };
    Ok(Some(Summary {
        cpus: report.cpus.unwrap_or(0),
        memory_bytes: report.memory_bytes,
        scenarios: report.outcomes,
        failed,
        image_bytes,
        metadata_bytes: report.metadata_bytes,
        fault_stack_bytes: report.fault_stack_bytes,
        ..Summary::default()
    }))
}

/// An error that names what there is, if a name is not among it.
fn known<'n>(
    asked: &[String],
    there: impl Iterator<Item = &'n String> + Clone,
    what: &str,
) -> Result<(), Trouble> {
    match asked.iter().find(|name| !there.clone().any(|known| known == *name)) {
        None => Ok(()),
        Some(name) => {
            let all = there.map(String::as_str).collect::<Vec<_>>().join(", ");
            Err(Trouble::Unusable(format!("there is no {what} {name}; there are: {all}")))
        }
    }
}

struct Runner<'r> {
    args: &'r Args,
    image: &'r PathBuf,
}

impl Runner<'_> {
    fn boot(&self, words: String, stream: bool) -> Result<(Report, End), Trouble> {
        let machine =
            Machine { image: self.image, cpus: self.args.cpus, memory_mib: self.args.memory, words };
        let limits = Limits { silence: SILENCE, total: Duration::from_secs(self.args.timeout) };
        let (mut report, style) = (Report::default(), Style::for_stdout());
        let mut running = Some(Progress::new("booting", 0));
        let end = qemu::boot(&machine, &limits, |line| match report.take(line) {
            Event::Begun => {
                let name = report.running.as_deref().unwrap_or("");
                let number = report.outcomes.len() + 1;
                running = None;
                running = Some(Progress::new(format!("{number}/{} {name}", report.announced), 0));
            }
            Event::Ended => {
                running = None;
                if let Some(outcome) = report.outcomes.last().filter(|_| stream) {
                    print(&rendered(outcome, style));
                }
            }
            Event::Other => {}
        });
        drop(running);
        let end = end.map_err(|error| Trouble::Unusable(format!("QEMU can't be run: {error}")))?;
        if end == End::Broke && report.is_blank() {
            // QEMU has said why: the image is none, or the machine can't be had.
            return Err(Trouble::Unusable(format!("QEMU can't boot {}", self.image.display())));
        }
        let before = report.outcomes.len();
        let why = report.panic.clone().unwrap_or_else(|| end.what().to_owned());
        report.cut_off(&why);
        if let Some(outcome) = report.outcomes.get(before).filter(|_| stream) {
            print(&rendered(outcome, style));
        }
        Ok((report, end))
    }

    fn catalogue(&self) -> Result<Catalogue, Trouble> {
        let (report, end) = self.boot("list".to_owned(), false)?;
        if end == End::Well {
            Ok(report.catalogue)
        } else {
            Err(Trouble::Unusable(format!("the image does not list its scenarios: {}", end.what())))
        }
    }

    fn break_once(&self, entry: &BreakEntry) -> Result<Found, Trouble> {
        let start = Instant::now();
        let mut boots = 0;
        let (found, seen) = loop {
            boots += 1;
            let (report, end) = self.boot(format!("break={}", entry.name), false)?;
            let (found, seen) = sign(&report, end, &entry.sign);
            if found || boots == MOST_BOOTS {
                break (found, seen);
            }
        };
        let found = Found {
            name: entry.name.clone(),
            scenario: entry.scenario.clone(),
            sign: entry.sign.clone(),
            found,
            seen,
            boots,
            elapsed_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        if !self.args.json {
            let style = Style::for_stdout();
            let word = if found.found { style.good("found ") } else { style.bad("MISSED") };
            print(&format!("  {word} {:<22} by {:<20} {}\n", found.name, found.scenario, found.seen));
        }
        Ok(found)
    }
}

/// Whether a broken kernel showed the sign that was expected, and what was seen.
fn sign(report: &Report, end: End, expected: &str) -> (bool, String) {
    let failed = report.outcomes.last().filter(|outcome| !outcome.passed);
    let found = match expected {
        "fails" => end == End::Wrong && report.panic.is_none() && failed.is_some(),
        "panics" => end == End::Wrong && report.panic.is_some(),
        "resets" => end == End::Reset && !report.ended && report.running.is_none() && failed.is_some(),
        _ => false,
    };
    let seen = failed.and_then(|outcome| outcome.why.clone()).unwrap_or_else(|| end.what().to_owned());
    (found, seen)
}

fn listed(catalogue: &Catalogue) -> String {
    let mut text = "Scenarios (--scenario):\n".to_owned();
    for name in &catalogue.scenarios {
        let _ = writeln!(text, "  {name}");
    }
    text += "\nBreaks (--break), the scenario that finds each, and what it does then:\n";
    for entry in &catalogue.breaks {
        let _ = writeln!(text, "  {:<22} {:<20} {}", entry.name, entry.scenario, entry.sign);
    }
    text
}

fn rendered(outcome: &Outcome, style: Style) -> String {
    let Outcome { name, passed, rounds, notes, why, .. } = outcome;
    let word = if *passed { style.good("pass") } else { style.bad("FAIL") };
    let mut text = format!("  {word}  {name:<22} {}\n", style.dim(&format!("{rounds} rounds")));
    for line in notes.iter().chain(why) {
        let _ = writeln!(text, "        {}", style.dim(line));
    }
    text
}

fn closing(summary: &Summary, style: Style) -> String {
    if let Some(reason) = &summary.skipped {
        return format!("boot: skipped, {reason}\n");
    }
    let verdict = match &summary.failed {
        None => style.good("all is well"),
        Some(why) => style.bad(why),
    };
    let what = if summary.breaks.is_empty() {
        let passed = summary.scenarios.iter().filter(|outcome| outcome.passed).count();
        format!("{passed} of {} scenarios passed", summary.scenarios.len())
    } else {
        let found = summary.breaks.iter().filter(|found| found.found).count();
        format!("{found} of {} breaks found", summary.breaks.len())
    };
    let seconds = summary.elapsed_ms as f64 / 1000.0;
    format!("\n  {verdict}: {what} on {} in {seconds:.1} s\n", counted(summary.cpus, "CPU"))
}

#[cfg(test)]
mod tests {
    use super::qemu::End;
    use super::report::Report;
    use super::sign;

    fn report(lines: &[&str]) -> Report {
        let mut report = Report::default();
        for line in lines {
            report.take(line);
        }
        report.cut_off("the processor reset");
        report
    }

    #[test]
    fn a_break_is_found_by_its_own_sign_only() {
        let begun = ["tailpin cpus=2 memory=1 scenarios=1", "run rights"];
        let fails = report(
            &[&begun[..], &["fail rights mcycles=1 rounds=1: stale", "end passed=0 failed=1"]].concat(),
        );
        let panics = report(&[&begun[..], &["panic on CPU 0: no answer"]].concat());
        let resets = report(&begun);
        let passes =
            report(&[&begun[..], &["pass rights mcycles=1 rounds=1", "end passed=1 failed=0"]].concat());
        let found = |report, end| ["fails", "panics", "resets"].map(|expected| sign(report, end, expected).0);
        assert_eq!(found(&fails, End::Wrong), [true, false, false]);
        assert_eq!(found(&panics, End::Wrong), [false, true, false]);
        assert_eq!(found(&resets, End::Reset), [false, false, true]);
        assert_eq!(found(&passes, End::Well), [false; 3]);
        assert_eq!(found(&resets, End::Silent), [false; 3]);
    }
}
