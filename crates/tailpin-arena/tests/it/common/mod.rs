//! What the kernel says, read for tests on its own account: not through the library.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

pub(crate) use tailpin::PAGE_SIZE as PAGE;
use tailpin_arena::{Arena, Slice};

pub(crate) const MIB: usize = 1 << 20;
pub(crate) const HUGE: usize = 2 * MIB;

/// Says why a test is not run. Always returns `true`, to be returned on.
pub(crate) fn skip(test: &str, reason: &str) -> bool {
    // Not by `eprintln`, which the test harness keeps to itself when a test passes.
    let _ = writeln!(io::stderr(), "skipped: {test}: {reason}");
    true
}

/// Whether the arena was built as for a system that is not Linux: says that the test is not run
/// then.
pub(crate) fn off_linux(test: &str) -> bool {
    cfg!(tailpin_portable) && skip(test, "arenas are of the heap, as off Linux")
}

pub(crate) fn thp_is_on() -> bool {
    let mode = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    mode.contains("[always]") || mode.contains("[madvise]")
}

pub(crate) fn is_root() -> bool {
    // SAFETY: takes and changes nothing.
    unsafe { libc::geteuid() == 0 }
}

pub(crate) fn vmstat(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/vmstat").unwrap();
    let line = text.lines().find(|line| line.split(' ').next() == Some(name)).unwrap();
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

/// A field of `/proc/self/smaps` in KiB, over all mappings that overlap a range.
pub(crate) fn smaps(field: &str, start: usize, len: usize) -> usize {
    smaps_lines(start, len)
        .iter()
        .filter_map(|line| {
            line.strip_prefix(field)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.parse::<usize>().ok()
        })
        .sum()
}

pub(crate) fn smaps_lines(start: usize, len: usize) -> Vec<String> {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in fs::read_to_string("/proc/self/smaps").unwrap().lines() {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let parse = |hex: &str| usize::from_str_radix(hex, 16).ok();
        if let Some((Some(from), Some(to))) = range.map(|(from, to)| (parse(from), parse(to))) {
            inside = from < start + len && start < to;
        } else if inside {
            lines.push(line.to_owned());
        }
    }
    lines
}

pub(crate) fn map_count() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

/// `KPF_` bits of the frame under an address; `None` where that may not be known.
pub(crate) fn page_flags(address: usize) -> Option<u64> {
    let read = |path: &str, at: u64| {
        let mut bytes = [0; 8];
        File::open(path).ok()?.read_exact_at(&mut bytes, at * 8).ok()?;
        Some(u64::from_ne_bytes(bytes))
    };
    let entry = read("/proc/self/pagemap", (address / PAGE) as u64)?;
    let frame = entry & ((1 << 55) - 1);
    if entry >> 63 == 0 || frame == 0 {
        return None;
    }
    read("/proc/kpageflags", frame)
}

/// Part of a compound page, by [`page_flags`].
pub(crate) const COMPOUND: u64 = 1 << 15 | 1 << 16;

/// Runs one test of the calling file again in a process of its own, with `role` in the environment,
/// and prepared by `prepare`. Returns whether it passed.
#[track_caller]
pub(crate) fn again(test: &str, role: &str, prepare: impl FnOnce(&mut Command)) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let file = Path::new(std::panic::Location::caller().file()).file_stem().unwrap();
    let test = format!("{}::{test}", file.display());
    command.args([&test, "--exact", "--nocapture", "--test-threads=1"]).env("TAILPIN_TEST_ROLE", role);
    prepare(&mut command);
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    let ran = String::from_utf8_lossy(&output.stdout).contains("running 1 test\n");
    assert!(ran, "no test is called {test}");
    if output.status.success() {
        for line in told.lines().filter(|line| line.starts_with("skipped:")) {
            let _ = writeln!(io::stderr(), "{line}");
        }
    } else {
        eprintln!("{}{told}", String::from_utf8_lossy(&output.stdout));
    }
    output.status.success()
}

pub(crate) fn role() -> Option<String> {
    std::env::var("TAILPIN_TEST_ROLE").ok()
}

/// A frozen buffer whose bytes count up.
pub(crate) fn counting_up(arena: &Arena, len: usize) -> Slice {
    let mut buffer = arena.alloc(len).unwrap();
    buffer.iter_mut().zip(0..).for_each(|(byte, i)| *byte = i as u8);
    buffer.freeze()
}

/// The trap of traits with a `slice` of their own: what `cut` makes of ten bytes keeps all of the
/// buffer.
pub(crate) fn a_foreign_cut_keeps_the_whole<T>(cut: impl FnOnce(Slice) -> T) {
    let arena = Arena::builder().size(16 << 20).build().unwrap();
    let cut = cut(arena.alloc(2 << 20).unwrap().freeze());
    assert_eq!(arena.stats().in_use(), 2 << 20);
    drop(cut);
    let whole = arena.alloc(2 << 20).unwrap().freeze();
    let cut = Slice::slice(&whole, 0..10);
    drop(whole);
    assert_eq!((cut.as_ref().len(), arena.stats().in_use()), (10, 4096));
}

pub(crate) fn limit(resource: libc::__rlimit_resource_t, bytes: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: reads the structure.
    if unsafe { libc::setrlimit(resource, &limit) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs `child` in a forked child; returns the status it ended with.
pub(crate) fn in_a_child(child: impl FnOnce() -> bool) -> i32 {
    // SAFETY: the child runs nothing that needs other threads, and ends without unwinding into the
    // harness.
    match unsafe { libc::fork() } {
        0 => {
            let right = catch_unwind(AssertUnwindSafe(child)).unwrap_or(false);
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(if right { 0 } else { 1 }) }
        }
        pid => {
            assert!(pid > 0, "{}", io::Error::last_os_error());
            let mut status = 0;
            // SAFETY: `status` is room for the status.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            status
        }
    }
}
