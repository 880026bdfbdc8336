//! One back end in a process of its own: reads the log, keeps what survives, measures, tells its
//! parent.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tailpin_arena::Policy;

use super::keeper::{BUFFER, Copied, KeepError, Keeper, Sliced};
use super::log::{self, Shape};
use super::measure::Look;
use super::pinned::Pinned;
use super::row::{Backend, Ending, Row};
use crate::Status;
use crate::linux::cgroup::{Cgroup, Version};
use crate::linux::text;
use crate::output::complain;

/// How much is read between two signs of life.
const TELL_EVERY: u64 = 8 << 20;

/// What a child is told, as JSON on its command line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) backend: Backend,
    #[serde(with = "path_bytes")]
    pub(crate) log: PathBuf,
    pub(crate) record: u32,
    pub(crate) records: u64,
    pub(crate) keep: f64,
    /// The group to join, made by the parent, and whether its files are those of version 2.
    pub(crate) group: Option<(PathBuf, bool)>,
    /// A limit on data to set on oneself, in bytes, where there is no group to do it.
    pub(crate) data_limit: Option<u64>,
    /// Most bytes that wait to be given back.
    pub(crate) slack: u64,
}

/// A path as the bytes that it is: not every one is text.
mod path_bytes {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        path.as_os_str().as_bytes().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        Ok(OsString::from_vec(Vec::deserialize(from)?).into())
    }
}

impl Job {
    /// The shape of the log, if a parent can have asked for it.
    fn shape(&self) -> Option<Shape> {
        let shape = Shape { record: self.record, records: self.records };
        let bytes = self.records.checked_mul(self.record.into())?;
        let possible = log::RECORDS.contains(&self.record.into()) && bytes <= log::MOST_BYTES;
        (possible && (0.0..=1.0).contains(&self.keep)).then_some(shape)
    }
}

/// What a child tells, one line of JSON each.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Told {
    /// How far it is.
    At { read_bytes: u64, kept_records: u64, kept_bytes: u64 },
    /// The end.
    Row(Row),
}

fn tell(told: &Told) {
    let mut line = serde_json::to_vec(told).expect("numbers and names");
    line.push(b'\n');
    // A parent that is gone has no use for it.
    let _ = io::stdout().write_all(&line);
}

/// Runs the job in this process.
pub(crate) fn run(job: &str) -> Status {
    let job: Job = match serde_json::from_str(job) {
        Ok(job) => job,
        Err(error) => {
            complain(format_args!("a job no parent wrote: {error}"));
            return Status::Unusable;
        }
    };
    let Some(shape) = job.shape() else {
        complain("a job no parent wrote");
        return Status::Unusable;
    };
    match carry_out(&job, shape) {
        Ok(()) => Status::Clean,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            Status::Failed
        }
    }
}

fn carry_out(job: &Job, shape: Shape) -> Result<(), Box<dyn std::error::Error>> {
    let group = job
        .group
        .as_ref()
        .map(|(path, v2)| Cgroup::at(if *v2 { Version::V2 } else { Version::V1 }, path.clone()));
    if let Some(group) = &group {
        group.join()?;
    }
    if let Some(bytes) = job.data_limit {
        limit_data(bytes)?;
    }
    let log = log::open(&job.log, shape)?;
    let experiment = Experiment { job, log, shape, group };
    match job.backend {
        Backend::Bytes => experiment.run(|| Ok(Sliced::default())),
        Backend::Copy => experiment.run(|| Ok(Copied::default())),
        Backend::Pins => experiment.run(|| Pinned::new(room(job, shape)?, Policy::CopyBelow(0))),
        Backend::Hybrid => experiment.run(|| Pinned::new(room(job, shape)?, Policy::default())),
    }
}

/// Bytes for the arena. Address space for the whole log, as survivors lie all over what was read;
/// or, where a limit counts address space, what the limit leaves.
fn room(job: &Job, shape: Shape) -> Result<usize, KeepError> {
    let whole = shape.bytes() + 32 * BUFFER as u64;
    let Some(limit) = job.data_limit else { return Ok(whole as usize) };
    let status = text::read("/proc/self/status").unwrap_or_default();
    let taken = text::kilobytes(&status, "VmData").unwrap_or(0);
    // An eighth is for everything else, the words that describe the arena among it.
    let left = (limit - limit / 8).saturating_sub(taken);
    if left < BUFFER as u64 {
        return Err(KeepError::NoMemory { bytes: BUFFER });
    }
    Ok(whole.min(left) as usize / BUFFER * BUFFER)
}

