//! Where the fields of a page word are, and what can be asked of a word.

use core::fmt;

use crate::frame::Order;
use crate::page_state::{Kind, PageState};

/// Most pins a caller may put on one page (8,388,608); a get beyond it is refused, never wrapped.
pub const PIN_LIMIT: u64 = 1 << (PINS_BITS - 1);
/// Most whole-block references on one block (131,072); a get beyond it is refused, never wrapped.
pub const REF_LIMIT: u64 = 1 << (REFS_BITS - 1);

pub(super) const PINS_BITS: u32 = 24;
pub(super) const REFS_BITS: u32 = 18;
pub(super) const GEN_BITS: u32 = 6;

pub(super) const REFS_SHIFT: u32 = PINS_BITS;
pub(super) const GEN_SHIFT: u32 = REFS_SHIFT + REFS_BITS;
pub(super) const FLAGS_SHIFT: u32 = GEN_SHIFT + GEN_BITS;
pub(super) const DROP_SHIFT: u32 = 52;
pub(super) const ORDER_SHIFT: u32 = 56;
pub(super) const KIND_SHIFT: u32 = 61;

pub(super) const PINS_MASK: u64 = (1 << PINS_BITS) - 1;
pub(super) const REFS_MASK: u64 = (1 << REFS_BITS) - 1;
pub(super) const GEN_MASK: u64 = (1 << GEN_BITS) - 1;
pub(super) const DROP_MASK: u64 = 0xf;
pub(super) const DROP_FIELD: u64 = DROP_MASK << DROP_SHIFT;
pub(super) const ORDER_MASK: u64 = 0x1f;
pub(super) const KIND_FIELD: u64 = 0b111 << KIND_SHIFT;
pub(super) const ORDER_FIELD: u64 = ORDER_MASK << ORDER_SHIFT;
pub(super) const REFS_FIELD: u64 = REFS_MASK << REFS_SHIFT;
pub(super) const FLAGS: u64 = HWPOISON | HAS_HWPOISONED;
/// What a settled head was part of. An uncoalesced block keeps it until it is claimed, to no
/// effect: the step that frees it is shorter so.
pub(super) const PAST: u64 = PIECE | DROP_FIELD;

/// On a head: a split made it, so its block is part of a larger one that began before it.
pub(super) const PIECE: u64 = 1 << FLAGS_SHIFT;
/// This frame goes out of service when it is freed.
pub(super) const HWPOISON: u64 = 1 << (FLAGS_SHIFT + 1);
/// On a head: some frame of the block is marked hwpoison (the kernel's `PG_has_hwpoisoned`), so
/// look at each before freeing.
pub(super) const HAS_HWPOISONED: u64 = 1 << (FLAGS_SHIFT + 2);
/// On a head or a 2 MiB part: some 4 KiB tail below it may be explicit. Set before the first one
/// is, kept when the block is freed whole, gone when the words of its pageblock are made implicit.
/// Not one of `FLAGS`: a free frame may have it.
pub(super) const EXPLICIT_TAILS: u64 = 1 << (FLAGS_SHIFT + 3);

/// On a free frame, in the place of `HAS_HWPOISONED`: it, or the block that it begins by its order,
/// is uncoalesced: outside the pool, there for the first thread that claims it in this word.
pub(super) const UNCOALESCED: u64 = HAS_HWPOISONED;

// All kinds of heads are at the end, and the settled ones last: each pin and reference asks for
// these, and each question is one comparison.
pub(super) const TAIL: u64 = 0;
pub(super) const FREE: u64 = 1;
/// Out of service: offline if marked hwpoison, else reserved, never in service.
pub(super) const OUT: u64 = 2;
pub(super) const SPLITTING: u64 = 3;
pub(super) const SPLITTING_HEADS_ONLY: u64 = 4;
pub(super) const MERGING: u64 = 5;
pub(super) const HEAD: u64 = 6;
/// A settled head whose block never splits and whose tails are not counted: a pin on any page is a
/// pin on the head.
pub(super) const UNSPLITTABLE: u64 = 7;

/// What a head to which nothing is happening has in these bits, be it splittable or not.
pub(super) const SETTLED_FIELD: u64 = 0b110 << KIND_SHIFT;
const _: () = assert!(HEAD & 0b110 == HEAD && UNSPLITTABLE & 0b110 == HEAD);
const _: () = assert!(TAIL < SPLITTING && FREE < SPLITTING && OUT < SPLITTING && MERGING < HEAD);

