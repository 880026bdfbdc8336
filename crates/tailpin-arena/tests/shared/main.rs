//! Shared arenas between real processes: this test binary runs itself as the others.

mod bounds;
mod limits;
mod obey;
mod storm;

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, Stdio};

use rustix::fs::{MemfdFlags, memfd_create};
use tailpin::Order;
use tailpin::PAGE_SIZE as PAGE;
use tailpin_arena::shared::{RecoverError, SharedArena, SharedError, Token};

use obey::{Other, hex, token};

const MIB: usize = 1 << 20;
fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

/// A descriptor of the parent's, as its children find it.
fn path_of(file: &impl AsRawFd) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())
}

fn open(path: &str) -> OwnedFd {
    File::options().read(true).write(true).open(path).unwrap().into()
}

/// Starts this binary again, as a process that plays `role`.
fn start(role: &str, arena: &SharedArena, more: &[(&str, String)]) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["another_process", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env("SHARED_ROLE", role)
        .env("SHARED_ARENA", path_of(arena))
        .envs(more.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "is what the other tests start as further processes"]
fn another_process() {
    let Ok(role) = std::env::var("SHARED_ROLE") else {
        return println!("skipped: alone this process has nothing to do");
    };
    // SAFETY: the file is the parent's, from `create`, and all processes use this crate.
    let arena = unsafe { SharedArena::attach(open(&std::env::var("SHARED_ARENA").unwrap())) }.unwrap();
    match role.as_str() {
        "obey" => obey::obey(&arena),
        "work" => storm::work(&arena),
        "inherit" => storm::inherit(&arena),
        "fork" => fork(arena),
        "limited" => limits::limited(),
        other => panic!("no such role: {other}"),
    }
}

#[test]
fn two_processes_pin_split_and_drop() {
    let arena = SharedArena::create(8 * MIB, 4).unwrap();
    let mut other = Other::start(&arena);

    // A pin of the other process's keeps three pages of a block of this one's.
    let mut buffer = arena.alloc(2 * MIB).unwrap();
    buffer.fill(5);
    let block = buffer.freeze();
    let slice = block.slice(10 * PAGE + 1..13 * PAGE).unwrap();
    let sent = slice.token();
    assert_eq!(other.ask(&format!("adopt {}", hex(sent))), "done");
    assert_eq!(arena.owners().len(), 2);
    drop(slice);
    assert_eq!(other.ask("read"), "12287 times 5, order 9");
    drop(block);
    assert_eq!(other.ask("read"), "12287 times 5, order 0");
    assert_eq!(arena.free_bytes(), (8 * MIB - 3 * PAGE) as u64, "what it has not pinned is free here");
    assert_eq!(other.ask("drop"), "done");
    assert_eq!(arena.free_bytes(), 8 * MIB as u64);

    // A pin of this process's in a block that the other one splits and merges.
    assert_eq!(other.ask("alloc 65536 9"), "done");
    let slice = arena.adopt(token(&other.ask("slice 5000 5100"))).unwrap();
    assert_eq!(slice.block().1, order(4));
    assert_eq!(other.ask("split 1"), "Ok(())");
    assert_eq!(slice.block().1, order(1));
    assert_eq!(other.ask("split 0"), "Ok(())");
    assert_eq!(other.ask("merge"), "Ok(())");
    assert_eq!(slice.block().1, order(4));
    assert_eq!(other.ask("drop"), "done");
    assert_eq!((slice.block().1, &slice[..]), (Order::PAGE, &[9; 100][..]));
    assert_eq!(arena.free_bytes(), (8 * MIB - PAGE) as u64);

    // Tokens of what is gone, also where something else is now.
    let stale = slice.token();
    drop(slice);
    let again: Vec<_> = (0..4).map(|_| arena.alloc(2 * MIB).unwrap()).collect();
    for token in [sent, stale, Token::from_bytes([0; 24]), Token::from_bytes([0xff; 24])] {
        assert_eq!(other.ask(&format!("adopt {}", hex(token))), "Stale");
        assert_eq!(arena.adopt(token).unwrap_err(), SharedError::Stale);
    }
    drop(again);
    other.quit();
    assert_eq!(arena.owners(), [arena.me()], "who ends has left");
    let audit = arena.audit();
    assert_eq!((audit.violations(), audit.free), (0, audit.frames), "{audit}");
}

#[test]
fn a_buffer_that_is_being_written_is_its_writers_alone() {
    let arena = SharedArena::create(2 * MIB, 1).unwrap();
    let first = arena.alloc(PAGE).unwrap().freeze();
    let token = first.slice(..).unwrap().token();
    drop(first);
    let buffer = arena.alloc(PAGE).unwrap();
    assert_eq!(arena.adopt(token).unwrap_err(), SharedError::Stale);
    // Nor by a token that guesses its life.
    let life = u64::from_le_bytes(token.to_bytes()[16..].try_into().unwrap());
    for guess in (life..life + 4000).flat_map(|life| [life, life & !1]) {
        let mut bytes = token.to_bytes();
        bytes[16..].copy_from_slice(&guess.to_le_bytes());
        assert_eq!(arena.adopt(Token::from_bytes(bytes)).unwrap_err(), SharedError::Stale);
    }
    drop(buffer);
}

#[test]
fn what_a_killed_process_held_comes_back() {
    let arena = SharedArena::create(8 * MIB, 3).unwrap();
    let mut other = Other::start(&arena);
    other.ask("alloc 2097152 3");
    let slice = arena.adopt(token(&other.ask("slice 4096 12288"))).unwrap(); // two pages
    other.ask("clone");
    other.ask("alloc 20000 4");
    other.ask("split 1");
    let owner = *arena.owners().iter().find(|owner| **owner != arena.me()).unwrap();
    assert_eq!(owner.pid(), other.child.id());
    assert_eq!(arena.recover(owner), Err(RecoverError::Alive(owner)));
    assert_eq!(arena.recover(arena.me()), Err(RecoverError::Alive(arena.me())));
    other.kill();
    assert!(arena.free_bytes() < 6 * MIB as u64);
    let recovered = arena.recover(owner).unwrap();
    assert_eq!((recovered.pins, recovered.blocks, recovered.ambiguous), (4, 3, 0), "{recovered:?}");
    assert_eq!(arena.recover(owner), Err(RecoverError::Gone(owner)));
    assert_eq!(arena.free_bytes(), (8 * MIB - 2 * PAGE) as u64, "but what this process has pinned");
    assert_eq!(&slice[..], &[3; 2 * PAGE][..]);
    drop(slice);
    let audit = arena.audit();
    assert_eq!((audit.violations(), audit.free, audit.pinned), (0, audit.frames, 0), "{audit}");
}

#[test]
fn what_is_no_arena_is_refused() {
    let attach = |file: OwnedFd| {
        // SAFETY: what is not from `create` is refused, which is what is tested.
        unsafe { SharedArena::attach(file) }.map(drop).unwrap_err()
    };
    let memory = || memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    assert_eq!(attach(memory()), SharedError::NotAnArena);

    // A copy could be made shorter behind our back.
    let arena = SharedArena::create(2 * MIB, 2).unwrap();
    let original = File::from(open(&path_of(&arena)));
    let mut header = [0; 32];
    original.read_exact_at(&mut header, 0).unwrap();
    let copy = File::from(memory());
    copy.set_len(original.metadata().unwrap().len()).unwrap();
    copy.write_all_at(&header, 0).unwrap();
    assert_eq!(attach(copy.try_clone().unwrap().into()), SharedError::NotAnArena);
    header[8] ^= 1;
    copy.write_all_at(&header, 0).unwrap();
    assert_eq!(attach(copy.into()), SharedError::OtherVersion);
    assert!(original.set_len(0).is_err(), "the arena itself can't be");

    // SAFETY: the file is from `create`, and this process uses nothing but this crate on it.
    let attach_own = || unsafe { SharedArena::attach(open(&path_of(&arena))) };
    let second = attach_own().unwrap();
    assert_eq!(attach_own().map(drop).unwrap_err(), SharedError::Full { owners: 2 });
    drop(second);
    attach_own().unwrap();

    assert_eq!(SharedArena::create(0, 1).map(drop).unwrap_err(), SharedError::BadSize { bytes: 0 });
    assert!(matches!(SharedArena::create(MIB, 0), Err(SharedError::TooManyOwners { .. })));
    assert!(matches!(SharedArena::create(MIB, 100_000), Err(SharedError::TooManyOwners { .. })));
    assert_eq!(arena.alloc(0).map(drop).unwrap_err(), SharedError::BadLength { bytes: 0 });
    assert_eq!(arena.alloc(3 * MIB).map(drop).unwrap_err(), SharedError::BadLength { bytes: 3 * MIB });
    let all = arena.alloc(2 * MIB).unwrap();
    assert_eq!(arena.alloc(1).map(drop).unwrap_err(), SharedError::Exhausted { order: Order::PAGE, free: 0 });
    drop(all);
}

#[test]
fn threads_of_one_process_have_journals_enough() {
    let arena = SharedArena::create(16 * MIB, 2).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..12u8 {
            let arena = &arena;
            scope.spawn(move || {
                for round in 0..300 {
                    let mut buffer = arena.alloc(PAGE * (1 + round % 9)).unwrap();
                    buffer.fill(thread);
                    let block = buffer.freeze();
                    let slice = block.slice(..1000).unwrap();
                    let adopted = arena.adopt(slice.token()).unwrap();
                    drop((block, slice));
                    assert!(adopted.iter().all(|byte| *byte == thread));
                }
            });
        }
    });
    let audit = arena.audit();
    assert_eq!((audit.violations(), audit.free), (0, audit.frames), "{audit}");
}

