//! `tailpin replay`: recorded kernel allocation traces, carried out by the library.

mod html;
mod table;

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde::Serialize;
use tailpin_replay::{Outcome, Plan, Protocol, Reading, Sample, Setup, Watch, compile, trace};

use crate::busy::Busy;
use crate::output::{complain, print, save, targets};
use crate::page::Page;
use crate::progress::Progress;
use crate::{Status, style};

/// The trace that is replayed when none is named.
const DEFAULT_TRACE: &str = "guest-pins";

/// A round takes a fraction of a second, in which anything else on the machine shows.
const DEFAULT_ROUNDS: u16 = 5;

const EXAMPLES: &str = "\
Built-in traces: guest-pins (Linux 6.1: io_uring buffers and direct reads pin parts of huge pages that the kernel \
wants to split) and node (Linux 6.18: a JavaScript heap under garbage collection beside numpy).

Examples:
  tailpin replay                                   the trace guest-pins
  tailpin replay node --threads 4                  four copies at once on one shared zone
  tailpin replay guest-pins --protocol classic     the design of 2013, with its locks
  tailpin replay pins.pft.zst --json               one object on standard output
  tailpin replay guest-pins --report replay.html   timeline and numbers as a page

A frame number in a trace says which frame is meant, not where it lies: blocks are placed by this library's own \
allocator. Records are numbered from 0.

Linux never splits a block while one of its pages is pinned, so no recorded split has a pin beside it. This library \
does split then. A recorded split of a block that had pins is therefore carried out just before the last of them \
went: the earliest moment at which, for all the trace shows, nothing but the pin stood against it. \
splits_under_pins counts splits done while a page was pinned, and linux_split_later_ns adds up how much later Linux did \
them: at most so long, because a trace does not say since when a split was wanted. --as-recorded leaves every split \
where it was recorded.

Where a trace records that Linux refused a split, it is done: the owner's reference goes, pages that are pinned stay \
until they are not, pages that the trace pins again later stay with their owner, all others are free at once.

peak_used_frames and huge_free_at_peak are taken when the live frames of the trace are at their highest; with several \
threads, when the first of them is there.

Exit codes: 0 done and clean, 1 a violation, a leak, a skipped event or a failed allocation, 2 bad usage or an \
unreadable or impossible trace.";

/// Replays recorded kernel allocation traces and checks every invariant at the end
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = EXAMPLES, after_help = "More, with examples: tailpin replay --help")]
pub(crate) struct Args {
    /// Traces: files (PFTRACE1, as they are or compressed with zstd), - for standard input, or
    /// built-ins
    #[arg(value_name = "FILE|NAME", default_value = DEFAULT_TRACE)]
    traces: Vec<PathBuf>,

    /// How frames are counted
    #[arg(long, value_name = "PROTOCOL", default_value = Protocol::default().name(), value_parser = protocols())]
    protocol: Protocol,

    /// Copies to run at once on one shared zone
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,

    /// Rounds, each on a fresh zone: the fastest is reported, what goes wrong in any counts
    #[arg(long, value_name = "N", default_value_t = DEFAULT_ROUNDS, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,

    /// Print one JSON object; several traces: an object with `runs`
    #[arg(long)]
    json: bool,

    /// Leave every split where Linux did it
    #[arg(long)]
    as_recorded: bool,

    /// Write timeline and numbers to a self-contained HTML file
    #[arg(long, value_name = "F.html")]
    report: Option<PathBuf>,

    /// Also write the tables as Markdown
    #[arg(long, value_name = "F.md")]
    markdown: Option<PathBuf>,

    /// Size of the zone [default: as large as the trace needs]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(2..=1 << 19))]
    zone_mib: Option<u64>,

    /// Refuse traces of more than this many MiB uncompressed
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=16384))]
    limit_mib: u64,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            traces: vec![DEFAULT_TRACE.into()],
            protocol: Protocol::default(),
            threads: 1,
            rounds: DEFAULT_ROUNDS,
            json: false,
            as_recorded: false,
            report: None,
            markdown: None,
            zone_mib: None,
            limit_mib: trace::DEFAULT_LIMIT >> 20,
        }
    }
}

/// Names of protocols, and what they are.
fn protocols() -> impl TypedValueParser<Value = Protocol> {
    let help = |protocol| match protocol {
        Protocol::OneWord => "All of a frame's state in one word, no lock",
        Protocol::Classic => "The compound pages of the 2013 kernel, separate words and a bit lock",
    };
    let values = Protocol::ALL.map(|protocol| PossibleValue::new(protocol.name()).help(help(protocol)));
    PossibleValuesParser::new(values).try_map(|name| {
        Protocol::ALL.into_iter().find(|protocol| protocol.name() == name).ok_or("no such protocol")
    })
}

