//! What only trying tells: each probe maps a little memory of its own and does the thing.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

use tailpin::PAGE_SIZE;

use super::check::{Check, as_root};
use crate::linux::text;

const HUGE: usize = 2 << 20;

/// All of them, in the order of the table.
pub(super) fn checks() -> Vec<Check> {
    vec![page_size(), memory(), process_madvise(), madvise_collapse(), memfd(), pagemap(), io_uring(), rseq()]
}

/// Private anonymous memory, readable and writable, unmapped with this.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(len: usize) -> io::Result<Self> {
        // SAFETY: a new private mapping at an address of the kernel's choice touches nothing that
        // exists.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start: NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?, len })
    }

    /// The first place from which `align` bytes follow, aligned to `align`.
    fn aligned(&self, align: usize) -> usize {
        self.start.as_ptr().addr().wrapping_neg() & (align - 1)
    }

    fn touch(&mut self) {
        for at in (0..self.len).step_by(PAGE_SIZE) {
            // SAFETY: `at` is inside the mapping, which this owns alone.
            unsafe { self.start.as_ptr().add(at).write_volatile(0xA5) };
        }
    }

    fn byte(&self, at: usize) -> u8 {
        assert!(at < self.len);
        // SAFETY: inside the mapping, which is readable for as long as this lives.
        unsafe { self.start.as_ptr().add(at).read_volatile() }
    }

    fn advise(&mut self, at: usize, len: usize, advice: libc::c_int) -> io::Result<()> {
        assert!(at + len <= self.len);
        // SAFETY: the range is inside the mapping, which this owns alone; no reference into it is
        // live.
        let result = unsafe { libc::madvise(self.start.as_ptr().add(at).cast(), len, advice) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped; nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

fn page_size() -> Check {
    // SAFETY: takes a number and gives one.
    match unsafe { libc::sysconf(libc::_SC_PAGESIZE) } {
        size if usize::try_from(size) == Ok(PAGE_SIZE) => Check::ok("page_size", size.to_string()),
        other => Check::fail(
            "page_size",
            other.to_string(),
            "boot a kernel with 4 KiB pages: frames are 4 KiB here",
        ),
    }
}

fn memory() -> Check {
    const NAME: &str = "memory";
    match Mapping::new(2 * HUGE) {
        Ok(mut mapping) => {
            mapping.touch();
            if (0..mapping.len).step_by(PAGE_SIZE).all(|at| mapping.byte(at) == 0xA5) {
                Check::ok(NAME, "4 MiB mapped, written and read back")
            } else {
                Check::fail(NAME, "what was written was not there", "test the machine's memory")
            }
        }
        Err(error) => Check::fail(
            NAME,
            format!("4 MiB can't be mapped: {error}"),
            "raise the address-space limit: ulimit -v unlimited",
        ),
    }
}

/// The vectored call that gives back all holes of a block at once, on this process itself.
fn process_madvise() -> Check {
    const NAME: &str = "process_madvise";
    let dropped = || -> io::Result<bool> {
        let mut mapping = Mapping::new(4 * PAGE_SIZE)?;
        mapping.touch();
        // SAFETY: takes numbers; the result is checked.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was just opened and that no other owner has.
        let pid = unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) };
        let hole = |page: usize| libc::iovec {
            // SAFETY: page 1 and page 3 of four.
            iov_base: unsafe { mapping.start.as_ptr().add(page * PAGE_SIZE).cast() },
            iov_len: PAGE_SIZE,
        };
        let holes = [hole(1), hole(3)];
        // SAFETY: both ranges are inside the mapping, which is this function's own; no reference
        // into it is live.
        let done = unsafe {
            libc::syscall(
                libc::SYS_process_madvise,
                pid.as_raw_fd(),
                holes.as_ptr(),
                holes.len(),
                libc::MADV_DONTNEED,
                0,
            )
        };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok([0, 1, 2, 3].map(|page| mapping.byte(page * PAGE_SIZE)) == [0xA5, 0, 0xA5, 0])
    };
    let advice = "none needed: memory is given back with one madvise per hole instead";
    match dropped() {
        Ok(true) => Check::ok(NAME, "drops two holes with one call"),
        Ok(false) => Check::hint(NAME, "returned success and dropped nothing", advice),
        Err(error) => Check::hint(NAME, format!("refused: {error}"), advice),
    }
}

/// Huge pages made again on request, when a split pageblock has become whole.
fn madvise_collapse() -> Check {
    const NAME: &str = "madvise_collapse";
    let collapsed = || -> io::Result<()> {
        let mut mapping = Mapping::new(2 * HUGE)?;
        let at = mapping.aligned(HUGE);
        mapping.advise(at, HUGE, libc::MADV_NOHUGEPAGE)?;
        mapping.touch();
        mapping.advise(at, HUGE, libc::MADV_HUGEPAGE)?;
        mapping.advise(at, HUGE, libc::MADV_COLLAPSE)
    };
    match collapsed() {
        Ok(()) => Check::ok(NAME, "512 pages made one huge page"),
        Err(error) => Check::hint(
            NAME,
            format!("refused: {error}"),
            "Linux 6.1 or later with transparent huge pages; without it khugepaged does it, later",
        ),
    }
}

