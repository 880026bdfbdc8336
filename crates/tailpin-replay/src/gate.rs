//! Where the copies of a replay wait for each other, so that their clocks start together.

use std::sync::{Condvar, Mutex, PoisonError};

/// As a barrier, but it can be given up: then no thread waits for one that never comes.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Debug)]
struct State {
    missing: usize,
    given_up: bool,
}

impl Gate {
    /// For so many threads.
    pub(crate) fn new(threads: usize) -> Self {
        Self { state: Mutex::new(State { missing: threads, given_up: false }), bell: Condvar::new() }
    }

    /// Waits until all have come; false if the gate was given up.
    pub(crate) fn pass(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.missing = state.missing.saturating_sub(1);
        if state.missing == 0 {
            self.bell.notify_all();
        }
        let state = self
            .bell
            .wait_while(state, |state| state.missing > 0 && !state.given_up)
            .unwrap_or_else(PoisonError::into_inner);
        !state.given_up
    }

    /// Some thread will not come.
    pub(crate) fn give_up(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).given_up = true;
        self.bell.notify_all();
    }
}

/// Gives the gate up where its thread panics on the way there.
pub(crate) struct OnTheWay<'g>(pub(crate) &'g Gate);

impl Drop for OnTheWay<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.give_up();
        }
    }
}
