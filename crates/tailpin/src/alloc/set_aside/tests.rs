//! Which words say that a page or pageblock is about to become uncoalesced.

use super::*;

#[test]
fn what_has_lost_its_last_reference_and_pin_is_dying_if_it_may_become_uncoalesced() {
    let orders = || (0..=Order::HUGE.get()).map(Order::wrap);
    let kinds =
        [Kind::Implicit, Kind::Free, Kind::Page, Kind::Head, Kind::Tail, Kind::Splitting, Kind::Offline];
    for (kind, order, at) in kinds
        .into_iter()
        .flat_map(|kind| orders().flat_map(move |order| orders().map(move |at| (kind, order, at))))
    {
        for (refs, pins) in [(0, 0), (0, 1), (1, 0), (2, 3)] {
            let state = PageState { kind, order, refs, pins, ..PageState::NOT_IN_ZONE };
            let heads = kind == Kind::Page || kind == Kind::Head;
            // Blocks of other orders are parked, and are found where they are named.
            let may = at == order && (order == Order::PAGE || order == Order::HUGE);
            assert_eq!(Found::is_dying(state, at), heads && may && refs + pins == 0, "{state} at {at}");
        }
    }
}
