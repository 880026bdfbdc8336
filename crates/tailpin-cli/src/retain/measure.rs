//! What a process holds: as it seems, and as the kernel counts.

use serde::{Deserialize, Serialize};

use crate::linux::cgroup::Cgroup;
use crate::linux::text;

/// The kernel's counters of huge pages, machine-wide, as they moved during the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HugePages {
    pub(crate) thp_fault_alloc: u64,
    pub(crate) thp_split_page: u64,
    pub(crate) thp_split_page_failed: u64,
    pub(crate) thp_deferred_split_page: u64,
}

/// Where the kernel's count was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Source {
    /// The charge of a memory cgroup of the back end's own, less page cache.
    #[serde(rename = "cgroup v1")]
    CgroupV1,
    /// The charge of a memory cgroup of the back end's own, unified hierarchy, less page cache.
    #[serde(rename = "cgroup v2")]
    CgroupV2,
    /// How far MemAvailable fell, machine-wide: other processes are in it.
    MemAvailable,
}

impl Source {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::CgroupV1 => "cgroup v1",
            Self::CgroupV2 => "cgroup v2",
            Self::MemAvailable => "MemAvailable",
        }
    }
}

/// One look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    rss: u64,
    /// Held, or still available.
    kernel: u64,
    source: Source,
    huge: HugePages,
}

/// What changed between two looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growth {
    pub(crate) rss: u64,
    pub(crate) kernel: u64,
    pub(crate) huge: HugePages,
}

impl Look {
    /// Looks at this process and at `group`, if it has one of its own.
    pub(crate) fn now(group: Option<&Cgroup>) -> Option<Self> {
        let rss = text::kilobytes(&text::read("/proc/self/status")?, "VmRSS")?;
        let vmstat = text::read("/proc/vmstat")?;
        let counter = |key| text::keyed(&vmstat, key).unwrap_or(0);
        let huge = HugePages {
            thp_fault_alloc: counter("thp_fault_alloc"),
            thp_split_page: counter("thp_split_page"),
            thp_split_page_failed: counter("thp_split_page_failed"),
            thp_deferred_split_page: counter("thp_deferred_split_page"),
        };
        let (kernel, source) = match group {
            Some(group) => (group.held()?, group.version().into()),
            None => (text::kilobytes(&text::read("/proc/meminfo")?, "MemAvailable")?, Source::MemAvailable),
        };
        Some(Self { rss, kernel, source, huge })
    }

    pub(crate) fn source(&self) -> Source {
        self.source
    }

    /// What grew since `before`; what shrank counts as no growth.
    pub(crate) fn since(&self, before: &Self) -> Growth {
        let kernel = match self.source {
            Source::MemAvailable => before.kernel.saturating_sub(self.kernel),
            Source::CgroupV1 | Source::CgroupV2 => self.kernel.saturating_sub(before.kernel),
        };
        let moved = |of: fn(&HugePages) -> u64| of(&self.huge).saturating_sub(of(&before.huge));
        Growth {
            rss: self.rss.saturating_sub(before.rss),
            kernel,
            huge: HugePages {
                thp_fault_alloc: moved(|huge| huge.thp_fault_alloc),
                thp_split_page: moved(|huge| huge.thp_split_page),
                thp_split_page_failed: moved(|huge| huge.thp_split_page_failed),
                thp_deferred_split_page: moved(|huge| huge.thp_deferred_split_page),
            },
        }
    }
}

impl From<crate::linux::cgroup::Version> for Source {
    fn from(version: crate::linux::cgroup::Version) -> Self {
        match version {
            crate::linux::cgroup::Version::V1 => Self::CgroupV1,
            crate::linux::cgroup::Version::V2 => Self::CgroupV2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Look;

    #[test]
    fn what_is_touched_is_seen() {
        let touch = || {
            let before = Look::now(None).unwrap();
            let memory = std::hint::black_box(vec![1_u8; 64 << 20]);
            let growth = Look::now(None).unwrap().since(&before);
            drop(memory);
            growth
        };
        // MemAvailable is machine-wide, so only the resident set is asserted. Tests of other
        // threads may give memory back between two looks, but not each time.
        let seen: Vec<_> = (0..20).map(|_| touch()).collect();
        assert!(seen.iter().any(|growth| growth.rss >= 60 << 20), "{seen:?}");
    }
}
