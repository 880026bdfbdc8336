//! The budget under the model checker: its words and its lock are loom's, the code is what ships.
//!
//! A thread that waits for a wake-up that is lost leaves the model in a deadlock, which loom
//! reports: so each of these scenarios shows that every wait in it ends. Two of them are explored
//! with a flag left out as well, and do not end then.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Wake, Waker};

use crate::loom_word::Word;
use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::Mutex;
use loom::sync::atomic::AtomicU64;
use loom::thread::{self, Thread};
use tailpin::AtomicWord;

use super::bias::BiasedWord;
use super::counts::Counts;
use super::queue::{Queue, QueueLock};
use super::{Budget, Refused};
use crate::thread_slot::ThreadSlot;

/// A word in which the flag of requests that wait may be left out, and the barrier between the
/// plain steps of an owner and those of others.
struct FlagWord<const BARRIER: bool = true> {
    word: Word,
    /// Whether flags are raised in it.
    takes_flags: bool,
}

impl<const BARRIER: bool> AtomicWord for FlagWord<BARRIER> {
    fn load(&self, order: Ordering) -> u64 {
        self.word.load(order)
    }
    fn store(&self, value: u64, order: Ordering) {
        self.word.store(value, order);
    }
    fn compare_exchange(&self, current: u64, new: u64, ok: Ordering, err: Ordering) -> Result<u64, u64> {
        self.word.compare_exchange(current, new, ok, err)
    }
    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.word.fetch_add(value, order)
    }
    fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        self.word.fetch_sub(value, order)
    }
    fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        self.word.fetch_and(value, order)
    }
    fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        if self.takes_flags { self.word.fetch_or(value, order) } else { self.word.load(Ordering::Relaxed) }
    }
    fn fence(order: Ordering) {
        Word::fence(order);
    }
    fn relax() {
        Word::relax();
    }
}

/// A fence on either side has the effect of the barrier, which the model checker doesn't know.
impl<const BARRIER: bool> BiasedWord for FlagWord<BARRIER> {
    fn has_barrier() -> bool {
        true
    }
    fn light() {
        if BARRIER {
            Word::fence(Ordering::SeqCst);
        }
    }
    fn heavy() {
        Self::light();
    }
    fn pause() {
        Word::relax();
    }
}

#[derive(Default)]
struct Lock(Mutex<Queue>);

impl QueueLock for Lock {
    fn with<T>(&self, body: impl FnOnce(&mut Queue) -> T) -> T {
        body(&mut self.0.lock().unwrap())
    }
}

type Checked<const BARRIER: bool = true> = Budget<FlagWord<BARRIER>, Lock>;

/// A slot that threads share.
fn at(index: usize) -> ThreadSlot {
    ThreadSlot::of_test(index, false)
}

/// A slot that is the thread's own, counted by plain steps as long as no other thread needs it.
fn own(index: usize) -> ThreadSlot {
    ThreadSlot::of_test(index, true)
}

fn budget(limit: u64, slots: usize, batch: u64) -> Arc<Checked> {
    Arc::new(Budget::of(counts_with_flags_in(limit, slots, batch, Words::All), None))
}

/// A budget that is counted by plain steps at slots that are one thread's.
fn budget_with_plain_steps<const BARRIER: bool>(
    limit: u64,
    slots: usize,
    batch: u64,
) -> Arc<Checked<BARRIER>> {
    let counts = counts_with_flags_in(limit, slots, batch, Words::All);
    Arc::new(Budget::of(counts.with_plain_steps(), None))
}

/// Which words say that requests wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Words {
    All,
    Centre,
    Slots,
}

fn counts_with_flags_in<const BARRIER: bool>(
    limit: u64,
    slots: usize,
    batch: u64,
    flagged: Words,
) -> Counts<FlagWord<BARRIER>> {
    let centre = Cell::new(true);
    let counts = Counts::new(limit, slots, |value| {
        // The centre's is made first.
        let one = if centre.replace(false) { Words::Centre } else { Words::Slots };
        FlagWord { word: Word(AtomicU64::new(value)), takes_flags: flagged == Words::All || flagged == one }
    });
    counts.with_batch(batch)
}

struct Unpark {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        // Not part of the model: loom's park and unpark order it.
        self.woken.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }
}

