//! Handles and tokens, a step at a time: what each says, what it keeps, and what is refused.

use std::collections::BTreeMap;
use std::mem::forget;

use tailpin::{
    Block, Cause, FrameRange, GetError, MergeError, Order, PIN_LIMIT, Pfn, Protocol, RawBlock, Request,
    SplitError, Zone,
};

use crate::common::Heard;

const FRAMES: u64 = 1024;

fn order(of: u8) -> Order {
    Order::new(of).unwrap()
}

fn orders<'z, P: Protocol + 'z>(pieces: impl Iterator<Item = Block<'z, P>>) -> Vec<u8> {
    pieces.map(|piece| piece.order().get()).collect()
}

fn finish<P: Protocol>(zone: &Zone<'_, P>) {
    assert_eq!((zone.used_frames(), zone.audit().violations()), (0, 0));
}

fn pages<P: Protocol>(zone: &Zone<'_, P>, _: &Heard) {
    let block = zone.alloc(order(2)).unwrap();
    let page = zone.alloc(Order::PAGE).unwrap();
    let at = page.pfn();
    assert_eq!((page.order(), page.frames()), (Order::PAGE, FrameRange::new(at, 1)));
    let (pin, other) = (page.pin(0).unwrap(), page.clone());
    if P::REARRANGES {
        let state = zone.state(at).unwrap();
        assert_eq!((state.pins, state.refs), (1, 2));
    }
    assert_eq!((pin.pfn(), pin.head()), (at, (at, Order::PAGE)));
    drop((other, page));
    assert_eq!(zone.used_frames(), 5, "the pin keeps the page");
    drop(pin);
    assert_eq!(zone.used_frames(), 4);
    drop(block);
    finish(zone);
}

#[test]
fn a_block_of_order_0_is_a_page() {
    on_both!(FRAMES, pages);
}

fn pins_of_a_block<P: Protocol>(zone: &Zone<'_, P>, _: &Heard) {
    let block = zone.alloc(order(3)).unwrap();
    for index in [8, 9, 1 << 32, u64::MAX] {
        assert_eq!(block.pin(index).unwrap_err(), GetError::NotInUse);
    }
    for index in 0..8 {
        let pin = block.pin(index).unwrap();
        assert_eq!((pin.pfn(), pin.head()), (block.pfn().offset(index), (block.pfn(), order(3))));
        let other = pin.try_clone().unwrap();
        assert_eq!(other.pfn(), pin.pfn());
        drop(pin);
        assert_eq!(other.head(), (block.pfn(), order(3)));
    }
    let (first, last) = (block.pin(0).unwrap(), block.pin(7).unwrap());
    let other = block.try_clone().unwrap();
    assert_eq!((other.frames(), std::ptr::eq(other.zone(), zone)), (block.frames(), true));
    drop(block);
    assert_eq!(zone.used_frames(), 8);
    drop(other);
    let kept = |pages| if P::REARRANGES { pages } else { 8 };
    assert_eq!(zone.used_frames(), kept(2));
    drop(first);
    assert_eq!(zone.used_frames(), kept(1));
    drop(last);
    finish(zone);
}

#[test]
fn a_pin_names_its_page_and_keeps_it() {
    on_both!(FRAMES, pins_of_a_block);
}

