//! A bitmap with packed summaries above it, 64 to one, for finding an area in a few loads.
//!
//! A summary bit says whether the word below it is *settled*: for [`Find::One`] that it has no bit set, for
//! [`Find::Zero`] that it has all of them set. Either way an all-zero tree is right for an all-free zone.
//! Summaries follow the bits without locks: each writer looks again after writing and repairs what it finds stale.
//! All writes to a word are read-modify-writes, so the last of them comes after whatever the others had seen, looks
//! at that or newer, and leaves the bit right.

use core::sync::atomic::Ordering;

use crate::atomic::AtomicWord;

/// What the tree is searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Find {
    /// Set bits. A summary bit is set if the word below has any.
    One,
    /// Clear bits. A summary bit is set if the word below has none.
    Zero,
}

const MAX_LEVELS: usize = 6;

pub(crate) struct Tree<'m, W> {
    words: &'m [W],
    find: Find,
    /// Start and number of bits of each level, lowest first.
    levels: [(usize, usize); MAX_LEVELS],
    depth: usize,
}

impl<'m, W: AtomicWord> Tree<'m, W> {
    /// Words for a tree over `bits` bits.
    pub(crate) fn words(bits: usize) -> usize {
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

    pub(crate) fn new(words: &'m [W], bits: usize, find: Find) -> Self {
        let mut tree = Self { words, find, levels: [(0, 0); MAX_LEVELS], depth: 0 };
        let mut start = 0;
        let mut level = bits;
        loop {
            tree.levels[tree.depth] = (start, level);
            tree.depth += 1;
            start += level.div_ceil(64);
            level = level.div_ceil(64);
            if level <= 1 {
                break;
            }
        }
        if find == Find::Zero {
            // Bits beyond the end are never found. Relaxed: before the zone is shared.
            for &(start, bits) in &tree.levels[..tree.depth] {
                if !bits.is_multiple_of(64) {
                    tree.words[start + bits / 64].fetch_or(!0 << (bits % 64), Ordering::Relaxed);
                }
            }
        }
        tree
    }

    fn summary(&self, word: u64) -> bool {
        match self.find {
            Find::One => word != 0,
            Find::Zero => word == !0,
        }
    }

    /// Sets or clears one bit of a level and returns whether the summary of its word may have changed.
    fn write(&self, level: usize, bit: usize, on: bool) -> bool {
        let word = &self.words[self.levels[level].0 + bit / 64];
        let mask = 1 << (bit % 64);
        // AcqRel: each writer of this word comes after the one before it and what that one had seen.
        let (old, new) = if on {
            let old = word.fetch_or(mask, Ordering::AcqRel);
            (old, old | mask)
        } else {
            let old = word.fetch_and(!mask, Ordering::AcqRel);
            (old, old & !mask)
        };
        self.summary(old) != self.summary(new)
    }

    /// Makes the bit say what `now` says, also if that changes meanwhile.
    pub(crate) fn follow(&self, bit: usize, now: impl Fn() -> bool) {
        let mut spread = false;
        loop {
            let on = now();
            spread |= self.write(0, bit, on);
            if now() == on {
                break;
            }
        }
        if spread {
            self.follow_up(1, bit / 64);
        }
    }

    fn follow_up(&self, level: usize, bit: usize) {
        if level >= self.depth {
            return;
        }
        let below = &self.words[self.levels[level - 1].0 + bit];
        let mut spread = false;
        loop {
            let on = self.summary(below.load(Ordering::Acquire));
            spread |= self.write(level, bit, on);
            if self.summary(below.load(Ordering::Acquire)) == on {
                break;
            }
        }
        if spread {
            self.follow_up(level + 1, bit / 64);
        }
    }

    /// Whether the bit is set.
    pub(crate) fn get(&self, bit: usize) -> bool {
        self.words[bit / 64].load(Ordering::Acquire) >> (bit % 64) & 1 != 0
    }

    /// First bit at or after `from` that is searched for. A hint while others write.
    pub(crate) fn next(&self, from: usize) -> Option<usize> {
        self.next_at(0, from)
    }

    fn next_at(&self, level: usize, from: usize) -> Option<usize> {
        let (start, bits) = *self.levels[..self.depth].get(level)?;
        let mut from = from;
        while from < bits {
            let word = self.words[start + from / 64].load(Ordering::Acquire);
            // On a summary level too a One tree wants set bits and a Zero tree clear ones.
            let hits = if self.find == Find::One { word } else { !word } & !0 << (from % 64);
            if hits != 0 {
                return Some(from / 64 * 64 + hits.trailing_zeros() as usize).filter(|bit| *bit < bits);
            }
            // Nothing in this word: the summary says which word is next.
            from = match self.next_at(level + 1, from / 64 + 1) {
                Some(word) => word * 64,
                None => return None,
            };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;
    use std::vec::Vec;

    fn words(bits: usize) -> Vec<AtomicU64> {
        (0..Tree::<AtomicU64>::words(bits)).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn finds_what_a_plain_search_finds() {
        for bits in [1, 63, 64, 65, 4096, 4097, 20_000] {
            for find in [Find::One, Find::Zero] {
                let words = words(bits);
                let tree = Tree::new(&words, bits, find);
                let mut plain = std::vec![false; bits];
                let mut seed = 7u64;
                for _ in 0..2000 {
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let bit = (seed >> 33) as usize % bits;
                    let on = seed >> 20 & 3 != 0;
                    plain[bit] = on;
                    tree.follow(bit, || on);
                    let from = (seed >> 12) as usize % bits;
                    let want = find == Find::One;
                    let expected = (from..bits).find(|i| plain[*i] == want);
                    assert_eq!(tree.next(from), expected, "{find:?} {bits} bits from {from}");
                    assert_eq!(tree.get(bit), on);
                }
            }
        }
    }

    #[test]
    fn a_full_tree_has_no_zero() {
        let words = words(130);
        let tree = Tree::new(&words, 130, Find::Zero);
        for bit in 0..130 {
            assert_eq!(tree.next(0), Some(bit));
            tree.follow(bit, || true);
        }
        assert_eq!(tree.next(0), None);
    }
}
