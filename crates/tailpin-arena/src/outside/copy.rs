//! The words of an arena, copied: page words until two copies are the same, and the rest.

use std::ops::Range;
use std::sync::atomic::Ordering;

use tailpin::{FrameRange, Order, Zone, ZoneConfig, ZoneLayout};

use super::error::LookError;
use super::source::Source;
use crate::builder::word_counts;
use crate::history::{History, Start};
use crate::memory::mapping::{Mapping, Source as MappingSource};
use crate::memory::{PAGE_BYTES, PAGE_SIZE, WordCounts, Words};
use crate::page_notes::PageNotes;
use crate::residency::Residency;
use crate::shared_state::View;

/// Frames of a pageblock.
pub(super) const FRAMES: usize = Order::HUGE.frames() as usize;
/// CPU slots of a copy, whose allocator is never asked for anything.
const COPY_SLOTS: usize = 1;
/// Copies made at most.
const MOST_COPIES: usize = 4;

/// One copy of the page words.
pub(super) struct PageWordCopy {
    pub(super) words: Words,
    /// Which pageblocks have words that were ever written.
    pub(super) touched: Vec<bool>,
    /// Pageblocks that changed since the copy before.
    changed: usize,
}

impl PageWordCopy {
    fn take(source: &Source, pages: &Range<u64>, counts: WordCounts) -> Result<Self, LookError> {
        let mut copy = Self::blank(counts)?;
        let Self { words, touched, .. } = &mut copy;
        source.each_touched(pages.clone(), |at, part| {
            let at = at - pages.start;
            let reached = pageblocks_of(at..at + part.len() as u64);
            let end = reached.end.min(touched.len());
            touched[reached.start.min(end)..end].fill(true);
            let begin = at as usize / size_of::<u64>();
            for (word, value) in
                words.pages[begin.min(words.pages.len())..].iter().zip(part.as_chunks::<8>().0)
            {
                let value = u64::from_ne_bytes(*value);
                if value != 0 {
                    // Relaxed, here and elsewhere: the copy is this thread's alone.
                    word.store(value, Ordering::Relaxed);
                }
            }
        })?;
        Ok(copy)
    }

    /// Copies made until two are the same, four at most.
    pub(super) fn until_still(copy: impl Fn() -> Result<Self, LookError>) -> Result<Self, LookError> {
        let mut last = copy()?;
        for _ in 1..MOST_COPIES {
            let next = copy()?;
            let changed = next.differing(&last);
            last = Self { changed, ..next };
            if changed == 0 {
                break;
            }
        }
        Ok(last)
    }

    /// Of nothing yet, for this many frames.
    pub(super) fn for_frames(data: FrameRange) -> Result<Self, LookError> {
        let counts = word_counts(data, COPY_SLOTS).map_err(|_| LookError::Damaged)?;
        Self::blank(WordCounts { history: 0, notes: 0, ..counts })
    }

    fn blank(counts: WordCounts) -> Result<Self, LookError> {
        let no_memory = LookError::System { doing: "map memory for a copy", errno: libc::ENOMEM };
        let mapping = counts.bytes().and_then(|n| Mapping::new(MappingSource::Anonymous, n, PAGE_SIZE).ok());
        let words = mapping.and_then(|mapping| Words::in_mapping(counts, mapping)).ok_or(no_memory)?;
        let touched = vec![false; words.pages.len().div_ceil(FRAMES)];
        Ok(Self { words, touched, changed: 0 })
    }

    /// In how many pageblocks this copy differs from another of the same arena.
    fn differing(&self, other: &Self) -> usize {
        let differs = |i: usize| {
            let words = |copy: &Self| copy.words.pages[i * FRAMES..].iter().take(FRAMES);
            words(self).zip(words(other)).any(|(a, b)| a.load(Ordering::Relaxed) != b.load(Ordering::Relaxed))
        };
        (0..self.touched.len()).filter(|i| (self.touched[*i] || other.touched[*i]) && differs(*i)).count()
    }
}

/// Words of an arena, copied until two copies of the page words are the same.
pub(super) struct ArenaCopy {
    zone: Zone<'static>,
    history: History,
    residency: Residency,
    notes: PageNotes,
    /// What may be in use, in bytes.
    pub(super) limit: Option<usize>,
    /// Bytes of the arena's words, of which the copy has those of one CPU.
    pub(super) metadata: usize,
    pub(super) data: FrameRange,
    /// Which pageblocks have words that were ever written.
    pub(super) touched: Vec<bool>,
    /// Pageblocks that changed between the last two copies.
    pub(super) changed: usize,
    /// Last: everything above uses them.
    pub(super) words: Words,
}

impl ArenaCopy {
    /// Of an arena over `data`, the parts of whose words begin at `parts` in the source.
    pub(super) fn take(
        source: &Source,
        parts: [u64; 4],
        data: FrameRange,
        start: Start,
    ) -> Result<Self, LookError> {
        let counts = word_counts(data, COPY_SLOTS).map_err(|_| LookError::Damaged)?;
        let own = counts.observed().ok_or(LookError::Damaged)?;
        // Where a part is in the source.
        let there = |begin: u64, own: &Range<u64>| -> Result<Range<u64>, LookError> {
            Ok(begin..begin.checked_add(own.end - own.start).ok_or(LookError::Damaged)?)
        };
        let [page_words, rest @ ..] = parts;
        let [own_page_words, own @ ..] = own;
        let pages = there(page_words, &own_page_words)?;
        if !pages.start.is_multiple_of(PAGE_BYTES) {
            return Err(LookError::Damaged);
        }
        let still = PageWordCopy::until_still(|| PageWordCopy::take(source, &pages, counts))?;
        for (begin, own) in rest.into_iter().zip(own) {
            let words = &still.words.all[own.start as usize / size_of::<u64>()..];
            // Relaxed: the copy is this thread's alone.
            source
                .each_word(there(begin, &own)?, |word, value| words[word].store(value, Ordering::Relaxed))?;
        }
        Self::over(still, data, start)
    }

    /// Over words that are copied already.
    pub(super) fn over(copied: PageWordCopy, data: FrameRange, start: Start) -> Result<Self, LookError> {
        let PageWordCopy { words, touched, changed } = copied;
        let ranges = [data];
        let layout = ZoneLayout::new(&ranges, COPY_SLOTS).map_err(|_| LookError::Damaged)?;
        let zone = Zone::attach(layout, ZoneConfig::default(), words.pages, words.allocator)
            .map_err(|_| LookError::Damaged)?;
        let base = zone.span().start;
        let history = History::new(words.history, base, start);
        let residency = Residency::new(words.residency, zone.span().frames(), base, false);
        let notes = PageNotes::new(words.notes, base);
        let metadata = words.bytes();
        Ok(Self { zone, history, residency, notes, limit: None, metadata, data, touched, changed, words })
    }

    pub(super) fn residency(&self) -> &Residency {
        &self.residency
    }

    pub(super) fn view(&self) -> View<'_> {
        View {
            zone: &self.zone,
            history: &self.history,
            notes: &self.notes,
            limit: self.limit,
            residency: &self.residency,
            frames: self.data,
            metadata: self.metadata,
            touched: Some(&self.touched),
        }
    }
}

/// The words of one page, by pageblock.
fn pageblocks_of(words: Range<u64>) -> Range<usize> {
    let frames = |bytes: u64| bytes / size_of::<u64>() as u64;
    let begin = frames(words.start) as usize / FRAMES;
    begin..(frames(words.end) as usize).div_ceil(FRAMES)
}
