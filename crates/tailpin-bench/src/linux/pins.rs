//! Pages that the kernel pins: spliced into a pipe, or registered with a ring.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use io_uring::IoUring;
use rustix::pipe::{IoSliceRaw, PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice, vmsplice};
use tailpin::PAGE_SIZE;

use super::huge::HugeMemory;

/// A pipe that pages go into by reference, and from there to nowhere.
pub(crate) struct Spliced {
    read: OwnedFd,
    write: OwnedFd,
    null: File,
}

impl Spliced {
    /// With room for so many pages, which must not be more than fit by the system's limit (256 of
    /// them by default).
    pub(crate) fn new(pages: usize) -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        fcntl_setpipe_size(&write, pages * PAGE_SIZE)?;
        Ok(Self { read, write, null: File::options().write(true).open("/dev/null")? })
    }

    /// Pins pages, which stay so until they are drained.
    pub(crate) fn pin(&self, memory: &HugeMemory, page: usize, pages: usize) -> io::Result<()> {
        let (start, len) = memory.bytes(page, pages);
        // SAFETY: the memory is mapped for as long as it is borrowed; the slice is only told to the
        // kernel. Pages in a pipe outlive their mapping, and nothing reads what is in them.
        let done = unsafe {
            let bytes = std::slice::from_raw_parts(start.as_ptr(), len);
            vmsplice(&self.write, &[IoSliceRaw::from_slice(bytes)], SpliceFlags::NONBLOCK)?
        };
        if done == len { Ok(()) } else { Err(io::Error::other(format!("{done} of {len} bytes"))) }
    }

    /// Unpins so many pages, the first that were pinned.
    pub(crate) fn drain(&self, pages: usize) -> io::Result<()> {
        let mut left = pages * PAGE_SIZE;
        while left > 0 {
            match splice(&self.read, None, &self.null, None, left, SpliceFlags::NONBLOCK)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                done => left -= done,
            }
        }
        Ok(())
    }
}

/// A ring that pages are registered with as one buffer.
pub(crate) struct Registered {
    ring: IoUring,
}

impl Registered {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { ring: IoUring::new(4)? })
    }

    /// Pins pages for long and unpins them again.
    pub(crate) fn pin_and_unpin(&self, memory: &HugeMemory, page: usize, pages: usize) -> io::Result<()> {
        let (start, len) = memory.bytes(page, pages);
        let buffer = libc::iovec { iov_base: start.as_ptr().cast(), iov_len: len };
        // SAFETY: the memory is mapped for longer than this call, at whose end nothing is
        // registered; no operation uses the buffer.
        unsafe { self.ring.submitter().register_buffers(&[buffer])? };
        self.ring.submitter().unregister_buffers()
    }
}

#[cfg(test)]
mod tests {
    use super::Spliced;
    use crate::linux::HugeMemory;

    #[test]
    fn a_page_in_a_pipe_keeps_the_kernel_from_splitting_until_it_is_drained() {
        let (memory, pipe) = match (HugeMemory::new(1), Spliced::new(1)) {
            (Ok(memory), Ok(pipe)) => (memory, pipe),
            (memory, pipe) => return println!("skipped: {:?} {:?}", memory.err(), pipe.err()),
        };
        pipe.pin(&memory, 100, 1).unwrap();
        memory.cold(200).unwrap();
        assert_eq!(memory.huge_blocks(), Ok(1));
        pipe.drain(1).unwrap();
        memory.cold(200).unwrap();
        assert_eq!(memory.huge_blocks(), Ok(0));
    }
}