/// In a process without other threads that could be in the middle of something.
fn fork(arena: SharedArena) {
    let mut buffer = arena.alloc(10 * PAGE).unwrap();
    buffer.fill(8);
    let block = buffer.freeze();
    let slice = block.slice(PAGE..PAGE + 9).unwrap();
    let free = arena.free_bytes();
    let page = (slice.as_ptr() as usize & !(PAGE - 1)) as *mut libc::c_void;
    // SAFETY: the child runs nothing that needs other threads, and ends without unwinding into the
    // harness.
    match unsafe { libc::fork() } {
        0 => {
            std::panic::set_hook(Box::new(|_| {}));
            let right = catch_unwind(AssertUnwindSafe(|| {
                assert!(catch_unwind(AssertUnwindSafe(|| slice[0])).is_err(), "a clear end, no stray read");
                assert!(catch_unwind(AssertUnwindSafe(|| block[0])).is_err());
                assert!(catch_unwind(AssertUnwindSafe(|| arena.audit())).is_err());
                assert_eq!(slice.try_clone().map(drop), Err(SharedError::Child));
                assert_eq!(block.split_to(Order::PAGE), Err(SharedError::Child));
                assert_eq!(arena.alloc(1).map(drop), Err(SharedError::Child));
                // The memory is not there, so its place is free, and what is there next is left
                // alone.
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
                let access = libc::PROT_READ | libc::PROT_WRITE;
                // SAFETY: a new mapping where there is none, or an error.
                let own = unsafe { libc::mmap(page, PAGE, access, flags, -1, 0) };
                assert_eq!(own, page);
                drop((slice, block, arena));
                // SAFETY: `msync` touches nothing: it says whether the page is mapped.
                assert_eq!(unsafe { libc::msync(page, PAGE, libc::MS_ASYNC) }, 0);
            }));
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(if right.is_ok() { 0 } else { 1 }) }
        }
        pid => {
            let mut status = 0;
            // SAFETY: `status` is room for the status.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            assert_eq!(status, 0, "what the child found");
            assert_eq!((&slice[..], arena.free_bytes()), (&[8; 9][..], free), "it has done no harm");
            assert!(arena.owners().contains(&arena.me()));
        }
    }
}

#[test]
fn a_forked_child_has_no_part_in_it() {
    let arena = SharedArena::create(2 * MIB, 2).unwrap();
    let output = start("fork", &arena, &[]).wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let audit = arena.audit();
    assert_eq!((audit.violations(), audit.free), (0, audit.frames), "{audit}");
}
