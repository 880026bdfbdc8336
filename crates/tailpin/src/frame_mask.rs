//! Some of the frames of a pageblock, a bit for each of 512; and some of one of its rows, a bit for
//! each of 64.

use core::fmt;

use crate::frame::{FrameRange, Order, PAGEBLOCK_FRAMES, Pfn};

/// Words of the mask.
const WORDS: usize = PAGEBLOCK_FRAMES / BITS as usize;

/// Bits of a word.
const BITS: u64 = u64::BITS as u64;

/// Some frames of one 2 MiB pageblock, told by their numbers within it, 0 to 511.
///
/// ```
/// use tailpin::FrameMask;
/// let mut mask = FrameMask::NONE;
/// mask.insert(70);
/// assert_eq!(mask.words()[1], 1 << 6);
/// assert!(mask.contains(70) && !mask.contains(7));
/// assert_eq!((mask.count(), mask.iter().next()), (1, Some(70)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameMask([u64; WORDS]);

impl FrameMask {
    /// No frame.
    pub const NONE: Self = Self([0; WORDS]);
    /// All 512.
    pub const ALL: Self = Self([!0; WORDS]);

    /// The frames whose bits are set: bit `i` of word `w` is for frame `64 w + i`.
    #[inline]
    pub const fn from_words(words: [u64; WORDS]) -> Self {
        Self(words)
    }

    /// Those frames of `range` that lie in the pageblock that begins at `pageblock`.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "frames from the pageblock's first on; `from` is before `to`, within the word"
    )]
    #[inline]
    pub fn of_range(range: FrameRange, pageblock: Pfn) -> Self {
        let end = pageblock.checked_offset(PAGEBLOCK_FRAMES as u64).unwrap_or(range.end);
        let first = range.start.max(pageblock).get() - pageblock.get();
        let last = range.end.min(end).get().saturating_sub(pageblock.get());
        Self(core::array::from_fn(|word| {
            let from = first.max(word as u64 * BITS);
            let to = last.min((word as u64 + 1) * BITS);
            if from < to { (!0 >> (BITS - (to - from))) << (from % BITS) } else { 0 }
        }))
    }

    /// The frames of a block of at most 2 MiB, or of the first 2 MiB of a larger one.
    ///
    /// # Panics
    /// If the end of these does not fit into 64 bits.
    #[inline]
    pub fn of_block(head: Pfn, order: Order) -> Self {
        Self::of_range(FrameRange::block(head, order.min(Order::HUGE)), head.head(Order::HUGE))
    }

    /// The lowest `n` of them.
    #[must_use]
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "a set bit is there to be taken away, and `left` is not 0"
    )]
    #[inline]
    pub fn lowest(&self, n: u64) -> Self {
        let mut left = n;
        Self(self.0.map(|word| {
            let (mut rest, mut taken) = (word, 0);
            while rest != 0 && left > 0 {
                taken |= rest & rest.wrapping_neg();
                rest &= rest - 1;
                left -= 1;
            }
            taken
        }))
    }

    /// The bits of the mask: bit `i` of word `w` is for frame `64 w + i`.
    #[inline]
    pub const fn words(&self) -> &[u64; WORDS] {
        &self.0
    }

    /// Adds the frame with this number.
    ///
    /// # Panics
    /// If it is 512 or more.
    #[inline]
    pub const fn insert(&mut self, frame: u64) {
        let (word, bit) = place(frame);
        self.0[word] |= bit;
    }

    /// The frames of this mask and those of the other.
    #[inline]
    #[must_use]
    pub fn with(&self, others: &Self) -> Self {
        Self(core::array::from_fn(|word| self.0[word] | others.0[word]))
    }

    /// These but for the others.
    #[inline]
    #[must_use]
    pub(crate) fn without(&self, others: &Self) -> Self {
        Self(core::array::from_fn(|word| self.0[word] & !others.0[word]))
    }

    /// Whether the frame with this number is among them; false from 512 on.
    #[inline]
    pub const fn contains(&self, frame: u64) -> bool {
        let (word, bit) = place(frame);
        word < WORDS && self.0[word] & bit != 0
    }

    /// Whether the mask has no frame.
    #[inline]
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// How many frames the mask has.
    #[inline]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Numbers of the mask's frames within their pageblock, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        (0..PAGEBLOCK_FRAMES as u64).filter(|frame| self.contains(*frame))
    }
}

/// Some frames of one row, the 64 from a multiple of 64 on.
///
/// ```
/// use tailpin::{Pfn, RowMask};
/// let mask = RowMask::new(Pfn::new(200), 0b101);
/// assert_eq!((mask.row(), mask.bits(), mask.count()), (Pfn::new(192), 5, 2));
/// assert!(mask.iter().eq([Pfn::new(192), Pfn::new(194)]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RowMask {
    row: Pfn,
    bits: u64,
}

