//! The room of a scattered buffer as the list that `readv` takes.

use crate::handles::scattered::buffer::ScatteredBuffer;

/// A [`ScatteredBuffer`] with the list of the ranges that a read is to fill, as the kernel takes it
/// (`struct iovec`): for `io-uring` and `monoio`, which want the list to stay where it is while the
/// read is under way.
///
/// ```no_run
/// use io_uring::IoUring;
/// use tailpin_arena::{Arena, IoVector};
///
/// let mut ring = IoUring::new(8)?;
/// let file = std::fs::File::open("segment")?;
/// let arena = Arena::builder().limit(64 << 20).build()?;
/// let mut vector = IoVector::from(arena.alloc_scattered(4 << 20, 65_536)?);
/// let entry = vector.read(&file, 0);
/// // SAFETY: the vector is neither used nor dropped before the read is complete.
/// unsafe { ring.submission().push(&entry)? };
/// ring.submit_and_wait(1)?;
/// let read = ring.completion().next().expect("one was waited for").result();
/// vector.set_read(read.try_into()?);
/// let bytes = vector.into_buffer().freeze();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct IoVector {
    /// Into the buffer's room.
    ranges: Vec<libc::iovec>,
    /// Bytes that were filled when the list was made.
    before: usize,
    buffer: ScatteredBuffer,
}

// SAFETY: the addresses are of the buffer's bytes, which are this value's alone.
unsafe impl Send for IoVector {}
// SAFETY: a shared vector gives no access to the bytes.
unsafe impl Sync for IoVector {}

impl From<ScatteredBuffer> for IoVector {
    fn from(mut buffer: ScatteredBuffer) -> Self {
        let slices = buffer.spare_slices();
        let range = |slice: &mut std::io::IoSliceMut<'_>| libc::iovec {
            iov_base: slice.as_mut_ptr().cast(),
            iov_len: slice.len(),
        };
        let ranges = slices.into_iter().map(|mut slice| range(&mut slice)).collect();
        Self { ranges, before: buffer.len(), buffer }
    }
}

impl IoVector {
    /// Ranges in the list: at most 1,024.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether the buffer had no room.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Where the list of ranges begins, for the system call.
    pub fn as_ptr(&self) -> *const libc::iovec {
        self.ranges.as_ptr()
    }

    #[cfg(feature = "monoio")]
    pub(crate) fn as_mut_ptr(&mut self) -> *mut libc::iovec {
        self.ranges.as_mut_ptr()
    }

    /// Counts the first `n` bytes of the ranges as filled.
    ///
    /// # Panics
    /// If there was less room than that.
    pub fn set_read(&mut self, n: usize) {
        let already = self.buffer.len().saturating_sub(self.before);
        self.buffer.advance(n.saturating_sub(already));
    }

    /// Gives back the buffer that the ranges are of.
    pub fn into_buffer(self) -> ScatteredBuffer {
        self.buffer
    }
}

impl std::fmt::Debug for IoVector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IoVector({} ranges of {:?})", self.ranges.len(), self.buffer)
    }
}
