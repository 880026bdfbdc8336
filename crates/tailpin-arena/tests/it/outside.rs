//! Arenas seen from another process: what a look says, what it costs the program that is looked at,
//! and what happens where it can't be had.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use tailpin_arena::outside::{self, Look, LookError, OutsideArena, PageContents};
use tailpin_arena::shared::SharedArena;
use tailpin_arena::{Arena, Backing};

use crate::common::{self, HUGE, MIB, PAGE, is_root, role, skip};

/// The arena of this process that has the size of `arena`.
fn own(arena: &Arena) -> OutsideArena {
    let size = arena.size();
    let mut all = outside::arenas_of(std::process::id()).unwrap();
    // Tests of other threads have arenas too: this one's size is its own.
    let at = all.iter().position(|other| other.look().is_ok_and(|look| look.stats().size == size));
    all.swap_remove(at.expect("the arena is found"))
}

/// Each test has a size of its own, by which its arena is known among those of its neighbours.
fn arena(mib: usize) -> Arena {
    Arena::builder().size(mib * MIB).build().unwrap()
}

fn parts_add_up(look: &Look) {
    let stats = look.stats();
    assert_eq!(stats.parts().iter().map(|(bytes, _)| bytes).sum::<usize>(), stats.size);
    let mut pages = [0; 7];
    for pageblock in look.pageblocks() {
        let c = pageblock.contents;
        for (sum, n) in pages.iter_mut().zip([
            c.whole,
            c.pages,
            c.fragments,
            c.last,
            c.free,
            c.without_memory,
            c.set_aside,
        ]) {
            *sum += n as usize * PAGE;
        }
    }
    // Pages of a block that splits itself at this moment count as pages in both.
    assert_eq!(pages, stats.parts().map(|(bytes, _)| bytes));
    let kept: usize = look.holders().iter().map(|holder| holder.kept_bytes).sum();
    assert_eq!(kept, look.tags().iter().map(|tag| tag.bytes).sum::<usize>());
}

/// To open it would be to wait for its writer.
#[test]
fn a_pipe_is_no_arena() {
    let pipe = std::env::temp_dir().join(format!("tailpin-pipe-{}", std::process::id()));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [&*pipe, Path::new("/dev/zero"), Path::new("/")] {
        assert_eq!(outside::shared_file(path).err(), Some(LookError::NotAnArena), "{}", path.display());
    }
    std::fs::remove_file(&pipe).unwrap();
}

#[test]
fn a_look_says_what_the_arena_says() {
    for (mib, backing) in [(18, Backing::Anonymous), (22, Backing::Memfd { huge: false })] {
        let arena = Arena::builder().size(mib * MIB).backing(backing).build().unwrap();
        let outside = own(&arena);
        assert_eq!(outside.look().unwrap().stats(), arena.stats(), "when nothing was ever used");
        let whole = common::counting_up(&arena, 3 * MIB);
        let buffer = arena.alloc_tagged(2 * MIB, "http-header").unwrap().freeze();
        let (one, two) = (buffer.slice(100..300), buffer.slice(5 * PAGE..7 * PAGE));
        let again = two.clone();
        let same_page = one.slice(10..20);
        drop(buffer);
        let look = outside.look().unwrap();
        assert_eq!(look.stats(), arena.stats());
        assert_eq!(look.changed_pageblocks(), 0);
        assert_eq!(look.stats().to_string(), arena.stats().to_string());
        parts_add_up(&look);
        let tag = |tag: &outside::TagUse| (tag.tag.clone(), tag.bytes, tag.buffers);
        let tags: Vec<_> = look.tags().iter().map(tag).collect();
        assert_eq!(tags, [(None, 3 * MIB, 1), (Some("http-header".into()), 3 * PAGE, 1)]);
        let inside: HashMap<usize, _> =
            arena.worst_holders(9).into_iter().map(|it| (it.offset, it)).collect();
        assert_eq!(look.holders().len(), inside.len());
        for holder in look.holders() {
            let known = &inside[&holder.offset];
            assert_eq!(holder.tag.as_deref(), known.tag.as_deref());
            assert_eq!(
                (holder.buffer_bytes, holder.kept_bytes, holder.pins, holder.references),
                (Some(known.buffer_bytes), known.kept_bytes, known.pins as u64, known.references as u64)
            );
            assert!(holder.age.unwrap() <= known.age);
        }
        // Most pins last.
        let [first, last] = look.holders() else { panic!() };
        assert_eq!((first.references, first.pageblocks, last.pageblocks), (1, 2, 1));
        assert_eq!((last.comes_back_bytes, last.tag.as_deref()), (3 * PAGE, Some("http-header")));
        let at = last.offset / HUGE;
        let pages = look.pages_of(at);
        assert_eq!(pages.len(), 512);
        assert!(matches!(pages[0], PageContents::Pinned { pins: 2 }));
        assert_eq!(pages[5..7], [PageContents::Pinned { pins: 1 }; 2]);
        assert!(
            pages[7..].iter().all(|page| matches!(page, PageContents::Free | PageContents::WithoutMemory))
        );
        assert_eq!(look.pageblocks()[at].contents.kept(), 3);
        assert!(look.kernel_resident().unwrap() >= 3 * MIB - PAGE);
        drop((whole, one, two, again, same_page));
        assert_eq!(outside.look().unwrap().stats(), arena.stats());
        drop(arena);
        assert!(matches!(outside.look(), Err(LookError::Gone)));
    }
}

