//! How many pages of a budget are left: some at each CPU slot, the others at the centre.
//!
//! A thread takes from its CPU's slot and gives back there, so in the common case it writes no word
//! that threads on other CPUs write. A slot that has too little or too much trades a batch with the
//! centre. What the slots have is free all the same: a request that the centre can't serve gathers
//! it.
//!
//! ```text
//!  63 ........ 2   1        0
//! | pages left  | closed | waiting |
//! ```
//!
//! The flags stand in the words themselves, so a thread that gives pages back and a thread that
//! begins to wait settle by the order of their steps on that one word which of them sees the other:
//! either the pages are there when the slot is gathered, or the flag is there when they are given
//! back.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::budget::bias::{Bias, BiasedWord, Stepping};
use crate::thread_slot::{self, ThreadSlot};

/// Requests are queued: pages go to the centre, and the queue is looked at.
const WAITING: u64 = 1;
/// The arena's handles are gone: pages go to the centre, which counts when the last is back.
const CLOSED: u64 = 2;
const FLAGS: u64 = WAITING | CLOSED;
const SHIFT: u32 = 2;

/// Pages of a budget that has no limit: more than any arena has.
pub(crate) const UNLIMITED: u64 = 1 << 60;

/// A slot keeps at most this many pages for its next takers when it trades with the centre.
const BATCH: u64 = 512;
/// All slots together keep at most this fraction of the limit.
const SLOTS_SHARE: u64 = 32;

/// Pages by which more are freed than taken at a slot between two looks at what a release would
/// give back. Slots are four times as many as processors: half a MiB for each of these in all.
const LOOK: u64 = 32;

/// Below zero at the centre alone, where a limit was lowered under what is in use.
fn pages_of(word: u64) -> i64 {
    word as i64 >> SHIFT
}

fn word_of(pages: u64) -> u64 {
    pages.wrapping_shl(SHIFT)
}

/// A word on a cache line of its own (two, as processors fetch neighbours).
#[repr(align(128))]
struct Line<W>(W);

/// What threads on one CPU write.
#[repr(align(128))]
struct Slot<W> {
    /// Pages left here. Written by the owner of the slot by plain steps as long as `bias` says so.
    left: W,
    stepping: Stepping<W>,
    /// Pages freed and not taken since the last look at what a release would give back.
    freed: AtomicU64,
}

impl<W> Slot<W> {
    /// Pages that were taken here are free no more. In two steps, as in [`Counts::counts_freed`].
    #[inline]
    fn note_taken(&self, n: u64) {
        let freed = self.freed.load(Ordering::Relaxed);
        if freed > 0 {
            self.freed.store(freed.saturating_sub(n), Ordering::Relaxed);
        }
    }
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The pages are the caller's.
    Yes,
    /// They are; and pages were left at a slot whose flag says that requests are queued.
    AndSettle,
    /// Too few are left, or other requests are queued.
    No,
}

/// The pages left of a budget.
///
/// # Invariants
/// Pages at the centre, at the slots, in use, reserved, and in the hands of a thread inside one of
/// these functions are `limit + 1` together. The one beyond the limit belongs to the arena's
/// handles and comes back by [`Counts::close`].
pub(crate) struct Counts<W = AtomicU64> {
    centre: Line<W>,
    bias: Bias<W>,
    /// A power of two of them, or none.
    slots: Box<[Slot<W>]>,
    /// Pages that a slot has at most: two batches, that is twice what it trades at a time; follows
    /// from the limit. Written as that is.
    most: AtomicU64,
    /// Written under the queue's lock, by a thread that has a handle.
    limit: AtomicU64,
}

/// Pages that a slot trades at a time: it has up to two batches.
fn batch(limit: u64, slots: usize) -> u64 {
    (limit / SLOTS_SHARE / (slots as u64).max(1) / 2).min(BATCH)
}

impl Counts {
    /// `limit` pages, counted by plain steps at slots that are one thread's, as long as no other
    /// thread needs what they have. With fewer slots than threads have numbers for, two owners
    /// would take plain steps on one word: so how many there are is not the caller's to say.
    pub(crate) fn at_thread_slots(limit: u64) -> Self {
        let mut counts = Self::new(limit, thread_slot::slots(), AtomicU64::new);
        counts.bias.begin();
        counts
    }
}

