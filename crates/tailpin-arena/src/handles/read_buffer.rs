//! A buffer that is being filled.

use std::fmt;
use std::io::{self, Read, Write};
#[cfg(feature = "compio")]
use std::mem::MaybeUninit;
#[cfg(feature = "compio")]
use std::sync::Once;

use crate::handles::buffer::Buffer;
#[cfg(feature = "tokio")]
use crate::handles::fill::Fill;
use crate::handles::slice::Slice;

/// A [`Buffer`] that knows how much of it is filled: what readers of all kinds read into.
///
/// Bytes are read behind those already there. [`ReadBuffer::freeze`] makes a slice of what was
/// filled; whole pages behind it are free for others at once, so a large buffer for a small message
/// costs nothing afterwards.
///
/// With the feature of that name it is a buffer for `tokio`, `compio`, `monoio`, and a
/// `bytes::BufMut`.
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
    /// Complete if the bytes were defined since they were last lent as bytes that need not be
    /// initialised.
    #[cfg(feature = "compio")]
    defined: Once,
}

impl ReadBuffer {
    /// A read buffer over `buffer` of which nothing is filled yet.
    pub fn new(buffer: Buffer) -> Self {
        Self {
            buffer,
            filled: 0,
            #[cfg(feature = "compio")]
            defined: Once::new(),
        }
    }

    /// Bytes that fit into the buffer, filled ones included.
    pub fn capacity(&self) -> usize {
        self.buffer.len()
    }

    /// The bytes that were filled.
    pub fn filled(&self) -> &[u8] {
        self.define();
        &self.buffer[..self.filled]
    }

    /// The room that is left. What stands there is whatever was there before.
    pub fn spare(&mut self) -> &mut [u8] {
        self.define();
        &mut self.buffer[self.filled..]
    }

    /// Counts the first `n` bytes of the room that was left as filled.
    ///
    /// # Panics
    /// If there is less room than that.
    pub fn advance(&mut self, n: usize) {
        let room = self.room();
        assert!(n <= room, "{n} bytes filled where {room} fit");
        self.filled = self.filled.saturating_add(n);
    }

    /// Bytes that still fit: no more are filled than fit in all.
    pub(crate) fn room(&self) -> usize {
        self.capacity().saturating_sub(self.filled)
    }

    /// Whether the buffer has no room left.
    pub fn is_full(&self) -> bool {
        self.filled == self.capacity()
    }

    /// Begins again with nothing filled.
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
        let before = self.room();
        while !self.is_full() {
            match self.read_from(source) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(before.saturating_sub(self.room()))
    }

    /// What was filled, readable for many. Whole pages behind it are free for others at once.
    pub fn freeze(self) -> Slice {
        self.into_buffer().freeze()
    }

    /// What was filled, still writable.
    pub fn into_buffer(mut self) -> Buffer {
        self.define();
        self.buffer.truncate(self.filled);
        self.buffer
    }

    /// All of the buffer, filled or not.
    #[cfg(feature = "monoio")]
    pub(crate) fn whole(&mut self) -> &mut [u8] {
        self.define();
        &mut self.buffer
    }

    /// All of the buffer, filled or not, for one who may leave bytes in it that are not
    /// initialised.
    #[cfg(feature = "compio")]
    pub(crate) fn lend(&mut self) -> &mut [MaybeUninit<u8>] {
        self.defined = Once::new();
        let whole = &mut self.buffer[..];
        // SAFETY: the same bytes. Before they are read as initialised ones again they are defined.
        unsafe { std::slice::from_raw_parts_mut(whole.as_mut_ptr().cast(), whole.len()) }
    }

    /// To be called before any byte is read.
    fn define(&self) {
        #[cfg(feature = "compio")]
        self.defined.call_once(|| {
            // SAFETY: what `lend` gave is gone, as the buffer is borrowed, and who has a reference
            // to the bytes by another way came by here: `call_once` lets one thread do this, once,
            // and the others wait for it.
            unsafe { self.buffer.define() }
        });
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

#[cfg(feature = "tokio")]
impl Fill for ReadBuffer {
    fn spare(&mut self) -> &mut [u8] {
        self.spare()
    }

    fn room(&self) -> usize {
        self.room()
    }

    fn advance(&mut self, n: usize) {
        self.advance(n);
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

#[cfg(all(test, feature = "compio"))]
mod tests {
    use std::mem::MaybeUninit;

    use super::*;
    use crate::Arena;

    /// Each way to the bytes after they were lent passes by where they are defined; none changes
    /// them.
    #[test]
    fn lent_bytes_are_defined_before_they_are_read() {
        let arena = Arena::builder().size(2 << 20).build().unwrap();
        let ways: [fn(&mut ReadBuffer) -> u8; 3] =
            [|buffer| buffer.filled()[0], |buffer| buffer.spare()[0], |buffer| buffer.as_ref()[0]];
        for way in ways {
            let mut buffer = ReadBuffer::new(arena.alloc(2).unwrap());
            buffer.write_all(&[7]).unwrap();
            buffer.spare()[0] = 7;
            assert!(buffer.defined.is_completed());
            buffer.lend().iter_mut().for_each(|byte| *byte = MaybeUninit::new(9));
            buffer.lend();
            assert!(!buffer.defined.is_completed());
            assert_eq!(way(&mut buffer), 9);
            assert!(buffer.defined.is_completed());
            buffer.lend();
            assert_eq!(buffer.into_buffer()[0], 9);
        }
    }
}
