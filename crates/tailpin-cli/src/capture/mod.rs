//! `tailpin capture`: this machine's page allocations and frees, as a trace for `tailpin replay`.

mod infer;
mod ring;
mod tracefs;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::Status;
use crate::linux::text::read;
use crate::output::{complain, print, save_bytes, targets};
use crate::progress::Progress;
use crate::units::grouped;
use infer::Inference;
use ring::Event;

const EXAMPLES: &str = "\
Examples:
  sudo tailpin capture mine.pft             ten seconds
  sudo tailpin capture --for 2m mine.pft    two minutes; Ctrl-C ends it earlier, and what was seen is written
  tailpin replay mine.pft                   carried out by this library

Recorded are the kernel's own tracepoints kmem:mm_page_alloc and kmem:mm_page_free, of all processes but this one, and \
huge_memory:mm_khugepaged_scan_pmd where there is such. The kernel has no tracepoint for a split: a block is taken to \
be split when the first smaller part of it is freed, so a split is in the trace as late as that, and one of which no \
part was freed is not in it. Pins are not in it either. Frames that were allocated before it began are left out.

Needs tracefs (mount -t tracefs nodev /sys/kernel/tracing) and the right to write there: root, as a rule. It makes an \
instance of its own there, which no other tracing notices, and removes it.

The file is not compressed; zstd makes a fifth of it, and replay takes both.

Exit codes: 0 written and nothing lost, 1 the kernel lost events, 2 not permitted, or not written.";

/// Records this machine's page allocations and frees as a trace for `tailpin replay`
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = EXAMPLES, after_help = "More, with examples: tailpin capture --help")]
pub(crate) struct Args {
    /// How long: 30s, 500ms, 2m
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    time: Duration,

    /// Memory for what was seen, in MiB; a recording that fills it ends there
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    limit_mib: u64,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// The file that is written
    #[arg(value_name = "OUT")]
    out: PathBuf,
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        other => return Err(format!("there is no unit {other}: ms, s or m")),
    };
    let number: u64 = digits.parse().map_err(|_| "a number with ms, s or m behind it".to_owned())?;
    match number.checked_mul(unit) {
        Some(ms @ 1..=86_400_000) => Ok(Duration::from_millis(ms)),
        _ => Err("from 1ms to a day".to_owned()),
    }
}

/// What was recorded.
#[derive(Serialize)]
struct Captured {
    records: usize,
    /// Events that the kernel had no room for.
    lost: u64,
    events: usize,
    seconds: f64,
    allocs: u64,
    frees: u64,
    splits: u64,
    /// Frees of frames that were allocated before, and are not in the trace.
    frees_unmatched: u64,
    /// Frees that were put in, as an allocation came over a live block.
    frees_implied: u64,
    /// The recording ended early because its memory was full.
    full: bool,
    bytes: usize,
}

/// Counters of `/proc/vmstat` that belong to a trace.
const VMSTAT: [&str; 6] = [
    "thp_fault_alloc",
    "thp_split_page",
    "thp_split_page_failed",
    "thp_collapse_alloc",
    "pgfree",
    "nr_foll_pin_acquired",
];

fn vmstat() -> Vec<(&'static str, u64)> {
    let text = read("/proc/vmstat").unwrap_or_default();
    let value = |key| Some((key, crate::linux::text::keyed(&text, key)?));
    VMSTAT.into_iter().filter_map(value).collect()
}

/// Records, and writes the trace.
pub(crate) fn run(args: &Args) -> Status {
    capture(args).unwrap_or_else(|why| {
        complain(why);
        Status::Unusable
    })
}

fn capture(args: &Args) -> Result<Status, String> {
    let [target] = targets([Some(&args.out)])?;
    let instance = tracefs::Instance::new()?;
    let before = vmstat();
    let progress = Progress::new("recording", args.time.as_millis() as u64);
    let limit = usize::try_from(args.limit_mib << 20).unwrap_or(usize::MAX);
    let recorded = instance.record(args.time, limit, |elapsed| {
        progress.set(elapsed.as_millis() as u64, args.time.as_millis() as u64);
    })?;
    drop(progress);
    let after = vmstat();

    let mut events: Vec<Event> = Vec::new();
    for (cpu, raw) in recorded.raw.iter().enumerate() {
        ring::events(raw, cpu as u8, &recorded.formats, &mut |event| events.push(event));
    }
    // Stable: what one CPU saw at the same moment stays in order.
    events.sort_by_key(|event| event.ns);
    let mut inference = Inference::default();
    for event in &events {
        if !recorded.own_threads.contains(&event.thread) {
            inference.take(event);
        }
    }
    let seconds = recorded.time.as_secs_f64();
    let mut text = format!("seconds {seconds:.3}\nlost {}\ncmd tailpin capture\n", recorded.lost);
    for (key, now) in &after {
        let then = before.iter().find(|(other, _)| other == key).map_or(*now, |(_, then)| *then);
        let _ = writeln!(text, "vmstat {key} {}", now.saturating_sub(then));
    }
    let (writer, counts) = inference.finish();
    for (key, n) in counts.named() {
        let _ = writeln!(text, "stat {key} {n}");
    }
    let records = writer.len();
    let file = writer.finish(&text);
    let captured = Captured {
        records,
        lost: recorded.lost,
        events: events.len(),
        seconds,
        allocs: counts.allocs,
        frees: counts.frees,
        splits: counts.splits,
        frees_unmatched: counts.unmatched,
        frees_implied: counts.implied,
        full: recorded.full,
        bytes: file.len(),
    };
    let saved = target.map_or(Status::Clean, |target| save_bytes(&target, &file));
    if saved != Status::Clean {
        return Ok(saved);
    }
    let lost = if captured.lost > 0 { Status::Failed } else { Status::Clean };
    Ok(told(args, &captured).max(lost))
}

fn told(args: &Args, captured: &Captured) -> Status {
    if args.json {
        return print(&(serde_json::to_string_pretty(captured).expect("numbers") + "\n"));
    }
    let n = |n: u64| grouped(n);
    let mut text = format!(
        "{}: {} records of {:.1} s\n  {} allocations, {} frees, {} splits inferred\n  {} frees of frames from before left out, {} events lost\n",
        args.out.display(),
        n(captured.records as u64),
        captured.seconds,
        n(captured.allocs),
        n(captured.frees),
        n(captured.splits),
        n(captured.frees_unmatched),
        n(captured.lost),
    );
    if captured.full {
        text += "  it ended early, as its memory was full: --limit-mib\n";
    }
    text += &format!("  {}\n", crate::output::command(&format!("replay {}", args.out.display())));
    print(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let ms = |text| parse_time(text).map(|time| time.as_millis());
        assert_eq!(
            [ms("30s"), ms("30"), ms("500ms"), ms("2m")],
            [Ok(30_000), Ok(30_000), Ok(500), Ok(120_000)]
        );
        for wrong in ["", "s", "0s", "1h", "-1s", "2d", "99999999999999999999s", "86401s", "é"] {
            assert!(ms(wrong).is_err(), "{wrong}");
        }
    }
}
