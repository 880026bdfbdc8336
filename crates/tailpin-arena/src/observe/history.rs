//! Who was given a page, and when: a word per frame, written at a buffer's first frame only.
//!
//! ```text
//!  63 .. 59  58 .. 54  53 .... 46  45 ............ 0
//! | cover+1 | order   | tag       | born, in µs     |
//! ```
//!
//! The record of a page is the youngest one that covers it: `cover` is the order of the frames that
//! a record speaks for from where it stands, `order` that of the buffer it tells of. A new buffer
//! may begin where an older, larger one did of which some pages are still kept. The old record then
//! moves aside to where the rest of its frames begins, as a buddy allocator splits a block, and
//! gives way to younger ones it meets there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use tailpin::{Order, Pfn};

const BORN_BITS: u32 = 46;
const TAG_BITS: u32 = 8;
const ORDER_SHIFT: u32 = BORN_BITS + TAG_BITS;
const COVER_SHIFT: u32 = ORDER_SHIFT + 5;
const BORN_MASK: u64 = (1 << BORN_BITS) - 1;
const TAG_MASK: u64 = (1 << TAG_BITS) - 1;

const _: () = assert!(COVER_SHIFT + 5 == 64 && Order::MAX.get() + 1 < 32);

/// Tags told apart; buffers with more different ones count as this one.
pub(crate) const OTHER: &str = "(other)";

/// What is known of the buffer a page came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Origin {
    /// First frame of the buffer.
    pub(crate) head: Pfn,
    /// Order of its block.
    pub(crate) order: Order,
    /// Number of its tag; 0 for none.
    tag: u8,
    /// Microseconds after the arena was built.
    born: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Record(u64);

impl Record {
    fn new(order: Order, tag: u8, born: u64) -> Self {
        let order_bits = u64::from(order.get()) << ORDER_SHIFT;
        Self(order_bits | u64::from(tag) << BORN_BITS | born.min(BORN_MASK)).covering(order)
    }

    fn covering(self, cover: Order) -> Self {
        let rest = self.0 & ((1 << COVER_SHIFT) - 1);
        Self(rest | (u64::from(cover.get()) + 1) << COVER_SHIFT)
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
        Some(Origin {
            head: at.head(order),
            order,
            tag: (self.0 >> BORN_BITS & TAG_MASK) as u8,
            born: self.born(),
        })
    }
}

/// The records of an arena, and the names of its tags.
///
/// A word is written by the thread that was handed a buffer, at its first frame and where it moves
/// an older record to.
pub(crate) struct History {
    words: &'static [AtomicU64],
    base: Pfn,
    start: Instant,
    tags: RwLock<Vec<&'static str>>,
}

impl History {
    /// Over one zeroed word per frame from `base` on, which begins an area.
    pub(crate) fn new(words: &'static [AtomicU64], base: Pfn) -> Self {
        Self { words, base, start: Instant::now(), tags: RwLock::new(Vec::new()) }
    }

    fn word(&self, at: Pfn) -> Option<&AtomicU64> {
        self.words.get(at.get().checked_sub(self.base.get())? as usize)
    }

