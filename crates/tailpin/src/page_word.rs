//! The page word: everything there is to know about one 4 KiB frame, in 64 bits.
//!
//! ```text
//!  63   61 60   56 55    52 51 ... 48 47 ... 42 41 ...... 24 23 ....... 0
//! | kind  | order | drop   | flags    | generation | refs     | pins      |
//! ```
//!
//! | field | on a head | on a tail |
//! | --- | --- | --- |
//! | `pins` | pins of its own first page, plus one *hold* for each of its tails that has pins, plus holds in passing | pins of this page (on the first page of a 2 MiB part of a larger block: also one hold for each pinned tail of that part) |
//! | `refs` | references to the whole block | 0 |
//! | `order` | order of the block | order of the block; 0 in a resting tail |
//!
//! An ordinary page is a head of order 0. A word that is zero but for its generation is *at rest*:
//! a free frame, or a tail without pins of whichever head covers it. A zero-filled map is thus a
//! valid map of free frames, and a whole 2 MiB block is handed out by writing one word.
//!
//! A head (and the first word of each 2 MiB part of a larger block) says by a flag whether any 4
//! KiB tail below it may have *recorded* its order. While none has, all of them are at rest, and a
//! split has nothing to do but to make the heads of the pieces.
//!
//! A free frame may be *loose*: not in the allocator's store but there for whoever comes first, by
//! a compare-and-swap on this very word. A page's life is then one such step out of it and one
//! back.
//!
//! A token of the raw interface names a block by its first frame, order and generation. It still
//! stands for its pieces when another holder has split the block, so a word tells which blocks it
//! was part of. A head that a split made says so by a flag. A settled head has its *rise* in the
//! place of `drop`: how many orders larger the block was when its generation began. So no two
//! blocks that were handed out one by one can pass for one.
//!
//! Every change of state is a pure function from word to word in this file; the loops that apply
//! them live with the protocol. This is the answer to "can never be changed to point to this page"
//! of the mail: there is no pointer, and *is it a tail*, *of which head* and *how often pinned* are
//! one load.

use core::fmt;

use crate::frame::Order;
use crate::protocol::{Kind, PageState};

/// Most pins a caller may put on one page (8,388,608); a get beyond it is refused, never wrapped.
pub const PIN_LIMIT: u64 = 1 << (PINS_BITS - 1);
/// Most whole-block references on one block (131,072); a get beyond it is refused, never wrapped.
pub const REF_LIMIT: u64 = 1 << (REFS_BITS - 1);

const PINS_BITS: u32 = 24;
const REFS_BITS: u32 = 18;
const GEN_BITS: u32 = 6;

const REFS_SHIFT: u32 = PINS_BITS;
const GEN_SHIFT: u32 = REFS_SHIFT + REFS_BITS;
const FLAGS_SHIFT: u32 = GEN_SHIFT + GEN_BITS;
const DROP_SHIFT: u32 = 52;
const ORDER_SHIFT: u32 = 56;
const KIND_SHIFT: u32 = 61;

const PINS_MASK: u64 = (1 << PINS_BITS) - 1;
const REFS_MASK: u64 = (1 << REFS_BITS) - 1;
const GEN_MASK: u64 = (1 << GEN_BITS) - 1;
const DROP_MASK: u64 = 0xf;
const DROP_FIELD: u64 = DROP_MASK << DROP_SHIFT;
const ORDER_MASK: u64 = 0x1f;
const KIND_FIELD: u64 = 0b111 << KIND_SHIFT;
const ORDER_FIELD: u64 = ORDER_MASK << ORDER_SHIFT;
const REFS_FIELD: u64 = REFS_MASK << REFS_SHIFT;
const FLAGS: u64 = POISONED | WARY;