#[test]
fn two_looks_count_the_blocks_handed_out_between_them() {
    let arena = arena(26);
    let outside = own(&arena);
    let before = outside.look().unwrap();
    for _ in 0..20 {
        drop(arena.alloc(PAGE).unwrap());
    }
    let kept: Vec<_> = (0..30).map(|_| arena.alloc(2 * PAGE).unwrap()).collect();
    let after = outside.look().unwrap();
    assert_eq!(after.blocks_since(&before), Some(50));
    assert_eq!(after.blocks_since(&after), Some(0));
    drop(kept);
    let other = self::arena(28);
    assert_eq!(own(&other).look().unwrap().blocks_since(&after), None);
}

#[test]
fn memory_of_the_callers_that_begins_anywhere_is_seen_page_by_page() {
    let arena = Arena::builder().over_memory(vec![1; 5 * HUGE + 12_345]).build().unwrap();
    let outside = own(&arena);
    let kept = arena.alloc(3 * PAGE).unwrap().freeze().slice(PAGE..PAGE + 1);
    let look = outside.look().unwrap();
    assert_eq!(look.stats(), arena.stats());
    parts_add_up(&look);
    let pages: u32 = look.pageblocks().iter().map(|pageblock| pageblock.contents.all()).sum();
    assert_eq!(pages as usize * PAGE, arena.size());
    drop(kept);
}

/// A process of this test in a role, which says when it is ready and goes when it is told.
struct Other(Child);

