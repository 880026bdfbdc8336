//! What goes wrong on real machines: an error with the cause, and nothing lost.

use crate::common;

use std::future::Future;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use common::{HUGE, MIB, PAGE, again, in_a_child, is_root, limit, role, skip};
use tailpin_arena::{
    AllocError, Arena, Backing, BuildError, HugeSize, LeakReport, ReleaseError, Slice, Stop,
};

fn filled(arena: &Arena, len: usize) -> Slice {
    let mut buffer = arena.alloc(len).unwrap();
    buffer.fill(42);
    buffer.freeze()
}

#[test]
fn a_forked_child_has_a_private_arena_of_its_own() {
    if role().is_none() {
        return assert!(again("a_forked_child_has_a_private_arena_of_its_own", "alone", |_| {}));
    }
    let arena = Arena::builder().size(8 * MIB).build().unwrap();
    let whole = filled(&arena, 5 * PAGE);
    let part = whole.slice(PAGE..PAGE + 9);
    let status = in_a_child(|| {
        let mut buffer = arena.alloc(3 * MIB).unwrap();
        buffer.fill(1);
        let again = part.clone();
        drop(whole);
        let back = arena.release(usize::MAX).unwrap();
        back.returned > 0
            && again.iter().all(|byte| *byte == 42)
            && arena.stats().in_use() == 3 * MIB + PAGE
            && arena.audit().violations() == 0
    });
    assert_eq!(status, 0);
    assert!(part.iter().all(|byte| *byte == 42));
    assert_eq!(
        arena.stats().in_use(),
        PAGE,
        "the closure took `whole` along; the child's other doings are its own"
    );
    assert_eq!(arena.audit().violations(), 0);
}

#[test]
fn a_forked_child_cannot_harm_a_shared_arena() {
    if role().is_none() {
        return assert!(again("a_forked_child_cannot_harm_a_shared_arena", "alone", |_| {}));
    }
    let arena = Arena::builder().size(8 * MIB).backing(Backing::Memfd { huge: false }).build().unwrap();
    let whole = filled(&arena, 5 * PAGE);
    let (part, many, page) = (whole.slice(PAGE..PAGE + 9), whole.slice(PAGE..4 * PAGE), filled(&arena, 10));
    let tag = arena.tag("limited").unwrap();
    let before = arena.stats();
    let flags = common::smaps_lines(arena.base().as_ptr() as usize, 8 * MIB);
    assert!(
        flags.iter().any(|line| line.starts_with("VmFlags:") && line.contains(" dc")),
        "not copied by a fork"
    );
    let child = || {
        assert_eq!(arena.alloc(10).unwrap_err(), AllocError::ForkedChild);
        // Nor has it a part in the limits.
        for reserved in [arena.reserve(10), arena.try_reserve(10), tag.reserve(10), tag.try_reserve(10)] {
            assert_eq!(reserved.unwrap_err(), AllocError::ForkedChild);
        }
        let mut waits = Box::pin(arena.reserve_async(10));
        let answer = waits.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(answer, Poll::Ready(Err(AllocError::ForkedChild))));
        assert_eq!(arena.release(10), Err(ReleaseError::ForkedChild));
        assert_eq!(arena.registered().unwrap_err(), ReleaseError::ForkedChild);
        std::panic::set_hook(Box::new(|_| {}));
        assert!(catch_unwind(AssertUnwindSafe(|| part[0])).is_err(), "a clear end, no stray read");
        let looks: [&dyn Fn(); 6] = [
            &|| assert!(arena.stats().size > 0),
            &|| assert!(!arena.worst_holders(1).is_empty()),
            &|| assert_eq!(arena.audit().violations(), 0),
            &|| assert!(part.retained_bytes() > 0),
            &|| assert!(many.sharers() > 0),
            &|| assert_eq!(whole.tag(), None),
        ];
        for look in looks {
            assert!(catch_unwind(AssertUnwindSafe(look)).is_err(), "the counts stayed with the parent, too");
        }
        let (clone, two, sub) = (part.clone(), many.clone(), many.slice(PAGE..2 * PAGE));
        assert!(many.clone().try_into_unique().is_err());
        // What the child inherited goes, down to the arena itself.
        drop((clone, two, sub));
        // SAFETY: the child alone has these copies, which are not used any more; `_exit` runs no
        // destructors.
        unsafe {
            for slice in [&whole, &part, &many, &page] {
                drop(std::ptr::read(slice));
            }
            drop((std::ptr::read(&tag), std::ptr::read(&arena)));
        }
        true
    };
    assert_eq!(in_a_child(child), 0);
    assert_eq!(arena.stats(), before);
    assert!(part.iter().chain(many.iter()).chain(page.iter()).all(|byte| *byte == 42));
    drop((whole, part, many, page));
    assert_eq!(arena.stats().in_use(), 0);
    assert_eq!(arena.audit().violations(), 0);
}

