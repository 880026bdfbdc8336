//! References and blocks that the one-word protocol refuses, and that nothing has changed
//! afterwards.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tailpin::{
    BlockLife, BlockRefs, Cause, Checked, Class, FrameMask, FrameRange, FrameWords, FreeSink, GetError, Kind,
    MergeError, Misuse, OneWord, Operation, Order, PIN_LIMIT, Pfn, Pins, Rearrange, SplitError,
};

/// Keeps what it hears.
#[derive(Default)]
struct Log {
    freed: Mutex<Vec<(Pfn, Order)>>,
    misuses: Mutex<Vec<(Pfn, Operation, Cause)>>,
}

impl FreeSink for Log {
    fn freed_block(&self, head: Pfn, order: Order) {
        self.freed.lock().unwrap().push((head, order));
    }
    fn freed_frames(&self, _: Pfn, _: &FrameMask) {}
    fn freed_offline(&self, _: Pfn) {}
    fn misuse(&self, misuse: &Misuse) {
        self.misuses.lock().unwrap().push((misuse.frame, misuse.operation, misuse.cause));
    }
}

const BASE: Pfn = Pfn::new(0x200);

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

fn whole(of: u8) -> FrameRange {
    FrameRange::block(BASE, order(of))
}

fn words() -> Vec<AtomicU64> {
    (0..1024).map(|_| AtomicU64::new(0)).collect()
}

fn begin(protocol: &OneWord<'_>, of: u8, class: Class) {
    protocol.prepare(BASE, order(of)).unwrap();
    protocol.publish(BASE, order(of), class);
}

#[test]
fn references_where_nobody_has_any() {
    let (words, log) = (words(), Log::default());
    let protocol = OneWord::new(&words, BASE);
    let get = |range| protocol.get_pieces(range, 1, &log);
    assert_eq!(get(whole(0)), Err(GetError::NotInUse), "free");
    begin(&protocol, 2, Class::Splittable);
    let tail = BASE.offset(1);
    assert_eq!(get(FrameRange::block(tail, Order::PAGE)), Err(GetError::NotInUse), "a tail");
    let pin = protocol.try_get(tail, &log).unwrap();
    assert_eq!(get(FrameRange::block(tail, Order::PAGE)), Err(GetError::NotInUse), "a pinned tail");
    protocol.put_pieces(whole(2), 1, &log);
    assert_eq!(protocol.state(tail).kind, Kind::Page);
    assert_eq!(get(FrameRange::block(tail, Order::PAGE)), Err(GetError::NotInUse), "a page with only a pin");
    protocol.put(pin, &log);
    assert_eq!(get(FrameRange::block(tail, Order::PAGE)), Err(GetError::NotInUse), "freed");
    protocol.take_offline(BASE);
    assert_eq!(get(whole(0)), Err(GetError::NotInUse), "out of service");
    assert!(log.misuses.lock().unwrap().is_empty());
}

#[test]
fn frames_that_were_never_in_service() {
    let (words, log) = (words(), Log::default());
    let protocol = OneWord::new(&words, BASE);
    protocol.reserve(BASE);
    assert_eq!(protocol.state(BASE).kind, Kind::Reserved);
    assert_eq!(protocol.prepare(BASE, Order::PAGE), Err(BASE));
    assert_eq!(protocol.try_get(BASE, &log).unwrap_err(), GetError::NotInUse);
    assert_eq!(protocol.head_of(BASE), None);
}

#[test]
fn frames_in_a_wrong_state_are_not_handed_out() {
    for of in [2, 8, 10] {
        // The last word that is looked at.
        let bad = BASE.offset(if of > 9 { 512 } else { order(of).frames() - 1 });
        let words: Vec<_> = (0..2048).map(|_| AtomicU64::new(0)).collect();
        let protocol = OneWord::new(&words, Pfn::new(0));
        let head = bad.head(order(of));
        protocol.take_offline(bad);
        assert_eq!(protocol.prepare(head, order(of)), Err(if of > 9 { head.max(bad) } else { bad }));
        assert_eq!(protocol.scrub(bad.head(Order::HUGE)), Err(bad));
    }
}

#[test]
fn more_references_than_there_are_are_not_given_back() {
    let (words, log) = (words(), Log::default());
    let protocol = OneWord::new(&words, BASE);
    begin(&protocol, 2, Class::Splittable);
    protocol.put_pieces(whole(2), 2, &log);
    assert_eq!(*log.misuses.lock().unwrap(), [(BASE, Operation::PutBlock, Cause::TooFewReferences)]);
    assert_eq!((protocol.state(BASE).kind, protocol.state(BASE).refs), (Kind::Head, 1));
    protocol.put_pieces(whole(2), 1, &log);
    assert_eq!(*log.freed.lock().unwrap(), [(BASE, order(2))]);
    log.misuses.lock().unwrap().clear();
    protocol.put_pieces(whole(1), 1, &log);
    let free = |frame| (frame, Operation::PutBlock, Cause::FrameIsFree);
    assert_eq!(*log.misuses.lock().unwrap(), [free(BASE), free(BASE.offset(1))], "frame by frame");
}

