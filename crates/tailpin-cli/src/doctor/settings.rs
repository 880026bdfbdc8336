//! What the kernel's settings say.

use super::check::{Check, as_root};
use crate::linux::cgroup::{Cgroup, Own};
use crate::linux::text;
use crate::units::bytes;

const THP: &str = "/sys/kernel/mm/transparent_hugepage";
/// Below this many mappings a split arena of some GiB may run out of them; it is the kernel's
/// default.
const MAPS_WANTED: u64 = 65_530;
/// Locked memory that a small registered arena needs.
const MEMLOCK_WANTED: u64 = 64 << 20;
const CAP_IPC_LOCK: u32 = 14;

/// All of them, in the order of the table.
pub(super) fn checks() -> Vec<Check> {
    vec![
        kernel(),
        thp_enabled(),
        thp_defrag(),
        khugepaged(),
        thp_shmem(),
        thp_counters(),
        hugetlb("hugetlb_2mib", 2048, 64),
        hugetlb("hugetlb_1gib", 1_048_576, 1),
        memlock(),
        max_map_count(),
        overcommit(),
        cgroup_memory(),
        cgroup_own(),
    ]
}

fn kernel() -> Check {
    const NAME: &str = "kernel";
    const PATH: &str = "/proc/sys/kernel/osrelease";
    let Some(release) = text::read(PATH) else { return Check::unreadable(NAME, PATH) };
    match version(&release) {
        None => Check::ok(NAME, release),
        // 5.10 brought process_madvise, 5.4 MADV_COLD.
        Some(version) if version < (5, 10) => Check::hint(
            NAME,
            release,
            "Linux 5.10 or later gives pages back with one call per block instead of one per hole",
        ),
        Some(_) => Check::ok(NAME, release),
    }
}

/// Major and minor of `6.18.44-generic`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// A file with a choice in brackets; `good` says which are as they should be.
fn choice(name: &'static str, file: &str, good: impl Fn(&str) -> bool, value: &str, advice: &str) -> Check {
    let path = format!("{THP}/{file}");
    let Some(line) = text::read(&path) else { return Check::unreadable(name, &path) };
    match text::chosen(&line) {
        None => Check::unreadable(name, &path),
        Some(chosen) if good(chosen) => Check::ok(name, chosen),
        Some(chosen) => {
            Check::hint(name, format!("{chosen}: {value}"), as_root(format_args!("echo {advice} > {path}")))
        }
    }
}

fn thp_enabled() -> Check {
    choice("thp_enabled", "enabled", |c| c != "never", "blocks are made of 4 KiB pages", "madvise")
}

fn thp_defrag() -> Check {
    choice(
        "thp_defrag",
        "defrag",
        |c| c != "never",
        "huge pages come only while free ones lie about",
        "madvise",
    )
}

fn thp_shmem() -> Check {
    choice(
        "thp_shmem",
        "shmem_enabled",
        |c| c != "never" && c != "deny",
        "shared memory (memfd) is made of 4 KiB pages",
        "advise",
    )
}

/// khugepaged makes huge pages again of what was given back, unless it is told not to.
fn khugepaged() -> Check {
    const NAME: &str = "khugepaged_max_ptes_none";
    let path = format!("{THP}/khugepaged/max_ptes_none");
    let Some(holes) = text::number(&path) else { return Check::unreadable(NAME, &path) };
    let everywhere =
        text::read(format!("{THP}/enabled")).is_some_and(|line| text::chosen(&line) == Some("always"));
    if holes > 255 && everywhere {
        Check::hint(
            NAME,
            format!("{holes}, with THP for everybody: memory given back in 4 KiB is filled up again"),
            as_root(format_args!(
                "echo 64 > {path}, or echo madvise > {THP}/enabled; an arena guards its own blocks"
            )),
        )
    } else {
        Check::ok(NAME, holes.to_string())
    }
}

/// The witnesses that memory really went back.
fn thp_counters() -> Check {
    const NAME: &str = "thp_counters";
    let vmstat = text::read("/proc/vmstat").unwrap_or_default();
    match (text::keyed(&vmstat, "thp_split_page"), text::keyed(&vmstat, "thp_split_page_failed")) {
        (Some(split), Some(failed)) => {
            Check::ok(NAME, format!("readable: {split} splits, {failed} failed since boot"))
        }
        _ => Check::hint(
            NAME,
            "/proc/vmstat has no thp_split_page",
            "that memory was given back can't be verified: use a kernel built with CONFIG_TRANSPARENT_HUGEPAGE",
        ),
    }
}

