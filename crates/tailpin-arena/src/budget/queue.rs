//! The requests that wait for pages, first come first served.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

use crate::budget::bias::BiasedWord;
use crate::budget::counts::Counts;
use crate::thread_slot::ThreadSlot;

/// The place of a request in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// What became of a request that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The pages are its.
    Granted,
    /// The limit was lowered to less than it asks for.
    NeverFits,
    /// It was made in the parent of this process, before the fork.
    Forgotten,
}

struct Request {
    ticket: Ticket,
    pages: u64,
    waker: Waker,
}

/// Requests in the order in which they came, and answers that were not picked up yet.
pub(crate) struct Queue {
    /// The process whose threads these are: a fork copies the queue into a child that has none of
    /// them.
    process: u32,
    next: u64,
    /// The counts have the flag that brings pages to the centre, and threads that do it here: while
    /// requests wait, or more is in use than a lowered limit allows.
    flagged: bool,
    waiting: VecDeque<Request>,
    answered: BTreeMap<Ticket, (Answer, u64)>,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            process: std::process::id(),
            next: 0,
            flagged: false,
            waiting: VecDeque::new(),
            answered: BTreeMap::new(),
        }
    }
}

impl Queue {
    /// In a forked child: requests of threads that it doesn't have are forgotten.
    pub(crate) fn adopt<W: BiasedWord>(&mut self, counts: &Counts<W>, process: u32) {
        if self.process == process {
            return;
        }
        self.process = process;
        self.waiting.clear();
        for (_, (answer, pages)) in std::mem::take(&mut self.answered) {
            if answer == Answer::Granted {
                counts.put_at_centre(ThreadSlot::current(), pages);
            }
        }
        // It wakes no thread, as none is left.
        drop(self.serve(counts));
    }

    fn flag<W: BiasedWord>(&mut self, counts: &Counts<W>) {
        if !self.flagged {
            self.flagged = true;
            counts.begin_waiting();
        }
    }

    /// Changes the limit.
    pub(crate) fn set_limit<W: BiasedWord>(&mut self, counts: &Counts<W>, limit: u64) {
        // No page is taken of a slot before it is known whether there are too many.
        self.flag(counts);
        counts.set_limit(limit);
    }

    /// A request goes to the end of the queue.
    pub(crate) fn push<W: BiasedWord>(&mut self, counts: &Counts<W>, pages: u64, waker: Waker) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.flag(counts);
        self.waiting.push_back(Request { ticket, pages, waker });
        ticket
    }

    /// Answers the requests at the front that can be; their wakers are to be woken after the lock.
    #[must_use]
    pub(crate) fn serve<W: BiasedWord>(&mut self, counts: &Counts<W>) -> Vec<Waker> {
        let mut wakers = Vec::new();
        if !self.flagged {
            return wakers;
        }
        counts.gather();
        while let Some(front) = self.waiting.front() {
            let answer = if front.pages > counts.limit() {
                Answer::NeverFits
            } else if counts.grant(front.pages) {
                Answer::Granted
            } else {
                break;
            };
            let Some(Request { ticket, pages, waker }) = self.waiting.pop_front() else { break };
            self.answered.insert(ticket, (answer, pages));
            wakers.push(waker);
        }
        if self.waiting.is_empty() && counts.grant(0) {
            counts.end_waiting();
            self.flagged = false;
        }
        wakers
    }

    /// The answer to a request, if there is one.
    pub(crate) fn pick_up(&mut self, ticket: Ticket) -> Option<Answer> {
        match self.answered.remove(&ticket) {
            Some((answer, _)) => Some(answer),
            None if self.find(ticket).is_some() => None,
            // A forked child has forgotten the requests of its parent's threads.
            None => Some(Answer::Forgotten),
        }
    }

    /// A request that waits is woken by this waker from now on. The waker that isn't needed comes
    /// back, to be dropped after the lock.
    pub(crate) fn renew(&mut self, ticket: Ticket, waker: Waker) -> Waker {
        match self.find(ticket).and_then(|at| self.waiting.get_mut(at)) {
            Some(request) => std::mem::replace(&mut request.waker, waker),
            None => waker,
        }
    }

    /// A request is given up, answered or not. What it was granted goes back. To be followed by
    /// [`Queue::serve`].
    pub(crate) fn cancel<W: BiasedWord>(&mut self, counts: &Counts<W>, ticket: Ticket) -> Option<Waker> {
        if let Some((answer, pages)) = self.answered.remove(&ticket) {
            if answer == Answer::Granted {
                counts.put_at_centre(ThreadSlot::current(), pages);
            }
            return None;
        }
        Some(self.waiting.remove(self.find(ticket)?)?.waker)
    }

    /// Requests that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn find(&self, ticket: Ticket) -> Option<usize> {
        self.waiting.binary_search_by_key(&ticket, |request| request.ticket).ok()
    }
}