impl Other {
    fn start(test: &str, role: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([&format!("outside::{test}"), "--exact", "--nocapture", "--test-threads=1"]);
        command.env("TAILPIN_TEST_ROLE", role);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut told = BufReader::new(child.stderr.take().unwrap());
        told.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{role} did not come up");
        child.stderr = Some(told.into_inner());
        Self(child)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Lets it end, and says whether all was well with it.
    fn end(mut self) -> bool {
        drop(self.0.stdin.take());
        self.0.wait().unwrap().success()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In the other process: ready, until the first one has seen enough.
fn ready_until_told() {
    std::io::stderr().write_all(b"ready\n").unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// A program that takes, cuts, keeps and gives back with four threads while it is looked at: no
/// look fails, each adds up, and the program finds nothing wrong with its arena afterwards.
#[test]
fn a_storm_of_looks_at_a_busy_program() {
    const NAME: &str = "a_storm_of_looks_at_a_busy_program";
    if role().is_some() {
        let arena = arena(64);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..4_usize {
                let (arena, done) = (&arena, &done);
                scope.spawn(move || {
                    let mut kept = std::collections::VecDeque::new();
                    let mut i = thread;
                    while !done.load(Ordering::Relaxed) {
                        let len = [PAGE, 64 << 10, 2 * MIB, 300 << 10][i % 4];
                        if let Ok(buffer) = arena.alloc_tagged(len, ["a", "b", "c"][i % 3]) {
                            let at = (i * 7919) % len;
                            kept.push_back(buffer.freeze().slice(at..len.min(at + 200)));
                        }
                        if kept.len() > 40 || i.is_multiple_of(5) {
                            kept.pop_front();
                        }
                        if i.is_multiple_of(50) {
                            let _ = arena.release(4 * MIB);
                        }
                        i += 1;
                    }
                });
            }
            ready_until_told();
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!((arena.stats().in_use(), arena.audit().violations()), (0, 0));
        return;
    }
    let other = Other::start(NAME, "busy");
    let arenas = outside::arenas_of(other.pid()).unwrap();
    let [arena] = &arenas[..] else { panic!("one arena: {arenas:?}") };
    let (mut moved, mut blocks) = (0, 0);
    let mut last: Option<Look> = None;
    for _ in 0..300 {
        let look = arena.look().unwrap();
        parts_add_up(&look);
        assert_eq!(look.stats().size, 64 * MIB);
        for holder in look.holders() {
            let tag = holder.tag.as_deref().unwrap();
            assert!(["a", "b", "c"].contains(&tag), "{holder}");
            // Tags and ages are copied after the pages, some of which are other buffers' by then.
            assert!(holder.kept_bytes > 0 && holder.kept_bytes <= 64 * MIB);
        }
        moved += usize::from(look.changed_pageblocks() > 0);
        blocks += last.replace(look).map_or(0, |last| last_blocks(&last, arena));
    }
    assert!(moved > 0 && blocks > 0, "the program was at work: {moved} {blocks}");
    assert!(other.end(), "the program is well");
    assert!(matches!(arena.look(), Err(LookError::Gone | LookError::NoProcess { .. })));
}

fn last_blocks(last: &Look, arena: &OutsideArena) -> u64 {
    arena.look().unwrap().blocks_since(last).unwrap()
}

/// Pages that a process has, by the kernel's count.
fn resident_pages(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let rss = text.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
    rss.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 4
}

/// What was never touched is not touched by a look: nothing more is resident after it, in the
/// program or in a file of memory.
#[test]
fn a_look_brings_no_memory() {
    const NAME: &str = "a_look_brings_no_memory";
    match role().as_deref() {
        Some("anonymous") => {
            let arena = Arena::builder().size(16 << 30).build().unwrap();
            let kept = arena.alloc_tagged(PAGE, "x").unwrap();
            ready_until_told();
            return drop(kept);
        }
        Some(_) => {
            let backing = Backing::Memfd { huge: false };
            let arena = Arena::builder().size(4 << 30).backing(backing).build().unwrap();
            let shared = SharedArena::create(1 << 30, 4).unwrap();
            let kept = (arena.alloc(PAGE).unwrap(), shared.alloc(PAGE).unwrap());
            ready_until_told();
            return drop(kept);
        }
        None => {}
    }
    for role in ["anonymous", "files"] {
        let other = Other::start(NAME, role);
        let arenas = outside::arenas_of(other.pid()).unwrap();
        let file_blocks = || -> u64 {
            let files = std::fs::read_dir(format!("/proc/{}/fd", other.pid())).unwrap();
            let blocks = |path| std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(path).unwrap());
            files.map(|file| blocks(file.unwrap().path())).sum()
        };
        let before = (resident_pages(other.pid()), file_blocks());
        for arena in &arenas {
            assert_eq!(arena.look().unwrap().stats().in_use(), PAGE);
        }
        // A page or two may come of the other thread of the test harness.
        let after = (resident_pages(other.pid()), file_blocks());
        assert!(after.0 <= before.0 + 4 && after.1 == before.1, "{role}: {before:?} {after:?}");
        assert!(other.end());
    }
}

#[test]
fn a_forked_child_has_the_arenas_that_it_has_a_copy_of() {
    const NAME: &str = "a_forked_child_has_the_arenas_that_it_has_a_copy_of";
    if role().is_none() {
        return assert!(common::again(NAME, "alone", |_| {}));
    }
    let private = arena(18);
    let shared = Arena::builder().size(22 * MIB).backing(Backing::Memfd { huge: false }).build().unwrap();
    let kept = (private.alloc_tagged(PAGE, "both").unwrap(), shared.alloc(PAGE).unwrap());
    let (mut from_child, mut to_parent) = std::io::pipe().unwrap();
    let (mut from_parent, mut to_child) = std::io::pipe().unwrap();
    // SAFETY: this process has two threads, of which the other waits for this one; the child calls
    // the arena, pipes and exit alone.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let more = private.alloc_tagged(2 * PAGE, "child");
        to_parent.write_all(b"1").unwrap();
        from_parent.read_exact(&mut [0]).unwrap();
        std::mem::forget(more);
        // SAFETY: ends the child at once, without the harness of its parent.
        unsafe { libc::_exit(0) }
    }
    from_child.read_exact(&mut [0]).unwrap();
    let mut tags = Vec::new();
    for pid in [child as u32, std::process::id()] {
        let arenas = outside::arenas_of(pid).unwrap();
        let looks: Vec<Look> = arenas.iter().map(|arena| arena.look().unwrap()).collect();
        let look = looks.iter().find(|look| look.stats().size == 18 * MIB).unwrap();
        tags.push((looks.len(), look.tags().iter().filter_map(|tag| tag.tag.clone()).collect::<Vec<_>>()));
    }
    to_child.write_all(b"1").unwrap();
    let mut status = 0;
    // SAFETY: waits for the child that was just made.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(status, 0);
    assert_eq!(tags[0], (1, vec!["child".into(), "both".into()]), "of the memfd arena it has nothing");
    assert_eq!(tags[1], (2, vec!["both".into()]));
    drop(kept);
}

#[test]
fn a_shared_arena_is_seen_through_any_of_its_processes_and_by_its_file() {
    let shared = SharedArena::create(12 * MIB, 4).unwrap();
    let path = format!("/proc/self/fd/{}", shared.as_raw_fd());
    let open = || std::fs::File::options().read(true).write(true).open(&path).unwrap();
    let outside = outside::shared_file(Path::new(&path)).unwrap();
    let empty = outside.look().unwrap();
    assert_eq!((empty.stats().in_use(), empty.holders().len()), (0, 0));
    // SAFETY: the file is from `create`, and nothing else writes to it.
    let other = unsafe { SharedArena::attach(open().into()) }.unwrap();
    let mut buffer = shared.alloc(2 * MIB).unwrap();
    buffer.fill(7);
    let block = buffer.freeze();
    let mine = block.slice(0..3 * PAGE).unwrap();
    let theirs = other.adopt(block.slice(2 * PAGE..4 * PAGE).unwrap().token()).unwrap();
    let look = outside.look().unwrap();
    parts_or_shared(&look, 2 * MIB);
    let [first, second] = look.holders() else { panic!("{:?}", look.holders()) };
    // The pins of the other, then the reference and the pins of this one.
    assert_eq!((first.pins, first.references, first.kept_bytes), (2, 0, 2 * PAGE));
    assert_eq!((second.pins, second.references, second.kept_bytes), (3, 1, 2 * MIB));
    assert_eq!((first.comes_back_bytes, second.comes_back_bytes), (0, 2 * MIB - 2 * PAGE));
    assert_eq!((first.pageblocks, second.pageblocks), (0, 0));
    assert_eq!(first.pid, Some(std::process::id()));
    drop(block);
    let look = outside.look().unwrap();
    parts_or_shared(&look, 4 * PAGE);
    let come_back: Vec<_> = look.holders().iter().map(|holder| holder.comes_back_bytes).collect();
    assert_eq!(come_back, [PAGE, 2 * PAGE]);
    drop(mine);
    assert_eq!(outside.look().unwrap().holders()[0].pageblocks, 1);
    drop(theirs);
    assert_eq!(outside.look().unwrap().stats().in_use(), 0);
    let arenas = outside::arenas_of(std::process::id()).unwrap();
    assert!(arenas.iter().any(|arena| arena.name().starts_with("shared arena")));
}

fn parts_or_shared(look: &Look, in_use: usize) {
    let stats = look.stats();
    assert_eq!(stats.parts().iter().map(|(bytes, _)| bytes).sum::<usize>(), stats.size);
    assert_eq!(stats.in_use(), in_use);
    assert!(look.kernel_resident().unwrap() >= 2 * MIB);
}

#[test]
fn what_can_not_be_looked_at_says_why() {
    const NAME: &str = "what_can_not_be_looked_at_says_why";
    match role().as_deref() {
        Some("nothing") => return ready_until_told(),
        Some("another version") => {
            let name = "tailpin-description";
            let file = memfd_create(name, MemfdFlags::CLOEXEC).unwrap();
            ftruncate(&file, 64 << 10).unwrap();
            let mut words = [0_u64; 512];
            (words[0], words[1]) = (u64::from_le_bytes(*b"tailpin\x01"), 77);
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            rustix::io::write(&file, &bytes).unwrap();
            let access = rustix::mm::ProtFlags::READ;
            // SAFETY: a new mapping, at no place that is used.
            unsafe {
                let private = rustix::mm::MapFlags::PRIVATE;
                let at = rustix::mm::mmap(std::ptr::null_mut(), 64 << 10, access, private, &file, 0).unwrap();
                // A page that no one has read yet has no memory here.
                at.cast::<u64>().read_volatile();
            }
            return ready_until_told();
        }
        Some(pid) => {
            // Another user.
            let error = outside::arenas_of(pid.parse().unwrap()).unwrap_err();
            assert!(matches!(error, LookError::NotPermitted { .. }), "{error}");
            assert!(error.to_string().contains("run as"), "{error}");
            assert!(outside::programs().iter().all(|program| program.pid.to_string() != pid));
            return;
        }
        None => {}
    }
    let _arena = arena(20);
    assert_eq!(outside::arenas_of(1 << 29).err(), Some(LookError::NoProcess { pid: 1 << 29 }));
    let other = Other::start(NAME, "nothing");
    assert_eq!(outside::arenas_of(other.pid()).err(), Some(LookError::NoArena { pid: other.pid() }));
    let other = Other::start(NAME, "another version");
    let arenas = outside::arenas_of(other.pid()).unwrap();
    assert!(matches!(arenas[0].look(), Err(LookError::OtherVersion { theirs: None })));
    for path in ["/proc/self/exe", "/dev/null"] {
        assert!(matches!(outside::shared_file(Path::new(path)), Err(LookError::NotAnArena)), "{path}");
    }
    let missing = outside::shared_file(Path::new("/no such file"));
    assert!(matches!(missing, Err(LookError::System { errno: libc::ENOENT, .. })));
    let programs = outside::programs();
    assert!(programs.iter().any(|program| program.pid == std::process::id() && program.arenas >= 1));
    if !is_root() {
        skip(NAME, "only root can become another user");
        return;
    }
    // The program must be readable for others to be run by them.
    let copy = std::env::temp_dir().join(format!("tailpin-outside-{}", std::process::id()));
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut command = Command::new(&copy);
    command.args([&format!("outside::{NAME}"), "--exact", "--nocapture", "--test-threads=1"]);
    command.env("TAILPIN_TEST_ROLE", std::process::id().to_string()).current_dir("/");
    let output = command.uid(65_534).gid(65_534).output();
    std::fs::remove_file(&copy).unwrap();
    match output {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(error) => _ = skip(NAME, &format!("another user can't run the test: {error}")),
    }
}

/// A program that goes while it is looked at.
#[test]
fn a_program_that_is_killed_is_gone() {
    const NAME: &str = "a_program_that_is_killed_is_gone";
    if role().is_some() {
        let _arena = arena(18);
        return ready_until_told();
    }
    let mut other = Other::start(NAME, "to be killed");
    let arenas = outside::arenas_of(other.pid()).unwrap();
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            loop {
                match arenas[0].look() {
                    Ok(look) => parts_add_up(&look),
                    Err(error) => return error,
                }
            }
        });
        std::thread::sleep(Duration::from_millis(20));
        other.0.kill().unwrap();
        other.0.wait().unwrap();
        let error = looking.join().unwrap();
        assert!(matches!(error, LookError::Gone | LookError::NoProcess { .. }), "{error}");
    });
}

