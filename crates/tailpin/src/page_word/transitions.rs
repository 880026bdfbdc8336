//! Every transition, as a pure function from word to word.
//!
//! A function here computes; the loop that applies it by an atomic step, and the reason why it may,
//! stand with the protocol. The table of [`super`] names both.

use super::layout::*;
use crate::frame::Order;

/// A block begins.
impl PageWord {
    /// The word of a free frame that a block is about to begin at; whether all its tails are
    /// implicit was looked up.
    #[inline]
    pub(crate) const fn as_free(self, all_tails_implicit: bool) -> Self {
        let free = Self::build(FREE, Order::PAGE, self.generation_bits());
        if all_tails_implicit { free } else { free.with_explicit_tails() }
    }

    /// A fresh block begins here: one reference, a new generation. Its explicit tails were explicit
    /// before.
    #[inline]
    pub(crate) const fn publish(self, order: Order, unsplittable: bool) -> Self {
        let kind = if unsplittable { UNSPLITTABLE } else { HEAD };
        let explicit = if order.get() > 0 { self.0 & EXPLICIT_TAILS } else { 0 };
        Self::build(kind, order, self.next_generation() | explicit | ONE_REF)
    }

    /// Its only reference becomes a handle's: tokens of the block, and of any that it was part of,
    /// are used up.
    #[inline]
    pub(crate) const fn adopted(self) -> Self {
        Self(self.renewed().0 & !PAST)
    }

    /// A generation begins without anything else.
    #[inline]
    pub(crate) const fn renewed(self) -> Self {
        Self(self.0 & !(GEN_MASK << GEN_SHIFT) | self.next_generation())
    }

    #[expect(clippy::arithmetic_side_effects, reason = "a field below the highest bit, and one more")]
    const fn next_generation(self) -> u64 {
        (self.generation_bits() + (1 << GEN_SHIFT)) & (GEN_MASK << GEN_SHIFT)
    }
}

/// Pins, holds and references.
impl PageWord {
    /// `n` more pins for a caller, or `None` beyond [`PIN_LIMIT`].
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "no more than the limit")]
    pub(crate) const fn pin(self, n: u64) -> Option<Self> {
        match self.pins().checked_add(n) {
            Some(pins) if pins <= PIN_LIMIT => Some(Self(self.0 + n)),
            _ => None,
        }
    }

    /// `n` more holds. They are never refused. From here on a tail may be explicit; a heads-only
    /// split becomes an ordinary one, in which every tail word has to be rewritten.
    #[inline]
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "there is room for every hold: as many as a block has frames"
    )]
    pub(crate) const fn hold(self, n: u64) -> Self {
        let held = Self(self.0 + n).with_explicit_tails();
        if self.is_heads_only_split() { held.with_kind(SPLITTING) } else { held }
    }

    /// `n` pins or holds less, or `None` where there are fewer.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "as many are there")]
    pub(crate) const fn unpin(self, n: u64) -> Option<Self> {
        if self.pins() < n { None } else { Some(Self(self.0 - n)) }
    }

    /// `n` more references to a settled block, or `None` beyond [`REF_LIMIT`].
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "no more than the limit")]
    pub(crate) const fn add_refs(self, n: u64) -> Option<Self> {
        match self.refs().checked_add(n) {
            Some(refs) if refs <= REF_LIMIT => Some(Self(self.0 + n * ONE_REF)),
            _ => None,
        }
    }

    /// `n` references less, or `None` where there are fewer.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "as many are there")]
    pub(crate) const fn drop_refs(self, n: u64) -> Option<Self> {
        if self.refs() < n { None } else { Some(Self(self.0 - n * ONE_REF)) }
    }
}

/// Tails.
impl PageWord {
    /// This tail with its pins, as one of a block of `order`.
    #[inline]
    pub(crate) const fn tail_of(self, order: Order) -> Self {
        Self::build(TAIL, order, self.0 & (PINS_MASK | GEN_MASK << GEN_SHIFT | HWPOISON | EXPLICIT_TAILS))
    }

