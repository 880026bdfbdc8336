//! Protective steps, left out one at a time.
//!
//! Each switch says what is missing and what should come of it. [`Switched`] implements the step traits of both
//! protocols and leaves out whatever is switched off on the current OS thread; with nothing switched off it is the
//! protocol as it ships.

use std::cell::Cell;
use std::sync::atomic::Ordering;

use tailpin::{AtomicWord, Order, PageWord, Pfn, classic, one_word};

use crate::family::Which;

macro_rules! switches {
    ($($id:ident $name:literal $which:ident $without:literal;)*) => {
        /// A protective step that can be left out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Switch {
            $(#[doc = $without] $id,)*
        }

        impl Switch {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$id),*];

            /// The name on the command line and in reports.
            pub fn name(self) -> &'static str {
                match self { $(Self::$id => $name,)* }
            }

            /// The protocol that the step is of.
            pub fn protocol(self) -> Which {
                match self { $(Self::$id => Which::$which,)* }
            }

            /// Whether the step's absence is not missed because another step, still there, catches what it lets through.
            pub fn is_covered_by_others(self) -> bool {
                matches!(self, Self::H3Tail | Self::H4 | Self::H12)
            }

            /// What is done without the step.
            pub fn without(self) -> &'static str {
                match self { $(Self::$id => $without,)* }
            }
        }
    };
}

switches! {
    H1 "H1" Classic "the compound lock is taken without a reference on the head";
    H2 "H2" Classic "the count becomes 1 before the page is prepared as compound: the lock bit is lost";
    H2Stuck "H2-stuck" Classic "the same: the lock bit is put back after the unlock and stays";
    H3 "H3" Classic "no write barrier between the prepared block and its count";
    H3Tail "H3-tail" Classic "PG_tail is set before first_page";
    H4 "H4" Classic "a page that is its own head is taken for a tail";
    H5 "H5" Classic "what is freed is what the head once was, not what it is at zero";
    H6 "H6" Classic "whether tails are counted is asked before there is a reference (also H17)";
    H8 "H8" OneWord "the second attempt at a futex key asks for more than the first has proved";
    H9 "H9" OneWord "a futex key is made from a page that is no longer pinned";
    H10 "H10" OneWord "a futex key has the index of the head, not of the exact base page";
    H11 "H11" OneWord "whose a page is, a head says that it may no longer belong to";
    H12 "H12" Classic "PG_tail is not looked at again after first_page";
    H13 "H13" Classic "page and head are not compared again under the reference";
    H13Entry "H13-entry" OneWord "the entry is not looked at again after the pin";
    H14 "H14" Classic "flags of a reachable page are read, modified and written";
    H14Barrier "H14-barrier" Classic "no barrier between a tail's count and the end of its PG_tail";
    H15 "H15" Classic "whoever drops a reference frees, though others have some";
    H16 "H16" Classic "a count that others may raise is zeroed by a store";
    H18 "H18" Classic "references are not refused near overflow";
    H19 "H19" OneWord "only the last entry is looked at again after the pin, not the tables above it";
    H19Wait "H19-wait" OneWord "a page table is used again while a walk may be in it";
    H21Pin "H21-pin" OneWord "no barrier between a pin by address and the second look";
    H21Change "H21-change" OneWord "no barrier between the change of an entry and reading the count";
    H25 "H25" OneWord "that a page may only be read is remembered from one look to the next";
    FWait "F-wait" OneWord "no barrier between announcing a waiter and reading its word";
    FWake "F-wake" OneWord "no barrier between changing a word and looking for waiters";
    FLook "F-look" OneWord "the word is read before the bucket is locked";
    FMove "F-move" OneWord "waiters that are requeued are not announced where they go";
    W1 "W1" OneWord "the head is held only before and after a tail's first pin, not during it";
    W2 "W2" OneWord "a hold is taken on whatever is found, not on the head meant";
    W3 "W3" OneWord "a failed first pin is not looked at again";
    W4 "W4" OneWord "not in use is said without another look";
    W5 "W5" OneWord "references go on changing while the block is split";
    W6 "W6" OneWord "a tail's hold is not given back";
    W7 "W7" OneWord "pins come under a new head without a hold";
    W8 "W8" OneWord "a hold does not mark a clean split";
    W9 "W9" OneWord "the head is settled before its tails";
    W10 "W10" OneWord "what others have rewritten is rewritten again";
    W11 "W11" OneWord "the split ends with the value it began with";
    W12 "W12" OneWord "pieces get one reference each, however many the block has";
    W13 "W13" OneWord "a piece with a hold in passing is merged as it is";
    W14 "W14" OneWord "a hold leaves no mark on a settled head";
    W15 "W15" OneWord "pieces made while a split was clean go on saying that their tails rest";
    W16 "W16" OneWord "a fresh block says that its tails rest without a look";
    WRelease "W-release" OneWord "publication is a Relaxed store";
    WAcquire "W-acquire" OneWord "a conditional get is not an Acquire";
    WDrop "W-drop" OneWord "a put is Relaxed";
}