/// Memory that another process can map, and a hole punched into it.
fn memfd() -> Check {
    const NAME: &str = "memfd";
    let punched = || -> io::Result<bool> {
        // SAFETY: a constant, terminated name; the result is checked.
        let fd = unsafe { libc::memfd_create(c"tailpin-doctor".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was just opened and that no other owner has.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        file.write_all_at(&[0xA5; 2 * PAGE_SIZE], 0)?;
        // SAFETY: an open descriptor and plain numbers.
        let result = unsafe {
            libc::fallocate(
                file.as_raw_fd(),
                libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
                0,
                PAGE_SIZE as libc::off_t,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        let mut pages = [0xFF; 2 * PAGE_SIZE];
        file.read_exact_at(&mut pages, 0)?;
        Ok(pages[..PAGE_SIZE].iter().all(|&byte| byte == 0)
            && pages[PAGE_SIZE..].iter().all(|&byte| byte == 0xA5))
    };
    match punched() {
        Ok(true) => Check::ok(NAME, "made, and a hole punched"),
        Ok(false) => Check::hint(NAME, "the hole still has its contents", "use anonymous memory"),
        Err(error) => Check::hint(NAME, format!("refused: {error}"), "use anonymous memory"),
    }
}

/// Where pages really lie: tests of alignment need it, the library doesn't.
fn pagemap() -> Check {
    const NAME: &str = "pagemap";
    let frame = || -> io::Result<u64> {
        let mut mapping = Mapping::new(PAGE_SIZE)?;
        mapping.touch();
        let mut entry = [0; 8];
        let at = mapping.start.as_ptr().addr() / PAGE_SIZE * 8;
        File::open("/proc/self/pagemap")?.read_exact_at(&mut entry, at as u64)?;
        Ok(u64::from_ne_bytes(entry) & ((1 << 55) - 1))
    };
    let advice = "only tests of physical alignment need it: run them as root (CAP_SYS_ADMIN)";
    match frame() {
        Ok(0) => Check::hint(NAME, "frame numbers are hidden", advice),
        Ok(_) => Check::ok(NAME, "frame numbers are readable"),
        Err(error) => Check::hint(NAME, format!("can't be read: {error}"), advice),
    }
}

/// A real ring with a real registered buffer.
fn io_uring() -> Check {
    const NAME: &str = "io_uring";
    let setting = text::number("/proc/sys/kernel/io_uring_disabled");
    let ring = match io_uring::IoUring::new(4) {
        Ok(ring) => ring,
        Err(error) => {
            return Check::hint(
                NAME,
                format!("no ring: {error}"),
                match setting {
                    Some(1 | 2) => as_root("sysctl -w kernel.io_uring_disabled=0"),
                    _ => {
                        "allow io_uring in the container's seccomp profile, or use Linux 5.6 or later".into()
                    }
                },
            );
        }
    };
    let registered = Mapping::new(PAGE_SIZE).and_then(|mut mapping| {
        mapping.touch();
        let buffer = libc::iovec { iov_base: mapping.start.as_ptr().cast(), iov_len: PAGE_SIZE };
        // SAFETY: the buffer is mapped and outlives its registration, which ends in the next call.
        unsafe { ring.submitter().register_buffers(&[buffer]) }?;
        ring.submitter().unregister_buffers()
    });
    match registered {
        Ok(()) => Check::ok(NAME, "ring set up, buffer registered"),
        Err(error) => Check::hint(
            NAME,
            format!("ring set up, buffer refused: {error}"),
            "for one shell, as root: ulimit -l unlimited",
        ),
    }
}

/// Restartable sequences, which tell a thread its CPU without a system call.
fn rseq() -> Check {
    const NAME: &str = "rseq";
    // SAFETY: no memory is given, so nothing can be registered; the call only tells whether it
    // exists.
    unsafe { libc::syscall(libc::SYS_rseq, std::ptr::null_mut::<u8>(), 0, 0, 0) };
    if io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
        return Check::hint(
            NAME,
            "not in this kernel",
            "Linux 4.18 or later; threads find their caches without it",
        );
    }
    // SAFETY: a constant, terminated name; the result is looked at, not called.
    let size = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_size".as_ptr()) };
    if size.is_null() {
        Check::ok(NAME, "in the kernel, not registered by the C library")
    } else {
        Check::ok(NAME, "in the kernel, registered by the C library")
    }
}

#[cfg(test)]
mod tests {
    use super::{HUGE, Mapping, PAGE_SIZE};

    #[test]
    fn a_mapping_is_one_s_own_and_aligned_where_it_says() {
        let mut mapping = Mapping::new(2 * HUGE).unwrap();
        let at = mapping.aligned(HUGE);
        assert!(at < HUGE && (mapping.start.as_ptr().addr() + at).is_multiple_of(HUGE));
        mapping.touch();
        mapping.advise(at, PAGE_SIZE, libc::MADV_DONTNEED).unwrap();
        assert_eq!((mapping.byte(at), mapping.byte(at + PAGE_SIZE)), (0, 0xA5));
    }
}
