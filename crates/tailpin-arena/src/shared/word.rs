//! A word that remembers which step wrote it last.
//!
//! Beside its 64 bits each word has a *stamp*: which journal, and the number of the step in it. A
//! process that is about to overwrite a stamp first acknowledges that the step was made
//! ([`AcknowledgedSteps`]). So if a process was killed in the middle of a step, any other can say
//! exactly whether the step was made: its stamp is in the word, or was acknowledged.

use std::sync::atomic::{AtomicU64, Ordering};

use portable_atomic::AtomicU128;

use super::fail_point;

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

/// For each journal, the highest step whose stamp a process has seen before it overwrote it.
///
/// Any process may raise a word, by `fetch_max` alone; it is never lowered.
#[derive(Clone, Copy)]
pub(super) struct AcknowledgedSteps(pub(super) &'static [AtomicU64]);

impl AcknowledgedSteps {
    fn acknowledge(self, done: Stamp) {
        // A stamp that names no journal is of a step outside of any, which is never asked for.
        if let Some(acknowledged) = done.journal().and_then(|journal| self.0.get(journal)) {
            // SeqCst, as all steps on words: acknowledged before the stamp is overwritten.
            if acknowledged.load(Ordering::SeqCst) < done.step() {
                fail_point::here();
                acknowledged.fetch_max(done.step(), Ordering::SeqCst);
            }
        }
    }

    fn is_acknowledged(self, step: Stamp) -> bool {
        let acknowledged = step.journal().and_then(|journal| self.0.get(journal));
        acknowledged.is_some_and(|acknowledged| acknowledged.load(Ordering::SeqCst) >= step.step())
    }
}

/// One shared word: the value below, the stamp above.
///
/// Written only by [`Word::replace`], by any process, in the steps of an operation: both
/// halves change as one.
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
        acknowledged: AcknowledgedSteps,
        new: impl Fn(u64) -> Option<u64>,
    ) -> Result<u64, u64> {
        let mut seen = self.both();
        loop {
            let Some(new) = new(value(seen)) else { return Err(value(seen)) };
            if stamp(seen).journal() != mine.journal() {
                acknowledged.acknowledge(stamp(seen));
                fail_point::here();
            }
            let both = u128::from(mine.0) << 64 | u128::from(new);
            match self.0.compare_exchange(seen, both, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(seen) => return Ok(value(seen)),
                Err(now) => seen = now,
            }
        }
    }

    /// Whether the step with this stamp was made on this word. The caller knows that it isn't going
    /// to be made any more: the process that would make it is dead.
    pub(super) fn was_written(&self, by: Stamp, acknowledged: AcknowledgedSteps) -> bool {
        // In this order: a thread that overwrote the stamp before this load acknowledged the step
        // before it did.
        let stamped = stamp(self.both()) == by;
        fail_point::here();
        stamped || acknowledged.is_acknowledged(by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledged() -> AcknowledgedSteps {
        AcknowledgedSteps(Vec::leak((0..2).map(|_| AtomicU64::new(0)).collect()))
    }

    fn word() -> &'static Word {
        Box::leak(Box::new(Word(AtomicU128::new(0))))
    }

    /// Another process overwrites the stamp between the two looks.
    #[test]
    fn a_step_that_was_made_is_known_to_be_made() {
        let (acknowledged, word) = (acknowledged(), word());
        let (own, other) = (Stamp::new(0, 5), Stamp::new(1, 1));
        assert!(!word.was_written(own, acknowledged));
        word.replace(own, acknowledged, |_| Some(7)).unwrap();
        fail_point::run_at(0, move || _ = word.replace(other, acknowledged, Some));
        assert!(word.was_written(own, acknowledged));
        assert_eq!(stamp(word.both()), other, "it was overwritten");
        assert!(word.was_written(own, acknowledged) && word.was_written(other, acknowledged));
        assert!(!word.was_written(Stamp::new(0, 6), acknowledged));
    }

    /// Two threads acknowledge steps of the same journal at once: the later step stays.
    #[test]
    fn an_acknowledgement_is_not_taken_back() {
        let acknowledged = acknowledged();
        fail_point::run_at(0, move || acknowledged.acknowledge(Stamp::new(0, 9)));
        acknowledged.acknowledge(Stamp::new(0, 3));
        assert!(
            acknowledged.is_acknowledged(Stamp::new(0, 9))
                && !acknowledged.is_acknowledged(Stamp::new(0, 10))
        );
        assert!(!acknowledged.is_acknowledged(Stamp::new(1, 1)));
    }
}
