//! The protective steps of the protocol, one function each.
//!
//! [`Unabridged`] takes all of them, and is what everybody has who does not say otherwise. A model
//! checker implements [`Steps`] with one of them left out, and must then find what goes wrong: what
//! ships knows no switch.

use crate::page_word::PageWord;

/// The protective steps. The provided methods are the correct ones.
pub trait Steps: Send + Sync + 'static {
    /// W1: the hold on the head is there before the first pin of its tail and for as long. `unhold`
    /// and `hold` are what a version that lets go of it in between would use.
    #[inline]
    fn pin_under_hold(
        pin: impl FnOnce() -> bool,
        unhold: impl FnOnce(),
        hold: impl FnOnce() -> bool,
    ) -> bool {
        let _ = (unhold, hold);
        pin()
    }

    /// W2: a hold is taken only on a head of the kind and order the tail belongs to.
    #[inline]
    fn is_head_meant(fits: bool) -> bool {
        fits
    }

    /// W3: a tail whose word changed before its first pin is looked at again; the mail's "is it
    /// still a tail".
    #[inline]
    fn was_same_tail(pinned: bool) -> bool {
        pinned
    }

    /// W4: "not in use" is said only of a word that is still what it was when its head was looked
    /// for.
    #[inline]
    fn is_still_so(look_again: impl FnOnce() -> bool) -> bool {
        look_again()
    }

    /// W5: the references of a block stand still while it is being split; who wants to change them
    /// helps first.
    #[inline]
    fn are_refs_frozen(splitting: bool) -> bool {
        splitting
    }

    /// W6: a tail that loses its last pin, or becomes a page of its own, gives back its hold.
    #[inline]
    fn give_back_hold(give_back: impl FnOnce()) {
        give_back();
    }

    /// W7: pins that come under another head bring a hold along before they do.
    #[inline]
    fn moves_hold(needed: bool) -> bool {
        needed
    }

    /// W8: a hold turns a heads-only split into one that rewrites every tail. W14: a hold on a
    /// settled head says that a tail may be explicit from now on.
    ///
    /// `unmarked` is the word if it did not.
    #[inline]
    fn held(marked: PageWord, unmarked: impl FnOnce() -> PageWord) -> PageWord {
        let _ = unmarked;
        marked
    }

    /// W9: a split is over when every tail has been rewritten, not before.
    #[inline]
    fn settle_last(convert_tails: impl FnOnce(), settle: impl FnOnce()) {
        convert_tails();
        settle();
    }

    /// W10: only what is still a tail of the block is rewritten: others may have helped, and more
    /// may have happened.
    #[inline]
    fn is_to_convert(untouched: bool) -> bool {
        untouched
    }

    /// W11: a split ends from the word as it is `now`, with all pins that came and went since it
    /// had `begun`.
    ///
    /// The first way one would write it, a value computed from what the split began with, loses
    /// them.
    #[inline]
    fn settled(now: PageWord, begun: PageWord) -> PageWord {
        let _ = begun;
        now
    }

    /// W12: each piece gets all references of the block.
    #[inline]
    fn refs_of_piece(refs: u64) -> u64 {
        refs
    }

    /// W13: a piece whose implicit tails another thread may be about to pin is taken to pages
    /// before it is merged.
    #[inline]
    fn takes_apart(may_pin_implicit_tails: bool) -> bool {
        may_pin_implicit_tails
    }

    /// W15: a piece made while the split was heads-only says that its tails are explicit before
    /// they are.
    #[inline]
    fn marks_piece(all_tails_implicit: bool) -> bool {
        all_tails_implicit
    }

    /// W16: the head of a fresh block says that all its tails are implicit only if they were seen
    /// to be.
    #[inline]
    fn says_all_tails_implicit(all_tails_implicit: bool) -> bool {
        all_tails_implicit
    }

    /// W17: a merge makes tails implicit only if no thread that holds a piece may be about to pin
    /// one that was implicit before.
    #[inline]
    fn may_be_implicit(nobody_holds: bool) -> bool {
        nobody_holds
    }

    /// W19: a piece becomes a tail only from a word that says that the merging thread has the only
    /// reference.
    #[inline]
    fn has_only_reference(only: bool) -> bool {
        only
    }
}

/// The protocol with no step left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unabridged;

impl Steps for Unabridged {}
