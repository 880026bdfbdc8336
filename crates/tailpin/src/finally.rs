//! What is done at the end of a scope, however it is left.

/// Runs when it is dropped: also where code of the caller's (a hook, a sink) panics before. Should
/// that panic once more while this runs, the process aborts, as after any panic in a panic.
pub struct Finally<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for Finally<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
