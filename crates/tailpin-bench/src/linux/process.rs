//! A copy of this process.

use std::io;

use rustix::process::{Pid, WaitOptions, waitpid};

/// Forks; the child ends at once, and the parent waits for its end.
pub(crate) fn fork_and_wait() -> io::Result<()> {
    // SAFETY: the child calls nothing but `_exit`, which is allowed after a fork of a process with
    // threads.
    let child = unsafe {
        match libc::fork() {
            0 => libc::_exit(0),
            child => child,
        }
    };
    let Some(child) = Pid::from_raw(child).filter(|_| child > 0) else {
        return Err(io::Error::last_os_error());
    };
    waitpid(Some(child), WaitOptions::empty())?;
    Ok(())
}
