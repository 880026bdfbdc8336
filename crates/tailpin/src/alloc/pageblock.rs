//! One 2 MiB pageblock as the allocator sees it: eight rows of 64 frames, a word of bits each, and
//! the row map, which says which of these rows are free as a whole.
//!
//! A row is *in* or *out*. The frames of a row that is in are all free and belong to the row map:
//! they go out together, alone or with their neighbours, by one compare-and-swap on it, up to the
//! whole pageblock at once; their bits are all clear while they are in. Of a row that is out, set
//! bits are free frames, which any thread may claim, and clear ones are in use. The thread that
//! frees the last frame of such a row claims all 64 instead of setting the last bit, and restores
//! the row.
//!
//! So each frame is owned by exactly one of: the row map, its bit, the caller that took it.
//! Zero-filled words are a free pageblock.

use core::sync::atomic::Ordering;

use crate::atomic::AtomicWord;
use crate::frame::{Order, PAGEBLOCK_FRAMES};

use super::ids::{PAGEBLOCK_ROWS, ROW_FRAMES};
use super::runs::{best, fitting, largest, run};

const _: () = assert!(Order::ROW.frames() == ROW_FRAMES as u64);

/// All rows of a pageblock, as a mask.
pub(crate) const ALL_ROWS: u64 = (1 << PAGEBLOCK_ROWS) - 1;

/// A pageblock with fewer frames in use is sparse.
const SPARSE: u32 = 64;

/// Some row was restored alone since the pageblock was last at rest.
const TOUCHED: u64 = 1 << 8;
/// No frame of the pageblock is in service.
const WITHHELD: u64 = 1 << 9;
/// A part of the withheld pageblock is about to enter service: a thread writes its page words.
const OPENING: u64 = 1 << 10;

/// How many requests to note a frame there were, modulo 2^13: so no two notes are alike, and a
/// thread that has seen that one was fulfilled does not take away the next one of the same frame.
const REQUEST: u64 = 1 << 11;
const REQUESTS: u64 = (1 << WAITING_AT) - REQUEST;

/// Where the frames of the pageblock that wait to leave service are noted, and how many bits each
/// has: its number within the pageblock plus one, or zero.
const WAITING_AT: u32 = 24;
const WAITING_BITS: u32 = 10;
const WAITING_MASK: u64 = (1 << WAITING_BITS) - 1;
/// Frames of one pageblock that can wait at once.
const MOST_WAITING: u32 = 4;

const _: () =
    assert!(PAGEBLOCK_FRAMES as u64 <= WAITING_MASK && WAITING_AT + MOST_WAITING * WAITING_BITS <= 64);

/// The row map of a pageblock, as a value: which of its rows are out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RowMap(u64);

impl RowMap {
    /// The rows that are in, as a mask.
    #[inline]
    pub(crate) fn inside(self) -> u64 {
        !self.0 & ALL_ROWS
    }

    #[inline]
    pub(crate) fn is_whole(self) -> bool {
        self.0 & ALL_ROWS == 0
    }

    pub(crate) fn is_touched(self) -> bool {
        self.0 & TOUCHED != 0
    }

    pub(crate) fn is_withheld(self) -> bool {
        self.0 & WITHHELD != 0
    }

    pub(crate) fn is_opening(self) -> bool {
        self.0 & OPENING != 0
    }

    /// Whether a frame of the pageblock waits to leave service.
    #[inline]
    pub(crate) fn has_waiting(self) -> bool {
        self.0 >> WAITING_AT != 0
    }

    /// The frames that wait, by their numbers within the pageblock.
    #[expect(clippy::arithmetic_side_effects, reason = "bits of a word")]
    pub(crate) fn waiting(self) -> impl Iterator<Item = u64> {
        let noted = move |place| self.0 >> (WAITING_AT + place * WAITING_BITS) & WAITING_MASK;
        (0..MOST_WAITING).filter_map(move |place| noted(place).checked_sub(1))
    }

