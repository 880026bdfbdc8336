//! Which frames the system has given memory to: a bit per frame, a flag per 2 MiB pageblock whose
//! huge page (THP) was split, and a bit per pageblock that a release should look at.
//!
//! A bit is set before a frame is handed out and cleared when its memory went back. What it says of
//! frames in use and free frames alike is an upper bound: memory handed out but never touched
//! counts as given.

use std::sync::atomic::{AtomicU64, Ordering};

use tailpin::{FrameMask, FrameRange, Order, PAGEBLOCK_FRAMES, Pfn, RowMask};

/// Words of a pageblock: its bits, and its flags.
const BITS: usize = PAGEBLOCK_FRAMES / 64;
/// The pageblock's huge page was split and none is wanted, as some of its pages went back.
const SPLIT: u64 = 1;

pub(crate) struct Residency {
    bits: &'static [AtomicU64],
    flags: &'static [AtomicU64],
    /// A bit for each pageblock that has memory or is split. One that is set may be wrong.
    worth: &'static [AtomicU64],
    base: Pfn,
    /// Frames whose bit is set.
    there: AtomicU64,
    /// Touching one frame of a pageblock brings a huge page for all of it.
    by_pageblock: bool,
    /// Pageblocks that are split: each may cost two mappings.
    split_count: AtomicU64,
}

impl Residency {
    /// Words needed for this many frames, of whole pageblocks.
    pub(crate) fn words(frames: u64) -> usize {
        let pageblocks = frames as usize / PAGEBLOCK_FRAMES;
        pageblocks * (BITS + 1) + pageblocks.div_ceil(64)
    }

    /// Over zeroed words, for frames from `base` on.
    pub(crate) fn new(words: &'static [AtomicU64], frames: u64, base: Pfn, by_pageblock: bool) -> Self {
        let pageblocks = frames as usize / PAGEBLOCK_FRAMES;
        let (bits, rest) = words.split_at(pageblocks * BITS);
        let (flags, worth) = rest.split_at(pageblocks);
        let (there, split_count) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { bits, flags, worth, base, there, by_pageblock, split_count }
    }

    fn index(&self, pageblock: Pfn) -> usize {
        (pageblock.get() - self.base.get()) as usize / PAGEBLOCK_FRAMES
    }

