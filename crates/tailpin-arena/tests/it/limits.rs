//! Limits of the process: each is an error with the cause, at once; no signal, no wait, no success
//! that is none. Each test sets its limit in a process of its own.

use crate::common;

use std::os::unix::process::CommandExt;

use common::{HUGE, MIB, PAGE, again, is_root, limit, role, skip};
use tailpin_arena::{Ability, Arena, Backing, BuildError, Pace, Reason, ReleaseError};

const MEMFD: Backing = Backing::Memfd { huge: false };

/// Runs a test again, alone and without rights, if this is not that already.
fn runs_again(name: &str, rights: bool) -> bool {
    if role().is_some() {
        return false;
    }
    let child = again(name, "limited", |command| {
        if !rights && is_root() {
            command.uid(65534);
        }
    });
    assert!(child);
    true
}

/// All that needs nothing of the system goes on.
fn still_works(arena: &Arena) {
    let mut buffer = arena.alloc(3 * PAGE).unwrap();
    buffer.fill(7);
    let part = buffer.freeze().slice(PAGE..PAGE + 10);
    assert!(part.iter().all(|byte| *byte == 7));
    drop(part);
    assert_eq!((arena.stats().in_use(), arena.audit().violations()), (0, 0));
}

#[test]
fn files_of_limited_length() {
    if runs_again("files_of_limited_length", true) {
        return;
    }
    limit(libc::RLIMIT_FSIZE, 32 << 20).unwrap();
    for huge in [false, true] {
        let error = Arena::builder().size(64 * MIB).backing(Backing::Memfd { huge }).build().unwrap_err();
        let BuildError::FileLimit { bytes, limit } = error else { panic!("{error}") };
        assert!(bytes > 64 * MIB && limit == 32 << 20);
        assert!(error.to_string().contains("ulimit -f"));
    }
    // The arena itself would fit, not with its metadata.
    let error = Arena::builder().size(32 * MIB).backing(MEMFD).build().unwrap_err();
    assert!(matches!(error, BuildError::FileLimit { .. }), "{error}");
    let arena = Arena::builder().size(16 * MIB).backing(MEMFD).build().unwrap();
    still_works(&arena);
    arena.alloc(HUGE).unwrap().fill(1);
    let returned = arena.release(usize::MAX).unwrap().returned;
    assert!((HUGE..HUGE + 4 * PAGE).contains(&returned), "holes are made at any length: {returned}");
    still_works(&Arena::builder().size(64 * MIB).build().unwrap());
}

#[test]
fn no_descriptor_is_left() {
    if runs_again("no_descriptor_is_left", true) {
        return;
    }
    let arena = Arena::builder().size(8 * MIB).build().unwrap();
    let shared = Arena::builder().size(8 * MIB).backing(MEMFD).build().unwrap();
    let mut buffer = arena.alloc(HUGE).unwrap();
    buffer.fill(1);
    let kept = [filled(&arena), filled(&shared)];
    let before = (arena.stats(), shared.stats());
    limit(libc::RLIMIT_NOFILE, 0).unwrap();

    let is_none_left = |error: BuildError| match error {
        BuildError::System { errno, .. } => errno == libc::EMFILE,
        _ => false,
    };
    for backing in [Backing::Anonymous, MEMFD, Backing::Memfd { huge: true }] {
        assert!(is_none_left(Arena::builder().size(8 * MIB).backing(backing).build().unwrap_err()));
    }
    let untold = Arena::builder().over_memory(vec![0; MIB]).build().expect("which needs none");
    assert_eq!(untold.abilities().look, Ability::No(Reason::NotDescribed { errno: libc::EMFILE }));
    assert!(untold.abilities().look.to_string().contains("Too many open files"));
    assert_eq!((arena.abilities().look, shared.abilities().look), (Ability::Yes, Ability::Yes));
    let refused = |error| matches!(error, ReleaseError::System { errno: libc::EMFILE, .. });
    for arena in [&arena, &shared] {
        assert!(refused(arena.release(usize::MAX).unwrap_err()), "what went back could not be told");
        assert!(refused(arena.release(usize::MAX).unwrap_err()), "and no thread has the turn after it");
        assert!(refused(arena.spawn_releaser(Pace::default()).unwrap_err()));
        assert!(arena.registered().is_ok());
    }
    assert!(refused(buffer.discard(0..PAGE).unwrap_err()));
    assert_eq!(arena.abilities().huge_now, Ability::No(Reason::NotTold));
    assert!(arena.abilities().give_back_4k.is_yes());
    assert_eq!((arena.stats().in_use(), shared.stats().in_use()), (before.0.in_use(), before.1.in_use()));
    assert!(buffer.iter().chain(kept.iter().flat_map(|slice| slice.iter())).all(|byte| *byte == 1));
    drop((buffer, kept));
    still_works(&arena);
    still_works(&shared);
}

