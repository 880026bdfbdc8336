//! Which slot of an arena a thread uses: one of its own, or one that it shares.
//!
//! Arenas keep in slots what threads write often: pages left of the budget, the pages and blocks
//! that were freed last, a page that copies share. The first threads of a process have a slot each,
//! by a number that no other living thread has, the same in all arenas. What is in such a slot only
//! one thread at a time writes, and neither it nor the thread that has the number next asks the
//! system which processor it is on. Threads beyond these share the other slots, by processor.
//!
//! What a slot has is not lost when its thread ends: the next thread with the number finds it, and
//! a thread that is short of memory looks into all slots.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::available_parallelism;

use crate::memory::system::{call_in_children, current_cpu};

/// Most threads that have a slot of their own.
const MOST_OWN: usize = 256;
/// Threads with a slot of their own for each processor, as some wait while others run.
const OWN_EACH: usize = 2;

/// Slots that are one thread's each; a power of two, zero as long as no thread has asked.
static OWN: AtomicUsize = AtomicUsize::new(0);
/// Changes with each fork, so that a process tells its own threads from those that it was forked
/// beside: never 0.
static PROCESS: AtomicU64 = AtomicU64::new(1);
/// A bit for each number that a thread has.
static TAKEN: [AtomicU64; MOST_OWN / 64] = [const { AtomicU64::new(0) }; MOST_OWN / 64];

/// The thread has not asked yet.
const UNKNOWN: usize = usize::MAX;
/// The thread shares slots.
const SHARES: usize = usize::MAX - 1;

thread_local! {
    /// The number of this thread. It has no destructor, so it is there to the thread's very end.
    static NUMBER: Cell<usize> = const { Cell::new(UNKNOWN) };
    /// Gives the number back at the end of the thread.
    static TURN: Turn = const { Turn };
}

struct Turn;

impl Drop for Turn {
    fn drop(&mut self) {
        // What the thread still does shares slots.
        let number = NUMBER.replace(SHARES);
        if number < MOST_OWN {
            // Release: pairs with the Acquire in `claim`. The next thread with the number sees what
            // this one left in its slots.
            TAKEN[number / 64].fetch_and(!(1 << (number % 64)), Ordering::Release);
        }
    }
}

/// A slot of an arena, on behalf of the thread that asked for it: it goes to no other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThreadSlot {
    index: usize,
    own: bool,
    _of_the_thread: PhantomData<*const ()>,
}

impl ThreadSlot {
    /// That of this thread.
    #[inline]
    pub(crate) fn current() -> Self {
        let number = NUMBER.get();
        if number < MOST_OWN { Self::own(number) } else { Self::first_or_shared(number) }
    }

    /// That of this thread, if it is known to have one of its own: not at the first time of asking.
    #[inline(always)]
    pub(crate) fn known_own() -> Option<Self> {
        let number = NUMBER.get();
        (number < MOST_OWN).then(|| Self::own(number))
    }

    #[inline]
    fn own(index: usize) -> Self {
        Self { index, own: true, _of_the_thread: PhantomData }
    }

    #[cold]
    #[inline(never)]
    fn first_or_shared(seen: usize) -> Self {
        // Where the thread's destructors have begun it shares, as no number would be given back.
        if seen == UNKNOWN
            && TURN.try_with(|_| ()).is_ok()
            && let Some(number) = claim()
        {
            NUMBER.set(number);
            return Self::own(number);
        }
        NUMBER.set(SHARES);
        let own = own_slots();
        let index = own.saturating_add(current_cpu() & own.saturating_sub(1));
        Self { index, own: false, _of_the_thread: PhantomData }
    }

    /// As if the thread shared this slot, or had it to itself.
    #[cfg(test)]
    pub(crate) fn of_test(index: usize, own: bool) -> Self {
        Self { index, own, _of_the_thread: PhantomData }
    }

    /// The number of the slot, below [`slots`].
    #[inline]
    pub(crate) fn index(self) -> usize {
        self.index
    }

    /// The number of the slot, below [`own_slots`], if no other thread has it.
    #[inline]
    pub(crate) fn own_index(self) -> Option<usize> {
        self.own.then_some(self.index)
    }
}

