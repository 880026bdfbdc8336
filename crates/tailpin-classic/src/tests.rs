//! What each function does alone, and a smoke test with real threads. The interleavings are the
//! model checker's.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::vec::Vec;

use super::count::COUNT_LIMIT;
use super::*;
use tailpin::{Cause, Misuse, Operation};
use tailpin::{FrameMask, Kind, RawBlock};

mod planted;

const BASE: Pfn = Pfn::new(0x200);
const SPLITTABLE: Class = Class::Splittable;

#[derive(Default)]
struct Log {
    blocks: Mutex<Vec<(Pfn, Order)>>,
    frames: Mutex<Vec<(Pfn, FrameMask)>>,
    retired: Mutex<Vec<Pfn>>,
    misuses: Mutex<Vec<Misuse>>,
}

impl Log {
    fn blocks(&self) -> Vec<(Pfn, Order)> {
        let mut blocks = core::mem::take(&mut *self.blocks.lock().unwrap());
        blocks.sort_unstable();
        blocks
    }

    fn causes(&self) -> Vec<(Operation, Cause)> {
        self.misuses.lock().unwrap().drain(..).map(|m| (m.operation, m.cause)).collect()
    }
}

impl FreeSink for Log {
    fn freed_block(&self, head: Pfn, order: Order) {
        self.blocks.lock().unwrap().push((head, order));
    }
    fn freed_frames(&self, pageblock: Pfn, frames: &FrameMask) {
        self.frames.lock().unwrap().push((pageblock, *frames));
    }
    fn freed_offline(&self, frame: Pfn) {
        self.retired.lock().unwrap().push(frame);
    }
    fn misuse(&self, misuse: &Misuse) {
        self.misuses.lock().unwrap().push(*misuse);
    }
}

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

fn map(frames: usize) -> Vec<AtomicU64> {
    (0..frames * Classic::<AtomicU64>::WORDS_PER_FRAME).map(|_| AtomicU64::new(0)).collect()
}

/// A block of `of` at the base; its generation.
fn begin<S: Safeguards<Safeguard>>(classic: &Classic<'_, AtomicU64, S>, of: Order, class: Class) -> u8 {
    classic.prepare(BASE, of).unwrap();
    classic.publish(BASE, of, class)
}

fn whole(of: Order) -> FrameRange {
    FrameRange::block(BASE, of)
}

fn audit(classic: &Classic<'_>, head: Pfn, of: Order) -> u64 {
    classic.audit_block(head, of, &mut |frame, what| panic!("{frame}: {what}"))
}

#[test]
fn a_block_is_handed_out_and_freed_whole() {
    let (words, log) = (map(1024), Log::default());
    let classic = Classic::new(&words, BASE);
    let tail = BASE.offset(77);
    assert_eq!(classic.state(BASE).kind, Kind::Free);
    classic.prepare(BASE, Order::HUGE).unwrap();
    assert_eq!(classic.head_of(tail), None);
    assert_eq!(classic.try_get(tail, &log).unwrap_err(), GetError::NotInUse);
    assert_eq!(classic.publish(BASE, Order::HUGE, SPLITTABLE), 1);

    let state = classic.state(BASE);
    assert_eq!((state.kind, state.order, state.pins, state.refs), (Kind::Head, Order::HUGE, 0, 1));
    assert_eq!(classic.state(tail).kind, Kind::Tail);
    assert_eq!(classic.head_of(tail), Some((BASE, Order::HUGE)));
    assert_eq!(classic.compound_trans_head(tail), BASE);
    assert_eq!(classic.prepare(BASE, Order::HUGE), Err(BASE));
    assert_eq!(audit(&classic, BASE, Order::HUGE), 0);

    let held = classic.try_get(tail, &log).unwrap();
    classic.get(held, &log).unwrap();
    assert_eq!(classic.state(tail).pins, 2);
    assert_eq!(classic.state(BASE).pins, 2);
    assert_eq!(audit(&classic, BASE, Order::HUGE), 1);

    classic.put_pieces(whole(Order::HUGE), 1, &log);
    assert_eq!(log.blocks(), [], "a pinned page keeps the block, as in 2013");
    assert_eq!(classic.state(BASE).refs, 0);
    classic.put(held, &log);
    classic.put(held, &log);
    assert_eq!(log.blocks(), [(BASE, Order::HUGE)]);
    assert_eq!(classic.head_of(tail), None);
    classic.scrub(BASE).unwrap();
    assert_eq!(begin(&classic, Order::PAGE, SPLITTABLE), 2);
    assert_eq!(classic.state(BASE).kind, Kind::Page);
}

