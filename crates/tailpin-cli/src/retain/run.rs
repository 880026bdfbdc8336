//! The parent's side: makes the log, starts one child after another, hears what they tell, notices
//! who dies.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use serde::Serialize;

use super::child::{Job, Told};
use super::log::{self, Shape};
use super::measure::{HugePages, Source};
use super::row::{Backend, Ending, Row};
use crate::busy::{Busy, Warning};
use crate::linux::cgroup::{Own, Version};
use crate::progress::Progress;

/// Memory that may wait to be given back.
const SLACK: u64 = 32 << 20;

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) dir: PathBuf,
    pub(crate) shape: Shape,
    pub(crate) keep: f64,
    pub(crate) backends: Vec<Backend>,
    pub(crate) limit: Option<u64>,
}

/// What enforces a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Enforcer {
    #[serde(rename = "cgroup v1")]
    CgroupV1,
    #[serde(rename = "cgroup v2")]
    CgroupV2,
    /// Private writable memory, touched or not; it is set where no cgroup can be made.
    #[serde(rename = "RLIMIT_DATA")]
    DataLimit,
}

impl Enforcer {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::CgroupV1 => "cgroup v1",
            Self::CgroupV2 => "cgroup v2",
            Self::DataLimit => "RLIMIT_DATA",
        }
    }
}

impl From<Version> for Enforcer {
    fn from(version: Version) -> Self {
        match version {
            Version::V1 => Self::CgroupV1,
            Version::V2 => Self::CgroupV2,
        }
    }
}

/// All rows and what they were measured with.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    #[serde(serialize_with = "as_text")]
    pub(crate) log: PathBuf,
    pub(crate) log_bytes: u64,
    pub(crate) record_bytes: u32,
    pub(crate) records: u64,
    pub(crate) keep: f64,
    pub(crate) buffer_bytes: usize,
    pub(crate) limit_bytes: Option<u64>,
    pub(crate) limit_by: Option<Enforcer>,
    pub(crate) kernel: String,
    pub(crate) rows: Vec<Row>,
    /// Why the times say little.
    #[serde(skip)]
    pub(crate) busy: Option<Warning>,
}

/// A path for people: what is no text in it is told as such.
fn as_text<S: serde::Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&path.display())
}

impl Outcome {
    /// Whether every back end finished, or died of the limit it was given.
    pub(crate) fn is_clean(&self) -> bool {
        self.rows.iter().all(|row| match row.outcome {
            Ending::Finished => true,
            Ending::OutOfMemory => self.limit_bytes.is_some(),
            Ending::Failed => false,
        })
    }
}

#[cfg(test)]
impl Outcome {
    /// Of a log of 1 GiB and no back end, for tests.
    pub(crate) fn of_a_gibibyte() -> Self {
        Self {
            log: PathBuf::new(),
            log_bytes: 1 << 30,
            record_bytes: 1024,
            records: 1 << 20,
            keep: 0.01,
            buffer_bytes: super::keeper::BUFFER,
            limit_bytes: None,
            limit_by: None,
            kernel: String::new(),
            rows: Vec::new(),
            busy: None,
        }
    }
}

/// Why nothing could be measured at all.
#[derive(Debug)]
pub(crate) enum RetainError {
    /// The log can't be made or read.
    Log { dir: PathBuf, bytes: u64, source: io::Error },
    /// A child can't be started.
    Child(io::Error),
}

impl fmt::Display for RetainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log { dir, bytes, source } => write!(
                f,
                "a log of {} in {}: {source} (--size makes it smaller, --dir puts it elsewhere)",
                crate::units::bytes(*bytes),
                dir.display()
            ),
            Self::Child(error) => write!(f, "a process for a back end can't be started: {error}"),
        }
    }
}

impl std::error::Error for RetainError {}

/// Carries out the plan.
pub(crate) fn run(plan: &Plan) -> Result<Outcome, RetainError> {
    let busy = Busy::before().warning(None);
    let bytes = plan.shape.bytes();
    let on_log = |source| RetainError::Log { dir: plan.dir.clone(), bytes, source };
    let writing = Progress::new("writing the log", bytes);
    let file = log::open_or_make(&plan.dir, plan.shape, |bytes| writing.add(bytes)).map_err(on_log)?;
    drop(writing);
    log::warm(&file).map_err(on_log)?;

    let mut outcome = Outcome {
        log: log::path(&plan.dir, plan.shape),
        log_bytes: bytes,
        record_bytes: plan.shape.record,
        records: plan.shape.records,
        keep: plan.keep,
        buffer_bytes: super::keeper::BUFFER,
        limit_bytes: plan.limit,
        limit_by: None,
        kernel: crate::linux::text::read("/proc/sys/kernel/osrelease").unwrap_or_default(),
        rows: Vec::new(),
        busy,
    };
    for &backend in &plan.backends {
        let (row, enforcer) = one(plan, &outcome.log, backend)?;
        outcome.limit_by = plan.limit.map(|_| enforcer);
        outcome.rows.push(row);
    }
    Ok(outcome)
}