    /// One more hold on a settled head.
    #[inline]
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "there is room for every hold: as many as a block has frames"
    )]
    pub(crate) const fn hold_settled(self) -> Self {
        Self(self.0 + 1).with_explicit_tails()
    }

    /// Some tail may be explicit.
    #[inline]
    pub(crate) const fn with_explicit_tails(self) -> Self {
        Self(self.0 | EXPLICIT_TAILS)
    }

    /// Implicit again; only in a wholly free pageblock that the allocator owns, or in a merge of
    /// one that found no pin or hold.
    #[inline]
    pub(crate) const fn as_implicit(self) -> Self {
        Self(self.generation_bits())
    }
}

/// Split.
impl PageWord {
    /// A settled head starts to split into pieces of `target`. References are frozen where they
    /// are. The split is heads-only if all tails are implicit; if not, all of them are going to
    /// name the new order.
    #[doc(alias = "page_ref_freeze")]
    #[doc(alias = "folio_ref_freeze")]
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "a split goes to a smaller order")]
    pub(crate) const fn begin_split(self, target: Order) -> Self {
        let small = self.order().get() <= Order::HUGE.get();
        let heads_only = small && target.get() > 0 && self.all_tails_implicit();
        let drop = (self.order().get() - target.get()) as u64;
        let drop = if self.drop_bits() == 0 { drop } else { drop + AGAIN };
        debug_assert!(drop <= DROP_MASK);
        let begun = Self(self.0 & !DROP_FIELD | drop << DROP_SHIFT);
        let begun = begun.with_kind(if heads_only { SPLITTING_HEADS_ONLY } else { SPLITTING });
        if small && !heads_only { begun.with_explicit_tails() } else { begun }
    }

    /// The last reference goes while pages are pinned: the dropper takes a hold and splits the
    /// block, with no reference left to hand on. It is not one of a tail, so the head goes on
    /// saying whether any is explicit.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "the upper half of the field is for holds")]
    pub(crate) const fn begin_self_split(self, target: Order) -> Self {
        Self(self.0 + 1).begin_last_split(target)
    }

    /// A block without references is split: there can be no token of it, so what it was does not
    /// matter any more. No tail is going to name a new order.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "`target` is below the order")]
    pub(crate) const fn begin_last_split(self, target: Order) -> Self {
        let drop = (self.order().get() - target.get()) as u64;
        Self(self.0 & !DROP_FIELD | drop << DROP_SHIFT).with_kind(SPLITTING)
    }

    /// A split is over for its head: it heads the first piece.
    #[inline]
    pub(crate) const fn end_split(self) -> Self {
        let target = self.target();
        let no_tails = if target.get() > 0 { 0 } else { EXPLICIT_TAILS };
        let drop = self.drop_bits();
        let rise = if drop > AGAIN { RISE_UNKNOWN } else { drop };
        let rest = self.0 & !(ORDER_FIELD | DROP_FIELD | no_tails) | rise << DROP_SHIFT;
        Self::build(HEAD, target, rest).with_kind(HEAD)
    }

    /// A tail becomes a page of its own with `refs` references; its pins stay.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "what a caller counted on the whole block")]
    pub(crate) const fn page(self, refs: u64) -> Self {
        let keep = self.0 & (PINS_MASK | HWPOISON);
        Self::build(HEAD, Order::PAGE, keep | PIECE | self.next_generation() | (refs * ONE_REF))
    }

    /// A tail becomes the head of a piece of the split that has `begun`, with `refs` references;
    /// its pins stay.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "what a caller counted on the whole block")]
    pub(crate) const fn piece(self, begun: Self, refs: u64) -> Self {
        let order = begun.target();
        if order.get() == 0 {
            return self.page(refs);
        }
        let has_hwpoisoned = begun.0 & HAS_HWPOISONED;
        let explicit = if begun.order().get() > Order::HUGE.get() {
            self.0 & EXPLICIT_TAILS // The tails of a 2 MiB part stay as they are.
        } else {
            begun.0 & EXPLICIT_TAILS
        };
        let keep = self.0 & (PINS_MASK | HWPOISON);
        Self::build(
            HEAD,
            order,
            keep | PIECE | has_hwpoisoned | explicit | self.next_generation() | (refs * ONE_REF),
        )
    }
}

/// Merge.
impl PageWord {
    /// A settled head that its only owner is about to merge: references stand still, pins go on.
    #[inline]
    pub(crate) const fn set_apart(self) -> Self {
        self.with_kind(MERGING)
    }

