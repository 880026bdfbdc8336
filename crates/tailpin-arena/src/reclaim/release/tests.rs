use super::*;
use crate::arena::Arena;
use crate::backing::HugeSize;
use crate::handles::buffer::Buffer;
use crate::settings::ReleaseBy;

const MEMFD: Backing = Backing::Memfd { huge: false };

/// So many pageblocks of which nothing goes back but by a call.
fn arena(backing: Backing, pageblocks: usize) -> Arena {
    let builder = Arena::builder().size(pageblocks * PAGEBLOCK_SIZE).backing(backing);
    builder.release_by(ReleaseBy::Poll).build().unwrap()
}

/// Pageblocks in use, the first first, with memory under all of them.
fn filled(arena: &Arena, n: usize) -> Vec<Buffer> {
    let mut buffers: Vec<_> = (0..n).map(|_| arena.alloc(PAGEBLOCK_SIZE).unwrap()).collect();
    buffers.iter_mut().for_each(|buffer| buffer.fill(1));
    buffers.sort_by_key(|buffer| buffer.as_ptr() as usize);
    buffers
}

fn pageblock(n: u64) -> Pfn {
    Pfn::new(n * Order::HUGE.frames())
}

#[test]
fn pages_of_the_pool_go_as_one_and_others_by_pageblock() {
    assert_eq!(pageblocks_at_once(Backing::HugeTlb(HugeSize::Gib1)), 512);
    for backing in [Backing::HugeTlb(HugeSize::Mib2), Backing::Anonymous, MEMFD] {
        assert_eq!(pageblocks_at_once(backing), 1, "{backing}");
    }
}

#[test]
fn only_pages_of_the_pool_are_kept_by_what_is_in_use_beside() {
    for size in [HugeSize::Mib2, HugeSize::Gib1] {
        let (backing, reason) = (Backing::HugeTlb(size), Some(Reason::OnlyWholeHugePages(size)));
        assert_eq!(obstacle(backing, 0, Stop::NothingLeft), reason);
        assert_eq!(obstacle(backing, size.bytes(), Stop::NothingLeft), None);
        for stopped in [Stop::Target, Stop::Watermark, Stop::Registered] {
            assert_eq!(obstacle(backing, 0, stopped), None);
        }
    }
    assert_eq!(obstacle(Backing::Anonymous, 0, Stop::NothingLeft), None);
}

#[test]
fn free_memory_is_what_is_free_and_there() {
    let arena = arena(MEMFD, 3);
    assert!(!has_free_memory(arena.inner()), "none has come yet");
    let buffers = filled(&arena, 3);
    assert!(!has_free_memory(arena.inner()), "all of it is in use");
    let kept: Vec<_> = buffers.into_iter().map(|buffer| buffer.freeze().slice(..1)).collect();
    assert!(has_free_memory(arena.inner()));
    assert_eq!(arena.release(usize::MAX).unwrap().returned, 3 * 511 * PAGE_SIZE);
    assert!(!has_free_memory(arena.inner()), "it has gone");
    drop(kept);
    assert!(has_free_memory(arena.inner()));
}

#[test]
fn huge_pages_are_told_by_their_last_pageblocks() {
    let arena = arena(MEMFD, 16);
    let buffers = filled(&arena, 16);
    let mut of_some: Vec<Buffer> = Vec::new();
    for (number, buffer) in buffers.into_iter().enumerate() {
        if [0, 1, 7, 8, 10, 15].contains(&number) {
            of_some.push(buffer);
        }
    }
    arena.release(usize::MAX).unwrap();
    let call = ReleaseCall::begin(arena.inner()).unwrap();
    let ends = |all: &[u64]| all.iter().map(|n| pageblock(*n)).collect::<Vec<_>>();
    assert_eq!(call.huge_pages(1), ends(&[15, 10, 8, 7, 1, 0]));
    assert_eq!(call.huge_pages(2), ends(&[15, 11, 9, 7, 1]));
    assert_eq!(call.huge_pages(4), ends(&[15, 11, 7, 3]));
    assert_eq!(call.huge_pages(16), ends(&[15]));
}

