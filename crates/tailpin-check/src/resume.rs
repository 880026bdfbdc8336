//! How far a search has come, kept in a directory, so that the next run of the same program goes on
//! from there.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use crate::check::Check;

/// A directory in which each exploration keeps its place.
#[derive(Clone, Debug)]
pub struct Resume {
    dir: PathBuf,
}

/// The files of one exploration: of a scenario, on a protocol, to a bound.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Where the checker keeps the next execution.
    path: PathBuf,
    /// Executions before it; `done` at the end of the line when there is no next one.
    count: PathBuf,
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
    pub(crate) fn place(&self, check: &Check, preemptions: Option<usize>) -> Place {
        let bound = preemptions.map_or("all".to_owned(), |bound| bound.to_string());
        let name = format!("{}-{}-{bound}", check.protocol.name(), check.scenario);
        Place { path: self.dir.join(format!("{name}.json")), count: self.dir.join(format!("{name}.count")) }
    }
}

impl Place {
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

    /// Executions before the one in the file, and whether there is none after them.
    pub(crate) fn count(&self) -> (u64, bool) {
        let text = std::fs::read_to_string(&self.count).unwrap_or_default();
        let mut words = text.split_whitespace();
        let count = words.next().and_then(|digits| digits.parse().ok()).unwrap_or(0);
        (count, words.next() == Some("done"))
    }

    /// Keeps that so many executions came before the one in the file. A count that can't be written
    /// makes the search longer, not wrong.
    pub(crate) fn keep(&self, count: u64, done: bool) {
        let _ = std::fs::write(&self.count, format!("{count}{}\n", if done { " done" } else { "" }));
        if done {
            let _ = std::fs::write(&self.path, "{}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Resume;
    use crate::suite::Selection;

    #[test]
    fn a_place_is_kept_and_what_is_not_whole_begins_anew() {
        let dir = std::env::temp_dir().join(format!("tailpin-resume-{}", std::process::id()));
        let resume = Resume::in_dir(&dir).unwrap();
        let check = &Selection::default().checks()[0];
        let place = resume.place(check, None);
        assert_eq!(place.count(), (0, false));
        std::fs::write(place.path(), "{\"half").unwrap();
        place.keep(512, false);
        assert_eq!((place.count(), place.path().exists()), ((512, false), false));
        assert_eq!(place.count(), (0, false), "the count of a search that is lost is lost too");
        place.keep(700, true);
        assert!(place.path().exists() && place.count() == (700, true));
        assert!(resume.place(check, Some(2)).count() == (0, false), "each bound has a place of its own");

        std::fs::write(dir.join("build"), "another").unwrap();
        assert_eq!(Resume::in_dir(&dir).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
