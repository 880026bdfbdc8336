//! The checker's atomic word: the shipped protocols are instantiated with it.

use std::cell::Cell;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};

use tailpin::AtomicWord;

use crate::changes;
use crate::engine::{Engine, Loom, OsThreads, Shuttle};
use crate::gather;
use crate::lock_wait;
use crate::safeguards::{self, Weaken, mends_stuck_lock, only_heads_lock, watches_lock};
use crate::trace::{self, Name, Operation, violation};

/// Bits of the classic protocol's flags: the mark of a head, and its lock.
const PG_HEAD: u64 = 1;
const COMPOUND_LOCK: u64 = 1 << 2;

/// A word whose operations are scheduled by the engine and written down.
///
/// Only the frames a scenario is about are explored, and only while the threads run. The others are
/// plain words: a step on them is no point at which threads are switched, so a model of a whole 2
/// MiB pageblock has no more interleavings than one of a few frames. Set-up and audit are one
/// thread's work, before and after everything, and act on plain words too.
pub(crate) struct CheckWord<E: Engine> {
    name: Name,
    /// The engine's word, where this one is explored.
    explored: Option<E::Atomic>,
    /// What was written last.
    newest: AtomicU64,
    /// Every bit that was ever set while this word was explored.
    ever: AtomicU64,
}

thread_local! {
    static SCHEDULED: Cell<bool> = const { Cell::new(true) };
}

/// Runs set-up and audit, during which no other thread runs. No step of it is a point at which
/// threads are switched.
pub(crate) fn unscheduled<T>(body: impl FnOnce() -> T) -> T {
    /// Also where `body` finds a violation and ends the execution.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            SCHEDULED.set(self.0);
        }
    }
    let _restore = Restore(SCHEDULED.replace(false));
    body()
}

/// The word of the exhaustive checker.
pub(crate) type LoomWord = CheckWord<Loom>;
/// The word of the random scheduler.
pub(crate) type ShuttleWord = CheckWord<Shuttle>;
/// The word of the machine's own threads.
pub(crate) type OsWord = CheckWord<OsThreads>;

impl<E: Engine> CheckWord<E> {
    /// A word of zero whose operations are explored.
    pub(crate) fn explored(name: Name) -> Self {
        changes::starts(&name, 0);
        Self { explored: Some(E::atomic(0)), ..Self::plain(name) }
    }

    /// A word of zero that no two threads ever touch at once in ways that matter.
    pub(crate) fn plain(name: Name) -> Self {
        Self { name, explored: None, newest: AtomicU64::new(0), ever: AtomicU64::new(0) }
    }

    /// The set-up is over: what it wrote is what the threads begin with.
    pub(crate) fn begin(&self) {
        if let Some(word) = &self.explored {
            // Relaxed, here and below: the threads are started after this, and have ended before
            // `end`.
            let value = self.newest.load(Ordering::Relaxed);
            changes::starts(&self.name, value);
            if value != 0 {
                E::store(word, value, Ordering::Relaxed);
            }
        }
    }

