//! References to whole blocks: huge mappings, counted in the head's `count` and `mapcount`.
//!
//! The kernel keeps map and unmap apart from a split by the page-table and `anon_vma` locks. Here
//! the compound lock does that, under a reference on the head like everywhere else. Pieces of order
//! 0 need no lock: nothing splits them. A reference is in `count` for at least as long as in
//! `mapcount`, so `count − mapcount` never hides a pin.

use core::cell::Cell;
use core::sync::atomic::Ordering;

use super::count::NEGATIVE;
use super::page::{PG_HEAD, PG_TAIL};
use super::{Classic, Safeguard, Safeguards};
use tailpin::AtomicWord;
use tailpin::FreeSink;
use tailpin::GetError;
use tailpin::to_the_end;
use tailpin::{Cause, Operation};
use tailpin::{FrameRange, Order, Pfn};

/// Whether a piece of `order` at `at` lies within what is left of a range that ends at `end`.
pub(super) fn fits(at: Pfn, order: Order, end: Pfn) -> bool {
    at.offset(order.frames()) <= end
}

impl<W: AtomicWord, S: Safeguards<Safeguard>> Classic<'_, W, S> {
    /// `n` more references on each piece of `range`. Where a later piece refuses, the earlier ones
    /// are undone.
    pub(super) fn map_range(&self, range: FrameRange, n: u64, sink: &impl FreeSink) -> Result<(), GetError> {
        let mut at = range.start;
        while n > 0 && range.contains(at) {
            match self.map_piece(at, range.end, n, sink) {
                Ok(order) => at = at.offset(order.frames()),
                Err(error) => {
                    self.unmap_range(FrameRange { start: range.start, end: at }, n, sink);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn map_piece(&self, at: Pfn, end: Pfn, n: u64, sink: &impl FreeSink) -> Result<Order, GetError> {
        let flags = self.page_flags(at);
        if flags & PG_TAIL != 0 {
            return Err(GetError::NotInUse);
        }
        if flags & PG_HEAD == 0 {
            // Relaxed: the caller's own reference orders it.
            if self.mapcount(at).load(Ordering::Relaxed) == 0 {
                return Err(GetError::NotInUse);
            }
            self.add_refs(at, n)?;
            // Release: a thread that sees it sees the count too.
            self.mapcount(at).fetch_add(n, Ordering::Release);
            return Ok(Order::PAGE);
        }
        let locked = self.lock_head(at).ok_or(GetError::NotInUse)?;
        // Relaxed: the lock orders it.
        let mapped = self.mapcount(at).load(Ordering::Relaxed) > 0;
        let result = if !mapped || !fits(at, locked.order, end) {
            Err(GetError::NotInUse)
        } else {
            self.add_refs(at, n)
        };
        if result.is_ok() {
            // Release: a thread that sees it sees the count too; one that takes the lock is ordered
            // by that.
            self.mapcount(at).fetch_add(n, Ordering::Release);
        }
        self.compound_unlock(at);
        self.put_refs(at, locked.own, None, sink);
        result.map(|()| locked.order)
    }

    /// `n` more references on a frame that has some, unless that passes the limit (H18).
    pub(super) fn add_refs(&self, at: Pfn, n: u64) -> Result<(), GetError> {
        let count = self.count(at);
        // Relaxed: the compare-and-swap decides.
        let mut seen = count.load(Ordering::Relaxed);
        loop {
            if seen == 0 || seen >= NEGATIVE {
                return Err(GetError::NotInUse);
            }
            if n > Self::count_limit() || seen > Self::count_limit() - n {
                return Err(GetError::CountLimit);
            }
            // Relaxed: the caller's own reference orders everything.
            match count.compare_exchange(seen, seen + n, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => seen = now,
            }
        }
    }

    /// `n` references less on each piece of `range`.
    pub(super) fn unmap_range(&self, range: FrameRange, n: u64, sink: &impl FreeSink) {
        let next = Cell::new(range.start);
        let rest = || {
            while range.contains(next.get()) {
                let at = next.get();
                // Before the piece goes, as what follows may panic: hooks hear of what is freed.
                next.set(at.offset(self.compound_order(at).frames()));
                match self.unmap_piece(at, range.end, n, sink) {
                    Ok(order) => next.set(at.offset(order.frames())),
                    Err(cause) => self.bad_page(at, Operation::PutBlock, cause, sink),
                }
            }
        };
        to_the_end(rest);
    }

    fn unmap_piece(&self, at: Pfn, end: Pfn, n: u64, sink: &impl FreeSink) -> Result<Order, Cause> {
        let flags = self.page_flags(at);
        if flags & PG_TAIL != 0 {
            return Err(self.inside_block(at));
        }
        if flags & PG_HEAD == 0 {
            self.unmap_words(at, n)?;
            self.put_refs(at, n, None, sink);
            return Ok(Order::PAGE);
        }
        let locked = self.lock_head(at).ok_or(Cause::FrameIsFree)?;
        let result = if fits(at, locked.order, end) {
            self.unmap_words(at, n)
        } else {
            let rest = (end.get() - at.get()).ilog2() as u8;
            Err(Cause::WrongOrder { claimed: Order::new(rest).unwrap_or(Order::MAX) })
        };
        self.compound_unlock(at);
        let gone = if result.is_ok() { n } else { 0 };
        self.put_refs(at, locked.own + gone, None, sink);
        result.map(|()| locked.order)
    }

    /// `n` less in `mapcount`, which must have them. On a head under its lock.
    pub(super) fn unmap_words(&self, at: Pfn, n: u64) -> Result<(), Cause> {
        let mapcount = self.mapcount(at);
        // Relaxed: the compare-and-swap decides.
        let mut seen = mapcount.load(Ordering::Relaxed);
        loop {
            if seen < n {
                // Relaxed: only names the cause.
                let free = self.count(at).load(Ordering::Relaxed) == 0;
                return Err(if free { Cause::FrameIsFree } else { Cause::TooFewReferences });
            }
            // Relaxed: the count goes down after it, with Release.
            match mapcount.compare_exchange(seen, seen - n, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => seen = now,
            }
        }
    }
}
