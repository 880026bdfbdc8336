//! How much metadata memory a zone needs, and where each part of it lies.

use core::sync::atomic::AtomicU64;

use crate::error::ZoneError;
use crate::frame::{FrameRange, Order, PAGEBLOCK_FRAMES, Pfn};
use crate::protocol::Protocol;

use super::cpu_cache::CPU_CACHE_WORDS;
use super::ids::PAGEBLOCK_ROWS;
use super::pool::hint_words;
use super::uncoalesced_hints::uncoalesced_words;

/// The first number that is no frame's: addresses of bytes have 64 bits.
pub(crate) const FRAMES_END: Pfn = Pfn::new(1 << 52);

/// More words than a pageblock has of any kind of metadata under any protocol.
const MOST_WORDS: usize = 8 * PAGEBLOCK_FRAMES;

/// The shape of a zone: its ranges, and from them how many words of metadata to hand over.
///
/// ```
/// use tailpin::{FrameRange, OneWord, Pfn, ZoneLayout};
/// let ranges = [FrameRange::new(Pfn::new(0x100), 1 << 18)]; // 1 GiB from 1 MiB up
/// let layout = ZoneLayout::new(&ranges, 4)?;
/// let bytes = layout.metadata_bytes::<OneWord>();
/// assert!(bytes as f64 / (1 << 18) as f64 <= 8.5);
/// # Ok::<(), tailpin::ZoneError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ZoneLayout<'r> {
    ranges: &'r [FrameRange],
    reserved: &'r [FrameRange],
    base: Pfn,
    pageblocks: usize,
    cpu_caches: usize,
}

impl<'r> ZoneLayout<'r> {
    /// A zone over `ranges` (ascending, not overlapping; holes between them are fine) with places
    /// for what `cpu_caches` CPUs remember (rounded up to a power of two, at least one; 2,304 bytes
    /// each).
    ///
    /// # Errors
    /// [`ZoneError::Empty`] without ranges, [`ZoneError::BadRange`] for an empty, overlapping or
    /// unordered one, or one that ends beyond 2⁵² frames, [`ZoneError::TooLarge`] if the metadata
    /// can't be addressed.
    pub fn new(ranges: &'r [FrameRange], cpu_caches: usize) -> Result<Self, ZoneError> {
        let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else { return Err(ZoneError::Empty) };
        let mut free_from = Pfn::new(0);
        for &range in ranges {
            if range.frames() == 0 || range.start < free_from || range.end > FRAMES_END {
                return Err(ZoneError::BadRange { range });
            }
            free_from = range.end;
        }
        Self::over(ranges, FrameRange { start: first.start, end: last.end }, cpu_caches)
    }

    /// A zone for which it is not known yet which frames of `span` there are: none is in service
    /// until [`Zone::add`](crate::Zone::add) puts it there. `cpu_caches` as in [`ZoneLayout::new`].
    ///
    /// All that is asked of a layout can be asked at compile time, so the metadata may be statics
    /// of a program that has neither an allocator nor unsafe code of its own:
    ///
    /// ```
    /// use std::sync::OnceLock;
    /// use std::sync::atomic::AtomicU64;
    /// use tailpin::{FrameRange, OneWord, Order, Pfn, Zone, ZoneConfig, ZoneLayout};
    ///
    /// const SPAN: FrameRange = FrameRange::new(Pfn::new(0), 1 << 16); // up to 256 MiB
    /// const LAYOUT: ZoneLayout<'static> = match ZoneLayout::spanning(SPAN, 4) {
    ///     Ok(layout) => layout,
    ///     Err(_) => panic!("the span has frames"),
    /// };
    /// const PAGE_WORDS: usize = LAYOUT.page_words::<OneWord<'static>>();
    /// static PAGES: [AtomicU64; PAGE_WORDS] = [const { AtomicU64::new(0) }; PAGE_WORDS];
    /// static ALLOCATOR: [AtomicU64; LAYOUT.allocator_words()] = [const { AtomicU64::new(0) }; LAYOUT.allocator_words()];
    /// static ZONE: OnceLock<Zone<'static>> = OnceLock::new(); // a kernel has its own
    ///
    /// let zone = Zone::new(LAYOUT, ZoneConfig::default(), &PAGES, &ALLOCATOR)?;
    /// let zone = ZONE.get_or_init(|| zone);
    /// zone.add(FrameRange::new(Pfn::new(256), 8192))?;
    /// let block = zone.alloc(Order::HUGE)?;
    /// # drop(block);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`ZoneLayout::new`] for that one range.
    pub const fn spanning(span: FrameRange, cpu_caches: usize) -> Result<Self, ZoneError> {
        if span.frames() == 0 || span.end.get() > FRAMES_END.get() {
            return Err(ZoneError::BadRange { range: span });
        }
        Self::over(&[], span, cpu_caches)
    }

