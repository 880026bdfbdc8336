//! Hints for finding something in a few loads: one bit per place, with packed summaries above, 64
//! to one.
//!
//! A hint says "look here". The thread that makes a place worth looking at
//! [marks](HintBitmap::mark) it, at all levels; a mark that turns out to be stale is
//! [cleared](HintBitmap::clear) by the search that ran into it, and by no other. So a place that
//! goes back and forth costs no write at all, and each mark costs at most one clearing.
//!
//! That no mark is lost: marker and clearer both write first (the place, the hint) and then look at
//! what the other one writes. All four are SeqCst, so one of them sees the other: the marker finds
//! the hint gone, or the clearer finds the place worth looking at and marks it again.

use core::marker::PhantomData;
use core::sync::atomic::Ordering;

use crate::atomic::AtomicWord;

use super::ids::Place;

/// Which bits are hints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// Set ones: zero-filled words have no hint.
    One,
    /// Clear ones: zero-filled words have all of them.
    Zero,
}

const MAX_LEVELS: usize = 6;

/// Hints to places of the kind `P`.
pub(crate) struct HintBitmap<'m, W, P> {
    words: &'m [W],
    hint: Hint,
    /// Start and number of bits of each level, lowest first.
    levels: [(usize, usize); MAX_LEVELS],
    depth: usize,
    places: PhantomData<fn(P)>,
}

#[expect(
    clippy::arithmetic_side_effects,
    reason = "numbers of words and bits of the levels, which the layout has seen to fit into memory"
)]
impl<'m, W: AtomicWord, P: Place> HintBitmap<'m, W, P> {
    /// Words for hints to `bits` places.
    pub(crate) const fn words(bits: usize) -> usize {
        let mut total = 0;
        let mut level = bits;
        loop {
            level = level.div_ceil(64);
            total += level;
            if level <= 1 {
                return total;
            }
        }
    }

    pub(crate) fn new(words: &'m [W], bits: usize, hint: Hint) -> Self {
        let levels = [(0, 0); MAX_LEVELS];
        let mut bitmap = Self { words, hint, levels, depth: 0, places: PhantomData };
        let mut start = 0;
        let mut level = bits;
        loop {
            bitmap.levels[bitmap.depth] = (start, level);
            bitmap.depth += 1;
            start += level.div_ceil(64);
            level = level.div_ceil(64);
            if level <= 1 {
                break;
            }
        }
        bitmap
    }

    /// Makes zero-filled words say that there is nothing beyond the end.
    pub(crate) fn begin(&self) {
        if self.hint == Hint::Zero {
            // Relaxed: before the zone is shared.
            for &(start, bits) in &self.levels[..self.depth] {
                if !bits.is_multiple_of(64) {
                    self.words[start + bits / 64].fetch_or(!0 << (bits % 64), Ordering::Relaxed);
                }
            }
        }
    }

    /// The hints in one word of a level, as set bits.
    #[inline]
    fn hints(&self, level: usize, word: usize) -> u64 {
        self.hints_in(self.levels[level].0 + word)
    }

    #[inline]
    fn hints_in(&self, word: usize) -> u64 {
        // SeqCst: see the module's text.
        let word = self.words[word].load(Ordering::SeqCst);
        match self.hint {
            Hint::One => word,
            Hint::Zero => !word,
        }
    }

    fn write(&self, level: usize, bit: usize, hint: bool) {
        let word = &self.words[self.levels[level].0 + bit / 64];
        let mask = 1 << (bit % 64);
        // SeqCst: see the module's text.
        if hint == (self.hint == Hint::One) {
            word.fetch_or(mask, Ordering::SeqCst);
        } else {
            word.fetch_and(!mask, Ordering::SeqCst);
        }
    }

    /// Hints at a place, after the SeqCst write that made it worth looking at.
    #[inline]
    pub(crate) fn mark(&self, place: P) {
        let place = place.index();
        if self.hints_in(place / 64) >> (place % 64) & 1 == 0 {
            self.mark_from(0, place);
        }
    }

    #[inline]
    fn is_hinted(&self, level: usize, bit: usize) -> bool {
        self.hints(level, bit / 64) >> (bit % 64) & 1 != 0
    }

    #[inline(never)]
    fn mark_from(&self, level: usize, bit: usize) {
        let mut bit = bit;
        for level in level..self.depth {
            // The thread that put a hint here puts, or has put, those above it.
            if self.is_hinted(level, bit) {
                return;
            }
            self.write(level, bit, true);
            bit /= 64;
        }
    }

    /// Takes a hint away that led nowhere, and those above that lead nowhere else, unless `worth`
    /// says by now that it leads somewhere.
    pub(crate) fn clear(&self, place: P, worth: impl Fn() -> bool) {
        self.write(0, place.index(), false);
        if worth() {
            self.mark(place);
        } else {
            self.clear_above(0, place.index() / 64);
        }
    }

