//! Words that stop a chosen thread before one of its accesses.
#![allow(dead_code, unreachable_pub)]

use super::hooked;

use std::cell::RefCell;
use std::sync::{Arc, Condvar, Mutex};

pub use hooked::words;
use hooked::{Access, Hook};

/// Where the chosen thread stands still.
#[derive(Default)]
pub struct Stop {
    /// (it is standing there, it may go on)
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Stop {
    fn stand_still(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 = true;
        self.changed.notify_all();
        let _state = self.changed.wait_while(state, |state| !state.1).unwrap();
    }

    /// Waits until the thread stands still; also ended by [`Stop::let_go`].
    pub fn wait(&self) {
        let state = self.state.lock().unwrap();
        let _state = self.changed.wait_while(state, |state| !state.0 && !state.1).unwrap();
    }

    pub fn is_reached(&self) -> bool {
        self.state.lock().unwrap().0
    }

    pub fn let_go(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

thread_local! {
    /// Accesses that this thread still makes before it stops, and where it does.
    static CHOSEN: RefCell<Option<(u64, Arc<Stop>)>> = const { RefCell::new(None) };
}

/// Stops the chosen thread in front of a word.
pub struct Stops;

impl Hook for Stops {
    fn before(_: Access, _: usize) {
        let stop = CHOSEN.with_borrow_mut(|chosen| match chosen {
            Some((0, stop)) => Some(Arc::clone(stop)),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        });
        if let Some(stop) = stop {
            CHOSEN.set(None);
            stop.stand_still();
        }
    }
}

/// A word that the chosen thread may be stopped in front of.
pub type Word = hooked::Word<Stops>;

/// Stops this thread before access `k` of what `act` does; lets go of the stop at the end in any
/// case.
pub fn stopped_at<T>(stop: &Arc<Stop>, k: u64, act: impl FnOnce() -> T) -> T {
    CHOSEN.set(Some((k, Arc::clone(stop))));
    let result = act();
    CHOSEN.set(None);
    stop.let_go();
    result
}
