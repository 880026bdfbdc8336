//! Telling a caller how far a replay has got.

/// Hears of a replay while it runs, on the threads that run it.
pub trait Watch: Sync {
    /// On the thread of copy `copy`, counted from 0, before its clock starts.
    fn begins(&self, _copy: usize) {}
    /// So many more steps were done. Called within the timed part, once for many steps.
    fn progress(&self, _steps: usize) {}
}

/// Progress that is not shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoWatch;

impl Watch for NoWatch {}