fn hugetlb(name: &'static str, kib: u64, example: u64) -> Check {
    let folder = format!("/sys/kernel/mm/hugepages/hugepages-{kib}kB");
    let path = format!("{folder}/nr_hugepages");
    match (text::number(&path), text::number(format!("{folder}/free_hugepages"))) {
        (Some(0), _) => Check::hint(
            name,
            "none reserved",
            format!(
                "only hugetlb arenas need them; {}, best soon after boot",
                as_root(format_args!("echo {example} > {path}"))
            ),
        ),
        (Some(all), Some(0)) => Check::hint(
            name,
            format!("{all} reserved, none free"),
            format!(
                "only hugetlb arenas need them; {}",
                as_root(format_args!("echo {} > {path}", all + example))
            ),
        ),
        (Some(all), Some(free)) => Check::ok(name, format!("{all} reserved, {free} free")),
        _ => Check::hint(name, "this kernel has no huge pages of this size", "use transparent huge pages"),
    }
}

fn memlock() -> Check {
    const NAME: &str = "memlock";
    let Some(limits) = text::read("/proc/self/limits") else {
        return Check::unreadable(NAME, "/proc/self/limits");
    };
    let Some(soft) = limits.lines().find_map(|line| {
        line.strip_prefix("Max locked memory")?.split_whitespace().next().map(str::to_owned)
    }) else {
        return Check::unreadable(NAME, "/proc/self/limits");
    };
    let privileged = text::read("/proc/self/status")
        .and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?.trim().to_owned();
            u64::from_str_radix(&line, 16).ok()
        })
        .is_some_and(|capabilities| capabilities >> CAP_IPC_LOCK & 1 == 1);
    match soft.parse::<u64>() {
        Err(_) => Check::ok(NAME, soft),
        Ok(limit) if privileged => {
            Check::ok(NAME, format!("{}, not applied: CAP_IPC_LOCK is held", bytes(limit)))
        }
        Ok(limit) if limit >= MEMLOCK_WANTED => Check::ok(NAME, bytes(limit)),
        Ok(limit) => Check::hint(
            NAME,
            format!("{}: no larger arena can be registered", bytes(limit)),
            "for one shell, as root: ulimit -l unlimited; for a service, for good: LimitMEMLOCK=infinity",
        ),
    }
}

fn max_map_count() -> Check {
    const NAME: &str = "max_map_count";
    const PATH: &str = "/proc/sys/vm/max_map_count";
    let Some(most) = text::number(PATH) else { return Check::unreadable(NAME, PATH) };
    let used = text::read("/proc/self/maps").map_or(0, |maps| maps.lines().count() as u64);
    let value = format!("{most}, {used} used by this process");
    if most < MAPS_WANTED || used > most / 5 * 4 {
        Check::hint(
            NAME,
            format!("{value}: each split block may need two"),
            as_root("sysctl -w vm.max_map_count=262144"),
        )
    } else {
        Check::ok(NAME, value)
    }
}

fn overcommit() -> Check {
    const NAME: &str = "overcommit";
    const PATH: &str = "/proc/sys/vm/overcommit_memory";
    match text::number(PATH) {
        None => Check::unreadable(NAME, PATH),
        Some(2) => Check::hint(
            NAME,
            "2, strict: an arena is charged whole when it is made",
            format!(
                "make arenas no larger than what they will hold; or, {}",
                as_root("sysctl -w vm.overcommit_memory=0")
            ),
        ),
        Some(mode) => Check::ok(NAME, mode.to_string()),
    }
}

fn cgroup_memory() -> Check {
    const NAME: &str = "cgroup_memory";
    let Some(group) = Cgroup::current() else { return Check::ok(NAME, "not in a memory cgroup") };
    let used = group.usage().unwrap_or(0);
    let version = group.version().name();
    match group.limit() {
        None => Check::ok(NAME, format!("no limit, {} used ({version})", bytes(used))),
        Some(limit) => {
            let value = format!("{} of {} used ({version})", bytes(used), bytes(limit));
            // Page cache is charged too and goes when it is needed.
            if group.held().unwrap_or(used) > limit / 10 * 9 {
                Check::hint(
                    NAME,
                    value,
                    "raise the limit or make the arena smaller: the kernel kills at the limit",
                )
            } else {
                Check::ok(NAME, value)
            }
        }
    }
}

/// `tailpin retain` measures in a group of its own where it may.
fn cgroup_own() -> Check {
    const NAME: &str = "cgroup_own";
    match Own::create(&format!("tailpin-doctor-{}", std::process::id()), None) {
        Ok(own) => Check::ok(NAME, format!("can be made ({})", own.group().version().name())),
        Err(error) => Check::hint(
            NAME,
            format!("can't be made: {error}"),
            "tailpin retain counts by MemAvailable instead; run it as root or under systemd-run --user --scope",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn releases_compare_by_number() {
        assert_eq!(version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(version("5.4"), Some((5, 4)));
        assert!(version("5.9.1") < Some((5, 10)));
        assert_eq!(version("linux"), None);
    }
}
