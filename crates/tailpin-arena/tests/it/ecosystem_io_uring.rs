//! The arena as registered buffers of a real ring, and a real file.

#![cfg(feature = "io-uring")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use io_uring::{IoUring, squeue};
use tailpin_arena::io_uring::{FixedBuffers, FixedError};
use tailpin_arena::{Ability, Arena, ReadBuffer, Reason, ReleaseError};

const MIB: usize = 1 << 20;

/// A file of numbered 8-byte words.
struct Numbers(PathBuf);

impl Numbers {
    fn new(name: &str, bytes: usize) -> Self {
        let path = std::env::temp_dir().join(format!("tailpin-uring-{}-{name}", std::process::id()));
        let words: Vec<u8> = (0..bytes as u64 / 8).flat_map(u64::to_le_bytes).collect();
        std::fs::write(&path, words).unwrap();
        Self(path)
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn ring() -> Option<IoUring> {
    IoUring::new(16).inspect_err(|error| eprintln!("skipped: no io_uring here: {error}")).ok()
}

/// An arena registered with a ring, or `None` with the reason printed.
fn registered(ring: &IoUring, bytes: usize) -> Option<(Arena, FixedBuffers)> {
    let arena = Arena::builder().size(bytes).build().unwrap();
    match FixedBuffers::register(&arena, ring) {
        Ok(fixed) => Some((arena, fixed)),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

/// Carries out entries whose buffers the caller keeps; results in order of `user_data`.
fn carry_out(ring: &mut IoUring, entries: Vec<squeue::Entry>) -> Vec<i32> {
    let count = entries.len();
    for (i, entry) in entries.into_iter().enumerate() {
        // SAFETY: the caller has the buffers, and this waits for all completions.
        unsafe { ring.submission().push(&entry.user_data(i as u64)).unwrap() };
    }
    ring.submit_and_wait(count).unwrap();
    let mut results = vec![i32::MIN; count];
    for completion in ring.completion() {
        results[completion.user_data() as usize] = completion.result();
    }
    results
}

#[test]
fn a_file_is_read_into_fixed_buffers_of_several_sizes() {
    let Some(mut ring) = ring() else { return };
    let Some((arena, fixed)) = registered(&ring, 16 * MIB) else { return };
    let numbers = Numbers::new("read", 4 * MIB);
    let file = File::open(&numbers.0).unwrap();

    let sizes = [4096, 8192, 100_000, MIB, 2 * MIB];
    let mut buffers: Vec<_> = sizes.map(|size| ReadBuffer::new(arena.alloc(size).unwrap())).into();
    let entries =
        buffers.iter_mut().enumerate().map(|(i, buffer)| fixed.read(&file, buffer, i as u64 * 800).unwrap());
    let results = carry_out(&mut ring, entries.collect());
    for (i, (mut buffer, size)) in buffers.into_iter().zip(sizes).enumerate() {
        assert_eq!(results[i], size as i32);
        buffer.advance(size);
        let whole = buffer.freeze();
        let words = whole.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
        assert!(words.zip(i as u64 * 100..).all(|(word, wanted)| word == wanted));
    }
    fixed.unregister().unwrap();
}

#[test]
fn a_slice_is_written_from_where_it_lies() {
    let Some(mut ring) = ring() else { return };
    let Some((arena, fixed)) = registered(&ring, 4 * MIB) else { return };
    let target = Numbers::new("write", 64);
    let file = File::options().read(true).write(true).open(&target.0).unwrap();
    let mut buffer = arena.alloc(2 * MIB).unwrap();
    buffer[1_000_000..1_000_005].copy_from_slice(b"hello");
    let part = buffer.freeze().slice(1_000_000..1_000_005);
    let entry = fixed.write(&file, &part, 3).unwrap();
    assert_eq!(carry_out(&mut ring, vec![entry]), [5]);
    let mut read = [0; 5];
    file.read_exact_at(&mut read, 3).unwrap();
    assert_eq!(&read, b"hello");
    fixed.unregister().unwrap();
}

#[test]
fn nothing_is_given_back_while_registered_and_pages_come_back_inside() {
    let Some(ring) = ring() else { return };
    let Some((arena, fixed)) = registered(&ring, 4 * MIB) else { return };
    assert_eq!(arena.abilities().give_back_4k, Ability::No(Reason::Registered));
    assert!(matches!(arena.release(usize::MAX), Err(ReleaseError::Refused(Reason::Registered))));

    // Two blocks are all there is; one page of each stays pinned, and the rest serves smaller
    // buffers.
    let kept: Vec<_> = (0..2).map(|_| arena.alloc(2 * MIB).unwrap().freeze().slice(0..10)).collect();
    assert!(arena.alloc(2 * MIB).is_err());
    let small: Vec<_> = (0..1022).map(|_| arena.alloc(4096).unwrap()).collect();
    assert!(small.iter().all(|buffer| fixed.index(buffer) == Some(0)));
    assert!(arena.alloc(4096).is_err());
    drop((kept, small));

    fixed.unregister().unwrap();
    assert!(arena.abilities().give_back_4k.is_yes());
    arena.release(usize::MAX).unwrap();
}

#[test]
fn another_ring_cannot_unregister_and_a_foreign_buffer_is_refused() {
    let (Some(ring), Some(other)) = (ring(), ring()) else { return };
    let Some((arena, fixed)) = registered(&ring, 2 * MIB) else { return };
    let elsewhere = Arena::builder().size(2 * MIB).build().unwrap();
    assert_eq!(fixed.index(&elsewhere.alloc(100).unwrap()), None);
    assert_eq!(fixed.index(&[0; 10]), None);
    // SAFETY: no bytes, which any address that isn't null may have.
    let behind = unsafe { std::slice::from_raw_parts(arena.base().as_ptr().wrapping_add(arena.size()), 0) };
    assert_eq!(fixed.index(behind), None);

    // The number of a ring that is gone goes to the next: what that one has registered is not
    // touched.
    let number = ring.as_raw_fd();
    drop(ring);
    // SAFETY: nothing has the number at this moment; should another thread of the test program have
    // taken it, its file stays where it is, as a copy is made only at a number that is free.
    let taken = unsafe { libc::fcntl(other.as_raw_fd(), libc::F_DUPFD_CLOEXEC, number) };
    let (second, others) = registered(&other, 2 * MIB).unwrap();
    fixed.unregister().unwrap();
    assert!(arena.abilities().give_back_4k.is_yes());
    assert!(FixedBuffers::register(&elsewhere, &other).is_err(), "the other ring still has its own");
    assert!(!second.abilities().give_back_4k.is_yes());
    others.unregister().unwrap();
    assert!(second.abilities().give_back_4k.is_yes());
    // SAFETY: the descriptor is this test's.
    unsafe { libc::close(taken) };
    assert!(arena.abilities().give_back_4k.is_yes());
}

#[test]
fn a_registration_that_was_forgotten_is_never_forgiven() {
    let Some(ring) = ring() else { return };
    let Some((arena, _)) = registered(&ring, 2 * MIB) else { return };
    assert_eq!(arena.abilities().give_back_4k, Ability::No(Reason::Registered));
}

#[test]
fn a_ring_has_one_set_of_buffers() {
    let Some(ring) = ring() else { return };
    let Some((_arena, fixed)) = registered(&ring, 2 * MIB) else { return };
    let second = Arena::builder().size(2 * MIB).build().unwrap();
    assert!(FixedBuffers::register(&second, &ring).is_err());
    // What was refused is not registered.
    assert!(second.abilities().give_back_4k.is_yes());
    fixed.unregister().unwrap();
    FixedBuffers::register(&second, &ring).unwrap().unregister().unwrap();
}

/// Runs itself again as a user with a small limit, as the privileged have none.
#[test]
fn more_than_may_be_locked_is_refused_with_the_limit() {
    const ROLE: &str = "TAILPIN_TEST_MEMLOCK";
    if std::env::var_os(ROLE).is_none() {
        let limited = "ulimit -l 64 && exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$0\" \
                       --exact more_than_may_be_locked_is_refused_with_the_limit --nocapture";
        // The program must lie where that user may run it.
        let program = std::env::temp_dir().join(format!("tailpin-uring-{}-test", std::process::id()));
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let output =
            std::process::Command::new("sh").args(["-c", limited]).arg(&program).env(ROLE, "1").output();
        let _ = std::fs::remove_file(&program);
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return match output.status.code() {
            Some(0) => print!("{said}"),
            Some(101) => panic!("{said}"),
            _ => eprintln!("skipped: can't become a user with a limit here: {said}"),
        };
    }
    let Some(ring) = ring() else { return };
    let arena = Arena::builder().size(4 * MIB).build().unwrap();
    match FixedBuffers::register(&arena, &ring) {
        Err(FixedError::LockLimit { bytes, limit }) => assert_eq!((bytes, limit), (4 * MIB, Some(64 << 10))),
        other => panic!("{other:?}"),
    }
    // Nothing is registered, and the arena is as it was.
    assert!(arena.abilities().give_back_4k.is_yes());
    arena.alloc(4 * MIB).unwrap().fill(1);
}
