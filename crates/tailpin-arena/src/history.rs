//! Who was given a page, and when: a word per frame, written at a buffer's first frame only.
//!
//! ```text
//!  63 .. 59  58 .. 54  53 ........................ 0
//! | cover+1 | order   | born, in ticks              |
//! ```
//!
//! The record of a page is the youngest one that covers it: `cover` is the order of the frames that
//! a record speaks for from where it stands, `order` that of the buffer it tells of. A new buffer
//! may begin where an older, larger one did of which some pages are still kept. The old record then
//! moves aside to where the rest of its frames begins, as a buddy allocator splits a block, and
//! gives way to younger ones it meets there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tailpin::{Order, Pfn};

use crate::memory::system::{ticks, ticks_since};

const BORN_BITS: u32 = 54;
const ORDER_SHIFT: u32 = BORN_BITS;
const COVER_SHIFT: u32 = ORDER_SHIFT + 5;
const BORN_MASK: u64 = (1 << BORN_BITS) - 1;

const _: () = assert!(COVER_SHIFT + 5 == 64 && Order::MAX.get() + 1 < 32);

/// What is known of the buffer a page came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Origin {
    /// First frame of the buffer.
    pub(crate) head: Pfn,
    /// Order of its block.
    pub(crate) order: Order,
    /// Ticks after the arena was built.
    born: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record(u64);

impl Record {
    fn new(order: Order, born: u64) -> Self {
        let order_bits = u64::from(order.get()) << ORDER_SHIFT;
        Self(order_bits | born.min(BORN_MASK)).covering(order)
    }

    /// What a record looks like.
    #[cfg(test)]
    pub(crate) fn sample(order: Order, born: u64) -> u64 {
        Self::new(order, born).0
    }

    fn covering(self, cover: Order) -> Self {
        let rest = self.0 & ((1 << COVER_SHIFT) - 1);
        Self(rest | (u64::from(cover.get()) + 1) << COVER_SHIFT)
    }

    /// Whether it speaks for more frames than a block of that order has.
    #[inline]
    fn covers_more_than(self, order: Order) -> bool {
        self.0 >> COVER_SHIFT > u64::from(order.get()) + 1
    }

    /// `None` where nothing was written yet, or no record stands.
    fn cover(self) -> Option<Order> {
        Order::new(((self.0 >> COVER_SHIFT) as u8).checked_sub(1)?)
    }

    fn born(self) -> u64 {
        self.0 & BORN_MASK
    }

    fn origin(self, at: Pfn) -> Option<Origin> {
        let order = Order::new((self.0 >> ORDER_SHIFT & 31) as u8)?;
        Some(Origin { head: at.head(order), order, born: self.born() })
    }
}

/// The records of an arena.
///
/// A word is written by the thread that was handed a buffer, at its first frame and where it moves
/// an older record to.
pub(crate) struct History {
    words: &'static [AtomicU64],
    base: Pfn,
    /// When the arena was built, by the clock and in ticks: what a tick is follows from both. No
    /// clock is read when a buffer is handed out.
    start: Instant,
    start_ticks: u64,
}

/// A moment, by the clock and in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) clock: Instant,
    pub(crate) ticks: u64,
}

impl Start {
    pub(crate) fn now() -> Self {
        Self { clock: Instant::now(), ticks: ticks() }
    }
}

impl History {
    /// Over one word per frame from `base` on, which begins a pageblock: zeroed, or copied from an
    /// arena that was built at `start`.
    pub(crate) fn new(words: &'static [AtomicU64], base: Pfn, start: Start) -> Self {
        Self { words, base, start: start.clock, start_ticks: start.ticks }
    }

    /// The same, recording nothing.
    pub(crate) fn without_records(self) -> Self {
        Self { words: &[], ..self }
    }

    #[inline]
    fn word(&self, at: Pfn) -> Option<&AtomicU64> {
        // Of a frame before the first the number is larger than there are words.
        self.words.get(usize::try_from(at.get().wrapping_sub(self.base.get())).ok()?)
    }

    /// Since the arena was built.
    pub(crate) fn lifetime(&self) -> Duration {
        self.start.elapsed()
    }