fn runs<P: Protocol>(zone: &Zone<'_, P>, _: &Heard) {
    let block = zone.alloc(order(4)).unwrap();
    let (start, end) = (block.pfn(), block.frames().end);
    let target = if P::REARRANGES { 2 } else { 0 };
    let mut run = block.split_to(order(target)).unwrap();
    let pieces = 16 >> target;
    assert_eq!((run.len(), run.is_empty(), run.frames()), (pieces, false, FrameRange::new(start, 16)));
    for left in (0..pieces).rev() {
        let piece = run.next().unwrap();
        let at = start.offset(((pieces - left - 1) << target) as u64);
        assert_eq!((piece.pfn(), piece.order()), (at, order(target)));
        drop(piece);
        let left_frames = (left as u64) << target;
        assert_eq!((run.len(), run.is_empty()), (left, left == 0));
        assert_eq!((run.frames().end, run.frames().frames()), (end, left_frames));
        assert_eq!(zone.used_frames(), left_frames);
    }
    assert!(run.next().is_none());
    drop(run);
    finish(zone);
    // What is not taken goes with the run.
    let mut run = zone.alloc(order(4)).unwrap().split().unwrap();
    let kept = run.nth(4).unwrap();
    assert_eq!(zone.used_frames(), 12);
    drop(run);
    assert_eq!(zone.used_frames(), 1);
    drop(kept);
    // A block that is whole is a run of one.
    let whole = zone.alloc(order(3)).unwrap();
    let frames = whole.frames();
    let run = whole.into_pieces();
    assert_eq!((run.len(), run.frames()), (1, frames));
    assert_eq!(orders(run), [3]);
    finish(zone);
}

#[test]
fn a_run_says_what_is_left_of_it() {
    on_both!(FRAMES, runs);
}

fn around<P: Protocol>(zone: &Zone<'_, P>, _: &Heard) {
    let block = zone.alloc(order(5)).unwrap();
    let frames = block.frames();
    let (block, why) = block.split_around(32, Order::PAGE).unwrap_err();
    assert_eq!((block.frames(), why), (frames, SplitError::OutOfRange));
    let mut run = block.split_around(31, order(1)).unwrap();
    assert_eq!((run.frames(), run.len()), (frames, 5));
    assert_eq!(orders(run.by_ref()), [4, 3, 2, 1, 1]);
    drop(run);
    finish(zone);
    let run = zone.alloc(order(5)).unwrap().split_around(9, Order::PAGE).unwrap();
    assert_eq!(run.len(), 6);
    assert_eq!(orders(run), [3, 0, 0, 1, 2, 4]);
    finish(zone);
}

#[test]
fn what_is_not_around_the_page_stays_large() {
    on_one!(OneWord, FRAMES, around);
}

fn merges<P: Protocol>(zone: &Zone<'_, P>, _: &Heard) {
    let mut run = zone.alloc(order(3)).unwrap().split_to(order(1)).unwrap();
    let first = run.next().unwrap();
    let (mut run, why) = run.merge().unwrap_err();
    assert_eq!((why, run.len()), (MergeError::NotABlock, 3));
    let second = run.next().unwrap();
    let pin = run.frames().start;
    let pin = zone.try_pin(pin).unwrap();
    let half = run.merge().unwrap();
    assert_eq!((half.order(), pin.head()), (order(2), (half.pfn(), order(2))));
    let mut run = first.into_pieces();
    let other = second.try_clone().unwrap();
    run.append(second).unwrap();
    run.append(half).unwrap();
    let (run, why) = run.merge().unwrap_err();
    assert!(matches!(why, MergeError::Shared { .. }), "{why}");
    drop(other);
    let whole = run.merge().unwrap();
    assert_eq!(pin.head(), (whole.pfn(), order(3)));
    drop((whole, pin));
    finish(zone);
}

#[test]
fn a_run_is_merged_if_it_is_a_block_and_the_callers_alone() {
    on_one!(OneWord, FRAMES, merges);
}