    /// Since the arena was built.
    pub(crate) fn lifetime(&self) -> Duration {
        self.start.elapsed()
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    /// A buffer of `order` was handed out at `head`.
    pub(crate) fn record(&self, head: Pfn, order: Order, tag: Option<&'static str>) {
        let tag = tag.map_or(0, |tag| self.number(tag));
        let Some(word) = self.word(head) else { return };
        // Relaxed, here and below: each record is complete in itself, and tells people, not
        // programs.
        let old = Record(word.swap(Record::new(order, tag, self.now()).0, Ordering::Relaxed));
        if let Some(cover) = old.cover() {
            self.move_aside(old, head, order, cover);
        }
    }

    /// `old` spoke for `cover` frames from `at` on, of which the first `taken` are another's now.
    fn move_aside(&self, old: Record, at: Pfn, taken: Order, cover: Order) {
        for order in taken.get()..cover.get() {
            let Some(order) = Order::new(order) else { return };
            self.write_older(old.covering(order), at.offset(order.frames()));
        }
    }

    /// Writes a record that is not the youngest: it takes the place of older ones and lets younger
    /// ones stand.
    fn write_older(&self, record: Record, at: Pfn) {
        let (Some(word), Some(cover)) = (self.word(at), record.cover()) else { return };
        let mut seen = Record(word.load(Ordering::Relaxed));
        loop {
            if let Some(theirs) = seen.cover()
                && seen.born() >= record.born()
            {
                return self.move_aside(record, at, theirs, cover);
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

    /// The tag of a buffer.
    pub(crate) fn tag(&self, origin: Origin) -> Option<&'static str> {
        let index = usize::from(origin.tag).checked_sub(1)?;
        let tags = self.tags.read().unwrap_or_else(PoisonError::into_inner);
        Some(tags.get(index).copied().unwrap_or(OTHER))
    }

    /// How long ago a buffer was handed out.
    pub(crate) fn age(&self, origin: Origin) -> Duration {
        Duration::from_micros(self.now().saturating_sub(origin.born))
    }

    fn number(&self, tag: &'static str) -> u8 {
        let find = |tags: &[&'static str]| tags.iter().position(|known| *known == tag);
        let last = TAG_MASK as usize - 1;
        let known = find(&self.tags.read().unwrap_or_else(PoisonError::into_inner));
        let index = known.unwrap_or_else(|| {
            let mut tags = self.tags.write().unwrap_or_else(PoisonError::into_inner);
            find(&tags).unwrap_or_else(|| {
                if tags.len() < last {
                    tags.push(tag);
                    tags.len() - 1
                } else {
                    last
                }
            })
        });
        index as u8 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(frames: usize) -> History {
        let words = (0..frames).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        History::new(Vec::leak(words), Pfn::new(0))
    }

    fn wait_a_microsecond(history: &History) {
        let before = history.now();
        while history.now() == before {
            std::hint::spin_loop();
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
            let tag = ["a", "b", "c", "d"][(seed >> 50) as usize % 4];
            wait_a_microsecond(&history);
            history.record(head, order, Some(tag));
            for page in head.get()..head.offset(order.frames()).get() {
                model[page as usize] = Some((head, order, tag));
            }
            let page = Pfn::new((seed >> 10) % frames as u64);
            let found =
                history.origin(page).map(|origin| (origin.head, origin.order, history.tag(origin).unwrap()));
            assert_eq!(found, model[page.get() as usize], "{page}");
        }
        for (page, expected) in model.iter().enumerate() {
            let found = history.origin(Pfn::new(page as u64));
            assert_eq!(
                found.map(|origin| (origin.head, origin.order)),
                expected.map(|(head, order, _)| (head, order))
            );
        }
    }

    #[test]
    fn of_two_records_of_a_moment_the_one_that_stands_stays() {
        let history = history(8);
        let (at, page) = (Pfn::new(4), Order::new(0).unwrap());
        let standing = Record::new(page, 1, 5);
        for (born, stays) in [(4, true), (5, true), (6, false)] {
            history.word(at).unwrap().store(standing.0, Ordering::Relaxed);
            let other = Record::new(Order::new(2).unwrap(), 2, born).covering(page);
            history.write_older(other, at);
            let now = Record(history.word(at).unwrap().load(Ordering::Relaxed));
            assert_eq!(now == standing, stays, "{born}");
        }
    }

    #[test]
    fn too_many_tags_are_one() {
        let history = history(512);
        let names: Vec<&'static str> = (0..300).map(|i| &*String::leak(format!("tag {i}"))).collect();
        for (page, name) in names.iter().enumerate() {
            history.record(Pfn::new(page as u64), Order::PAGE, Some(name));
        }
        let tag = |page| history.tag(history.origin(Pfn::new(page)).unwrap());
        assert_eq!(tag(3), Some("tag 3"));
        assert_eq!(tag(253), Some("tag 253"));
        assert_eq!(tag(254), Some(OTHER));
        assert_eq!(tag(299), Some(OTHER));
    }
}
