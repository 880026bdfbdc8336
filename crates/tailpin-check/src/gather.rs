//! Going on after a run that went wrong, to find the shortest that does.
//!
//! As a rule a violation ends the search. While runs are gathered it ends the run alone: each
//! thread unwinds at its next step on an explored word, the run is compared with the best so far,
//! and the search goes on. What ends the search all the same is a run without an end.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::engine::MAIN;
use crate::lock_wait;
use crate::panics::{explain, is_without_end, lacking};
use crate::trace::{self, Event, Operation};

/// A run that went wrong.
#[derive(Clone, Debug)]
pub(crate) struct Wrong {
    /// What broke.
    pub(crate) what: String,
    /// All that happened before.
    pub(crate) events: Vec<Event>,
}

#[derive(Default)]
struct Gathering {
    on: bool,
    best: Option<Wrong>,
}

thread_local! {
    // Model threads are coroutines of one OS thread.
    static GATHERING: RefCell<Gathering> = RefCell::default();
}

/// Unwinds a thread of a run that another thread has ended.
struct Ended;

/// Gathers the runs of `search` that go wrong, and returns the shortest.
pub(crate) fn shortest(search: impl FnOnce()) -> Option<Wrong> {
    GATHERING.set(Gathering { on: true, ..Gathering::default() });
    search();
    GATHERING.take().best
}

/// Ends the thread that calls, if the run has been ended by another.
pub(crate) fn end_if_broken() {
    if GATHERING.with_borrow(|gathering| gathering.on) && trace::is_broken() {
        resume_unwind(Box::new(Ended));
    }
}

/// Runs a part of the run: a thread, or what comes after all of them. False if the run has gone
/// wrong.
pub(crate) fn part(body: impl FnOnce()) -> bool {
    if !GATHERING.with_borrow(|gathering| gathering.on) {
        body();
        return true;
    }
    if let Err(panic) = catch_unwind(AssertUnwindSafe(body))
        && !panic.is::<Ended>()
    {
        if lacking(&*panic).is_some() || is_without_end(&*panic) {
            resume_unwind(panic);
        }
        trace::break_with(|| explain(&*panic));
        lock_wait::release_all();
    }
    trace::broke().is_none()
}

/// Whether a run that goes wrong has been found.
pub(crate) fn has_found() -> bool {
    GATHERING.with_borrow(|gathering| gathering.best.is_some())
}

/// Compares the run that has ended, if it went wrong, with the best so far.
pub(crate) fn compare() {
    GATHERING.with_borrow_mut(|gathering| {
        let Some(what) = trace::broke().filter(|_| gathering.on) else { return };
        trace::with(|events| {
            let better = gathering.best.as_ref().is_none_or(|best| length(events) < length(&best.events));
            if better {
                gathering.best = Some(Wrong { what, events: events.to_vec() });
            }
        });
    });
}

/// What a reader has to follow, the most tiresome first: switches from one thread to another, old
/// values that are still seen, steps.
pub(crate) fn length(events: &[Event]) -> (usize, usize, usize) {
    let threads: Vec<usize> = events.iter().map(Event::thread).filter(|&thread| thread != MAIN).collect();
    let switches = threads.windows(2).filter(|pair| pair[0] != pair[1]).count();
    let old = |event: &&Event| matches!(event, Event::Word(step) if step.operation == Operation::LoadOld);
    (switches, events.iter().filter(old).count(), threads.len())
}
