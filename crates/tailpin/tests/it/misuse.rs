//! What a wrong caller does, and that it is noticed in release builds, reported, and never handed
//! out again.

use crate::common;

use std::sync::atomic::{AtomicU64, Ordering};

use tailpin::{
    Cause, FrameMask, FrameRange, GetError, Kind, MergeError, OneWord, Operation, Order, Pfn, Protocol,
    RawBlock, Request, SetAside, SplitError, Zone, ZoneConfig, ZoneLayout,
};

const FRAMES: u64 = 1024;

fn page() -> Request {
    Request::new(Order::PAGE)
}

fn huge() -> Request {
    Request::new(Order::HUGE)
}

/// Takes everything there is, one page at a time, and checks that no frame comes twice nor any of
/// `never`.
fn exhaust<P: Protocol>(zone: &Zone<'_, P>, never: &[Pfn]) -> u64 {
    let mut blocks = Vec::new();
    while let Ok(block) = zone.alloc(Order::PAGE) {
        assert!(!never.contains(&block.pfn()), "{block:?} was set aside");
        blocks.push(block);
    }
    let mut frames: Vec<_> = blocks.iter().map(|block| block.pfn()).collect();
    frames.sort();
    frames.dedup();
    assert_eq!(frames.len(), blocks.len(), "a frame was handed out twice");
    blocks.len() as u64
}

fn finish<P: Protocol>(zone: &Zone<'_, P>, heard: &common::Heard, expected: &[(Pfn, Operation, Cause)]) {
    let heard: Vec<_> = heard.0.lock().unwrap().iter().map(|m| (m.frame, m.operation, m.cause)).collect();
    assert_eq!(heard, expected);
    let aside: Vec<Pfn> = expected.iter().map(|(frame, ..)| *frame).collect();
    assert_eq!(exhaust(zone, &aside), FRAMES - aside.len() as u64);
    assert_eq!(zone.set_aside_frames(), aside.len() as u64);
    let audit = zone.audit();
    assert_eq!(audit.violations(), 0, "{audit}");
}

fn double_free<P: Protocol>(zone: &Zone<'_, P>, heard: &common::Heard, order: Order) {
    let raw = zone.raw();
    let block = raw.alloc(Request::new(order)).unwrap();
    raw.free(block).unwrap();
    let misuse = raw.free(block).unwrap_err();
    assert_eq!(misuse.cause, Cause::FrameIsFree, "{misuse}");
    finish(zone, heard, &[(block.pfn(), Operation::Free, Cause::FrameIsFree)]);
}

#[test]
fn double_free_of_a_page() {
    on_both!(FRAMES, double_free, Order::PAGE);
}

#[test]
fn double_free_of_a_huge_block() {
    on_both!(FRAMES, double_free, Order::HUGE);
}

fn double_free_after_reuse<P: Protocol>(zone: &Zone<'_, P>, heard: &common::Heard) {
    let raw = zone.raw();
    let stale = raw.alloc(page()).unwrap();
    raw.free(stale).unwrap();
    let reused = raw.alloc(page()).unwrap();
    assert_eq!(reused.pfn(), stale.pfn(), "the page freed last is handed out first");
    let cause = Cause::StaleToken { claimed: stale.generation() };
    assert_eq!(raw.free(stale).unwrap_err().cause, cause);
    // The new owner is not disturbed, but the frame leaves service with it.
    raw.free(reused).unwrap();
    finish(zone, heard, &[(stale.pfn(), Operation::Free, cause)]);
}

#[test]
fn double_free_after_reuse_is_told_by_the_generation() {
    on_both!(FRAMES, double_free_after_reuse);
}

fn two_pages_as_one_block<P: Protocol>(zone: &Zone<'_, P>, heard: &common::Heard) {
    let raw = zone.raw();
    let mut pages: Vec<RawBlock> = (0..8).map(|_| raw.alloc(page()).unwrap()).collect();
    pages.sort_by_key(|page| page.pfn());
    let order = Order::new(1).unwrap();
    let pair = pages
        .windows(2)
        .find(|pair| pair[0].pfn().is_aligned(order) && pair[1].pfn() == pair[0].pfn().offset(1));
    let first = pair.unwrap()[0];
    let forged = RawBlock::from_parts(first.pfn(), order, first.generation());
    let cause = Cause::WrongOrder { claimed: order };
    assert_eq!(raw.free(forged).unwrap_err().cause, cause);
    for page in pages {
        raw.free(page).unwrap();
    }
    finish(zone, heard, &[(first.pfn(), Operation::Free, cause)]);
}

