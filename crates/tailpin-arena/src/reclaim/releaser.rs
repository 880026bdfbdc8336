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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::backing::{HugeSize, Reason};
    use crate::reclaim::release::Stop;

    const SOON: Pace = Pace { step: 7, interval: Duration::from_millis(1) };

    fn released(returned: usize) -> Option<Result<Released, ReleaseError>> {
        Some(Ok(Released { asked: 7, returned, stuck: 0, stopped: Stop::Target }))
    }

    /// A thread whose releases end as these do, one after the other; told once it is through.
    fn through(outcomes: Vec<Option<Result<Released, ReleaseError>>>) -> Releaser {
        let (told, hear) = mpsc::channel();
        let mut left = outcomes.into_iter();
        let releaser = Releaser::spawn(SOON, move |step| {
            assert_eq!(step, 7);
            let outcome = left.next().unwrap_or(None);
            if left.len() == 0 {
                told.send(()).unwrap();
            }
            outcome
        });
        hear.recv().unwrap();
        releaser.unwrap()
    }

    #[test]
    fn what_passes_is_waited_for_and_the_sum_is_told() {
        let passing = [
            ReleaseError::Busy,
            ReleaseError::Refused(Reason::Registered),
            ReleaseError::Refused(Reason::OnlyWholeHugePages(HugeSize::Mib2)),
        ];
        let passing = passing.into_iter().map(|error| Some(Err(error)));
        let outcomes = [released(5)].into_iter().chain(passing).chain([released(3), None]).collect();
        assert_eq!(through(outcomes).stop(), Ok(8));
    }

    #[test]
    fn what_does_not_pass_ends_it_and_is_told() {
        let lasting = [
            ReleaseError::ForkedChild,
            ReleaseError::Refused(Reason::Locked),
            ReleaseError::System { doing: "give memory back", errno: 12 },
        ];
        for error in lasting {
            assert!(!is_passing(error));
            assert_eq!(through(vec![released(5), Some(Err(error))]).stop(), Err(error));
        }
    }

    /// So a program that drops it knows that no release is under way any more.
    #[test]
    fn a_drop_waits_for_the_release_that_is_under_way() {
        static OVER: AtomicBool = AtomicBool::new(false);
        let (told, hear) = mpsc::channel();
        let releaser = Releaser::spawn(SOON, move |_| {
            let _ = told.send(()); // heard once
            std::thread::sleep(Duration::from_millis(100));
            OVER.store(true, Ordering::SeqCst);
            released(0)
        });
        hear.recv().unwrap();
        drop(releaser.unwrap());
        assert!(OVER.load(Ordering::SeqCst));
    }
}
