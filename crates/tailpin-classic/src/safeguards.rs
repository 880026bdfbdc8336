//! What each race of the protocol is prevented by, so that a model checker can leave one out.
//!
//! Every hazard of the mail, and of its kin that mainline found later, is what happens when one
//! such step is missing. The names are those of docs/races.md and of `tailpin check --hazard`; the
//! kernel commits are named where there are any. The code that ships asks [`Safeguards::keeps`] of
//! [`AllSafeguards`], which the compiler answers with `true`.

pub use tailpin::{AllSafeguards, Safeguards};

/// What prevents one race of the classic protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Safeguard {
    /// No thread touches the flags of a head, and so its lock, without a reference on it.
    ///
    /// The mail: "Yes it was supposed to do the get_page_unless_zero before the compound_lock."
    H1,
    /// A block is prepared as a compound page before it is counted, and counting it is the last
    /// action of all.
    ///
    /// The mail: "keeping the refcounted at the very last with a comment is preferable".
    H2,
    /// The mail's `smp_wmb()` between the prepared block and its count. Pairs with the Acquire of
    /// every conditional get.
    H3,
    /// `first_page` before `PG_tail` (668f9abbd433). Pairs with the Acquire that finds `PG_tail`.
    H3Tail,
    /// A page that is its own `compound_trans_head` has been split in between.
    ///
    /// The mail: "the idea was to do get_page_unless_zero only on head pages and never on tails".
    H4,
    /// What is freed is what the head is when its count reaches zero (27c73ae759774), not what the
    /// holder of the last reference believed.
    H5,
    /// Whether the tails of a head are counted is not asked before there is a reference on it
    /// (27c73ae759774).
    H6,
    /// `PG_tail` is looked at again after `first_page` was read; without it `first_page` means
    /// nothing.
    H12,
    /// A page and the head that was found for it are compared again once there is a reference
    /// (c24d37322548), and under the lock where there is one.
    H13,
    /// The flags of a page that can be reached change by one atomic step, which keeps the lock bit
    /// and the marks that others set (605ca5ede764; 2013 had a plain read, modify, write).
    H14,
    /// The full barrier of the split: the count of a tail is up before its `PG_tail` goes, so a
    /// thread that finds it an ordinary page finds it counted. Pairs with the Acquire that finds
    /// `PG_tail` gone.
    H14Barrier,
    /// A thread that drops a reference frees only if it was the last, and then everything
    /// (e320d3012d25).
    H15,
    /// A count that others may raise is frozen by compare-and-swap, never by storing zero
    /// (7118fc2906e2).
    H16,
    /// From some count on no caller gets another reference (CVE-2019-11487).
    H18,
}
