//! Every transition over all kinds, orders and flags and the interesting counts: it changes what it
//! says and nothing else.

use super::layout::*;
use crate::frame::Order;
use crate::page_state::{Kind, PageState};
use std::vec::Vec;

/// The fields a transition may or may not touch.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Fields {
    kind: u64,
    order: u8,
    pins: u64,
    refs: u64,
    generation: u8,
    flags: u64,
    explicit_tails: bool,
    piece: bool,
}

fn fields(word: PageWord) -> Fields {
    Fields {
        kind: word.kind_bits(),
        order: (word.0 >> ORDER_SHIFT & ORDER_MASK) as u8,
        pins: word.pins(),
        refs: word.refs(),
        generation: word.generation(),
        flags: word.0 & FLAGS,
        explicit_tails: !word.all_tails_implicit(),
        piece: word.is_piece(),
    }
}

const NOTHING: Fields = Fields {
    kind: TAIL,
    order: 0,
    pins: 0,
    refs: 0,
    generation: 0,
    flags: 0,
    explicit_tails: false,
    piece: false,
};

fn orders() -> impl Iterator<Item = Order> {
    Order::all()
}

/// All words worth looking at.
fn words() -> Vec<PageWord> {
    let mut all = Vec::new();
    for kind in TAIL..=UNSPLITTABLE {
        for order in orders() {
            for pins in [0, 1, 2, PIN_LIMIT - 1, PIN_LIMIT, PIN_LIMIT + 1022] {
                for refs in [0, 1, 2, REF_LIMIT - 1, REF_LIMIT] {
                    for flags in 0..16 {
                        for generation in [0, 1, GEN_MASK] {
                            let rest =
                                pins | refs << REFS_SHIFT | flags << FLAGS_SHIFT | generation << GEN_SHIFT;
                            all.push(PageWord::build(kind, order, rest));
                        }
                    }
                }
            }
        }
    }
    all
}

#[test]
fn fields_do_not_overlap() {
    for word in words() {
        let f = fields(word);
        let again = PageWord::build(
            f.kind,
            Order::new(f.order).unwrap(),
            f.pins
                | f.refs << REFS_SHIFT
                | u64::from(f.generation) << GEN_SHIFT
                | f.flags
                | (u64::from(f.explicit_tails) * EXPLICIT_TAILS)
                | (u64::from(f.piece) * PIECE),
        );
        assert_eq!(again, word);
    }
}

#[test]
fn zero_is_an_implicit_free_frame() {
    let zero = PageWord(0);
    assert!(zero.is_implicit() && zero.is_idle() && zero.is_tail());
    assert!(!zero.is_head() && !zero.is_live_head() && zero.pins() == 0);
    assert_eq!(zero.decode().kind, Kind::Implicit);
}

#[test]
fn pins_and_holds() {
    for word in words() {
        let before = fields(word);
        let held = fields(word.hold(1));
        let ordinary = if before.kind == SPLITTING_HEADS_ONLY { SPLITTING } else { before.kind };
        assert_eq!(
            held,
            Fields { pins: before.pins + 1, kind: ordinary, explicit_tails: true, ..before },
            "a hold is never refused"
        );
        match word.pin(1) {
            Some(pinned) => assert_eq!(fields(pinned), Fields { pins: before.pins + 1, ..before }),
            None => assert!(before.pins + 1 > PIN_LIMIT),
        }
        match word.unpin(1) {
            Some(less) => assert_eq!(fields(less), Fields { pins: before.pins - 1, ..before }),
            None => assert_eq!(before.pins, 0),
        }
    }
}

#[test]
fn references() {
    for word in words() {
        let before = fields(word);
        assert_eq!(word.add_refs(1).is_some(), before.refs < REF_LIMIT, "up to the limit and no further");
        for far in [REF_LIMIT + 1, 1 << 46, 1 << 63, u64::MAX - before.refs, u64::MAX - 3, u64::MAX] {
            assert!(word.add_refs(far).is_none() && word.drop_refs(far).is_none());
            assert!(far <= PIN_LIMIT || word.pin(far).is_none());
        }
        match word.add_refs(2) {
            Some(more) => assert_eq!(fields(more), Fields { refs: before.refs + 2, ..before }),
            None => assert!(before.refs + 2 > REF_LIMIT),
        }
        match word.drop_refs(2) {
            Some(less) => assert_eq!(fields(less), Fields { refs: before.refs - 2, ..before }),
            None => assert!(before.refs < 2),
        }
    }
}

