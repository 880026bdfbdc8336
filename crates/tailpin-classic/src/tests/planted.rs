//! Words that a stray write has changed: what is found, and what is refused.

use super::*;

#[test]
fn a_frame_in_a_bad_state_stays_behind_when_its_block_is_freed() {
    let bad = BASE.offset(2);
    let plants: [&dyn Fn(&Classic<'_>); 4] = [
        &|classic| classic.count(bad).store(1, Ordering::Relaxed),
        &|classic| classic.mapcount(bad).store(1, Ordering::Relaxed),
        &|classic| classic.flags(bad).store(page::PG_TAIL | page::PG_COMPOUND_LOCK, Ordering::Relaxed),
        &|classic| classic.flags(bad).store(page::PG_TAIL | page::PG_RESERVED, Ordering::Relaxed),
    ];
    for plant in plants {
        let (words, log) = (map(512), Log::default());
        let classic = Classic::new(&words, BASE);
        begin(&classic, order(2), SPLITTABLE);
        plant(&classic);
        classic.put_pieces(whole(order(2)), 1, &log);
        assert_eq!(log.causes(), [(Operation::Free, Cause::BadState)]);
        assert_eq!(*log.retired.lock().unwrap(), [bad]);
        assert_eq!(
            *log.frames.lock().unwrap(),
            [(BASE, FrameMask::from_words([0b1011, 0, 0, 0, 0, 0, 0, 0]))]
        );
        assert_eq!(log.blocks(), []);
        assert_eq!(classic.state(bad).kind, Kind::Offline);
    }
}

#[test]
fn the_audit_finds_what_is_planted() {
    const OF: u8 = 2;
    let found = |pins: &[u64], plant: &dyn Fn(&Classic<'_>)| {
        let (words, log) = (map(512), Log::default());
        let classic = Classic::new(&words, BASE);
        begin(&classic, order(OF), SPLITTABLE);
        for page in pins {
            classic.try_get(BASE.offset(*page), &log).unwrap();
        }
        plant(&classic);
        let mut found = Vec::new();
        let pinned =
            classic.audit_block(BASE, order(OF), &mut |at, what| found.push((at.get() - BASE.get(), what)));
        (found, pinned)
    };
    let add = |word: &AtomicU64, n: u64| {
        word.fetch_add(n, Ordering::Relaxed);
    };
    let sub = |word: &AtomicU64, n: u64| {
        word.fetch_sub(n, Ordering::Relaxed);
    };
    let tail = BASE.offset(3);

    for (pins, pinned) in
        [(&[][..], 0), (&[0], 1), (&[1], 1), (&[1, 1], 1), (&[0, 3, 3], 2), (&[0, 1, 2, 3], 4)]
    {
        assert_eq!(found(pins, &|_| ()), (vec![], pinned), "pins {pins:?}");
    }
    let one = |at: u64, what: &'static str| vec![(at, what)];
    let lock = found(&[], &|classic| add(classic.flags(BASE), page::PG_COMPOUND_LOCK));
    assert_eq!(lock.0, one(0, "a compound lock was left taken"));
    let other_order = found(&[], &|classic| sub(classic.order_word(BASE), 1));
    assert_eq!(other_order.0, one(0, "a head has another order than its block"));
    let no_tail = "a frame inside a block is not a tail of its head";
    assert_eq!(found(&[], &|classic| sub(classic.flags(tail), page::PG_TAIL)).0, one(3, no_tail));
    assert_eq!(found(&[], &|classic| add(classic.first_page(tail), 1)).0, one(3, no_tail));
    assert_eq!(found(&[], &|classic| add(classic.count(tail), 1)).0, one(3, "a tail has a count"));
    let uncounted = found(&[3], &|classic| add(classic.flags(BASE), page::PG_HUGETLB));
    assert_eq!(uncounted.0, one(3, "a tail of an unsplittable block is counted"));
    let too_few = "a head counts less than its references and its tails' pins";
    assert_eq!(found(&[3, 1], &|classic| sub(classic.count(BASE), 1)), (one(0, too_few), 2));
}

#[test]
fn a_count_that_is_gone_or_below_zero_takes_no_more() {
    let (words, log) = (map(512), Log::default());
    let classic = Classic::new(&words, BASE);
    begin(&classic, Order::PAGE, SPLITTABLE);
    for count in [0, count::NEGATIVE, u64::MAX] {
        classic.count(BASE).store(count, Ordering::Relaxed);
        assert_eq!(classic.get_pieces(whole(Order::PAGE), 1, &log), Err(GetError::NotInUse));
        assert_eq!(classic.drop_refs(BASE, 1), Err(count));
        assert_eq!(classic.count(BASE).load(Ordering::Relaxed), count);
    }
}

#[test]
fn a_tail_is_one_while_its_head_heads_a_block_in_use() {
    let words = map(512);
    let classic = Classic::new(&words, BASE);
    begin(&classic, order(1), SPLITTABLE);
    let tail = || classic.state(BASE.offset(1)).kind;
    assert_eq!(tail(), Kind::Tail);
    classic.count(BASE).store(0, Ordering::Relaxed);
    assert_eq!(tail(), Kind::Free);
    classic.count(BASE).store(1, Ordering::Relaxed);
    classic.flags(BASE).fetch_sub(page::PG_HEAD, Ordering::Relaxed);
    assert_eq!(tail(), Kind::Free);
}