/// Several traces as one object.
#[derive(Serialize)]
struct Runs<'o> {
    runs: &'o [Outcome],
}

/// One replay, with what the report draws.
struct Run {
    outcome: Outcome,
    plan: Plan,
    /// What the zone had at the end of each interval; nothing where no report is wanted.
    course: Vec<Sample>,
}

/// Replays every trace, prints what came of it and says how it ended.
pub(crate) fn run(args: &Args) -> Status {
    let [report, markdown] = match targets([args.report.as_ref(), args.markdown.as_ref()]) {
        Ok(targets) => targets,
        Err(error) => {
            complain(error);
            return Status::Unusable;
        }
    };
    for target in [&report, &markdown].into_iter().flatten() {
        if let Some(trace) = args.traces.iter().find(|trace| is_file(trace) && target.is_file_at(trace)) {
            complain(format_args!("{} can't be written: it is a trace of this run", trace.display()));
            return Status::Unusable;
        }
    }
    let style = style::Style::for_stdout();
    let busy = Busy::before().warning(None);
    let mut status = Status::Clean;
    let mut outcomes = Vec::new();
    let mut page = Page::new("tailpin replay");
    page.headline("A kernel's memory, replayed");
    for path in &args.traces {
        match one(args, path) {
            Ok(Run { outcome, plan, course }) => {
                if !outcome.is_clean() {
                    status = status.max(Status::Failed);
                }
                if !args.json {
                    let gap = if outcomes.is_empty() { "" } else { "\n" };
                    status = status.max(print(&format!(
                        "{gap}{}",
                        table::render(&outcome, busy, style::width(), style)
                    )));
                }
                if args.report.is_some() {
                    html::add(&mut page, &outcome, busy, &plan.timeline, &course);
                }
                outcomes.push(outcome);
            }
            Err(error) => {
                complain(format_args!("{}: {error}", path.display()));
                status = Status::Unusable;
            }
        }
    }
    if args.json && !outcomes.is_empty() {
        let json = match outcomes.as_slice() {
            [outcome] if args.traces.len() == 1 => serde_json::to_string_pretty(outcome),
            runs => serde_json::to_string_pretty(&Runs { runs }),
        };
        status = status.max(print(&format!("{}\n", json.expect("numbers and strings"))));
    }
    if let Some(target) = report.filter(|_| !outcomes.is_empty()) {
        status = status.max(save(&target, &page.finish()));
    }
    if let Some(target) = markdown.filter(|_| !outcomes.is_empty()) {
        let sections: Vec<String> = outcomes.iter().map(table::markdown).collect();
        status = status.max(save(&target, &sections.join("\n")));
    }
    status
}

/// Whether a trace is neither built in nor standard input.
fn is_file(trace: &Path) -> bool {
    let builtin = trace.to_str().and_then(trace::Builtin::named);
    builtin.is_none() && trace != Path::new(trace::STANDARD_INPUT)
}

impl Watch for Progress {
    fn progress(&self, steps: usize) {
        self.add(steps as u64);
    }
}

fn one(args: &Args, path: &Path) -> Result<Run, Box<dyn Error>> {
    let short = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let reading = Progress::new(format!("reading {short}"), 0);
    let trace = trace::find(path, args.limit_mib << 20)?;
    let plan = compile(&trace, Reading { as_recorded: args.as_recorded, merges: args.protocol.merges() })?;
    let refused = trace.vmstat("thp_split_page_failed");
    let name = trace.name.clone();
    // A large trace is no small thing to keep beside its plan.
    drop(trace);
    drop(reading);

    let setup = Setup {
        protocol: args.protocol,
        threads: usize::from(args.threads),
        zone_frames: args.zone_mib.map(|mib| mib << 8),
    };
    if plan.events() == 0 {
        return Err("the trace has no records: there is nothing to replay".into());
    }
    setup.frames(&plan)?;
    let (threads, rounds) = (u64::from(args.threads), u64::from(args.rounds));
    let replaying = Progress::new(format!("replaying {short}"), plan.steps() as u64 * threads * rounds);
    let measured = setup.rounds(&plan, rounds, &replaying)?;
    drop(replaying);
    let course = match args.report.is_some() {
        true => Setup { zone_frames: Some(measured.zone_frames), ..setup }.course(&plan)?,
        false => Vec::new(),
    };
    let outcome = Outcome::new(&name, args.protocol, threads, rounds, refused, &plan, measured);
    Ok(Run { outcome, plan, course })
}