fn waker() -> Waker {
    Waker::from(Arc::new(Unpark { thread: thread::current(), woken: AtomicBool::new(false) }))
}

/// Takes `n` pages at a shared slot, however long that takes.
fn take(budget: &Checked, slot: usize, n: u64) {
    answer(budget, at(slot), n).unwrap();
}

/// What a request for `n` pages is answered, however long that takes.
fn answer(budget: &Checked, slot: ThreadSlot, n: u64) -> Result<(), Refused> {
    let unpark = Arc::new(Unpark { thread: thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&unpark));
    let mut ticket = None;
    loop {
        if let Poll::Ready(answer) = budget.poll_take(slot, n, &mut ticket, &waker) {
            return answer;
        }
        while !unpark.woken.swap(false, Ordering::Relaxed) {
            thread::park();
        }
    }
}

/// Explores the threads that `roles` makes, each spawned, and what holds at the end.
fn explore(roles: impl Fn() -> (Vec<Box<dyn FnOnce() + Send>>, Box<dyn FnOnce()>) + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        let (roles, audit) = roles();
        let threads: Vec<_> = roles.into_iter().map(|role| thread::spawn(role)).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        audit();
    });
}

fn role(body: impl FnOnce() + Send + 'static) -> Box<dyn FnOnce() + Send> {
    Box::new(body)
}

/// All pages are back, and all of them can be taken at once.
fn all_are_back(budget: &Checked, limit: u64) {
    assert_eq!((budget.used(), budget.waiting()), (0, 0));
    assert_eq!(budget.take(at(0), limit), Ok(()));
}

#[test]
fn a_thread_that_waits_is_woken_by_pages_that_come_back_at_a_slot() {
    explore(|| {
        let budget = budget(2, 2, 4);
        budget.take(at(0), 1).unwrap();
        budget.take(at(1), 1).unwrap();
        let (first, second, waits) = (budget.clone(), budget.clone(), budget.clone());
        let roles = vec![
            role(move || first.put_kept(at(0), 1)),
            role(move || second.put_kept(at(1), 1)),
            role(move || {
                take(&waits, 0, 2);
                waits.put_kept(at(0), 2);
            }),
        ];
        (roles, Box::new(move || all_are_back(&budget, 2)))
    });
}

#[test]
fn pages_left_at_a_slot_by_a_thread_that_takes_are_found_by_one_that_waits() {
    explore(|| {
        let budget = budget(4, 2, 3);
        let (takes, waits) = (budget.clone(), budget.clone());
        let roles = vec![
            role(move || {
                // Takes one page of the centre for itself and three for the slot.
                if takes.take(at(0), 1).is_ok() {
                    takes.put_kept(at(1), 1);
                }
            }),
            role(move || {
                take(&waits, 1, 4);
                waits.put_kept(at(1), 4);
            }),
        ];
        (roles, Box::new(move || all_are_back(&budget, 4)))
    });
}

#[test]
fn two_that_wait_are_both_served() {
    explore(|| {
        let budget = budget(1, 1, 2);
        let roles = (0..2)
            .map(|_| {
                let budget = budget.clone();
                role(move || {
                    take(&budget, 0, 1);
                    budget.put_kept(at(0), 1);
                })
            })
            .collect();
        (roles, Box::new(move || all_are_back(&budget, 1)))
    });
}

#[test]
fn what_a_request_was_granted_that_is_given_up_goes_to_the_next() {
    explore(|| {
        let budget = budget(1, 1, 2);
        budget.take(at(0), 1).unwrap();
        let (gives, gives_up, waits) = (budget.clone(), budget.clone(), budget.clone());
        let roles = vec![
            role(move || gives.put_kept(at(0), 1)),
            role(move || {
                let mut ticket = None;
                match gives_up.poll_take(at(0), 1, &mut ticket, &waker()) {
                    Poll::Ready(taken) => {
                        taken.unwrap();
                        gives_up.put_kept(at(0), 1);
                    }
                    Poll::Pending => gives_up.cancel(ticket.unwrap()),
                }
            }),
            role(move || {
                take(&waits, 0, 1);
                waits.put_kept(at(0), 1);
            }),
        ];
        (roles, Box::new(move || all_are_back(&budget, 1)))
    });
}