#[test]
fn two_pages_freed_as_one_block() {
    on_both!(FRAMES, two_pages_as_one_block);
}

fn page_out_of_a_live_block<P: Protocol>(zone: &Zone<'_, P>, heard: &common::Heard) {
    let raw = zone.raw();
    let block = raw.alloc(huge()).unwrap();
    let tail = block.pfn().offset(77);
    let cause = Cause::InsideBlock { head: block.pfn(), order: Order::HUGE };
    let generation = raw.token(tail).generation();
    let forged = RawBlock::from_parts(tail, Order::PAGE, generation);
    assert_eq!(raw.free(forged).unwrap_err().cause, cause);
    raw.free(block).unwrap();
    finish(zone, heard, &[(tail, Operation::Free, cause)]);
}

#[test]
fn one_page_freed_out_of_a_live_block() {
    on_both!(FRAMES, page_out_of_a_live_block);
}

fn put_of_a_free_page<P: Protocol>(zone: &Zone<'_, P>, heard: &common::Heard) {
    let raw = zone.raw();
    let block = raw.alloc(page()).unwrap();
    raw.free(block).unwrap();
    assert_eq!(raw.unpin(block.pfn()).unwrap_err().cause, Cause::FrameIsFree);
    let far = Pfn::new(800);
    assert_eq!(raw.unpin(far).unwrap_err().cause, Cause::FrameIsFree);
    let expected = [block.pfn(), far].map(|frame| (frame, Operation::Put, Cause::FrameIsFree));
    finish(zone, heard, &expected);
}

#[test]
fn put_of_a_free_page_is_noticed() {
    on_both!(FRAMES, put_of_a_free_page);
}

fn put_without_a_pin<P: Protocol>(zone: &Zone<'_, P>, heard: &common::Heard) {
    let raw = zone.raw();
    let block = raw.alloc(huge()).unwrap();
    let tail = block.pfn().offset(5);
    raw.pin(tail).unwrap();
    raw.unpin(tail).unwrap();
    assert_eq!(raw.unpin(tail).unwrap_err().cause, Cause::NotPinned);
    raw.free(block).unwrap();
    finish(zone, heard, &[(tail, Operation::Put, Cause::NotPinned)]);
}

#[test]
fn one_put_too_many_is_noticed() {
    on_both!(FRAMES, put_without_a_pin);
}

fn more_references_than_there_are<P: Protocol>(zone: &Zone<'_, P>, heard: &common::Heard) {
    let raw = zone.raw();
    let block = raw.alloc(huge()).unwrap();
    raw.get_many(block, 100).unwrap();
    assert_eq!(zone.state(block.pfn()).unwrap().refs, 101);
    assert_eq!(raw.put_many(block, 102).unwrap_err().cause, Cause::TooFewReferences);
    assert_eq!(heard.0.lock().unwrap()[0].cause, Cause::TooFewReferences);
    assert_eq!(zone.state(block.pfn()).unwrap().refs, 101, "nothing was given back");
    raw.put_many(block, 101).unwrap();
    finish(zone, heard, &[(block.pfn(), Operation::PutBlock, Cause::TooFewReferences)]);
}

#[test]
fn put_many_of_more_than_there_are() {
    on_both!(FRAMES, more_references_than_there_are);
}

fn free_of_a_shared_block<P: Protocol>(zone: &Zone<'_, P>, heard: &common::Heard) {
    let raw = zone.raw();
    let block = raw.alloc(huge()).unwrap();
    raw.get_many(block, 1).unwrap();
    assert_eq!(raw.free(block).unwrap_err().cause, Cause::StillReferenced);
    raw.put_many(block, 2).unwrap();
    finish(zone, heard, &[(block.pfn(), Operation::Free, Cause::StillReferenced)]);
}

#[test]
fn outright_free_of_a_shared_block() {
    on_both!(FRAMES, free_of_a_shared_block);
}

