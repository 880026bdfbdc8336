//! `tailpin retain`: one percent of a log survives; what does the rest cost?

mod child;
mod html;
mod keeper;
mod log;
mod measure;
mod picture;
mod pinned;
mod row;
mod run;
mod steady;
mod table;

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::Status;
use crate::output::{complain, print, save, targets};
use crate::style::{Style, width};
use log::Shape;
use row::Backend;

const EXAMPLES: &str = "\
A log of records is read from a file, 2 MiB at a time, and a few records are kept, as a cache or an index would. Four \
back ends do it, each in a process of its own:

  bytes    a slice of the read buffer, by the crate bytes: each keeps its whole buffer
  copy     a copy of its own
  pins     a slice of this library's: it keeps the pages it lies on, the others are given back to the kernel
  hybrid   a copy where the record is small, pins where it is large

Examples:
  tailpin retain                                1 GiB, records of 1 KiB, 1 % survive
  tailpin retain --record 65536 --keep 0.3      where copying costs most
  tailpin retain --record 64                    where pins are at their worst
  tailpin retain --limit 256                    each under a hard limit of 256 MiB: who dies?
  tailpin retain --backend bytes --backend pins --json
  tailpin retain --report retain.html --picture retain.svg
  tailpin retain --steady                       a cache in steady state: CPU and memory of a read

kept_bytes are the bytes in the surviving records; retained_bytes what they keep from reuse by the back end's own \
account; rss_bytes how far the resident set grew; kernel_bytes how far what the kernel really holds grew: the charge of a \
memory cgroup less page cache, or where none can be made the fall of MemAvailable, which other processes disturb \
(kernel_bytes_source says which). Giving back is part of elapsed_ms. At the end every survivor is compared with what was \
written to the log, byte for byte.

Records whose size divides 4096 do not cross pages; others do, and pin one page more.

The log is made once in the user's cache and used again, or removed at the end with --remove-log.

--steady needs no log. A cache of 16 MiB is full; each read brings 4 MiB, of which a share of the blocks (4 or 64 KiB) is \
admitted, each in the place of a random one. Back ends: copy, pins (of one contiguous buffer), scattered (the buffer in \
pieces, in an arena of 20 MiB), hybrid (cut by Bytes::slice, then detached). cpu_us_per_read is CPU time, so a busy \
machine disturbs it little; peak_bytes is the growth of the resident set.

Exit codes: 0 all finished, or died of the limit they were given, 1 a back end failed, a read was refused or a survivor \
is damaged, 2 bad usage or no room for the log.";

/// Measures what surviving records keep in memory: slices, copies, pins, hybrid
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = EXAMPLES, after_help = "More, with examples: tailpin retain --help")]
pub(crate) struct Args {
    /// Share of records that survives, 0 to 1
    #[arg(long, value_name = "FRACTION", default_value_t = 0.01, value_parser = fraction)]
    keep: f64,

    /// Bytes of a record
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(log::RECORDS))]
    record: u32,

    /// Size of the log
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    size: u64,

    /// Which back ends; may be given several times [default: all]
    #[arg(long, value_enum, value_name = "BACKEND")]
    backend: Vec<Choice>,

    /// Run each under a hard memory limit
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(8..=1 << 20))]
    limit: Option<u64>,

    /// Where the log is [default: tailpin in the user's cache]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Remove the log at the end, which is else kept for the next run
    #[arg(long)]
    remove_log: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Write numbers and pictures to a self-contained HTML file
    #[arg(long, value_name = "F.html")]
    report: Option<PathBuf>,

    /// Write the picture alone
    #[arg(long, value_name = "F.svg")]
    picture: Option<PathBuf>,

    /// Also write the table as Markdown
    #[arg(long, value_name = "F.md")]
    markdown: Option<PathBuf>,

    /// A block cache in steady state instead: copy, pins, scattered, hybrid
    #[arg(long, conflicts_with_all = ["keep", "record", "size", "backend", "limit", "dir", "report", "picture", "markdown", "remove_log"])]
    steady: bool,

    /// With --steady: reads of each back end
    #[arg(long, value_name = "N", default_value_t = 200, requires = "steady", value_parser = clap::value_parser!(u64).range(steady::READS))]
    reads: u64,

    /// With --steady: which back ends; may be given several times [default: all]
    #[arg(long, value_enum, value_name = "BACKEND", requires = "steady")]
    way: Vec<steady::Way>,

    /// One back end in this process, told by its parent
    #[arg(long, hide = true, exclusive = true)]
    job: Option<String>,

    /// One way to keep a cache in this process, told by its parent
    #[arg(long, hide = true, exclusive = true)]
    steady_job: Option<String>,
}