/// Added to the drop of a split if the head has a rise already. It is no longer known how large the
/// block was when its generation began.
pub(super) const AGAIN: u64 = 9;
/// The rise of a head that was split more than once.
pub(super) const RISE_UNKNOWN: u64 = DROP_MASK;
/// Orders that a head which has a rise may be split by in one step.
pub(super) const DROP_AGAIN: u8 = (DROP_MASK - AGAIN) as u8;

const _: () = assert!(FLAGS_SHIFT + 4 == DROP_SHIFT && DROP_SHIFT + 4 == ORDER_SHIFT);
const _: () = assert!(ORDER_SHIFT + 5 == KIND_SHIFT && KIND_SHIFT + 3 == 64);
// Holds are never refused: the upper half of `pins` is theirs, and a block has at most 511 + 511
// pinned parts.
const _: () = assert!(PIN_LIMIT + 2 * 511 < PINS_MASK / 2 * 2);
const _: () = assert!(Order::MAX.get() as u64 <= ORDER_MASK && Order::HUGE.get() as u64 <= DROP_MASK);
// Splits drop at most nine orders in one step: 9 → 0 within a pageblock, 18 → 9 above it.
const _: () = assert!(Order::MAX.get() - Order::HUGE.get() == Order::HUGE.get());

/// The value of one page word, as `struct page` or a folio is in Linux. See the module's own text
/// for its fields.
///
/// # Invariants
/// Each transition makes a valid word of a valid one:
///
/// * references, and the flags of heads, are on heads alone; a free frame or one out of service has
///   no pins;
/// * an explicit tail is of an order above 0; a page, which has no tails, does not say that any are
///   explicit;
/// * a split under way goes down by one to nine orders and not across 2 MiB; below 2 MiB it is
///   heads-only exactly if it leaves pieces with tails and all tails are implicit, and otherwise
///   the head says that some are explicit, unless it has no references.
#[doc(alias = "folio")]
#[doc(alias = "struct page")]
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct PageWord(pub(crate) u64);

/// One whole-block reference, for adding to and subtracting from a word.
pub(crate) const ONE_REF: u64 = 1 << REFS_SHIFT;

impl PageWord {
    pub(super) const fn build(kind: u64, order: Order, rest: u64) -> Self {
        Self(kind << KIND_SHIFT | (order.get() as u64) << ORDER_SHIFT | rest)
    }

    pub(super) const fn kind_bits(self) -> u64 {
        self.0 >> KIND_SHIFT
    }

    pub(super) const fn generation_bits(self) -> u64 {
        self.0 & (GEN_MASK << GEN_SHIFT)
    }

    /// The word with these bits, as read from memory: for decoding it elsewhere.
    #[inline]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Pins, and on a head the holds of its tails.
    #[inline]
    pub const fn pins(self) -> u64 {
        self.0 & PINS_MASK
    }

    /// References to the whole block: its refcount.
    #[inline]
    pub(crate) const fn refs(self) -> u64 {
        self.0 >> REFS_SHIFT & REFS_MASK
    }

    /// How often, modulo 64, a block has begun at this frame (the tag against ABA), been merged
    /// here or been adopted from its token.
    #[inline]
    pub(crate) const fn generation(self) -> u8 {
        (self.0 >> GEN_SHIFT & GEN_MASK) as u8
    }

    /// Order of the block; 0 for an implicit word.
    #[inline]
    pub(crate) const fn order(self) -> Order {
        Order::wrap((self.0 >> ORDER_SHIFT & ORDER_MASK) as u8)
    }

    /// Order of the pieces that a split under way makes.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "a split goes to a smaller order")]
    pub(crate) const fn target(self) -> Order {
        let drop = self.drop_bits();
        let drop = if drop > AGAIN { drop - AGAIN } else { drop };
        Order::wrap(self.order().get() - drop as u8)
    }

    /// Whether tails of this block are not counted.
    #[inline]
    pub(crate) const fn is_unsplittable(self) -> bool {
        self.kind_bits() == UNSPLITTABLE
    }

