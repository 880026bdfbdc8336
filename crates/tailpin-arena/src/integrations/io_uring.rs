//! `io-uring`: the whole arena as registered ("fixed") buffers of a ring.

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use ::io_uring::types::Fd;
use ::io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::process::{Resource, getrlimit};

use crate::arena::{Arena, Registration};
use crate::error::ReleaseError;
use crate::handles::read_buffer::ReadBuffer;
use crate::handles::scattered::io_vector::IoVector;
use crate::handles::slice::Slice;
use crate::memory::{PAGE_SIZE, bytes_of};

/// The kernel takes at most this much as one registered buffer.
const CHUNK: usize = 1 << 30;
const CHUNK_FRAMES: u64 = (CHUNK / PAGE_SIZE) as u64;

/// An arena registered with a ring: reads and writes of its buffers need no page lookup in the
/// kernel.
///
/// Registering puts memory under the whole arena and pins it there. While it is registered nothing
/// is given back to the system ([`Arena::release`] refuses, and says why); every page still comes
/// back *inside* the arena when its own pin goes. One registration serves buffers of all sizes.
///
/// It has a descriptor of the ring of its own, so that no other ring, which may have been given the
/// number of one that is gone, is ever taken for it. The kernel keeps the ring as long as this or
/// the [`IoUring`] is there.
///
/// If this is dropped without [`FixedBuffers::unregister`], it isn't known when the kernel lets go:
/// the arena then counts as registered, and stays mapped, for the rest of the process.
///
/// ```
/// use io_uring::IoUring;
/// use tailpin_arena::{Arena, ReadBuffer, io_uring::FixedBuffers};
///
/// # let Ok(mut ring) = IoUring::new(8) else { return Ok(()) };
/// # std::fs::write(std::env::temp_dir().join("tailpin-fixed"), b"hello world")?;
/// # let file = std::fs::File::open(std::env::temp_dir().join("tailpin-fixed"))?;
/// let arena = Arena::builder().size(4 << 20).build()?;
/// let fixed = FixedBuffers::register(&arena, &ring)?;
/// let mut buffer = ReadBuffer::new(arena.alloc(2 << 20)?);
/// let entry = fixed.read(&file, &mut buffer, 0).expect("it is this arena's");
/// // SAFETY: the buffer is neither touched nor dropped before the read is complete.
/// unsafe { ring.submission().push(&entry)? };
/// ring.submit_and_wait(1)?;
/// let read = ring.completion().next().expect("one was waited for").result();
/// buffer.advance(read.try_into()?);
/// assert_eq!(buffer.filled(), b"hello world");
/// fixed.unregister().map_err(|(_, error)| error)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FixedBuffers {
    /// GivenBack up only when the kernel has let go.
    registration: ManuallyDrop<Registration>,
    /// The ring, by a descriptor that is this value's.
    ring: OwnedFd,
}

impl FixedBuffers {
    /// Registers all memory of an arena, in chunks of at most 1 GiB. A ring has one set of buffers:
    /// another set must be unregistered first.
    ///
    /// # Errors
    /// [`FixedError`]; nothing is registered then.
    pub fn register<S, C>(arena: &Arena, ring: &IoUring<S, C>) -> Result<Self, FixedError>
    where
        S: squeue::EntryMarker,
        C: cqueue::EntryMarker,
    {
        let number = ring.as_raw_fd();
        // SAFETY: the ring is borrowed, and its descriptor open as long.
        let ring_file =
            unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned().map_err(FixedError::Ring)?;
        let registration = arena.registered().map_err(FixedError::Arena)?;
        let base = arena.base().as_ptr().cast::<libc::c_void>();
        let chunks: Vec<_> = chunks(skew(arena), arena.size())
            .map(|(start, len)| libc::iovec { iov_base: base.wrapping_byte_add(start), iov_len: len })
            .collect();
        // SAFETY: the chunks are the arena's mapping, which stays until the registration is given
        // up: after the kernel has let go, or never.
        match unsafe { ring.submitter().register_buffers(&chunks) } {
            Ok(()) => Ok(Self { registration: ManuallyDrop::new(registration), ring: ring_file }),
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => Err(FixedError::LockLimit {
                bytes: arena.size(),
                limit: getrlimit(Resource::Memlock).current,
            }),
            Err(error) => Err(FixedError::Ring(error)),
        }
    }

    /// The arena whose memory is registered.
    pub fn arena(&self) -> &Arena {
        self.registration.arena()
    }

    /// The number under which the ring knows these bytes; `None` if they are not this arena's.
    pub fn index(&self, bytes: &[u8]) -> Option<u16> {
        let arena = self.arena();
        let start = bytes.as_ptr().addr().checked_sub(arena.base().as_ptr().addr())?;
        // Not the address behind the last byte either, where no buffer of this arena begins.
        let end =
            start.checked_add(bytes.len()).filter(|&end| start < arena.size() && end <= arena.size())?;
        let skew = skew(arena);
        let index = chunk_of(skew, start)?;
        // A block has at most 1 GiB and is aligned to its size, as the chunks are, so no buffer
        // lies in two of them.
        let within = chunk_of(skew, end.saturating_sub(1).max(start)) == Some(index);
        within.then_some(index.try_into().ok()?)
    }