fn outside_the_zone<P: Protocol>(zone: &Zone<'_, P>, heard: &common::Heard) {
    let raw = zone.raw();
    let far = Pfn::new(1 << 40);
    assert_eq!(raw.unpin(far).unwrap_err().cause, Cause::NotInZone);
    assert_eq!(raw.free(RawBlock::from_parts(far, Order::PAGE, 0)).unwrap_err().cause, Cause::NotInZone);
    assert!(raw.pin(far).is_err());
    assert_eq!(zone.set_aside(far), SetAside::NotInService);
    assert_eq!(heard.count(), 2);
    assert_eq!(exhaust(zone, &[]), FRAMES);
}

#[test]
fn a_frame_of_no_zone() {
    on_both!(FRAMES, outside_the_zone);
}

fn set_aside_by_hand<P: Protocol>(zone: &Zone<'_, P>, heard: &common::Heard) {
    let free = Pfn::new(700);
    assert_eq!(zone.set_aside(free), SetAside::Done);
    assert_eq!(zone.set_aside(free), SetAside::NotInService);
    let block = zone.alloc(Order::HUGE).unwrap();
    let (inside, pinned) = (block.pfn().offset(9), block.pfn().offset(10));
    let pin = block.pin(10).unwrap();
    assert_eq!(zone.set_aside(inside), SetAside::WhenFreed);
    assert_eq!(zone.set_aside(pinned), SetAside::WhenFreed);
    assert!(zone.state(inside).unwrap().hwpoison);
    drop(block);
    drop(pin);
    assert_eq!(zone.state(inside).unwrap().kind, Kind::Offline);
    assert_eq!(heard.count(), 0);
    assert_eq!(zone.set_aside_frames(), 3);
    assert_eq!(exhaust(zone, &[free, inside, pinned]), FRAMES - 3);
    let audit = zone.audit();
    assert_eq!(audit.violations(), 0, "{audit}");
}

#[test]
fn memory_failure_free_and_in_use() {
    on_both!(FRAMES, set_aside_by_hand);
}

fn set_aside_under_a_split<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
    let block = zone.alloc(Order::HUGE).unwrap();
    let bad = block.pfn().offset(300);
    assert_eq!(zone.set_aside(bad), SetAside::WhenFreed);
    drop(block.split().unwrap());
    assert_eq!(zone.set_aside_frames(), 1);
    assert_eq!(exhaust(zone, &[bad]), FRAMES - 1);
    assert_eq!(zone.audit().violations(), 0);
}

#[test]
fn memory_failure_survives_a_split() {
    on_both!(FRAMES, set_aside_under_a_split);
}

#[test]
fn count_limits_refuse_and_nothing_wraps() {
    use tailpin::{GetError, PIN_LIMIT, REF_LIMIT};
    fn run(zone: &Zone<'_, common::OneWord<'_>>, heard: &common::Heard) {
        let raw = zone.raw();
        let block = raw.alloc(huge()).unwrap();
        raw.get_many(block, REF_LIMIT - 1).unwrap();
        assert_eq!(raw.get_many(block, 1), Err(GetError::CountLimit));
        raw.put_many(block, REF_LIMIT - 1).unwrap();
        let tail = block.pfn().offset(3);
        for _ in 0..PIN_LIMIT {
            raw.pin(tail).unwrap();
        }
        assert_eq!(raw.pin(tail), Err(GetError::CountLimit));
        assert!(matches!(zone.try_pin(tail), Err(GetError::CountLimit)));
        // A range that meets the limit gives back the pins that it got, and no other.
        raw.unpin(tail).unwrap();
        let other = zone.try_block(block.pfn(), Order::HUGE).unwrap();
        let range = other.slice(2 * 4096..4 * 4096).unwrap();
        assert_eq!(range.slice(0..range.len()).err(), Some(GetError::CountLimit));
        assert_eq!(other.slice(2 * 4096..4 * 4096).err(), Some(GetError::CountLimit));
        let pins = [2, 3].map(|page| zone.pins_of(block.pfn().offset(page)));
        assert_eq!(pins, [Some(1), Some(PIN_LIMIT)]);
        drop((range, other));
        raw.pin(tail).unwrap();
        // At the limit the block still splits, and every pin is still there.
        raw.split(block, Order::PAGE).unwrap();
        assert_eq!(zone.state(tail).unwrap().pins, PIN_LIMIT);
        for _ in 0..PIN_LIMIT {
            raw.unpin(tail).unwrap();
        }
        raw.put_many(block, 1).unwrap();
        assert_eq!(heard.count(), 0);
        assert_eq!(exhaust(zone, &[]), FRAMES);
    }
    on_one!(OneWord, FRAMES, run);
}

