//! The checker's atomic word: the shipped protocols are instantiated with it.

use std::sync::atomic::{AtomicU64, Ordering};

use tailpin::AtomicWord;

use crate::engine::{Engine, Loom, Shuttle};
use crate::lock_wait;
use crate::switches::{Weaken, mends_stuck_lock, watches_lock};
use crate::trace::{self, Name, violation};

/// The lock bit in the classic protocol's flags.
const COMPOUND_LOCK: u64 = 1 << 2;

/// A word whose operations are scheduled by the engine and written down.
///
/// Only the frames a scenario is about are explored. The others are plain words: a step on them is no point at which
/// threads are switched, so a model of a whole 2 MiB area has no more interleavings than one of a few frames.
pub struct CheckWord<E: Engine> {
    name: Name,
    inner: Inner<E>,
}

enum Inner<E: Engine> {
    Explored(E::Atomic, AtomicU64),
    Plain(AtomicU64),
}

enum Touched<'w, E: Engine> {
    Explored(&'w E::Atomic, &'w AtomicU64),
    Plain(&'w AtomicU64),
}

/// The word of the exhaustive checker.
pub type LoomWord = CheckWord<Loom>;
/// The word of the random scheduler.
pub type ShuttleWord = CheckWord<Shuttle>;

impl<E: Engine> CheckWord<E> {
    /// A word of zero whose operations are explored.
    pub fn explored(name: Name) -> Self {
        Self { name, inner: Inner::Explored(E::atomic(0), AtomicU64::new(0)) }
    }

    /// A word of zero that no two threads ever touch at once in ways that matter.
    pub fn plain(name: Name) -> Self {
        Self { name, inner: Inner::Plain(AtomicU64::new(0)) }
    }

    /// What an operation is done on. A thread that unwinds does so outside of the model, whose last word is in the trace's copy.
    fn inner(&self) -> Touched<'_, E> {
        match &self.inner {
            Inner::Plain(word) => Touched::Plain(word),
            Inner::Explored(_, newest) if std::thread::panicking() => Touched::Plain(newest),
            Inner::Explored(word, newest) => Touched::Explored(word, newest),
        }
    }

    fn apply(
        &self,
        operation: &'static str,
        explored: impl FnOnce(&E::Atomic) -> u64,
        plain: impl FnOnce(&AtomicU64) -> u64,
        after: impl FnOnce(u64) -> u64,
    ) -> u64 {
        match self.inner() {
            Touched::Plain(word) => plain(word),
            Touched::Explored(word, newest) => {
                let before = explored(word);
                if E::TRACES {
                    let after = after(before);
                    // Relaxed: only for the trace, and one thread runs at a time.
                    newest.store(after, Ordering::Relaxed);
                    trace::step(self.name, operation, before, after);
                }
                before
            }
        }
    }
}

impl<E: Engine> AtomicWord for CheckWord<E> {
    fn load(&self, order: Ordering) -> u64 {
        let order = Weaken::load(order);
        match self.inner() {
            Touched::Plain(word) => word.load(order),
            Touched::Explored(word, newest) => {
                let value = E::load(word, order);
                if E::TRACES {
                    let now = newest.load(Ordering::Relaxed);
                    trace::step(
                        self.name,
                        if now == value { "load" } else { "load (old value)" },
                        value,
                        value,
                    );
                }
                value
            }
        }
    }

    fn store(&self, value: u64, order: Ordering) {
        let order = Weaken::store(order);
        match self.inner() {
            Touched::Plain(word) => word.store(value, order),
            Touched::Explored(word, newest) => {
                if self.name.field == "flags" {
                    // The checker does not order a plain store after a read-modify-write of another thread that came
                    // first, and would let this one read what it has overwritten. The flags are where both meet.
                    E::swap(word, value, order);
                } else {
                    E::store(word, value, order);
                }
                let before = newest.swap(value, Ordering::Relaxed);
                // A plain store that puts back a lock bit which is gone by now leaves it stuck: a race of its own. Where
                // that is not what is looked for it is mended, so that the bit that is lost is seen by itself.
                let puts_back = value & !before & COMPOUND_LOCK;
                if puts_back != 0 && self.name.field == "flags" && mends_stuck_lock() {
                    E::fetch_and(word, !puts_back, Ordering::Relaxed);
                    newest.store(value & !puts_back, Ordering::Relaxed);
                }
                if E::TRACES {
                    trace::step(self.name, "store", before, value);
                }
                lock_wait::unlocked(self.name, value);
            }
        }
    }

    fn compare_exchange(&self, current: u64, new: u64, ok: Ordering, err: Ordering) -> Result<u64, u64> {
        let ok = Weaken::change(ok);
        match self.inner() {
            // Nobody else runs any more who would give back what is waited for.
            Touched::Plain(word) if std::thread::panicking() => {
                word.store(new, Ordering::Relaxed);
                Ok(current)
            }
            Touched::Plain(word) => word.compare_exchange(current, new, ok, err),
            Touched::Explored(word, newest) => {
                let result = E::compare_exchange(word, current, new, ok, err);
                if E::TRACES {
                    match result {
                        Ok(_) => {
                            newest.store(new, Ordering::Relaxed);
                            trace::step(self.name, "cas", current, new);
                        }
                        Err(found) => trace::step(self.name, "cas fails", found, found),
                    }
                }
                result
            }
        }
    }

    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        let order = Weaken::change(order);
        let after = |before: u64| before.wrapping_add(value);
        self.apply("add", |word| E::fetch_add(word, value, order), |word| word.fetch_add(value, order), after)
    }

    fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        let order = Weaken::drop(order);
        let after = |before: u64| before.wrapping_sub(value);
        self.apply("sub", |word| E::fetch_sub(word, value, order), |word| word.fetch_sub(value, order), after)
    }

    fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        let after = |before: u64| before & value;
        let before = self.apply(
            "and",
            |word| E::fetch_and(word, value, order),
            |word| word.fetch_and(value, order),
            after,
        );
        let unlocks = self.name.field == "flags" && value & COMPOUND_LOCK == 0;
        if unlocks && before & COMPOUND_LOCK == 0 && watches_lock() {
            violation(format!("the compound lock of frame {} was lost while it was held", self.name.frame));
        }
        before
    }

    fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        let after = |before: u64| before | value;
        self.apply("or", |word| E::fetch_or(word, value, order), |word| word.fetch_or(value, order), after)
    }

    fn fence(order: Ordering) {
        E::fence(order);
    }

    fn relax() {
        lock_wait::relax::<E>();
    }
}