    /// The first of several blocks becomes the head they are merged under, whose 4 KiB tails will
    /// all be implicit, or some not. Tokens of the pieces are used up, so a generation begins.
    #[inline]
    pub(crate) const fn begin_merge(self, order: Order, all_tails_implicit: bool) -> Self {
        let keep = self.renewed().0 & !(ORDER_FIELD | DROP_FIELD | EXPLICIT_TAILS);
        let merging = Self((order.get() as u64) << ORDER_SHIFT | keep).with_kind(MERGING);
        if all_tails_implicit { merging } else { merging.with_explicit_tails() }
    }

    /// All parts are tails now.
    #[inline]
    pub(crate) const fn end_merge(self) -> Self {
        self.with_kind(HEAD)
    }
}

/// A block ends.
impl PageWord {
    /// The free frame that a dead head or an unneeded piece becomes; out of service if marked
    /// hwpoison. Whole pageblocks can be handed out again without a look at their tails, so these
    /// go on saying whether all are implicit.
    #[inline]
    pub(crate) const fn freed(self) -> Self {
        let kind = if self.is_hwpoison() { OUT } else { FREE };
        let explicit = if self.is_whole_pageblock() { self.0 & EXPLICIT_TAILS } else { 0 };
        Self::build(kind, Order::PAGE, self.generation_bits() | self.0 & HWPOISON | explicit)
    }

    /// What a head becomes in the very step that takes its last reference, if it has no pins and
    /// its own word is all there is to look at and to write.
    #[inline]
    pub(crate) const fn frees_at_once(self) -> Option<Self> {
        let alone = self.order().get() <= Order::HUGE.get() && self.0 & (HWPOISON | HAS_HWPOISONED) == 0;
        if self.is_live_head() || !alone { None } else { Some(self.freed()) }
    }

    /// The uncoalesced block, 2 MiB at most, that one of `order` becomes in the step that takes its
    /// last reference: one that is settled, has neither pins nor flags, and whose own word is all
    /// there is to look at and to write.
    #[inline]
    pub(crate) const fn frees_uncoalesced(self, order: Order) -> Option<Self> {
        let stays = GEN_MASK << GEN_SHIFT | PAST | if order.get() > 0 { EXPLICIT_TAILS } else { 0 };
        let (lone, uncoalesced) =
            (Self::build(HEAD, order, ONE_REF).0, Self::build(FREE, order, UNCOALESCED).0);
        if self.0 & !stays == lone { Some(Self(self.0 ^ (lone ^ uncoalesced))) } else { None }
    }

    /// A free block of `order`, a page or 2 MiB, becomes uncoalesced.
    #[inline]
    pub(crate) const fn as_uncoalesced(self, order: Order) -> Self {
        let explicit = if order.get() > 0 { self.0 & EXPLICIT_TAILS } else { 0 };
        Self::build(FREE, order, self.generation_bits() | explicit | UNCOALESCED)
    }

    /// An uncoalesced block becomes the claiming thread's.
    #[inline]
    pub(crate) const fn claimed(self) -> Self {
        Self::build(FREE, Order::PAGE, self.generation_bits() | self.0 & EXPLICIT_TAILS)
    }
}

/// Out of service.
impl PageWord {
    /// A frame that never enters service.
    pub(crate) const fn reserved() -> Self {
        Self::build(OUT, Order::PAGE, 0)
    }

    /// Out of service for good.
    pub(crate) const fn as_offline(self) -> Self {
        Self::build(OUT, Order::PAGE, self.generation_bits() | HWPOISON)
    }

    /// A frame that was out of service is a free one.
    pub(crate) const fn back_in_service(self) -> Self {
        Self::build(FREE, Order::PAGE, self.generation_bits())
    }

    /// To go offline when freed; a head of several frames is told that it has such a frame.
    pub(crate) const fn mark_hwpoison(self) -> Self {
        let flagged = Self(self.0 | HWPOISON);
        if self.is_head() && self.order().get() > 0 { flagged.mark_has_hwpoisoned() } else { flagged }
    }

    /// Some frame of this block is marked hwpoison.
    pub(crate) const fn mark_has_hwpoisoned(self) -> Self {
        Self(self.0 | HAS_HWPOISONED)
    }

    const fn with_kind(self, kind: u64) -> Self {
        Self(self.0 & !(0b111 << KIND_SHIFT) | kind << KIND_SHIFT)
    }
}
