//! Memory cgroups, version 1 and 2: the kernel's own account of what a group of processes holds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::text;

/// Which of the two interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// One hierarchy for each controller.
    V1,
    /// The unified hierarchy.
    V2,
}

impl Version {
    /// As people write it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V1 => "cgroup v1",
            Self::V2 => "cgroup v2",
        }
    }

    const fn usage(self) -> &'static str {
        match self {
            Self::V1 => "memory.usage_in_bytes",
            Self::V2 => "memory.current",
        }
    }

    const fn limit(self) -> &'static str {
        match self {
            Self::V1 => "memory.limit_in_bytes",
            Self::V2 => "memory.max",
        }
    }

    /// The limit that keeps a group from escaping into swap.
    const fn swap_limit(self) -> (&'static str, bool) {
        match self {
            // Memory and swap together.
            Self::V1 => ("memory.memsw.limit_in_bytes", true),
            Self::V2 => ("memory.swap.max", false),
        }
    }

    /// Where page cache stands in `memory.stat`.
    const fn cache(self) -> &'static str {
        match self {
            Self::V1 => "cache",
            Self::V2 => "file",
        }
    }

    /// Where kills are counted.
    const fn kills(self) -> &'static str {
        match self {
            Self::V1 => "memory.oom_control",
            Self::V2 => "memory.events",
        }
    }
}

/// A memory cgroup.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    version: Version,
    path: PathBuf,
}

impl Cgroup {
    /// The one this process is in.
    pub(crate) fn current() -> Option<Self> {
        let memberships = text::read("/proc/self/cgroup")?;
        let mounts = text::read("/proc/self/mounts")?;
        locate(&memberships, &mounts)
    }

    /// One that is known by its path already.
    pub(crate) fn at(version: Version, path: PathBuf) -> Self {
        Self { version, path }
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes charged to the group, page cache and kernel memory among them.
    pub(crate) fn usage(&self) -> Option<u64> {
        text::number(self.path.join(self.version.usage()))
    }

    /// Bytes charged to the group, less page cache, which goes when it is needed.
    pub(crate) fn held(&self) -> Option<u64> {
        let stat = text::read(self.path.join("memory.stat"))?;
        Some(self.usage()?.saturating_sub(text::keyed(&stat, self.version.cache())?))
    }

    /// The limit in bytes; `None` where there is none.
    pub(crate) fn limit(&self) -> Option<u64> {
        // Version 1 says "no limit" as a number near 2^63, version 2 as a word.
        text::number(self.path.join(self.version.limit())).filter(|&limit| limit < 1 << 60)
    }

    /// How many processes of the group the kernel has killed for want of memory.
    pub(crate) fn kills(&self) -> Option<u64> {
        text::keyed(&text::read(self.path.join(self.version.kills()))?, "oom_kill")
    }

    /// Moves this process in.
    pub(crate) fn join(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.procs"), "0")
    }

    /// Sets the limit, swap included where the kernel counts swap.
    fn restrict(&self, bytes: u64) -> io::Result<()> {
        fs::write(self.path.join(self.version.limit()), bytes.to_string())?;
        let (file, together) = self.version.swap_limit();
        let file = self.path.join(file);
        if file.exists() {
            fs::write(file, if together { bytes } else { 0 }.to_string())?;
        }
        Ok(())
    }
}

/// The memory cgroup of a process, from what `/proc/self/cgroup` and `/proc/self/mounts` say.
fn locate(memberships: &str, mounts: &str) -> Option<Cgroup> {
    let membership = |wanted: &dyn Fn(&str) -> bool| {
        memberships.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let controllers = parts.next()?;
            wanted(controllers).then(|| parts.next())?
        })
    };
    let mount = |kind: &str, option: Option<&str>| {
        mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (point, is, options) = (fields.next()?, fields.next()?, fields.next()?);
            (is == kind && option.is_none_or(|option| options.split(',').any(|o| o == option)))
                .then(|| PathBuf::from(point))
        })
    };
    let under = |root: PathBuf, path: &str| {
        let inner = root.join(path.trim_start_matches('/'));
        // In a container the path may be the host's, and the mount shows the group itself.
        if inner.is_dir() { inner } else { root }
    };
    let v1 = membership(&|controllers| controllers.split(',').any(|c| c == "memory"))
        .and_then(|path| Some((Version::V1, under(mount("cgroup", Some("memory"))?, path))));
    let v2 = || {
        membership(&str::is_empty).and_then(|path| Some((Version::V2, under(mount("cgroup2", None)?, path))))
    };
    let (version, path) = v1.or_else(v2)?;
    path.join(version.usage()).exists().then_some(Cgroup { version, path })
}

