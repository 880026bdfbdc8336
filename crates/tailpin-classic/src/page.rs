//! The words of one `struct page`, and what they say.
//!
//! | word | head | tail | ordinary page | free frame |
//! | --- | --- | --- | --- | --- |
//! | `count` | all references: pins of any of its pages, and block references | 0 | pins and references | 0 |
//! | `mapcount` | block references ("huge mappings") | pins of this page | references | 0 |
//! | `flags` | `PG_head`, the lock | `PG_tail` | the lock | generation only |
//! | `first_page` | – | number of the head | stale | stale |
//! | `lru` | – | in the first tail: order of the block | stale | stale |
//!
//! `mapcount` is kept as a plain number, not as the kernel's "minus one", so that zero-filled words
//! are a valid map of free frames. The rest is the kernel of the 2013 mail (3.13:
//! `include/linux/mm_types.h`, `page-flags.h`).

use core::sync::atomic::Ordering;

use super::{Classic, Safeguard, Safeguards};
use tailpin::AtomicWord;
use tailpin::{FrameRange, Order, Pfn};
use tailpin::{Kind, PageState};

/// Words per frame.
pub(super) const WORDS: usize = 5;

const COUNT: usize = 0;
const MAPCOUNT: usize = 1;
const FLAGS: usize = 2;
const FIRST_PAGE: usize = 3;
const LRU: usize = 4;

/// First page of a compound page.
pub(super) const PG_HEAD: u64 = 1;
/// Another page of one.
pub(super) const PG_TAIL: u64 = 1 << 1;
/// The bit spinlock of [`compound_lock`](Classic::compound_lock).
pub(super) const PG_COMPOUND_LOCK: u64 = 1 << 2;
/// Never in service; with [`PG_HWPOISON`]: taken out of service.
pub(super) const PG_RESERVED: u64 = 1 << 3;
/// Leaves service when freed.
pub(super) const PG_HWPOISON: u64 = 1 << 4;
/// On a head: the unsplittable class, whose tails are not counted (`PageHeadHuge`).
pub(super) const PG_HUGETLB: u64 = 1 << 5;

/// On a free frame: it is uncoalesced, outside the pool and there for the first thread that claims
/// it.
pub(super) const PG_UNCOALESCED: u64 = 1 << 6;
/// On a free frame: the 2 MiB that it begins is uncoalesced.
pub(super) const PG_UNCOALESCED_HUGE: u64 = 1 << 7;

/// On a head or page: a split made it, so it is part of a larger block that began before it.
pub(super) const PG_PIECE: u64 = 1 << 8;

const BEGAN_SHIFT: u32 = 9;
/// The bits of [`began`].
pub(super) const BEGAN: u64 = 0x1f << BEGAN_SHIFT;

/// The bits that say of a head or page which order its block had when its generation began.
pub(super) const fn began(order: Order) -> u64 {
    (order.get() as u64) << BEGAN_SHIFT
}

const GENERATION_SHIFT: u32 = 58;
/// One more block has begun here. The generation has the top bits, so an addition that overflows it
/// harms nothing.
pub(super) const ONE_GENERATION: u64 = 1 << GENERATION_SHIFT;
/// What of the flags outlives the block.
pub(super) const GENERATION: u64 = !(ONE_GENERATION - 1);

/// The generation in a flags word.
pub(super) const fn generation(flags: u64) -> u8 {
    (flags >> GENERATION_SHIFT) as u8
}

