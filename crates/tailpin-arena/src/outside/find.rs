//! Arenas found: by process, or by the file of a shared one.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use tailpin::{FrameRange, Pfn};

use super::copy::ArenaCopy;
use super::error::LookError;
use super::look::Look;
use super::process::{MapsLine, Process, processes};
use super::shared_file::SharedFile;
use super::source::Source;
use crate::history::Start;
use crate::memory::description::{self, Facts, Unreadable, read_limit, read_names};
use crate::memory::{bytes_of, system};
use crate::shared::FILE_NAME;

/// A process that has arenas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its number.
    pub pid: u32,
    /// What it is called.
    pub name: String,
    /// How many arenas it has.
    pub arenas: usize,
}

/// All processes that this one may look at and that have arenas, by their numbers.
pub fn programs() -> Vec<Program> {
    let with_arenas = |process: Process| {
        let arenas = process.mappings().ok()?.iter().filter(|line| is_arena(line)).count();
        (arenas > 0).then(|| Program { pid: process.0, name: process.name(), arenas })
    };
    processes().into_iter().filter_map(with_arenas).collect()
}

fn is_arena(line: &MapsLine) -> bool {
    line.offset == 0 && (line.is_of(description::NAME) || line.is_of(FILE_NAME))
}

/// An arena of another program, to be looked at as often as wanted.
#[derive(Debug)]
pub struct OutsideArena {
    name: String,
    place: Target,
}

#[derive(Debug)]
enum Target {
    /// The process, and where the description is.
    Ordinary(Process, u64),
    Shared(SharedFile),
}

/// The arenas of a process, in the order in which they lie in memory.
///
/// # Errors
/// [`LookError::NoProcess`], [`LookError::NotPermitted`], [`LookError::NoArena`]; and of a shared
/// arena what [`shared_file`] says.
pub fn arenas_of(pid: u32) -> Result<Vec<OutsideArena>, LookError> {
    let process = Process(pid);
    let mut arenas = Vec::new();
    for line in process.mappings()?.iter().filter(|line| is_arena(line)) {
        let number = arenas.len() + 1;
        let place = if line.is_of(FILE_NAME) {
            Target::Shared(SharedFile::open(process.open_file(line.inode)?)?)
        } else {
            Target::Ordinary(process, line.start)
        };
        let kind = if matches!(place, Target::Shared(_)) { "shared arena" } else { "arena" };
        arenas.push(OutsideArena { name: format!("{kind} {number} of {} ({pid})", process.name()), place });
    }
    if arenas.is_empty() { Err(LookError::NoArena { pid }) } else { Ok(arenas) }
}

/// The shared arena in a file: `/proc/PID/fd/NUMBER`, or wherever it can be opened.
///
/// # Errors
/// [`LookError::NotAnArena`], [`LookError::OtherVersion`]; [`LookError::System`] if the file can't
/// be read.
pub fn shared_file(path: &Path) -> Result<OutsideArena, LookError> {
    let failed = |error: io::Error| LookError::System {
        doing: "open the file",
        errno: error.raw_os_error().unwrap_or(0),
    };
    // To open a pipe would be to wait for its writer.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(LookError::NotAnArena);
    }
    let file = SharedFile::open(file)?;
    Ok(OutsideArena { name: format!("shared arena {}", path.display()), place: Target::Shared(file) })
}

impl OutsideArena {
    /// Which arena it is, in words.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Looks at it. The time it takes follows the memory that the arena ever used: about a
    /// millisecond for each GiB.
    ///
    /// # Errors
    /// [`LookError`]: above all [`LookError::Gone`] once the arena or its process is gone.
    pub fn look(&self) -> Result<Look, LookError> {
        match &self.place {
            Target::Shared(file) => file.look(),
            Target::Ordinary(process, at) => look_at(*process, *at),
        }
    }
}

/// What the description at this place says, and the limit.
fn facts(process: Process, at: u64) -> Result<(Facts, Option<usize>), LookError> {
    let mut bytes = [0; 4096];
    process.read(at, &mut bytes)?;
    let words = std::array::from_fn(|i| u64::from_ne_bytes(bytes.as_chunks::<8>().0[i]));
    let facts = Facts::read(&words).map_err(|why| match why {
        // The mapping is there before its words, and another may be there after it.
        Unreadable::Unfinished => LookError::Gone,
        Unreadable::OtherVersion { version } => LookError::OtherVersion { theirs: version },
        Unreadable::Damaged => LookError::Damaged,
    })?;
    Ok((facts, read_limit(&words)))
}

fn look_at(process: Process, at: u64) -> Result<Look, LookError> {
    let (facts, _) = facts(process, at)?;
    let data = FrameRange::new(Pfn::new(facts.first), facts.pages);
    let mappings = process.mappings()?;
    let line = mappings.iter().find(|line| (line.start..line.end).contains(&facts.words));
    let line = line.ok_or(LookError::Gone)?;
    let source = if line.is_shared {
        let offset = line.offset + (facts.words - line.start);
        Source::File(process.open_file(line.inode)?, offset)
    } else {
        Source::Memory(process, facts.words)
    };
    let age = Duration::from_nanos(system::clock_ns().saturating_sub(facts.built_ns));
    let clock = Instant::now().checked_sub(age).unwrap_or_else(Instant::now);
    let start = Start { clock, ticks: facts.built_ticks };
    let mut copy = ArenaCopy::take(&source, facts.parts, data, start)?;
    copy.metadata = facts.metadata as usize;
    let names = {
        let mut words = Vec::new();
        let names_at = at + description::NAMES_AT;
        let all = 0..description::BYTES - description::NAMES_AT;
        Source::Memory(process, names_at).each_word(all, |i, word| {
            words.resize(i, 0);
            words.push(word);
        })?;
        read_names(&words)
    };
    let resident = process.resident(facts.data, facts.data + bytes_of(facts.pages) as u64);
    // The description goes before the words do: if it still stands, so did they.
    let (same, limit) = self::facts(process, at)?;
    if same != facts {
        return Err(LookError::Gone);
    }
    copy.limit = limit;
    Ok(Look::new(copy, &names, age, resident))
}
