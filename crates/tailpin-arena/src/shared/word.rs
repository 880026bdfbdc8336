//! A word that remembers who wrote it last.
//!
//! Beside its 64 bits each word has a *stamp*: which journal, and the how-manieth step of it. A
//! process that is about to overwrite a stamp first notes in that journal that the step was done
//! ([`Told`]). So of a process that was killed in the middle of a step it can be said exactly
//! whether it did it: its stamp is in the word, or was noted.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use portable_atomic::AtomicU128;
use tailpin::AtomicWord;

use super::scribe::Scribe;
use super::stop;

/// Bits for the number of a step.
const STEP_BITS: u32 = 51;
/// Most journals a stamp can name.
pub(super) const MOST_JOURNALS: usize = (1 << (63 - STEP_BITS)) - 1;

/// Which step of which journal; 63 bits, and 0 for none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp(pub(super) u64);

impl Stamp {
    /// Steps count from 1 on, and are never used again.
    pub(super) fn new(journal: usize, step: u64) -> Self {
        Self((journal as u64 + 1) << STEP_BITS | step)
    }

    fn journal(self) -> Option<usize> {
        ((self.0 >> STEP_BITS) as usize).checked_sub(1)
    }

    fn step(self) -> u64 {
        self.0 & ((1 << STEP_BITS) - 1)
    }
}

/// For each journal, the highest step that was found done.
#[derive(Clone, Copy)]
pub(super) struct Told(pub(super) &'static [AtomicU64]);

impl Told {
    fn tell(self, done: Stamp) {
        // A stamp that names no journal is of a step outside of any, which is never asked for.
        if let Some(told) = done.journal().and_then(|journal| self.0.get(journal)) {
            // SeqCst, as all steps on words: told before the stamp is overwritten.
            if told.load(Ordering::SeqCst) < done.step() {
                stop::here();
                told.fetch_max(done.step(), Ordering::SeqCst);
            }
        }
    }

    fn was_told(self, step: Stamp) -> bool {
        let told = step.journal().and_then(|journal| self.0.get(journal));
        told.is_some_and(|told| told.load(Ordering::SeqCst) >= step.step())
    }
}

/// One shared word: the value below, the stamp above.
#[repr(transparent)]
pub(super) struct Word(AtomicU128);

fn value(both: u128) -> u64 {
    both as u64
}

fn stamp(both: u128) -> Stamp {
    Stamp((both >> 64) as u64)
}

impl Word {
    /// All steps are SeqCst, the order that includes each of those that callers ask for.
    fn both(&self) -> u128 {
        self.0.load(Ordering::SeqCst)
    }

    pub(super) fn value(&self) -> u64 {
        value(self.both())
    }

    /// Writes `new(value)` under `mine`, as soon as no other step comes in between; `None` leaves
    /// the word. The value found is returned.
    pub(super) fn replace(
        &self,
        mine: Stamp,
        told: Told,
        new: impl Fn(u64) -> Option<u64>,
    ) -> Result<u64, u64> {
        let mut seen = self.both();
        loop {
            let Some(new) = new(value(seen)) else { return Err(value(seen)) };
            if stamp(seen).journal() != mine.journal() {
                told.tell(stamp(seen));
                stop::here();
            }
            let both = u128::from(mine.0) << 64 | u128::from(new);
            match self.0.compare_exchange(seen, both, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(seen) => return Ok(value(seen)),
                Err(now) => seen = now,
            }
        }
    }

    /// Whether the step with this stamp was made on this word. It isn't going to be made any more.
    pub(super) fn was_written(&self, by: Stamp, told: Told) -> bool {
        // In this order: who has overwritten the stamp before the load has told before that.
        let stamped = stamp(self.both()) == by;
        stop::here();
        stamped || told.was_told(by)
    }

    /// Writes what `new` makes of the value; the value found is returned.
    pub(super) fn change(&self, new: impl Fn(u64) -> u64) -> u64 {
        let mut seen = AtomicWord::load(self, Ordering::SeqCst);
        loop {
            match Scribe::compare_exchange(self, seen, new(seen)) {
                Ok(_) => return seen,
                Err(now) => seen = now,
            }
        }
    }
}

/// Each step is recorded by the scribe of the operation that this thread is in the middle of.
impl AtomicWord for Word {
    fn load(&self, _: Ordering) -> u64 {
        Scribe::load(self)
    }
    fn store(&self, value: u64, _: Ordering) {
        Scribe::store(self, value);
    }
    fn compare_exchange(&self, current: u64, new: u64, _: Ordering, _: Ordering) -> Result<u64, u64> {
        Scribe::compare_exchange(self, current, new)
    }
    fn fetch_add(&self, n: u64, _: Ordering) -> u64 {
        self.change(|seen| seen.wrapping_add(n))
    }
    fn fetch_sub(&self, n: u64, _: Ordering) -> u64 {
        self.change(|seen| seen.wrapping_sub(n))
    }
    fn fetch_and(&self, bits: u64, _: Ordering) -> u64 {
        self.change(|seen| seen & bits)
    }
    fn fetch_or(&self, bits: u64, _: Ordering) -> u64 {
        self.change(|seen| seen | bits)
    }
    fn fence(order: Ordering) {
        fence(order);
    }
    fn relax() {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Told {
        Told(Vec::leak((0..2).map(|_| AtomicU64::new(0)).collect()))
    }

    fn word() -> &'static Word {
        Box::leak(Box::new(Word(AtomicU128::new(0))))
    }

    /// Another process overwrites the stamp between the two looks.
    #[test]
    fn a_step_that_was_made_is_known_to_be_made() {
        let (told, word) = (told(), word());
        let (own, other) = (Stamp::new(0, 5), Stamp::new(1, 1));
        assert!(!word.was_written(own, told));
        word.replace(own, told, |_| Some(7)).unwrap();
        stop::run_at(0, move || _ = word.replace(other, told, Some));
        assert!(word.was_written(own, told));
        assert_eq!(stamp(word.both()), other, "it was overwritten");
        assert!(word.was_written(own, told) && word.was_written(other, told));
        assert!(!word.was_written(Stamp::new(0, 6), told));
    }

    /// Two tell of the same journal at once: what was told of the later step stays.
    #[test]
    fn what_was_told_is_not_taken_back() {
        let told = told();
        stop::run_at(0, move || told.tell(Stamp::new(0, 9)));
        told.tell(Stamp::new(0, 3));
        assert!(told.was_told(Stamp::new(0, 9)) && !told.was_told(Stamp::new(0, 10)));
        assert!(!told.was_told(Stamp::new(1, 1)));
    }
}