#[test]
fn merges_of_what_is_not_the_callers_alone() {
    let (words, log) = (words(), Log::default());
    let protocol = OneWord::new(&words, BASE);
    begin(&protocol, 2, Class::Splittable);
    let merge = |head: u64, of| protocol.merge(BASE.offset(head), order(of), &log);
    assert_eq!(merge(1, 1), Err(MergeError::NotABlock), "misaligned");
    assert_eq!(merge(2, 1), Err(MergeError::NotABlock), "a tail");
    assert_eq!(merge(0, 1), Err(MergeError::NotABlock), "a piece that is too large");
    assert_eq!(merge(0, 3), Err(MergeError::NotABlock), "half of it is free");
    protocol.split(whole(2), Order::PAGE, &log).unwrap();
    let third = BASE.offset(2);
    protocol.get_pieces(FrameRange::block(third, Order::PAGE), 1, &log).unwrap();
    assert_eq!(merge(0, 2), Err(MergeError::Shared { head: third }));
    assert_eq!(merge(0, 1), Ok(()));
    protocol.put_pieces(FrameRange::block(third, Order::PAGE), 1, &log);
    assert_eq!(merge(0, 2), Ok(()));
    protocol.put_pieces(whole(2), 1, &log);
    begin(&protocol, 1, Class::Splittable);
    let pin = protocol.try_get(BASE, &log).unwrap();
    protocol.put_pieces(whole(1), 1, &log);
    assert_eq!(merge(0, 1), Err(MergeError::NotABlock), "pinned, but no block");
    protocol.put(pin, &log);
    begin(&protocol, 2, Class::Unsplittable);
    assert_eq!(merge(0, 2), Err(MergeError::Unsplittable { head: BASE }));
    assert_eq!(protocol.split(whole(2), Order::PAGE, &log), Err(SplitError::Unsplittable { head: BASE }));
    let around = protocol.split_around(whole(2), BASE.offset(4), Order::PAGE, &log);
    assert_eq!(around, Err(SplitError::OutOfRange));
}

#[test]
fn raw_puts_of_what_is_not_pinned() {
    let (words, log) = (words(), Log::default());
    let protocol = OneWord::new(&words, BASE);
    let put = |page: u64| protocol.raw_put(BASE.offset(page), &log);
    assert_eq!(put(1), Err(Cause::FrameIsFree));
    begin(&protocol, 2, Class::Splittable);
    assert_eq!((put(0), put(1)), (Err(Cause::NotPinned), Err(Cause::NotPinned)));
    assert_eq!(put(4), Err(Cause::FrameIsFree));
    protocol.put_pieces(whole(2), 1, &log);
    assert_eq!(put(0), Err(Cause::FrameIsFree));
    begin(&protocol, 2, Class::Unsplittable);
    assert_eq!((put(0), put(1)), (Err(Cause::NotPinned), Err(Cause::NotPinned)));
    let pin = protocol.try_get(BASE.offset(1), &log).unwrap();
    assert_eq!(pin.pin().counted_at, BASE);
    assert_eq!(put(3), Ok(()), "any page stands for the head");
    assert_eq!(protocol.state(BASE).pins, 0);
    // The unchecked form repairs what it has taken, and says so.
    protocol.put(pin, &log);
    assert_eq!(*log.misuses.lock().unwrap(), [(BASE, Operation::Put, Cause::NotPinned)]);
    assert_eq!(protocol.state(BASE).pins, 0);
    protocol.put_pieces(whole(2), 1, &log);
    protocol.put(pin, &log);
    assert_eq!(log.misuses.lock().unwrap()[1], (BASE, Operation::Put, Cause::FrameIsFree));
    assert_eq!(protocol.state(BASE).pins, 0);
}

#[test]
fn pins_beyond_the_limit_wherever_they_are_counted() {
    // A page, a head, a tail, and any page of a block whose tails are not counted.
    let cases = [
        (0, Class::Splittable, 0, 0),
        (2, Class::Splittable, 0, 0),
        (2, Class::Splittable, 1, 1),
        (2, Class::Unsplittable, 3, 0),
    ];
    for (of, class, page, counted_at) in cases {
        let (words, log) = (words(), Log::default());
        let protocol = OneWord::new(&words, BASE);
        begin(&protocol, of, class);
        let (page, counted_at) = (BASE.offset(page), BASE.offset(counted_at));
        let held = protocol.try_get(page, &log).unwrap();
        assert_eq!(held.pin().counted_at, counted_at);
        let word = protocol.word_at(counted_at);
        word.fetch_add(PIN_LIMIT - 2, Relaxed);
        let last = protocol.try_get(page, &log).unwrap();
        assert_eq!(protocol.try_get(page, &log).unwrap_err(), GetError::CountLimit);
        assert_eq!(protocol.get(held, &log), Err(GetError::CountLimit));
        assert_eq!(protocol.state(counted_at).pins, PIN_LIMIT);
        if class == Class::Splittable && of > 0 && counted_at == BASE {
            let of_a_tail = protocol.try_get(BASE.offset(2), &log).expect("a tail's hold is never refused");
            protocol.put(of_a_tail, &log);
        }
        word.fetch_sub(PIN_LIMIT - 2, Relaxed);
        [held, last].into_iter().for_each(|held| protocol.put(held, &log));
        protocol.put_pieces(whole(of), 1, &log);
        assert_eq!(*log.freed.lock().unwrap(), [(BASE, order(of))]);
        assert!(log.misuses.lock().unwrap().is_empty());
    }
}
