//! Why an arena can't be looked at from here.

use std::fmt;

use rustix::io::Errno;

/// Why an arena can't be looked at from another process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LookError {
    /// There is no process of this number.
    NoProcess {
        /// The number.
        pid: u32,
    },
    /// This process may not read the memory of that one: it belongs to another user, or the system
    /// lets processes look at their own children alone (`kernel.yama.ptrace_scope`).
    NotPermitted {
        /// The other process.
        pid: u32,
        /// What `kernel.yama.ptrace_scope` is, where there is such a setting.
        ptrace_scope: Option<u8>,
    },
    /// The process has no arena: it uses none, or none at this moment.
    NoArena {
        /// The process.
        pid: u32,
    },
    /// The file is no shared arena.
    NotAnArena,
    /// Another version of this crate made the arena, whose words mean other things. The version of
    /// the `tailpin` command has to be the same.
    OtherVersion {
        /// The version that made it; `None` where it can't be told.
        theirs: Option<[u16; 3]>,
    },
    /// What the arena says of itself is impossible: something has written over it.
    Damaged,
    /// The arena or its process went away during the look.
    Gone,
    /// Another answer of the system's.
    System {
        /// What was tried.
        doing: &'static str,
        /// The error number.
        errno: i32,
    },
}

impl LookError {
    /// An answer of the system's to an attempt to look at a process.
    pub(super) fn of(pid: u32, doing: &'static str, error: &std::io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::NOENT | Errno::SRCH) => Self::NoProcess { pid },
            Some(Errno::PERM | Errno::ACCESS) => Self::NotPermitted { pid, ptrace_scope: ptrace_scope() },
            errno => Self::System { doing, errno: errno.map_or(0, Errno::raw_os_error) },
        }
    }
}

fn ptrace_scope() -> Option<u8> {
    std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok()?.trim().parse().ok()
}

impl fmt::Display for LookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProcess { pid } => write!(f, "there is no process {pid}"),
            Self::NotPermitted { pid, ptrace_scope: Some(scope @ 1..) } => write!(
                f,
                "process {pid} may not be read by this one: run as root, or lower kernel.yama.ptrace_scope, which is {scope}"
            ),
            Self::NotPermitted { pid, .. } => write!(
                f,
                "process {pid} may not be read by this one: run as the user of that process, or as root"
            ),
            Self::NoArena { pid } => write!(f, "process {pid} has no arena at this moment"),
            Self::NotAnArena => write!(f, "this file is no shared arena"),
            Self::OtherVersion { theirs } => {
                let ours = env!("CARGO_PKG_VERSION");
                match theirs {
                    Some([major, minor, patch]) => write!(
                        f,
                        "the arena is of tailpin-arena {major}.{minor}.{patch}, and this command knows the words of {ours} only: \
                         use the command of that version, from the same source"
                    ),
                    None => write!(
                        f,
                        "the arena is of another version of tailpin-arena than {ours}: use the command of that version"
                    ),
                }
            }
            Self::Damaged => {
                write!(f, "what the arena says of itself is impossible: something wrote over it")
            }
            Self::Gone => write!(f, "the arena went away"),
            Self::System { doing, errno } => {
                write!(f, "could not {doing}: {}", std::io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

impl std::error::Error for LookError {}
