//! Slices and pieces: what they say of themselves, what they keep, and what is refused.

use crate::common;

use tailpin::{FrameRange, Order, Protocol, Zone, ZoneConfig, ZoneLayout, ZoneMemory};

fn slices<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
    let block = zone.alloc(Order::new(3).unwrap()).unwrap();
    let page = |index| block.pfn().offset(index);
    let slice = block.slice(5000..9000).unwrap();
    assert_eq!((slice.offset(), slice.len(), slice.is_empty()), (904, 4000, false));
    assert_eq!(slice.pages(), FrameRange::new(page(1), 2));
    let all = block.slice(0..32768).unwrap();
    assert_eq!((all.pages(), all.offset(), all.len()), (block.frames(), 0, 32768));
    drop(all);
    for range in [0..0, 5..5, 32767..32769, 32768..32769] {
        assert!(block.slice(range).is_err());
    }
    for range in [7..7, 3999..4001, 4000..4001] {
        assert!(slice.slice(range).is_err());
    }
    let part = slice.slice(3192..4000).unwrap();
    assert_eq!((part.pages(), part.offset(), part.len()), (FrameRange::new(page(2), 1), 0, 808));
    let part_of_first = slice.slice(1..9).unwrap();
    assert_eq!((part_of_first.pages().start, part_of_first.offset()), (page(1), 905));
    drop(part_of_first);
    let other = part.clone();
    drop(block);
    // A tail's pin keeps the page; in the classic protocol, the whole block.
    let kept = |pages| if P::REARRANGES { pages } else { 8 };
    assert_eq!(zone.used_frames(), kept(2));
    drop(slice);
    assert_eq!(zone.used_frames(), kept(1));
    drop(part);
    assert_eq!(zone.used_frames(), kept(1));
    drop(other);
    assert_eq!((zone.used_frames(), zone.audit().violations()), (0, 0));
}

#[test]
fn a_slice_keeps_the_pages_that_its_bytes_touch() {
    on_both!(1024, slices);
}

#[test]
fn a_run_is_counted_taken_and_continued_by_what_follows_it() {
    let ranges = [FrameRange::new(tailpin::Pfn::new(0), 512)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let memory = [(); 2].map(|()| ZoneMemory::for_layout(&layout));
    let zones: [Zone<'_>; 2] = [0, 1].map(|i| memory[i].zone(layout, ZoneConfig::default()).unwrap());
    let of = Order::new(2).unwrap();
    let [first, second] = [(); 2].map(|()| zones[0].alloc(of).unwrap());
    let [_, elsewhere] = [(); 2].map(|()| zones[1].alloc(of).unwrap());
    assert_eq!((first.frames().end, elsewhere.pfn()), (second.pfn(), second.pfn()));
    let (mut run, mut rest) = (first.split().unwrap(), second.split().unwrap());
    assert_eq!((run.len(), run.is_empty(), rest.len()), (4, false, 4));
    let (next, later) = (rest.next().unwrap(), rest.next().unwrap());
    assert_eq!((rest.len(), rest.is_empty()), (2, false));
    let later = run.append(later).unwrap_err();
    let _elsewhere = run.append(elsewhere).unwrap_err();
    run.append(next).unwrap();
    run.append(later).unwrap();
    assert_eq!((run.len(), run.frames().frames()), (6, 6));
    rest.by_ref().for_each(|page| run.append(page).unwrap());
    assert!(rest.is_empty() && rest.next().is_none());
    assert_eq!(rest.len(), 0);
    let whole = run.merge().unwrap();
    assert_eq!((whole.order(), zones[0].used_frames()), (Order::new(3).unwrap(), 8));
    drop(whole);
    assert_eq!((zones[0].used_frames(), zones[0].audit().violations()), (0, 0));
}