#[test]
fn every_order_is_prepared_and_freed() {
    let (words, log) = (map(1 << 18), Log::default());
    let classic = Classic::new(&words, Pfn::new(0));
    for of in Order::all() {
        let head = Pfn::new(0);
        classic.prepare(head, of).unwrap();
        classic.publish(head, of, SPLITTABLE);
        let last = head.offset(of.frames() - 1);
        let held = classic.try_get(last, &log).unwrap();
        assert_eq!(classic.head_of(last), Some((head, of)));
        classic.put(held, &log);
        classic.put_pieces(FrameRange::block(head, of), 1, &log);
        assert_eq!(log.blocks(), [(head, of)]);
    }
    assert_eq!(log.causes(), []);
}

#[test]
fn a_block_is_found_in_every_generation() {
    let (words, log) = (map(512), Log::default());
    let classic = Classic::new(&words, BASE);
    for life in 1..=65 {
        assert_eq!(begin(&classic, order(1), SPLITTABLE), life % 64);
        assert_eq!(classic.head_of(BASE.offset(1)), Some((BASE, order(1))));
        classic.put_pieces(whole(order(1)), 1, &log);
    }
}

/// The arithmetic of `__split_huge_page_refcount`: tail i has `maps + pins(i)`, the head its own
/// and `maps`.
#[test]
fn a_split_leaves_every_pin_on_its_page() {
    for target in [0, 1, 3] {
        let (words, log, target) = (map(512), Log::default(), order(target));
        let classic = Classic::new(&words, BASE);
        let of = order(4);
        begin(&classic, of, SPLITTABLE);
        classic.get_pieces(whole(of), 2, &log).unwrap();
        let pins = |i: u64| [2, 0, 1, 3, 0][i as usize % 5];
        for (i, page) in whole(of).iter().enumerate() {
            for _ in 0..pins(i as u64) {
                classic.try_get(page, &log).unwrap();
            }
        }
        classic.split(whole(of), target, &log).unwrap();
        for head in whole(of).iter().filter(|page| page.is_aligned(target)) {
            let state = classic.state(head);
            let block = FrameRange::block(head, target);
            let sum: u64 = block.iter().map(|page| pins(page.get() - BASE.get())).sum();
            assert_eq!((state.order, state.refs, state.pins), (target, 3, sum), "{head}");
            for page in block.iter() {
                assert_eq!(classic.head_of(page), Some((head, target)));
            }
            audit(&classic, head, target);
        }
        classic.put_pieces(whole(of), 3, &log);
        for (i, page) in whole(of).iter().enumerate() {
            for _ in 0..pins(i as u64) {
                classic.put(classic.counted(PagePin { page, counted_at: page }), &log);
            }
        }
        let freed = log.blocks();
        assert!(
            freed.iter().map(|(head, _)| *head).eq(whole(of).iter().filter(|page| page.is_aligned(target)))
        );
        assert!(freed.iter().all(|(_, order)| *order == target));
        assert_eq!(log.causes(), []);
        classic.check_new_pages(FrameRange::new(BASE, 512)).unwrap();
    }
}

#[test]
fn a_split_again_and_of_parts() {
    let (words, log) = (map(512), Log::default());
    let classic = Classic::new(&words, BASE);
    let of = order(4);
    begin(&classic, of, SPLITTABLE);
    let held = classic.try_get(BASE.offset(7), &log).unwrap();
    let to_pages = |range| classic.split(range, Order::PAGE, &log);
    assert_eq!(
        to_pages(FrameRange::block(BASE.offset(7), Order::PAGE)),
        Err(SplitError::OutOfRange),
        "a tail"
    );
    classic.split(whole(of), order(2), &log).unwrap();
    assert_eq!(to_pages(whole(order(1))), Err(SplitError::OutOfRange), "not all of a piece");
    let second = FrameRange::block(BASE.offset(4), order(2));
    classic.split(second, order(1), &log).unwrap();
    assert_eq!(classic.head_of(held.pin().page), Some((BASE.offset(6), order(1))));
    assert_eq!(classic.split(whole(of), order(2), &log), Ok(()));
    to_pages(whole(of)).unwrap();
    classic.put(held, &log);
    classic.put_pieces(whole(of), 1, &log);
    assert_eq!(log.blocks().len(), 16);
    assert_eq!(to_pages(whole(of)), Err(SplitError::OutOfRange), "free");
    assert_eq!(log.causes(), []);
    assert_eq!(classic.split_around(whole(of), BASE, of, &log), Err(SplitError::NotSupported));
    assert_eq!(classic.merge(BASE, of, &log), Err(MergeError::NotSupported));
}