    fn bits(&self, pageblock: Pfn) -> &'static [AtomicU64] {
        &self.bits[self.index(pageblock) * BITS..][..BITS]
    }

    fn flags_of(&self, pageblock: Pfn) -> &'static AtomicU64 {
        &self.flags[self.index(pageblock)]
    }

    // Relaxed all over: a pageblock's words are changed by a thread that owns the frames in
    // question, and frames change hands through the allocator, which orders what was done under
    // each owner.

    /// The frames of the block that the system may have to find memory for. All blocks that are not
    /// set by this are a pageblock's, or within one.
    #[inline(always)] // The order is mostly known beforehand.
    pub(crate) fn is_all_there(&self, head: Pfn, order: Order) -> bool {
        if order.frames() < 64 {
            // It lies within one word.
            let at = head.get() - self.base.get();
            let mask = !(!0 << order.frames()) << (at % 64);
            return self.bits[(at / 64) as usize].load(Ordering::Relaxed) & mask == mask;
        }
        self.are_all_there(head, order)
    }

    /// As [`Residency::is_all_there`], of some frames of a row.
    #[inline]
    pub(crate) fn is_there(&self, frames: RowMask) -> bool {
        let row = (frames.row().get() - self.base.get()) / Order::ROW.frames();
        self.bits[row as usize].load(Ordering::Relaxed) & frames.bits() == frames.bits()
    }

    fn are_all_there(&self, head: Pfn, order: Order) -> bool {
        let pageblock = head.head(Order::HUGE);
        let mask = FrameMask::of_block(head, order);
        let there = |(word, mask): (&AtomicU64, &u64)| word.load(Ordering::Relaxed) & mask == *mask;
        self.bits(pageblock).iter().zip(mask.words()).all(there)
    }

    /// The block (at most a pageblock) is about to be touched.
    pub(crate) fn mark(&self, head: Pfn, order: Order) {
        let pageblock = head.head(Order::HUGE);
        let whole = self.by_pageblock && !self.is_split(pageblock);
        let mask = if whole { FrameMask::ALL } else { FrameMask::of_block(head, order) };
        let mut more = 0;
        for (word, mask) in self.bits(pageblock).iter().zip(mask.words()) {
            if word.load(Ordering::Relaxed) & mask != *mask {
                let before = word.fetch_or(*mask, Ordering::Relaxed);
                more += u64::from((mask & !before).count_ones());
            }
        }
        if more > 0 {
            self.there.fetch_add(more, Ordering::Relaxed);
            self.note_worth(pageblock);
        }
    }

    fn worth_of(&self, pageblock: Pfn) -> (&'static AtomicU64, u64) {
        let index = self.index(pageblock);
        (&self.worth[index / 64], 1 << (index % 64))
    }

    fn note_worth(&self, pageblock: Pfn) {
        let (word, bit) = self.worth_of(pageblock);
        // AcqRel: pairs with the step in `note_less`. Of the two the later one sees what was done
        // before the other.
        word.fetch_or(bit, Ordering::AcqRel);
    }

    /// The pageblock has lost memory or is split no more: it may be worth no look now.
    fn note_less(&self, pageblock: Pfn) {
        let worth = || self.is_split(pageblock) || !self.of(pageblock).is_empty();
        if !worth() {
            let (word, bit) = self.worth_of(pageblock);
            // AcqRel: pairs with the step in `note_worth`, so that memory which came before it is
            // seen below.
            word.fetch_and(!bit, Ordering::AcqRel);
            if worth() {
                self.note_worth(pageblock);
            }
        }
    }

    /// Frames that may have memory.
    pub(crate) fn there(&self) -> u64 {
        self.there.load(Ordering::Relaxed)
    }

    /// The pageblocks that have memory or are split, the last first.
    pub(crate) fn pageblocks_worth_a_look(&self) -> Vec<Pfn> {
        let mut pageblocks = Vec::new();
        for (at, word) in self.worth.iter().enumerate().rev() {
            let mut left = word.load(Ordering::Relaxed);
            while left != 0 {
                let bit = left.ilog2();
                left &= !(1 << bit);
                pageblocks.push(self.base.offset(((at * 64 + bit as usize) * PAGEBLOCK_FRAMES) as u64));
            }
        }
        pageblocks
    }

    /// All of it has memory.
    pub(crate) fn mark_all(&self) {
        let mut more = 0;
        for word in self.bits {
            more += u64::from((!word.swap(!0, Ordering::Relaxed)).count_ones());
        }
        self.there.fetch_add(more, Ordering::Relaxed);
        for index in 0..self.flags.len() {
            self.note_worth(self.base.offset((index * PAGEBLOCK_FRAMES) as u64));
        }
    }

    /// The memory of these frames went back. The caller owns them.
    pub(crate) fn clear(&self, pageblock: Pfn, frames: &FrameMask) {
        let mut less = 0;
        for (word, mask) in self.bits(pageblock).iter().zip(frames.words()) {
            let before = word.fetch_and(!mask, Ordering::Relaxed);
            less += u64::from((before & mask).count_ones());
        }
        self.there.fetch_sub(less, Ordering::Relaxed);
        self.note_less(pageblock);
    }

    /// The frames of a pageblock that may have memory.
    pub(crate) fn of(&self, pageblock: Pfn) -> FrameMask {
        let bits = self.bits(pageblock);
        FrameMask::from_words(std::array::from_fn(|i| bits[i].load(Ordering::Relaxed)))
    }

    /// How many frames of a run may have memory.
    pub(crate) fn count_in(&self, frames: FrameRange) -> u64 {
        let first = frames.start.get() - self.base.get();
        let end = frames.end.get() - self.base.get();
        let mut at = first;
        let mut n = 0;
        while at < end {
            let stop = end.min((at / 64 + 1) * 64);
            let word = self.bits[(at / 64) as usize].load(Ordering::Relaxed);
            n += u64::from((word >> (at % 64) & (!0 >> (64 - (stop - at)))).count_ones());
            at = stop;
        }
        n
    }

    /// Whether touching a frame brings a huge page.
    pub(crate) fn is_by_pageblock(&self) -> bool {
        self.by_pageblock
    }

    pub(crate) fn is_split(&self, pageblock: Pfn) -> bool {
        self.flags_of(pageblock).load(Ordering::Relaxed) & SPLIT != 0
    }

    pub(crate) fn set_split(&self, pageblock: Pfn) {
        if self.flags_of(pageblock).fetch_or(SPLIT, Ordering::Relaxed) & SPLIT == 0 {
            self.split_count.fetch_add(1, Ordering::Relaxed);
        }
        self.note_worth(pageblock);
    }

    /// The pageblock may have a huge page again, as at first. The caller owns all its frames.
    pub(crate) fn set_huge_eligible(&self, pageblock: Pfn) {
        if self.flags_of(pageblock).swap(0, Ordering::Relaxed) & SPLIT != 0 {
            self.split_count.fetch_sub(1, Ordering::Relaxed);
        }
        self.note_less(pageblock);
    }

    /// Split pageblocks at this moment.
    pub(crate) fn split_pageblocks(&self) -> u64 {
        self.split_count.load(Ordering::Relaxed)
    }
}
