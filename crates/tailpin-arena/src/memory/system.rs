//! What this machine says of itself, read from `/proc` and `/sys`.

use std::fs;
use std::time::Instant;

pub(crate) use rustix::io::Errno;

use crate::backing::HugeSize;

/// When the kernel uses transparent huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HugePages {
    Always,
    /// Where memory was advised to have them.
    OnAdvice,
    Off,
}

/// What was read of the system; nothing where it doesn't tell this process. An error where it might
/// tell at another moment, as no descriptor or memory is left to ask with: to take that for an
/// answer would be wrong.
pub(crate) fn if_told<T>(read: std::io::Result<T>) -> rustix::io::Result<Option<T>> {
    read.map(Some).or_else(|error| match Errno::from_io_error(&error) {
        Some(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => Err(errno),
        _ => Ok(None),
    })
}

/// When private memory gets transparent huge pages (THP).
pub(crate) fn thp() -> rustix::io::Result<HugePages> {
    selected("/sys/kernel/mm/transparent_hugepage/enabled")
}

/// When shared memory gets transparent huge pages (THP).
pub(crate) fn shmem_thp() -> rustix::io::Result<HugePages> {
    selected("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
}

fn selected(path: &str) -> rustix::io::Result<HugePages> {
    let text = if_told(fs::read_to_string(path))?.unwrap_or_default();
    Ok(match text.split('[').nth(1).and_then(|rest| rest.split(']').next()) {
        Some("always" | "within_size" | "force") => HugePages::Always,
        Some("madvise" | "advise") => HugePages::OnAdvice,
        _ => HugePages::Off,
    })
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The processor that runs this thread; the first where the system doesn't tell.
///
/// By the C library, which asks the system by a call where the kernel offers no function for it in
/// the process (under valgrind, say). rustix takes that function for granted.
pub(crate) fn current_cpu() -> usize {
    // SAFETY: takes nothing and changes nothing.
    usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(0)
}

/// Has each forked child call this. Where there is no memory for it, a child takes the threads of
/// its parent for its own.
///
/// # Safety
/// It may be called in a child of a process with many threads: it does no more than change words.
pub(crate) unsafe fn call_in_children(call: extern "C" fn()) {
    // SAFETY: as the caller says.
    unsafe { libc::pthread_atfork(None, None, Some(call)) };
}

/// Whether [`process_barrier`] can be had; asks for it.
pub(crate) fn has_process_barrier() -> bool {
    use rustix::thread::{MembarrierCommand, membarrier};
    membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
}

/// All threads of the process pass a full memory barrier before this returns.
pub(crate) fn process_barrier() {
    use rustix::thread::{MembarrierCommand, membarrier};
    let passed = || membarrier(MembarrierCommand::PrivateExpedited).is_ok();
    // A process that was forked may have to ask again.
    if passed() || has_process_barrier() && passed() {
        return;
    }
    // It was there when it was asked for, and a filter of system calls has taken it away since.
    // A processor keeps a write to itself for less than a microsecond, and none over a switch of
    // threads.
    std::thread::sleep(std::time::Duration::from_millis(10));
}

/// A count that goes up with time at a rate that does not change, about a hundred million a second
/// at most; on all processors the same, or nearly.
#[inline]
pub(crate) fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: reads a register that every such processor has. Where the system forbids it to
        // programs, this ends the process; none is known to do so.
        (unsafe { core::arch::x86_64::_rdtsc() }) >> 5
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        clock_ns() >> 5
    }
}

/// Ticks since a moment, which was `ticks` by their count. No clock is read.
#[inline]
pub(crate) fn ticks_since(_clock: Instant, ticks_then: u64) -> u64 {
    // Another processor may be behind by a few.
    ticks().saturating_sub(ticks_then)
}

/// Whether the answer to a release may mean that the memory has been locked since.
pub(crate) fn may_mean_locked(errno: Errno) -> bool {
    errno == Errno::INVAL
}

/// Whether the answer to a release means that the process may have no more mappings: `madvise` says
/// that it might be different another time.
pub(crate) fn lacks_mappings(errno: Errno) -> bool {
    errno == Errno::NOMEM || errno == Errno::AGAIN
}

/// Nanoseconds on the clock that all processes of a machine share. By the C library for the same
/// reason.
pub(crate) fn clock_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the time to `now`, and nothing else.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

/// Most mappings a process may have.
pub(crate) fn max_map_count() -> u64 {
    number("/proc/sys/vm/max_map_count").unwrap_or(65_530)
}

/// Mappings this process has.
pub(crate) fn map_count() -> u64 {
    fs::read_to_string("/proc/self/maps").map_or(0, |maps| maps.lines().count() as u64)
}

/// Pages of the huge page pool (hugetlb) that are neither taken nor reserved.
pub(crate) fn free_huge_pages(size: HugeSize) -> u64 {
    let base = format!("/sys/kernel/mm/hugepages/hugepages-{}kB", size.bytes() / 1024);
    let read = |name| number(&format!("{base}/{name}")).unwrap_or(0);
    read("free_hugepages").saturating_sub(read("resv_hugepages"))
}
