//! Huge pages are huge, and aligned where it counts: in physical memory.

use crate::common;

use common::{HUGE, MIB, PAGE, again, is_root, page_flags, role, skip, smaps, thp_is_on};
use tailpin_arena::{AllocError, Arena, Backing, HugeSize, Reason, ReleaseError, Stop};

const HEAD: u64 = 1 << 15;
const TAIL: u64 = 1 << 16;
const HUGETLB: u64 = 1 << 17;
const THP: u64 = 1 << 22;

#[test]
fn a_buffer_of_two_mebibytes_is_one_huge_page() {
    let name = "a_buffer_of_two_mebibytes_is_one_huge_page";
    if !thp_is_on() && skip(name, "transparent huge pages are off") {
        return;
    }
    let arena = Arena::builder().size(64 * MIB).build().unwrap();
    assert!(arena.abilities().huge_now.is_yes());
    let small = arena.alloc(PAGE).unwrap(); // so that the others are not simply the first
    for _ in 0..3 {
        let mut buffer = arena.alloc(HUGE).unwrap();
        buffer.fill(1);
        let at = buffer.as_ptr() as usize;
        assert_eq!(at % HUGE, 0);
        if smaps("AnonHugePages", arena.base().as_ptr() as usize, 64 * MIB) == 0
            && skip(name, "the kernel had no huge page to give")
        {
            return;
        }
        if !is_root() && skip(name, "the part that reads kpageflags needs root") {
            return;
        }
        assert_eq!(page_flags(at).unwrap() & (HEAD | TAIL | THP), HEAD | THP);
        for page in 1..512 {
            assert_eq!(page_flags(at + page * PAGE).unwrap() & (HEAD | TAIL), TAIL, "page {page}");
        }
    }
    drop(small);
}

fn free_in_pool(size: HugeSize) -> usize {
    let path = format!("/sys/kernel/mm/hugepages/hugepages-{}kB/free_hugepages", size.bytes() / 1024);
    std::fs::read_to_string(path).map_or(0, |text| text.trim().parse().unwrap())
}

/// Arenas of the pool's pages. They need some in it, and no other process that takes them: `echo 8
/// > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages`.
#[test]
fn pages_of_the_pool_go_back_whole_or_not_at_all() {
    let name = "pages_of_the_pool_go_back_whole_or_not_at_all";
    if role().is_none() {
        return assert!(again(name, "alone", |_| {}));
    }
    for size in [HugeSize::Mib2, HugeSize::Gib1] {
        let before = free_in_pool(size);
        let n = if size == HugeSize::Mib2 { 4 } else { 1 };
        if before < n {
            skip(name, &format!("{n} free huge pages of {size} needed, the pool has {before}"));
            continue;
        }
        let bytes = size.bytes();
        let arena = Arena::builder().size(n * bytes).backing(Backing::HugeTlb(size)).build().unwrap();
        assert_eq!(free_in_pool(size), before - n, "taken when it is built");
        assert_eq!(arena.base().as_ptr() as usize % bytes, 0);
        if is_root() {
            let flags = page_flags(arena.base().as_ptr() as usize).unwrap();
            assert_eq!(flags & (HEAD | HUGETLB), HEAD | HUGETLB);
        }
        let reason = Reason::OnlyWholeHugePages(size);
        assert_eq!(arena.abilities().give_back_4k.reason(), Some(reason));

        let mut kept: Vec<_> = (0..n * bytes / HUGE)
            .map(|_| {
                let mut buffer = arena.alloc(HUGE).unwrap();
                buffer.fill(7);
                buffer.freeze().slice(0..10)
            })
            .collect();
        assert_eq!(arena.release(usize::MAX), Err(ReleaseError::Refused(reason)));
        let last = kept.pop();
        if n > 1 {
            // Of one huge page everything is free.
            drop(last);
            let released = arena.release(usize::MAX).unwrap();
            assert_eq!((released.returned, released.stopped), (bytes, Stop::NothingLeft));
            assert_eq!(free_in_pool(size), before - n + 1);
        }
        assert!(kept.iter().all(|slice| slice[..] == [7; 10]));
        drop(kept);
        // All of it goes, and all of it comes again when it is needed ...
        let released = arena.release(usize::MAX);
        assert_eq!(free_in_pool(size), before, "{released:?}");
        drop(arena.alloc(bytes).unwrap());
        arena.release(usize::MAX).unwrap();
        // ... unless another process has taken it: an error, not a SIGBUS.
        let thief = Arena::builder().size(before * bytes).backing(Backing::HugeTlb(size)).build().unwrap();
        assert_eq!(arena.alloc(PAGE).unwrap_err(), AllocError::HugePageShortage { size });
        assert_eq!(arena.stats().in_use(), 0);
        // Nor is memory believed to be there that a registration could not get.
        let refused = arena.registered().unwrap_err();
        assert!(matches!(refused, ReleaseError::System { .. }), "{refused}");
        assert_eq!(arena.alloc(PAGE).unwrap_err(), AllocError::HugePageShortage { size });
        drop(thief);
        drop(arena.registered().unwrap());
        assert_eq!((free_in_pool(size), arena.stats().free), (before - n, n * bytes));
        arena.alloc(PAGE).unwrap()[0] = 1;
        assert_eq!(arena.audit().violations(), 0);
    }
}

#[test]
fn abilities_say_why_not() {
    let plain = Arena::builder().over_memory(vec![0; MIB]).build().unwrap().abilities();
    assert_eq!(plain.huge_now.reason(), Some(Reason::CallersMemory));
    assert_eq!(plain.share.reason(), Some(Reason::Private));
    let file = Arena::builder().size(HUGE).backing(Backing::Memfd { huge: false }).build().unwrap();
    let abilities = file.abilities();
    assert_eq!(abilities.huge_now.reason(), Some(Reason::NotAskedForHuge));
    assert!(abilities.share.is_yes() && abilities.give_back_4k.is_yes());
    // SAFETY: nothing is done with the file.
    assert!(unsafe { file.file() }.is_some());
    let shmem =
        std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled").unwrap_or_default();
    let huge = Arena::builder().size(HUGE).backing(Backing::Memfd { huge: true }).build().unwrap();
    let off = shmem.contains("[never]") || shmem.contains("[deny]") || shmem.is_empty();
    assert_eq!(huge.abilities().huge_now.reason(), off.then_some(Reason::ShmemThpOff));
    for ability in [plain.huge_now, plain.share, abilities.huge_now, huge.abilities().huge_now] {
        assert!(ability.is_yes() || ability.to_string().len() > 20);
    }
}
