//! Slots whose one thread counts by plain steps, until another thread has to change them.
//!
//! A compare-and-swap costs its owner more than all else that a count takes, and what is read for
//! the next step waits for it. As long as a slot is written by the thread alone that owns it, a
//! load and a store do. Others need it seldom: when the limit is reached, and when the arena's last
//! handle goes. The first that does ends the plain steps of all owners for good, by a barrier in
//! which it has all threads of the process take part (`membarrier`); from then on everyone changes
//! the word by compare-and-swap. So a budget whose limit was never reached is counted without a
//! locked instruction, and one whose limit was is counted as exactly as ever.

use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};
use std::thread;

use tailpin::AtomicWord;

use crate::memory::system;
use crate::thread_slot;

/// A word, and the two halves of a barrier that is cheap on one side.
pub(crate) trait BiasedWord: AtomicWord {
    /// Whether there is such a barrier.
    fn has_barrier() -> bool;
    /// The owner's half: between its steps before and after it stands a full barrier, as seen by a
    /// thread that has called [`BiasedWord::heavy`].
    fn light();
    /// The half of the others.
    fn heavy();
    /// Lets other threads run, once per turn of a loop that waits for one.
    fn pause();
}

impl BiasedWord for AtomicU64 {
    fn has_barrier() -> bool {
        system::has_process_barrier()
    }

    #[inline(always)]
    fn light() {
        // What the compiler may not exchange the processor must not either, as far as it can be
        // told: it passes a barrier whenever `heavy` asks for one.
        compiler_fence(Ordering::SeqCst);
    }

    fn heavy() {
        system::process_barrier();
    }

    fn pause() {
        thread::yield_now();
    }
}

/// Owners take plain steps.
const PLAIN: u64 = 0;
/// They begin none any more.
const ENDING: u64 = 1;
/// All have ended.
const ENDED: u64 = 2;

/// Whether owners of slots take plain steps.
pub(crate) struct Bias<W>(W);

/// Says of a slot that its owner is in the middle of a plain step: the [process]
/// (thread_slot::process) that it is in, else 0. Written by the owner alone.
pub(crate) struct Stepping<W>(W);

impl<W: AtomicWord> Stepping<W> {
    pub(crate) fn new(word: impl Fn(u64) -> W) -> Self {
        Self(word(0))
    }
}

impl<W: BiasedWord> Bias<W> {
    /// Owners take no plain steps.
    pub(crate) fn new(word: impl Fn(u64) -> W) -> Self {
        Self(word(ENDED))
    }

    /// Owners take plain steps, if there is the barrier to end that. Before any thread counts.
    pub(crate) fn begin(&mut self) {
        if W::has_barrier() {
            // Relaxed: no other thread has a way to it.
            self.0.store(PLAIN, Ordering::Relaxed);
        }
    }

    /// A plain step of the owner's on `word`: to what `next` says. False if it is not taken, as
    /// `next` says nothing, or because the word is to be changed by compare-and-swap.
    ///
    /// Once the word is written nothing but the slot is touched, and what ends the plain steps
    /// waits for that.
    #[inline(always)]
    pub(crate) fn step(
        &self,
        stepping: &Stepping<W>,
        word: &W,
        next: impl FnOnce(u64) -> Option<u64>,
    ) -> bool {
        // Relaxed, and a barrier that pairs with the one in `end`: either the thread there sees
        // that a step is being taken, or this thread sees that none may be.
        stepping.0.store(thread_slot::process(), Ordering::Relaxed);
        W::light();
        let mut taken = false;
        if self.0.load(Ordering::Relaxed) == PLAIN
            && let Some(next) = next(word.load(Ordering::Relaxed))
        {
            // Release: what this thread has done with the arena is before what a thread does that
            // has read this and takes the arena down.
            word.store(next, Ordering::Release);
            taken = true;
        }
        // Release: pairs with the Acquire in `end`.
        stepping.0.store(0, Ordering::Release);
        taken
    }

    /// Ends the plain steps of all owners. After it any thread may change the slots' words, and all
    /// do it by compare-and-swap.
    #[inline]
    pub(crate) fn end<'s>(&self, slots: impl Iterator<Item = &'s Stepping<W>>)
    where
        W: 's,
    {
        // Acquire: pairs with the Release below.
        if self.0.load(Ordering::Acquire) != ENDED {
            self.end_now(slots);
        }
    }

    #[cold]
    #[inline(never)]
    fn end_now<'s>(&self, slots: impl Iterator<Item = &'s Stepping<W>>)
    where
        W: 's,
    {
        // Relaxed: the barrier pairs with the one in `step`. If another thread is at it, this one
        // does the same beside it.
        let _ = self.0.compare_exchange(PLAIN, ENDING, Ordering::Relaxed, Ordering::Relaxed);
        W::heavy();
        for Stepping(process) in slots {
            // Acquire: pairs with the Release in `step`. A thread that stayed behind in the parent
            // of a forked process will never end its step here; its word is as before or after it.
            while process.load(Ordering::Acquire) == thread_slot::process() {
                W::pause();
            }
        }
        // Release: pairs with the Acquire in `end`.
        self.0.store(ENDED, Ordering::Release);
    }
}