#[test]
fn a_fresh_block_has_one_reference_and_nothing_else() {
    for word in words().into_iter().filter(|word| word.is_idle()) {
        for order in orders() {
            let fresh = word.publish(order, false);
            let generation = (word.generation() + 1) % (GEN_MASK as u8 + 1);
            let explicit_tails = !word.all_tails_implicit() && order > Order::PAGE;
            let expected =
                Fields { kind: HEAD, order: order.get(), refs: 1, generation, explicit_tails, ..NOTHING };
            assert_eq!(fields(fresh), expected);
            assert!(fresh.is_live_head() && fresh.is_settled_head() && !fresh.is_unsplittable());
            assert!(orders().all(|other| fresh.was_of(other) == (other == order)));
            let unsplittable = word.publish(order, true);
            assert_eq!(fields(unsplittable), Fields { kind: UNSPLITTABLE, ..expected });
            assert!(unsplittable.is_settled_head() && unsplittable.is_unsplittable());
        }
    }
}

#[test]
fn a_loose_block_is_claimed_as_what_it_was() {
    for word in words().into_iter().filter(|word| word.is_idle()) {
        for order in [Order::PAGE, Order::HUGE] {
            let uncoalesced = word.as_uncoalesced(order);
            assert!(
                Order::all().all(|other| uncoalesced.is_uncoalesced(other) == (other == order)),
                "{uncoalesced:?}"
            );
            assert!(
                !uncoalesced.is_idle()
                    && !uncoalesced.is_implicit()
                    && !uncoalesced.is_tail()
                    && !uncoalesced.is_head()
            );
            let explicit_tails = !word.all_tails_implicit() && order > Order::PAGE;
            let generation = word.generation();
            let free = Fields { kind: FREE, generation, explicit_tails, ..NOTHING };
            assert_eq!(fields(uncoalesced.claimed()), free);
            assert!(uncoalesced.claimed().is_idle());
            // In one step or two, the block that begins is the same.
            assert_eq!(uncoalesced.publish(order, false), uncoalesced.claimed().publish(order, false));
        }
    }
    let every = words().into_iter().flat_map(|word| Order::all().map(move |order| (word, order)));
    for (word, order) in every {
        let f = fields(word);
        let marked = f.kind == FREE && word.has_hwpoisoned() && f.order == order.get();
        let uncoalesced = marked && f.pins == 0 && f.refs == 0 && !word.is_hwpoison();
        assert_eq!(word.is_uncoalesced(order), uncoalesced, "nothing else is uncoalesced: {word:?}");
    }
}

#[test]
fn a_split_keeps_pins_references_and_flags() {
    for word in words().into_iter().filter(|word| word.kind_bits() == HEAD && word.order() > Order::PAGE) {
        let before = fields(word);
        let lowest = if word.order() > Order::HUGE { Order::HUGE } else { Order::PAGE };
        for target in orders().filter(|target| lowest <= *target && *target < word.order()) {
            let begun = word.begin_split(target);
            assert!(begun.is_splitting() && begun.target() == target && begun.order() == word.order());
            assert_eq!((begun.pins(), begun.refs()), (before.pins, before.refs));
            let small = word.order() <= Order::HUGE;
            let heads_only = small && target > Order::PAGE && word.all_tails_implicit();
            assert_eq!(begun.is_heads_only_split(), heads_only);
            assert_eq!(
                begun.all_tails_implicit(),
                if small { heads_only } else { word.all_tails_implicit() }
            );
            // A hold that is taken during it makes it ordinary and is there afterwards.
            assert!(!begun.hold(1).is_heads_only_split());
            let (held, ended) = (fields(begun.hold(1).end_split()), fields(begun.end_split()));
            let has_tails = target > Order::PAGE;
            assert_eq!(held, Fields { pins: before.pins + 1, explicit_tails: has_tails, ..ended });
            let explicit_tails = has_tails && !begun.all_tails_implicit();
            assert_eq!(ended, Fields { order: target.get(), explicit_tails, ..before });
        }
    }
}