/// Pages that copies share are told as such from inside and outside, while they are being filled
/// and later; a page that was one and lies in a block now isn't.
#[test]
fn pages_that_copies_share_are_fragments() {
    let arena = arena(34);
    let outside = own(&arena);
    let copies: Vec<_> = (0..100).map(|i| arena.copy(&[i; 1000]).unwrap()).collect();
    let told = |inside: tailpin_arena::Stats| {
        let look = outside.look().unwrap();
        parts_add_up(&look);
        assert_eq!(look.stats(), inside);
        (inside.in_use_fragments / PAGE, inside.in_use() / PAGE)
    };
    let (fragments, all) = told(arena.stats());
    assert!(fragments >= 25 && fragments == all, "{fragments} of {all}");
    let at = copies[0].offset() / HUGE;
    let pages = outside.look().unwrap().pages_of(at);
    let shared = pages.iter().filter(|page| matches!(page, PageContents::Fragments { copies: 1..=4 }));
    assert!(shared.count() >= 25);
    drop(copies);
    // The pages being filled stay; the others are free, and become parts of blocks.
    let (filled, _) = told(arena.stats());
    assert!(filled < fragments);
    let blocks: Vec<_> = std::iter::from_fn(|| arena.try_alloc(8 * PAGE).ok()).collect();
    let kept: Vec<_> = blocks.into_iter().map(|block| block.freeze().slice(PAGE..2 * PAGE)).collect();
    assert_eq!(told(arena.stats()), (filled, filled + kept.len()));
}
