//! What a command writes, and what happens where it can't: every failure becomes a line on standard
//! error and a [`Status`], never a panic.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::Status;
use crate::style::harmless;

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
    let _ = writeln!(io::stderr(), "tailpin: {}", harmless(&what.to_string()));
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
            Err(error) if error.kind() == io::ErrorKind::NotFound => of_new_file(path)?,
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

    /// Whether this is the file at `path`, which is there.
    pub(crate) fn is_file_at(&self, path: &Path) -> bool {
        fs::canonicalize(path).is_ok_and(|path| path == self.path)
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

/// Symbolic links that are followed, as many as by the kernel.
const MOST_LINKS: usize = 40;

/// Where a file that isn't there yet will be: where symbolic links lead, in a folder by its own
/// name.
fn of_new_file(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    // The descriptors in /proc are links to no name, and there all the same.
    for _ in 0..MOST_LINKS {
        let to = match fs::metadata(&path) {
            Ok(_) => break,
            Err(_) => fs::read_link(&path),
        };
        let Ok(to) = to else { break };
        path = path.parent().unwrap_or(Path::new("")).join(to);
    }
    let Some(name) = path.file_name() else { return Ok(path) };
    match path.parent() {
        Some(folder) if folder != Path::new("") => Ok(fs::canonicalize(folder)?.join(name)),
        _ => Ok(fs::canonicalize(".")?.join(name)),
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
    let mut targets: [Option<Target>; N] = [const { None }; N];
    for (at, path) in paths.into_iter().enumerate() {
        let Some(path) = path else { continue };
        let refused = |why: &dyn Display| format!("{} can't be written: {why}", path.display());
        let checked = Target::check(path).map_err(|error| refused(&error))?;
        // To a pipe or a device one may follow the other.
        if checked.beside && targets.iter().flatten().any(|other| other.path == checked.path) {
            return Err(refused(&"another file of this run has the same name"));
        }
        targets[at] = Some(checked);
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

    use super::{Target, targets};

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

    #[cfg(unix)]
    #[test]
    fn a_file_is_made_where_a_link_leads() {
        let dir = std::env::temp_dir().join(format!("tailpin-target-link-{}", std::process::id()));
        fs::create_dir_all(dir.join("folder")).unwrap();
        let (link, last) = (dir.join("link"), dir.join("folder/last"));
        std::os::unix::fs::symlink("folder/last", &link).unwrap();
        std::os::unix::fs::symlink("new", &last).unwrap();
        for text in ["at first", "again"] {
            Target::check(&link).unwrap().write(text).unwrap();
            assert_eq!(fs::read_to_string(dir.join("folder/new")).unwrap(), text);
        }
        assert!([&link, &last].iter().all(|path| fs::symlink_metadata(path).unwrap().is_symlink()));
        assert_eq!(fs::read_dir(dir.join("folder")).unwrap().count(), 2);
        std::os::unix::fs::symlink("circle", dir.join("circle")).unwrap();
        assert!(Target::check(&dir.join("circle")).is_err());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn two_files_of_a_run_have_two_names() {
        let dir = std::env::temp_dir().join(format!("tailpin-target-two-{}", std::process::id()));
        fs::create_dir_all(dir.join("folder")).unwrap();
        let (plain, around) = (dir.join("a"), dir.join("folder/../a"));
        for _ in 0..2 {
            assert!(targets([Some(&plain), None, Some(&plain)]).is_err());
            assert!(targets([Some(&plain), Some(&around)]).is_err());
            assert!(targets([Some(&plain), Some(&dir.join("b"))]).is_ok());
            // Once more where the file is there.
            fs::write(&plain, "before").unwrap();
        }
        assert!(Target::check(&around).unwrap().is_file_at(&plain));
        if cfg!(unix) {
            let nowhere = "/dev/null".into();
            assert!(targets([Some(&nowhere), Some(&nowhere)]).is_ok());
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