/// H5: the reference of a thread that took the frame for another's head may be the last on a
/// smaller block.
#[test]
fn the_last_reference_frees_what_the_head_is_by_then() {
    let (words, log) = (map(512), Log::default());
    let classic = Classic::new(&words, BASE);
    begin(&classic, order(1), SPLITTABLE);
    classic.get_page_unless_zero(BASE, 10).unwrap();
    classic.put_pieces(whole(order(1)), 1, &log);
    assert_eq!(log.blocks(), []);
    classic.put_refs(BASE, 1, Some(Order::PAGE), &log);
    assert_eq!(log.blocks(), [(BASE, order(1))]);
}

#[test]
fn unsplittable_blocks_count_at_the_head() {
    let (words, log) = (map(512), Log::default());
    let classic = Classic::new(&words, BASE);
    let of = order(3);
    begin(&classic, of, Class::Unsplittable);
    let tail = BASE.offset(5);
    assert!(!classic.compound_tail_refcounted(tail));
    let held = classic.try_get(tail, &log).unwrap();
    classic.get(held, &log).unwrap();
    assert_eq!(classic.mapcount(tail).load(Ordering::Relaxed), 0);
    assert_eq!(classic.state(BASE).pins, 2);
    assert!(classic.state(BASE).unsplittable && classic.state(tail).unsplittable);
    let refused = classic.split(whole(of), Order::PAGE, &log);
    assert_eq!(refused, Err(SplitError::Unsplittable { head: BASE }));
    assert_eq!(audit(&classic, BASE, of), 1);
    classic.put(held, &log);
    assert_eq!(classic.put_compound_tail(tail, &log), BASE);
    classic.put(classic.counted(PagePin { page: BASE, counted_at: BASE }), &log);
    assert_eq!(classic.raw_put(tail, &log), Err(Cause::NotPinned));
    classic.put_pieces(whole(of), 1, &log);
    assert_eq!(log.blocks(), [(BASE, of)]);
    begin(&classic, of, SPLITTABLE);
    assert!(classic.compound_tail_refcounted(tail), "the class ends with the block");
    assert!(!classic.state(BASE).unsplittable && !classic.state(tail).unsplittable);
}

#[test]
fn the_pair_of_helpers_of_the_mail() {
    let (words, log) = (map(512), Log::default());
    let classic = Classic::new(&words, BASE);
    let (of, tail) = (order(3), BASE.offset(3));
    assert_eq!(classic.get_compound_page(tail, &log), None);
    begin(&classic, of, SPLITTABLE);
    classic.try_get(tail, &log).unwrap();
    assert_eq!(classic.get_compound_page(tail, &log), Some(BASE));
    assert_eq!((classic.state(BASE).pins, classic.state(tail).pins), (2, 1));
    assert_eq!(classic.put_compound_tail(tail, &log), BASE);
    assert_eq!((classic.state(BASE).pins, classic.state(tail).pins), (2, 0));
    classic.split(whole(of), Order::PAGE, &log).unwrap();
    assert_eq!(classic.get_compound_page(tail, &log), Some(tail));
    assert_eq!(classic.put_compound_tail(tail, &log), tail);
    assert_eq!((classic.state(BASE).pins, classic.state(tail).pins), (2, 1));
    assert_eq!(log.causes(), []);
}

#[test]
fn poisoned_frames_stay_behind() {
    let (words, log) = (map(1024), Log::default());
    let classic = Classic::new(&words, BASE);
    let bad = BASE.offset(70);
    assert!(!classic.mark_hwpoison(bad, &log));
    begin(&classic, order(10), SPLITTABLE);
    assert!(classic.mark_hwpoison(bad, &log));
    classic.put_pieces(whole(order(10)), 1, &log);
    let mut first = [u64::MAX; 8];
    first[1] &= !(1 << 6);
    let frames = core::mem::take(&mut *log.frames.lock().unwrap());
    assert_eq!(frames, [(BASE, FrameMask::from_words(first)), (BASE.offset(512), FrameMask::ALL)]);
    assert_eq!(*log.retired.lock().unwrap(), [bad]);
    assert_eq!(log.blocks(), []);
    assert_eq!(classic.state(bad).kind, Kind::Offline);
    assert_eq!(classic.scrub(BASE), Err(bad));
    assert_eq!(classic.prepare(bad, Order::PAGE), Err(bad));
    assert_eq!(classic.try_get(bad, &log).unwrap_err(), GetError::NotInUse);
    assert_eq!(log.causes(), []);
}

