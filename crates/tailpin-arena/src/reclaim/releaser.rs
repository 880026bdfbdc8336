//! A thread that gives memory back bit by bit.

use std::fmt;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{Builder as ThreadBuilder, JoinHandle};
use std::time::Duration;

use crate::arena::Arena;
use crate::error::ReleaseError;

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

/// A thread that calls [`Arena::release`] until this is dropped, or the arena's last handle is.
///
/// While the arena is registered it waits; so it does where another thread gives back.
pub struct Releaser {
    stop: Sender<()>,
    thread: Option<JoinHandle<Result<usize, ReleaseError>>>,
}

impl Arena {
    /// Starts a thread that gives free memory back at this pace, down to what
    /// [`Builder::keep_resident`](crate::Builder::keep_resident) says shall stay. It does not keep
    /// the arena alive.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tailpin_arena::{Arena, Pace};
    ///
    /// let arena = Arena::builder().size(64 << 20).keep_resident(4 << 20).build()?;
    /// let pace = Pace { step: 16 << 20, interval: Duration::from_millis(1) };
    /// let releaser = arena.spawn_releaser(pace)?;
    /// arena.alloc(32 << 20)?.fill(1);
    /// while arena.stats().free > 4 << 20 {
    ///     std::thread::sleep(Duration::from_millis(1));
    /// }
    /// assert!(releaser.stop()? >= 28 << 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ReleaseError::Refused`] if the arena can give nothing back, ever; [`ReleaseError::System`]
    /// if there is no thread to be had.
    pub fn spawn_releaser(&self, pace: Pace) -> Result<Releaser, ReleaseError> {
        // A first call says whether it is of any use.
        match self.release(0) {
            Ok(_) => {}
            Err(error) if is_passing(error) => {}
            Err(error) => return Err(error),
        }
        let arena = self.downgrade();
        let (stop, stopped) = mpsc::channel();
        let work = move || {
            let mut returned = 0_usize;
            loop {
                match stopped.recv_timeout(pace.interval) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(returned),
                }
                let Some(arena) = arena.upgrade() else { return Ok(returned) };
                match arena.release(pace.step) {
                    Ok(released) => returned = returned.saturating_add(released.returned),
                    Err(error) if is_passing(error) => {}
                    Err(error) => return Err(error),
                }
            }
        };
        let thread = ThreadBuilder::new().name("tailpin-releaser".into()).spawn(work).map_err(|error| {
            ReleaseError::System { doing: "start a thread", errno: error.raw_os_error().unwrap_or(0) }
        })?;
        Ok(Releaser { stop, thread: Some(thread) })
    }
}

/// Whether it may be different another time.
fn is_passing(error: ReleaseError) -> bool {
    use crate::memory::backing::Reason::{OnlyWholeHugePages, Registered};
    matches!(error, ReleaseError::Busy | ReleaseError::Refused(Registered | OnlyWholeHugePages(_)))
}

impl Releaser {
    /// Ends the thread.
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