#[test]
fn what_may_not_be_locked_is_an_error_with_the_limit() {
    let name = "what_may_not_be_locked_is_an_error_with_the_limit";
    if role().is_some() {
        let error = Arena::builder().size(8 * MIB).lock(true).build().unwrap_err();
        assert_eq!(error, BuildError::LockLimit { bytes: 8 * MIB, limit: Some(65536) });
        assert!(error.to_string().contains("ulimit -l"));
        assert!(Arena::builder().size(8 * MIB).build().is_ok());
        return;
    }
    assert!(again(name, "limited", |command| {
        if is_root() {
            command.uid(65534);
        }
        // SAFETY: sets a limit and nothing else between fork and exec.
        unsafe { command.pre_exec(|| limit(libc::RLIMIT_MEMLOCK, 65536)) };
    }));
}

#[test]
fn no_address_space_is_an_error() {
    let name = "no_address_space_is_an_error";
    if role().is_some() {
        let error = Arena::builder().size(4 << 30).build().unwrap_err();
        assert_eq!(error, BuildError::OutOfMemory { bytes: 4 << 30 });
        let arena = Arena::builder().size(8 * MIB).build().unwrap();
        assert!(arena.alloc(8 * MIB).is_ok());
        return;
    }
    assert!(again(name, "limited", |command| {
        // SAFETY: sets a limit and nothing else between fork and exec.
        unsafe { command.pre_exec(|| limit(libc::RLIMIT_AS, 1 << 30)) };
    }));
}

/// Mappings until the kernel gives no more, two pages each so that neighbours differ.
fn fill_the_map() -> Vec<usize> {
    let mut maps = Vec::with_capacity(70_000);
    loop {
        let protection = if maps.len() % 2 == 0 { libc::PROT_READ } else { libc::PROT_NONE };
        // SAFETY: a new mapping where the kernel likes.
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), PAGE, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
        };
        if at == libc::MAP_FAILED {
            return maps;
        }
        maps.push(at as usize);
    }
}

fn unmap(maps: &mut Vec<usize>, n: usize) {
    for _ in 0..n {
        // SAFETY: a mapping of this test's that nothing uses.
        unsafe { libc::munmap(maps.pop().unwrap() as *mut _, PAGE) };
    }
}

#[test]
fn no_mapping_left_is_an_error_or_an_end() {
    let name = "no_mapping_left_is_an_error_or_an_end";
    let allowed: usize =
        std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
    if allowed > 300_000 && skip(name, "vm.max_map_count is too high to be reached in a test") {
        return;
    }
    if role().is_none() {
        return assert!(again(name, "alone", |_| {}));
    }
    let arena = Arena::builder().size(32 * MIB).split_huge_pages(u64::MAX).build().unwrap();
    let kept: Vec<_> = (0..16).map(|i| filled(&arena, HUGE).slice(i * PAGE..(i + 1) * PAGE)).collect();
    let mut maps = fill_the_map();
    // The test itself reads and prints with files and memory: that must not need the last mapping.
    unmap(&mut maps, 1);
    let released = arena.release(usize::MAX);
    unmap(&mut maps, 40);
    let released = released.unwrap();
    if common::thp_is_on() {
        assert_eq!(released.stopped, Stop::MapLimit);
        assert!(released.returned < 16 * 511 * PAGE, "{released}");
    }
    maps.append(&mut fill_the_map());
    let error = Arena::builder().size(8 * MIB).build().unwrap_err();
    unmap(&mut maps, 1000);
    assert!(matches!(error, BuildError::MapLimit { limit, .. } if limit == allowed as u64), "{error}");
    let rest = arena.release(usize::MAX).unwrap();
    assert_eq!(released.returned + rest.returned, 16 * 511 * PAGE, "{released} {rest}");
    assert!(kept.iter().all(|slice| slice.iter().all(|byte| *byte == 42)));
    drop(kept);
    assert_eq!(arena.audit().violations(), 0);
}