#[test]
fn a_poisoned_tail_takes_the_mark_along_through_a_split() {
    let (words, log) = (map(512), Log::default());
    let classic = Classic::new(&words, BASE);
    begin(&classic, order(2), SPLITTABLE);
    assert!(classic.mark_hwpoison(BASE.offset(2), &log));
    assert_eq!([0, 1, 2].map(|page| classic.state(BASE.offset(page)).hwpoison), [false, false, true]);
    classic.split(whole(order(2)), Order::PAGE, &log).unwrap();
    classic.put_pieces(whole(order(2)), 1, &log);
    assert_eq!(log.blocks().len(), 3);
    assert_eq!(*log.retired.lock().unwrap(), [BASE.offset(2)]);
}

#[test]
fn frames_out_of_service() {
    let (words, log) = (map(512), Log::default());
    let classic = Classic::new(&words, BASE);
    begin(&classic, order(1), SPLITTABLE);
    classic.put_pieces(whole(order(1)), 1, &log);
    classic.take_offline(BASE);
    classic.reserve(BASE.offset(1));
    let (aside, never) = (classic.state(BASE), classic.state(BASE.offset(1)));
    assert_eq!((aside.kind, aside.generation), (Kind::Offline, 1));
    assert_eq!((never.kind, never.generation), (Kind::Reserved, 0));
    assert_eq!(classic.prepare(BASE, order(1)), Err(BASE));
    assert_eq!(classic.try_get(BASE, &log).unwrap_err(), GetError::NotInUse);
}

#[test]
fn raw_free_believes_nothing() {
    let (words, log) = (map(512), Log::default());
    let classic = Classic::new(&words, BASE);
    let free = |order, generation| classic.raw_free(RawBlock::from_parts(BASE, order, generation), &log);
    let of = order(1);
    assert_eq!(free(of, 0), Err(Cause::FrameIsFree));

    // Two pages freed as one block.
    let generation = begin(&classic, Order::PAGE, SPLITTABLE);
    classic.publish(BASE.offset(1), Order::PAGE, SPLITTABLE);
    assert_eq!(free(of, generation), Err(Cause::WrongOrder { claimed: of }));
    classic.get_pieces(whole(Order::PAGE), 1, &log).unwrap();
    assert_eq!(free(Order::PAGE, generation), Err(Cause::StillReferenced));
    classic.put_pieces(whole(of), 1, &log);
    assert_eq!(free(Order::PAGE, generation), Ok(()));
    assert_eq!(free(Order::PAGE, generation), Err(Cause::FrameIsFree));
    log.blocks();

    // A token from before the frame was handed out again, and one page out of a block.
    let now = begin(&classic, of, SPLITTABLE);
    assert_eq!(free(Order::PAGE, generation), Err(Cause::StaleToken { claimed: generation }));
    let inside = classic.raw_free(RawBlock::from_parts(BASE.offset(1), Order::PAGE, 0), &log);
    assert_eq!(inside, Err(Cause::InsideBlock { head: BASE, order: of }));

    // With a pin left the block stays until that goes; the token is spent.
    let held = classic.try_get(BASE.offset(1), &log).unwrap();
    assert_eq!(free(of, now), Ok(()));
    assert_eq!(free(of, now), Err(Cause::TooFewReferences));
    assert_eq!(log.blocks(), []);
    assert_eq!(classic.raw_put(held.pin().page, &log), Ok(()));
    assert_eq!(log.blocks(), [(BASE, of)]);
    assert_eq!(log.causes(), [], "raw operations answer instead");
}