/// A back end, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// A slice of the read buffer, by the crate `bytes`
    Bytes,
    /// A copy of its own
    Copy,
    /// Pins on the pages it lies on, by this library
    Pins,
    /// A copy where small, pins where large
    Hybrid,
    /// All four
    All,
}

impl Choice {
    const fn covers(self, backend: Backend) -> bool {
        matches!(
            (self, backend),
            (Self::All, _)
                | (Self::Bytes, Backend::Bytes)
                | (Self::Copy, Backend::Copy)
                | (Self::Pins, Backend::Pins)
                | (Self::Hybrid, Backend::Hybrid)
        )
    }
}

fn fraction(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(keep) if (0.0..=1.0).contains(&keep) => Ok(keep),
        _ => Err("a share is a number from 0 to 1".into()),
    }
}

/// Runs the experiment, prints and writes what came of it, and says how it ended.
pub(crate) fn run(args: &Args) -> Status {
    if let Some(job) = &args.job {
        return child::run(job);
    }
    if let Some(job) = &args.steady_job {
        return steady::run_job(job);
    }
    if args.steady {
        return steady::run(args.reads, &args.way, args.json);
    }
    let chosen = |backend: &Backend| {
        args.backend.is_empty() || args.backend.iter().any(|choice| choice.covers(*backend))
    };
    let plan = run::Plan {
        dir: args.dir.clone().unwrap_or_else(log::default_dir),
        shape: Shape::filling(args.size << 20, args.record),
        keep: args.keep,
        backends: Backend::ALL.into_iter().filter(chosen).collect(),
        limit: args.limit.map(|mib| mib << 20),
    };
    // Files may be wanted beside the log. If its directory can't be made, the log says so.
    let _ = std::fs::create_dir_all(&plan.dir);
    let prepared = targets([args.report.as_ref(), args.picture.as_ref(), args.markdown.as_ref()]);
    let done = prepared.and_then(|files| Ok((files, run::run(&plan).map_err(|error| error.to_string())?)));
    let ([report, picture, markdown], outcome) = match done {
        Ok(done) => done,
        Err(error) => {
            complain(error);
            return Status::Unusable;
        }
    };
    let text = if args.json {
        serde_json::to_string_pretty(&outcome).expect("numbers and names") + "\n"
    } else {
        table::render(&outcome, width(), Style::for_stdout())
    };
    let mut status = print(&text).max(if outcome.is_clean() { Status::Clean } else { Status::Failed });
    let files =
        [(report, html::render as fn(&_) -> _), (picture, picture::render), (markdown, table::markdown)];
    for (target, render) in files {
        if let Some(target) = target {
            status = status.max(save(&target, &render(&outcome)));
        }
    }
    if args.remove_log {
        status = status.max(removed(&outcome.log));
    } else if !args.json {
        let log = outcome.log.display();
        status =
            status.max(print(&format!("  log: {log}, used again next time (--remove-log removes it)\n")));
    }
    status
}

/// Removes the log, and its folder if that was made for it and has nothing else.
fn removed(log: &Path) -> Status {
    if let Err(error) = std::fs::remove_file(log) {
        complain(format_args!("{} can't be removed: {error}", log.display()));
        return Status::Unusable;
    }
    if log.parent() == Some(&log::default_dir()) {
        // Logs of other shapes may be there.
        let _ = std::fs::remove_dir(log::default_dir());
    }
    Status::Clean
}