fn filled(arena: &Arena) -> tailpin_arena::Slice {
    let mut buffer = arena.alloc(HUGE).unwrap();
    buffer.fill(1);
    buffer.freeze().slice(0..PAGE)
}

#[test]
fn one_descriptor_is_left() {
    if runs_again("one_descriptor_is_left", false) {
        return;
    }
    for left in 1..4 {
        let arena = Arena::builder().size(8 * MIB).build().unwrap();
        let kept = filled(&arena);
        let next = std::fs::File::open("/dev/null").unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&next) as u64;
        drop(next);
        let limits = libc::rlimit { rlim_cur: number + left, rlim_max: 1024 };
        // SAFETY: reads the structure.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limits) }, 0);
        match arena.release(usize::MAX) {
            Ok(released) => {
                assert!([released.returned, released.stuck].contains(&(511 * PAGE)), "{released}")
            }
            Err(error) => {
                assert!(matches!(error, ReleaseError::System { errno: libc::EMFILE, .. }), "{error}")
            }
        }
        assert!(kept.iter().all(|byte| *byte == 1));
        let limits = libc::rlimit { rlim_cur: 1024, rlim_max: 1024 };
        // SAFETY: reads the structure.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limits) }, 0);
        // What one call could not do, a later one does; the kernel may have said no for a moment.
        let released: usize = (0..20).map(|_| arena.release(usize::MAX).unwrap().returned).sum();
        let again = arena.stats();
        assert_eq!((again.in_use(), again.free), (PAGE, 0), "{released}");
    }
}

#[test]
fn no_thread_can_be_started() {
    if runs_again("no_thread_can_be_started", false) {
        return;
    }
    let arena = Arena::builder().size(8 * MIB).build().unwrap();
    arena.alloc(HUGE).unwrap().fill(1);
    limit(libc::RLIMIT_NPROC, 0).unwrap();
    let error = arena.spawn_releaser(Pace::default()).unwrap_err();
    assert!(
        matches!(error, ReleaseError::System { doing: "start a thread", errno: libc::EAGAIN }),
        "{error}"
    );
    assert_eq!(arena.release(usize::MAX).unwrap().returned, HUGE);
    still_works(&arena);
}

#[test]
fn data_of_limited_size() {
    if runs_again("data_of_limited_size", true) {
        return;
    }
    let arena = Arena::builder().size(8 * MIB).build().unwrap();
    limit(libc::RLIMIT_DATA, 256 << 20).unwrap();
    // By the data or by the metadata, which is a part of 250 of it.
    let error = Arena::builder().size(1 << 40).build().unwrap_err();
    assert!(matches!(error, BuildError::OutOfMemory { .. }), "{error}");
    still_works(&arena);
    still_works(&Arena::builder().size(8 * MIB).build().unwrap());
}

#[test]
fn locks_of_limited_size_on_all_that_is_mapped() {
    if runs_again("locks_of_limited_size_on_all_that_is_mapped", false) {
        return;
    }
    limit(libc::RLIMIT_MEMLOCK, 8 << 20).unwrap();
    // SAFETY: changes no contents.
    assert_eq!(unsafe { libc::mlockall(libc::MCL_FUTURE | libc::MCL_ONFAULT) }, 0);
    for backing in [Backing::Anonymous, MEMFD] {
        let error = Arena::builder().size(1 << 30).backing(backing).build().unwrap_err();
        let BuildError::LockLimit { limit, .. } = error else { panic!("{error}") };
        assert_eq!(limit, Some(8 << 20));
        let maps = common::map_count();
        for _ in 0..50 {
            assert!(Arena::builder().size(8 * MIB).backing(backing).build().is_err());
        }
        assert!(common::map_count() < maps + 10, "nothing is left behind");
    }
    still_works(&Arena::builder().size(HUGE).build().unwrap());
}

