//! Tokens: what the raw interface is asked to do with a block it is told of.
//!
//! A token is a number from anywhere. A reference of the protocol's own and the compound lock,
//! which any frame in use has, keep a frame as it is while its generation, its order and what it
//! was part of are compared with the token and its references change.

use core::sync::atomic::Ordering;

use super::page::{BEGAN, ONE_GENERATION, PG_HUGETLB, PG_PIECE, PG_TAIL, began, generation};
use super::{Classic, Safeguard, Safeguards};
use tailpin::AtomicWord;
use tailpin::Cause;
use tailpin::{FrameRange, Order, Pfn};
use tailpin::{FreeSink, RawBlock};
use tailpin::{GetError, SplitError, TokenError};

/// A frame that is held, locked, and a piece of the token's block.
struct Piece {
    order: Order,
    /// Block references.
    refs: u64,
    flags: u64,
    /// References to give back after unlocking.
    own: u64,
}

impl<W: AtomicWord, S: Safeguards<Safeguard>> Classic<'_, W, S> {
    /// Holds and locks the piece at `at`, if it is one of the token's block and has references.
    fn lock_piece(&self, token: RawBlock, at: Pfn, sink: &impl FreeSink) -> Result<Piece, Cause> {
        loop {
            if self.page_tail(at) {
                return Err(self.inside_block(at));
            }
            let own = self.stabilise_head(at).ok_or(Cause::FrameIsFree)?;
            self.compound_lock(at);
            let flags = self.page_flags(at);
            // Relaxed: the lock orders it.
            let refs = self.mapcount(at).load(Ordering::Relaxed);
            let order = self.order_by_flags(at, flags);
            let piece = Piece { order, refs, flags, own };
            let tail = flags & PG_TAIL != 0;
            match Self::fault(token, at, &piece) {
                Ok(()) if !tail => return Ok(piece),
                result => {
                    self.unlock_piece(at, piece, 0, sink);
                    // A tail: it was freed and handed out again in between.
                    if !tail {
                        return Err(result.err().unwrap_or(Cause::FrameIsFree));
                    }
                }
            }
        }
    }

    fn fault(token: RawBlock, at: Pfn, piece: &Piece) -> Result<(), Cause> {
        let flags = piece.flags;
        if at == token.pfn() && generation(flags) != token.generation() {
            return Err(Cause::StaleToken { claimed: token.generation() });
        }
        let of_it = if at == token.pfn() {
            at.is_aligned(token.order())
                && piece.order <= token.order()
                && token.order() <= Self::began_as(flags)
        } else {
            flags & PG_PIECE != 0
                && at.is_aligned(piece.order)
                && FrameRange::block(at, piece.order).end <= token.frames().end
        };
        if !of_it {
            Err(Cause::WrongOrder { claimed: token.order() })
        } else if piece.refs == 0 {
            Err(Cause::TooFewReferences)
        } else {
            Ok(())
        }
    }

    /// Gives back the lock, the hold and `refs` references more.
    fn unlock_piece(&self, at: Pfn, piece: Piece, refs: u64, sink: &impl FreeSink) {
        self.compound_unlock(at);
        self.put_refs(at, piece.own + refs, None, sink);
    }

    /// Looks at each piece of a block before any is changed.
    fn survey(&self, token: RawBlock, at_least: u64, sink: &impl FreeSink) -> Result<(), (Pfn, Cause)> {
        let mut at = token.pfn();
        while token.frames().contains(at) {
            let piece = self.lock_piece(token, at, sink).map_err(|cause| (at, cause))?;
            let (order, refs) = (piece.order, piece.refs);
            self.unlock_piece(at, piece, 0, sink);
            if refs < at_least {
                return Err((at, Cause::TooFewReferences));
            }
            at = at.offset(order.frames());
        }
        Ok(())
    }

    pub(super) fn get_token(
        &self,
        token: RawBlock,
        n: u64,
        sink: &impl FreeSink,
    ) -> Result<(), TokenError<GetError>> {
        self.survey(token, 0, sink).map_err(misuse)?;
        let mut at = token.pfn();
        while token.frames().contains(at) {
            match self.get_on(token, at, n, sink) {
                Ok(order) => at = at.offset(order.frames()),
                Err(error) => {
                    if n > 0 {
                        self.unmap_range(FrameRange { start: token.pfn(), end: at }, n, sink);
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn get_on(
        &self,
        token: RawBlock,
        at: Pfn,
        n: u64,
        sink: &impl FreeSink,
    ) -> Result<Order, TokenError<GetError>> {
        let piece = self.lock_piece(token, at, sink).map_err(|cause| misuse((at, cause)))?;
        let order = piece.order;
        let added = self.add_refs(at, n);
        if added.is_ok() {
            // Release: a thread that sees it sees the count too.
            self.mapcount(at).fetch_add(n, Ordering::Release);
        }
        self.unlock_piece(at, piece, 0, sink);
        added.map(|()| order).map_err(TokenError::Refused)
    }

    pub(super) fn put_token(
        &self,
        token: RawBlock,
        n: u64,
        sink: &impl FreeSink,
    ) -> Result<(), (Pfn, Cause)> {
        self.survey(token, n, sink)?;
        let mut at = token.pfn();
        while token.frames().contains(at) {
            let piece = self.lock_piece(token, at, sink).map_err(|cause| (at, cause))?;
            let order = piece.order;
            let put = self.unmap_words(at, n);
            self.unlock_piece(at, piece, if put.is_ok() { n } else { 0 }, sink);
            put.map_err(|cause| (at, cause))?;
            at = at.offset(order.frames());
        }
        Ok(())
    }

    pub(super) fn adopt_token(&self, token: RawBlock, sink: &impl FreeSink) -> Result<(), Cause> {
        let head = token.pfn();
        let piece = self.lock_piece(token, head, sink)?;
        let only = only_reference(token, &piece);
        if only.is_ok() {
            // Tokens of what it was part of are used up too. As one addition it leaves the bits of
            // others alone; the generation has the top bits, so an overflow harms nothing.
            let was = piece.flags & (PG_PIECE | BEGAN);
            let change = (ONE_GENERATION + began(piece.order)).wrapping_sub(was);
            // Relaxed: the lock orders it.
            self.flags(head).fetch_add(change, Ordering::Relaxed);
        }
        self.unlock_piece(head, piece, 0, sink);
        only
    }

    /// Drops the only reference to a block.
    pub(super) fn free_token(&self, token: RawBlock, sink: &impl FreeSink) -> Result<(), Cause> {
        let head = token.pfn();
        let piece = self.lock_piece(token, head, sink)?;
        let result = only_reference(token, &piece).and_then(|()| self.unmap_words(head, 1));
        if result.is_err() {
            self.unlock_piece(head, piece, 0, sink);
            return result;
        }
        self.compound_unlock(head);
        self.free_pages(head, piece.own + 1, sink);
        Ok(())
    }

    pub(super) fn split_token(
        &self,
        token: RawBlock,
        target: Order,
        sink: &impl FreeSink,
    ) -> Result<(), TokenError<SplitError>> {
        self.survey(token, 0, sink).map_err(misuse)?;
        let mut at = token.pfn();
        while token.frames().contains(at) {
            let piece = self.lock_piece(token, at, sink).map_err(|cause| misuse((at, cause)))?;
            let (order, own) = (piece.order, piece.own);
            if order <= target || piece.flags & PG_HUGETLB != 0 {
                self.unlock_piece(at, piece, 0, sink);
                if order > target {
                    return Err(TokenError::Refused(SplitError::Unsplittable { head: at }));
                }
            } else {
                self.split_locked(at, order, target, own, sink);
            }
            at = at.offset(order.frames());
        }
        Ok(())
    }
}

/// Whether the token is the only reference to a block of just its order.
fn only_reference(token: RawBlock, piece: &Piece) -> Result<(), Cause> {
    if piece.order != token.order() {
        Err(Cause::WrongOrder { claimed: token.order() })
    } else if piece.refs > 1 {
        Err(Cause::StillReferenced)
    } else {
        Ok(())
    }
}

fn misuse<E>((frame, cause): (Pfn, Cause)) -> TokenError<E> {
    TokenError::Misuse { frame, cause }
}
