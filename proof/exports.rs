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
    fn is_hwpoison(w) = word(w).is_hwpoison();
    fn has_hwpoisoned(w) = word(w).has_hwpoisoned();
    fn is_implicit(w) = word(w).is_implicit();
    fn all_tails_implicit(w) = word(w).all_tails_implicit();
    fn is_tail(w) = word(w).is_tail();
    fn is_head(w) = word(w).is_head();
    fn is_settled_head(w) = word(w).is_settled_head();
    fn is_splitting(w) = word(w).is_splitting();
    fn is_heads_only_split(w) = word(w).is_heads_only_split();
    fn is_merging(w) = word(w).is_merging();
    fn is_live_head(w) = word(w).is_live_head();
    fn is_pinnable_alone(w) = word(w).is_pinnable_alone();
    fn is_settled_head_of(w, o) = word(w).is_settled_head_of(order(o));
    fn is_head_to_hold_of(w, o) = word(w).is_head_to_hold_of(order(o));
    fn has_more_refs_than(w, n) = word(w).has_more_refs_than(n);
    fn has_room_for_refs(w, n) = word(w).has_room_for_refs(n);
    fn is_plain_tail_of(w, o) = word(w).is_plain_tail_of(order(o));
    fn is_mergeable(w) = word(w).is_mergeable();
    fn is_plain_page(w) = word(w).is_plain_page();
    fn is_idle(w) = word(w).is_idle();
    fn is_piece(w) = word(w).is_piece();
    fn was_of(w, o) = word(w).was_of(order(o));
    fn smallest_pieces(w) = word(w).smallest_pieces();
    fn is_uncoalesced(w, o) = word(w).is_uncoalesced(order(o));

    fn as_uncoalesced(w, o) = word(w).as_uncoalesced(order(o));
    fn claimed(w) = word(w).claimed();
    fn pin / pin_allowed(w, n) = word(w).pin(n);
    fn hold(w, n) = word(w).hold(n);
    fn hold_settled(w) = word(w).hold_settled();
    fn with_explicit_tails(w) = word(w).with_explicit_tails();
    fn as_free(w, flag) = word(w).as_free(flag != 0);
    fn unpin / unpin_allowed(w, n) = word(w).unpin(n);
    fn add_refs / add_refs_allowed(w, n) = word(w).add_refs(n);
    fn drop_refs / drop_refs_allowed(w, n) = word(w).drop_refs(n);
    fn tail_of(w, o) = word(w).tail_of(order(o));
    fn publish(w, o, flag) = word(w).publish(order(o), flag != 0);
    fn freed(w) = word(w).freed();
    fn frees_at_once / frees_at_once_allowed(w) = word(w).frees_at_once();
    fn frees_uncoalesced / frees_uncoalesced_allowed(w, o) = word(w).frees_uncoalesced(order(o));
    fn as_implicit(w) = word(w).as_implicit();
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
    fn as_offline(w) = word(w).as_offline();
    fn back_in_service(w) = word(w).back_in_service();
    fn mark_hwpoison(w) = word(w).mark_hwpoison();
    fn mark_has_hwpoisoned(w) = word(w).mark_has_hwpoisoned();

    fn decoded_kind(w) = word(w).decode().kind;
    fn decoded_order(w) = word(w).decode().order;
    fn decoded_pins(w) = word(w).decode().pins;
    fn decoded_refs(w) = word(w).decode().refs;
    fn decoded_generation(w) = word(w).decode().generation;
    fn decoded_unsplittable(w) = word(w).decode().unsplittable;
    fn decoded_hwpoison(w) = word(w).decode().hwpoison;
    fn pin_limit() = super::page_word::PIN_LIMIT;
    fn ref_limit() = super::page_word::REF_LIMIT;
    fn one_ref() = super::page_word::ONE_REF;
}
