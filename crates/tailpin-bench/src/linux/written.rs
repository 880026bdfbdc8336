//! The addresses that a piece of code writes to, wherever in the memory of the process: by the
//! processor's own word, of code as it ships.
//!
//! While it is watched, what was mapped beforehand is closed for writing. Each instruction that
//! writes there stumbles, which tells the address; its page is opened, the instruction is taken
//! alone (the processor's trap flag) and the page is closed again.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize, Ordering};

use libc::{c_int, c_void, siginfo_t, ucontext_t};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};
use tailpin::PAGE_SIZE;

/// Most writes of one piece of code.
const MOST: usize = 4096;
/// Most pages that one instruction writes to.
const MOST_OPEN: usize = 4;
/// `SEGV_ACCERR`: something is mapped there, but closed.
const NOT_ALLOWED: c_int = 2;
/// Of the processor's flags: stop after the next instruction.
const TRAP: i64 = 0x100;

/// What the signal handlers work with, in memory that is never closed.
struct Notes {
    /// The thread that is watched; 0 if none is.
    thread: AtomicI32,
    written: AtomicUsize,
    addresses: [AtomicUsize; MOST],
    /// Pages open for the instruction that is taken alone; 0 where none is.
    open: [AtomicUsize; MOST_OPEN],
}

/// Set once, before anything is watched.
static NOTES: AtomicPtr<Notes> = AtomicPtr::new(null_mut());

/// Memory to be watched.
pub(crate) struct Watch {
    notes: &'static Notes,
    /// Address and length of each mapping.
    mappings: Vec<(NonNull<c_void>, usize)>,
}

// SAFETY: the mappings are the process's, whichever thread closes them.
unsafe impl Send for Watch {}
// SAFETY: likewise; that one thread at a time is watched `Watch::writes` sees to.
unsafe impl Sync for Watch {}

impl Watch {
    /// All that is mapped for writing at this moment, but for the threads' [own
    /// memory](own_addresses) and for what lies in `data`.
    ///
    /// # Safety
    /// It is called once in a process, of which these are all threads, and which has no uses of its
    /// own for `SIGSEGV` and `SIGTRAP`. What is mapped stays so.
    pub(crate) unsafe fn all_but(threads: &[[usize; 2]], data: Range<usize>) -> io::Result<Self> {
        let maps = std::fs::read_to_string("/proc/self/maps")?;
        let is_watched = |(start, len): &(usize, usize)| {
            let mapping = *start..start.saturating_add(*len);
            !data.contains(start) && !threads.as_flattened().iter().any(|own| mapping.contains(own))
        };
        let mappings = maps.lines().filter_map(writable).filter(is_watched);
        let mappings =
            mappings.filter_map(|(start, len)| Some((NonNull::new(start as *mut c_void)?, len))).collect();
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a mapping of its own.
        let notes = unsafe { mmap_anonymous(null_mut(), size_of::<Notes>(), access, flags) }?;
        // Relaxed: no other thread is watched before it hears of this.
        NOTES.store(notes.cast(), Ordering::Relaxed);
        handle(libc::SIGSEGV, stumbled)?;
        handle(libc::SIGTRAP, stepped)?;
        // SAFETY: it is mapped for good, and zeroes are what the notes begin with.
        Ok(Self { notes: unsafe { &*notes.cast::<Notes>() }, mappings })
    }

    /// The addresses that `work` writes to, one after the other.
    ///
    /// # Panics
    /// If they are too many.
    ///
    /// # Safety
    /// The memory of this thread's own is not watched. `work` makes no call of the system
    /// that writes to memory, and no other thread is watched.
    pub(crate) unsafe fn writes<T>(&self, work: impl FnOnce() -> T) -> (Vec<usize>, T) {
        // Relaxed, here and in the handlers: it is all done by one thread.
        self.notes.written.store(0, Ordering::Relaxed);
        self.notes.thread.store(thread(), Ordering::Relaxed);
        self.protect(MprotectFlags::READ);
        let done = work();
        self.protect(MprotectFlags::READ | MprotectFlags::WRITE);
        self.notes.thread.store(0, Ordering::Relaxed);
        let written = self.notes.written.load(Ordering::Relaxed);
        assert!(written <= MOST, "{written} writes");
        let addresses = self.notes.addresses.iter().take(written);
        (addresses.map(|address| address.load(Ordering::Relaxed)).collect(), done)
    }

    fn protect(&self, access: MprotectFlags) {
        for (address, len) in &self.mappings {
            // SAFETY: it is mapped for good. Who writes to it while it is closed stumbles, and goes
            // on when it may.
            let done = unsafe { mprotect(address.as_ptr(), *len, access) };
            assert!(done.is_ok(), "what could be written to can be closed and opened: {done:?}");
        }
    }
}

