//! `tailpin retain --steady`: a block cache in steady state, that reads, admits a share of the
//! blocks and evicts others at random. Each back end and shape runs in a process of its own.

use std::hint::black_box;
use std::ops::RangeInclusive;
use std::process::{Command, Stdio};

use bytes::Bytes;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tailpin_arena::Arena;
use tailpin_arena::bytes::detach;

use crate::Status;
use crate::grid::Grid;
use crate::linux::text;
use crate::output::{complain, print};
use crate::progress::Progress;
use crate::style::Style;
use crate::units::{bytes, grouped};

/// Bytes that a read brings.
const READ: usize = 4 << 20;
/// Bytes that the cache may have.
const CACHE: usize = 16 << 20;
/// Bytes of the arena that takes its reads in pieces: one and a quarter of the cache.
const ARENA: usize = CACHE / 4 * 5;
/// Reads of each back end that may be asked for.
pub(super) const READS: RangeInclusive<u64> = 1..=1 << 32;
/// Sizes of a block, and the shares of blocks that are admitted.
const SHAPES: [(usize, f64); 4] = [(4 << 10, 0.05), (4 << 10, 0.5), (64 << 10, 0.05), (64 << 10, 0.5)];

/// How what is admitted is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    /// The read buffer is from the heap, each block a copy
    Copy,
    /// The read buffer is one block of an arena, each block a slice of it
    Pins,
    /// The read buffer is an arena's in pieces of a block's size, each block one of them
    Scattered,
    /// The read buffer is one block of an arena, each block cut by `Bytes::slice` and then detached
    Hybrid,
}

impl Way {
    const ALL: [Self; 4] = [Self::Copy, Self::Pins, Self::Scattered, Self::Hybrid];

    const fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Pins => "pins",
            Self::Scattered => "scattered",
            Self::Hybrid => "hybrid",
        }
    }
}

/// What a child is told, as JSON on its command line.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Job {
    way: Way,
    piece: usize,
    admitted: f64,
    reads: u64,
}

/// One back end with one size of blocks and one share of them admitted.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    backend: Way,
    /// Bytes of a block.
    piece_bytes: usize,
    /// Share of the blocks that is admitted.
    admitted: f64,
    reads: u64,
    /// CPU time of the thread, in user and system mode.
    cpu_us_per_read: f64,
    /// That, as a multiple of the copy's.
    cpu_of_copy: Option<f64>,
    /// The most by which the resident set grew since before the first read.
    peak_bytes: u64,
    /// Bytes in the cache at the end.
    cached_bytes: u64,
    /// Reads for which no memory could be had.
    refused: u64,
}

#[derive(Serialize)]
struct Outcome {
    read_bytes: usize,
    cache_bytes: usize,
    scattered_arena_bytes: usize,
    kernel: String,
    rows: Vec<Row>,
}

/// Runs all back ends and shapes, prints what came of it, and says how it ended.
pub(crate) fn run(reads: u64, ways: &[Way], json: bool) -> Status {
    let ways = if ways.is_empty() { &Way::ALL[..] } else { ways };
    let mut rows: Vec<Row> = Vec::new();
    let progress = Progress::new("reads", reads * (SHAPES.len() * ways.len()) as u64);
    for (piece, admitted) in SHAPES {
        for &way in ways {
            let mut row = match start(&Job { way, piece, admitted, reads }) {
                Ok(row) => row,
                Err((status, error)) => {
                    complain(format_args!("{}, {piece} B: {error}", way.name()));
                    return status;
                }
            };
            let copy = rows.iter().chain([&row]).find(|other| {
                other.backend == Way::Copy && (other.piece_bytes, other.admitted) == (piece, admitted)
            });
            row.cpu_of_copy = copy.map(|copy| row.cpu_us_per_read / copy.cpu_us_per_read);
            rows.push(row);
            progress.add(reads);
        }
    }
    drop(progress);
    let refused = rows.iter().any(|row| row.refused > 0);
    let outcome = Outcome {
        read_bytes: READ,
        cache_bytes: CACHE,
        scattered_arena_bytes: ARENA,
        kernel: text::read("/proc/sys/kernel/osrelease").unwrap_or_default(),
        rows,
    };
    let text = if json {
        serde_json::to_string_pretty(&outcome).expect("numbers and names") + "\n"
    } else {
        render(&outcome, Style::for_stdout())
    };
    print(&text).max(if refused { Status::Failed } else { Status::Clean })
}

fn render(outcome: &Outcome, style: Style) -> String {
    let mut grid = Grid::new(["", "block", "admitted", "CPU a read", "of copy", "peak", "cached", "refused"]);
    for row in &outcome.rows {
        grid.row([
            row.backend.name().to_owned(),
            bytes(row.piece_bytes as u64),
            super::table::percent(row.admitted),
            format!("{:.0} µs", row.cpu_us_per_read),
            row.cpu_of_copy.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2} ×")),
            bytes(row.peak_bytes),
            bytes(row.cached_bytes),
            grouped(row.refused),
        ]);
    }
    format!(
        "{}\n\n{}",
        style.bold(&format!(
            "A cache of {} in steady state: reads of {}, random eviction",
            bytes(outcome.cache_bytes as u64),
            bytes(outcome.read_bytes as u64)
        )),
        grid.text(crate::style::width(), style)
    )
}

