//! How far a search has come, kept in a directory, so that the next run of the same program goes on
//! from there.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::check::Check;

/// A directory in which each exploration keeps its place.
#[derive(Clone, Debug)]
pub struct Resume {
    dir: PathBuf,
}

/// The files of one exploration: of a scenario, on a protocol, to a bound.
#[derive(Clone, Debug)]
pub(crate) struct SavedFiles {
    /// Where the checker keeps the next execution.
    path: PathBuf,
    /// Executions before it and milliseconds they took; `done` at the end of the line when there is
    /// no next one.
    count: PathBuf,
}

/// How far an exploration has come in all runs so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Executions explored.
    pub(crate) executions: u64,
    /// Time they took.
    pub(crate) elapsed: Duration,
    /// Whether there are no others.
    pub(crate) done: bool,
}

impl Resume {
    /// Uses `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// What the system says; and [`io::ErrorKind::InvalidInput`] if another build of the program
    /// has begun in this directory, as its executions are not those of this one.
    pub fn in_dir(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut hasher = DefaultHasher::new();
        std::fs::read(std::env::current_exe()?)?.hash(&mut hasher);
        let (build, own) = (dir.join("build"), format!("{:016x}", hasher.finish()));
        match std::fs::read_to_string(&build) {
            Ok(begun) if begun.trim() == own => {}
            Ok(_) => {
                let why = "another build of this program has begun there";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::write(&build, own)?,
            Err(error) => return Err(error),
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// The place of this exploration.
    pub(crate) fn place(&self, check: &Check, preemptions: Option<usize>) -> SavedFiles {
        let bound = preemptions.map_or("all".to_owned(), |bound| bound.to_string());
        let name = format!("{}-{}-{bound}", check.protocol.name(), check.scenario);
        SavedFiles {
            path: self.dir.join(format!("{name}.json")),
            count: self.dir.join(format!("{name}.count")),
        }
    }
}

impl SavedFiles {
    /// The file that the checker reads at first and writes now and then. What is not whole, as the
    /// program was killed while it wrote, is removed with its count: the search begins anew.
    pub(crate) fn path(&self) -> &Path {
        let whole = std::fs::read(&self.path).is_ok_and(|text| text.ends_with(b"}"));
        if !whole {
            let _ = std::fs::remove_file(&self.path);
            let _ = std::fs::remove_file(&self.count);
        }
        &self.path
    }

    /// How far the runs before have come.
    pub(crate) fn kept(&self) -> Kept {
        let text = std::fs::read_to_string(&self.count).unwrap_or_default();
        let mut words = text.split_whitespace();
        let mut number = || words.next().and_then(|digits| digits.parse().ok()).unwrap_or(0);
        let (executions, elapsed) = (number(), Duration::from_millis(number()));
        Kept { executions, elapsed, done: words.next() == Some("done") }
    }

    /// Keeps what came before the execution in the file. A count that can't be written makes the
    /// search longer, not wrong.
    pub(crate) fn keep(&self, Kept { executions, elapsed, done }: Kept) {
        let end = if done { " done" } else { "" };
        let _ = std::fs::write(&self.count, format!("{executions} {}{end}\n", elapsed.as_millis()));
        if done {
            let _ = std::fs::write(&self.path, "{}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Kept, Resume};
    use crate::suite::Selection;

    #[test]
    fn a_place_is_kept_and_what_is_not_whole_begins_anew() {
        let dir = std::env::temp_dir().join(format!("tailpin-resume-{}", std::process::id()));
        let resume = Resume::in_dir(&dir).unwrap();
        let check = &Selection::default().checks()[0];
        let place = resume.place(check, None);
        assert_eq!(place.kept(), Kept::default());
        std::fs::write(place.path(), "{\"half").unwrap();
        let half = Kept { executions: 512, elapsed: Duration::from_millis(70), done: false };
        place.keep(half);
        assert_eq!((place.kept(), place.path().exists()), (half, false));
        assert_eq!(place.kept(), Kept::default(), "the count of a search that is lost is lost too");
        let whole = Kept { executions: 700, elapsed: Duration::from_secs(9), done: true };
        place.keep(whole);
        assert!(place.path().exists() && place.kept() == whole);
        let lower = resume.place(check, Some(2));
        assert_eq!(lower.kept(), Kept::default(), "each bound has a place of its own");

        std::fs::write(dir.join("build"), "another").unwrap();
        assert_eq!(Resume::in_dir(&dir).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
