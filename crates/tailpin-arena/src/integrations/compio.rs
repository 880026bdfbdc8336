//! `compio`: slices to write from, a [`ReadBuffer`] to read into.

use std::mem::MaybeUninit;

use compio_buf::{IoBuf, IoBufMut, SetLen};

use crate::handles::read_buffer::ReadBuffer;
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