    /// Whether this frame goes out of service when it is freed: `PG_hwpoison`, as
    /// `memory_failure` sets it.
    #[inline]
    pub(crate) const fn is_hwpoison(self) -> bool {
        self.0 & HWPOISON != 0
    }

    /// Whether some frame of the block is marked hwpoison.
    #[inline]
    pub(crate) const fn has_hwpoisoned(self) -> bool {
        self.0 & HAS_HWPOISONED != 0
    }

    /// Zero but for its generation: free, or a tail without pins of the head that covers it,
    /// whichever it is.
    #[inline]
    pub(crate) const fn is_implicit(self) -> bool {
        self.0 & !(GEN_MASK << GEN_SHIFT) == 0
    }

    /// All 4 KiB tails of this block (of a larger one: of its first 2 MiB) are implicit.
    #[inline]
    pub(crate) const fn all_tails_implicit(self) -> bool {
        self.0 & EXPLICIT_TAILS == 0
    }

    /// A tail, implicit or explicit.
    #[inline]
    pub(crate) const fn is_tail(self) -> bool {
        self.kind_bits() == TAIL
    }

    /// A head, whatever is happening to it.
    #[inline]
    pub(crate) const fn is_head(self) -> bool {
        self.kind_bits() >= SPLITTING
    }

    /// A head to which nothing is happening.
    #[inline]
    pub(crate) const fn is_settled_head(self) -> bool {
        self.0 >= HEAD << KIND_SHIFT
    }

    /// A head being split.
    #[inline]
    pub const fn is_splitting(self) -> bool {
        matches!(self.kind_bits(), SPLITTING | SPLITTING_HEADS_ONLY)
    }

    /// A head being split whose tails are all implicit, so that only the heads of the pieces have
    /// to be made.
    #[inline]
    pub(crate) const fn is_heads_only_split(self) -> bool {
        self.kind_bits() == SPLITTING_HEADS_ONLY
    }

    /// A head being put together from smaller blocks.
    #[inline]
    pub(crate) const fn is_merging(self) -> bool {
        self.kind_bits() == MERGING
    }

    /// A head with at least one reference or pin.
    #[inline]
    pub(crate) const fn is_live_head(self) -> bool {
        self.is_head() && self.0 & (PINS_MASK | REFS_MASK << REFS_SHIFT) != 0
    }

    /// A page whose own word is all that a pin on it changes: a live head that is not merging, or a
    /// pinned tail.
    #[inline]
    pub(crate) const fn is_pinnable_alone(self) -> bool {
        // A locked instruction waits for every branch before it: short chains from the word to each
        // decision.
        self.is_settled_head() && self.0 & (PINS_MASK | REFS_FIELD) != 0
            || self.0 & KIND_FIELD == TAIL << KIND_SHIFT && self.pins() > 0
    }

    /// A head of this order to which nothing is happening.
    #[inline]
    pub(crate) const fn is_settled_head_of(self, order: Order) -> bool {
        self.0 & (SETTLED_FIELD | ORDER_FIELD) == HEAD << KIND_SHIFT | (order.get() as u64) << ORDER_SHIFT
    }

    /// A live head of this order to which nothing is happening and whose tails are counted.
    #[inline]
    pub(crate) const fn is_head_to_hold_of(self, order: Order) -> bool {
        self.0 & (KIND_FIELD | ORDER_FIELD) == Self::build(HEAD, order, 0).0
            && self.0 & (PINS_MASK | REFS_FIELD) != 0
    }

    /// Whether more than `n` references are there.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "below the limit")]
    pub(crate) const fn has_more_refs_than(self, n: u64) -> bool {
        n < REF_LIMIT && self.0 & REFS_FIELD > n * ONE_REF
    }

    /// Whether a reference is there and `n` more may be.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "below the limit")]
    pub(crate) const fn has_room_for_refs(self, n: u64) -> bool {
        let refs = self.0 & REFS_FIELD;
        n < REF_LIMIT && refs != 0 && refs <= (REF_LIMIT - n) * ONE_REF
    }

    /// A tail of a block of `order`, implicit or explicit, that is neither pinned nor marked
    /// hwpoison and was never a part.
    #[inline]
    pub(crate) const fn is_plain_tail_of(self, order: Order) -> bool {
        let but_generation = self.0 & !(GEN_MASK << GEN_SHIFT);
        but_generation == 0 || but_generation == (order.get() as u64) << ORDER_SHIFT
    }

