//! Giving memory back: what the kernel says of it, and what is refused.

use crate::common;

use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;

use common::{
    COMPOUND, HUGE, MIB, PAGE, again, is_root, map_count, page_flags, role, skip, smaps, smaps_lines,
    thp_is_on, vmstat,
};
use tailpin_arena::{Arena, Backing, Reason, ReleaseBy, ReleaseError, Slice, Stop};

/// `n` buffers of 2 MiB, written to, of each of which the page `keep` is kept.
fn one_page_each(arena: &Arena, n: usize, keep: usize) -> Vec<Slice> {
    (0..n)
        .map(|i| {
            let mut buffer = arena.alloc(HUGE).unwrap();
            buffer.fill(i as u8 + 1);
            buffer.freeze().slice(keep * PAGE..(keep + 1) * PAGE)
        })
        .collect()
}

fn assert_intact(kept: &[Slice]) {
    for (i, slice) in kept.iter().enumerate() {
        assert!(slice.iter().all(|byte| *byte == i as u8 + 1), "slice {i}");
    }
}

fn base(arena: &Arena) -> usize {
    arena.base().as_ptr() as usize
}

fn assert_balanced(arena: &Arena) {
    let stats = arena.stats();
    let sum = stats.in_use() + stats.free + stats.given_back + stats.set_aside;
    assert_eq!(sum, stats.size, "{stats}");
}

#[test]
fn holes_in_huge_pages_are_really_given_back() {
    let name = "holes_in_huge_pages_are_really_given_back";
    if !thp_is_on() && skip(name, "transparent huge pages are off") {
        return;
    }
    let arena = Arena::builder().size(32 * MIB).build().unwrap();
    let kept = one_page_each(&arena, 16, 100);
    if smaps("AnonHugePages", base(&arena), 32 * MIB) < 16 * 2048
        && skip(name, "the kernel had no huge pages to give")
    {
        return;
    }
    let before = vmstat("thp_split_page");
    let released = arena.release(usize::MAX).unwrap();
    assert_eq!((released.returned, released.stuck), (16 * 511 * PAGE, 0));
    assert_eq!(released.stopped, Stop::NothingLeft);
    assert!(
        vmstat("thp_split_page") >= before + 16,
        "the huge pages are split, not marked to be split one day"
    );
    assert_eq!(smaps("Rss", base(&arena), 32 * MIB), 16 * 4);
    if is_root() {
        for slice in &kept {
            let flags = page_flags(slice.as_ptr() as usize).expect("root may know");
            assert_eq!(flags & COMPOUND, 0, "the page that is kept is a page of its own");
        }
    } else {
        skip(name, "the part that reads kpageflags needs root");
    }
    assert_intact(&kept);
    let stats = arena.stats();
    assert_eq!((stats.given_back, stats.pinned_by_last_slice, stats.free), (16 * 511 * PAGE, 16 * PAGE, 0));
    assert_balanced(&arena);
    // Again there is nothing to do.
    assert_eq!(arena.release(usize::MAX).unwrap().returned, 0);
}

/// The way that looks right, and why it isn't the one taken.
#[test]
fn dontneed_alone_frees_nothing() {
    let name = "dontneed_alone_frees_nothing";
    if role().is_none() {
        // In a process of its own: what the kernel says of a mapping is said of a neighbour's too.
        return assert!(again(name, "alone", |_| {}));
    }
    if !thp_is_on() && skip(name, "transparent huge pages are off") {
        return;
    }
    if !is_root() && skip(name, "kpageflags needs root") {
        return;
    }
    let arena = Arena::builder().size(HUGE).build().unwrap();
    let mut buffer = arena.alloc(HUGE).unwrap();
    buffer.fill(1);
    if smaps("AnonHugePages", base(&arena), HUGE) == 0 && skip(name, "the kernel had no huge page to give") {
        return;
    }
    // SAFETY: these pages are the buffer's, which is not looked at afterwards.
    let done =
        unsafe { libc::madvise(buffer.as_mut_ptr().add(PAGE).cast(), 511 * PAGE, libc::MADV_DONTNEED) };
    assert_eq!(done, 0);
    assert_eq!(smaps("Rss", base(&arena), HUGE), 4, "the resident set says that it is gone");
    let flags = page_flags(base(&arena)).unwrap();
    assert_ne!(flags & COMPOUND, 0, "and it is still all there");
}