    /// The threads have ended: what they wrote is what the audit looks at.
    pub(crate) fn end(&self) {
        if let Some(word) = &self.explored {
            self.newest.store(E::load(word, Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// The engine's word, if a step on this one is a point at which threads may be switched. A
    /// thread that unwinds acts outside of the model.
    fn scheduled(&self) -> Option<&E::Atomic> {
        let word = self.explored.as_ref().filter(|_| SCHEDULED.get() && !std::thread::panicking())?;
        gather::end_if_broken();
        Some(word)
    }

    /// Notes that the word has a new value, by the caller's caller.
    #[track_caller]
    fn written(&self, value: u64) {
        changes::changed(&self.name, value, Location::caller());
        // Relaxed: only for the trace and the rules below, and one thread runs at a time.
        self.newest.store(value, Ordering::Relaxed);
        self.ever.fetch_or(value, Ordering::Relaxed);
    }

    /// A read-modify-write. `plain` is what it does to a plain word, `after` what it makes of a
    /// value.
    #[track_caller]
    fn apply(
        &self,
        operation: Operation,
        order: Ordering,
        explored: impl FnOnce(&E::Atomic) -> u64,
        plain: impl FnOnce(&AtomicU64) -> u64,
        after: impl FnOnce(u64) -> u64,
    ) -> u64 {
        let Some(word) = self.scheduled() else {
            let before = plain(&self.newest);
            if E::TRACES && self.explored.is_some() {
                self.ever.fetch_or(after(before), Ordering::Relaxed);
            }
            return self.found(before);
        };
        let before = explored(word);
        Self::fence_if(order);
        if E::TRACES {
            let after = after(before);
            self.written(after);
            trace::step(self.name, operation, before, after);
        }
        before
    }

    /// After an SeqCst change and before an SeqCst load, so that of two threads that each change
    /// one word and then look at the other's, one sees the other.
    fn fence_if(order: Ordering) {
        if E::NEEDS_FENCES && order == Ordering::SeqCst {
            E::fence(order);
        }
    }

    fn is_flags(&self) -> bool {
        self.name.field == "flags"
    }

    /// What a thread finds in the word of this value. One that unwinds finds no lock taken: no
    /// other thread runs any more that could give it back.
    fn found(&self, value: u64) -> u64 {
        if self.is_flags() && std::thread::panicking() { value & !COMPOUND_LOCK } else { value }
    }

    /// The mail: only heads are locked, "never tails". A stale head may be; what never was one may
    /// not.
    fn check_locked(&self) {
        let never_a_head = E::TRACES && self.ever.load(Ordering::Relaxed) & PG_HEAD == 0;
        if never_a_head && only_heads_lock() && !std::thread::panicking() {
            violation(format!(
                "the compound lock of frame {} was taken, which never was a head",
                self.name.frame
            ));
        }
    }
}

impl<E: Engine> AtomicWord for CheckWord<E> {
    fn load(&self, order: Ordering) -> u64 {
        let order = Weaken::load(&self.name, order);
        let Some(word) = self.scheduled() else { return self.found(self.newest.load(order)) };
        Self::fence_if(order);
        let value = E::load(word, order);
        if E::TRACES {
            let now = self.newest.load(Ordering::Relaxed);
            let operation = if now == value { Operation::Load } else { Operation::LoadOld };
            trace::step(self.name, operation, value, value);
        }
        value
    }

    #[track_caller]
    fn store(&self, value: u64, order: Ordering) {
        let order = Weaken::store(&self.name, order);
        let Some(word) = self.scheduled() else {
            self.newest.store(value, order);
            self.ever.fetch_or(value, Ordering::Relaxed);
            return;
        };
        if self.is_flags() {
            // The checker does not order a plain store after a read-modify-write of another thread
            // that came first, and would let this one read what it has overwritten. The flags are
            // where both meet.
            E::swap(word, value, order);
        } else {
            E::store(word, value, order);
        }
        if !E::TRACES {
            return;
        }
        let before = self.newest.load(Ordering::Relaxed);
        self.written(value);
        // A plain store that puts back a lock bit which is gone by now leaves it stuck: a race of
        // its own. Where that is not what is looked for it is mended, so that the race in which the
        // bit is lost is seen alone.
        let puts_back = value & !before & COMPOUND_LOCK;
        if puts_back != 0 && self.is_flags() && mends_stuck_lock() {
            E::fetch_and(word, !puts_back, Ordering::Relaxed);
            self.written(value & !puts_back);
        }
        trace::step(self.name, Operation::Store, before, value);
        lock_wait::unlocked(self.name, value);
    }

    #[track_caller]
    fn compare_exchange(&self, current: u64, new: u64, ok: Ordering, err: Ordering) -> Result<u64, u64> {
        let ok = Weaken::change(&self.name, ok);
        let new = safeguards::replaces(&self.name, current, new);
        if std::thread::panicking() {
            // No other thread runs any more that could give back what is waited for.
            self.newest.store(new, Ordering::Relaxed);
            return Ok(current);
        }
        let Some(word) = self.scheduled() else {
            let result = self.newest.compare_exchange(current, new, ok, err);
            if E::TRACES && result.is_ok() {
                self.ever.fetch_or(new, Ordering::Relaxed);
            }
            return result;
        };
        let result = E::compare_exchange(word, current, new, ok, err);
        if result.is_ok() {
            Self::fence_if(ok);
        }
        if E::TRACES {
            match result {
                Ok(_) => {
                    self.written(new);
                    trace::step(self.name, Operation::Cas, current, new);
                }
                Err(found) => trace::step(self.name, Operation::CasFails, found, found),
            }
        }
        result
    }

    #[track_caller]
    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        let after = |before: u64| before.wrapping_add(value);
        self.apply(
            Operation::Add,
            order,
            |word| E::fetch_add(word, value, order),
            |word| word.fetch_add(value, order),
            after,
        )
    }

    #[track_caller]
    fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        let order = Weaken::drop(&self.name, order);
        let after = |before: u64| before.wrapping_sub(value);
        self.apply(
            Operation::Sub,
            order,
            |word| E::fetch_sub(word, value, order),
            |word| word.fetch_sub(value, order),
            after,
        )
    }

    #[track_caller]
    fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        let order = Weaken::bits(&self.name, order);
        let after = |before: u64| before & value;
        let before = self.apply(
            Operation::And,
            order,
            |word| E::fetch_and(word, value, order),
            |word| word.fetch_and(value, order),
            after,
        );
        let unlocks = self.is_flags() && value & COMPOUND_LOCK == 0 && !std::thread::panicking();
        if unlocks && before & COMPOUND_LOCK == 0 && watches_lock() {
            violation(format!("the compound lock of frame {} was lost while it was held", self.name.frame));
        }
        before
    }

    #[track_caller]
    fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        let order = Weaken::bits(&self.name, order);
        let after = |before: u64| before | value;
        let locks = self.is_flags() && value & COMPOUND_LOCK != 0;
        let before = self.apply(
            Operation::Or,
            order,
            |word| E::fetch_or(word, value, order),
            |word| word.fetch_or(value, order),
            after,
        );
        if locks {
            self.check_locked();
        }
        before
    }

    fn fence(order: Ordering) {
        if SCHEDULED.get() && !std::thread::panicking() {
            E::fence(order);
        }
    }

    fn relax() {
        lock_wait::relax::<E>();
    }
}