    /// Takes away the hints to `n` places from `first` on, 1 to 64 in one word, and those above
    /// that lead nowhere else. Returns which there were, that to `first` in the lowest bit: of
    /// threads that take one hint away at once, one alone had it.
    #[inline]
    pub(crate) fn take(&self, first: P, n: usize) -> u64 {
        let (word, at) = (first.index() / 64, first.index() % 64);
        let mask = !0 >> (64 - n) << at;
        let (level, _) = self.levels[0];
        // SeqCst: see the module's text.
        let hints = match self.hint {
            Hint::One => self.words[level + word].fetch_and(!mask, Ordering::SeqCst),
            Hint::Zero => !self.words[level + word].fetch_or(mask, Ordering::SeqCst),
        };
        self.clear_above(0, word);
        (hints & mask) >> at
    }

    /// Clears the hint to a word of `level` if there is none in it.
    fn clear_above(&self, level: usize, word: usize) {
        let (mut level, mut word) = (level, word);
        while level + 1 < self.depth && self.hints(level, word) == 0 {
            self.write(level + 1, word, false);
            if self.hints(level, word) != 0 {
                self.mark_from(level + 1, word);
            }
            (level, word) = (level + 1, word / 64);
        }
    }

    /// Follows hints from `from` on until `take` takes something. Hints that lead nowhere are
    /// cleared, unless `worth` says otherwise by then.
    #[inline]
    pub(crate) fn search<T>(
        &self,
        from: P,
        worth: impl Fn(P) -> bool,
        take: impl Fn(P) -> Option<T>,
    ) -> Option<T> {
        // A hint that was cleared is not found again, unless another thread did something there in
        // between.
        while let Some(place) = self.next(from) {
            if let Some(taken) = take(place) {
                return Some(taken);
            }
            self.clear(place, || worth(place));
        }
        None
    }