/// Address and length of a mapping that can be written to, by a line of the kernel's list.
fn writable(line: &str) -> Option<(usize, usize)> {
    let mut parts = line.split_whitespace();
    let (start, end) = parts.next()?.split_once('-')?;
    let is_writable = parts.next()?.starts_with("rw");
    let address = |hex| usize::from_str_radix(hex, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    is_writable.then_some((start, end.saturating_sub(start)))
}

/// Where memory of this thread's alone lies: an address on its stack, where signals are told, and
/// one among its thread-locals, where the kernel writes which processor it is on.
#[inline(never)]
pub(crate) fn own_addresses() -> [usize; 2] {
    thread_local!(static LOCAL: Cell<u8> = const { Cell::new(0) });
    let here = 0_u8;
    [std::hint::black_box(&raw const here).addr(), LOCAL.with(|local| local.as_ptr().addr())]
}

fn thread() -> i32 {
    // SAFETY: says a number.
    unsafe { libc::gettid() }
}

type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

fn handle(signal: c_int, handler: Handler) -> io::Result<()> {
    // SAFETY: zeroes are an action without flags and with an empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the handlers do nothing but system calls and steps on memory that is always open.
    match unsafe { libc::sigaction(signal, &raw const action, null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The notes, for a handler.
fn notes() -> &'static Notes {
    // SAFETY: they were there before the handlers were, and stay.
    unsafe { &*NOTES.load(Ordering::Relaxed) }
}

fn protect_page(page: usize, access: c_int) {
    // SAFETY: a page of a mapping that is being watched.
    unsafe { libc::mprotect(page as *mut c_void, PAGE_SIZE, access) };
}

/// # Safety
/// The context is that of a handler.
unsafe fn flags<'a>(context: *mut c_void) -> &'a mut i64 {
    // SAFETY: the caller's promise.
    unsafe { &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs[libc::REG_EFL as usize] }
}

/// An instruction wrote to memory that is closed, or that was until just now; or there is a fault
/// of another kind.
extern "C" fn stumbled(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let notes = notes();
    // SAFETY: of this signal the address is told.
    let address = unsafe { (*info).si_addr() } as usize;
    // SAFETY: as above.
    if unsafe { (*info).si_code } != NOT_ALLOWED {
        // SAFETY: sets what was there at first. The instruction faults again, and the process ends.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    } else if notes.thread.load(Ordering::Relaxed) == thread() {
        let page = address & !(PAGE_SIZE - 1);
        let at = notes.written.fetch_add(1, Ordering::Relaxed);
        if let Some(place) = notes.addresses.get(at) {
            place.store(address, Ordering::Relaxed);
        }
        if let Some(open) = notes.open.iter().find(|open| open.load(Ordering::Relaxed) == 0) {
            open.store(page, Ordering::Relaxed);
        }
        protect_page(page, libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: the handler's own context.
        *unsafe { flags(context) } |= TRAP;
    }
    // Another thread tries again until it may.
}

/// The instruction that was taken alone is done.
extern "C" fn stepped(_signal: c_int, _info: *mut siginfo_t, context: *mut c_void) {
    for open in &notes().open {
        match open.swap(0, Ordering::Relaxed) {
            0 => {}
            page => protect_page(page, libc::PROT_READ),
        }
    }
    // SAFETY: the handler's own context.
    *unsafe { flags(context) } &= !TRAP;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::linux::told_by_a_copy;

    #[test]
    fn each_write_is_seen_also_one_that_changes_nothing() {
        static WORDS: [AtomicU64; 3] = [const { AtomicU64::new(5) }; 3];
        let seen = told_by_a_copy(|| {
            let at = |i: usize| (&raw const WORDS[i]).addr();
            let work = || {
                WORDS[0].store(5, Ordering::Relaxed);
                let _ = WORDS[1].load(Ordering::Relaxed);
                let _ = WORDS[2].compare_exchange(5, 6, Ordering::Relaxed, Ordering::Relaxed);
                WORDS[0].fetch_add(1, Ordering::Relaxed);
            };
            // SAFETY: the copy has one thread.
            let watch =
                unsafe { Watch::all_but(&[own_addresses()], 0..0) }.map_err(|error| error.to_string())?;
            // SAFETY: its own memory is not watched; it makes no call of the system.
            let (writes, ()) = unsafe { watch.writes(work) };
            Ok(f64::from(u8::from(writes == [at(0), at(2), at(0)])))
        });
        assert_eq!(seen, Ok(1.0));
    }
}