#[test]
fn raw_put_wants_a_pin() {
    let (words, log) = (map(512), Log::default());
    let classic = Classic::new(&words, BASE);
    let tail = BASE.offset(1);
    assert_eq!(classic.raw_put(BASE, &log), Err(Cause::FrameIsFree));
    begin(&classic, order(1), SPLITTABLE);
    for page in [BASE, tail] {
        assert_eq!(classic.raw_put(page, &log), Err(Cause::NotPinned));
        classic.try_get(page, &log).unwrap();
        assert_eq!(classic.raw_put(page, &log), Ok(()));
        assert_eq!(classic.raw_put(page, &log), Err(Cause::NotPinned));
    }
    classic.split(whole(order(1)), Order::PAGE, &log).unwrap();
    assert_eq!(classic.raw_put(tail, &log), Err(Cause::NotPinned));
    classic.put_pieces(whole(order(1)), 1, &log);
    assert_eq!(log.blocks().len(), 2);
}

#[test]
fn misuse_through_the_unchecked_forms_is_reported_and_harmless() {
    let (words, log) = (map(512), Log::default());
    let classic = Classic::new(&words, BASE);
    let held = |page| classic.counted(PagePin { page, counted_at: page });
    let tail = BASE.offset(1);
    classic.put(held(BASE), &log);
    assert_eq!(log.causes(), [(Operation::Put, Cause::FrameIsFree)]);
    classic.put_pieces(whole(Order::PAGE), 1, &log);
    assert_eq!(log.causes(), [(Operation::PutBlock, Cause::FrameIsFree)]);
    assert_eq!(classic.get(held(BASE), &log), Err(GetError::NotInUse));
    classic.check_new_pages(whole(Order::HUGE)).unwrap();

    begin(&classic, order(1), SPLITTABLE);
    classic.put(held(tail), &log);
    assert_eq!(log.causes(), [(Operation::Put, Cause::NotPinned)]);
    classic.put_pieces(FrameRange::new(tail, 1), 1, &log);
    let inside = Cause::InsideBlock { head: BASE, order: order(1) };
    assert_eq!(log.causes(), [(Operation::PutBlock, inside)]);
    classic.put_pieces(FrameRange::new(BASE, 1), 1, &log);
    assert_eq!(log.causes(), [(Operation::PutBlock, Cause::WrongOrder { claimed: Order::PAGE })]);
    classic.put_pieces(whole(order(1)), 2, &log);
    assert_eq!(log.causes(), [(Operation::PutBlock, Cause::TooFewReferences)]);

    // A pin that was never taken does not cost the owner its block.
    classic.put(held(BASE), &log);
    assert_eq!(log.causes(), [(Operation::Put, Cause::NotPinned)]);
    assert_eq!(classic.state(BASE).refs, 1);
    assert!(classic.state(tail).hwpoison);
    classic.put_pieces(whole(order(1)), 1, &log);
    assert_eq!((log.blocks(), log.retired.lock().unwrap().len()), (Vec::new(), 2));
    assert_eq!(log.causes(), []);
}

/// H18.
#[test]
fn gets_refuse_at_the_limit() {
    let (words, log) = (map(512), Log::default());
    let classic = Classic::new(&words, BASE);
    let tail = BASE.offset(1);
    begin(&classic, order(1), SPLITTABLE);
    classic.get_pieces(whole(order(1)), COUNT_LIMIT - 3, &log).unwrap();
    let held = classic.try_get(tail, &log).unwrap();
    classic.get(held, &log).unwrap();
    assert_eq!(classic.get(held, &log), Err(GetError::CountLimit));
    assert_eq!(classic.try_get(BASE, &log).unwrap_err(), GetError::CountLimit);
    assert_eq!(classic.get_pieces(whole(order(1)), 1, &log), Err(GetError::CountLimit));
    // What the protocol needs for itself is not refused.
    classic.split(whole(order(1)), Order::PAGE, &log).unwrap();
    classic.put(held, &log);
    classic.get(held, &log).unwrap();
    assert_eq!(classic.get(held, &log), Err(GetError::CountLimit));
    classic.put(held, &log);
    classic.put(held, &log);
    classic.put_pieces(whole(order(1)), COUNT_LIMIT - 2, &log);
    assert_eq!(log.blocks().len(), 2);
    assert_eq!(log.causes(), []);
}