static REPORTS: Mutex<Vec<LeakReport>> = Mutex::new(Vec::new());

#[test]
fn what_is_left_when_the_arena_goes_is_reported() {
    let build = || {
        Arena::builder().size(8 * MIB).on_leak(|report| REPORTS.lock().unwrap().push(report.clone())).build()
    };
    let arena = build().unwrap();
    let whole = arena.alloc_tagged(5 * PAGE, "forgotten").unwrap().freeze();
    let part = whole.slice(0..10);
    drop(whole);
    let again = arena.clone();
    drop(arena);
    assert!(REPORTS.lock().unwrap().is_empty(), "a handle is left");
    drop(again);
    drop(build().unwrap());
    let reports = REPORTS.lock().unwrap();
    assert_eq!(reports.len(), 1, "the second arena had nothing left");
    assert_eq!((reports[0].bytes, reports[0].holders[0].tag.as_deref()), (PAGE, Some("forgotten")));
    assert_eq!(part.len(), 10);
}

/// Huge pages in the kernel's pool that are free.
fn pool(size: HugeSize) -> u64 {
    let read = |name: &str| -> u64 {
        let path = format!("/sys/kernel/mm/hugepages/hugepages-{}kB/{name}", size.bytes() / 1024);
        std::fs::read_to_string(path).map_or(0, |text| text.trim().parse().unwrap())
    };
    read("free_hugepages").saturating_sub(read("resv_hugepages"))
}

#[test]
fn too_few_huge_pages_are_an_error_when_the_arena_is_built() {
    for size in [HugeSize::Mib2, HugeSize::Gib1] {
        let needed = pool(size) + 8;
        let bytes = needed as usize * size.bytes();
        let error = Arena::builder().size(bytes).backing(Backing::HugeTlb(size)).build().unwrap_err();
        match error {
            BuildError::HugePageShortage { size: of, needed: n, .. } => assert_eq!((of, n), (size, needed)),
            // Not so much as address space for them.
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_report_that_panics_loses_nothing() {
    let name = "a_report_that_panics_loses_nothing";
    if role().is_none() {
        return assert!(again(name, "alone", |_| {}), "in a process of its own, as it counts mappings");
    }
    let build = || Arena::builder().size(8 * MIB).on_leak(|report| panic!("{report}")).build().unwrap();
    build().alloc(10).unwrap();
    let maps = common::map_count();
    std::panic::set_hook(Box::new(|_| {}));
    for _ in 0..100 {
        let arena = build();
        let kept = filled(&arena, 10);
        assert!(catch_unwind(AssertUnwindSafe(|| drop(arena))).is_err());
        assert!(kept.iter().all(|byte| *byte == 42));
    }
    assert!(common::map_count() < maps + 20, "the arenas are gone: {maps} {}", common::map_count());
}

/// Valgrind hides what the kernel offers in the process, runs one thread at a time and knows each
/// access. It can't follow memory that the kernel takes away, so what goes back is only asked for.
#[test]
fn an_arena_runs_under_valgrind() {
    let name = "an_arena_runs_under_valgrind";
    if role().is_some() {
        let arena = Arena::builder().size(4 * MIB).build().unwrap();
        let whole = filled(&arena, 3 * PAGE);
        let part = whole.slice(PAGE..PAGE + 9);
        drop(whole);
        let other = std::thread::spawn(move || part.iter().all(|byte| *byte == 42));
        assert!(other.join().unwrap());
        assert!(arena.release(usize::MAX).is_ok());
        assert_eq!((arena.stats().in_use(), arena.audit().violations()), (0, 0));
        return;
    }
    if std::process::Command::new("valgrind").arg("--version").output().is_err()
        && skip(name, "valgrind is not installed")
    {
        return;
    }
    let output = std::process::Command::new("valgrind")
        .args(["--quiet", "--error-exitcode=99", "--leak-check=no"])
        .arg(std::env::current_exe().unwrap())
        .args([&format!("trouble::{name}"), "--exact", "--nocapture", "--test-threads=1"])
        .env("TAILPIN_TEST_ROLE", "valgrind")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}{told}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}