/// What can't be given back while it is locked, in all the ways there are.
fn is_refused_as_locked(arena: &Arena) {
    let able = arena.abilities();
    assert_eq!(
        (able.give_back_4k, able.give_back_huge),
        (Ability::No(Reason::Locked), Ability::No(Reason::Locked))
    );
    for _ in 0..2 {
        assert_eq!(arena.release(usize::MAX), Err(ReleaseError::Refused(Reason::Locked)));
    }
    assert_eq!(arena.spawn_releaser(Pace::default()).unwrap_err(), ReleaseError::Refused(Reason::Locked));
    let mut buffer = arena.alloc(HUGE).unwrap();
    buffer.fill(9);
    assert_eq!(buffer.discard(0..HUGE), Err(ReleaseError::Refused(Reason::Locked)));
    assert_eq!(buffer.discard(0..0), Err(ReleaseError::Refused(Reason::Locked)));
    assert!(buffer.iter().all(|byte| *byte == 9));
}

#[test]
fn what_the_process_locks_is_not_given_back_and_that_is_said() {
    if runs_again("what_the_process_locks_is_not_given_back_and_that_is_said", true) {
        return;
    }
    if !is_root() && skip("what_the_process_locks_is_not_given_back_and_that_is_said", "needs root") {
        return;
    }
    for backing in [Backing::Anonymous, MEMFD] {
        for way in 0..4 {
            let arena = Arena::builder().size(16 * MIB).backing(backing).build().unwrap();
            let kept = filled(&arena);
            let one = kept.as_ptr().cast::<libc::c_void>();
            // SAFETY: changes no contents.
            let done = unsafe {
                match way {
                    0 => libc::mlockall(libc::MCL_CURRENT),
                    1 => libc::mlockall(libc::MCL_CURRENT | libc::MCL_ONFAULT),
                    2 => libc::mlock(one, PAGE),
                    _ => libc::mlock(arena.base().as_ptr().cast(), 16 * MIB),
                }
            };
            assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
            is_refused_as_locked(&arena);
            if [0, 3].contains(&way) {
                let stats = arena.stats();
                assert_eq!((stats.given_back, stats.free), (0, 16 * MIB - PAGE), "all of it has memory");
            }
            // SAFETY: as above.
            assert_eq!(unsafe { libc::munlockall() }, 0);
            assert!(arena.abilities().give_back_4k.is_yes() && arena.abilities().give_back_huge.is_yes());
            let released: usize = (0..20).map(|_| arena.release(usize::MAX).unwrap().returned).sum();
            let rss = common::smaps("Rss", arena.base().as_ptr() as usize, 16 * MIB);
            assert_eq!((rss, arena.stats().free), (4, 0), "{backing:?}, way {way}: {released} given back");
            assert!(kept.iter().all(|byte| *byte == 1));
            assert_eq!(arena.audit().violations(), 0);
        }
    }
}

#[test]
fn an_arena_of_a_process_that_locks_all_it_maps_is_locked() {
    if runs_again("an_arena_of_a_process_that_locks_all_it_maps_is_locked", true) {
        return;
    }
    // SAFETY: changes no contents.
    let locked = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) } == 0;
    let name = "an_arena_of_a_process_that_locks_all_it_maps_is_locked";
    if !locked && skip(name, "all of this process may not be locked") {
        return;
    }
    for backing in [Backing::Anonymous, MEMFD] {
        let arena = Arena::builder().size(16 * MIB).backing(backing).build().unwrap();
        assert_eq!(
            (arena.stats().free, arena.stats().given_back),
            (16 * MIB, 0),
            "it has memory from the first"
        );
        is_refused_as_locked(&arena);
    }
}
