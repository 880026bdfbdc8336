//! Fail points: places where a process may be killed, for the tests: elsewhere there is nothing
//! here.

/// Nothing, except in the tests of this crate.
#[cfg(not(test))]
#[inline(always)]
pub(super) fn here() {}

#[cfg(test)]
pub(super) use counted::{Stopped, after, here, run_at};

#[cfg(test)]
mod counted {
    use std::cell::Cell;
    use std::panic::resume_unwind;

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
        static INSTEAD: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
    }

    /// Thrown where a thread stops for ever.
    pub(crate) struct Stopped;

    /// This thread is going to stop at the place that comes after so many others; `None`: it is
    /// not.
    pub(crate) fn after(places: Option<u32>) {
        LEFT.set(places);
    }

    /// At the place that comes after so many others this thread does what others could do in
    /// between, and goes on.
    pub(crate) fn run_at(places: u32, instead: impl FnOnce() + 'static) {
        INSTEAD.set(Some(Box::new(instead)));
        after(Some(places));
    }

    /// A place to stop at.
    pub(crate) fn here() {
        match LEFT.get() {
            None => {}
            Some(0) => {
                LEFT.set(None);
                match INSTEAD.take() {
                    Some(instead) => instead(),
                    None => resume_unwind(Box::new(Stopped)),
                }
            }
            Some(left) => LEFT.set(Some(left - 1)),
        }
    }
}