    /// All places that are hinted at, lowest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = P> {
        let mut from = 0;
        core::iter::from_fn(move || {
            let place = self.next(P::from_index(from))?;
            from = place.index() + 1;
            Some(place)
        })
    }

    /// Whether a place is hinted at, at every level.
    pub(crate) fn leads_to(&self, place: P) -> bool {
        let mut bit = place.index();
        (0..self.depth).all(|level| {
            let hinted = self.is_hinted(level, bit);
            bit /= 64;
            hinted
        })
    }

    /// The first hint at or after `from`.
    #[inline]
    pub(crate) fn next(&self, from: P) -> Option<P> {
        let from = from.index();
        let next = if from == 0 { self.first() } else { self.next_at(0, from) };
        next.map(P::from_index)
    }

    /// The first hint of all: straight down.
    fn first(&self) -> Option<usize> {
        let mut at = 0;
        for (level, (start, _)) in self.levels[..self.depth].iter().enumerate().rev() {
            let hints = self.hints_in(start + at);
            if hints == 0 {
                let top = level + 1 == self.depth;
                return if top { None } else { self.next_at(0, 0) };
            }
            at = at * 64 + hints.trailing_zeros() as usize;
        }
        Some(at)
    }

    fn next_at(&self, level: usize, from: usize) -> Option<usize> {
        let bits = self.levels[level].1;
        let top = level + 1 == self.depth;
        let mut from = from;
        let mut led = false;
        while from < bits {
            let (word, at) = (from / 64, from % 64);
            if at == 0 && !led && !top {
                // At the start of a word: which one is asked above.
                from = self.next_at(level + 1, word)? * 64;
                led = true;
                continue;
            }
            let hints = self.hints(level, word) & !0 << at;
            if hints != 0 {
                let found = word * 64 + hints.trailing_zeros() as usize;
                return (found < bits).then_some(found);
            }
            if led {
                self.clear_above(level, word);
            }
            from = (word + 1) * 64;
            led = false;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;
    use std::vec;
    use std::vec::Vec;

    fn words(bits: usize) -> Vec<AtomicU64> {
        (0..HintBitmap::<AtomicU64, usize>::words(bits)).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn every_marked_place_is_found_and_no_cleared_one() {
        for hint in [Hint::One, Hint::Zero] {
            for bits in [1, 63, 64, 65, 4096, 4097, 9000] {
                let words = words(bits);
                let bitmap = HintBitmap::new(&words, bits, hint);
                bitmap.begin();
                let mut plain = vec![hint == Hint::Zero; bits];
                let mut seed = 7u64;
                for _ in 0..2000 {
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let place = (seed >> 33) as usize % bits;
                    plain[place] = seed >> 20 & 3 != 0;
                    if plain[place] {
                        bitmap.mark(place);
                    } else {
                        bitmap.clear(place, || false);
                    }
                    assert_eq!(bitmap.leads_to(place), plain[place]);
                    let from = (seed >> 12) as usize % bits;
                    let expected = (from..bits).find(|i| plain[*i]);
                    assert_eq!(bitmap.next(from), expected, "{hint:?} {bits} bits from {from}");
                }
            }
        }
    }

    #[test]
    fn hints_that_are_taken_are_those_there_were_and_are_gone() {
        for hint in [Hint::One, Hint::Zero] {
            for bits in [64, 4096, 4097, 9000] {
                let words = words(bits);
                let bitmap = HintBitmap::new(&words, bits, hint);
                bitmap.begin();
                let mut plain = vec![hint == Hint::Zero; bits];
                let mut seed = 3u64;
                for _ in 0..2000 {
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let place = (seed >> 33) as usize % bits;
                    plain[place] = true;
                    bitmap.mark(place);
                    let first = (seed >> 18) as usize % bits;
                    let n = (1 + (seed >> 11) as usize % 64).min(64 - first % 64).min(bits - first);
                    let were =
                        plain[first..][..n].iter().rev().fold(0, |bits, one| bits << 1 | u64::from(*one));
                    assert_eq!(bitmap.take(first, n), were, "{hint:?} {bits} bits, {n} from {first}");
                    plain[first..][..n].fill(false);
                    assert!((first..first + n).all(|place| !bitmap.leads_to(place)));
                    assert_eq!(bitmap.next(0), plain.iter().position(|hinted| *hinted));
                }
            }
        }
    }

    #[test]
    fn what_became_worth_a_look_meanwhile_stays_marked() {
        let words = words(200);
        let bitmap = HintBitmap::new(&words, 200, Hint::One);
        bitmap.mark(130);
        bitmap.clear(130, || true);
        assert_eq!(bitmap.next(0), Some(130));
    }

    /// A summary that leads nowhere would be followed in each search from then on.
    #[test]
    fn where_no_hint_is_left_nothing_leads_there_at_any_level() {
        for hint in [Hint::One, Hint::Zero] {
            for bits in [1, 64, 65, 4096, 4097, 9000] {
                let words = words(bits);
                let bitmap = HintBitmap::new(&words, bits, hint);
                bitmap.begin();
                let all = |bitmap: &HintBitmap<'_, AtomicU64, usize>| bitmap.iter().collect::<Vec<usize>>();
                (0..bits).for_each(|place| bitmap.clear(place, || false));
                let empty = if hint == Hint::One { 0 } else { !0 };
                let is_empty = || words.iter().all(|word| AtomicU64::load(word, Ordering::Relaxed) == empty);
                assert!(is_empty(), "{hint:?}, {bits} places");
                for places in [&[0][..], &[bits - 1], &[0, bits / 2, bits - 1]] {
                    places.iter().for_each(|place| bitmap.mark(*place));
                    let mut marked = places.to_vec();
                    marked.dedup();
                    assert_eq!(all(&bitmap), marked);
                    assert!(marked.iter().all(|place| bitmap.leads_to(*place)));
                    for (n, place) in marked.iter().enumerate() {
                        bitmap.clear(*place, || false);
                        assert!(!bitmap.leads_to(*place));
                        assert_eq!(all(&bitmap), marked[n + 1..], "{hint:?}, {bits} places");
                    }
                    assert!(is_empty(), "{hint:?}, {bits} places");
                }
            }
        }
    }

    /// As when the thread that took the last hint away was stopped before it took away what leads
    /// to it.
    #[test]
    fn a_summary_that_leads_nowhere_is_taken_away_by_the_search_that_follows_it() {
        let bits = 3 * 4096;
        let words = words(bits);
        let bitmap = HintBitmap::<AtomicU64, usize>::new(&words, bits, Hint::One);
        for place in [70, 4096 + 70, 4096 + 700] {
            bitmap.mark(place);
            bitmap.write(0, place, false);
        }
        bitmap.mark(2 * 4096 + 5);
        assert_eq!(bitmap.next(0), Some(2 * 4096 + 5));
        let hinted = |level: usize| {
            let bits = bitmap.levels[level].1;
            (0..bits).filter(|bit| bitmap.is_hinted(level, *bit)).collect::<Vec<_>>()
        };
        assert_eq!((hinted(0), hinted(1), hinted(2)), (vec![2 * 4096 + 5], vec![128], vec![2]));
    }

    #[test]
    fn a_bitmap_without_hints_finds_nothing() {
        let words = words(130);
        let bitmap = HintBitmap::new(&words, 130, Hint::Zero);
        bitmap.begin();
        for place in 0..130 {
            assert_eq!(bitmap.next(0), Some(place));
            bitmap.clear(place, || false);
        }
        assert_eq!(bitmap.next(0), None);
    }
}
