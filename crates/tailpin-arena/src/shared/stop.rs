//! Places where a process may be killed, for the tests: elsewhere there is nothing here.

/// Nothing, except in the tests of this crate.
#[cfg(not(test))]
#[inline(always)]
pub(super) fn here() {}

#[cfg(test)]
pub(super) use counted::{Stopped, after, here};

#[cfg(test)]
mod counted {
    use std::cell::Cell;
    use std::panic::resume_unwind;

    thread_local!(static LEFT: Cell<Option<u32>> = const { Cell::new(None) });

    /// Thrown where a thread stops for ever.
    pub(crate) struct Stopped;

    /// This thread is going to stop at the place that comes after so many others; `None`: it is
    /// not.
    pub(crate) fn after(places: Option<u32>) {
        LEFT.set(places);
    }

    /// A place to stop at.
    pub(crate) fn here() {
        match LEFT.get() {
            None => {}
            Some(0) => {
                LEFT.set(None);
                resume_unwind(Box::new(Stopped));
            }
            Some(left) => LEFT.set(Some(left - 1)),
        }
    }
}
