//! How the process ends once a command is done.

use std::io::{self, Write};

use crate::Status;

/// Ends the process at once, without what C libraries do at the end: where a limit on address space
/// let mimalloc, one of the allocators that `bench` measures, have nothing at the start, it dies of
/// a signal there, after a command that never used it.
pub(crate) fn end(status: Status) -> ! {
    // Whether it could be written has been said where it was.
    let _ = io::stdout().flush();
    // SAFETY: ends the process. No other thread has anything left to do.
    unsafe { libc::_exit(status as libc::c_int) }
}