    /// Metadata for the frames of `span`.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "a span does not end before the head of its start; `MOST` is not less than `other`"
    )]
    const fn over(ranges: &'r [FrameRange], span: FrameRange, cpu_caches: usize) -> Result<Self, ZoneError> {
        let base = span.start.head(Order::HUGE);
        let pageblocks = (span.end.get() - base.get()).div_ceil(PAGEBLOCK_FRAMES as u64);
        let Some(cpu_caches) = cpu_caches.checked_next_power_of_two() else {
            return Err(ZoneError::TooLarge);
        };
        // From here on no sum or product about the metadata can overflow.
        const MOST: u64 = isize::MAX as u64 / size_of::<u64>() as u64;
        let of_pageblocks = pageblocks.checked_mul(MOST_WORDS as u64);
        let of_caches = (cpu_caches as u64).checked_mul(CPU_CACHE_WORDS as u64);
        match (of_pageblocks, of_caches) {
            (Some(one), Some(other)) if one <= MOST && other <= MOST - one => {}
            _ => return Err(ZoneError::TooLarge),
        }
        Ok(Self { ranges, reserved: &[], base, pageblocks: pageblocks as usize, cpu_caches })
    }

    /// Keeps these ranges out of service: firmware, the kernel's image, the metadata itself. They
    /// may overlap each other and holes.
    #[must_use]
    pub fn without(mut self, reserved: &'r [FrameRange]) -> Self {
        self.reserved = reserved;
        self
    }

    /// Words of page metadata for protocol `P`.
    #[expect(clippy::arithmetic_side_effects, reason = "bounded by `over`")]
    pub const fn page_words<P: Protocol>(&self) -> usize {
        self.pageblocks * PAGEBLOCK_FRAMES * P::WORDS_PER_FRAME
    }

    /// Words of allocator metadata.
    #[expect(clippy::arithmetic_side_effects, reason = "bounded by `over`")]
    pub const fn allocator_words(&self) -> usize {
        self.cpu_caches_at() + self.cpu_caches * CPU_CACHE_WORDS
    }

    /// All metadata of the zone, in bytes.
    #[expect(clippy::arithmetic_side_effects, reason = "bounded by `over`")]
    pub const fn metadata_bytes<P: Protocol>(&self) -> usize {
        (self.page_words::<P>() + self.allocator_words()) * size_of::<u64>()
    }

    /// Frames between the first and the last, holes included, rounded out to whole 2 MiB
    /// pageblocks.
    #[expect(clippy::arithmetic_side_effects, reason = "bounded by `over`")]
    pub const fn span_frames(&self) -> u64 {
        (self.pageblocks * PAGEBLOCK_FRAMES) as u64
    }

    pub(crate) const fn base(&self) -> Pfn {
        self.base
    }

    pub(crate) const fn pageblocks(&self) -> usize {
        self.pageblocks
    }

    pub(crate) const fn cpu_caches(&self) -> usize {
        self.cpu_caches
    }

    /// Whether a frame of the span is to be in service.
    pub(crate) fn in_service(&self, frame: Pfn) -> bool {
        self.ranges.iter().any(|range| range.contains(frame))
            && !self.reserved.iter().any(|range| range.contains(frame))
    }

    /// Frames in service.
    #[expect(clippy::arithmetic_side_effects, reason = "bounded by `over`")]
    pub(crate) fn usable_frames(&self) -> u64 {
        let first = |i: usize| self.base.offset((i * PAGEBLOCK_FRAMES) as u64);
        let in_service = |first: Pfn| match self.pageblock_in_service(first) {
            Some(all) => u64::from(all) * Order::HUGE.frames(),
            None => {
                let frames = FrameRange::block(first, Order::HUGE).iter();
                frames.filter(|frame| self.in_service(*frame)).count() as u64
            }
        };
        (0..self.pageblocks).map(|i| in_service(first(i))).sum()
    }

    /// `Some(true)` if all of a pageblock is in service, `Some(false)` if none of it is, `None` if
    /// it is mixed.
    pub(crate) fn pageblock_in_service(&self, first: Pfn) -> Option<bool> {
        let whole = FrameRange::block(first, Order::HUGE);
        let overlaps = |range: &FrameRange| range.start < whole.end && whole.start < range.end;
        let covers = |range: &FrameRange| range.start <= whole.start && whole.end <= range.end;
        if !self.ranges.iter().any(overlaps) || self.reserved.iter().any(covers) {
            return Some(false);
        }
        (self.ranges.iter().any(covers) && !self.reserved.iter().any(overlaps)).then_some(true)
    }

    // The pageblock metadata, part by part: bitmaps first, so that each is one aligned cache line
    // if the memory is.

    #[expect(clippy::arithmetic_side_effects, reason = "bounded by `over`")]
    pub(crate) const fn row_maps_at(&self) -> usize {
        self.pageblocks * PAGEBLOCK_ROWS
    }

    #[expect(clippy::arithmetic_side_effects, reason = "bounded by `over`")]
    pub(crate) const fn hints_at(&self) -> usize {
        self.row_maps_at() + self.pageblocks
    }

    #[expect(clippy::arithmetic_side_effects, reason = "bounded by `over`")]
    pub(crate) const fn uncoalesced_at(&self) -> usize {
        self.hints_at() + hint_words::<AtomicU64>(self.pageblocks)
    }

    #[expect(clippy::arithmetic_side_effects, reason = "bounded by `over`")]
    pub(crate) const fn cpu_caches_at(&self) -> usize {
        (self.uncoalesced_at() + uncoalesced_words::<AtomicU64>(self.pageblocks)).next_multiple_of(8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::one_word::OneWord;

    fn frames(start: u64, end: u64) -> FrameRange {
        FrameRange { start: Pfn::new(start), end: Pfn::new(end) }
    }

    #[test]
    fn a_pageblock_is_in_service_wholly_in_part_or_not_at_all() {
        // The pageblock from 1024 on is a hole between two ranges; 2048 is reserved as a whole,
        // 2560 begins late.
        let ranges = [frames(512, 1024), frames(1536, 2560), frames(2660, 3072)];
        let reserved = [frames(1500, 1536), frames(2048, 2560)];
        let layout = ZoneLayout::new(&ranges, 3).unwrap().without(&reserved);
        let known = [512, 1024, 1536, 2048, 2560].map(|first| layout.pageblock_in_service(Pfn::new(first)));
        assert_eq!(known, [Some(true), Some(false), Some(true), Some(false), None]);
        assert_eq!((layout.span_frames(), layout.usable_frames()), (2560, 512 + 512 + 412));
    }

    #[test]
    fn metadata_is_a_word_for_each_frame_and_that_of_the_allocator() {
        let ranges = [frames(700, 1500)];
        for (cpu_caches, rounded) in [(0, 1), (1, 1), (3, 4), (4, 4)] {
            let layout = ZoneLayout::new(&ranges, cpu_caches).unwrap();
            assert_eq!(layout.cpu_caches(), rounded);
            let words = layout.allocator_words();
            assert_eq!(words - layout.cpu_caches_at(), rounded * CPU_CACHE_WORDS);
            assert_eq!(layout.metadata_bytes::<OneWord<'_>>(), (1024 + words) * 8);
        }
    }
}