#[test]
fn without_root_the_kernels_other_words_are_taken() {
    let name = "without_root_the_kernels_other_words_are_taken";
    if role().is_some() {
        let arena = Arena::builder().size(32 * MIB).build().unwrap();
        let kept = one_page_each(&arena, 8, 0);
        if smaps("AnonHugePages", base(&arena), 32 * MIB) < 8 * 2048
            && skip(name, "the kernel had no huge pages to give")
        {
            return;
        }
        // A failed split of another process's makes it say that nothing is proven; then it is tried
        // again.
        let mut returned = 0;
        for _ in 0..20 {
            returned += arena.release(usize::MAX).unwrap().returned;
        }
        assert_eq!(returned, 8 * 511 * PAGE);
        assert_intact(&kept);
        return;
    }
    if !thp_is_on() && skip(name, "transparent huge pages are off") {
        return;
    }
    if !is_root() && skip(name, "it is what all tests do without root") {
        return;
    }
    assert!(again(name, "nobody", |command| {
        command.uid(65534);
    }));
}

#[test]
fn whole_areas_go_first_and_the_target_is_kept_to() {
    let arena = Arena::builder().size(32 * MIB).build().unwrap();
    let mut buffers: Vec<_> = (0..8).map(|_| arena.alloc(HUGE).unwrap()).collect();
    buffers.iter_mut().for_each(|buffer| buffer.fill(3));
    let kept = buffers.pop().unwrap().freeze().slice(0..1);
    drop(buffers);
    let free = arena.stats().free;
    assert_eq!(free, 8 * HUGE - PAGE);
    let released = arena.release(3 * HUGE).unwrap();
    assert_eq!((released.returned, released.stopped), (3 * HUGE, Stop::Target));
    assert_eq!(arena.stats().free, free - 3 * HUGE);
    // A huge page that something else has a reference to at this moment stays, as on a busy machine
    // a CPU's batch of pages for the LRU lists; a later call tries again.
    let (mut returned, mut stuck) = (0, true);
    for _ in 0..20 {
        let released = arena.release(usize::MAX).unwrap();
        assert_eq!(released.stopped, Stop::NothingLeft);
        returned += released.returned;
        stuck = released.stuck > 0;
        if !stuck {
            break;
        }
    }
    assert_eq!((returned, stuck), (5 * HUGE - PAGE, false));
    assert_eq!((kept[0], smaps("Rss", base(&arena), 32 * MIB)), (3, 4));
    assert_eq!(arena.release(0).unwrap().stopped, Stop::Target);
    assert_balanced(&arena);
}

#[test]
fn the_watermark_stays() {
    let arena = Arena::builder().size(32 * MIB).keep_resident(5 * HUGE).build().unwrap();
    let mut buffer = arena.alloc(16 * MIB).unwrap();
    buffer.fill(1);
    drop(buffer);
    let released = arena.release(usize::MAX).unwrap();
    assert_eq!((released.returned, released.stopped), (3 * HUGE, Stop::Watermark));
    assert_eq!(arena.stats().free, 5 * HUGE);
    assert_eq!(arena.release(usize::MAX).unwrap().returned, 0);
}