/// Runs the job in a process of its own.
fn start(job: &Job) -> Result<Row, (Status, String)> {
    let job = serde_json::to_string(job).expect("numbers and names");
    let not_started = |error: std::io::Error| {
        (Status::Unusable, format!("a process for a back end can't be started: {error}"))
    };
    let this = std::env::current_exe().map_err(not_started)?;
    let output = Command::new(this)
        .args(["retain", "--steady-job", &job])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        // Arenas of the heap's own for each thread would be in the copy's figures.
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .map_err(not_started)?;
    if !output.status.success() {
        return Err((Status::Failed, format!("ended by {}", output.status)));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| (Status::Failed, error.to_string()))
}

/// Runs the job in this process.
pub(crate) fn run_job(job: &str) -> Status {
    let job: Job = match serde_json::from_str(job) {
        Ok(job) => job,
        Err(error) => {
            complain(format_args!("a job no parent wrote: {error}"));
            return Status::Unusable;
        }
    };
    if !SHAPES.contains(&(job.piece, job.admitted)) || !READS.contains(&job.reads) {
        complain("a job no parent wrote");
        return Status::Unusable;
    }
    match carry_out(&job) {
        Ok(row) => print(&(serde_json::to_string(&row).expect("numbers and names") + "\n")),
        Err(error) => {
            complain(error);
            Status::Failed
        }
    }
}

/// The cache: blocks in slots, and which of them are replaced.
struct Cache<'j> {
    job: &'j Job,
    slots: Vec<Bytes>,
    /// Slots that have had a block; the others come first.
    filled: usize,
    seed: u64,
}

impl Cache<'_> {
    fn next(&mut self) -> usize {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 11) as usize
    }

    /// Offers each block of a read; `keep` is asked for those that are admitted.
    fn offer(&mut self, mut keep: impl FnMut(usize) -> Bytes) {
        const PARTS: usize = 1_000_000;
        let admitted = (self.job.admitted * PARTS as f64) as usize;
        for at in (0..READ).step_by(self.job.piece) {
            if self.next() % PARTS < admitted {
                let evicted = self.next() % self.slots.len();
                let slot = if self.filled < self.slots.len() { self.filled } else { evicted };
                self.filled = (self.filled + 1).min(self.slots.len());
                self.slots[slot] = keep(at);
            }
        }
    }
}

fn carry_out(job: &Job) -> Result<Row, Box<dyn std::error::Error>> {
    // What is read lies in the processor's cache, as it does when it has just come.
    let source: Vec<u8> = (0..READ).map(|at| (at / 4096) as u8).collect();
    let mut cache = Cache { job, slots: vec![Bytes::new(); CACHE / job.piece], filled: 0, seed: 0x9E37_79B9 };
    let piece = job.piece;
    let builder = match job.way {
        Way::Scattered => Arena::builder().size(ARENA),
        Way::Copy | Way::Pins | Way::Hybrid => Arena::builder(),
    };
    let arena = builder.build()?;
    let before = resident()?;
    let (mut peak, mut refused) = (before, 0);
    // So that the cache is full, and all is warm.
    let warm_up = (2 * CACHE).div_ceil((READ as f64 * job.admitted) as usize) as u64;
    let mut began = cpu_time();
    for read in 0..warm_up + job.reads {
        if read == warm_up {
            began = cpu_time();
        }
        match job.way {
            Way::Copy => {
                let mut buffer = Vec::with_capacity(READ);
                buffer.extend_from_slice(&source);
                let whole = Bytes::from(black_box(buffer));
                cache.offer(|at| Bytes::copy_from_slice(&whole[at..at + piece]));
            }
            Way::Pins | Way::Hybrid => match arena.try_alloc(READ) {
                Ok(mut buffer) => {
                    buffer.copy_from_slice(&source);
                    let whole = buffer.freeze();
                    if job.way == Way::Pins {
                        cache.offer(|at| Bytes::from(whole.slice(at..at + piece)));
                    } else {
                        let whole = Bytes::from(whole);
                        cache.offer(|at| detach(&whole.slice(at..at + piece)));
                    }
                }
                Err(_) => refused += 1,
            },
            Way::Scattered => match arena.try_alloc_scattered(READ, piece) {
                Ok(mut buffer) => {
                    buffer.fill_from(&mut &source[..])?;
                    let whole = buffer.freeze();
                    let block = |at| whole.contiguous(at..at + piece).expect("a block is a piece");
                    cache.offer(|at| Bytes::from(block(at)));
                }
                Err(_) => refused += 1,
            },
        }
        if read % 16 == 0 {
            peak = peak.max(resident()?);
        }
    }
    let spent = cpu_time() - began;
    let damaged =
        cache.slots.iter().any(|block| block.windows(2).any(|pair| piece == 4096 && pair[0] != pair[1]));
    if damaged {
        return Err("a block in the cache is not what was read".into());
    }
    Ok(Row {
        backend: job.way,
        piece_bytes: piece,
        admitted: job.admitted,
        reads: job.reads,
        cpu_us_per_read: spent * 1e6 / job.reads as f64,
        cpu_of_copy: None,
        peak_bytes: peak.max(resident()?) - before,
        cached_bytes: cache.slots.iter().map(|block| block.len() as u64).sum(),
        refused,
    })
}

fn resident() -> Result<u64, String> {
    let status = text::read("/proc/self/status").ok_or("/proc can't be read")?;
    text::kilobytes(&status, "VmRSS").ok_or_else(|| "/proc says nothing of the resident set".into())
}

/// CPU time of this process in seconds: that of its one thread that matters.
fn cpu_time() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for what is written.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
