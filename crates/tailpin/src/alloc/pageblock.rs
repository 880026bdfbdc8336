//! One 2 MiB pageblock as the allocator sees it: eight words of 64 frames, and the row map, which
//! says which of these rows are free as a whole.
//!
//! A row is *in* or *out*. The frames of a word that is in are all free and belong to the row map:
//! they go out together, alone or with their neighbours, by one compare-and-swap on it, up to the
//! whole pageblock at once; their bits are all clear while they are in. Of a word that is out, set
//! bits are free frames, which any thread may claim, and clear ones are in use. The thread that
//! frees the last frame of such a word claims all 64 instead of setting the last bit, and restores
//! the row.
//!
//! So each frame is owned by exactly one of: the row map, its bit, the caller that took it.
//! Zero-filled words are a free pageblock.

use core::sync::atomic::Ordering;

use crate::atomic::AtomicWord;
use crate::frame::{AREA_FRAMES, Order};

use super::runs::{best, largest, run};

/// Words of frames in a pageblock.
pub(crate) const AREA_WORDS: usize = AREA_FRAMES / 64;
/// The order of a row; a pageblock has runs of words of this order to [`Order::HUGE`].
pub(crate) const WORD_ORDER: Order = Order::wrap(6);
/// All words of a pageblock, as a mask.
pub(crate) const ALL_WORDS: u64 = (1 << AREA_WORDS) - 1;

/// A pageblock with fewer frames in use is sparse.
const SPARSE: u32 = 64;

/// Some row was restored alone since the pageblock was last at rest.
const TOUCHED: u64 = 1 << 16;
/// The pageblock never enters service.
const WITHHELD: u64 = 1 << 17;

/// Where the frames of the pageblock that wait to leave service are noted, and how many bits each
/// has: its number within the pageblock plus one, or zero.
const WAITING_AT: u32 = 20;
const WAITING_BITS: u32 = 10;
const WAITING_MASK: u64 = (1 << WAITING_BITS) - 1;
/// Frames of one pageblock that can wait at once.
const MOST_WAITING: u32 = 4;

const _: () = assert!(AREA_FRAMES as u64 <= WAITING_MASK && WAITING_AT + MOST_WAITING * WAITING_BITS <= 64);

/// The home word of a pageblock, as a value: which of its words are out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RowMap(u64);

impl RowMap {
    /// The words that are in, as a mask.
    #[inline]
    pub(crate) fn inside(self) -> u64 {
        !self.0 & ALL_WORDS
    }

    #[inline]
    pub(crate) fn is_whole(self) -> bool {
        self.0 & ALL_WORDS == 0
    }

    pub(crate) fn is_touched(self) -> bool {
        self.0 & TOUCHED != 0
    }

    pub(crate) fn is_withheld(self) -> bool {
        self.0 & WITHHELD != 0
    }

    /// Whether a frame of the pageblock waits to leave service.
    #[inline]
    pub(crate) fn has_waiting(self) -> bool {
        self.0 >> WAITING_AT != 0
    }

    /// The frames that wait, by their numbers within the pageblock.
    pub(crate) fn waiting(self) -> impl Iterator<Item = u64> {
        let noted = move |place| self.0 >> (WAITING_AT + place * WAITING_BITS) & WAITING_MASK;
        (0..MOST_WAITING).filter_map(move |place| noted(place).checked_sub(1))
    }

    /// With this frame among them; `None` if as many as can be wait already.
    fn with_waiting(self, frame: u64) -> Option<Self> {
        if self.waiting().any(|waiting| waiting == frame) {
            return Some(self);
        }
        let mut places = (0..MOST_WAITING).map(|place| WAITING_AT + place * WAITING_BITS);
        let place = places.find(|place| self.0 >> place & WAITING_MASK == 0)?;
        Some(Self(self.0 | (frame + 1) << place))
    }

    /// Without it.
    fn without_waiting(self, frame: u64) -> Self {
        let places = (0..MOST_WAITING).map(|place| WAITING_AT + place * WAITING_BITS);
        let mut noted = places.filter(|place| self.0 >> place & WAITING_MASK == frame + 1);
        noted.next().map_or(self, |place| Self(self.0 & !(WAITING_MASK << place)))
    }

    /// Order of the largest block that words that are in can make: 6 to 9.
    #[inline]
    pub(crate) fn largest(self) -> Option<Order> {
        largest(self.inside()).map(|order| Order::wrap(WORD_ORDER.get() + order.get()))
    }

