//! A buffer that is being filled.

use std::fmt;
use std::io::{self, Read, Write};

use crate::buffer::Buffer;
use crate::slice::Slice;

/// A [`Buffer`] that knows how much of it is filled: what readers of all kinds read into.
///
/// Bytes are read behind those already there. [`ReadBuffer::freeze`] makes a slice of what was filled; whole pages
/// behind it are free for others at once, so a large buffer for a small message costs nothing afterwards.
///
/// With the feature of that name it is a buffer for `tokio`, `compio`, `monoio`, and a `bytes::BufMut`.
///
/// ```
/// use tailpin_arena::{Arena, ReadBuffer};
///
/// let arena = Arena::builder().size(16 << 20).build()?;
/// let mut buffer = ReadBuffer::new(arena.alloc(1 << 20)?);
/// buffer.fill_from(&mut &b"GET / HTTP/1.1\r\n\r\n"[..])?;
/// let request = buffer.freeze();
/// assert_eq!(&request.slice(4..5)[..], b"/");
/// drop(request.clone());
/// assert_eq!(arena.stats().in_use_whole, 4096);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ReadBuffer {
    buffer: Buffer,
    filled: usize,
}

impl ReadBuffer {
    /// Nothing is filled yet.
    pub fn new(buffer: Buffer) -> Self {
        Self { buffer, filled: 0 }
    }

    /// Bytes that fit in all.
    pub fn capacity(&self) -> usize {
        self.buffer.len()
    }

    /// What was filled.
    pub fn filled(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// The room that is left. What stands there is whatever was there before.
    pub fn spare(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled..]
    }

    /// Counts the first `n` bytes of the room that was left as filled.
    ///
    /// # Panics
    /// If there is less room than that.
    pub fn advance(&mut self, n: usize) {
        let room = self.capacity() - self.filled;
        assert!(n <= room, "{n} bytes filled where {room} fit");
        self.filled += n;
    }

    /// Whether no room is left.
    pub fn is_full(&self) -> bool {
        self.filled == self.capacity()
    }

    /// Begins again.
    pub fn clear(&mut self) {
        self.filled = 0;
    }

    /// Reads once. Zero bytes mean the end of the source, or that the buffer is full.
    ///
    /// # Errors
    /// The source's.
    pub fn read_from(&mut self, source: &mut impl Read) -> io::Result<usize> {
        let n = source.read(self.spare())?;
        self.advance(n);
        Ok(n)
    }

    /// Reads until the buffer is full or the source at its end; tells how many bytes came.
    ///
    /// # Errors
    /// The source's, except for [`io::ErrorKind::Interrupted`]. What came before it is filled.
    pub fn fill_from(&mut self, source: &mut impl Read) -> io::Result<usize> {
        let before = self.filled;
        while !self.is_full() {
            match self.read_from(source) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.filled - before)
    }

    /// What was filled, readable for many. Whole pages behind it are free for others at once.
    pub fn freeze(self) -> Slice {
        self.into_buffer().freeze()
    }

    /// What was filled, still writable.
    pub fn into_buffer(mut self) -> Buffer {
        self.buffer.truncate(self.filled);
        self.buffer
    }

    /// All of the buffer, filled or not.
    #[cfg(any(feature = "compio", feature = "monoio"))]
    pub(crate) fn whole(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// Sets what counts as filled.
    ///
    /// # Panics
    /// If that is more than fits.
    #[cfg(any(feature = "compio", feature = "monoio"))]
    pub(crate) fn set_filled(&mut self, filled: usize) {
        assert!(filled <= self.capacity(), "{filled} bytes filled where {} fit", self.capacity());
        self.filled = filled;
    }
}

impl From<Buffer> for ReadBuffer {
    fn from(buffer: Buffer) -> Self {
        Self::new(buffer)
    }
}

impl AsRef<[u8]> for ReadBuffer {
    fn as_ref(&self) -> &[u8] {
        self.filled()
    }
}

impl Write for ReadBuffer {
    /// Writes what fits; zero bytes mean that the buffer is full.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let spare = self.spare();
        let n = bytes.len().min(spare.len());
        spare[..n].copy_from_slice(&bytes[..n]);
        self.advance(n);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for ReadBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadBuffer({} of {} bytes filled)", self.filled, self.capacity())
    }
}
