//! What is done at the end of a scope, however it is left.

/// Runs when it is dropped: also where code of the caller's (a hook, a sink) panics before. Should
/// that panic once more while this runs, the process aborts, as after any panic in a panic.
pub struct Finally<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for Finally<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Calls `rest`, which notes how far it has come, and goes on with it should it panic.
pub fn to_the_end(rest: impl Fn()) {
    let _goes_on = Finally(&rest);
    rest();
}