    /// The words of the best place for a block of `order`, 6 to 9.
    #[inline]
    pub(crate) fn best(self, order: Order) -> Option<u64> {
        let order = Order::wrap(order.get() - WORD_ORDER.get());
        best(self.inside(), order).map(|word| run(order, word))
    }

    /// Without these words. A whole pageblock goes to rest with its new owner.
    #[inline]
    fn without(self, words: u64) -> Self {
        Self((self.0 | words) & if words == ALL_WORDS { !TOUCHED } else { !0 })
    }

    /// With these words; `None` if some of them are in.
    #[inline]
    fn with(self, words: u64) -> Option<Self> {
        let needs_scrub = if words == ALL_WORDS { 0 } else { TOUCHED };
        (self.inside() & words == 0).then_some(Self(self.0 & !words | needs_scrub))
    }
}

/// A change of a home word, as it was and as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) from: RowMap,
    pub(crate) to: RowMap,
}

/// What became of frames that were given back.
pub(crate) enum Given {
    /// They are free in their word, as all of these are.
    Out(u64),
    /// With them all 64 are free. They are the caller's and have to go home.
    Complete,
}

/// A pageblock's words.
pub(crate) struct Pageblock<'m, W> {
    pub(crate) bits: &'m [W; AREA_WORDS],
    pub(crate) home: &'m W,
}

