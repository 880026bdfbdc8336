//! A copy of this process.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tailpin::PAGE_SIZE;

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
    waitpid(Some(pid(child)?), WaitOptions::empty())?;
    Ok(())
}

fn pid(child: libc::pid_t) -> io::Result<Pid> {
    Pid::from_raw(child).filter(|_| child > 0).ok_or_else(io::Error::last_os_error)
}

/// How long a copy may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most bytes of what a copy says.
const MOST: usize = PAGE_SIZE - size_of::<usize>();

/// What a copy says, in memory that it shares with this process.
#[repr(C)]
struct Answer {
    /// Bytes of the text; 0 as long as there is no answer.
    len: AtomicUsize,
    text: [AtomicU8; MOST],
}

impl Answer {
    // Relaxed, all of it: the end of the copy is in between.
    fn say(&self, text: &str) {
        let bytes = text.bytes().take(MOST);
        let said = self.text.iter().zip(bytes).map(|(place, byte)| place.store(byte, Ordering::Relaxed));
        self.len.store(said.count(), Ordering::Relaxed);
    }

    fn said(&self) -> String {
        let len = self.len.load(Ordering::Relaxed);
        let bytes: Vec<u8> = self.text.iter().take(len).map(|byte| byte.load(Ordering::Relaxed)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// What `work` says in a copy of this process, which has one thread and ends afterwards.
///
/// A copy may hang that was made while another thread was about to change what all share: it is
/// ended then, and the next one is asked.
pub(crate) fn told_by_a_copy(work: impl Fn() -> Result<f64, String>) -> Result<f64, String> {
    for _ in 0..3 {
        if let Some(said) = said_by_one_copy(&work)? {
            return said.parse().map_err(|_| said);
        }
    }
    Err("no copy of this process comes to an end".to_owned())
}

/// What one copy says: a number, or why there is none. `None` if it had to be ended.
fn said_by_one_copy(work: &impl Fn() -> Result<f64, String>) -> Result<Option<String>, String> {
    let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    // SAFETY: a mapping of its own.
    let page = unsafe { mmap_anonymous(null_mut(), size_of::<Answer>(), access, flags) };
    let page = page.map_err(|error| error.to_string())?;
    // SAFETY: it is mapped until the end of this function, and zeroes are an answer.
    let answer = unsafe { &*page.cast::<Answer>() };
    // SAFETY: the C library's allocator and threads work in a copy; what else another thread may
    // have been in the middle of can make it hang, which is noticed.
    let child = match unsafe { libc::fork() } {
        0 => {
            answer.say(&match catch_unwind(AssertUnwindSafe(work)) {
                Ok(Ok(value)) => value.to_string(),
                Ok(Err(why)) => why,
                Err(panic) => match panic.downcast::<String>() {
                    Ok(why) => *why,
                    Err(panic) => format!("it panicked: {:?}", panic.downcast_ref::<&str>()),
                },
            });
            // SAFETY: ends the process, without what the parent has for its end.
            unsafe { libc::_exit(0) }
        }
        child => pid(child).map_err(|error| error.to_string())?,
    };
    let since = Instant::now();
    let status = loop {
        match waitpid(Some(child), WaitOptions::NOHANG).map_err(|error| error.to_string())? {
            Some((_, status)) => break Some(status),
            None if since.elapsed() > PATIENCE => {
                let _ = kill_process(child, Signal::KILL);
                let _ = waitpid(Some(child), WaitOptions::empty());
                break None;
            }
            None => sleep(Duration::from_millis(1)),
        }
    };
    let said = answer.said();
    // SAFETY: nothing uses it any more.
    let _ = unsafe { munmap(page, size_of::<Answer>()) };
    Ok(status.map(|status| if said.is_empty() { format!("the copy ended: {status:?}") } else { said }))
}
