//! `monoio`: slices to write from, a [`ReadBuffer`] or an [`IoVector`] to read into.

use ::monoio::buf::{IoBuf, IoBufMut, IoVecBuf, IoVecBufMut};

use crate::handles::read_buffer::ReadBuffer;
use crate::handles::scattered::io_vector::IoVector;
use crate::handles::slice::Slice;

/// Beware: with `IoBuf` in scope `slice.slice(..)` is this trait's method, which wraps the slice
/// and keeps all of it. To keep only the pages of a part, call `Slice::slice(&slice, ..)`.
// SAFETY: the bytes of a slice stay where they are, mapped and unchanged, while the slice lives,
// wherever it is moved.
unsafe impl IoBuf for Slice {
    fn read_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }
}

// SAFETY: the bytes of a buffer stay where they are and mapped while it lives, wherever it is
// moved.
unsafe impl IoBuf for ReadBuffer {
    fn read_ptr(&self) -> *const u8 {
        self.filled().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.filled().len()
    }
}

// SAFETY: as above; the buffer alone can be written to, and `write_ptr` may be for as long as
// `bytes_total` says.
unsafe impl IoBufMut for ReadBuffer {
    fn write_ptr(&mut self) -> *mut u8 {
        self.whole().as_mut_ptr()
    }

    fn bytes_total(&mut self) -> usize {
        self.capacity()
    }

    unsafe fn set_init(&mut self, filled: usize) {
        self.set_filled(filled);
    }
}

// SAFETY: the list lies on the heap and is not changed while the vector is the runtime's; its
// ranges are the buffer's, mapped while that lives.
unsafe impl IoVecBuf for IoVector {
    fn read_iovec_ptr(&self) -> *const libc::iovec {
        self.as_ptr()
    }

    fn read_iovec_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: as above; the ranges are of the room that the buffer had, which it alone can write to.
unsafe impl IoVecBufMut for IoVector {
    fn write_iovec_ptr(&mut self) -> *mut libc::iovec {
        self.as_mut_ptr()
    }

    fn write_iovec_len(&mut self) -> usize {
        self.len()
    }

    unsafe fn set_init(&mut self, read: usize) {
        self.set_read(read);
    }
}