/// Blocks that begin at frames whose numbers are not 0, and so are no neutral element of a sum.
fn slices<P: Protocol>(zone: &Zone<'_, P>, _: &Heard) {
    let _before = zone.alloc(order(3)).unwrap();
    let block = zone.alloc(order(3)).unwrap();
    let first = block.pfn().get();
    assert!(first > 0);
    let whole = block.slice(4095..28_673).unwrap();
    assert_eq!((whole.pages().start.get(), whole.pages().frames()), (first, 8));
    assert_eq!((whole.offset(), whole.len()), (4095, 24_578));
    let middle = whole.slice(1..8193).unwrap();
    assert_eq!((middle.pages().start.get(), middle.pages().frames()), (first + 1, 2));
    assert_eq!((middle.offset(), middle.len()), (0, 8192));
    let within = middle.slice(4095..4097).unwrap();
    assert_eq!((within.pages(), within.offset(), within.len()), (middle.pages(), 4095, 2));
    let last = whole.slice(24_577..24_578).unwrap();
    assert_eq!((last.pages().start.get(), last.pages().frames()), (first + 7, 1));
    assert_eq!((last.offset(), last.len()), (0, 1));
    drop((whole, block));
    let kept = |pages: u64| if P::REARRANGES { 8 + pages } else { 16 };
    assert_eq!(zone.used_frames(), kept(3));
    let copy = within.clone();
    drop((middle, within, last));
    assert_eq!((zone.used_frames(), copy.pages().start.get()), (kept(2), first + 1));
    drop(copy);
    assert_eq!(zone.used_frames(), 8);
}

#[test]
fn a_slice_of_a_slice_begins_where_its_bytes_do() {
    on_both!(FRAMES, slices);
}

fn refused_slices<P: Protocol>(zone: &Zone<'_, P>, _: &Heard) {
    let block = zone.alloc(order(2)).unwrap();
    let kept = block.slice(0..4 * 4096).unwrap();
    let full = block.pin(2).unwrap();
    // Up to the limit; one is `kept`'s, one is `full`.
    (2..PIN_LIMIT).for_each(|_| forget(full.try_clone().unwrap()));
    assert_eq!(full.try_clone().unwrap_err(), GetError::CountLimit);
    let pins = || [1, 2, 3].map(|index| zone.state(block.pfn().offset(index)).unwrap().pins);
    assert_eq!(pins(), [1, PIN_LIMIT, 1]);
    assert_eq!(block.slice(0..4 * 4096).unwrap_err(), GetError::CountLimit);
    assert_eq!(kept.slice(0..4 * 4096).unwrap_err(), GetError::CountLimit);
    assert_eq!(pins(), [1, PIN_LIMIT, 1], "the pages before it have been given back");
    let two = kept.slice(0..2 * 4096).unwrap();
    assert_eq!(pins(), [2, PIN_LIMIT, 1]);
    drop((two, block, full));
    assert_eq!(zone.used_frames(), 4);
    drop(kept);
    assert_eq!(zone.used_frames(), 1, "the pins that were forgotten keep their page");
}

#[test]
fn a_slice_that_is_refused_half_way_keeps_no_page() {
    on_one!(OneWord, FRAMES, refused_slices);
}

fn generations<P: Protocol>(zone: &Zone<'_, P>, heard: &Heard) {
    let raw = zone.raw();
    let mut seen: BTreeMap<Pfn, Vec<u8>> = BTreeMap::new();
    for round in 0..130 {
        let token = raw.alloc(Request::new(order(2))).unwrap();
        let state = zone.state(token.pfn()).unwrap();
        assert_eq!(token.generation(), state.generation);
        assert_eq!((raw.token(token.pfn()), token.order()), (token, order(2)));
        assert_eq!(token, RawBlock::from_parts(token.pfn(), order(2), token.generation()));
        assert_eq!(token.frames(), FrameRange::new(token.pfn(), 4));
        let before = seen.entry(token.pfn()).or_default();
        assert_ne!(before.last(), Some(&token.generation()), "round {round}");
        assert!(token.generation() < 64);
        before.push(token.generation());
        raw.free(token).unwrap();
    }
    assert!(seen.values().any(|generations| generations.len() > 8), "{seen:?}");
    assert_eq!(heard.count(), 0);
    finish(zone);
}

#[test]
fn a_token_has_the_generation_of_its_frame() {
    on_both!(FRAMES, generations);
}

