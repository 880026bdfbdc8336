//! A buffer in pieces that is being filled.

use std::fmt;
use std::io::{self, IoSliceMut, Read, Write};
#[cfg(feature = "compio")]
use std::mem::MaybeUninit;
#[cfg(feature = "compio")]
use std::sync::Once;

#[cfg(feature = "tokio")]
use crate::handles::fill::Fill;
use crate::handles::scattered::pieces::{Pieces, VECTOR_LIMIT};
use crate::handles::scattered::slices::Scattered;

/// Writable memory in pieces of one size, each a block of its own, that knows how much of it is
/// filled. From [`Arena::alloc_scattered`](crate::Arena::alloc_scattered).
///
/// It is what to read into where some of what is read is kept for long and the rest is not: each
/// piece comes back whole when its own last handle goes. No huge page is split, no block is
/// shredded, and nothing has to be gathered, so a cache in steady state goes round in the memory it
/// has.
///
/// `readv` and io_uring fill it in one call ([`ScatteredBuffer::spare_slices`]); with the feature
/// of that name it is a buffer for `tokio`, `compio`, `monoio`, `io-uring`, and a `bytes::BufMut`.
///
/// ```
/// use tailpin_arena::Arena;
///
/// let arena = Arena::builder().limit(64 << 20).build()?;
/// let mut buffer = arena.alloc_scattered(4 << 20, 4096)?;
/// buffer.fill_from(&mut std::io::repeat(7))?; // 4 MiB, in as few calls as the source allows
/// let read = buffer.freeze();
/// let block = read.slice(8192..12_288);
/// drop(read); // 1,023 of its 1,024 pieces are free
/// assert_eq!((block.len(), arena.in_use()), (4096, 4096));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ScatteredBuffer {
    pieces: Pieces,
    capacity: usize,
    filled: usize,
    /// Complete if the bytes were defined since they were last lent as bytes that need not be
    /// initialised.
    #[cfg(feature = "compio")]
    defined: Once,
}

// SAFETY: the buffer owns its bytes as a `Box<[u8]>` does.
unsafe impl Send for ScatteredBuffer {}
// SAFETY: a shared buffer can only be read.
unsafe impl Sync for ScatteredBuffer {}

impl ScatteredBuffer {
    /// Nothing is filled yet. `capacity` is at most the bytes of all pieces.
    pub(crate) fn new(pieces: Pieces, capacity: usize) -> Self {
        debug_assert!(capacity <= pieces.bytes());
        Self {
            pieces,
            capacity,
            filled: 0,
            #[cfg(feature = "compio")]
            defined: Once::new(),
        }
    }

    /// Bytes that fit into all pieces together.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes of each piece.
    pub fn piece(&self) -> usize {
        self.pieces.piece()
    }

    /// Bytes that are filled.
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Whether nothing is filled.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Whether the buffer has no room left.
    pub fn is_full(&self) -> bool {
        self.filled == self.capacity
    }

    /// Begins again with nothing filled.
    pub fn clear(&mut self) {
        self.filled = 0;
    }

    /// What is filled, in the order of the bytes. Pieces that lie side by side are one.
    pub fn filled(&self) -> impl Iterator<Item = &[u8]> {
        self.define();
        // SAFETY: the pieces are this buffer's alone, mapped, initialised, and borrowed with it.
        self.pieces.runs(0..self.filled).map(|run| unsafe { run.as_ref() })
    }

    /// The next bytes of the room that is left that lie side by side; none if it is full.
    pub fn spare(&mut self) -> &mut [u8] {
        self.define();
        // SAFETY: as in `filled`, exclusively.
        unsafe { self.pieces.run(self.filled, self.capacity).as_mut() }
    }

    /// The room that is left, for one vectored read: at most 1,024 ranges. Count what was read with
    /// [`ScatteredBuffer::advance`].
    pub fn spare_slices(&mut self) -> Vec<IoSliceMut<'_>> {
        self.define();
        let runs = self.pieces.runs(self.filled..self.capacity).take(VECTOR_LIMIT);
        // SAFETY: as in `filled`, exclusively; no two runs have a byte in common.
        runs.map(|mut run| IoSliceMut::new(unsafe { run.as_mut() })).collect()
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

    /// Bytes that still fit.
    pub(crate) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.filled)
    }

    /// Reads once, into as many pieces as the source fills. Zero bytes mean the end of the source,
    /// or that the buffer is full.
    ///
    /// # Errors
    /// The source's.
    pub fn read_from(&mut self, source: &mut impl Read) -> io::Result<usize> {
        let n = source.read_vectored(&mut self.spare_slices())?;
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
        Ok(self.filled.saturating_sub(before))
    }

    /// What was filled, readable for many. Pieces behind it, and whole pages behind it in the last
    /// piece, are free for others at once.
    pub fn freeze(self) -> Scattered {
        self.define();
        if self.pieces.is_child() {
            // The counts are the parent's to change.
            return Scattered::default();
        }
        let (whole, last) = self.pieces.freeze(self.filled);
        Scattered::new(whole, last)
    }

    /// All of it, filled or not, for one who may leave bytes in it that are not initialised.
    #[cfg(feature = "compio")]
    pub(crate) fn lend(&mut self) -> impl Iterator<Item = &mut [MaybeUninit<u8>]> {
        self.defined = Once::new();
        self.pieces.runs(0..self.capacity).map(|run| {
            let start = run.cast::<MaybeUninit<u8>>().as_ptr();
            // SAFETY: as in `spare_slices`. Before they are read as initialised bytes again they
            // are defined.
            unsafe { std::slice::from_raw_parts_mut(start, run.len()) }
        })
    }

    /// For each of the ranges that `lend` gives, what is filled of it.
    #[cfg(feature = "compio")]
    pub(crate) fn filled_of_each(&self) -> impl Iterator<Item = &[u8]> {
        self.define();
        let mut left = self.filled;
        self.pieces.runs(0..self.capacity).map(move |run| {
            let n = left.min(run.len());
            left = left.saturating_sub(n);
            // SAFETY: as in `filled`.
            unsafe { &run.as_ref()[..n] }
        })
    }

    /// Sets what counts as filled.
    ///
    /// # Panics
    /// If that is more than fits.
    #[cfg(any(feature = "compio", feature = "monoio"))]
    pub(crate) fn set_filled(&mut self, filled: usize) {
        assert!(filled <= self.capacity, "{filled} bytes filled where {} fit", self.capacity);
        self.filled = filled;
    }

    /// To be called before any byte is read. What an earlier owner left need not be initialised
    /// either.
    fn define(&self) {
        #[cfg(feature = "compio")]
        self.defined.call_once(|| {
            for run in self.pieces.runs(0..self.pieces.bytes()) {
                // SAFETY: what `lend` gave is gone, as the buffer is borrowed, and who has a
                // reference to the bytes by another way came by here: `call_once` lets one thread
                // do this, once, and the others wait for it.
                unsafe { crate::handles::defined::define(run) };
            }
        });
    }
}

#[cfg(feature = "tokio")]
impl Fill for ScatteredBuffer {
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

impl Write for ScatteredBuffer {
    /// Writes what fits; zero bytes mean that the buffer is full.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0_usize;
        while written < bytes.len() && !self.is_full() {
            let spare = self.spare();
            let n = spare.len().min(bytes.len().saturating_sub(written));
            spare[..n].copy_from_slice(&bytes[written..][..n]);
            self.advance(n);
            written = written.saturating_add(n);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for ScatteredBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScatteredBuffer({} of {} bytes filled)", self.filled, self.capacity)
    }
}
