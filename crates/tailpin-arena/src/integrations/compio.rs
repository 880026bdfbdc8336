//! `compio`: slices to write from, a [`ReadBuffer`] or a [`ScatteredBuffer`] to read into.

use std::mem::MaybeUninit;

use compio_buf::{IoBuf, IoBufMut, IoVectoredBuf, IoVectoredBufMut, SetLen};

use crate::handles::read_buffer::ReadBuffer;
use crate::handles::scattered::buffer::ScatteredBuffer;
use crate::handles::scattered::slices::Scattered;
use crate::handles::slice::Slice;

/// Beware: with `IoBuf` in scope `slice.slice(..)` is this trait's method, which wraps the slice
/// and keeps all of it. To keep only the pages of a part, call `Slice::slice(&slice, ..)`.
impl IoBuf for Slice {
    fn as_init(&self) -> &[u8] {
        self
    }
}

impl IoBuf for ReadBuffer {
    fn as_init(&self) -> &[u8] {
        self.filled()
    }
}

impl SetLen for ReadBuffer {
    unsafe fn set_len(&mut self, len: usize) {
        self.set_filled(len);
    }
}

impl IoBufMut for ReadBuffer {
    fn as_uninit(&mut self) -> &mut [MaybeUninit<u8>] {
        self.lend()
    }
}

/// For `write_vectored`, piece by piece.
///
/// Beware: with `IoVectoredBuf` in scope `scattered.slice(..)` is still this type's own method, as
/// long as it is given a range.
impl IoVectoredBuf for Scattered {
    fn iter_slice(&self) -> impl Iterator<Item = &[u8]> {
        self.chunks()
    }
}

impl IoVectoredBuf for ScatteredBuffer {
    fn iter_slice(&self) -> impl Iterator<Item = &[u8]> {
        self.filled_of_each()
    }
}

impl SetLen for ScatteredBuffer {
    unsafe fn set_len(&mut self, len: usize) {
        self.set_filled(len);
    }
}

/// For `read_vectored`, into as many pieces as the source fills.
impl IoVectoredBufMut for ScatteredBuffer {
    fn iter_uninit_slice(&mut self) -> impl Iterator<Item = &mut [MaybeUninit<u8>]> {
        self.lend()
    }
}