impl<W: BiasedWord> Counts<W> {
    /// `limit` pages; `slots` is rounded up to a power of two, 0 for none.
    pub(crate) fn new(limit: u64, slots: usize, word: impl Fn(u64) -> W) -> Self {
        let slots = if slots == 0 { 0 } else { slots.next_power_of_two() };
        Self {
            centre: Line(word(word_of(limit))),
            slots: (0..slots)
                .map(|_| Slot { left: word(0), stepping: Stepping::new(&word), freed: AtomicU64::new(0) })
                .collect(),
            bias: Bias::new(&word),
            most: AtomicU64::new(2 * batch(limit, slots)),
            limit: AtomicU64::new(limit),
        }
    }

    /// As [`Counts::at_thread_slots`], of words for a model that has fewer threads.
    #[cfg(test)]
    pub(crate) fn with_plain_steps(mut self) -> Self {
        self.bias.begin();
        self
    }

    /// Slots that keep at most two batches of this many pages, whatever the limit.
    #[cfg(test)]
    pub(crate) fn with_batch(self, batch: u64) -> Self {
        Self { most: AtomicU64::new(2 * batch), ..self }
    }

    #[inline]
    fn slot(&self, at: ThreadSlot) -> Option<&Slot<W>> {
        // Mostly there are as many as the number says.
        let shared = || self.slots.get(at.index() & self.slots.len().wrapping_sub(1));
        self.slots.get(at.index()).or_else(shared)
    }

    /// A plain step of this thread's on the pages left at its slot, if the slot is its own.
    #[inline(always)]
    fn step(&self, at: ThreadSlot, slot: &Slot<W>, next: impl FnOnce(u64) -> Option<u64>) -> bool {
        at.own_index().is_some() && self.bias.step(&slot.stepping, &slot.left, next)
    }

    /// Slots.
    #[cfg(test)]
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// From here on all threads may change what is left at the slots.
    fn end_bias(&self) {
        self.bias.end(self.slots.iter().map(|slot| &slot.stepping));
    }

    /// Pages that may be in use at a time.
    pub(crate) fn limit(&self) -> u64 {
        // Relaxed: a number that is right at some moment.
        self.limit.load(Ordering::Relaxed)
    }

    /// Pages that a slot trades at a time.
    fn batch(&self) -> u64 {
        self.most() as u64 / 2
    }

    /// Pages that a slot has at most, of those that are given back there.
    #[inline]
    fn most(&self) -> i64 {
        // Relaxed: any number would do.
        self.most.load(Ordering::Relaxed) as i64
    }

    /// All pages, and the one of the handles.
    fn whole(&self) -> i64 {
        self.limit().saturating_add(1) as i64
    }

    /// Pages in use or reserved. A snapshot: what moves between slots while it is taken counts
    /// twice or not at all.
    pub(crate) fn used(&self) -> u64 {
        // Relaxed, all of them: no pages are taken on the strength of this.
        let at_slots: i64 = self.slots.iter().map(|slot| pages_of(slot.left.load(Ordering::Relaxed))).sum();
        self.used_beside(at_slots)
    }

    /// Pages that are not at the centre: in use, reserved, or at a slot.
    pub(crate) fn away(&self) -> u64 {
        self.used_beside(0)
    }

    fn used_beside(&self, at_slots: i64) -> u64 {
        let left = pages_of(self.centre.0.load(Ordering::Relaxed)).saturating_add(at_slots);
        (self.limit() as i64).saturating_sub(left).max(0) as u64
    }

    /// Takes `n` pages, unless too few are left or other requests were there first.
    #[inline(always)] // It is a few steps in most cases.
    pub(crate) fn take(&self, at: ThreadSlot, n: u64) -> Taken {
        let Some(slot) = self.slot(at) else { return self.take_at_centre(None, n) };
        if self.take_in_step(at, slot, n) {
            return Taken::Yes;
        }
        slot.note_taken(n);
        self.take_by_swap(slot, n)
    }