/// On a head: a split made it, so its block is part of a larger one that began before it.
const PIECE: u64 = 1 << FLAGS_SHIFT;
/// This frame goes out of service when it is freed.
const POISONED: u64 = 1 << (FLAGS_SHIFT + 1);
/// On a head: some frame of the block is poisoned, so look at each before freeing.
const WARY: u64 = 1 << (FLAGS_SHIFT + 2);
/// On a head or a 2 MiB part: some 4 KiB tail below it may not be at rest. Set before the first one
/// is not, kept when the block is freed whole, gone when its area is put to rest. Not one of
/// `FLAGS`: a free frame may have it.
const RECORDED: u64 = 1 << (FLAGS_SHIFT + 3);

/// On a free frame, in the place of `drop`: it, or the 2 MiB it begins by its order, is nobody's
/// and outside the store, there for whoever claims it in this word.
const LOOSE: u64 = 1 << DROP_SHIFT;

const TAIL: u64 = 0;
const FREE: u64 = 1;
const HEAD: u64 = 2;
const SPLITTING: u64 = 3;
const SPLITTING_CLEAN: u64 = 4;
const MERGING: u64 = 5;
/// A settled head whose block never splits and whose tails are not counted: a pin on any page is a
/// pin on the head.
const UNSPLITTABLE: u64 = 6;
/// Out of service: for good if poisoned, else never in it.
const OUT: u64 = 7;

/// What a head to which nothing is happening has in these bits, be it splittable or not.
const SETTLED_FIELD: u64 = 0b011 << KIND_SHIFT;
const _: () = assert!(
    HEAD & 0b011 == HEAD && UNSPLITTABLE & 0b011 == HEAD && (TAIL | FREE | SPLITTING) & 0b011 != HEAD
);
const _: () = assert!(SPLITTING_CLEAN & 0b011 != HEAD && MERGING & 0b011 != HEAD && OUT & 0b011 != HEAD);

/// Added to the drop of a split if the head has a rise already. It is no longer known how large the
/// block was when its generation began.
const AGAIN: u64 = 9;
/// The rise of a head that was split more than once.
const RISE_UNKNOWN: u64 = DROP_MASK;
/// Orders that a head which has a rise may be split by in one step.
const DROP_AGAIN: u8 = (DROP_MASK - AGAIN) as u8;

const _: () = assert!(FLAGS_SHIFT + 4 == DROP_SHIFT && DROP_SHIFT + 4 == ORDER_SHIFT);
const _: () = assert!(ORDER_SHIFT + 5 == KIND_SHIFT && KIND_SHIFT + 3 == 64);
// Holds are never refused: the upper half of `pins` is theirs, and a block has at most 511 + 511
// pinned parts.
const _: () = assert!(PIN_LIMIT + 2 * 511 < PINS_MASK / 2 * 2);
const _: () = assert!(Order::MAX.get() as u64 <= ORDER_MASK && Order::HUGE.get() as u64 <= DROP_MASK);
// Splits drop at most nine orders in one step: 9 → 0 within an area, 18 → 9 above it.
const _: () = assert!(Order::MAX.get() - Order::HUGE.get() == Order::HUGE.get());

/// The value of one page word. See the module's own text for its fields.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct PageWord(pub(crate) u64);

/// One whole-block reference, for adding to and subtracting from a word.
pub(crate) const ONE_REF: u64 = 1 << REFS_SHIFT;

impl PageWord {
    const fn build(kind: u64, order: Order, rest: u64) -> Self {
        Self(kind << KIND_SHIFT | (order.get() as u64) << ORDER_SHIFT | rest)
    }

    const fn kind_bits(self) -> u64 {
        self.0 >> KIND_SHIFT
    }

    const fn generation_bits(self) -> u64 {
        self.0 & (GEN_MASK << GEN_SHIFT)
    }

