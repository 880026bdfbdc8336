//! The budget: how many pages may be in use at a time, and who waits for some.
//!
//! | file | idea |
//! | --- | --- |
//! | `counts` | pages left, by slot and at the centre; when the last is back |
//! | `bias` | slots that are counted by plain steps of one thread |
//! | `queue` | requests that wait, first come first served |
//! | `waiting` | a request as a future, and a thread that blocks on it |
//! | `watermark` | a callback when much is in use, and when little is again |
//! | `tags` | names made at run time, each with a budget of its own |

pub(crate) mod bias;
pub(crate) mod counts;
#[cfg(test)]
mod model;
pub(crate) mod queue;
pub(crate) mod tags;
pub(crate) mod waiting;
pub(crate) mod watermark;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};

use crate::budget::bias::BiasedWord;
use crate::budget::counts::{Counts, Taken};
use crate::budget::queue::{Answer, Queue, QueueLock, Ticket};
use crate::budget::watermark::Watermark;
use crate::thread_slot::ThreadSlot;

/// Why a request for pages was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Not at this moment: too many are in use, or other requests were there first.
    Now,
    /// The limit is lower.
    NeverFits,
}

/// Pages that may be in use at a time, and the requests that wait for some.
///
/// It also counts what keeps an arena there: each page in use, and one for all handles. A page is
/// taken of the budget before a block is handed out, and given back by the thread that freed it,
/// after that call has returned from the allocator. So while any thread is inside the allocator's
/// memory because of a page, the page counts here, and the thread that gives back the last takes
/// the arena down.
pub(crate) struct Budget<W = AtomicU64, Q = Mutex<Queue>> {
    counts: Counts<W>,
    queue: Q,
    watermark: Option<Watermark>,
    /// Requests that were ever queued. Written under the queue's lock.
    waited: AtomicU64,
}

impl Budget {
    /// `limit` pages, counted at the slots of the threads.
    pub(crate) fn new(limit: u64, watermark: Option<Watermark>) -> Self {
        Self::of(Counts::at_thread_slots(limit), watermark)
    }

    /// `limit` pages, all counted at the centre.
    pub(crate) fn at_centre(limit: u64) -> Self {
        Self::of(Counts::new(limit, 0, AtomicU64::new), None)
    }
}

impl<W: BiasedWord, Q: QueueLock> Budget<W, Q> {
    pub(crate) fn of(counts: Counts<W>, watermark: Option<Watermark>) -> Self {
        Self { counts, queue: Q::default(), watermark, waited: AtomicU64::new(0) }
    }

    /// Pages that may be in use at a time.
    pub(crate) fn limit(&self) -> u64 {
        self.counts.limit()
    }

    /// Pages in use or reserved.
    pub(crate) fn used(&self) -> u64 {
        self.counts.used()
    }