thread_local! {
    static OFF: Cell<Option<Switch>> = const { Cell::new(None) };
}

/// Whether a step is left out now.
pub(crate) fn off(switch: Switch) -> bool {
    OFF.get() == Some(switch)
}

/// Whether a lock bit that is gone at the unlock is a violation by itself.
pub(crate) fn watches_lock() -> bool {
    !off(Switch::H2Stuck)
}

/// Whether a lock bit that a plain store puts back is taken off again.
pub(crate) fn mends_stuck_lock() -> bool {
    off(Switch::H2)
}

/// Runs with a step left out, on this OS thread.
pub(crate) fn without<T>(switch: Option<Switch>, body: impl FnOnce() -> T) -> T {
    OFF.set(switch);
    let result = body();
    OFF.set(None);
    result
}

/// Either protocol's steps without the one that is switched off.
#[derive(Clone, Copy, Debug, Default)]
pub struct Switched;

impl classic::Steps for Switched {
    fn stabilise_head<W: AtomicWord>(count: &W) -> Option<u64> {
        if off(Switch::H1) { Some(0) } else { classic::Corrected::stabilise_head(count) }
    }

    fn hand_out(prepare: impl FnOnce(), refcount: impl FnOnce()) {
        if off(Switch::H2) || off(Switch::H2Stuck) {
            refcount();
            prepare();
        } else {
            classic::Corrected::hand_out(prepare, refcount);
        }
    }

    fn publish_barrier<W: AtomicWord>() {
        if !off(Switch::H3) {
            classic::Corrected::publish_barrier::<W>();
        }
    }

    fn link_tail<W: AtomicWord>(first_page: impl FnOnce(), tail_flag: impl FnOnce()) {
        if off(Switch::H3Tail) {
            tail_flag();
            first_page();
        } else {
            classic::Corrected::link_tail::<W>(first_page, tail_flag);
        }
    }

    fn is_another_page(page: Pfn, head: Pfn) -> bool {
        off(Switch::H4) || classic::Corrected::is_another_page(page, head)
    }

    fn order_at_zero(believed: Option<Order>, now: impl FnOnce() -> Order) -> Order {
        match believed {
            Some(order) if off(Switch::H5) => order,
            _ => classic::Corrected::order_at_zero(believed, now),
        }
    }

    fn early_tail_refcounted(ask: impl FnOnce() -> bool) -> Option<bool> {
        if off(Switch::H6) { Some(ask()) } else { classic::Corrected::early_tail_refcounted(ask) }
    }

    fn still_tail(look_again: impl FnOnce() -> bool) -> bool {
        off(Switch::H12) || classic::Corrected::still_tail(look_again)
    }

    fn still_together(look_again: impl FnOnce() -> bool) -> bool {
        off(Switch::H13) || classic::Corrected::still_together(look_again)
    }

    fn count_before_tail_goes<W: AtomicWord>() {
        if !off(Switch::H14Barrier) {
            classic::Corrected::count_before_tail_goes::<W>();
        }
    }

    fn change_flags<W: AtomicWord>(flags: &W, difference: u64) {
        if off(Switch::H14) {
            let seen = flags.load(Ordering::Relaxed);
            flags.store(seen.wrapping_add(difference), Ordering::Relaxed);
        } else {
            classic::Corrected::change_flags(flags, difference);
        }
    }

    fn frees_after_drop(was_last: bool) -> bool {
        off(Switch::H15) || classic::Corrected::frees_after_drop(was_last)
    }