    /// The time, in ticks after the arena was built.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        ticks_since(self.start, self.start_ticks)
    }

    /// A buffer of `order` was handed out at `head`.
    #[inline(always)] // The order is mostly known beforehand.
    pub(crate) fn record(&self, head: Pfn, order: Order) {
        // Where nothing is recorded no clock is read.
        if let Some(word) = self.word(head) {
            self.record_in(word, head, order, self.now());
        }
    }

    /// A buffer of `order` was handed out at `head`, at that time.
    #[inline]
    pub(crate) fn record_at(&self, head: Pfn, order: Order, born: u64) {
        if let Some(word) = self.word(head) {
            self.record_in(word, head, order, born);
        }
    }

    /// A page of each of these was handed out, at that time.
    #[inline]
    pub(crate) fn record_pages(&self, pages: &[Pfn], born: u64) {
        pages.iter().for_each(|page| self.record_at(*page, Order::PAGE, born));
    }

    #[inline(always)]
    fn record_in(&self, word: &AtomicU64, head: Pfn, order: Order, born: u64) {
        // Relaxed, here and below: each record is complete in itself, and tells people, not
        // programs.
        let old = Record(word.swap(Record::new(order, born).0, Ordering::Relaxed));
        if old.covers_more_than(order) {
            self.move_aside(old, head, order);
        }
    }

    /// Of the frames from `at` on that `old` spoke for, the first `taken` are another's now.
    #[inline(never)]
    fn move_aside(&self, old: Record, at: Pfn, taken: Order) {
        let Some(cover) = old.cover() else { return };
        for order in taken.get()..cover.get() {
            let Some(order) = Order::new(order) else { return };
            self.write_older(old.covering(order), at.offset(order.frames()));
        }
    }

    /// Writes a record that is not the youngest: it takes the place of older ones and lets younger
    /// ones stand.
    fn write_older(&self, record: Record, at: Pfn) {
        let Some(word) = self.word(at) else { return };
        let mut seen = Record(word.load(Ordering::Relaxed));
        loop {
            if let Some(theirs) = seen.cover()
                && seen.born() >= record.born()
            {
                return self.move_aside(record, at, theirs);
            }
            match word.compare_exchange(seen.0, record.0, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => seen = Record(now),
            }
        }
    }

    /// The buffer that `page`, which is in use, was handed out with.
    pub(crate) fn origin(&self, page: Pfn) -> Option<Origin> {
        let mut youngest: Option<(u64, Origin)> = None;
        for order in Order::all() {
            let at = page.head(order);
            let Some(word) = self.word(at) else { break };
            let record = Record(word.load(Ordering::Relaxed));
            let covers = record.cover().is_some_and(|cover| at.offset(cover.frames()) > page);
            if covers && youngest.is_none_or(|(born, _)| record.born() > born) {
                youngest = record.origin(at).map(|origin| (record.born(), origin)).or(youngest);
            }
        }
        youngest.map(|(_, origin)| origin)
    }

    /// How long ago a buffer was handed out.
    pub(crate) fn age(&self, origin: Origin) -> Duration {
        let now = self.now();
        let share = now.saturating_sub(origin.born) as f64 / now.max(1) as f64;
        self.lifetime().mul_f64(share)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    fn history(frames: usize) -> History {
        let words = (0..frames).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        History::new(Vec::leak(words), Pfn::new(0), Start::now())
    }

    fn wait_a_tick(history: &History) {
        let before = history.now();
        while history.now() == before {
            std::hint::spin_loop();
        }
    }

    fn is_as_recorded(history: &History, page: Pfn, expected: Option<&(Pfn, Order, Range<u64>)>) {
        let found = history.origin(page);
        let place = |origin: Origin| (origin.head, origin.order);
        assert_eq!(found.map(place), expected.map(|(head, order, _)| (*head, *order)), "{page}");
        if let (Some(found), Some((_, _, born))) = (found, expected) {
            assert!(born.contains(&found.born), "{page}: {born:?} {found:?}");
        }
    }

    #[test]
    fn the_youngest_record_that_covers_a_page_is_its_own() {
        let frames = 1024;
        let history = history(frames);
        let mut model = vec![None; frames];
        let mut seed = 11u64;
        for _ in 0..3000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let order = Order::new((seed >> 40) as u8 % 10).unwrap();
            let head = Pfn::new((seed >> 20) % frames as u64).head(order);
            wait_a_tick(&history);
            let after = history.now();
            history.record(head, order);
            for page in head.get()..head.offset(order.frames()).get() {
                model[page as usize] = Some((head, order, after..history.now() + 1));
            }
            let page = Pfn::new((seed >> 10) % frames as u64);
            is_as_recorded(&history, page, model[page.get() as usize].as_ref());
        }
        for (page, expected) in model.iter().enumerate() {
            is_as_recorded(&history, Pfn::new(page as u64), expected.as_ref());
        }
    }

    #[test]
    fn of_two_records_of_a_moment_the_one_that_stands_stays() {
        let history = history(8);
        let (at, page) = (Pfn::new(4), Order::new(0).unwrap());
        let standing = Record::new(page, 5);
        for (born, stays) in [(4, true), (5, true), (6, false)] {
            history.word(at).unwrap().store(standing.0, Ordering::Relaxed);
            let other = Record::new(Order::new(2).unwrap(), born).covering(page);
            history.write_older(other, at);
            let now = Record(history.word(at).unwrap().load(Ordering::Relaxed));
            assert_eq!(now == standing, stays, "{born}");
        }
    }
}
