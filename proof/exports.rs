//! Every function of the page word, by the name it has there. This list and `transitions.py` are
//! all that names them.

use super::page_word::PageWord;
use crate::frame::Order;

impl crate::Number for PageWord {
    fn number(self) -> u64 {
        self.0
    }
}

const fn word(bits: u64) -> PageWord {
    PageWord::from_bits(bits)
}

const fn order(exponent: u64) -> Order {
    Order::wrap(exponent as u8)
}

crate::symbols! {
    fn pins(w) = word(w).pins();
    fn refs(w) = word(w).refs();
    fn generation(w) = word(w).generation();
    fn order_of(w) = word(w).order();
    fn target(w) = word(w).target();
    fn is_unsplittable(w) = word(w).is_unsplittable();
    fn is_poisoned(w) = word(w).is_poisoned();
    fn is_wary(w) = word(w).is_wary();
    fn is_rest(w) = word(w).is_rest();
    fn tails_rest(w) = word(w).tails_rest();
    fn is_tail(w) = word(w).is_tail();
    fn is_head(w) = word(w).is_head();
    fn is_settled_head(w) = word(w).is_settled_head();
    fn is_splitting(w) = word(w).is_splitting();
    fn is_splitting_clean(w) = word(w).is_splitting_clean();
    fn is_merging(w) = word(w).is_merging();
    fn is_live_head(w) = word(w).is_live_head();
    fn is_pinnable_alone(w) = word(w).is_pinnable_alone();
    fn is_settled_head_of(w, o) = word(w).is_settled_head_of(order(o));
    fn has_more_refs_than(w, n) = word(w).has_more_refs_than(n);
    fn has_room_for_refs(w, n) = word(w).has_room_for_refs(n);
    fn is_plain_tail_of(w, o) = word(w).is_plain_tail_of(order(o));
    fn is_mergeable(w) = word(w).is_mergeable();
    fn is_plain_page(w) = word(w).is_plain_page();
    fn is_idle(w) = word(w).is_idle();
    fn is_piece(w) = word(w).is_piece();
    fn was_of(w, o) = word(w).was_of(order(o));
    fn smallest_pieces(w) = word(w).smallest_pieces();
    fn is_loose(w, o) = word(w).is_loose(order(o));

    fn loosened(w, o) = word(w).loosened(order(o));
    fn claimed(w) = word(w).claimed();
    fn pin / pin_allowed(w, n) = word(w).pin(n);
    fn hold(w, n) = word(w).hold(n);
    fn recorded(w) = word(w).recorded();
    fn readied(w, flag) = word(w).readied(flag != 0);
    fn unpin / unpin_allowed(w, n) = word(w).unpin(n);
    fn add_refs / add_refs_allowed(w, n) = word(w).add_refs(n);
    fn drop_refs / drop_refs_allowed(w, n) = word(w).drop_refs(n);
    fn tail_of(w, o) = word(w).tail_of(order(o));
    fn publish(w, o, flag) = word(w).publish(order(o), flag != 0);
    fn freed(w) = word(w).freed();
    fn frees_at_once / frees_at_once_allowed(w) = word(w).frees_at_once();
    fn loosens / loosens_allowed(w, o) = word(w).loosens(order(o));
    fn rested(w) = word(w).rested();
    fn begin_split(w, o) = word(w).begin_split(order(o));
    fn begin_self_split(w, o) = word(w).begin_self_split(order(o));
    fn begin_last_split(w, o) = word(w).begin_last_split(order(o));
    fn end_split(w) = word(w).end_split();
    fn page(w, n) = word(w).page(n);
    fn piece(w, begun, n) = word(w).piece(word(begun), n);
    fn begin_merge(w, o, flag) = word(w).begin_merge(order(o), flag != 0);
    fn end_merge(w) = word(w).end_merge();
    fn set_apart(w) = word(w).set_apart();
    fn adopted(w) = word(w).adopted();
    fn renewed(w) = word(w).renewed();
    fn reserved() = PageWord::reserved();
    fn set_aside(w) = word(w).set_aside();
    fn poisoned(w) = word(w).poisoned();
    fn wary(w) = word(w).wary();

    fn decoded_kind(w) = word(w).decode().kind;
    fn decoded_order(w) = word(w).decode().order;
    fn decoded_pins(w) = word(w).decode().pins;
    fn decoded_refs(w) = word(w).decode().refs;
    fn decoded_generation(w) = word(w).decode().generation;
    fn decoded_unsplittable(w) = word(w).decode().unsplittable;
    fn decoded_poisoned(w) = word(w).decode().poisoned;
    fn pin_limit() = super::page_word::PIN_LIMIT;
    fn ref_limit() = super::page_word::REF_LIMIT;
    fn one_ref() = super::page_word::ONE_REF;
}
