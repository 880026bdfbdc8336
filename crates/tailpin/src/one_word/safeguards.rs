//! What each race of the protocol is prevented by, so that a model checker can leave one out.
//!
//! The names are those of docs/races.md and of `tailpin check --hazard`. The code that ships asks
//! [`Safeguards::keeps`] of [`AllSafeguards`], which the compiler answers with `true`.

pub use crate::safeguards::{AllSafeguards, Safeguards};

/// What prevents one race of the one-word protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Safeguard {
    /// The hold on the head is there before the first pin of its tail and for as long.
    W1,
    /// A hold is taken only on a head of the kind and order that the tail belongs to.
    W2,
    /// A tail whose word changed before its first pin is looked at again; the mail's "is it still a
    /// tail".
    W3,
    /// "Not in use" is said only of a word that is still what it was when its head was looked for.
    W4,
    /// The references of a block stand still while it is being split; a thread that wants to change
    /// them helps first.
    W5,
    /// A tail that loses its last pin, or becomes a page of its own, gives back its hold.
    W6,
    /// Pins that come under another head bring a hold along before they do.
    W7,
    /// A hold turns a heads-only split into one that rewrites every tail.
    W8,
    /// A split is over when every tail has been rewritten, not before.
    W9,
    /// Only what is still a tail of the block is rewritten: others may have helped, and more may
    /// have happened.
    W10,
    /// A split ends from the word as it is, with all pins that came and went since it began. A
    /// value worked out from what the split began with loses them.
    W11,
    /// Each piece gets all references of the block.
    W12,
    /// A piece whose implicit tails another thread may be about to pin is taken to pages before it
    /// is merged.
    W13,
    /// A hold on a settled head says that a tail may be explicit from now on.
    W14,
    /// A piece made while the split was heads-only says that its tails are explicit before they
    /// are.
    W15,
    /// The head of a fresh block says that all its tails are implicit only if they were seen to be.
    W16,
    /// A merge makes tails implicit only if no thread that holds a piece may be about to pin one
    /// that was implicit before.
    W17,
    /// A thread that splits a block with its last reference has a hold on it.
    W18,
    /// A piece becomes a tail only from a word that says that the merging thread has the only
    /// reference.
    W19,
    /// The unpinned tails of a dying block are free in the step that ends its split only if no
    /// other thread can have a hold on the head, and so be about to pin one; else each is rewritten
    /// first.
    W20,
    /// A part of a run is split off and given back only when no split of the block around it is
    /// under way: till then a piece has not all holds of its pinned tails.
    W21,
}