    fn page_ref_freeze<W: AtomicWord>(count: &W, expected: u64) -> bool {
        if off(Switch::H16) {
            count.store(0, Ordering::Release);
            return true;
        }
        classic::Corrected::page_ref_freeze(count, expected)
    }

    fn count_limit() -> u64 {
        if off(Switch::H18) { u64::MAX } else { classic::Corrected::count_limit() }
    }
}

impl one_word::Steps for Switched {
    fn pin_under_hold(
        pin: impl FnOnce() -> bool,
        unhold: impl FnOnce(),
        hold: impl FnOnce() -> bool,
    ) -> bool {
        if !off(Switch::W1) {
            return one_word::Unabridged::pin_under_hold(pin, unhold, hold);
        }
        unhold();
        let pinned = pin();
        hold();
        pinned
    }

    fn is_head_meant(fits: bool) -> bool {
        off(Switch::W2) || one_word::Unabridged::is_head_meant(fits)
    }

    fn was_same_tail(pinned: bool) -> bool {
        off(Switch::W3) || one_word::Unabridged::was_same_tail(pinned)
    }

    fn is_still_so(look_again: impl FnOnce() -> bool) -> bool {
        off(Switch::W4) || one_word::Unabridged::is_still_so(look_again)
    }

    fn are_refs_frozen(splitting: bool) -> bool {
        !off(Switch::W5) && one_word::Unabridged::are_refs_frozen(splitting)
    }

    fn give_back_hold(give_back: impl FnOnce()) {
        if !off(Switch::W6) {
            one_word::Unabridged::give_back_hold(give_back);
        }
    }

    fn moves_hold(needed: bool) -> bool {
        !off(Switch::W7) && one_word::Unabridged::moves_hold(needed)
    }

    fn held(marked: PageWord, unmarked: impl FnOnce() -> PageWord) -> PageWord {
        let switch = if marked.is_splitting() { Switch::W8 } else { Switch::W14 };
        if off(switch) { unmarked() } else { one_word::Unabridged::held(marked, unmarked) }
    }

    fn settle_last(convert_tails: impl FnOnce(), settle: impl FnOnce()) {
        if off(Switch::W9) {
            settle();
            convert_tails();
        } else {
            one_word::Unabridged::settle_last(convert_tails, settle);
        }
    }

    fn is_to_convert(untouched: bool) -> bool {
        off(Switch::W10) || one_word::Unabridged::is_to_convert(untouched)
    }

    fn settled(now: PageWord, begun: PageWord) -> PageWord {
        if off(Switch::W11) { begun } else { one_word::Unabridged::settled(now, begun) }
    }

    fn refs_of_piece(refs: u64) -> u64 {
        if off(Switch::W12) { refs.min(1) } else { one_word::Unabridged::refs_of_piece(refs) }
    }

    fn takes_apart(may_pin_resting_tails: bool) -> bool {
        !off(Switch::W13) && one_word::Unabridged::takes_apart(may_pin_resting_tails)
    }

    fn marks_piece(tails_rest: bool) -> bool {
        !off(Switch::W15) && one_word::Unabridged::marks_piece(tails_rest)
    }

    fn says_tails_rest(tails_rest: bool) -> bool {
        off(Switch::W16) || one_word::Unabridged::says_tails_rest(tails_rest)
    }
}

/// Orderings, taken away in the word: the protocols don't know.
pub(crate) struct Weaken;

impl Weaken {
    pub(crate) fn load(order: Ordering) -> Ordering {
        if off(Switch::WAcquire) && order == Ordering::Acquire { Ordering::Relaxed } else { order }
    }

    pub(crate) fn store(order: Ordering) -> Ordering {
        if off(Switch::WRelease) && order == Ordering::Release { Ordering::Relaxed } else { order }
    }

    /// Compare-and-swap and add.
    pub(crate) fn change(order: Ordering) -> Ordering {
        if off(Switch::WAcquire) && order == Ordering::AcqRel { Ordering::Release } else { order }
    }

    /// Subtraction: a put.
    pub(crate) fn drop(order: Ordering) -> Ordering {
        if off(Switch::WDrop) { Ordering::Relaxed } else { order }
    }
}