impl RowMask {
    /// The frames whose bits are set, of the row that a frame lies in: the lowest bit is for the
    /// row's first.
    #[inline]
    pub const fn new(within: Pfn, bits: u64) -> Self {
        Self { row: within.head(Order::ROW), bits }
    }

    /// One frame.
    #[inline]
    pub(crate) const fn of_page(page: Pfn) -> Self {
        Self::new(page, place(page.get()).1)
    }

    /// These and another one of the same row.
    #[inline]
    #[must_use]
    pub(crate) const fn with(self, page: Pfn) -> Self {
        Self { bits: self.bits | Self::of_page(page).bits, ..self }
    }

    /// The row's first frame.
    #[inline]
    pub const fn row(self) -> Pfn {
        self.row
    }

    /// The bits of the mask.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.bits
    }

    /// Whether the mask has no frame.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.bits == 0
    }

    /// How many frames the mask has.
    #[inline]
    pub const fn count(self) -> u64 {
        self.bits.count_ones() as u64
    }

    /// The mask's frames, lowest first.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = Pfn> {
        let mut rest = self.bits;
        core::iter::from_fn(move || {
            let lowest = rest.trailing_zeros();
            rest &= rest.wrapping_sub(1);
            // A row begins at a multiple of 64, so its frames' numbers fit into 64 bits.
            (lowest < u64::BITS).then(|| Pfn::new(self.row.get() | u64::from(lowest)))
        })
    }
}

/// Word and bit of a frame.
#[inline]
const fn place(frame: u64) -> (usize, u64) {
    let word = frame / BITS;
    (if word < WORDS as u64 { word as usize } else { WORDS }, 1 << (frame % BITS))
}

impl fmt::Debug for FrameMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameMask({} of {PAGEBLOCK_FRAMES})", self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_has_what_was_put_in_and_nothing_else() {
        let mut mask = FrameMask::NONE;
        assert!(mask.is_empty());
        let frames = [0, 63, 64, 300, 511];
        frames.iter().for_each(|frame| mask.insert(*frame));
        assert!(mask.iter().eq(frames) && mask.count() == 5 && !mask.is_empty());
        assert!(!mask.contains(512) && !mask.contains(u64::MAX));
        assert_eq!(FrameMask::from_words(*mask.words()), mask);
        assert_eq!(FrameMask::ALL.count(), 512);
        let mut more = FrameMask::NONE;
        [1, 64].iter().for_each(|frame| more.insert(*frame));
        assert!(mask.with(&more).iter().eq([0, 1, 63, 64, 300, 511]));
    }

    #[test]
    fn a_block_has_a_bit_for_each_of_its_frames() {
        for order in (0..=9).filter_map(Order::new) {
            for head in (0..PAGEBLOCK_FRAMES as u64).step_by(order.frames() as usize) {
                let mask = FrameMask::of_block(Pfn::new(512 + head), order);
                let expected = head..head + order.frames();
                assert!((0..600).all(|frame| mask.contains(frame) == expected.contains(&frame)));
            }
        }
        assert_eq!(FrameMask::of_block(Pfn::new(1 << 18), Order::MAX), FrameMask::ALL);
        let range = FrameRange { start: Pfn::new(500), end: Pfn::new(1030) };
        let counts = [0, 512, 1024, 1536].map(|first| FrameMask::of_range(range, Pfn::new(first)).count());
        assert_eq!(counts, [12, 512, 6, 0]);
        let range = FrameRange { start: Pfn::new(0), end: Pfn::new(u64::MAX) };
        assert_eq!(FrameMask::of_range(range, Pfn::new(u64::MAX - 511)).count(), 511);
    }

    #[test]
    fn the_lowest_frames_are_as_many_as_asked_for() {
        let mask = FrameMask::from_words([0, 0b1011_0000, 1 << 63 | 1, 0, 0, 0, 0, 1 << 63]);
        let lowest = |n| *mask.lowest(n).words();
        assert_eq!(lowest(0), [0; 8]);
        assert_eq!(lowest(1), [0, 1 << 4, 0, 0, 0, 0, 0, 0]);
        assert_eq!(lowest(3), [0, 0b1011_0000, 0, 0, 0, 0, 0, 0]);
        assert_eq!(lowest(4), [0, 0b1011_0000, 1, 0, 0, 0, 0, 0]);
        assert_eq!(lowest(5), [0, 0b1011_0000, 1 << 63 | 1, 0, 0, 0, 0, 0]);
        assert_eq!([lowest(6), lowest(7), lowest(u64::MAX)], [*mask.words(); 3]);
    }

    #[test]
    #[should_panic = "out of bounds"]
    fn a_frame_of_another_pageblock_is_refused() {
        FrameMask::NONE.clone().insert(512);
    }
}
