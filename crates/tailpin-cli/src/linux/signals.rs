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