#[test]
fn a_large_request_and_a_small_one_behind_it_are_both_served() {
    explore(|| {
        let budget = budget(2, 1, 1);
        budget.take(at(0), 2).unwrap();
        let roles = [1, 2].into_iter().map(|n| {
            let budget = budget.clone();
            role(move || {
                take(&budget, 0, n);
                budget.put_kept(at(0), n);
            })
        });
        let gives = budget.clone();
        let gives = role(move || gives.put_kept(at(0), 2));
        (roles.chain([gives]).collect(), Box::new(move || all_are_back(&budget, 2)))
    });
}

#[test]
fn a_raised_limit_serves_a_request_that_waits() {
    explore(|| {
        let budget = budget(2, 1, 2);
        budget.take(at(0), 2).unwrap();
        let (raises, waits) = (budget.clone(), budget.clone());
        let roles = vec![role(move || raises.set_limit(4)), role(move || take(&waits, 0, 2))];
        let audit = move || {
            budget.put_kept(at(0), 4);
            all_are_back(&budget, 4);
        };
        (roles, Box::new(audit))
    });
}

#[test]
fn a_lowered_limit_refuses_a_request_that_waits_and_fits_no_more() {
    explore(|| {
        let budget = budget(2, 1, 2);
        budget.take(at(0), 1).unwrap();
        let (lowers, waits) = (budget.clone(), budget.clone());
        let roles = vec![
            role(move || lowers.set_limit(1)),
            role(move || assert_eq!(answer(&waits, at(0), 2), Err(Refused::NeverFits))),
        ];
        let audit = move || {
            budget.put_kept(at(0), 1);
            all_are_back(&budget, 1);
        };
        (roles, Box::new(audit))
    });
}

/// A thread gives a page back beside one that wants it.
fn a_page_comes_back(flagged: Words) {
    explore(move || {
        let budget: Arc<Checked> = Arc::new(Budget::of(counts_with_flags_in(1, 1, 2, flagged), None));
        budget.take(at(0), 1).unwrap();
        let (gives, waits) = (budget.clone(), budget.clone());
        let roles = vec![role(move || gives.put_kept(at(0), 1)), role(move || take(&waits, 0, 1))];
        let audit = move || {
            budget.put_kept(at(0), 1);
            all_are_back(&budget, 1);
        };
        (roles, Box::new(audit))
    });
}