/// As pages of 1 GiB of the pool do, here of four pageblocks.
#[test]
fn a_huge_page_of_several_pageblocks_goes_when_all_of_them_are_free() {
    let arena = arena(MEMFD, 8);
    let mut buffers = filled(&arena, 8);
    let first = buffers.remove(0);
    drop(buffers);
    let mut call = ReleaseCall::begin(arena.inner()).unwrap();
    call.inner.zone.drain();
    call.give_pageblocks(pageblock(3), 4).unwrap();
    assert_eq!(call.done.returned, 0, "its first pageblock is in use");
    call.give_pageblocks(pageblock(7), 4).unwrap();
    assert_eq!(call.done.returned, 4 * PAGEBLOCK_SIZE);
    drop(first);
    call.inner.zone.drain();
    call.spare = 8 * PAGEBLOCK_SIZE - 1;
    call.give_pageblocks(pageblock(3), 4).unwrap();
    assert!(call.kept, "a byte of it is to stay");
    call.spare += 1;
    call.give_pageblocks(pageblock(3), 4).unwrap();
    assert_eq!(call.done.returned, 8 * PAGEBLOCK_SIZE);
    assert_eq!(arena.stats().given_back, 8 * PAGEBLOCK_SIZE);
}

#[test]
fn memory_that_is_registered_during_the_call_stays() {
    let arena = arena(MEMFD, 2);
    drop(filled(&arena, 2));
    let call = ReleaseCall::begin(arena.inner()).unwrap();
    arena.inner().registrations.fetch_add(1, Ordering::SeqCst);
    let released = call.run(usize::MAX).unwrap();
    assert_eq!((released.returned, released.stopped), (0, Stop::Registered));
    arena.inner().registrations.fetch_sub(1, Ordering::SeqCst);
    assert_eq!(arena.release(usize::MAX).unwrap().stopped, Stop::NothingLeft);
}

#[test]
fn of_small_pages_no_more_go_than_asked_for() {
    let arena = arena(MEMFD, 2);
    let kept: Vec<_> = filled(&arena, 2).into_iter().map(|buffer| buffer.freeze().slice(..1)).collect();
    let mut free = 2 * 511;
    for (asked, pages) in [(10 * PAGE_SIZE, 10), (1, 1), (PAGE_SIZE + 1, 2), (600 * PAGE_SIZE, 600)] {
        let released = arena.release(asked).unwrap();
        assert_eq!((released.returned, released.stopped), (pages * PAGE_SIZE, Stop::Target), "{asked}");
        free -= pages;
        assert_eq!(arena.stats().free, free * PAGE_SIZE);
    }
    // What the kernel would not let go of counts as asked for, too.
    let mut call = ReleaseCall::begin(arena.inner()).unwrap();
    call.done.stuck = 3 * PAGE_SIZE;
    assert_eq!(call.stop(3 * PAGE_SIZE), Some(Stop::Target));
    for pageblock in [0, 1].map(pageblock) {
        assert!(call.give_pages(pageblock, 7 * PAGE_SIZE).unwrap());
    }
    assert_eq!(call.done.returned, 4 * PAGE_SIZE);
    drop(call);
    drop(kept);
}