/// The lowest number that no thread has.
fn claim() -> Option<usize> {
    let own = own_slots();
    for (first, word) in (0..own).step_by(64).zip(&TAKEN) {
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            let number = seen.trailing_ones() as usize;
            if number == 64 || first.saturating_add(number) >= own {
                break;
            }
            // Acquire: pairs with the Release of the thread that had the number before.
            match word.compare_exchange(seen, seen | 1 << number, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(first.saturating_add(number)),
                Err(now) => seen = now,
            }
        }
    }
    None
}

/// How many slots of an arena are one thread's each.
pub(crate) fn own_slots() -> usize {
    // Relaxed: a number, the same whichever thread has found it.
    match OWN.load(Ordering::Relaxed) {
        0 => {
            let processors = available_parallelism().map_or(1, usize::from).next_power_of_two();
            let own = processors.saturating_mul(OWN_EACH).min(MOST_OWN);
            watch_forks();
            // The first answer stands: the system may give another one later.
            OWN.compare_exchange(0, own, Ordering::Relaxed, Ordering::Relaxed).map_or_else(|own| own, |_| own)
        }
        own => own,
    }
}

/// Has the arenas that this process builds from now on laid out for so many processors, whatever
/// the system says: to count on a small machine what a large one would do. At most 128 are told
/// apart.
///
/// # Safety
/// No arena that was built before is used any more: its slots would not be one thread's each.
#[doc(hidden)]
pub unsafe fn lay_out_for(processors: usize) {
    watch_forks();
    let own = processors.max(1).next_power_of_two().saturating_mul(OWN_EACH).min(MOST_OWN);
    OWN.store(own, Ordering::Relaxed);
}

/// Has a forked child know that it is one.
fn watch_forks() {
    extern "C" fn in_child() {
        // Relaxed: the child has this one thread.
        PROCESS.fetch_add(1, Ordering::Relaxed);
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: it changes one word.
        unsafe { call_in_children(in_child) };
    });
}

/// The process, told from those that it was forked from; never 0.
#[inline]
pub(crate) fn process() -> u64 {
    PROCESS.load(Ordering::Relaxed)
}

/// How many of a thing an arena has of which there is one for each processor; a power of two.
pub(crate) fn processors() -> usize {
    own_slots() / OWN_EACH
}

/// How many slots an arena has: those that are one thread's each, and as many that are shared.
pub(crate) fn slots() -> usize {
    own_slots().saturating_mul(2)
}

/// The number of this thread's slot, as the allocator asks for it.
pub(crate) fn current_index() -> usize {
    ThreadSlot::current().index()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn no_two_threads_have_one_number_and_numbers_come_back() {
        let many = own_slots() * 3;
        for _ in 0..3 {
            let (meet, part) = (Barrier::new(many), Barrier::new(many));
            let found: Vec<(usize, Option<usize>)> = thread::scope(|scope| {
                let ask = || {
                    let first = ThreadSlot::current();
                    meet.wait();
                    let again = ThreadSlot::current();
                    assert_eq!(first.own_index(), again.own_index());
                    part.wait();
                    (again.index(), again.own_index())
                };
                let threads: Vec<_> = (0..many).map(|_| scope.spawn(ask)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let mut own: Vec<usize> = found.iter().filter_map(|(_, own)| *own).collect();
            let n = own.len();
            own.sort_unstable();
            own.dedup();
            assert_eq!(own.len(), n, "a number is one thread's");
            assert!(own.iter().all(|number| *number < own_slots()));
            let shared = own_slots()..slots();
            assert!(found.iter().all(|(index, own)| own.is_some() || shared.contains(index)));
        }
        // Other tests have threads too, but numbers that never came back would be gone by now.
        let claimed = TAKEN.iter().map(|word| word.load(Ordering::Relaxed).count_ones() as usize);
        assert!(claimed.sum::<usize>() <= own_slots());
    }

    #[test]
    fn a_destructor_that_runs_late_shares_slots() {
        struct Late;
        impl Drop for Late {
            fn drop(&mut self) {
                assert!(ThreadSlot::current().index() < slots());
            }
        }
        thread_local!(static LATE: Late = const { Late });
        for turn in [false, true] {
            // Before the number's own destructor is registered, and after.
            let run = move || {
                if turn {
                    LATE.with(|_| ());
                }
                ThreadSlot::current();
                LATE.with(|_| ());
            };
            assert!(thread::spawn(run).join().is_ok());
        }
    }
}