    /// A block that its only owner may merge.
    #[inline]
    pub(crate) const fn is_mergeable(self) -> bool {
        const LOOK: u64 = KIND_FIELD | REFS_FIELD;
        self.0 & LOOK == HEAD << KIND_SHIFT | ONE_REF
    }

    /// A page, a block of order 0, that is neither pinned nor marked hwpoison, and to which nothing
    /// is happening.
    #[inline]
    pub(crate) const fn is_plain_page(self) -> bool {
        const LOOK: u64 = KIND_FIELD | ORDER_FIELD | FLAGS | REFS_FIELD | PINS_MASK;
        self.0 & LOOK == HEAD << KIND_SHIFT | ONE_REF
    }

    /// What a frame that the allocator owns must look like: nothing pinned, nothing flagged, not
    /// there for others.
    #[inline]
    pub(crate) const fn is_idle(self) -> bool {
        matches!(self.kind_bits(), TAIL | FREE) && self.0 & (PINS_MASK | FLAGS) == 0
    }

    /// A free block of `order`, 2 MiB at most, that is uncoalesced: there for the first thread
    /// that claims it.
    #[inline]
    pub const fn is_uncoalesced(self, order: Order) -> bool {
        self.0 & !(GEN_MASK << GEN_SHIFT | EXPLICIT_TAILS | PAST) == Self::build(FREE, order, UNCOALESCED).0
    }

    pub(super) const fn is_whole_pageblock(self) -> bool {
        (self.0 >> ORDER_SHIFT & ORDER_MASK) as u8 >= Order::HUGE.get()
    }

    pub(super) const fn drop_bits(self) -> u64 {
        self.0 >> DROP_SHIFT & DROP_MASK
    }

    /// Whether a split made this head.
    #[inline]
    pub(crate) const fn is_piece(self) -> bool {
        self.0 & PIECE != 0
    }

    /// Whether a block of `order` began or was at this head in its present generation, so that a
    /// reference to that block is one to this piece of it. Of a head that was split more than once
    /// any larger order is believed.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "orders and differences of orders")]
    pub(crate) const fn was_of(self, order: Order) -> bool {
        let rise = match (self.is_splitting(), self.drop_bits()) {
            (false, rise) => rise,
            (true, drop) if drop > AGAIN => RISE_UNKNOWN,
            (true, _) => 0,
        };
        let (now, then) = (self.order().get() as u64, order.get() as u64);
        now <= then && (rise == RISE_UNKNOWN || then <= now + rise)
    }

    /// The smallest pieces that one step of a split can make of it.
    #[inline]
    pub(crate) const fn smallest_pieces(self) -> Order {
        let order = self.order();
        let floor = if order.get() > Order::HUGE.get() { Order::HUGE } else { Order::PAGE };
        let step = order.get().saturating_sub(DROP_AGAIN);
        if self.drop_bits() == 0 || step < floor.get() { floor } else { Order::wrap(step) }
    }

    /// The fields, by name.
    pub const fn decode(self) -> PageState {
        let kind = match self.kind_bits() {
            TAIL if self.is_implicit() => Kind::Implicit,
            TAIL => Kind::Tail,
            FREE => Kind::Free,
            HEAD | UNSPLITTABLE if self.0 >> ORDER_SHIFT & ORDER_MASK == 0 => Kind::Page,
            HEAD | UNSPLITTABLE => Kind::Head,
            SPLITTING | SPLITTING_HEADS_ONLY => Kind::Splitting,
            MERGING => Kind::Merging,
            _ if self.is_hwpoison() => Kind::Offline,
            _ => Kind::Reserved,
        };
        // A scribbled word may say anything; a report about it must not fail.
        let order = match Order::new((self.0 >> ORDER_SHIFT & ORDER_MASK) as u8) {
            Some(order) => order,
            None => Order::MAX,
        };
        PageState {
            kind,
            order,
            pins: self.pins(),
            refs: self.refs(),
            generation: self.generation(),
            unsplittable: self.is_unsplittable(),
            hwpoison: self.is_hwpoison(),
        }
    }
}

impl fmt::Debug for PageWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.decode())
    }
}
