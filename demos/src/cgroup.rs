//! A memory cgroup for a process that may be killed.

use std::fs;
use std::path::{Path, PathBuf};

/// A memory cgroup, removed when this is dropped.
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// With this limit in bytes, and no swap.
    ///
    /// # Errors
    /// Why there can be none.
    pub fn new(limit: u64) -> Result<Self, String> {
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let root = Path::new(if unified { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/memory" });
        let path = root.join(format!("tailpin-demo-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let this = Self { path };
        let set = |file: &str, bytes: u64| {
            fs::write(this.path.join(file), bytes.to_string()).map_err(|error| format!("{file}: {error}"))
        };
        // Where there is no swap there may be no file for it.
        if unified {
            set("memory.max", limit)?;
            let _ = set("memory.swap.max", 0);
        } else {
            set("memory.limit_in_bytes", limit)?;
            let _ = set("memory.memsw.limit_in_bytes", limit);
        }
        Ok(this)
    }

    /// Where a process writes its number to be in it.
    pub fn procs(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}
