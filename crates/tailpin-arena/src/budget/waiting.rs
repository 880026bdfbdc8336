//! A request for pages that waits: as a future, or by blocking the thread.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use crate::budget::queue::Ticket;
use crate::budget::{Budget, Refused};
use crate::thread_slot::ThreadSlot;

/// A request for pages. Dropped early, it gives up its place in the queue, and what it was granted.
pub(crate) struct Waiting<'b> {
    budget: &'b Budget,
    pages: u64,
    ticket: Option<Ticket>,
}

impl<'b> Waiting<'b> {
    pub(crate) fn new(budget: &'b Budget, pages: u64) -> Self {
        Self { budget, pages, ticket: None }
    }
}

impl Future for Waiting<'_> {
    type Output = Result<(), Refused>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { budget, pages, ticket } = &mut *self;
        budget.poll_take(ThreadSlot::current(), *pages, ticket, context.waker())
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.budget.cancel(ticket);
        }
    }
}

/// Wakes a thread.
struct Parked {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        // Release: pairs with the Acquire in `block_on`. What the waker did is before what the
        // thread does next.
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Blocks the thread until the future is done, or to the deadline: `None` then.
pub(crate) fn block_on<F: Future>(future: F, deadline: Option<Instant>) -> Option<F::Output> {
    let mut future = pin!(future);
    let parked = Arc::new(Parked { thread: thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&parked));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        // Acquire: pairs with the Release in `wake`.
        while !parked.woken.swap(false, Ordering::Acquire) {
            match deadline {
                None => thread::park(),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    thread::park_timeout(left);
                }
            }
        }
    }
}
