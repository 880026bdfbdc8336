//! A thread that gives memory back bit by bit.

use std::fmt;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{Builder as ThreadBuilder, JoinHandle};
use std::time::Duration;

use crate::error::ReleaseError;
use crate::reclaim::release::Released;

/// How fast a [`Releaser`] gives back: `step` bytes each `interval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Bytes at a time.
    pub step: usize,
    /// Time between.
    pub interval: Duration,
}

impl Default for Pace {
    /// 8 MiB every 100 ms: at most a few per cent of one processor.
    fn default() -> Self {
        Self { step: 8 << 20, interval: Duration::from_millis(100) }
    }
}

/// A thread that calls [`Arena::release`](crate::Arena::release) until this is dropped, or the
/// arena's last handle is.
///
/// While the arena is registered, or another thread gives memory back, it waits.
pub struct Releaser {
    stop: Sender<()>,
    thread: Option<JoinHandle<Result<usize, ReleaseError>>>,
}

/// Whether a later call may succeed.
pub(crate) fn is_passing(error: ReleaseError) -> bool {
    use crate::backing::Reason::{OnlyWholeHugePages, Registered};
    matches!(error, ReleaseError::Busy | ReleaseError::Refused(Registered | OnlyWholeHugePages(_)))
}

impl Releaser {
    /// Starts the thread. `release` is asked for so many bytes at a time until it says `None`: the
    /// arena is gone.
    pub(crate) fn spawn(
        pace: Pace,
        mut release: impl FnMut(usize) -> Option<Result<Released, ReleaseError>> + Send + 'static,
    ) -> Result<Self, ReleaseError> {
        let (stop, stopped) = mpsc::channel();
        let work = move || {
            let mut returned = 0_usize;
            loop {
                match stopped.recv_timeout(pace.interval) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(returned),
                }
                match release(pace.step) {
                    None => return Ok(returned),
                    Some(Ok(released)) => returned = returned.saturating_add(released.returned),
                    Some(Err(error)) if is_passing(error) => {}
                    Some(Err(error)) => return Err(error),
                }
            }
        };
        let thread = ThreadBuilder::new().name("tailpin-releaser".into()).spawn(work).map_err(|error| {
            ReleaseError::System { doing: "start a thread", errno: error.raw_os_error().unwrap_or(0) }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends the thread that releases.
    ///
    /// # Errors
    /// What it could not go on after; otherwise the bytes it has given back.
    pub fn stop(mut self) -> Result<usize, ReleaseError> {
        self.join().unwrap_or(Ok(0))
    }

    fn join(&mut self) -> Option<Result<usize, ReleaseError>> {
        // An error means that the thread has ended already.
        let _ = self.stop.send(());
        match self.thread.take()?.join() {
            Ok(result) => Some(result),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Releaser {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.join();
        }
    }
}

impl fmt::Debug for Releaser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
        write!(f, "Releaser({})", if running { "running" } else { "ended" })
    }
}