#[test]
fn what_went_back_comes_again_as_zeroes_and_huge() {
    let name = "what_went_back_comes_again_as_zeroes_and_huge";
    let arena = Arena::builder().size(8 * MIB).build().unwrap();
    let kept = one_page_each(&arena, 4, 511);
    assert!(arena.alloc(HUGE).is_err());
    arena.release(usize::MAX).unwrap();
    // Small buffers in the holes bring small pages, and no more than they need.
    let mut small = arena.alloc(10 * PAGE).unwrap();
    assert!(small.iter().all(|byte| *byte == 0));
    small.fill(9);
    assert_eq!(smaps("Rss", base(&arena), 8 * MIB), 14 * 4);
    assert_intact(&kept);
    if thp_is_on() {
        let flags = smaps_lines(base(&arena), 8 * MIB);
        assert!(
            flags.iter().any(|line| line.starts_with("VmFlags:") && line.contains(" nh")),
            "khugepaged keeps off"
        );
    }
    drop(small);
    // A touch brings no more than small pages there: of the block of 16 that the small one was cut
    // from, at most.
    assert!(!thp_is_on() || arena.stats().free <= 16 * PAGE, "{}", arena.stats());
    drop(kept);
    // By way of an allocation ...
    let mut buffer = arena.alloc(HUGE).unwrap();
    buffer.fill(1);
    let at = buffer.as_ptr() as usize;
    let flags = smaps_lines(at, HUGE);
    assert!(!flags.iter().any(|line| line.starts_with("VmFlags:") && line.contains(" nh")), "{flags:?}");
    if thp_is_on() && smaps("AnonHugePages", at, HUGE) == 0 {
        skip(name, "the kernel had no huge page to give");
    }
    drop(buffer);
    // ... and of a release: one mapping again.
    arena.release(usize::MAX).unwrap();
    let flags = smaps_lines(base(&arena), 8 * MIB);
    assert!(!flags.iter().any(|line| line.starts_with("VmFlags:") && line.contains(" nh")), "{flags:?}");
    assert_eq!(arena.stats().given_back, 8 * MIB);
    let mut all = arena.alloc(8 * MIB).unwrap();
    assert!(all.iter().all(|byte| *byte == 0));
    all.fill(1);
    assert_eq!(arena.audit().violations(), 0);
}

#[test]
fn where_there_are_no_huge_pages_small_ones_go_back() {
    let name = "where_there_are_no_huge_pages_small_ones_go_back";
    if role().is_none() {
        return assert!(again(name, "alone", |_| {}));
    }
    // SAFETY: switches huge pages off for this process, behind the library's back.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) }, 0);
    let arena = Arena::builder().size(8 * MIB).build().unwrap();
    let mut buffer = arena.alloc(HUGE).unwrap();
    buffer[..100 * PAGE].fill(1); // the rest is never touched
    let kept = buffer.freeze().slice(3 * PAGE..4 * PAGE);
    assert_eq!(smaps("AnonHugePages", base(&arena), 8 * MIB), 0);
    let released = arena.release(usize::MAX).unwrap();
    assert_eq!((released.returned, released.stuck), (99 * PAGE, 0), "only what was there can go back");
    assert_eq!(smaps("Rss", base(&arena), 8 * MIB), 4);
    assert_intact(&[kept]);
}

#[test]
fn no_more_areas_are_broken_up_than_allowed() {
    if !thp_is_on() && skip("no_more_areas_are_broken_up_than_allowed", "transparent huge pages are off") {
        return;
    }
    let builder = Arena::builder().size(64 * MIB).split_huge_pages(3);
    // No drop gives anything back: this is about what a call does.
    let arena = builder.release_by(ReleaseBy::Poll).build().unwrap();
    let kept: Vec<_> = one_page_each(&arena, 32, 7);
    // Only every other, or neighbours would share a mapping.
    let maps = map_count();
    let released = arena.release(usize::MAX).unwrap();
    assert_eq!((released.returned, released.stopped), (3 * 511 * PAGE, Stop::MapLimit));
    assert!(map_count() <= maps + 6, "two mappings a pageblock: {maps} {}", map_count());
    // Room is made when such a pageblock is free all over.
    drop(kept);
    assert_eq!(arena.release(usize::MAX).unwrap().returned, 29 * HUGE + 3 * PAGE);
    let kept = one_page_each(&arena, 1, 1);
    assert_eq!(arena.release(usize::MAX).unwrap().returned, 511 * PAGE);
    assert_intact(&kept);
}