    /// With this frame among them; `None` if as many as can be wait already.
    #[expect(clippy::arithmetic_side_effects, reason = "bits of a word")]
    fn with_waiting(self, frame: u64) -> Option<Self> {
        let requests = self.0.wrapping_add(REQUEST) & REQUESTS;
        let asked = Self(self.0 & !REQUESTS | requests);
        if self.waiting().any(|waiting| waiting == frame) {
            return Some(asked);
        }
        let mut places = (0..MOST_WAITING).map(|place| WAITING_AT + place * WAITING_BITS);
        let place = places.find(|place| self.0 >> place & WAITING_MASK == 0)?;
        Some(Self(asked.0 | (frame + 1) << place))
    }

    /// Without it.
    #[expect(clippy::arithmetic_side_effects, reason = "bits of a word")]
    fn without_waiting(self, frame: u64) -> Self {
        let places = (0..MOST_WAITING).map(|place| WAITING_AT + place * WAITING_BITS);
        let mut noted = places.filter(|place| self.0 >> place & WAITING_MASK == frame + 1);
        noted.next().map_or(self, |place| Self(self.0 & !(WAITING_MASK << place)))
    }

    /// Order of the largest block that rows that are in can make: 6 to 9.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "6 to 9")]
    pub(crate) fn largest(self) -> Option<Order> {
        largest(self.inside()).map(|order| Order::wrap(Order::ROW.get() + order.get()))
    }

    /// The rows of the best place for a block of `order`, 6 to 9.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "an order of a row or more, less that of a row")]
    pub(crate) fn best(self, order: Order) -> Option<u64> {
        let order = Order::wrap(order.get() - Order::ROW.get());
        best(self.inside(), order).map(|row| run(order, row))
    }

    /// The rows of the best place for `rows` of them side by side, the first at a multiple of the
    /// rows of `align`, 6 to 9.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "an order of a row or more, less that of a row")]
    pub(crate) fn fitting(self, rows: u32, align: Order) -> Option<u64> {
        fitting(self.inside(), rows, Order::wrap(align.get() - Order::ROW.get()))
    }

    /// Without these rows. The words of a whole pageblock are scrubbed by its new owner.
    #[inline]
    fn without(self, rows: u64) -> Self {
        Self((self.0 | rows) & if rows == ALL_ROWS { !TOUCHED } else { !0 })
    }

    /// With these rows; `None` if some of them are in.
    #[inline]
    fn with(self, rows: u64) -> Option<Self> {
        let needs_scrub = if rows == ALL_ROWS { 0 } else { TOUCHED };
        (self.inside() & rows == 0).then_some(Self(self.0 & !rows | needs_scrub))
    }
}

/// A change of a row map, as it was and as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) from: RowMap,
    pub(crate) to: RowMap,
}

/// What became of frames that were given back.
pub(crate) enum Given {
    /// They are free in their row, as all of these are.
    Out(u64),
    /// With them all 64 are free. They are the caller's, who has to restore the row.
    Complete,
}

/// A pageblock's words.
pub(crate) struct Pageblock<'m, W> {
    pub(crate) bits: &'m [W; PAGEBLOCK_ROWS],
    pub(crate) row_map: &'m W,
}

