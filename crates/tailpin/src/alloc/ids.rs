//! Indices of the allocator: which pageblock, and which row of 64 frames, counted from the zone's
//! first.

use core::ops::Range;

use crate::frame::PAGEBLOCK_FRAMES;

/// Frames in a row.
pub(crate) const ROW_FRAMES: usize = 64;

/// Rows in a pageblock.
pub(crate) const PAGEBLOCK_ROWS: usize = PAGEBLOCK_FRAMES / ROW_FRAMES;

const _: () = assert!(ROW_FRAMES == u64::BITS as usize, "a row's frames are the bits of a word");

/// What a hint can lead to: one of many places, numbered from 0.
pub(crate) trait Place: Copy {
    /// The place with this number.
    fn from_index(index: usize) -> Self;
    /// Its number.
    fn index(self) -> usize;
}

/// A 2 MiB pageblock of the zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PageblockId(usize);

#[expect(
    clippy::arithmetic_side_effects,
    reason = "pageblocks and rows of a zone, whose metadata fits into memory"
)]
impl PageblockId {
    /// The zone's first.
    pub(crate) const FIRST: Self = Self(0);

    /// The pageblock that the frame with this number, counted from the zone's first, lies in.
    #[inline]
    pub(crate) const fn of_frame(number: u64) -> Self {
        Self(number as usize / PAGEBLOCK_FRAMES)
    }

    /// Number of its first frame, counted from the zone's first.
    #[inline]
    pub(crate) const fn first_frame(self) -> u64 {
        self.0 as u64 * PAGEBLOCK_FRAMES as u64
    }

    /// The one `n` further on.
    #[inline]
    pub(crate) const fn after(self, n: usize) -> Self {
        Self(self.0 + n)
    }

    /// Its row `within`, 0 to 7.
    #[inline]
    pub(crate) const fn row(self, within: usize) -> RowId {
        RowId(self.0 * PAGEBLOCK_ROWS + within)
    }

    /// Its rows, lowest first.
    #[inline]
    pub(crate) fn rows(self) -> impl Iterator<Item = RowId> {
        (0..PAGEBLOCK_ROWS).map(move |within| self.row(within))
    }

    /// `n` pageblocks from this one on.
    #[inline]
    pub(crate) fn following(self, n: usize) -> impl Iterator<Item = Self> + Clone {
        let Range { start, end } = self.0..self.0 + n;
        (start..end).map(Self)
    }
}

impl Place for PageblockId {
    #[inline]
    fn from_index(index: usize) -> Self {
        Self(index)
    }

    #[inline]
    fn index(self) -> usize {
        self.0
    }
}

/// A row: 64 frames, whose bits are one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowId(usize);

#[expect(clippy::arithmetic_side_effects, reason = "rows of a zone, whose metadata fits into memory")]
impl RowId {
    /// The zone's first.
    pub(crate) const FIRST: Self = Self(0);

    /// The row that the frame with this number, counted from the zone's first, lies in.
    #[inline]
    pub(crate) const fn of_frame(number: u64) -> Self {
        Self(number as usize / ROW_FRAMES)
    }

    /// Number of its first frame, counted from the zone's first.
    #[inline]
    pub(crate) const fn first_frame(self) -> u64 {
        self.0 as u64 * ROW_FRAMES as u64
    }

    /// The pageblock it is in.
    #[inline]
    pub(crate) const fn pageblock(self) -> PageblockId {
        PageblockId(self.0 / PAGEBLOCK_ROWS)
    }

    /// Which of its pageblock's rows it is, 0 to 7.
    #[inline]
    pub(crate) const fn within(self) -> usize {
        self.0 % PAGEBLOCK_ROWS
    }
}

impl Place for RowId {
    #[inline]
    fn from_index(index: usize) -> Self {
        Self(index)
    }

    #[inline]
    fn index(self) -> usize {
        self.0
    }
}

/// Some rows of one pageblock, lowest first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    pageblock: PageblockId,
    /// A bit for each of its eight.
    rest: u64,
}

impl Rows {
    /// None.
    pub(crate) const NONE: Self = Self { pageblock: PageblockId::FIRST, rest: 0 };

    /// Of those from `first` on the ones whose bit is set, that of `first` being the lowest.
    #[inline]
    pub(crate) const fn from(first: RowId, bits: u64) -> Self {
        Self { pageblock: first.pageblock(), rest: bits << first.within() }
    }
}

impl Iterator for Rows {
    type Item = RowId;

    #[inline]
    fn next(&mut self) -> Option<RowId> {
        let row = (self.rest != 0).then(|| self.pageblock.row(self.rest.trailing_zeros() as usize));
        self.rest &= self.rest.wrapping_sub(1);
        row
    }
}

#[cfg(test)]
impl Place for usize {
    fn from_index(index: usize) -> Self {
        index
    }

    fn index(self) -> usize {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_in_the_pageblock_whose_row_it_is() {
        for (number, pageblock, within) in
            [(0, 0, 0), (63, 0, 0), (64, 0, 1), (511, 0, 7), (512, 1, 0), (5000, 9, 6)]
        {
            let (id, row) = (PageblockId::of_frame(number), RowId::of_frame(number));
            assert_eq!((id.index(), row.within(), row.pageblock()), (pageblock, within, id));
            assert_eq!(id.row(within), row);
            assert!(id.rows().nth(within) == Some(row) && id.rows().count() == 8);
            assert_eq!((id.first_frame(), row.first_frame()), (number / 512 * 512, number / 64 * 64));
            assert_eq!(id.following(3).map(Place::index).last(), Some(pageblock + 2));
        }
    }

    #[test]
    fn some_rows_are_those_whose_bits_are_set() {
        assert_eq!(Rows::NONE.count(), 0);
        for first in [0, 3, 7, 42] {
            let first = RowId(first);
            let most = PAGEBLOCK_ROWS - first.within();
            for bits in 0..1 << most {
                let rows = Rows::from(first, bits).map(Place::index);
                let expected = (0..most).filter(|nth| bits >> nth & 1 != 0).map(|nth| first.index() + nth);
                assert!(rows.eq(expected), "{bits:#b} from {first:?}");
            }
        }
    }
}