    /// Takes `n` pages if that is one plain step of this thread's; else nothing is done.
    #[inline(always)]
    pub(crate) fn take_plainly(&self, at: ThreadSlot, n: u64) -> bool {
        self.slot(at).is_some_and(|slot| self.take_in_step(at, slot, n))
    }

    #[inline(always)]
    fn take_in_step(&self, at: ThreadSlot, slot: &Slot<W>, n: u64) -> bool {
        // As long as there are plain steps, no flag is up.
        let less = |seen| (pages_of(seen) >= n as i64).then(|| seen.wrapping_sub(word_of(n)));
        let taken = self.step(at, slot, less);
        if taken {
            slot.note_taken(n);
        }
        taken
    }

    #[inline(never)]
    fn take_by_swap(&self, slot: &Slot<W>, n: u64) -> Taken {
        let word = &slot.left;
        // Relaxed: the compare-and-swap decides.
        let mut seen = word.load(Ordering::Relaxed);
        while seen & FLAGS == 0 && pages_of(seen) >= n as i64 {
            // Relaxed: what is done to the memory of these pages is ordered by the allocator they
            // come from.
            let next = seen.wrapping_sub(word_of(n));
            match word.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Taken::Yes,
                Err(now) => seen = now,
            }
        }
        self.take_at_centre(Some(slot), n)
    }

    #[inline(never)]
    fn take_at_centre(&self, slot: Option<&Slot<W>>, n: u64) -> Taken {
        for extra in [self.batch(), 0] {
            if let Some((slot, extra)) = slot.map(|slot| (slot, extra)).filter(|(_, extra)| *extra > 0) {
                match self.take_of_centre(n.saturating_add(extra)) {
                    Some(true) => {}
                    Some(false) => continue,
                    None => return Taken::No,
                }
                // Relaxed: a request that has begun to wait since is seen by its flag in this very
                // word; one that begins later finds the pages there.
                let before = slot.left.fetch_add(word_of(extra), Ordering::Relaxed);
                return if before & WAITING == 0 { Taken::Yes } else { Taken::AndSettle };
            }
            match self.take_of_centre(n) {
                Some(true) => return Taken::Yes,
                Some(false) => self.gather(),
                None => return Taken::No,
            }
        }
        match self.take_of_centre(n) {
            Some(true) => Taken::Yes,
            Some(false) | None => Taken::No,
        }
    }

    /// Whether the centre had `n` pages; `None` if requests are queued.
    fn take_of_centre(&self, n: u64) -> Option<bool> {
        // Relaxed, as in `take`.
        let mut seen = self.centre.0.load(Ordering::Relaxed);
        loop {
            if seen & WAITING != 0 {
                return None;
            }
            if pages_of(seen) < n as i64 {
                return Some(false);
            }
            let next = seen.wrapping_sub(word_of(n));
            match self.centre.0.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(true),
                Err(now) => seen = now,
            }
        }
    }

    /// Counts `n` pages that were freed at this slot; true after every [`LOOK`] or so that were not
    /// taken here again.
    #[inline]
    pub(crate) fn counts_freed(&self, at: ThreadSlot, n: u64) -> bool {
        let Some(Slot { freed, .. }) = self.slot(at) else { return true };
        // Relaxed, and in two steps: where threads share the slot another one may get in between,
        // and some pages are not counted then.
        let sum = freed.load(Ordering::Relaxed).wrapping_add(n);
        freed.store(if sum >= LOOK { 0 } else { sum }, Ordering::Relaxed);
        sum >= LOOK
    }

    /// Gives `n` pages back to the CPU's slot, if that is all there is to do. If so the caller, who
    /// may have had no other keepalive than these pages, must not use the arena any more.
    #[inline]
    pub(crate) fn put(&self, at: ThreadSlot, n: u64) -> bool {
        let Some(slot) = self.slot(at) else { return false };
        self.put_in_step(at, slot, n) || self.put_by_swap(slot, n, self.most())
    }

    /// Gives `n` pages back if that is one plain step of this thread's; else nothing is done.
    /// Otherwise as [`Counts::put`].
    #[inline(always)]
    pub(crate) fn put_plainly(&self, at: ThreadSlot, n: u64) -> bool {
        self.slot(at).is_some_and(|slot| self.put_in_step(at, slot, n))
    }

    #[inline(always)]
    fn put_in_step(&self, at: ThreadSlot, slot: &Slot<W>, n: u64) -> bool {
        let most = self.most();
        let more = |seen| {
            // Both are far below 2^62.
            let fits = pages_of(seen).wrapping_add(n as i64) <= most;
            fits.then(|| seen.wrapping_add(word_of(n)))
        };
        self.step(at, slot, more)
    }

    #[inline(never)]
    fn put_by_swap(&self, slot: &Slot<W>, n: u64, most: i64) -> bool {
        let word = &slot.left;
        // Acquire: pairs with the Release in `begin_waiting`. A thread that sees the flag here sees
        // it at the centre too.
        let mut seen = word.load(Ordering::Acquire);
        while seen & FLAGS == 0 && pages_of(seen).saturating_add(n as i64) <= most {
            // Release: all use of the arena is before its end; pairs with the Acquire in `close`.
            let next = seen.wrapping_add(word_of(n));
            match word.compare_exchange(seen, next, Ordering::Release, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Gives `n` pages back to the centre, and what the CPU's slot has in excess. True if requests
    /// are queued, and the queue is to be looked at. The caller has another keepalive.
    pub(crate) fn put_at_centre(&self, at: ThreadSlot, n: u64) -> bool {
        let mut excess = 0;
        if let Some(Slot { left: word, .. }) = self.slot(at) {
            let seen = word.load(Ordering::Relaxed);
            let over = pages_of(seen).saturating_sub(self.batch() as i64);
            let less = seen.wrapping_sub(word_of(over.max(0) as u64));
            // Not tried again: another thread has just traded here.
            if over > 0 && word.compare_exchange(seen, less, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                excess = over as u64;
            }
        }
        // AcqRel: as in `put_last`. A request that waits is seen by its flag; one that begins to
        // wait later finds the pages there.
        let more = word_of(n.saturating_add(excess));
        self.centre.0.fetch_add(more, Ordering::AcqRel) & WAITING != 0
    }

    /// Gives `n` pages back where no handle of the arena is left. True for the thread that has to
    /// take the arena down.
    pub(crate) fn put_last(&self, at: ThreadSlot, n: u64) -> bool {
        if let Some(Slot { left: word, .. }) = self.slot(at) {
            // Acquire: pairs with the Release in `close`, so that the centre has what was gathered
            // there, or will have, but for the handles' own.
            let mut seen = word.load(Ordering::Acquire);
            while seen & CLOSED == 0 {
                let next = seen.wrapping_add(word_of(n));
                // Release: pairs with the Acquire in `close`.
                match word.compare_exchange(seen, next, Ordering::Release, Ordering::Acquire) {
                    Ok(_) => return false,
                    Err(now) => seen = now,
                }
            }
        }
        // Before the step after which the arena may be gone. It can't change: that takes a handle.
        let whole = self.whole();
        // AcqRel: all that threads did with the arena before they gave back their last pages is
        // before what the thread does that gives back the last of all.
        let before = self.centre.0.fetch_add(word_of(n), Ordering::AcqRel);
        pages_of(before).saturating_add(n as i64) == whole
    }

    /// The arena's handles are gone. True if this thread has to take the arena down.
    pub(crate) fn close(&self) -> bool {
        self.end_bias();
        let mut gathered = 1; // the handles' own
        for slot in &*self.slots {
            let mut seen = slot.left.load(Ordering::Relaxed);
            // AcqRel: pairs with the Release in `put`, and the Acquire in `put_last`.
            while let Err(now) = slot.left.compare_exchange(seen, CLOSED, Ordering::AcqRel, Ordering::Relaxed)
            {
                seen = now;
            }
            gathered += pages_of(seen);
        }
        let whole = self.whole();
        // AcqRel: as in `put_last`.
        let before = self.centre.0.fetch_add(word_of(gathered as u64), Ordering::AcqRel);
        pages_of(before).saturating_add(gathered) == whole
    }

    /// Brings what the slots have to the centre.
    pub(crate) fn gather(&self) {
        self.end_bias();
        let mut gathered = 0;
        for slot in &*self.slots {
            let mut seen = slot.left.load(Ordering::Relaxed);
            while pages_of(seen) != 0 {
                // Relaxed: pages are a number here, see `take`.
                match slot.left.compare_exchange(seen, seen & FLAGS, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => {
                        gathered += pages_of(seen);
                        break;
                    }
                    Err(now) => seen = now,
                }
            }
        }
        if gathered != 0 {
            self.centre.0.fetch_add(word_of(gathered as u64), Ordering::Relaxed);
        }
    }

    /// From here on pages that are given back are seen by requests that wait: they come to the
    /// centre, by a thread that then looks at the queue. Under the queue's lock.
    pub(crate) fn begin_waiting(&self) {
        self.end_bias();
        self.centre.0.fetch_or(WAITING, Ordering::Relaxed);
        for slot in &*self.slots {
            // Release: a thread that sees this flag sees the centre's; pairs with the Acquire in
            // `put`.
            slot.left.fetch_or(WAITING, Ordering::Release);
        }
    }

    /// Nothing waits any more. Under the queue's lock.
    pub(crate) fn end_waiting(&self) {
        for slot in &*self.slots {
            slot.left.fetch_and(!WAITING, Ordering::Relaxed);
        }
        self.centre.0.fetch_and(!WAITING, Ordering::Relaxed);
    }

    /// Takes `n` pages of the centre for a request that waits, if there are as many. Under the
    /// queue's lock, with the flag up: no other thread takes any.
    pub(crate) fn grant(&self, n: u64) -> bool {
        let enough = pages_of(self.centre.0.load(Ordering::Relaxed)) >= n as i64;
        if enough {
            self.centre.0.fetch_sub(word_of(n), Ordering::Relaxed);
        }
        enough
    }

    /// Changes the limit. Under the queue's lock, with the flag up.
    pub(crate) fn set_limit(&self, limit: u64) {
        self.most.store(2 * batch(limit, self.slots.len()), Ordering::Relaxed);
        let before = self.limit.swap(limit, Ordering::Relaxed);
        self.centre.0.fetch_add(word_of(limit.wrapping_sub(before)), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: usize) -> ThreadSlot {
        ThreadSlot::of_test(index, false)
    }

    /// A limit at which each of so many slots trades `batch` pages at a time.
    fn with_slots(slots: usize, batch: u64) -> Counts {
        Counts::new(2 * SLOTS_SHARE * slots as u64 * batch, slots, AtomicU64::new)
    }

    #[test]
    fn what_a_slot_trades_follows_from_the_limit_and_the_number_of_slots() {
        let of = [(640, 1, 10), (1792, 4, 7), (2047, 4, 7), (1792, 3, 7), (63, 1, 0), (640, 0, 0)];
        for (limit, slots, batch) in of.into_iter().chain([(UNLIMITED, 8, BATCH)]) {
            let counts = Counts::new(limit, slots, AtomicU64::new);
            assert_eq!(counts.take(at(0), 1), Taken::Yes);
            assert_eq!((counts.used(), counts.away()), (1, 1 + batch), "{limit} pages, {slots} slots");
        }
        let counts = with_slots(2, 10);
        counts.set_limit(2 * counts.limit());
        assert_eq!(counts.take(at(0), 1), Taken::Yes);
        assert_eq!((counts.used(), counts.away()), (1, 21));
        assert_eq!(
            [0, 1, 2, 3, 5].map(|slots| Counts::new(1, slots, AtomicU64::new).slots()),
            [0, 1, 2, 4, 8]
        );
    }

    #[test]
    fn no_two_owners_count_at_one_slot() {
        let counts = Counts::at_thread_slots(UNLIMITED);
        assert_eq!(counts.slots(), thread_slot::slots());
        let owner = |number| ThreadSlot::of_test(number, true);
        for number in 0..thread_slot::own_slots() {
            assert_eq!(counts.take(owner(number), 1), Taken::Yes);
            assert_eq!(counts.away(), (BATCH + 1) * (number as u64 + 1), "what each leaves is at its own");
        }
    }

    #[test]
    fn each_cpu_has_a_slot_and_those_beyond_share_them() {
        let counts = with_slots(4, 10);
        for cpu in 0..4 {
            assert_eq!(counts.take(at(cpu), 1), Taken::Yes);
            assert_eq!(counts.away(), 11 * (cpu as u64 + 1));
        }
        // These find what the others have left at their slots.
        for cpu in 4..12 {
            assert_eq!(counts.take(at(cpu), 1), Taken::Yes);
        }
        assert_eq!((counts.used(), counts.away()), (12, 44));
    }

    #[test]
    fn a_slot_keeps_two_batches_and_then_gives_one_up() {
        let counts = with_slots(1, 10);
        assert_eq!(counts.take(at(0), 40), Taken::Yes);
        assert!(counts.put(at(0), 10));
        assert_eq!((counts.used(), counts.away()), (30, 50));
        assert!(!counts.put(at(0), 1), "it has two batches");
        assert!(!counts.put_at_centre(at(0), 1), "no request waits");
        assert_eq!((counts.used(), counts.away()), (29, 39));
        assert_eq!(counts.take(at(0), 7), Taken::Yes);
        assert!(!counts.put_at_centre(at(0), 2));
        assert_eq!((counts.used(), counts.away()), (34, 37), "it has less than a batch, which stays");
        assert!(counts.put(at(0), 0));
    }

    #[test]
    fn a_request_that_the_centre_cannot_serve_gathers_what_the_slots_have() {
        let counts = with_slots(2, 10);
        assert_eq!(counts.take(at(0), 1), Taken::Yes);
        let left = counts.limit() - 1;
        assert_eq!(counts.take(at(1), left + 1), Taken::No);
        assert_eq!((counts.used(), counts.away()), (1, 1), "gathered, though it was not enough");
        assert_eq!(counts.take(at(0), 1), Taken::Yes);
        assert_eq!(counts.take(at(1), left - 1), Taken::Yes);
        assert_eq!((counts.used(), counts.away()), (counts.limit(), counts.limit()));
    }

    #[test]
    fn while_requests_wait_no_slot_gives_and_pages_go_to_the_centre() {
        let counts = with_slots(1, 10);
        assert_eq!(counts.take(at(0), 10), Taken::Yes);
        counts.begin_waiting();
        assert_eq!(counts.take(at(0), 1), Taken::No, "the slot has ten");
        assert!(!counts.put(at(0), 1));
        assert!(counts.put_at_centre(at(0), 1));
        counts.gather();
        assert_eq!(counts.slots[0].left.load(Ordering::Relaxed), WAITING, "its flag stays");
        assert_eq!((counts.used(), counts.away()), (9, 9));
        counts.end_waiting();
        assert_eq!(counts.take(at(0), 1), Taken::Yes);
        assert!(counts.put(at(0), 1));
    }

    #[test]
    fn pages_left_at_a_slot_that_has_been_flagged_since_are_told() {
        let counts = with_slots(1, 10);
        counts.slots[0].left.fetch_or(WAITING, Ordering::Relaxed);
        assert_eq!(counts.take(at(0), 1), Taken::AndSettle);
        assert_eq!((counts.used(), counts.away()), (1, 11));
    }

    #[test]
    fn a_look_at_what_a_release_would_give_back_is_due_after_so_many_pages_freed_at_a_slot() {
        let counts = with_slots(2, 10);
        for _ in 0..3 {
            assert!(!counts.counts_freed(at(0), LOOK - 1));
            assert!(!counts.counts_freed(at(1), 1), "another CPU's");
            assert!(counts.counts_freed(at(0), 1));
        }
        assert!(counts.counts_freed(at(0), 5 * LOOK));
        assert!(!counts.counts_freed(at(0), 1));
        assert!(
            Counts::new(640, 0, AtomicU64::new).counts_freed(at(0), 1),
            "where nothing is counted by CPU"
        );
    }
}
