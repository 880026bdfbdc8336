//! Which frames the system has given memory to: a bit per frame, and a flag per 2 MiB area whose
//! huge page (THP) was split.
//!
//! A bit is set before a frame is handed out and cleared when its memory went back. What it says of
//! frames in use and free frames alike is an upper bound: memory handed out but never touched
//! counts as given.

use std::sync::atomic::{AtomicU64, Ordering};

use tailpin::{AREA_FRAMES, FrameMask, FrameRange, Order, Pfn};

/// Words of an area: its bits, and its flags.
const BITS: usize = AREA_FRAMES / 64;
/// The area's huge page was split and none is wanted, as some of its pages went back.
const SPLIT: u64 = 1;

pub(crate) struct Residency {
    bits: &'static [AtomicU64],
    flags: &'static [AtomicU64],
    base: Pfn,
    /// Touching one frame of an area brings a huge page for all of it.
    by_area: bool,
    /// Areas that are split: each may cost two mappings.
    split_count: AtomicU64,
}

impl Residency {
    /// Words needed for this many frames, of whole areas.
    pub(crate) fn words(frames: u64) -> usize {
        frames as usize / AREA_FRAMES * (BITS + 1)
    }

    /// Over zeroed words, for frames from `base` on.
    pub(crate) fn new(words: &'static [AtomicU64], base: Pfn, by_area: bool) -> Self {
        let (bits, flags) = words.split_at(words.len() / (BITS + 1) * BITS);
        Self { bits, flags, base, by_area, split_count: AtomicU64::new(0) }
    }

    fn index(&self, area: Pfn) -> usize {
        (area.get() - self.base.get()) as usize / AREA_FRAMES
    }

    fn bits(&self, area: Pfn) -> &'static [AtomicU64] {
        &self.bits[self.index(area) * BITS..][..BITS]
    }

    fn flags_of(&self, area: Pfn) -> &'static AtomicU64 {
        &self.flags[self.index(area)]
    }

    // Relaxed all over: an area's words are changed by a thread that owns the frames in question,
    // and frames change hands through the allocator, which orders what was done under each owner.

    /// The frames of the block that the system may have to find memory for. All blocks that are not
    /// set by this are an area's, or within one.
    pub(crate) fn is_all_there(&self, head: Pfn, order: Order) -> bool {
        let area = head.head(Order::HUGE);
        if order.frames() < 64 {
            // It lies within one word.
            let at = (head.get() % AREA_FRAMES as u64) as usize;
            let mask = !(!0 << order.frames()) << (at % 64);
            return self.bits(area)[at / 64].load(Ordering::Relaxed) & mask == mask;
        }
        let mask = FrameMask::of_block(head, order);
        let there = |(word, mask): (&AtomicU64, &u64)| word.load(Ordering::Relaxed) & mask == *mask;
        self.bits(area).iter().zip(mask.words()).all(there)
    }

    /// The block (at most an area) is about to be touched.
    pub(crate) fn mark(&self, head: Pfn, order: Order) {
        let area = head.head(Order::HUGE);
        let whole = self.by_area && !self.is_split(area);
        let mask = if whole { FrameMask::ALL } else { FrameMask::of_block(head, order) };
        for (word, mask) in self.bits(area).iter().zip(mask.words()) {
            if word.load(Ordering::Relaxed) & mask != *mask {
                word.fetch_or(*mask, Ordering::Relaxed);
            }
        }
    }

    /// All of it has memory.
    pub(crate) fn mark_all(&self) {
        for word in self.bits {
            word.store(!0, Ordering::Relaxed);
        }
    }

    /// The memory of these frames went back. The caller owns them.
    pub(crate) fn clear(&self, area: Pfn, frames: &FrameMask) {
        for (word, mask) in self.bits(area).iter().zip(frames.words()) {
            word.fetch_and(!mask, Ordering::Relaxed);
        }
    }

    /// The frames of an area that may have memory.
    pub(crate) fn of(&self, area: Pfn) -> FrameMask {
        let bits = self.bits(area);
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
    pub(crate) fn is_by_area(&self) -> bool {
        self.by_area
    }

    pub(crate) fn is_split(&self, area: Pfn) -> bool {
        self.flags_of(area).load(Ordering::Relaxed) & SPLIT != 0
    }

    pub(crate) fn set_split(&self, area: Pfn) {
        if self.flags_of(area).fetch_or(SPLIT, Ordering::Relaxed) & SPLIT == 0 {
            self.split_count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The area may have a huge page again, as at first. The caller owns all its frames.
    pub(crate) fn set_huge_eligible(&self, area: Pfn) {
        if self.flags_of(area).swap(0, Ordering::Relaxed) & SPLIT != 0 {
            self.split_count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Split areas at this moment.
    pub(crate) fn split_areas(&self) -> u64 {
        self.split_count.load(Ordering::Relaxed)
    }
}