/// Limits this process's private writable memory.
fn limit_data(bytes: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: a valid structure; the result is checked.
    match unsafe { libc::setrlimit(libc::RLIMIT_DATA, &raw const limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default)]
struct Course {
    read_bytes: u64,
    kept_records: u64,
    kept_bytes: u64,
    given_back_bytes: u64,
    giving_back: Duration,
}

struct Experiment<'j> {
    job: &'j Job,
    log: File,
    shape: Shape,
    group: Option<Cgroup>,
}

impl Experiment<'_> {
    fn run<K: Keeper>(
        mut self,
        make: impl FnOnce() -> Result<K, KeepError>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let look =
            |group: &Option<Cgroup>| Look::now(group.as_ref()).ok_or("the kernel's counts can't be read");
        let before = look(&self.group)?;
        let started = Instant::now();
        let mut course = Course::default();
        let mut kept = Vec::new();
        let mut keeper = make()?;
        let ended = self.read_all(&mut keeper, &mut kept, &mut course);
        let elapsed = started.elapsed();
        let after = look(&self.group)?;
        let grown = after.since(&before);

        let damaged = kept.iter().filter(|(number, record)| !log::is_record(record, *number)).count() as u64;
        let (outcome, reason) = match ended {
            Err(error @ KeepError::NoMemory { .. }) => (Ending::OutOfMemory, Some(error.to_string())),
            Err(error) => (Ending::Failed, Some(error.to_string())),
            Ok(()) if damaged > 0 => (Ending::Failed, Some(format!("{damaged} survivors are damaged"))),
            Ok(()) => (Ending::Finished, None),
        };
        tell(&Told::Row(Row {
            backend: self.job.backend,
            outcome,
            reason,
            read_bytes: course.read_bytes,
            kept_records: course.kept_records,
            kept_bytes: course.kept_bytes,
            retained_bytes: Some(keeper.retained()),
            rss_bytes: Some(grown.rss),
            kernel_bytes: Some(grown.kernel),
            kernel_bytes_source: after.source(),
            given_back_bytes: course.given_back_bytes,
            damaged_records: damaged,
            huge_pages: grown.huge,
            elapsed_ms: elapsed.as_secs_f64() * 1e3,
            give_back_ms: course.giving_back.as_secs_f64() * 1e3,
        }));
        Ok(())
    }

    /// Reads the log to its end and keeps what survives.
    fn read_all<K: Keeper>(
        &mut self,
        keeper: &mut K,
        kept: &mut Vec<(u64, K::Kept)>,
        course: &mut Course,
    ) -> Result<(), KeepError> {
        let record = self.shape.record as usize;
        let total = self.shape.bytes();
        let (mut told_at, mut given_at) = (0, 0);
        while course.read_bytes < total {
            // A record that does not end in this buffer is read again with the next.
            self.log.seek(SeekFrom::Start(log::HEADER + course.read_bytes)).map_err(KeepError::Log)?;
            let want = (total - course.read_bytes).min(BUFFER as u64) as usize;
            let got = keeper.fill(&mut self.log, want.max(record))? / record;
            if got == 0 {
                return Err(KeepError::Log(io::ErrorKind::UnexpectedEof.into()));
            }
            for at in (0..got * record).step_by(record) {
                let number = log::number(&keeper.buffer()[at..]);
                if log::survives(number, self.job.keep) {
                    kept.push((number, keeper.keep(at..at + record)));
                    course.kept_records += 1;
                    course.kept_bytes += record as u64;
                }
            }
            keeper.done();
            course.read_bytes += (got * record) as u64;
            let done = course.read_bytes == total;
            if course.read_bytes - given_at >= self.job.slack || done {
                let started = Instant::now();
                course.given_back_bytes += if done { keeper.finish()? } else { keeper.give_back()? };
                course.giving_back += started.elapsed();
                given_at = course.read_bytes;
            }
            if course.read_bytes - told_at >= TELL_EVERY || done {
                tell(&Told::At {
                    read_bytes: course.read_bytes,
                    kept_records: course.kept_records,
                    kept_bytes: course.kept_bytes,
                });
                told_at = course.read_bytes;
            }
        }
        Ok(())
    }
}