#[test]
fn what_is_to_stay_resident_is_never_less_by_a_page() {
    // Small pages go one by one: one page and one byte are two pages.
    let builder = Arena::builder().size(PAGEBLOCK_SIZE).backing(MEMFD).release_by(ReleaseBy::Poll);
    let arena = builder.keep_resident(PAGE_SIZE + 1).build().unwrap();
    let kept = filled(&arena, 1).remove(0).freeze().slice(..1);
    let released = arena.release(usize::MAX).unwrap();
    assert_eq!((released.returned, released.stopped), (509 * PAGE_SIZE, Stop::Watermark));
    assert_eq!(arena.stats().free, 2 * PAGE_SIZE);
    drop(kept);
    // Of a pageblock that is wholly free all goes or none, of whichever memory it is.
    for backing in [Backing::Anonymous, MEMFD] {
        let keep = 2 * PAGEBLOCK_SIZE + PAGE_SIZE;
        let builder = Arena::builder().size(4 * PAGEBLOCK_SIZE).backing(backing);
        let arena = builder.keep_resident(keep).release_by(ReleaseBy::Poll).build().unwrap();
        drop(filled(&arena, 4));
        let released = arena.release(usize::MAX).unwrap();
        let what = format!("{backing}: {released}");
        assert_eq!((released.returned, released.stopped), (PAGEBLOCK_SIZE, Stop::Watermark), "{what}");
        assert_eq!(arena.stats().free, 3 * PAGEBLOCK_SIZE, "{what}");
    }
}

#[test]
fn a_huge_page_is_not_split_for_less_than_all_of_its_free_pages() {
    let builder = Arena::builder().size(PAGEBLOCK_SIZE).release_by(ReleaseBy::Poll);
    let arena = builder.keep_resident(PAGE_SIZE).build().unwrap();
    if !arena.inner().residency.is_by_pageblock() {
        return println!("skipped: transparent huge pages are off");
    }
    let kept = filled(&arena, 1).remove(0).freeze().slice(..1);
    let released = arena.release(usize::MAX).unwrap();
    assert_eq!((released.returned, released.stopped), (0, Stop::Watermark));
    assert_eq!(arena.stats().free, 511 * PAGE_SIZE);
    drop(kept);
}

#[test]
fn a_pageblock_that_is_all_in_use_is_no_reason_to_stop_at_the_mappings() {
    let builder = Arena::builder().size(PAGEBLOCK_SIZE).split_huge_pages(0);
    let arena = builder.release_by(ReleaseBy::Poll).build().unwrap();
    if !arena.inner().residency.is_by_pageblock() {
        return println!("skipped: transparent huge pages are off");
    }
    let whole = filled(&arena, 1).remove(0);
    assert_eq!(arena.release(usize::MAX).unwrap().stopped, Stop::NothingLeft);
    let part = whole.freeze().slice(..1);
    assert_eq!(arena.release(usize::MAX).unwrap().stopped, Stop::MapLimit);
    drop(part);
    let released = arena.release(usize::MAX).unwrap();
    assert_eq!((released.returned, released.stopped), (PAGEBLOCK_SIZE, Stop::NothingLeft));
}

/// The next one begins where the last one ended, and at the first after the last.
#[test]
fn releases_look_round_and_round() {
    let arena = arena(MEMFD, 3);
    let kept: Vec<_> = filled(&arena, 3).into_iter().map(|buffer| buffer.freeze().slice(..1)).collect();
    let free = || [0, 1, 2].map(|n| arena.inner().residency.of(pageblock(n)).count() - 1);
    let mut left = [511; 3];
    for turn in [2, 1, 0, 2, 1, 0, 2, 1, 0, 2] {
        assert_eq!(arena.release(PAGE_SIZE).unwrap().returned, PAGE_SIZE);
        left[turn] -= 1;
        assert_eq!(free(), left);
    }
    drop(kept);
}

#[test]
fn a_release_of_all_that_is_known_to_be_free_reaches_its_target() {
    let builder = Arena::builder().size(2 * PAGEBLOCK_SIZE).release_above(0);
    let arena = builder.release_by(ReleaseBy::Poll).build().unwrap();
    drop(filled(&arena, 2));
    let released = arena.poll_release().unwrap().unwrap();
    assert_eq!((released.returned, released.stopped), (2 * PAGEBLOCK_SIZE, Stop::Target));
    let nothing = arena.inner().release_excess(0).unwrap();
    assert_eq!((nothing.asked, nothing.stopped), (0, Stop::Target));
}