/// One back end, in a group of its own where one can be made.
fn one(plan: &Plan, log: &Path, backend: Backend) -> Result<(Row, Enforcer), RetainError> {
    let name = format!("tailpin-retain-{}-{}", std::process::id(), backend.name());
    let own = Own::create(&name, plan.limit).ok();
    let job = Job {
        backend,
        log: log.to_owned(),
        record: plan.shape.record,
        records: plan.shape.records,
        keep: plan.keep,
        group: own.as_ref().map(|own| (own.group().path().to_owned(), own.group().version() == Version::V2)),
        data_limit: if own.is_some() { None } else { plan.limit },
        slack: plan.limit.map_or(SLACK, |limit| SLACK.min(limit / 8)),
    };
    let mut heard = Heard {
        progress: Progress::new(backend.name(), plan.shape.bytes()),
        of: plan.shape.bytes(),
        at: (0, 0, 0),
        row: None,
    };
    let started = Instant::now();
    let (status, complaint) = start(&job, &mut heard).map_err(RetainError::Child)?;
    let elapsed_ms = started.elapsed().as_secs_f64() * 1e3;
    let source = own.as_ref().map_or(Source::MemAvailable, |own| own.group().version().into());
    let enforcer = own.as_ref().map_or(Enforcer::DataLimit, |own| own.group().version().into());
    let killed = own.as_ref().and_then(|own| own.group().kills()).is_some_and(|kills| kills > 0);
    let row = heard.row.unwrap_or_else(|| {
        let (outcome, reason) = how_it_ended(status, &complaint, killed, plan.limit.is_some());
        let (read_bytes, kept_records, kept_bytes) = heard.at;
        Row {
            backend,
            outcome,
            reason: Some(reason),
            read_bytes,
            kept_records,
            kept_bytes,
            retained_bytes: None,
            rss_bytes: None,
            kernel_bytes: None,
            kernel_bytes_source: source,
            given_back_bytes: 0,
            damaged_records: 0,
            huge_pages: HugePages::default(),
            elapsed_ms,
            give_back_ms: 0.0,
        }
    });
    Ok((row, enforcer))
}

/// How a child without a last word ended, and why.
fn how_it_ended(status: ExitStatus, complaint: &str, killed: bool, limited: bool) -> (Ending, String) {
    let complaint = complaint.trim();
    match status.signal() {
        Some(libc::SIGKILL) if killed => (Ending::OutOfMemory, "killed by the kernel at the limit".into()),
        // Where the standard library can't allocate, it says so before it ends the process.
        Some(libc::SIGABRT) | None if limited && complaint.contains("memory allocation of") => {
            (Ending::OutOfMemory, complaint.to_owned())
        }
        Some(signal) => (Ending::Failed, format!("killed by signal {signal}: {complaint}")),
        None => (Ending::Failed, complaint.to_owned()),
    }
}

/// What has been heard of a child so far.
struct Heard {
    progress: Progress,
    /// Bytes of the log.
    of: u64,
    /// Bytes read, records kept, bytes kept.
    at: (u64, u64, u64),
    row: Option<Row>,
}

/// Starts a child, hears it to its end.
fn start(job: &Job, heard: &mut Heard) -> io::Result<(ExitStatus, String)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["retain", "--job", &serde_json::to_string(job).expect("numbers and names")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().expect("piped");
    for line in BufReader::new(output).lines() {
        match serde_json::from_str(&line?) {
            Ok(Told::At { read_bytes, kept_records, kept_bytes }) => {
                heard.progress.set(read_bytes, heard.of);
                heard.at = (read_bytes, kept_records, kept_bytes);
            }
            Ok(Told::Row(row)) => heard.row = Some(row),
            // Cut off by its death.
            Err(_) => {}
        }
    }
    let mut complaint = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut complaint)?;
    Ok((child.wait()?, complaint))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::{Ending, how_it_ended};

    #[test]
    fn a_death_is_of_memory_only_where_the_kernel_or_the_library_says_so() {
        let of = |raw, complaint, killed, limited| {
            how_it_ended(ExitStatus::from_raw(raw), complaint, killed, limited).0
        };
        assert_eq!(of(libc::SIGKILL, "", true, true), Ending::OutOfMemory);
        assert_eq!(of(libc::SIGKILL, "", false, true), Ending::Failed);
        assert_eq!(
            of(libc::SIGABRT, "memory allocation of 9 bytes failed", false, true),
            Ending::OutOfMemory
        );
        assert_eq!(of(libc::SIGABRT, "panicked", false, true), Ending::Failed);
        assert_eq!(of(libc::SIGABRT, "memory allocation of 9 bytes failed", false, false), Ending::Failed);
        assert_eq!(of(1 << 8, "no such file", false, true), Ending::Failed);
        assert_eq!(of(2 << 8, "memory allocation of 9 bytes failed", false, true), Ending::OutOfMemory);
        assert_eq!(of(2 << 8, "memory allocation of 9 bytes failed", false, false), Ending::Failed);
    }
}