#[test]
fn a_head_knows_what_it_was_part_of() {
    for order in orders().skip(1) {
        let whole = PageWord(0).publish(order, false);
        for target in orders().filter(|target| whole.smallest_pieces() <= *target && *target < order) {
            let begun = whole.begin_split(target);
            assert!(orders().all(|other| begun.was_of(other) == (other == order)));
            let first = begun.end_split();
            assert!(orders().all(|other| first.was_of(other) == (target <= other && other <= order)));
            let piece = PageWord(0).piece(begun, 1);
            assert!(!first.is_piece() && piece.is_piece());
            assert!(orders().all(|other| piece.was_of(other) == (other == target)));
            // A second time the step is shorter, so that it can be told from the first.
            let lowest = first.smallest_pieces();
            for lower in orders().filter(|lower| lowest <= *lower && *lower < target) {
                let again = first.begin_split(lower);
                assert_eq!((again.is_splitting(), again.target(), again.order()), (true, lower, target));
                assert_eq!(again.end_split().order(), lower);
                for word in [again, again.end_split()] {
                    assert!(orders().all(|other| word.was_of(other) == (word.order() <= other)));
                }
            }
            let merged = first.begin_merge(order, true).end_merge();
            assert!(orders().all(|other| merged.was_of(other) == (other == order)));
            assert_ne!(merged.generation(), first.generation());
        }
    }
    let renewed = PageWord::build(HEAD, Order::HUGE, GEN_MASK << GEN_SHIFT | ONE_REF).renewed();
    assert_eq!(renewed, PageWord::build(HEAD, Order::HUGE, ONE_REF));
}

#[test]
fn a_tail_keeps_its_pins_through_everything() {
    for word in words().into_iter().filter(|word| word.is_tail() && word.refs() == 0) {
        let before = fields(word);
        for (order, target) in [(1, 0), (2, 1), (9, 0), (9, 8), (10, 9), (18, 9), (18, 17)] {
            for (all_tails_implicit, has_hwpoisoned) in
                [(false, false), (false, true), (true, false), (true, true)]
            {
                let head = PageWord::build(HEAD, Order::wrap(order), 2 * ONE_REF);
                let head = if all_tails_implicit { head } else { head.with_explicit_tails() };
                let begun = (if has_hwpoisoned { head.mark_has_hwpoisoned() } else { head })
                    .begin_split(Order::wrap(target));
                let generation = (before.generation + 1) % (GEN_MASK as u8 + 1);
                let has_hwpoisoned = if has_hwpoisoned && target > 0 { HAS_HWPOISONED } else { 0 };
                let expected = Fields {
                    kind: HEAD,
                    order: target,
                    pins: before.pins,
                    refs: 3,
                    generation,
                    flags: before.flags & HWPOISON | has_hwpoisoned,
                    // The parts of a larger block know about their own tails.
                    explicit_tails: target > 0
                        && if order > 9 { before.explicit_tails } else { !all_tails_implicit },
                    piece: true,
                };
                assert_eq!(fields(word.piece(begun, 3)), expected);
                let merged = word.piece(begun, 1).tail_of(Order::wrap(order));
                assert_eq!((merged.pins(), merged.refs(), merged.order().get()), (before.pins, 0, order));
            }
        }
        for order in orders() {
            let moved = fields(word.tail_of(order));
            let flags = before.flags & HWPOISON;
            assert_eq!(moved, Fields { order: order.get(), flags, piece: false, ..before });
        }
    }
}

#[test]
fn a_merge_changes_only_order_and_generation_of_its_head() {
    for word in words().into_iter().filter(|word| word.kind_bits() == HEAD && word.order() < Order::MAX) {
        let before = fields(word);
        for all_tails_implicit in [false, true] {
            let merging = word.begin_merge(Order::MAX, all_tails_implicit);
            assert!(merging.is_merging() && merging.is_live_head() == word.is_live_head());
            let generation = (before.generation + 1) % (GEN_MASK as u8 + 1);
            let expected =
                Fields { order: Order::MAX.get(), explicit_tails: !all_tails_implicit, generation, ..before };
            assert_eq!(fields(merging.end_merge()), expected);
        }
    }
}

#[test]
fn what_is_freed_is_idle_or_offline() {
    for word in words() {
        let freed = word.freed();
        assert_eq!(freed.generation(), word.generation());
        assert!(freed.pins() == 0 && freed.refs() == 0 && !freed.is_live_head());
        assert_eq!(freed.is_idle(), !word.is_hwpoison());
        assert!(!freed.is_implicit(), "a freed frame does not look like an implicit tail");
        assert!(word.as_implicit().is_implicit() && !word.as_offline().is_idle());
        assert_eq!(freed.all_tails_implicit(), word.all_tails_implicit() || word.order() < Order::HUGE);
        for all_tails_implicit in [false, true] {
            let as_free = word.as_free(all_tails_implicit);
            assert!(as_free.is_idle() && as_free.all_tails_implicit() == all_tails_implicit);
        }
        let needs_a_look =
            word.is_live_head() || word.is_hwpoison() || word.has_hwpoisoned() || word.order() > Order::HUGE;
        match word.frees_at_once() {
            Some(at_once) => assert_eq!(at_once, freed),
            None => assert!(needs_a_look),
        }
        assert_eq!(word.frees_at_once().is_none(), needs_a_look);
    }
}