#[test]
fn a_page_that_comes_back_ends_a_wait() {
    a_page_comes_back(Words::All);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_flag_in_a_slot_a_wait_does_not_end() {
    a_page_comes_back(Words::Centre);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_flag_at_the_centre_a_wait_does_not_end() {
    a_page_comes_back(Words::Slots);
}

/// An arena as the budget sees it: handles, and what is there as long as a keepalive is.
struct Arena<const BARRIER: bool> {
    budget: Arc<Checked<BARRIER>>,
    handles: AtomicU64,
    /// Written by the thread that takes the arena down, read by threads before they give up their
    /// last keepalive.
    there: UnsafeCell<bool>,
}

// SAFETY: loom checks that the accesses to `there` are ordered, which is what is tested.
unsafe impl<const BARRIER: bool> Sync for Arena<BARRIER> {}
// SAFETY: nothing in it belongs to a thread.
unsafe impl<const BARRIER: bool> Send for Arena<BARRIER> {}

impl<const BARRIER: bool> Arena<BARRIER> {
    fn use_it(&self) {
        // SAFETY: loom reports a write that is not ordered with this read.
        self.there.with(|there| assert!(unsafe { *there }));
    }

    fn take_down(&self) {
        // SAFETY: loom reports a read that is not ordered with this write.
        self.there.with_mut(|there| unsafe {
            assert!(*there, "one thread takes it down");
            *there = false;
        });
    }

    fn drop_handle(&self) {
        self.use_it();
        // As `Arc` does it.
        if self.handles.fetch_sub(1, Ordering::Release) == 1 {
            self.handles.load(Ordering::Acquire);
            if self.budget.close() {
                self.take_down();
            }
        }
    }

    fn put(self: &Arc<Self>, slot: ThreadSlot, n: u64) {
        struct Handle<const BARRIER: bool>(Arc<Arena<BARRIER>>);
        impl<const BARRIER: bool> Drop for Handle<BARRIER> {
            fn drop(&mut self) {
                self.0.drop_handle();
            }
        }
        self.use_it();
        let upgrade = || {
            let mut seen = self.handles.load(Ordering::Relaxed);
            while seen != 0 {
                match self.handles.compare_exchange(seen, seen + 1, Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => return Some(Handle(Arc::clone(self))),
                    Err(now) => seen = now,
                }
            }
            None
        };
        if self.budget.put(slot, n, upgrade) {
            self.take_down();
        }
    }
}

/// `batch` decides by which way pages go back: to the slot, or to the centre.
fn the_last_takes_it_down<const BARRIER: bool>(batch: u64, plain: bool) {
    let slot = if plain { own } else { at };
    explore(move || {
        let counts = counts_with_flags_in::<BARRIER>(8, 2, batch, Words::All);
        let counts = if plain { counts.with_plain_steps() } else { counts };
        let budget = Arc::new(Budget::of(counts, None));
        budget.take(slot(0), 1).unwrap();
        budget.take(slot(1), 2).unwrap();
        let arena = Arc::new(Arena { budget, handles: AtomicU64::new(1), there: UnsafeCell::new(true) });
        let (first, second, handle) = (arena.clone(), arena.clone(), arena.clone());
        let roles = vec![
            role(move || first.put(slot(0), 1)),
            role(move || second.put(slot(1), 2)),
            role(move || handle.drop_handle()),
        ];
        // SAFETY: all threads have ended.
        let audit = move || arena.there.with(|there| assert!(!unsafe { *there }, "taken down"));
        (roles, Box::new(audit))
    });
}

#[test]
fn the_last_page_or_handle_takes_the_arena_down_by_slots() {
    the_last_takes_it_down::<true>(4, false);
}

#[test]
fn the_last_page_or_handle_takes_the_arena_down_by_the_centre() {
    the_last_takes_it_down::<true>(0, false);
}

#[test]
fn the_last_page_or_handle_takes_the_arena_down_by_plain_steps() {
    the_last_takes_it_down::<true>(4, true);
}

#[test]
#[should_panic]
fn without_the_barrier_plain_steps_are_lost_as_the_arena_goes() {
    the_last_takes_it_down::<false>(4, true);
}

/// A thread counts at a slot of its own, by plain steps at first, beside one that wants all pages.
fn plain_steps_and_a_wait<const BARRIER: bool>() {
    explore(move || {
        let budget = budget_with_plain_steps::<BARRIER>(2, 2, 1);
        budget.take(own(0), 1).unwrap();
        let (counts, gathers) = (budget.clone(), budget.clone());
        let roles = vec![
            role(move || {
                counts.put_kept(own(0), 1);
                if counts.take(own(0), 1).is_ok() {
                    counts.put_kept(own(0), 1);
                }
            }),
            role(move || {
                if gathers.take(at(1), 2).is_ok() {
                    gathers.put_kept(at(1), 2);
                }
            }),
        ];
        let audit = move || {
            assert_eq!(budget.used(), 0);
            assert_eq!(budget.take(at(0), 2), Ok(()));
        };
        (roles, Box::new(audit))
    });
}

#[test]
fn pages_at_the_slot_of_one_thread_are_found_by_another() {
    plain_steps_and_a_wait::<true>();
}

#[test]
#[should_panic]
fn without_the_barrier_plain_steps_are_lost_as_pages_are_gathered() {
    plain_steps_and_a_wait::<false>();
}

#[test]
fn a_page_that_comes_back_at_the_slot_of_one_thread_ends_a_wait() {
    explore(|| {
        let budget: Arc<Checked> = budget_with_plain_steps(1, 2, 2);
        budget.take(own(0), 1).unwrap();
        let (gives, waits) = (budget.clone(), budget.clone());
        let roles = vec![role(move || gives.put_kept(own(0), 1)), role(move || take(&waits, 1, 1))];
        let audit = move || {
            budget.put_kept(at(1), 1);
            all_are_back(&budget, 1);
        };
        (roles, Box::new(audit))
    });
}
