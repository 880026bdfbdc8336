//! `tokio`: any [`AsyncRead`](::tokio::io::AsyncRead) into a [`ReadBuffer`] or a
//! [`ScatteredBuffer`].

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};

use ::tokio::io::{AsyncRead, ReadBuf};

use crate::handles::fill::Fill;
use crate::handles::read_buffer::ReadBuffer;
use crate::handles::scattered::buffer::ScatteredBuffer;

/// Reads once, into the bytes of the room that lie side by side.
async fn read<R: AsyncRead + Unpin + ?Sized>(buffer: &mut impl Fill, source: &mut R) -> io::Result<usize> {
    poll_fn(|context| {
        let spare = buffer.spare();
        let start = spare.as_ptr();
        let mut room = ReadBuf::new(spare);
        ready!(Pin::new(&mut *source).poll_read(context, &mut room))?;
        // What is counted as filled must not be what an earlier owner left.
        assert!(room.filled().as_ptr() == start, "a source reads into the buffer that it was given");
        let n = room.filled().len();
        buffer.advance(n);
        Poll::Ready(Ok(n))
    })
    .await
}

async fn fill<R: AsyncRead + Unpin + ?Sized>(buffer: &mut impl Fill, source: &mut R) -> io::Result<usize> {
    let before = buffer.room();
    while buffer.room() > 0 && read(buffer, source).await? > 0 {}
    Ok(before.saturating_sub(buffer.room()))
}

impl ReadBuffer {
    /// Reads once. Zero bytes mean the end of the source, or that the buffer is full.
    ///
    /// Nothing is lost if the future is dropped: bytes are either still in the source or counted as
    /// filled.
    ///
    /// # Errors
    /// The source's.
    pub async fn read_from_async<R: AsyncRead + Unpin + ?Sized>(
        &mut self,
        source: &mut R,
    ) -> io::Result<usize> {
        read(self, source).await
    }

    /// Reads until the buffer is full or the source at its end; tells how many bytes came.
    ///
    /// # Errors
    /// The source's. What came before it is filled.
    pub async fn fill_from_async<R: AsyncRead + Unpin + ?Sized>(
        &mut self,
        source: &mut R,
    ) -> io::Result<usize> {
        fill(self, source).await
    }
}

impl ScatteredBuffer {
    /// As [`ReadBuffer::read_from_async`]: into the next pieces that lie side by side.
    ///
    /// # Errors
    /// The source's.
    pub async fn read_from_async<R: AsyncRead + Unpin + ?Sized>(
        &mut self,
        source: &mut R,
    ) -> io::Result<usize> {
        read(self, source).await
    }

    /// As [`ReadBuffer::fill_from_async`].
    ///
    /// # Errors
    /// The source's. What came before it is filled.
    pub async fn fill_from_async<R: AsyncRead + Unpin + ?Sized>(
        &mut self,
        source: &mut R,
    ) -> io::Result<usize> {
        fill(self, source).await
    }
}