/// The lock around a queue. A model checker brings its own.
pub(crate) trait QueueLock: Default {
    /// Runs `body` while no other thread is inside.
    fn with<T>(&self, body: impl FnOnce(&mut Queue) -> T) -> T;
}

impl QueueLock for Mutex<Queue> {
    fn with<T>(&self, body: impl FnOnce(&mut Queue) -> T) -> T {
        // The queue is consistent after each step, also if a waker panics.
        body(&mut self.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::task::Wake;

    use super::*;

    /// Wakes nothing; each is another.
    struct Unheard(#[expect(dead_code, reason = "gives it an address of its own")] u8);

    impl Wake for Unheard {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn a_request_between_others_is_asked_about_and_given_up_as_itself() {
        let counts = Counts::new(1, 1, AtomicU64::new);
        assert_eq!(counts.take(ThreadSlot::of_test(0, false), 1), crate::budget::counts::Taken::Yes);
        let mut queue = Queue::default();
        let [first, second, third, again] = [0; 4].map(|_| Waker::from(Arc::new(Unheard(0))));
        let tickets = [&first, &second, &third].map(|waker| queue.push(&counts, 1, waker.clone()));
        // From now on it is woken by the waker that it was asked with last.
        let unused = queue.renew(tickets[1], again.clone());
        assert!(queue.pick_up(tickets[1]).is_none() && unused.will_wake(&second));
        assert!(queue.cancel(&counts, tickets[1]).unwrap().will_wake(&again));
        assert_eq!(queue.len(), 2);
        for (ticket, waker) in [(tickets[0], &first), (tickets[2], &third)] {
            counts.put_at_centre(ThreadSlot::of_test(0, false), 1);
            let woken = queue.serve(&counts);
            assert!(woken.len() == 1 && woken[0].will_wake(waker));
            assert_eq!(queue.pick_up(ticket), Some(Answer::Granted));
        }
    }

    #[test]
    fn a_forked_child_forgets_requests_of_threads_that_it_does_not_have() {
        let counts = Counts::new(4, 2, AtomicU64::new);
        let mut queue = Queue::default();
        let noop = || Waker::noop().clone();
        let granted = queue.push(&counts, 3, noop());
        let waits = queue.push(&counts, 2, noop());
        assert_eq!(queue.serve(&counts).len(), 1);
        assert_eq!((queue.len(), counts.used()), (1, 3));
        queue.adopt(&counts, queue.process);
        assert_eq!((queue.len(), counts.used()), (1, 3));
        queue.adopt(&counts, queue.process + 1);
        assert_eq!((queue.len(), counts.used()), (0, 0));
        assert_eq!(counts.take(ThreadSlot::of_test(0, false), 4), crate::budget::counts::Taken::Yes);
        for ticket in [granted, waits] {
            assert_eq!(queue.pick_up(ticket), Some(Answer::Forgotten));
        }
    }
}
