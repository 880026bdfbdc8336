//! Limits of a process, each of them an error value: files, their length, address space.

use std::io::Error;

use tailpin_arena::shared::{SharedArena, SharedError};

use super::{MIB, start};

/// Sets the soft limit, to the hard one at most.
fn limit(resource: libc::__rlimit_resource_t, to: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for the call, which writes it.
    assert_eq!(unsafe { libc::getrlimit(resource, &mut limit) }, 0, "{}", Error::last_os_error());
    limit.rlim_cur = to.min(limit.rlim_max);
    // SAFETY: `limit` is valid for the call, which reads it.
    assert_eq!(unsafe { libc::setrlimit(resource, &limit) }, 0, "{}", Error::last_os_error());
}

/// In a process of its own, whose limits are its own.
pub(super) fn limited() {
    let create = || SharedArena::create(64 * MIB, 2);
    let refused = |doing: &str, errno| match create() {
        Err(SharedError::System { doing: what, errno: found }) => assert_eq!((what, found), (doing, errno)),
        other => panic!("{other:?}"),
    };
    let arena = create().unwrap();

    limit(libc::RLIMIT_FSIZE, 32 << 20);
    match create() {
        Err(SharedError::FileLimit { bytes, limit }) => {
            assert!(bytes > 64 << 20 && limit == 32 << 20, "{bytes} bytes, limit {limit}");
        }
        other => panic!("{other:?}"),
    }
    limit(libc::RLIMIT_FSIZE, 0);
    assert!(matches!(create(), Err(SharedError::FileLimit { limit: 0, .. })));
    // What is there is not touched by it.
    let mut buffer = arena.alloc(2 * MIB).unwrap();
    buffer.fill(1);
    drop((buffer, arena));
    limit(libc::RLIMIT_FSIZE, libc::RLIM_INFINITY);

    limit(libc::RLIMIT_NOFILE, 3);
    refused("make a memory file", libc::EMFILE);
    limit(libc::RLIMIT_NOFILE, 100);

    limit(libc::RLIMIT_AS, 64 << 20);
    refused("map the file", libc::ENOMEM);
    limit(libc::RLIMIT_AS, libc::RLIM_INFINITY);
    create().unwrap();
}

#[test]
fn limits_of_the_process_are_errors() {
    let arena = SharedArena::create(2 * MIB, 2).unwrap();
    let output = start("limited", &arena, &[]).wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
