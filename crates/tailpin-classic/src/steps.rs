//! The protective steps of the protocol, one function each.
//!
//! Every hazard of the mail, and of its kin that mainline found later, is what happens when one
//! such step is missing. [`Corrected`] takes all of them. A model checker implements [`Steps`] with
//! one of them left out, and must then find the race: what ships knows no switch.
//!
//! The names H1 … H18 are those of the project's list of hazards; the kernel commits are named
//! where there are any.

use core::sync::atomic::Ordering;

use tailpin::AtomicWord;
use tailpin::GetError;
use tailpin::{Order, Pfn};

/// A count from here on is one that is just being repaired after a caller gave back more than there
/// was.
pub(super) const NEGATIVE: u64 = 1 << 63;

/// The protective steps. The provided methods are the correct ones.
pub trait Steps: Send + Sync + 'static {
    /// H1: no thread touches the flags of a head, and so its lock, without a reference on it. Says
    /// how many references this took, `None` if the head is free.
    ///
    /// The mail: "Yes it was supposed to do the get_page_unless_zero before the compound_lock."
    #[inline]
    fn stabilise_head<W: AtomicWord>(count: &W) -> Option<u64> {
        get_unless_zero(count, NEGATIVE).is_ok().then_some(1)
    }

    /// H2: a block is prepared as a compound page before it is counted, and counting it is the last
    /// action of all.
    ///
    /// The mail: "keeping the refcounted at the very last with a comment is preferable".
    #[inline]
    fn hand_out(prepare: impl FnOnce(), refcount: impl FnOnce()) {
        prepare();
        refcount();
    }

    /// H3: the mail's `smp_wmb()` between the prepared block and its count. Pairs with the Acquire
    /// of every conditional get.
    #[inline]
    fn publish_barrier<W: AtomicWord>() {
        W::fence(Ordering::Release);
    }

    /// H3: `first_page` before `PG_tail` (668f9abbd433). Pairs with the Acquire that finds
    /// `PG_tail`.
    #[inline]
    fn link_tail<W: AtomicWord>(first_page: impl FnOnce(), tail_flag: impl FnOnce()) {
        first_page();
        W::fence(Ordering::Release);
        tail_flag();
    }

    /// H4: a page that is its own `compound_trans_head` has been split in between.
    ///
    /// The mail: "the idea was to do get_page_unless_zero only on head pages and never on tails".
    #[inline]
    fn is_another_page(page: Pfn, head: Pfn) -> bool {
        page != head
    }

    /// H5: what is freed is what the head is when its count reaches zero (27c73ae759774), not what
    /// the holder of the last reference `believed`.
    #[inline]
    fn order_at_zero(believed: Option<Order>, now: impl FnOnce() -> Order) -> Order {
        let _ = believed;
        now()
    }

    /// H6: whether the tails of a head are counted is not asked before there is a reference on it
    /// (27c73ae759774). `None`: ask then.
    #[inline]
    fn early_tail_refcounted(ask: impl FnOnce() -> bool) -> Option<bool> {
        let _ = ask;
        None
    }

    /// H12: `PG_tail` is looked at again after `first_page` was read; without it `first_page` means
    /// nothing.
    #[inline]
    fn still_tail(look_again: impl FnOnce() -> bool) -> bool {
        look_again()
    }

    /// H13: a page and the head that was found for it are compared again once there is a reference
    /// (c24d37322548), and under the lock where there is one.
    #[inline]
    fn still_together(look_again: impl FnOnce() -> bool) -> bool {
        look_again()
    }

    /// The full barrier of the split: the count of a tail is up before its `PG_tail` goes, so a
    /// thread that finds it an ordinary page finds it counted. Pairs with the Acquire that finds
    /// `PG_tail` gone.
    #[inline]
    fn count_before_tail_goes<W: AtomicWord>() {
        W::fence(Ordering::SeqCst);
    }

    /// H14: the flags of a page that can be reached change by one atomic step, which keeps the lock
    /// bit and the marks that others set (605ca5ede764; 2013 had a plain read, modify, write).
    #[inline]
    fn change_flags<W: AtomicWord>(flags: &W, difference: u64) {
        // Relaxed: the full barrier is right before it.
        flags.fetch_add(difference, Ordering::Relaxed);
    }

    /// H15: a thread that drops a reference frees only if it was the last, and then everything
    /// (e320d3012d25).
    #[inline]
    fn frees_after_drop(was_last: bool) -> bool {
        was_last
    }

    /// H16: a count that others may raise is frozen by compare-and-swap, never by storing zero
    /// (7118fc2906e2).
    #[inline]
    fn page_ref_freeze<W: AtomicWord>(count: &W, expected: u64) -> bool {
        // AcqRel: what was done under all earlier references comes before the free. Relaxed:
        // nothing happened.
        count.compare_exchange(expected, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// H18: from this count on no caller gets another reference (CVE-2019-11487).
    #[inline]
    fn count_limit() -> u64 {
        1 << 31
    }
}

/// The protocol as the mail corrects it: no step is left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Corrected;

impl Steps for Corrected {}

/// `atomic_inc_not_zero`, refusing at `limit`.
///
/// Acquire on success: pairs with the publication of the count, so that the caller sees the page
/// prepared. Release on success: keeps the kernel's full order. Acquire on refusal: a thread that
/// reads zero sees what led to it, and so whether the page still is a tail of that head.
pub(super) fn get_unless_zero<W: AtomicWord>(count: &W, limit: u64) -> Result<(), GetError> {
    let mut seen = count.load(Ordering::Acquire);
    loop {
        if seen == 0 || seen >= NEGATIVE {
            return Err(GetError::NotInUse);
        }
        if seen >= limit {
            return Err(GetError::CountLimit);
        }
        match count.compare_exchange(seen, seen + 1, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Ok(()),
            Err(now) => seen = now,
        }
    }
}