/// A group of one's own, removed when this goes.
#[derive(Debug)]
pub(crate) struct Own(Cgroup);

impl Own {
    /// Makes a group named `name` below or beside this process's own, with a limit if one is
    /// wanted. Below is tried first; version 2 allows no child with memory accounting below a group
    /// that has processes.
    pub(crate) fn create(name: &str, limit: Option<u64>) -> io::Result<Self> {
        let current = Cgroup::current()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no memory cgroup is mounted"))?;
        let beside = current.path.parent().map(Path::to_owned);
        let mut refusal = None;
        for parent in [Some(current.path.clone()), beside].into_iter().flatten() {
            match Self::create_in(current.version, &parent, name, limit) {
                Ok(own) => return Ok(own),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        Err(refusal.expect("one place was tried"))
    }

    fn create_in(version: Version, parent: &Path, name: &str, limit: Option<u64>) -> io::Result<Self> {
        let path = parent.join(name);
        fs::create_dir(&path)?;
        // From here on it is removed whatever happens.
        let own = Self(Cgroup { version, path });
        if !own.0.path.join(version.usage()).exists() {
            let _ = fs::write(parent.join("cgroup.subtree_control"), "+memory");
        }
        if own.0.usage().is_none() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a new cgroup has no memory accounting here",
            ));
        }
        // To make a group is one right, to move a process there another.
        let joined = Command::new("sh")
            .args(["-c", "echo 0 > \"$0\""])
            .arg(own.0.path.join("cgroup.procs"))
            .output()?;
        if !joined.status.success() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "no process may move to a new cgroup here",
            ));
        }
        if let Some(bytes) = limit {
            own.0.restrict(bytes)?;
        }
        Ok(own)
    }

    pub(crate) fn group(&self) -> &Cgroup {
        &self.0
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // A process that was just killed may still be on its way out.
        for _ in 0..50 {
            match fs::remove_dir(&self.0.path) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cgroup, Own, locate};

    #[test]
    fn a_machine_without_a_memory_cgroup_has_none() {
        assert!(locate("1:cpu:/\n", "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n").is_none());
        assert!(locate("", "").is_none());
        assert!(locate("0::/nowhere\n", "proc /proc proc rw 0 0\n").is_none());
    }

    #[test]
    fn an_own_group_is_there_and_gone_again() {
        let name = format!("tailpin-test-{}", std::process::id());
        match Own::create(&name, Some(64 << 20)) {
            Err(error) => eprintln!("skipped: no memory cgroup can be made here: {error}"),
            Ok(own) => {
                let group = own.group().clone();
                assert_eq!(group.limit(), Some(64 << 20));
                assert_eq!(group.kills(), Some(0));
                assert!(group.held().is_some_and(|held| held < 1 << 20), "{group:?}");
                drop(own);
                assert!(!group.path().exists());
            }
        }
    }

    #[test]
    fn the_current_group_counts() {
        match Cgroup::current() {
            None => eprintln!("skipped: no memory cgroup is mounted here"),
            Some(group) => assert!(group.usage().is_some()),
        }
    }
}