    /// A read from `file` at `offset` into the room that is left in the buffer, at most 4 GiB less
    /// one byte; `None` if the buffer is not this arena's.
    ///
    /// Making the entry is safe; pushing it is not: the thread that pushes it sees to it that the
    /// buffer is neither used nor dropped before the read is complete, and then counts what was
    /// read with [`ReadBuffer::advance`].
    pub fn read(&self, file: &impl AsRawFd, buffer: &mut ReadBuffer, offset: u64) -> Option<squeue::Entry> {
        let room = buffer.spare();
        let index = self.index(room)?;
        let len = u32::try_from(room.len()).unwrap_or(u32::MAX);
        Some(
            opcode::ReadFixed::new(Fd(file.as_raw_fd()), room.as_mut_ptr(), len, index)
                .offset(offset)
                .build(),
        )
    }

    /// A write of the slice to `file` at `offset`; `None` if the slice is not this arena's.
    ///
    /// The thread that pushes it sees to it that the slice is not dropped before the write is
    /// complete.
    pub fn write(&self, file: &impl AsRawFd, slice: &Slice, offset: u64) -> Option<squeue::Entry> {
        let index = self.index(slice)?;
        let len = u32::try_from(slice.len()).unwrap_or(u32::MAX);
        Some(opcode::WriteFixed::new(Fd(file.as_raw_fd()), slice.as_ptr(), len, index).offset(offset).build())
    }

    /// Unregisters. Requests that use the buffers and are not complete keep their pages in the
    /// kernel, which older ones wait for here. Afterwards memory can be given back to the system
    /// again. The ring may be gone already.
    ///
    /// # Errors
    /// The kernel's; together with this, still registered.
    pub fn unregister(self) -> Result<(), (Self, io::Error)> {
        const IORING_UNREGISTER_BUFFERS: libc::c_uint = 1;
        let (nothing, none) = (std::ptr::null::<libc::c_void>(), 0 as libc::c_uint);
        let ring = self.ring.as_raw_fd();
        // SAFETY: the call takes no argument but the ring, and touches no memory of this process.
        let done = unsafe {
            libc::syscall(libc::SYS_io_uring_register, ring, IORING_UNREGISTER_BUFFERS, nothing, none)
        };
        if done < 0 {
            return Err((self, io::Error::last_os_error()));
        }
        drop(ManuallyDrop::into_inner(self.registration));
        Ok(())
    }
}

impl IoVector {
    /// A read from `file` at `offset` into the room, by one `readv`, from any ring.
    ///
    /// The thread that pushes it sees to it that this vector is neither used nor dropped before the
    /// read is complete, and then counts what was read with [`IoVector::set_read`].
    pub fn read(&mut self, file: &impl AsRawFd, offset: u64) -> squeue::Entry {
        // At most 1,024.
        let len = u32::try_from(self.len()).unwrap_or(u32::MAX);
        opcode::Readv::new(Fd(file.as_raw_fd()), self.as_ptr(), len).offset(offset).build()
    }
}

/// How far into a chunk the arena begins: chunks are aligned to their size by frame number, as
/// blocks are.
fn skew(arena: &Arena) -> usize {
    bytes_of(arena.frames().start.get() % CHUNK_FRAMES)
}

/// The number of the chunk that the byte at this offset of the arena lies in.
fn chunk_of(skew: usize, offset: usize) -> Option<usize> {
    Some(offset.checked_add(skew)? / CHUNK)
}

/// Start and length of each chunk of an arena of `size` bytes.
fn chunks(skew: usize, size: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut next = 0;
    // The first is shorter by what lies before the arena.
    let mut room = CHUNK.saturating_sub(skew);
    std::iter::from_fn(move || {
        let (start, len) = (next, room.min(size.saturating_sub(next)));
        (next, room) = (start.saturating_add(len), CHUNK);
        (len > 0).then_some((start, len))
    })
}

/// Why an arena was not registered.
#[derive(Debug)]
#[non_exhaustive]
pub enum FixedError {
    /// The arena refuses.
    Arena(ReleaseError),
    /// The memory may not be locked: raise the limit with `ulimit -l`, or make the arena smaller.
    LockLimit {
        /// What was to be locked, in bytes.
        bytes: usize,
        /// The limit in bytes, `None` if there is none (then memory itself is short).
        limit: Option<u64>,
    },
    /// The ring refuses, for instance because it has buffers already.
    Ring(io::Error),
}

impl fmt::Display for FixedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arena(error) => write!(f, "{error}"),
            Self::LockLimit { bytes, limit: Some(limit) } => {
                write!(f, "can't register {bytes} bytes: {limit} may be locked (ulimit -l)")
            }
            Self::LockLimit { bytes, limit: None } => write!(f, "no memory to register {bytes} bytes"),
            Self::Ring(error) => write!(f, "the ring refuses: {error}"),
        }
    }
}

impl std::error::Error for FixedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Arena(error) => Some(error),
            Self::Ring(error) => Some(error),
            Self::LockLimit { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CHUNK, chunk_of, chunks};

    #[test]
    fn chunks_cover_all_and_are_at_most_a_gibibyte() {
        for skew in [0, 4096, CHUNK - 4096] {
            for size in [4096, 8192, CHUNK, CHUNK + 4096, 2 * CHUNK + 5 * 4096] {
                let mut at = 0;
                for (number, (start, len)) in chunks(skew, size).enumerate() {
                    assert_eq!(chunk_of(skew, start), Some(number));
                    assert_eq!(chunk_of(skew, start + len - 1), Some(number));
                    assert_eq!(start, at);
                    assert!(len > 0 && len <= CHUNK);
                    assert_eq!((skew + start) / CHUNK, (skew + start + len - 1) / CHUNK);
                    at += len;
                }
                assert_eq!(at, size);
            }
        }
    }
}
