//! Pins: `get_page`, `put_page` and what they do on a tail.
//!
//! A pin on a tail is one in the tail's `mapcount` and one in the head's `count`, both changed
//! under the head's lock, so that a split finds them consistent and can move the pin into the
//! tail's own `count`.

use core::sync::atomic::Ordering;

use super::count::{COUNT_LIMIT, NEGATIVE, get_unless_zero};
use super::{Classic, Safeguard, Safeguards};
use tailpin::AtomicWord;
use tailpin::FreeSink;
use tailpin::GetError;
use tailpin::{Cause, Operation};
use tailpin::{Order, Pfn};

/// What became of an attempt on a tail.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// Done.
    Done,
    /// It is not a tail of that head any more: look again.
    Changed,
}

/// No limit on the count; for references that the protocol itself takes and gives back.
pub(super) const NO_LIMIT: u64 = NEGATIVE;

impl<W: AtomicWord, S: Safeguards<Safeguard>> Classic<'_, W, S> {
    /// `get_page_unless_zero` with the limit of `try_get_page` (H18).
    #[inline]
    pub(super) fn get_page_unless_zero(&self, page: Pfn, limit: u64) -> Result<(), GetError> {
        get_unless_zero(self.count(page), limit)
    }

    /// From this count on no caller gets another reference (H18).
    #[inline]
    pub(super) fn count_limit() -> u64 {
        if S::keeps(Safeguard::H18) { COUNT_LIMIT } else { u64::MAX }
    }

    /// Whether what was found without a reference is so now that there is one (H13).
    #[inline]
    fn still(look_again: impl FnOnce() -> bool) -> bool {
        !S::keeps(Safeguard::H13) || look_again()
    }

    /// A pin on a page found by its number alone.
    ///
    /// `NotInUse` is certain: the count that was read as zero belonged to the page (or to the head
    /// of which it still is a tail), and a page that stays in use never has that. Each turn of the
    /// loop means that the page was split, freed or handed out in between.
    pub(super) fn pin_found(&self, page: Pfn, limit: u64, sink: &impl FreeSink) -> Result<(), GetError> {
        loop {
            if self.page_tail(page) {
                if self.__get_page_tail(page, limit, sink)? == Tail::Done {
                    return Ok(());
                }
                continue;
            }
            self.get_page_unless_zero(page, limit)?;
            // A tail has a count only in the middle of its split: then this was another thread's
            // publication.
            if Self::still(|| !self.page_tail(page)) {
                return Ok(());
            }
            self.put_refs(page, 1, None, sink);
        }
    }

    /// One more pin on a page on which the caller has one (`get_page`).
    pub(super) fn get_page(&self, page: Pfn, sink: &impl FreeSink) -> Result<(), GetError> {
        while self.page_tail(page) {
            if self.__get_page_tail(page, Self::count_limit(), sink)? == Tail::Done {
                return Ok(());
            }
        }
        // Relaxed: the caller's own pin orders everything, and by now it is in this count.
        let had = self.count(page).fetch_add(1, Ordering::Relaxed);
        if had > 0 && had < Self::count_limit() {
            return Ok(());
        }
        // Relaxed: nothing happened under it.
        self.count(page).fetch_sub(1, Ordering::Relaxed);
        Err(if had == 0 { GetError::NotInUse } else { GetError::CountLimit })
    }

    /// A pin on a tail: a reference on its head first, then under the lock one in the tail.
    fn __get_page_tail(&self, page: Pfn, limit: u64, sink: &impl FreeSink) -> Result<Tail, GetError> {
        let head = self.compound_trans_head(page);
        if page == head && S::keeps(Safeguard::H4) {
            return Ok(Tail::Changed);
        }
        let early = (!S::keeps(Safeguard::H6)).then(|| self.__compound_tail_refcounted(head));
        if let Err(error) = self.get_page_unless_zero(head, limit) {
            // Acquired with the refusal: if the page left this head before, that is seen here.
            return if self.is_tail_of(page, head) { Err(error) } else { Ok(Tail::Changed) };
        }
        let counted = early.unwrap_or_else(|| self.__compound_tail_refcounted(head));
        let together = if counted {
            self.compound_lock(head);
            let together = Self::still(|| self.is_tail_of(page, head));
            if together {
                // Relaxed: the lock orders it.
                self.mapcount(page).fetch_add(1, Ordering::Relaxed);
            }
            self.compound_unlock(head);
            together
        } else {
            // Such a block never splits and the reference keeps it from being freed: no lock is
            // needed.
            Self::still(|| self.is_tail_of(page, head))
        };
        if together {
            return Ok(Tail::Done);
        }
        self.put_refs(head, 1, Some(Order::PAGE), sink);
        Ok(Tail::Changed)
    }

    /// `put_page`: gives back a pin.
    pub(super) fn put_page(&self, page: Pfn, sink: &impl FreeSink) {
        while self.page_tail(page) {
            match self.put_compound_page(page, 1, sink) {
                Ok(Some(_)) => return,
                Ok(None) => {}
                Err(cause) => return self.bad_page(page, Operation::Put, cause, sink),
            }
        }
        self.put_refs(page, 1, None, sink);
    }

    /// Gives back a pin on a tail: one in the tail, and `on_head` in its head, which is returned.
    /// `None`: it has been split, and the pin is in its own count now, or in that of a smaller
    /// block.
    pub(super) fn put_compound_page(
        &self,
        page: Pfn,
        on_head: u64,
        sink: &impl FreeSink,
    ) -> Result<Option<Pfn>, Cause> {
        let head = self.compound_trans_head(page);
        if page == head && S::keeps(Safeguard::H4) {
            return Ok(None);
        }
        let early = (!S::keeps(Safeguard::H6)).then(|| self.__compound_tail_refcounted(head));
        let Some(own) = self.stabilise_head(head) else {
            // Either it has been split and the old head freed, or the caller can't have had a pin.
            return if self.is_tail_of(page, head) { Err(Cause::FrameIsFree) } else { Ok(None) };
        };
        let counted = early.unwrap_or_else(|| self.__compound_tail_refcounted(head));
        if !counted {
            let together = Self::still(|| self.is_tail_of(page, head));
            if !together {
                self.put_refs(head, own, Some(Order::PAGE), sink);
                return Ok(None);
            }
            return self.put_uncounted(head, own, on_head, sink);
        }
        self.compound_lock(head);
        if !Self::still(|| self.is_tail_of(page, head)) {
            self.compound_unlock(head);
            // On whatever that frame is now: it may even be a smaller block (H5).
            self.put_refs(head, own, Some(Order::PAGE), sink);
            return Ok(None);
        }
        // Relaxed, both: the lock orders them.
        let pinned = self.mapcount(page).load(Ordering::Relaxed) > 0;
        if pinned {
            self.mapcount(page).fetch_sub(1, Ordering::Relaxed);
        }
        self.compound_unlock(head);
        self.put_refs(head, if pinned { own + on_head } else { own }, None, sink);
        if pinned { Ok(Some(head)) } else { Err(Cause::NotPinned) }
    }

    /// A pin on a tail that is not counted is one on the head, of which there must be one that is
    /// no block reference.
    fn put_uncounted(
        &self,
        head: Pfn,
        own: u64,
        on_head: u64,
        sink: &impl FreeSink,
    ) -> Result<Option<Pfn>, Cause> {
        let pinned = self.has_pins(head, own);
        self.put_refs(head, if pinned { own + on_head } else { own }, None, sink);
        if pinned { Ok(Some(head)) } else { Err(Cause::NotPinned) }
    }

    /// The head of the block that `page` is in, with a reference (a pin on the head) for the
    /// caller; `page` itself, with a pin, where it is in none. `None` if the page is not in use.
    ///
    /// This is the helper of the mail's subject line. The reference keeps the block as it is only
    /// as long as it is not split: a caller that needs to know about the tail keeps a pin on the
    /// tail.
    ///
    /// # Panics
    /// If there are no words for the page.
    pub fn get_compound_page(&self, page: Pfn, sink: &impl FreeSink) -> Option<Pfn> {
        loop {
            let head = self.compound_trans_head(page);
            let alone = head == page;
            let same = || if alone { !self.page_tail(page) } else { self.is_tail_of(page, head) };
            if self.get_page_unless_zero(head, Self::count_limit()).is_err() {
                if same() {
                    return None;
                }
                continue;
            }
            if Self::still(same) {
                return Some(head);
            }
            self.put_refs(head, 1, Some(Order::PAGE), sink);
        }
    }

    /// Gives back a pin on a tail but leaves the reference on its head with the caller, as a pin on
    /// the frame returned: the head, or `page` itself if it is no tail (any more).
    ///
    /// The mail: "the simplified version of put_compound_page() which doesn't dec
    /// page_head->_count", with the `get_page_unless_zero` that its draft had left out.
    ///
    /// # Panics
    /// If there are no words for the page.
    pub fn put_compound_tail(&self, page: Pfn, sink: &impl FreeSink) -> Pfn {
        while self.page_tail(page) {
            match self.put_compound_page(page, 0, sink) {
                Ok(Some(head)) => return head,
                Ok(None) => {}
                Err(cause) => {
                    self.bad_page(page, Operation::Put, cause, sink);
                    break;
                }
            }
        }
        page
    }

    /// Gives back `n` references on `frame`; with the last one it is freed, as what it is then
    /// (H5). `believed`: what the caller took it for, where it has an opinion.
    pub(super) fn put_refs(&self, frame: Pfn, n: u64, believed: Option<Order>, sink: &impl FreeSink) {
        if n == 0 {
            return;
        }
        match self.drop_refs(frame, n) {
            Ok(false) => {}
            Ok(true) => {
                let order = match believed {
                    Some(order) if !S::keeps(Safeguard::H5) => order,
                    _ => self.compound_order(frame),
                };
                self.free_block(frame, order, sink);
            }
            Err(had) => {
                let cause = if had == 0 { Cause::FrameIsFree } else { Cause::TooFewReferences };
                self.bad_page(frame, Operation::Put, cause, sink);
            }
        }
    }
}