impl<W: AtomicWord> Pageblock<'_, W> {
    /// SeqCst: after a hint to this pageblock was written, see [`hint_bitmap`](super::hint_bitmap).
    #[inline]
    pub(crate) fn row_map(&self) -> RowMap {
        RowMap(self.row_map.load(Ordering::SeqCst))
    }

    /// The free frames of a row that is out. SeqCst: as in `row_map`.
    #[inline]
    pub(crate) fn free(&self, row: usize) -> u64 {
        self.bits[row].load(Ordering::SeqCst)
    }

    /// SeqCst: before hints to this pageblock are read; and what was done to the frames is before
    /// their next owner's use of them.
    #[inline]
    fn change(word: &W, from: u64, to: u64) -> bool {
        word.compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Whether few of its frames are in use, but some.
    #[inline]
    #[expect(clippy::arithmetic_side_effects, reason = "bits of eight words; `out` is not 0")]
    pub(crate) fn is_sparse(&self) -> bool {
        let (mut out, mut used) = (!self.row_map().inside() & ALL_ROWS, 0);
        while out != 0 && used < SPARSE {
            used += match self.free(out.trailing_zeros() as usize) {
                // Most rows of a pageblock in use have none: nothing is to be counted then.
                0 => ROW_FRAMES as u32,
                free => free.count_zeros(),
            };
            out &= out - 1;
        }
        (1..SPARSE).contains(&used)
    }

    /// Claims the free frames that `select` picks of a row that is out; these and what is left are
    /// returned. Goes round only because another thread changed the row.
    #[inline]
    pub(crate) fn claim(&self, row: usize, select: impl Fn(u64) -> Option<u64>) -> Option<(u64, u64)> {
        loop {
            let from = self.free(row);
            let taken = select(from)?;
            let to = from & !taken;
            if Self::change(&self.bits[row], from, to) {
                return Some((taken, to));
            }
        }
    }

    /// Takes the rows that `select` picks out of the row map: all their frames are the caller's.
    #[inline]
    pub(crate) fn take_rows(&self, select: impl Fn(RowMap) -> Option<u64>) -> Option<(u64, Change)> {
        loop {
            let from = self.row_map();
            let rows = select(from)?;
            let to = from.without(rows);
            if Self::change(self.row_map, from.0, to.0) {
                return Some((rows, Change { from, to }));
            }
        }
    }

    /// Offers frames of a row all of whose frames the caller had: it was the one to take the row
    /// out.
    pub(crate) fn offer(&self, row: usize, frames: u64) {
        // SeqCst: as in `change`.
        self.bits[row].fetch_or(frames, Ordering::SeqCst);
    }

    /// Gives back frames of a row. Errs with those that are free already, and then gives back
    /// none.
    #[inline]
    pub(crate) fn give(&self, row: usize, frames: u64) -> Result<Given, u64> {
        // Relaxed: with some of its frames the caller's, the row stays out.
        if RowMap(self.row_map.load(Ordering::Relaxed)).inside() >> row & 1 != 0 {
            return Err(frames);
        }
        loop {
            let from = self.bits[row].load(Ordering::Relaxed);
            if from & frames != 0 {
                return Err(from & frames);
            }
            let all = from | frames;
            let (to, given) = if all == !0 { (0, Given::Complete) } else { (all, Given::Out(all)) };
            if Self::change(&self.bits[row], from, to) {
                return Ok(given);
            }
        }
    }

    /// Restores rows, all frames of which are the caller's. Errs with one that was in, or of which
    /// a frame is free, as (row, frames), and then restores none.
    pub(crate) fn give_rows(&self, rows: u64) -> Result<Change, (usize, u64)> {
        // Relaxed: all these frames are the caller's, so no other thread changes their bits.
        let free = |row: &usize| rows >> row & 1 != 0 && self.bits[*row].load(Ordering::Relaxed) != 0;
        if let Some(row) = (0..PAGEBLOCK_ROWS).find(free) {
            return Err((row, self.free(row)));
        }
        loop {
            let from = self.row_map();
            let Some(to) = from.with(rows) else {
                return Err(((from.inside() & rows).trailing_zeros() as usize, !0));
            };
            if Self::change(self.row_map, from.0, to.0) {
                return Ok(Change { from, to });
            }
        }
    }

    /// Restores all rows at once: the short way for a whole pageblock. As `give_rows`.
    #[inline]
    pub(crate) fn give_all(&self) -> Result<(), (usize, u64)> {
        // Relaxed: as in `give_rows`.
        let free = self.bits.iter().fold(0, |free, row| free | row.load(Ordering::Relaxed));
        let from = self.row_map();
        match from.with(ALL_ROWS) {
            Some(to) if free == 0 && Self::change(self.row_map, from.0, to.0) => Ok(()),
            _ => self.give_rows(ALL_ROWS).map(|_| ()),
        }
    }

    /// Notes that a frame waits to leave service; false if too many do already. SeqCst: before the
    /// frame is looked for.
    pub(crate) fn await_frame(&self, frame: u64) -> bool {
        loop {
            let from = self.row_map();
            let Some(to) = from.with_waiting(frame) else { return false };
            if Self::change(self.row_map, from.0, to.0) {
                return true;
            }
        }
    }

    /// It waits no longer if, by the look `has_left`, it has left service or does so when it is
    /// freed. A request that comes after that look, for a frame that was restored, stays.
    pub(crate) fn forget_frame(&self, frame: u64, has_left: impl Fn() -> bool) {
        loop {
            let from = self.row_map();
            let to = from.without_waiting(frame);
            if from == to || !has_left() || Self::change(self.row_map, from.0, to.0) {
                return;
            }
        }
    }

    /// Puts all of the pageblock into service; false if it is not withheld, or a part of it is
    /// about to enter service.
    pub(crate) fn admit(&self) -> bool {
        self.change_withheld(|map| map & !(WITHHELD | ALL_ROWS))
    }

    /// From here on the caller alone writes the page words of the withheld pageblock; false as in
    /// `admit`.
    pub(crate) fn begin_opening(&self) -> bool {
        self.change_withheld(|map| map | OPENING)
    }

    fn change_withheld(&self, changed: impl Fn(u64) -> u64) -> bool {
        loop {
            let from = self.row_map();
            if from.0 & (WITHHELD | OPENING) != WITHHELD {
                return false;
            }
            if Self::change(self.row_map, from.0, changed(from.0)) {
                return true;
            }
        }
    }

    /// The page words are written: the pageblock is an ordinary one, none of whose frames is free.
    /// SeqCst: after that.
    pub(crate) fn end_opening(&self) {
        self.row_map.fetch_and(!(WITHHELD | OPENING), Ordering::SeqCst);
    }

    /// Takes the pageblock out of service. Before the zone is shared.
    pub(crate) fn withhold(&self) {
        self.row_map.fetch_or(ALL_ROWS | WITHHELD, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;
    use std::vec::Vec;

    fn on_a_pageblock(test: impl FnOnce(&Pageblock<'_, AtomicU64>)) {
        let (bits, row_map) = ([const { AtomicU64::new(0) }; PAGEBLOCK_ROWS], AtomicU64::new(0));
        test(&Pageblock { bits: &bits, row_map: &row_map });
    }

    fn take(block: &Pageblock<'_, AtomicU64>, rows: u64) -> Option<Change> {
        block.take_rows(|map| (map.inside() & rows == rows).then_some(rows)).map(|(_, change)| change)
    }

    #[test]
    fn frames_that_are_free_already_are_named_and_none_is_given_back() {
        on_a_pageblock(|block| {
            for row in 0..PAGEBLOCK_ROWS {
                assert_eq!(block.give(row, 0b110).err(), Some(0b110), "row {row} is in");
                take(block, 1 << row).unwrap();
                assert!(matches!(block.give(row, 0b1010), Ok(Given::Out(0b1010))));
                assert_eq!(block.give(row, 0b1100).err(), Some(0b1000));
                assert_eq!(block.free(row), 0b1010);
                assert_eq!(block.give_rows(1 << row).err(), Some((row, 0b1010)));
                assert!(matches!(block.give(row, !0b1010), Ok(Given::Complete)));
                assert_eq!(block.free(row), 0);
                assert!(block.give_rows(1 << row).is_ok());
                assert_eq!(block.give_rows(1 << row).err(), Some((row, !0)), "it was restored");
            }
            assert!(block.row_map().is_whole());
            assert_eq!(block.give_all().err(), Some((0, !0)));
            take(block, ALL_ROWS).unwrap();
            block.offer(5, 1 << 9);
            assert_eq!(block.give_all().err(), Some((5, 1 << 9)));
            block.offer(6, 1 << 9);
            assert_eq!(block.give_all().err(), Some((5, 1 << 9)));
            assert!(block.give_rows(0b1001_1111).is_ok(), "what is free in other rows is another matter");
        });
    }

    #[test]
    fn a_request_that_comes_during_the_look_for_an_earlier_one_is_not_forgotten() {
        on_a_pageblock(|block| {
            let waiting = || block.row_map().waiting().collect::<Vec<_>>();
            take(block, ALL_ROWS).unwrap();
            assert!(block.await_frame(511) && block.await_frame(0));
            block.forget_frame(511, || false);
            assert_eq!(waiting(), [511, 0], "it has not left");
            block.forget_frame(511, || true);
            assert_eq!(waiting(), [0]);
            // It leaves, is restored, and is to leave again, all during one look: the word would be
            // as it was.
            let looks = core::cell::Cell::new(0);
            block.forget_frame(0, || {
                looks.set(looks.get() + 1);
                if looks.get() == 1 {
                    block.forget_frame(0, || true);
                    assert_eq!(waiting(), [0; 0]);
                    assert!(block.await_frame(0));
                }
                looks.get() == 1
            });
            assert_eq!((looks.get(), waiting()), (2, vec![0]));
            // The number of requests comes round and leaves everything else alone.
            for _ in 0..=REQUESTS / REQUEST {
                assert!(block.await_frame(0) && block.await_frame(1));
            }
            assert_eq!(waiting(), [0, 1]);
            assert!(!block.row_map().is_touched() && !block.row_map().is_withheld());
            assert_eq!(block.row_map().inside(), 0);
        });
    }

    #[test]
    fn four_frames_of_a_pageblock_can_wait_and_each_is_forgotten_by_itself() {
        on_a_pageblock(|block| {
            take(block, 0b1010_0101).unwrap();
            let before = block.row_map();
            let waiting = || block.row_map().waiting().collect::<Vec<_>>();
            assert!(!before.has_waiting() && waiting().is_empty());
            let frames = [0, 511, 255, 256];
            for (n, frame) in frames.into_iter().enumerate() {
                assert!(block.await_frame(frame) && block.await_frame(frame), "twice is once");
                assert!(block.row_map().has_waiting());
                assert_eq!(waiting(), frames[..=n]);
            }
            assert!(!block.await_frame(7) && block.await_frame(255));
            block.forget_frame(7, || true);
            assert_eq!(waiting(), frames);
            for (n, frame) in frames.into_iter().enumerate() {
                block.forget_frame(frame, || true);
                assert_eq!(waiting(), frames[n + 1..]);
            }
            let map = block.row_map();
            assert_eq!((map.inside(), map.is_withheld()), (before.inside(), before.is_withheld()));
            for frame in frames {
                assert!(block.await_frame(frame));
            }
            block.forget_frame(255, || true);
            assert!(block.await_frame(3), "a place is free again");
            assert_eq!(waiting(), [0, 511, 3, 256]);
        });
    }

    #[test]
    fn a_withheld_pageblock_is_opened_by_one_thread_or_admitted_as_a_whole() {
        on_a_pageblock(|block| {
            assert!(!block.admit() && !block.begin_opening(), "it is in service");
            block.withhold();
            assert!(block.row_map().is_withheld() && !block.row_map().is_opening());
            assert!(block.begin_opening() && !block.begin_opening() && !block.admit());
            assert!(block.row_map().is_withheld() && block.row_map().is_opening());
            block.end_opening();
            assert!(!block.row_map().is_withheld() && !block.row_map().is_opening());
            assert_eq!(block.row_map().inside(), 0);
        });
        on_a_pageblock(|block| {
            block.withhold();
            assert!(block.admit() && !block.admit() && block.row_map() == RowMap(0));
        });
    }

    #[test]
    fn a_pageblock_is_untouched_until_a_part_of_it_is_restored() {
        on_a_pageblock(|block| {
            take(block, ALL_ROWS).unwrap();
            block.give_all().unwrap();
            assert!(!block.row_map().is_touched());
            take(block, 0b11).unwrap();
            assert!(!block.row_map().is_touched());
            block.give_rows(0b11).unwrap();
            assert!(block.row_map().is_whole() && block.row_map().is_touched());
            assert!(take(block, 0b100).unwrap().to.is_touched());
            block.give_rows(0b100).unwrap();
            assert!(!take(block, ALL_ROWS).unwrap().to.is_touched());
            block.give_all().unwrap();
            assert!(block.row_map().is_whole() && !block.row_map().is_touched());
        });
    }
}
