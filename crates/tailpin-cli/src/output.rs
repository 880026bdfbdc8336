//! What a command writes, and what happens where it can't: every failure becomes a line on standard
//! error and a [`Status`], never a panic.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::Status;

/// Writes `text` to standard output. A reader that has gone away wanted no more: that is no
/// failure.
pub(crate) fn print(text: &str) -> Status {
    let mut out = io::stdout().lock();
    printed(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// How it ends where this came of writing to standard output.
pub(crate) fn printed(result: io::Result<()>) -> Status {
    match result {
        Ok(()) => Status::Clean,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Status::Clean,
        Err(error) => {
            complain(format_args!("standard output can't be written: {error}"));
            Status::Unusable
        }
    }
}

/// Says on standard error what is wrong. Where that can't be written either, the exit code is left
/// to tell.
pub(crate) fn complain(what: impl Display) {
    let _ = writeln!(io::stderr(), "tailpin: {what}");
}

/// How this program is started once more with other arguments: as it was started now.
pub(crate) fn command(arguments: &str) -> String {
    // Cargo sets this for what it runs.
    let by_cargo = std::env::var_os("CARGO_MANIFEST_DIR").is_some();
    let program = if by_cargo { "cargo run --release --" } else { "tailpin" };
    format!("{program} {arguments}")
}

/// A file that a command will write when its work is done.
#[derive(Debug)]
pub(crate) struct Target {
    /// The file that was named, with symbolic links followed.
    path: PathBuf,
    /// Whether a new file can be made beside it, to take its place.
    beside: bool,
}

impl Target {
    /// Finds out before the work whether `path` can be written, and leaves everything as it is.
    ///
    /// # Errors
    /// Whatever the system says against it.
    pub(crate) fn check(path: &Path) -> io::Result<Self> {
        let path = match fs::canonicalize(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            path => path?,
        };
        let kind = match fs::metadata(&path) {
            Ok(kind) => Some(kind),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let Some(kind) = kind else {
            remove_after(&path, File::create_new(&path)?)?;
            return Ok(Self { path, beside: true });
        };
        // Opening a pipe waits for its reader, and opening a device may mean something.
        if kind.is_file() || kind.is_dir() {
            OpenOptions::new().append(true).open(&path)?;
        }
        let new = unfinished(&path);
        let beside =
            kind.is_file() && File::create_new(&new).is_ok_and(|file| remove_after(&new, file).is_ok());
        Ok(Self { path, beside })
    }

    /// What a file of that name has now, where it is an ordinary one that can be read as text.
    #[cfg(feature = "check")]
    pub(crate) fn text(&self) -> Option<String> {
        fs::metadata(&self.path).ok().filter(fs::Metadata::is_file)?;
        fs::read_to_string(&self.path).ok()
    }

    /// The file that was named, for people.
    #[cfg(feature = "check")]
    pub(crate) fn name(&self) -> impl std::fmt::Display {
        self.path.display()
    }

    /// Writes the file. What was there before is replaced only by all of `contents`.
    ///
    /// # Errors
    /// Whatever the system says.
    pub(crate) fn write(&self, contents: impl AsRef<[u8]>) -> io::Result<()> {
        let contents = contents.as_ref();
        if !self.beside {
            return fs::write(&self.path, contents);
        }
        let new = unfinished(&self.path);
        let written = (|| {
            let mut file = File::create_new(&new)?;
            if let Ok(old) = fs::metadata(&self.path) {
                file.set_permissions(old.permissions())?;
            }
            file.write_all(contents)?;
            // A full disk is noticed by some file systems only here.
            file.sync_all()?;
            fs::rename(&new, &self.path)
        })();
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written
    }
}

/// The name of a file beside `path` that becomes it.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}

fn remove_after(path: &Path, file: File) -> io::Result<()> {
    drop(file);
    fs::remove_file(path)
}

/// Checks all files before the work, in words for standard error.
///
/// # Errors
/// For the first one that can't be written.
pub(crate) fn targets<const N: usize>(paths: [Option<&PathBuf>; N]) -> Result<[Option<Target>; N], String> {
    let mut targets = [const { None }; N];
    for (target, path) in targets.iter_mut().zip(paths) {
        if let Some(path) = path {
            let checked = Target::check(path);
            *target = Some(checked.map_err(|error| format!("{} can't be written: {error}", path.display()))?);
        }
    }
    Ok(targets)
}

/// Writes a file whose [`Target`] was checked, and complains where that fails.
pub(crate) fn save(target: &Target, text: &str) -> Status {
    save_bytes(target, text.as_bytes())
}

/// Writes bytes to a file whose [`Target`] was checked, and complains where that fails.
pub(crate) fn save_bytes(target: &Target, contents: &[u8]) -> Status {
    match target.write(contents) {
        Ok(()) => Status::Clean,
        Err(error) => {
            complain(format_args!("{} can't be written: {error}", target.path.display()));
            Status::Unusable
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Target;

    #[test]
    fn looking_whether_a_file_can_be_written_changes_nothing() {
        let dir = std::env::temp_dir().join(format!("tailpin-target-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (new, old) = (dir.join("new"), dir.join("old"));
        fs::write(&old, "before").unwrap();
        let targets = [Target::check(&new).unwrap(), Target::check(&old).unwrap()];
        assert!(!new.exists());
        assert_eq!(fs::read_to_string(&old).unwrap(), "before");
        for target in targets {
            target.write("after").unwrap();
        }
        for path in [&new, &old] {
            assert_eq!(fs::read_to_string(path).unwrap(), "after");
        }
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "nothing else is left");
        assert!(Target::check(&dir).is_err());
        assert!(Target::check(&dir.join("no such/folder")).is_err());
        fs::remove_dir_all(&dir).unwrap();
    }
}