/// Speculative and owned pins from two threads while a third hands out, splits in two steps, and
/// frees.
#[test]
fn pins_against_splits_and_frees() {
    const ROUNDS: usize = if cfg!(miri) { 5 } else { 500 };
    let (words, log) = (map(512), Log::default());
    let classic = Classic::new(&words, BASE);
    let of = order(3);
    let (stop, given) = (AtomicBool::new(false), Mutex::new(Vec::<PagePin>::new()));
    std::thread::scope(|scope| {
        for seed in 0..2u64 {
            let (classic, log, stop, given) = (&classic, &log, &stop, &given);
            scope.spawn(move || {
                let mut random = seed;
                while !stop.load(Ordering::Relaxed) {
                    // Not to spin for a whole time slice on a lock whose holder waits for this
                    // processor.
                    std::thread::yield_now();
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let page = BASE.offset(random >> 40 & 7);
                    if let Ok(held) = classic.try_get(page, log) {
                        classic.get(held, log).unwrap();
                        assert!(classic.head_of(page).is_some());
                        classic.put(held, log);
                        classic.put(held, log);
                    }
                    let held = given.lock().unwrap().pop();
                    if let Some(held) = held {
                        let held = classic.counted(held);
                        classic.get(held, log).unwrap();
                        classic.put(held, log);
                        classic.put(held, log);
                    }
                }
            });
        }
        for round in 0..ROUNDS {
            begin(&classic, of, if round % 7 == 0 { Class::Unsplittable } else { SPLITTABLE });
            for page in whole(of).iter().step_by(3) {
                given.lock().unwrap().push(classic.try_get(page, &log).unwrap().pin());
            }
            if round % 7 != 0 {
                classic.get_pieces(whole(of), 1, &log).unwrap();
                if round % 2 == 0 {
                    classic.split(whole(of), order(1), &log).unwrap();
                }
                classic.split(whole(of), Order::PAGE, &log).unwrap();
                classic.put_pieces(whole(of), 1, &log);
            }
            classic.put_pieces(whole(of), 1, &log);
            // All of it comes back, in whatever pieces.
            let mut back = 0;
            while back < of.frames() {
                back += log.blocks().iter().map(|(_, order)| order.frames()).sum::<u64>();
                std::thread::yield_now();
            }
            assert_eq!(back, of.frames());
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(log.causes(), []);
    classic.check_new_pages(FrameRange::new(BASE, 512)).unwrap();
}

#[test]
fn references_are_of_whole_pieces_in_use() {
    let (words, log) = (map(512), Log::default());
    let classic = Classic::new(&words, BASE);
    let nothing = |classic: &Classic<'_>| classic.get_pieces(whole(order(2)), 0, &log);
    assert_eq!(nothing(&classic), Ok(()), "none of nothing");
    classic.put_pieces(whole(order(2)), 0, &log);
    assert_eq!(log.causes(), []);
    begin(&classic, order(2), SPLITTABLE);
    let half = whole(order(1));
    assert_eq!(classic.get_pieces(half, 1, &log), Err(GetError::NotInUse));
    classic.put_pieces(half, 1, &log);
    assert_eq!(log.causes(), [(Operation::PutBlock, Cause::WrongOrder { claimed: order(1) })]);
    assert_eq!(classic.state(BASE).refs, 1);
    let held = classic.try_get(BASE.offset(1), &log).unwrap();
    classic.put_pieces(whole(order(2)), 1, &log);
    assert_eq!(classic.get_pieces(whole(order(2)), 1, &log), Err(GetError::NotInUse), "only a pin is left");
    classic.put(held, &log);
    assert_eq!(*log.retired.lock().unwrap(), [BASE], "what was misused stays behind");
}

#[test]
fn a_page_takes_as_many_references_as_there_may_be() {
    let (words, log) = (map(512), Log::default());
    let classic = Classic::new(&words, BASE);
    begin(&classic, Order::PAGE, SPLITTABLE);
    let get = |n| classic.get_pieces(whole(Order::PAGE), n, &log);
    for too_many in [COUNT_LIMIT, COUNT_LIMIT + 1, COUNT_LIMIT + 2, u64::MAX] {
        assert_eq!(get(too_many), Err(GetError::CountLimit));
    }
    assert_eq!(get(COUNT_LIMIT - 1), Ok(()));
    assert_eq!(get(1), Err(GetError::CountLimit));
    assert_eq!(classic.state(BASE).refs, COUNT_LIMIT);
    classic.put_pieces(whole(Order::PAGE), COUNT_LIMIT, &log);
    assert_eq!(log.blocks(), [(BASE, Order::PAGE)]);
    assert_eq!(log.causes(), []);
}