    /// Requests that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.locked(|queue| queue.len())
    }

    /// Requests that ever waited.
    pub(crate) fn waited(&self) -> u64 {
        // Relaxed: a statistic.
        self.waited.load(Ordering::Relaxed)
    }

    /// Takes `n` pages at once, or says why not.
    #[inline(always)] // As that of the counts.
    pub(crate) fn take(&self, at: ThreadSlot, n: u64) -> Result<(), Refused> {
        match self.counts.take(at, n) {
            Taken::Yes => {
                if self.crosses().is_some() {
                    self.undo_if_panics(at, n, || self.watch());
                }
                Ok(())
            }
            Taken::AndSettle => {
                self.undo_if_panics(at, n, || self.settle());
                Ok(())
            }
            Taken::No if n > self.limit() => Err(Refused::NeverFits),
            Taken::No => Err(Refused::Now),
        }
    }

    /// Takes `n` pages if that is one plain step of this thread's; else nothing is done.
    #[inline(always)]
    pub(crate) fn take_plainly(&self, at: ThreadSlot, n: u64) -> bool {
        self.watermark.is_none() && self.counts.take_plainly(at, n)
    }

    /// Gives `n` pages back if that is one plain step of this thread's; else nothing is done. After
    /// it the caller, who may have had no other keepalive than these pages, uses nothing more.
    #[inline(always)]
    pub(crate) fn put_plainly(&self, at: ThreadSlot, n: u64) -> bool {
        self.counts.put_plainly(at, n)
    }

    /// Takes `n` pages, or queues for them: the task is woken when there is an answer. A request
    /// that has a ticket must be asked for again, or cancelled.
    pub(crate) fn poll_take(
        &self,
        at: ThreadSlot,
        n: u64,
        ticket: &mut Option<Ticket>,
        waker: &Waker,
    ) -> Poll<Result<(), Refused>> {
        // Wakers are foreign code: cloned, woken and dropped outside of the lock, and before an
        // answer is picked up that would be lost if they panicked.
        let asked = match *ticket {
            Some(asked) => {
                let waker = waker.clone();
                drop(self.locked(|queue| queue.renew(asked, waker)));
                asked
            }
            None => {
                match self.take(at, n) {
                    Err(Refused::Now) => {}
                    done => return Poll::Ready(done),
                }
                #[cfg(feature = "tracing")]
                tracing::debug!(target: "tailpin_arena", pages = n, "a request waits for a limit");
                let waker = waker.clone();
                let (new, wakers) = self.locked(|queue| {
                    let new = queue.push(&self.counts, n, waker);
                    self.waited.fetch_add(1, Ordering::Relaxed);
                    *ticket = Some(new);
                    (new, queue.serve(&self.counts))
                });
                wake_all(wakers);
                new
            }
        };
        let Some(answer) = self.locked(|queue| queue.pick_up(asked)) else { return Poll::Pending };
        *ticket = None;
        match answer {
            Answer::Granted => {
                self.undo_if_panics(at, n, || self.watch());
                Poll::Ready(Ok(()))
            }
            Answer::NeverFits => Poll::Ready(Err(Refused::NeverFits)),
            Answer::Forgotten => {
                // As if it were made now.
                waker.wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// Gives up a request that waits. What it may have been granted goes back.
    pub(crate) fn cancel(&self, ticket: Ticket) {
        let (wakers, _cancelled) = self.locked(|queue| {
            let cancelled = queue.cancel(&self.counts, ticket);
            (queue.serve(&self.counts), cancelled)
        });
        wake_all(wakers);
        self.watch();
    }

    /// Counts `n` pages that were freed at this slot; true after every 128 KiB or so that were not
    /// taken there again.
    #[inline]
    pub(crate) fn counts_freed(&self, at: ThreadSlot, n: u64) -> bool {
        self.counts.counts_freed(at, n)
    }

    /// Gives `n` pages back. True for the thread that has to take the arena down.
    ///
    /// The caller may have no other keepalive than these pages: then `handle` says so by `None`, if
    /// more is to be done than one step. Whatever else it gives is a keepalive.
    #[inline]
    pub(crate) fn put<H>(&self, at: ThreadSlot, n: u64, handle: impl FnOnce() -> Option<H>) -> bool {
        if self.counts.put(at, n) {
            return false;
        }
        let Some(_handle) = handle() else { return self.counts.put_last(at, n) };
        self.put_kept(at, n);
        false
    }

    /// Gives `n` pages back on behalf of a caller that has another keepalive.
    pub(crate) fn put_kept(&self, at: ThreadSlot, n: u64) {
        if !self.counts.put(at, n) && self.counts.put_at_centre(at, n) {
            self.settle();
        }
        self.watch();
    }

    /// The arena's handles are gone. True if this thread has to take the arena down.
    pub(crate) fn close(&self) -> bool {
        self.counts.close()
    }

    /// Changes the limit. What is in use stays in use.
    pub(crate) fn set_limit(&self, limit: u64) {
        let wakers = self.locked(|queue| {
            queue.set_limit(&self.counts, limit);
            queue.serve(&self.counts)
        });
        wake_all(wakers);
        self.watch();
    }

    /// Answers requests that wait, as far as pages are left.
    #[inline(never)]
    fn settle(&self) {
        let wakers = self.locked(|queue| queue.serve(&self.counts));
        wake_all(wakers);
    }

    fn locked<T>(&self, body: impl FnOnce(&mut Queue) -> T) -> T {
        self.queue.with(|queue| {
            queue.adopt(&self.counts, std::process::id());
            body(queue)
        })
    }

    /// The watermark, if what is in use now crosses it.
    #[inline]
    fn crosses(&self) -> Option<&Watermark> {
        self.watermark.as_ref().filter(|watermark| watermark.crosses(self.counts.away()))
    }

    #[inline]
    fn watch(&self) {
        if let Some(watermark) = self.crosses() {
            watermark.cross(self.counts.away(), self.limit());
        }
    }

    /// Calls foreign code on behalf of a request that has its `n` pages: if that panics, they go
    /// back.
    #[cold]
    fn undo_if_panics(&self, at: ThreadSlot, n: u64, call: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
            if !self.counts.put(at, n) && self.counts.put_at_centre(at, n) {
                self.settle();
            }
            resume_unwind(panic);
        }
    }
}

/// Wakes all of them, also those behind one that panics; then that goes on.
fn wake_all(wakers: Vec<Waker>) {
    let mut panic = None;
    for waker in wakers {
        if let Err(new) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
            panic.get_or_insert(new);
        }
    }
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: usize) -> ThreadSlot {
        ThreadSlot::of_test(index, false)
    }

    #[test]
    fn a_request_that_never_fits_is_told_from_one_that_comes_too_early() {
        let budget: Budget = Budget::of(Counts::new(640, 1, AtomicU64::new), None);
        assert_eq!(budget.take(at(0), 641), Err(Refused::NeverFits));
        assert_eq!(budget.take(at(0), 640), Ok(()));
        assert_eq!(budget.take(at(0), 1), Err(Refused::Now));
        assert_eq!(budget.take(at(0), 641), Err(Refused::NeverFits));
    }

    #[test]
    fn what_is_freed_is_counted_by_as_many_slots_as_were_asked_for() {
        let budget: Budget = Budget::of(Counts::new(640, 3, AtomicU64::new), None);
        assert_eq!(budget.counts.slots(), 4);
        assert_eq!(
            [0, 1, 2, 3, 4].map(|cpu| budget.counts_freed(at(cpu), 16)),
            [false, false, false, false, true]
        );
    }
}