#[test]
fn a_page_that_somebody_else_holds_keeps_its_huge_page_whole() {
    let name = "a_page_that_somebody_else_holds_keeps_its_huge_page_whole";
    if role().is_none() {
        // In a process of its own: what the kernel says of a mapping is said of a neighbour's too.
        return assert!(again(name, "alone", |_| {}));
    }
    if !thp_is_on() && skip(name, "transparent huge pages are off") {
        return;
    }
    let arena = Arena::builder().size(HUGE).build().unwrap();
    let kept = one_page_each(&arena, 1, 5);
    if smaps("AnonHugePages", base(&arena), HUGE) == 0 && skip(name, "the kernel had no huge page to give") {
        return;
    }
    let mut pipe = [0; 2];
    // SAFETY: room for two numbers.
    assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
    let part = libc::iovec { iov_base: kept[0].as_ptr().cast_mut().cast(), iov_len: 100 };
    // SAFETY: the range is readable; the pipe holds the page by a pin, as a transfer to a device
    // would.
    assert_eq!(unsafe { libc::vmsplice(pipe[1], &part, 1, 0) }, 100);
    // Each time: what could not be split is not taken for split by the next call.
    for _ in 0..3 {
        let released = arena.release(usize::MAX).unwrap();
        assert_eq!((released.returned, released.stuck), (0, 511 * PAGE), "as {:?}", role());
    }
    assert_eq!(smaps("AnonHugePages", base(&arena), HUGE), 2048, "and was not taken apart for nothing");
    assert_eq!(arena.stats().free, 511 * PAGE);
    // SAFETY: the pipe is this test's.
    unsafe { (libc::close(pipe[0]), libc::close(pipe[1])) };
    // The pin goes with the pipe, at the latest when other processors have noticed.
    let mut returned = 0;
    for _ in 0..1000 {
        returned += arena.release(usize::MAX).unwrap().returned;
        if returned > 0 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(returned, 511 * PAGE);
    assert_intact(&kept);
    if role().is_some() {
        return;
    }
    if !is_root() && skip(name, "the part as a root without rights needs root") {
        return;
    }
    // As root is in a container: the flags of frames may be read, but not which frames are its own.
    assert!(again(name, "root without rights", |command| {
        const CAP_SYS_ADMIN: libc::c_ulong = 21;
        let drop_right = || {
            // SAFETY: changes this process's own rights, and nothing in memory.
            match unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: one system call, which may be made between fork and exec.
        unsafe { command.pre_exec(drop_right) };
    }));
}

#[test]
fn a_file_gets_holes() {
    for huge in [false, true] {
        let arena = Arena::builder().size(16 * MIB).backing(Backing::Memfd { huge }).build().unwrap();
        let kept = one_page_each(&arena, 4, 3);
        let blocks = || {
            // SAFETY: `stat` is filled in for a file that is open.
            let mut stat: libc::stat = unsafe { std::mem::zeroed() };
            // SAFETY: as above; the file is only asked about.
            assert_eq!(unsafe { libc::fstat(arena.file().unwrap().as_raw_fd(), &mut stat) }, 0);
            stat.st_blocks as usize * 512
        };
        // Drains all CPUs, whose words lie in the file too: from here on no page of it comes by a
        // look.
        assert_eq!(arena.audit().violations(), 0);
        let before = blocks();
        let released = arena.release(usize::MAX).unwrap();
        assert_eq!((released.returned, released.stuck), (4 * 511 * PAGE, 0), "huge: {huge}");
        assert_eq!(before - blocks(), 4 * 511 * PAGE, "by the file system's count");
        assert_intact(&kept);
        assert_balanced(&arena);
        drop(kept);
        assert!(arena.alloc(16 * MIB).unwrap().iter().take(3 * PAGE).all(|byte| *byte == 0));
    }
}

#[test]
fn registered_memory_stays() {
    let arena = Arena::builder().size(8 * MIB).build().unwrap();
    let kept = one_page_each(&arena, 2, 9);
    let registration = arena.registered().unwrap();
    let second = registration.arena().registered().unwrap();
    for _ in 0..2 {
        assert_eq!(arena.release(usize::MAX), Err(ReleaseError::Refused(Reason::Registered)));
        assert_eq!(arena.abilities().give_back_4k.reason(), Some(Reason::Registered));
    }
    drop(registration);
    assert_eq!(arena.release(usize::MAX), Err(ReleaseError::Refused(Reason::Registered)));
    // Inside the arena pages are free as ever: two blocks, which need not lie side by side.
    let free = [arena.alloc(HUGE).unwrap(), arena.alloc(HUGE).unwrap()];
    drop(free);
    drop(second);
    assert!(arena.abilities().give_back_4k.is_yes());
    assert_eq!(arena.release(usize::MAX).unwrap().returned, 2 * 511 * PAGE);
    assert_intact(&kept);
}

#[test]
fn registered_memory_keeps_its_frames_when_a_pageblock_is_used_again() {
    let arena = Arena::builder().size(HUGE).build().unwrap();
    let kept = one_page_each(&arena, 1, 9);
    assert_eq!(arena.release(usize::MAX).unwrap().returned, 511 * PAGE);
    let registration = arena.registered().unwrap();
    drop(kept);
    // All of the pageblock is one buffer now. A device knows its frames, so no other may come in
    // their place.
    let whole = arena.alloc(HUGE).unwrap();
    assert_eq!(whole[9 * PAGE], 1, "the page is still the one that was registered");
    drop((whole, registration));
    assert_eq!(
        arena.alloc(HUGE).unwrap()[9 * PAGE],
        if thp_is_on() { 0 } else { 1 },
        "fit for a huge page again"
    );
}

#[test]
fn callers_memory_and_locked_memory_are_refused() {
    let arena = Arena::builder().over_memory(vec![1; 4 * MIB]).build().unwrap();
    assert_eq!(arena.release(1), Err(ReleaseError::Refused(Reason::CallersMemory)));
    match Arena::builder().size(HUGE).lock(true).build() {
        Ok(arena) => {
            assert_eq!(arena.release(1), Err(ReleaseError::Refused(Reason::Locked)));
            assert_eq!(smaps("Locked", base(&arena), HUGE), 2048);
        }
        Err(error) => assert!(skip("callers_memory_and_locked_memory_are_refused", &error.to_string())),
    }
}

#[test]
fn a_discard_of_no_whole_page_leaves_the_huge_page() {
    let arena = Arena::builder().size(8 * MIB).split_huge_pages(1).build().unwrap();
    let mut buffer = arena.alloc(HUGE).unwrap();
    buffer.fill(7);
    let huge = smaps("AnonHugePages", base(&arena), 8 * MIB);
    for range in [0..0, 1..1, 1..PAGE, 100..PAGE + 99, HUGE - 5..HUGE - 1, HUGE..HUGE] {
        let discarded = buffer.discard(range.clone()).unwrap();
        assert_eq!((discarded.asked, discarded.returned, discarded.stuck), (0, 0, 0), "{range:?}");
    }
    assert_eq!(smaps("AnonHugePages", base(&arena), 8 * MIB), huge);
    let flags = smaps_lines(base(&arena), 8 * MIB);
    assert!(!flags.iter().any(|line| line.starts_with("VmFlags:") && line.contains(" nh")), "{flags:?}");
    assert!(buffer.iter().all(|byte| *byte == 7));
}