#[test]
fn a_scribbled_word_is_not_handed_out() {
    use std::sync::atomic::Ordering::Relaxed;
    use tailpin::{FrameRange, OneWord, ZoneConfig, ZoneLayout};
    let ranges = [FrameRange::new(Pfn::new(0), FRAMES)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let words = |n| (0..n).map(|_| std::sync::atomic::AtomicU64::new(0)).collect::<Vec<_>>();
    let (pages, allocator) = (words(layout.page_words::<OneWord>()), words(layout.allocator_words()));
    let heard = common::Heard::default();
    let zone: Zone<'_> = Zone::new(layout, ZoneConfig::default().sink(&heard), &pages, &allocator).unwrap();
    pages[0].store(1, Relaxed); // a pin out of nowhere
    pages[600].store(!0, Relaxed);
    let expected = [0, 600].map(|n| (Pfn::new(n), Operation::Allocate, Cause::BadState));
    assert_eq!(
        zone.alloc(Order::HUGE).unwrap().pfn(),
        Pfn::new(512),
        "whole allocator rest: only heads are looked at"
    );
    exhaust(&zone, &expected.map(|(frame, ..)| frame));
    finish(&zone, &heard, &expected);
}

fn adopted_twice<P: Protocol>(zone: &Zone<'_, P>, heard: &common::Heard) {
    let raw = zone.raw();
    let of = Order::new(3).unwrap();
    let token = raw.alloc(Request::new(of)).unwrap();
    let first = raw.adopt(token).unwrap();
    let cause = Cause::StaleToken { claimed: token.generation() };
    assert_eq!(raw.adopt(token).unwrap_err().cause, cause, "its block is a handle's");
    assert_eq!(raw.put_many(token, 1).unwrap_err().cause, cause);
    assert_eq!((raw.get_many(token, 1), zone.state(first.pfn()).unwrap().refs), (Err(GetError::NotInUse), 1));
    drop(first);
    assert_eq!(raw.adopt(token).unwrap_err().cause, Cause::FrameIsFree);
    let operations =
        [Operation::Adopt, Operation::PutBlock, Operation::Get].map(|operation| (operation, cause));
    let told: Vec<_> = heard.0.lock().unwrap().iter().map(|m| (m.operation, m.cause)).collect();
    assert_eq!(told[..3], operations);
    assert_eq!(told[3..], [(Operation::Adopt, Cause::FrameIsFree)]);
    assert_eq!((zone.used_frames(), zone.set_aside_frames(), zone.audit().violations()), (0, 1, 0));
}

#[test]
fn a_token_is_adopted_once() {
    on_both!(FRAMES, adopted_twice);
}

/// Two pages side by side, as the block of two that they are not, with everything that takes a
/// token.
fn neighbours_as_one_block<P: Protocol>(zone: &Zone<'_, P>, heard: &common::Heard) {
    let raw = zone.raw();
    let mut pages: Vec<RawBlock> = (0..2).map(|_| raw.alloc(page()).unwrap()).collect();
    pages.sort_by_key(|page| page.pfn());
    let forged = RawBlock::from_parts(pages[0].pfn(), Order::new(1).unwrap(), pages[0].generation());
    let cause = Cause::WrongOrder { claimed: forged.order() };
    assert_eq!(raw.adopt(forged).unwrap_err().cause, cause);
    assert_eq!(raw.put_many(forged, 1).unwrap_err().cause, cause);
    assert_eq!(raw.free(forged).unwrap_err().cause, cause);
    assert_eq!(raw.get_many(forged, 1), Err(GetError::NotInUse));
    assert_eq!(raw.split(forged, Order::PAGE), Err(SplitError::OutOfRange));
    let (mut told, mut refusals) = (5, vec![cause; 5]);
    if P::REARRANGES {
        assert_eq!(raw.split_around(forged, forged.pfn(), Order::PAGE), Err(SplitError::OutOfRange));
        assert_eq!(raw.merge([forged].into_iter()), Err(MergeError::NotABlock));
        (told, refusals) = (7, vec![cause; 7]);
    }
    assert_eq!(heard.count(), told);
    assert_eq!(heard.0.lock().unwrap().iter().map(|m| m.cause).collect::<Vec<_>>(), refusals);
    assert!(pages.iter().all(|page| zone.state(page.pfn()).unwrap().refs == 1), "neither has changed");
    pages.into_iter().for_each(|page| raw.free(page).unwrap());
    assert_eq!((zone.used_frames(), zone.set_aside_frames(), zone.audit().violations()), (0, 1, 0));
}

#[test]
fn two_neighbours_are_no_block() {
    on_both!(FRAMES, neighbours_as_one_block);
}

fn stale_everywhere<P: Protocol>(zone: &Zone<'_, P>, heard: &common::Heard) {
    let raw = zone.raw();
    let of = Order::new(2).unwrap();
    let stale = raw.alloc(Request::new(of)).unwrap();
    raw.free(stale).unwrap();
    let other = zone.alloc(of).unwrap();
    assert_eq!(other.pfn(), stale.pfn(), "the block freed last is handed out first");
    let cause = Cause::StaleToken { claimed: stale.generation() };
    assert_eq!(raw.put_many(stale, 1).unwrap_err().cause, cause);
    assert_eq!(raw.put_many(stale, 0).unwrap_err().cause, cause);
    assert_eq!(raw.get_many(stale, 1), Err(GetError::NotInUse));
    assert_eq!(raw.split(stale, Order::PAGE), Err(SplitError::OutOfRange));
    assert!(raw.adopt(stale).is_err());
    let mut told = 5;
    if P::REARRANGES {
        assert_eq!(raw.split_around(stale, stale.pfn(), Order::PAGE), Err(SplitError::OutOfRange));
        assert_eq!(raw.merge([stale].into_iter()), Err(MergeError::NotABlock));
        told = 7;
    }
    assert_eq!(heard.0.lock().unwrap().iter().filter(|m| m.cause == cause).count(), told);
    let state = zone.state(other.pfn()).unwrap();
    assert_eq!((state.refs, state.pins, state.order), (1, 0, of));
    drop(other);
    assert_eq!((zone.used_frames(), zone.audit().violations()), (0, 0));
}

#[test]
fn a_stale_token_is_noticed_by_everything_that_takes_one() {
    on_both!(FRAMES, stale_everywhere);
}

/// A page of a split block is handed out again; the token of the whole does not take its reference.
fn a_piece_in_other_hands<P: Protocol>(zone: &Zone<'_, P>, heard: &common::Heard) {
    let raw = zone.raw();
    let of = Order::new(1).unwrap();
    let whole = raw.alloc(Request::new(of)).unwrap();
    raw.split(whole, Order::PAGE).unwrap();
    let second = raw.token(whole.pfn().offset(1));
    raw.free(second).unwrap();
    let other = zone.alloc(Order::PAGE).unwrap();
    assert_eq!(other.pfn(), second.pfn(), "the page freed last is handed out first");
    let misuse = raw.put_many(whole, 1).unwrap_err();
    assert_eq!((misuse.frame, misuse.cause), (second.pfn(), Cause::WrongOrder { claimed: of }));
    assert_eq!(zone.state(whole.pfn()).unwrap().refs, 1, "nothing was given back");
    assert_eq!(zone.state(other.pfn()).unwrap().refs, 1);
    raw.free(raw.token(whole.pfn())).unwrap();
    drop(other);
    assert_eq!(heard.count(), 1);
    assert_eq!((zone.used_frames(), zone.set_aside_frames(), zone.audit().violations()), (0, 1, 0));
}

#[test]
fn what_was_split_is_not_given_back_for_others() {
    on_both!(FRAMES, a_piece_in_other_hands);
}

/// The hold of a pinned tail is no pin of the head.
fn hold_for_a_pin<P: Protocol>(zone: &Zone<'_, P>, heard: &common::Heard) {
    let raw = zone.raw();
    let block = zone.alloc(Order::HUGE).unwrap();
    let tail = block.pin(7).unwrap();
    assert_eq!(raw.unpin(block.pfn()).unwrap_err().cause, Cause::NotPinned);
    let head = raw.pin(block.pfn()).unwrap();
    raw.unpin(head.page).unwrap();
    assert_eq!(raw.unpin(block.pfn()).unwrap_err().cause, Cause::NotPinned);
    drop(block);
    assert!(zone.head_of(tail.pfn()).is_some(), "the page is there still");
    drop(tail);
    assert_eq!(heard.count(), 2);
    assert_eq!((zone.used_frames(), zone.set_aside_frames(), zone.audit().violations()), (0, 1, 0));
}

#[test]
fn a_hold_is_not_given_back_as_a_pin() {
    on_both!(FRAMES, hold_for_a_pin);
}

fn counts_beyond_all_limits<P: Protocol>(zone: &Zone<'_, P>, heard: &common::Heard) {
    let raw = zone.raw();
    for of in [0, 3, 9] {
        let block = raw.alloc(Request::new(Order::new(of).unwrap())).unwrap();
        raw.get_many(block, 4).unwrap();
        for n in [1 << 32, (1 << 41) + 5, 1 << 46, 1 << 63, u64::MAX - 4, u64::MAX - 3, u64::MAX] {
            assert_eq!(raw.get_many(block, n), Err(GetError::CountLimit));
            assert_eq!(zone.state(block.pfn()).unwrap().refs, 5, "none was taken away");
        }
        assert_eq!(heard.count(), 0);
        raw.put_many(block, 5).unwrap();
    }
    assert_eq!((zone.used_frames(), zone.audit().violations()), (0, 0));
}

#[test]
fn counts_never_wrap() {
    on_both!(FRAMES, counts_beyond_all_limits);
}

/// Frames at the ends of what a number can say, and beside the zone, with everything that takes a
/// frame.
fn frames_of_no_zone<P: Protocol>(zone: &Zone<'_, P>, _: &common::Heard) {
    let raw = zone.raw();
    let numbers = [FRAMES, FRAMES + 1, 1 << 52, 1 << 63, u64::MAX - 511, u64::MAX - 1, u64::MAX];
    for number in numbers {
        let frame = Pfn::new(number);
        for of in [0, 1, 9, 18] {
            let token = RawBlock::from_parts(frame, Order::new(of).unwrap(), 0);
            for misuse in
                [raw.free(token), raw.put_many(token, 1), raw.adopt(token).map(|_| ()), raw.unpin(frame)]
            {
                assert_eq!(misuse.unwrap_err().cause, Cause::NotInZone);
            }
            assert_eq!(raw.get_many(token, 1), Err(GetError::NotInUse));
            assert_eq!(raw.split(token, Order::PAGE), Err(SplitError::OutOfRange));
            assert_eq!(raw.split_around(token, frame, Order::PAGE), Err(SplitError::OutOfRange));
            assert_eq!(raw.merge([token].into_iter()), Err(MergeError::NotABlock));
        }
        assert_eq!(raw.token(frame), RawBlock::from_parts(frame, Order::PAGE, 0));
        assert!(raw.tokens(FrameRange { start: frame, end: Pfn::new(u64::MAX) }).take(3).count() <= 3);
        assert!(raw.pin(frame).is_err() && zone.try_pin(frame).is_err());
        assert!(zone.head_of(frame).is_none() && zone.state(frame).is_none());
        assert_eq!(zone.set_aside(frame), SetAside::NotInService);
        assert_eq!(zone.claim(frame, &FrameMask::ALL).count(), 0);
        assert!(zone.claim_pageblock(frame).is_none());
        assert_eq!(zone.used_in_pageblock(frame), 512);
    }
    assert_eq!(
        raw.merge(std::iter::empty()),
        Err(if P::REARRANGES { MergeError::NotABlock } else { MergeError::NotSupported })
    );
    // The last frame of the zone, and blocks that leave it.
    let last = RawBlock::from_parts(Pfn::new(FRAMES - 1), Order::new(1).unwrap(), 0);
    assert_eq!(raw.free(last).unwrap_err().cause, Cause::NotInZone);
    assert_eq!((zone.set_aside_frames(), zone.audit().violations()), (1, 0));
}

#[test]
fn layouts_up_to_the_limits() {
    use tailpin::{ZoneError, ZoneLayout};
    let ranges = [FrameRange::new(Pfn::new(0), FRAMES)];
    for slots in [usize::MAX, usize::MAX / 2, usize::MAX / 2 + 2, 1 << 62, 1 << 60] {
        assert_eq!(ZoneLayout::new(&ranges, slots).unwrap_err(), ZoneError::TooLarge);
    }
    for slots in [0, 1, 1 << 20] {
        let layout = ZoneLayout::new(&ranges, slots).unwrap();
        assert_eq!((layout.span_frames(), layout.allocator_words() > slots), (FRAMES, true));
    }
    let far = [FrameRange::new(Pfn::new(0), 1), FrameRange::new(Pfn::new((1 << 52) - 1), 1)];
    let layout = ZoneLayout::new(&far, 1).unwrap();
    assert_eq!(layout.span_frames(), 1 << 52);
    for end in [(1 << 52) + 1, 1 << 63, u64::MAX] {
        let range = [FrameRange { start: Pfn::new(0), end: Pfn::new(end) }];
        assert!(matches!(ZoneLayout::new(&range, 1), Err(ZoneError::BadRange { .. })));
    }
}

/// Handles' indices and byte ranges, in a zone at the very end of what has an address.
#[test]
fn indices_and_bytes_up_to_the_last() {
    use tailpin::{ZoneConfig, ZoneLayout, ZoneMemory};
    let ranges = [FrameRange::new(Pfn::new((1 << 52) - 512), 512)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let memory = ZoneMemory::for_layout(&layout);
    let zone: Zone<'_> = memory.zone(layout, ZoneConfig::default()).unwrap();
    let mut block = zone.alloc(Order::HUGE).unwrap();
    for index in [512, 1 << 52, 1 << 63, u64::MAX - 1, u64::MAX] {
        assert!(matches!(block.pin(index), Err(GetError::NotInUse)));
        let (same, error) = block.split_around(index, Order::PAGE).unwrap_err();
        assert_eq!(error, SplitError::OutOfRange);
        block = same;
        assert!(
            block.slice(0..index.saturating_add(2 << 20)).is_err()
                && block.slice(index.max(2 << 20)..u64::MAX).is_err()
        );
    }
    let last = block.slice((2 << 20) - 1..2 << 20).unwrap();
    assert_eq!((last.pages().end, last.offset(), last.len()), (Pfn::new(1 << 52), 4095, 1));
    let all = block.slice(0..2 << 20).unwrap();
    let part = all.slice((2 << 20) - 5000..2 << 20).unwrap();
    assert_eq!((part.pages().frames(), part.len()), (2, 5000));
    assert!(part.slice(0..u64::MAX).is_err() && part.slice(5000..5001).is_err());
    drop((block, all));
    assert_eq!(zone.used_frames(), 2);
    drop((last, part));
    assert_eq!((zone.used_frames(), zone.audit().violations()), (0, 0));
}

#[test]
fn offsets_say_when_they_do_not_fit() {
    assert_eq!(Pfn::new(u64::MAX).checked_offset(1), None);
    assert_eq!(Pfn::new(1).checked_offset(u64::MAX - 1), Some(Pfn::new(u64::MAX)));
    for what in [|| Pfn::new(u64::MAX).offset(1), || FrameRange::new(Pfn::new(2), u64::MAX).end] {
        assert!(std::panic::catch_unwind(what).is_err());
    }
}

#[test]
fn frame_numbers_up_to_the_last() {
    on_both!(FRAMES, frames_of_no_zone);
}

#[test]
fn a_frame_that_the_allocator_has_already_is_told_and_set_aside() {
    let ranges = [FrameRange::new(Pfn::new(0), FRAMES)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let words = |n| (0..n).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
    let (pages, allocator) = (words(layout.page_words::<OneWord<'_>>()), words(layout.allocator_words()));
    let heard = common::Heard::default();
    let zone: Zone<'_> = Zone::new(layout, ZoneConfig::default().sink(&heard), &pages, &allocator).unwrap();
    let block = zone.alloc(Order::new(2).unwrap()).unwrap();
    let second = block.pfn().offset(1);
    // Something else writes the allocator's words: they say that a frame in use is free.
    allocator[second.get() as usize / 64].fetch_or(1 << (second.get() % 64), Ordering::SeqCst);
    drop(block);
    let told: Vec<_> = heard.0.lock().unwrap().iter().map(|m| (m.frame, m.operation, m.cause)).collect();
    assert_eq!(told, [(second, Operation::Free, Cause::AlreadyFree)]);
    assert_eq!(zone.set_aside_frames(), 1);
    // Its neighbours stay out too: of the block nothing is given back.
    assert_eq!(exhaust(&zone, &[second]), FRAMES - 4);
}