impl<W: AtomicWord, S: Safeguards<Safeguard>> Classic<'_, W, S> {
    #[inline]
    fn word(&self, frame: Pfn, field: usize) -> &W {
        // What lies before the first frame is far beyond the last one.
        let index = usize::try_from(frame.get().wrapping_sub(self.base.get())).unwrap_or(usize::MAX);
        &self.words[index.saturating_mul(WORDS)..][field]
    }

    #[inline]
    pub(super) fn count(&self, frame: Pfn) -> &W {
        self.word(frame, COUNT)
    }

    #[inline]
    pub(super) fn mapcount(&self, frame: Pfn) -> &W {
        self.word(frame, MAPCOUNT)
    }

    #[inline]
    pub(super) fn flags(&self, frame: Pfn) -> &W {
        self.word(frame, FLAGS)
    }

    #[inline]
    pub(super) fn first_page(&self, frame: Pfn) -> &W {
        self.word(frame, FIRST_PAGE)
    }

    /// Where a head keeps its order: `page[1].lru.prev`.
    #[inline]
    pub(super) fn order_word(&self, head: Pfn) -> &W {
        self.word(head.offset(1), LRU)
    }

    /// Acquire: pairs with the fence before `PG_tail` is set in `prep_compound_page` (so
    /// `first_page` is seen with it) and with the full barrier before it is cleared in the split
    /// (so the count is seen with that).
    #[inline]
    pub(super) fn page_flags(&self, frame: Pfn) -> u64 {
        self.flags(frame).load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn page_tail(&self, frame: Pfn) -> bool {
        self.page_flags(frame) & PG_TAIL != 0
    }

    /// Order of the block that `head` heads: 0 where it is no head. A hint without a reference on
    /// it.
    #[inline]
    pub(super) fn compound_order(&self, head: Pfn) -> Order {
        self.order_by_flags(head, self.page_flags(head))
    }

    #[inline]
    pub(super) fn order_by_flags(&self, head: Pfn, flags: u64) -> Order {
        if flags & PG_HEAD == 0 {
            return Order::PAGE;
        }
        // Acquire: pairs with the Release of a split that lowers it, after the tails have new
        // heads.
        let order = self.order_word(head).load(Ordering::Acquire);
        // A hint may be torn; a torn one is an ordinary page to the caller.
        u8::try_from(order).ok().and_then(Order::new).unwrap_or(Order::PAGE)
    }

    /// Which order a block had when its generation began, from its head's flags.
    pub(super) fn began_as(flags: u64) -> Order {
        Order::new(((flags & BEGAN) >> BEGAN_SHIFT) as u8).unwrap_or(Order::MAX)
    }

    /// The state of a frame, decoded word by word: a hint without a reference.
    pub(super) fn decode(&self, frame: Pfn) -> PageState {
        let flags = self.page_flags(frame);
        let mut state = PageState {
            kind: Kind::Free,
            order: Order::PAGE,
            pins: 0,
            refs: 0,
            generation: generation(flags),
            unsplittable: flags & PG_HUGETLB != 0,
            hwpoison: flags & PG_HWPOISON != 0,
        };
        // Relaxed, here and below: a hint, or the caller's reference orders it already.
        let count = self.count(frame).load(Ordering::Relaxed);
        let mapcount = self.mapcount(frame).load(Ordering::Relaxed);
        if flags & PG_RESERVED != 0 {
            state.kind = if state.hwpoison { Kind::Offline } else { Kind::Reserved };
        } else if flags & PG_TAIL != 0 {
            let head = Pfn::new(self.first_page(frame).load(Ordering::Acquire));
            let head_flags = self.page_flags(head);
            if head_flags & PG_HEAD != 0 && self.count(head).load(Ordering::Relaxed) > 0 {
                state.kind = Kind::Tail;
            }
            state.order = self.order_by_flags(head, head_flags);
            state.unsplittable = head_flags & PG_HUGETLB != 0;
            state.pins = mapcount;
        } else if count > 0 {
            state.kind = if flags & PG_HEAD != 0 { Kind::Head } else { Kind::Page };
            state.order = self.order_by_flags(frame, flags);
            state.refs = mapcount;
            state.pins = count.saturating_sub(mapcount);
        }
        state
    }

    /// Head and order of the live block `frame` is in.
    ///
    /// No lock or reference keeps the block as it is, so what was read is believed only if the head
    /// still has the same flags afterwards: its generation says that it is the same block (H12,
    /// H24). Each turn of the loop means that something changed.
    pub(super) fn live_head_of(&self, frame: Pfn) -> Option<(Pfn, Order)> {
        let life = |flags: u64| flags & (GENERATION | PG_HEAD | PG_TAIL);
        loop {
            let flags = self.page_flags(frame);
            let tail = flags & PG_TAIL != 0;
            // Acquire: what follows is read after it.
            let head = if tail { Pfn::new(self.first_page(frame).load(Ordering::Acquire)) } else { frame };
            let head_flags = self.page_flags(head);
            let order = self.order_by_flags(head, head_flags);
            // Acquire: the flags are read again after it.
            let live = self.count(head).load(Ordering::Acquire) > 0 && (!tail || head_flags & PG_HEAD != 0);
            let same_head = life(self.page_flags(head)) == life(head_flags);
            if live
                && same_head
                && head_flags & PG_TAIL == 0
                && FrameRange::block(head, order).contains(frame)
            {
                return Some((head, order));
            }
            let same_page = if tail { self.is_tail_of(frame, head) } else { !self.page_tail(frame) };
            if !live && same_page {
                return None;
            }
        }
    }

    /// `page_ref_sub_and_test` that refuses instead of passing below zero; whether the count is
    /// zero now.
    pub(super) fn drop_refs(&self, frame: Pfn, n: u64) -> Result<bool, u64> {
        // Release: what was done under the reference comes before the free. Acquire: the last one
        // sees all of it.
        let had = self.count(frame).fetch_sub(n, Ordering::AcqRel);
        if had >= n && had < super::count::NEGATIVE {
            return Ok(had == n);
        }
        // Relaxed: undoes a borrow by which no thread was let in.
        self.count(frame).fetch_add(n, Ordering::Relaxed);
        Err(had)
    }
}