#[test]
fn counts_near_the_end_of_the_numbers_are_refused() {
    for word in words() {
        for n in [u64::MAX, u64::MAX - 3, u64::MAX - REF_LIMIT, u64::MAX - PIN_LIMIT, PIN_LIMIT + 1] {
            assert_eq!(word.pin(n), None, "{word:?} pins {n}");
            assert_eq!(word.add_refs(n), None, "{word:?} references {n}");
            assert_eq!(word.unpin(n).map(PageWord::pins), word.pins().checked_sub(n));
            assert_eq!(word.drop_refs(n), None, "{word:?} references {n} less");
        }
    }
}

#[test]
fn limits_leave_room_for_holds() {
    let full = PageWord::build(HEAD, Order::HUGE, PIN_LIMIT | REF_LIMIT << REFS_SHIFT);
    assert!(full.pin(1).is_none() && full.add_refs(1).is_none());
    let held = full.hold(2 * 511);
    assert_eq!((held.pins(), held.refs()), (PIN_LIMIT + 1022, REF_LIMIT));
}

#[test]
fn a_block_freed_in_one_step_becomes_what_the_long_way_makes_of_it() {
    for order in [Order::PAGE, Order::HUGE] {
        let block = PageWord(0).publish(order, false);
        let long_way =
            |word: PageWord| word.drop_refs(1)?.frees_at_once().map(|freed| freed.as_uncoalesced(order));
        assert_eq!(block.frees_uncoalesced(order), long_way(block));
        assert!(block.frees_uncoalesced(order).unwrap().is_uncoalesced(order));
        if order > Order::PAGE {
            let explicit_tails = block.with_explicit_tails();
            assert_eq!(explicit_tails.frees_uncoalesced(order), long_way(explicit_tails));
        } else {
            assert_eq!(block.with_explicit_tails().frees_uncoalesced(order), None);
        }
        let pieces = [PageWord(block.0 | PIECE), PageWord(block.0 | PIECE | 9 << DROP_SHIFT)];
        for uncoalesced in pieces.map(|piece| piece.frees_uncoalesced(order).unwrap()) {
            let plain = block.frees_uncoalesced(order).unwrap();
            assert!(uncoalesced.is_uncoalesced(order) && !uncoalesced.is_idle());
            // What it was part of ends with whatever becomes of it next.
            assert_eq!(uncoalesced.claimed(), plain.claimed());
            assert_eq!(uncoalesced.publish(order, false), plain.publish(order, false));
            assert_eq!(uncoalesced.as_offline(), plain.as_offline());
        }
        for word in [
            block.pin(1).unwrap(),
            block.add_refs(1).unwrap(),
            block.drop_refs(1).unwrap(),
            block.mark_hwpoison(),
            block.mark_has_hwpoisoned(),
            PageWord(0).publish(order, true),
            PageWord(0).publish(Order::new(4).unwrap(), false),
            block.frees_uncoalesced(order).unwrap(),
            PageWord::reserved(),
        ] {
            assert_eq!(word.frees_uncoalesced(order), None, "{word:?}");
        }
    }
}

#[test]
fn decoding_names_every_field() {
    for word in words() {
        let f = fields(word);
        let only_generation = Fields { generation: f.generation, ..NOTHING } == f;
        let kind = match f.kind {
            TAIL if only_generation => Kind::Implicit,
            TAIL => Kind::Tail,
            FREE => Kind::Free,
            HEAD | UNSPLITTABLE if f.order == 0 => Kind::Page,
            HEAD | UNSPLITTABLE => Kind::Head,
            SPLITTING | SPLITTING_HEADS_ONLY => Kind::Splitting,
            MERGING => Kind::Merging,
            _ if f.flags & HWPOISON == 0 => Kind::Reserved,
            _ => Kind::Offline,
        };
        let expected = PageState {
            kind,
            order: Order::new(f.order).unwrap(),
            pins: f.pins,
            refs: f.refs,
            generation: f.generation,
            unsplittable: f.kind == UNSPLITTABLE,
            hwpoison: f.flags & HWPOISON != 0,
        };
        assert_eq!(word.decode(), expected);
    }
    assert_eq!(PageWord(!0).decode().order, Order::MAX, "an order that does not exist");
}

