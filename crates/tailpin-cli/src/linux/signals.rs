//! Signals that would end the process where an error can be told.

/// The exit code of [`Status::Unusable`](crate::Status::Unusable).
const UNUSABLE: i32 = crate::Status::Unusable as i32;

/// From here on a file above the limit on file sizes is an error of the write, and memory that
/// can't be had for something small ends the process with an exit code.
pub(crate) fn become_errors() {
    let ends: extern "C" fn(libc::c_int) = ends;
    // SAFETY: called before any other thread is started. An ignored signal runs nothing; `ends`
    // calls only what may be called in a signal handler.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::signal(libc::SIGABRT, ends as libc::sighandler_t);
    }
}

/// The standard library has said why it aborts, on standard error.
extern "C" fn ends(_signal: libc::c_int) {
    // SAFETY: allowed in a signal handler.
    unsafe { libc::_exit(UNUSABLE) }
}

/// While it lives, the signals that ask the process to end (Ctrl-C, `SIGTERM`) wait to be asked
/// for. They end the process again when it is dropped.
pub(crate) struct Waiting {
    ending: libc::sigset_t,
    before: libc::sigset_t,
}

impl Waiting {
    /// For this thread and those that it starts from here on.
    pub(crate) fn begin() -> Self {
        // SAFETY: a set of signals is plain bits, and zeros are one.
        let (mut ending, mut before): (libc::sigset_t, libc::sigset_t) = unsafe { std::mem::zeroed() };
        // SAFETY: both sets are this function's own, and the mask is this thread's.
        unsafe {
            libc::sigemptyset(&raw mut ending);
            libc::sigaddset(&raw mut ending, libc::SIGINT);
            libc::sigaddset(&raw mut ending, libc::SIGTERM);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const ending, &raw mut before);
        }
        Self { ending, before }
    }

    /// Waits for so long, or for one of the signals: whether there was one.
    pub(crate) fn wait(&self, time: std::time::Duration) -> bool {
        let time = libc::timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
        // SAFETY: reads the set and the time; what the signal says of itself is not asked for.
        unsafe { libc::sigtimedwait(&raw const self.ending, std::ptr::null_mut(), &raw const time) > 0 }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // SAFETY: gives this thread the mask that it had before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}