impl<W: AtomicWord> Pageblock<'_, W> {
    /// SeqCst: after a hint to this pageblock was written, see [`tree`](super::hint_bitmap).
    #[inline]
    pub(crate) fn home(&self) -> RowMap {
        RowMap(self.home.load(Ordering::SeqCst))
    }

    /// The free frames of a word that is out. SeqCst: as in `home`.
    #[inline]
    pub(crate) fn free(&self, word: usize) -> u64 {
        self.bits[word].load(Ordering::SeqCst)
    }

    /// SeqCst: before hints to this pageblock are read; and what was done to the frames is before
    /// their next owner's use of them.
    #[inline]
    fn change(word: &W, from: u64, to: u64) -> bool {
        word.compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Whether few of its frames are in use, but some.
    #[inline]
    pub(crate) fn is_sparse(&self) -> bool {
        let (mut out, mut used) = (!self.home().inside() & ALL_WORDS, 0);
        while out != 0 && used < SPARSE {
            used += 64 - self.free(out.trailing_zeros() as usize).count_ones();
            out &= out - 1;
        }
        (1..SPARSE).contains(&used)
    }

    /// Claims the free frames that `select` picks of a word that is out; these and what is left are
    /// returned. Goes round only because another thread changed the word.
    #[inline]
    pub(crate) fn claim(&self, word: usize, select: impl Fn(u64) -> Option<u64>) -> Option<(u64, u64)> {
        loop {
            let from = self.free(word);
            let taken = select(from)?;
            let to = from & !taken;
            if Self::change(&self.bits[word], from, to) {
                return Some((taken, to));
            }
        }
    }

    /// Takes the words that `select` picks out of the home: all their frames are the caller's.
    #[inline]
    pub(crate) fn take_words(&self, select: impl Fn(RowMap) -> Option<u64>) -> Option<(u64, Change)> {
        loop {
            let from = self.home();
            let words = select(from)?;
            let to = from.without(words);
            if Self::change(self.home, from.0, to.0) {
                return Some((words, Change { from, to }));
            }
        }
    }

    /// Offers frames of a word all of whose frames the caller had: it was the one to take the word
    /// out.
    pub(crate) fn offer(&self, word: usize, frames: u64) {
        // SeqCst: as in `change`.
        self.bits[word].fetch_or(frames, Ordering::SeqCst);
    }

    /// Gives back frames of a word. Errs with those that are free already, and then gives back
    /// none.
    #[inline]
    pub(crate) fn give(&self, word: usize, frames: u64) -> Result<Given, u64> {
        // Relaxed: with some of its frames the caller's, the word stays out.
        if RowMap(self.home.load(Ordering::Relaxed)).inside() >> word & 1 != 0 {
            return Err(frames);
        }
        loop {
            let from = self.bits[word].load(Ordering::Relaxed);
            if from & frames != 0 {
                return Err(from & frames);
            }
            let all = from | frames;
            let (to, given) = if all == !0 { (0, Given::Complete) } else { (all, Given::Out(all)) };
            if Self::change(&self.bits[word], from, to) {
                return Ok(given);
            }
        }
    }

    /// Brings words home, all frames of which are the caller's. Errs with one that was in, or of
    /// which a frame is free, as (word, frames), and then brings none.
    pub(crate) fn give_words(&self, words: u64) -> Result<Change, (usize, u64)> {
        // Relaxed: all these frames are the caller's, so no other thread changes their bits.
        let free = |word: &usize| words >> word & 1 != 0 && self.bits[*word].load(Ordering::Relaxed) != 0;
        if let Some(word) = (0..AREA_WORDS).find(free) {
            return Err((word, self.free(word)));
        }
        loop {
            let from = self.home();
            let Some(to) = from.with(words) else {
                return Err(((from.inside() & words).trailing_zeros() as usize, !0));
            };
            if Self::change(self.home, from.0, to.0) {
                return Ok(Change { from, to });
            }
        }
    }

    /// Brings all words home at once: the short way for a whole pageblock. As `give_words`.
    #[inline]
    pub(crate) fn give_all(&self) -> Result<(), (usize, u64)> {
        // Relaxed: as in `give_words`.
        let free = self.bits.iter().fold(0, |free, word| free | word.load(Ordering::Relaxed));
        let from = self.home();
        match from.with(ALL_WORDS) {
            Some(to) if free == 0 && Self::change(self.home, from.0, to.0) => Ok(()),
            _ => self.give_words(ALL_WORDS).map(|_| ()),
        }
    }

    /// Notes that a frame waits to leave service; false if too many do already. SeqCst: before the
    /// frame is looked for.
    pub(crate) fn await_frame(&self, frame: u64) -> bool {
        loop {
            let from = self.home();
            let Some(to) = from.with_waiting(frame) else { return false };
            if Self::change(self.home, from.0, to.0) {
                return true;
            }
        }
    }

    /// It waits no longer.
    pub(crate) fn forget_frame(&self, frame: u64) {
        loop {
            let from = self.home();
            let to = from.without_waiting(frame);
            if from == to || Self::change(self.home, from.0, to.0) {
                return;
            }
        }
    }

    /// Takes the pageblock out of service. Before the zone is shared.
    pub(crate) fn withhold(&self) {
        self.home.fetch_or(ALL_WORDS | WITHHELD, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;

    fn on_an_area(test: impl FnOnce(&Pageblock<'_, AtomicU64>)) {
        let (bits, home) = ([const { AtomicU64::new(0) }; AREA_WORDS], AtomicU64::new(0));
        test(&Pageblock { bits: &bits, home: &home });
    }

    fn take(area: &Pageblock<'_, AtomicU64>, words: u64) -> Option<Change> {
        area.take_words(|home| (home.inside() & words == words).then_some(words)).map(|(_, change)| change)
    }

    #[test]
    fn frames_that_are_free_already_are_named_and_none_is_given_back() {
        on_an_area(|area| {
            for word in 0..AREA_WORDS {
                assert_eq!(area.give(word, 0b110).err(), Some(0b110), "word {word} is at home");
                take(area, 1 << word).unwrap();
                assert!(matches!(area.give(word, 0b1010), Ok(Given::Out(0b1010))));
                assert_eq!(area.give(word, 0b1100).err(), Some(0b1000));
                assert_eq!(area.free(word), 0b1010);
                assert_eq!(area.give_words(1 << word).err(), Some((word, 0b1010)));
                assert!(matches!(area.give(word, !0b1010), Ok(Given::Complete)));
                assert_eq!(area.free(word), 0);
                assert!(area.give_words(1 << word).is_ok());
                assert_eq!(area.give_words(1 << word).err(), Some((word, !0)), "it came home");
            }
            assert!(area.home().is_whole());
            assert_eq!(area.give_all().err(), Some((0, !0)));
            take(area, ALL_WORDS).unwrap();
            area.offer(5, 1 << 9);
            assert_eq!(area.give_all().err(), Some((5, 1 << 9)));
            area.offer(6, 1 << 9);
            assert_eq!(area.give_all().err(), Some((5, 1 << 9)));
            assert!(area.give_words(0b1001_1111).is_ok(), "what is free in other words is another matter");
        });
    }

    #[test]
    fn an_area_is_at_rest_until_a_part_of_it_comes_home() {
        on_an_area(|area| {
            take(area, ALL_WORDS).unwrap();
            area.give_all().unwrap();
            assert!(!area.home().is_touched());
            take(area, 0b11).unwrap();
            assert!(!area.home().is_touched());
            area.give_words(0b11).unwrap();
            assert!(area.home().is_whole() && area.home().is_touched());
            assert!(take(area, 0b100).unwrap().to.is_touched());
            area.give_words(0b100).unwrap();
            assert!(!take(area, ALL_WORDS).unwrap().to.is_touched());
            area.give_all().unwrap();
            assert!(area.home().is_whole() && !area.home().is_touched());
        });
    }
}