#[test]
fn marks_are_set_once_and_change_nothing_else() {
    for word in words() {
        let before = fields(word);
        let several = (SPLITTING..=UNSPLITTABLE).contains(&before.kind) && before.order > 0;
        let has_hwpoisoned = if several { HAS_HWPOISONED } else { 0 };
        let marked = Fields { flags: before.flags | HWPOISON | has_hwpoisoned, ..before };
        assert_eq!(fields(word.mark_hwpoison()), marked, "the head of several frames is told");
        let has_hwpoisoned = word.mark_has_hwpoisoned();
        assert_eq!(fields(has_hwpoisoned), Fields { flags: before.flags | HAS_HWPOISONED, ..before });
        assert!(
            has_hwpoisoned.has_hwpoisoned() && word.has_hwpoisoned() == (before.flags & HAS_HWPOISONED != 0)
        );
        assert_eq!(fields(word.with_explicit_tails()), Fields { explicit_tails: true, ..before });
        let aside = Fields { kind: OUT, flags: HWPOISON, generation: before.generation, ..NOTHING };
        assert_eq!(fields(word.as_offline()), aside);
    }
}

#[test]
fn short_cuts_say_what_the_fields_say() {
    for word in words() {
        let f = fields(word);
        let settled = matches!(f.kind, HEAD | UNSPLITTABLE);
        let splitting = matches!(f.kind, SPLITTING | SPLITTING_HEADS_ONLY);
        assert_eq!((word.is_tail(), word.is_settled_head()), (f.kind == TAIL, settled));
        assert_eq!((word.is_splitting(), word.is_merging()), (splitting, f.kind == MERGING));
        assert_eq!(word.is_head(), settled || splitting || f.kind == MERGING);
        let counted = f.pins > 0 || f.refs > 0;
        assert_eq!(word.is_pinnable_alone(), settled && counted || f.kind == TAIL && f.pins > 0);
        assert_eq!(word.is_live_head(), (SPLITTING..=UNSPLITTABLE).contains(&f.kind) && counted);
        let mergeable = f.kind == HEAD && f.refs == 1;
        assert_eq!(word.is_mergeable(), mergeable);
        let plain = f.kind == HEAD && f.order == 0 && f.flags == 0 && f.pins == 0 && f.refs == 1;
        assert_eq!(word.is_plain_page(), plain);
        assert_eq!(
            word.is_idle(),
            matches!(f.kind, TAIL | FREE) && f.pins == 0 && f.flags == 0,
            "references of what is no head mean nothing"
        );
        for order in [Order::PAGE, Order::wrap(1), Order::HUGE, Order::MAX] {
            assert_eq!(word.is_settled_head_of(order), settled && f.order == order.get());
            let plain = Fields { order: f.order, generation: f.generation, ..NOTHING } == f;
            assert_eq!(word.is_plain_tail_of(order), plain && (f.order == 0 || f.order == order.get()));
        }
        for n in [0, 1, 2, 3, REF_LIMIT - 1] {
            assert_eq!(word.has_more_refs_than(n), f.refs > n);
            assert_eq!(word.has_room_for_refs(n), f.refs > 0 && f.refs + n <= REF_LIMIT);
        }
        for n in [REF_LIMIT, u64::MAX] {
            assert!(!word.has_more_refs_than(n) && !word.has_room_for_refs(n));
        }
    }
    let beyond = PageWord::build(HEAD, Order::PAGE, REFS_MASK << REFS_SHIFT);
    assert!(!beyond.has_more_refs_than(REF_LIMIT) && !beyond.has_room_for_refs(0));
}

#[test]
fn a_head_to_hold_is_a_settled_one_of_just_that_order_whose_tails_are_counted() {
    for word in words() {
        for order in orders() {
            let meant = word.is_settled_head() && word.is_live_head() && !word.is_unsplittable();
            assert_eq!(word.is_head_to_hold_of(order), meant && word.order() == order, "{word:?}");
            if word.is_head_to_hold_of(order) {
                assert_eq!(word.hold_settled(), word.hold(1));
            }
        }
    }
}