fn raw_splits<P: Protocol>(zone: &Zone<'_, P>, heard: &Heard) {
    let raw = zone.raw();
    let whole = raw.alloc(Request::new(order(4))).unwrap();
    let target = if P::REARRANGES { 2 } else { 0 };
    raw.split(whole, order(target)).unwrap();
    let pieces: Vec<RawBlock> = raw.tokens(whole.frames()).collect();
    assert_eq!(pieces.len(), 16 >> target);
    for (index, piece) in pieces.iter().enumerate() {
        let at = whole.pfn().offset((index as u64) << target);
        assert_eq!((piece.pfn(), piece.order()), (at, order(target)));
        assert_eq!(piece.generation(), zone.state(at).unwrap().generation);
        assert_eq!(zone.head_of(at), Some((at, order(target))));
    }
    // The token of the whole goes on standing for all of them.
    raw.get_many(whole, 2).unwrap();
    assert!(pieces.iter().all(|piece| zone.state(piece.pfn()).unwrap().refs == 3));
    raw.put_many(whole, 2).unwrap();
    for (index, piece) in pieces.iter().enumerate() {
        raw.free(*piece).unwrap();
        assert_eq!(zone.used_frames(), 16 - ((index as u64 + 1) << target));
    }
    assert_eq!(heard.count(), 0);
    finish(zone);
}

#[test]
fn a_raw_split_makes_pieces_with_tokens_of_their_own() {
    on_both!(FRAMES, raw_splits);
}

fn raw_splits_around<P: Protocol>(zone: &Zone<'_, P>, heard: &Heard) {
    let raw = zone.raw();
    let whole = raw.alloc(Request::new(order(4))).unwrap();
    let outside = whole.frames().end;
    assert_eq!(raw.split_around(whole, outside, Order::PAGE), Err(SplitError::OutOfRange));
    assert_eq!(raw.tokens(whole.frames()).count(), 1);
    raw.split_around(whole, whole.pfn().offset(5), Order::PAGE).unwrap();
    let pieces: Vec<RawBlock> = raw.tokens(whole.frames()).collect();
    assert_eq!(pieces.iter().map(|piece| piece.order().get()).collect::<Vec<_>>(), [2, 0, 0, 1, 3]);
    // Only the part of a range that blocks begin in.
    let part = FrameRange::new(whole.pfn().offset(4), 3);
    assert!(raw.tokens(part).eq(pieces[1..4].iter().copied()));
    assert_eq!(raw.tokens(FrameRange::new(whole.pfn(), 0)).count(), 0);
    let merged = raw.merge(pieces.iter().copied()).unwrap();
    assert_eq!((merged.pfn(), merged.order()), (whole.pfn(), order(4)));
    assert_eq!(raw.token(whole.pfn()), merged);
    assert_eq!(heard.count(), 0);
    raw.free(merged).unwrap();
    finish(zone);
}

#[test]
fn a_raw_split_around_a_page_leaves_the_rest_large() {
    on_one!(OneWord, FRAMES, raw_splits_around);
}

fn adopted<P: Protocol>(zone: &Zone<'_, P>, heard: &Heard) {
    let raw = zone.raw();
    let token = zone.alloc(order(3)).unwrap().into_raw();
    assert_eq!(zone.used_frames(), 8, "a token is not dropped");
    let block = raw.adopt(token).unwrap();
    assert_eq!((block.frames(), zone.used_frames()), (token.frames(), 8));
    assert_eq!(heard.count(), 0);
    let pin = raw.pin(token.pfn().offset(3)).unwrap();
    assert_eq!((pin.page, zone.try_pin(pin.page).unwrap().pfn()), (token.pfn().offset(3), pin.page));
    raw.unpin(pin.page).unwrap();
    drop(block);
    finish(zone);
    let outside = RawBlock::from_parts(Pfn::new(FRAMES), order(3), 0);
    for refused in [token, outside] {
        let misuse = raw.adopt(refused).unwrap_err();
        assert_eq!((misuse.frame, misuse.cause == Cause::NotInZone), (refused.pfn(), refused == outside));
    }
    assert_eq!(heard.count(), 2);
}

#[test]
fn a_token_is_adopted_as_the_block_that_it_names() {
    on_both!(FRAMES, adopted);
}