    const fn next_generation(self) -> u64 {
        (self.generation_bits() + (1 << GEN_SHIFT)) & (GEN_MASK << GEN_SHIFT)
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

    /// References to the whole block.
    #[inline]
    pub const fn refs(self) -> u64 {
        self.0 >> REFS_SHIFT & REFS_MASK
    }

    /// How often, modulo 64, a block has begun at this frame, been merged here or been adopted from
    /// its token.
    #[inline]
    pub const fn generation(self) -> u8 {
        (self.0 >> GEN_SHIFT & GEN_MASK) as u8
    }

    /// Order of the block; 0 for a word at rest.
    #[inline]
    pub const fn order(self) -> Order {
        Order::wrap((self.0 >> ORDER_SHIFT & ORDER_MASK) as u8)
    }

    /// Order of the pieces that a split under way makes.
    #[inline]
    pub const fn target(self) -> Order {
        let drop = self.drop_bits();
        let drop = if drop > AGAIN { drop - AGAIN } else { drop };
        Order::wrap(self.order().get() - drop as u8)
    }

    /// Whether tails of this block are not counted.
    #[inline]
    pub const fn is_unsplittable(self) -> bool {
        self.kind_bits() == UNSPLITTABLE
    }

    /// Whether this frame goes out of service when it is freed.
    #[inline]
    pub const fn is_poisoned(self) -> bool {
        self.0 & POISONED != 0
    }

    /// Whether some frame of the block is poisoned.
    #[inline]
    pub const fn is_wary(self) -> bool {
        self.0 & WARY != 0
    }

    /// Free, or a tail without pins that never recorded its order.
    #[inline]
    pub const fn is_rest(self) -> bool {
        self.0 & !(GEN_MASK << GEN_SHIFT) == 0
    }

    /// All 4 KiB tails of this block (of a larger one: of its first 2 MiB) are at rest.
    #[inline]
    pub const fn tails_rest(self) -> bool {
        self.0 & RECORDED == 0
    }

    /// A tail, at rest or not.
    #[inline]
    pub const fn is_tail(self) -> bool {
        self.kind_bits() == TAIL
    }

    /// A head, whatever is happening to it.
    #[inline]
    pub const fn is_head(self) -> bool {
        matches!(self.kind_bits(), HEAD..=UNSPLITTABLE)
    }

    /// A head to which nothing is happening.
    #[inline]
    pub const fn is_settled_head(self) -> bool {
        self.0 & SETTLED_FIELD == HEAD << KIND_SHIFT
    }

    /// A head being split.
    #[inline]
    pub const fn is_splitting(self) -> bool {
        matches!(self.kind_bits(), SPLITTING | SPLITTING_CLEAN)
    }

    /// A head being split whose tails are all at rest, so that only the heads of the pieces have to
    /// be made.
    #[inline]
    pub const fn is_splitting_clean(self) -> bool {
        self.kind_bits() == SPLITTING_CLEAN
    }

    /// A head being put together from smaller blocks.
    #[inline]
    pub const fn is_merging(self) -> bool {
        self.kind_bits() == MERGING
    }

    /// A head with at least one reference or pin.
    #[inline]
    pub const fn is_live_head(self) -> bool {
        self.is_head() && self.0 & (PINS_MASK | REFS_MASK << REFS_SHIFT) != 0
    }

    /// A page whose own word is all that a pin on it changes: a live head that is not merging, or a
    /// pinned tail.
    #[inline]
    pub const fn is_pinnable_alone(self) -> bool {
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

    /// Whether more than `n` references are there.
    #[inline]
    pub(crate) const fn has_more_refs_than(self, n: u64) -> bool {
        n < REF_LIMIT && self.0 & REFS_FIELD > n * ONE_REF
    }

    /// Whether a reference is there and `n` more may be.
    #[inline]
    pub(crate) const fn has_room_for_refs(self, n: u64) -> bool {
        let refs = self.0 & REFS_FIELD;
        n < REF_LIMIT && refs != 0 && refs <= (REF_LIMIT - n) * ONE_REF
    }

    /// A tail of a block of `order`, at rest or not, that is neither pinned nor poisoned and was
    /// never a part.
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

    /// A page by itself that is neither pinned nor poisoned, and to which nothing is happening.
    #[inline]
    pub(crate) const fn is_plain_page(self) -> bool {
        const LOOK: u64 = KIND_FIELD | ORDER_FIELD | FLAGS | PINS_MASK;
        self.0 & LOOK == HEAD << KIND_SHIFT
    }

    /// What a frame that the allocator owns must look like: nothing pinned, nothing flagged, not
    /// there for others.
    #[inline]
    pub const fn is_idle(self) -> bool {
        matches!(self.kind_bits(), TAIL | FREE) && self.0 & (PINS_MASK | FLAGS | LOOSE) == 0
    }

    /// A free block of `order`, a page or 2 MiB, that is there for whoever claims it.
    #[inline]
    pub const fn is_loose(self, order: Order) -> bool {
        self.0 & !(GEN_MASK << GEN_SHIFT | RECORDED) == Self::build(FREE, order, LOOSE).0
    }

    /// A free block of `order`, a page or 2 MiB, becomes loose.
    #[inline]
    pub(crate) const fn loosened(self, order: Order) -> Self {
        let recorded = if order.get() > 0 { self.0 & RECORDED } else { 0 };
        Self::build(FREE, order, self.generation_bits() | recorded | LOOSE)
    }

    /// A loose block becomes its claimer's.
    #[inline]
    pub(crate) const fn claimed(self) -> Self {
        Self::build(FREE, Order::PAGE, self.generation_bits() | self.0 & RECORDED)
    }

    /// `n` more pins for a caller, or `None` beyond [`PIN_LIMIT`].
    #[inline]
    pub(crate) const fn pin(self, n: u64) -> Option<Self> {
        match self.pins().checked_add(n) {
            Some(pins) if pins <= PIN_LIMIT => Some(Self(self.0 + n)),
            _ => None,
        }
    }

    /// `n` more holds. They are never refused. From here on a tail may record its order; a clean
    /// split becomes an ordinary one, in which every tail word has to be rewritten.
    #[inline]
    pub(crate) const fn hold(self, n: u64) -> Self {
        let held = Self(self.0 + n).recorded();
        if self.is_splitting_clean() { held.with_kind(SPLITTING) } else { held }
    }

    /// Some tail may record its order.
    #[inline]
    pub(crate) const fn recorded(self) -> Self {
        Self(self.0 | RECORDED)
    }

    /// The word of a free frame that a block is about to begin at; whether its tails are at rest
    /// was looked up.
    #[inline]
    pub(crate) const fn readied(self, tails_rest: bool) -> Self {
        let free = Self::build(FREE, Order::PAGE, self.generation_bits());
        if tails_rest { free } else { free.recorded() }
    }

    /// `n` pins or holds less, or `None` where there are fewer.
    #[inline]
    pub(crate) const fn unpin(self, n: u64) -> Option<Self> {
        if self.pins() < n { None } else { Some(Self(self.0 - n)) }
    }

    /// `n` more references to a settled block, or `None` beyond [`REF_LIMIT`].
    #[inline]
    pub(crate) const fn add_refs(self, n: u64) -> Option<Self> {
        match self.refs().checked_add(n) {
            Some(refs) if refs <= REF_LIMIT => Some(Self(self.0 + n * ONE_REF)),
            _ => None,
        }
    }

    /// `n` references less, or `None` where there are fewer.
    #[inline]
    pub(crate) const fn drop_refs(self, n: u64) -> Option<Self> {
        if self.refs() < n { None } else { Some(Self(self.0 - n * ONE_REF)) }
    }

    /// The same tail, now of a block of `order`.
    #[inline]
    pub(crate) const fn tail_of(self, order: Order) -> Self {
        Self::build(TAIL, order, self.0 & (PINS_MASK | GEN_MASK << GEN_SHIFT | POISONED | RECORDED))
    }

    /// A fresh block begins here: one reference, a new generation. What its tails record they have
    /// recorded before.
    #[inline]
    pub(crate) const fn publish(self, order: Order, unsplittable: bool) -> Self {
        let kind = if unsplittable { UNSPLITTABLE } else { HEAD };
        let recorded = if order.get() > 0 { self.0 & RECORDED } else { 0 };
        Self::build(kind, order, self.next_generation() | recorded | ONE_REF)
    }

    /// The free frame that a dead head or an unneeded piece becomes; out of service if poisoned.
    /// Whole areas can be handed out again without a look at their tails, so these go on saying
    /// whether all rest.
    #[inline]
    pub(crate) const fn freed(self) -> Self {
        let kind = if self.is_poisoned() { OUT } else { FREE };
        let recorded = if self.is_whole_area() { self.0 & RECORDED } else { 0 };
        Self::build(kind, Order::PAGE, self.generation_bits() | self.0 & POISONED | recorded)
    }

    /// What a head becomes in the very step that takes its last reference, if it has no pins and
    /// its own word is all there is to look at and to write.
    #[inline]
    pub(crate) const fn frees_at_once(self) -> Option<Self> {
        let alone = self.order().get() <= Order::HUGE.get() && self.0 & (POISONED | WARY) == 0;
        if self.is_live_head() || !alone { None } else { Some(self.freed()) }
    }

    /// The loose page or 2 MiB that a block of `order` becomes in the step that takes its last
    /// reference: one that is settled, has neither pins nor flags, and whose own word is all there
    /// is to look at and to write.
    #[inline]
    pub(crate) const fn loosens(self, order: Order) -> Option<Self> {
        let stays = GEN_MASK << GEN_SHIFT | if order.get() > 0 { RECORDED } else { 0 };
        let lone = Self::build(HEAD, order, ONE_REF);
        // Whether a split made it, and what it was part of, ends here.
        if self.0 & !(stays | PIECE | DROP_FIELD) == lone.0 {
            Some(Self(self.0 & stays | Self::build(FREE, order, LOOSE).0))
        } else {
            None
        }
    }

    const fn is_whole_area(self) -> bool {
        (self.0 >> ORDER_SHIFT & ORDER_MASK) as u8 >= Order::HUGE.get()
    }

    /// At rest again; only for a wholly free area that the allocator owns.
    #[inline]
    pub(crate) const fn rested(self) -> Self {
        Self(self.generation_bits())
    }

    const fn drop_bits(self) -> u64 {
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

    /// A settled head starts to split into pieces of `target`. References are frozen where they
    /// are. The split is clean if all tails rest; if not, all of them are going to record the new
    /// order.
    #[inline]
    pub(crate) const fn begin_split(self, target: Order) -> Self {
        let small = self.order().get() <= Order::HUGE.get();
        let clean = small && target.get() > 0 && self.tails_rest();
        let drop = (self.order().get() - target.get()) as u64;
        let drop = if self.drop_bits() == 0 { drop } else { drop + AGAIN };
        debug_assert!(drop <= DROP_MASK);
        let begun = Self(self.0 & !DROP_FIELD | drop << DROP_SHIFT);
        let begun = begun.with_kind(if clean { SPLITTING_CLEAN } else { SPLITTING });
        if small && !clean { begun.recorded() } else { begun }
    }

    /// The last reference goes while pages are pinned: the dropper takes a hold and splits the
    /// block, with no reference left to hand on.
    #[inline]
    pub(crate) const fn begin_self_split(self, target: Order) -> Self {
        self.hold(1).begin_last_split(target)
    }

    /// A block without references is split: there can be no token of it, so what it was does not
    /// matter any more.
    #[inline]
    pub(crate) const fn begin_last_split(self, target: Order) -> Self {
        Self(self.0 & !DROP_FIELD).begin_split(target)
    }

    /// A split is over for its head: it heads the first piece.
    #[inline]
    pub(crate) const fn end_split(self) -> Self {
        let target = self.target();
        let no_tails = if target.get() > 0 { 0 } else { RECORDED };
        let drop = self.drop_bits();
        let rise = if drop > AGAIN { RISE_UNKNOWN } else { drop };
        let rest = self.0 & !(ORDER_FIELD | DROP_FIELD | no_tails) | rise << DROP_SHIFT;
        Self::build(HEAD, target, rest).with_kind(HEAD)
    }

    /// A tail becomes a page by itself with `refs` references; its pins stay.
    #[inline]
    pub(crate) const fn page(self, refs: u64) -> Self {
        let keep = self.0 & (PINS_MASK | POISONED);
        Self::build(HEAD, Order::PAGE, keep | PIECE | self.next_generation() | (refs * ONE_REF))
    }

    /// A tail becomes the head of a piece of the split that has `begun`, with `refs` references;
    /// its pins stay.
    #[inline]
    pub(crate) const fn piece(self, begun: Self, refs: u64) -> Self {
        let order = begun.target();
        if order.get() == 0 {
            return self.page(refs);
        }
        let wary = begun.0 & WARY;
        let recorded = if begun.order().get() > Order::HUGE.get() {
            self.0 & RECORDED // The tails of a 2 MiB part stay as they are.
        } else {
            begun.0 & RECORDED
        };
        let keep = self.0 & (PINS_MASK | POISONED);
        Self::build(HEAD, order, keep | PIECE | wary | recorded | self.next_generation() | (refs * ONE_REF))
    }

    /// The first of several blocks becomes the head they are merged under, whose 4 KiB tails will
    /// all be at rest, or some not. Tokens of the pieces are used up, so a generation begins.
    #[inline]
    pub(crate) const fn begin_merge(self, order: Order, tails_rest: bool) -> Self {
        let keep = self.renewed().0 & !(ORDER_FIELD | DROP_FIELD | RECORDED);
        let merging = Self((order.get() as u64) << ORDER_SHIFT | keep).with_kind(MERGING);
        if tails_rest { merging } else { merging.recorded() }
    }

    /// All parts are tails now.
    #[inline]
    pub(crate) const fn end_merge(self) -> Self {
        self.with_kind(HEAD)
    }

    /// A settled head that its only owner is about to merge: references stand still, pins go on.
    #[inline]
    pub(crate) const fn set_apart(self) -> Self {
        self.with_kind(MERGING)
    }

    /// Its only reference becomes a handle's: tokens of the block, and of any that it was part of,
    /// are used up.
    #[inline]
    pub(crate) const fn adopted(self) -> Self {
        Self(self.renewed().0 & !(PIECE | DROP_FIELD))
    }

    /// A generation begins without anything else.
    #[inline]
    pub(crate) const fn renewed(self) -> Self {
        Self(self.0 & !(GEN_MASK << GEN_SHIFT) | self.next_generation())
    }

    /// A frame that never enters service.
    pub(crate) const fn reserved() -> Self {
        Self::build(OUT, Order::PAGE, 0)
    }

    /// Out of service for good.
    pub(crate) const fn set_aside(self) -> Self {
        Self::build(OUT, Order::PAGE, self.generation_bits() | POISONED)
    }

    /// To be set aside when freed; a head of several frames is made wary too.
    pub(crate) const fn poisoned(self) -> Self {
        let flagged = Self(self.0 | POISONED);
        if self.is_head() && self.order().get() > 0 { flagged.wary() } else { flagged }
    }

    /// Some frame of this block is poisoned.
    pub(crate) const fn wary(self) -> Self {
        Self(self.0 | WARY)
    }

    const fn with_kind(self, kind: u64) -> Self {
        Self(self.0 & !(0b111 << KIND_SHIFT) | kind << KIND_SHIFT)
    }

    /// The fields, by name.
    pub const fn decode(self) -> PageState {
        let kind = match self.kind_bits() {
            TAIL if self.is_rest() => Kind::Rest,
            TAIL => Kind::Tail,
            FREE => Kind::Free,
            HEAD | UNSPLITTABLE if self.0 >> ORDER_SHIFT & ORDER_MASK == 0 => Kind::Page,
            HEAD | UNSPLITTABLE => Kind::Head,
            SPLITTING | SPLITTING_CLEAN => Kind::Splitting,
            MERGING => Kind::Merging,
            _ if self.is_poisoned() => Kind::SetAside,
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
            poisoned: self.is_poisoned(),
        }
    }
}

impl fmt::Debug for PageWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.decode())
    }
}

#[cfg(test)]
mod tests;
