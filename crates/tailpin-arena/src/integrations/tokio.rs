//! `tokio`: any [`AsyncRead`](::tokio::io::AsyncRead) into a [`ReadBuffer`].

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::ready;

use ::tokio::io::{AsyncRead, ReadBuf};

use crate::handles::read_buffer::ReadBuffer;

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
        poll_fn(|context| {
            let mut room = ReadBuf::new(self.spare());
            ready!(Pin::new(&mut *source).poll_read(context, &mut room))?;
            let n = room.filled().len();
            self.advance(n);
            std::task::Poll::Ready(Ok(n))
        })
        .await
    }

    /// Reads until the buffer is full or the source at its end; tells how many bytes came.
    ///
    /// # Errors
    /// The source's. What came before it is filled.
    pub async fn fill_from_async<R: AsyncRead + Unpin + ?Sized>(
        &mut self,
        source: &mut R,
    ) -> io::Result<usize> {
        let before = self.room();
        while !self.is_full() && self.read_from_async(source).await? > 0 {}
        Ok(before.saturating_sub(self.room()))
    }
}
