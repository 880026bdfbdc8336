//! `tokio` readers into a read buffer.

#![cfg(feature = "tokio")]

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tailpin_arena::{Arena, ReadBuffer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf, duplex};
use tokio::net::{TcpListener, TcpStream};

fn buffer(arena: &Arena, len: usize) -> ReadBuffer {
    ReadBuffer::new(arena.alloc(len).unwrap())
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn a_message_over_a_socket_keeps_the_pages_it_fills() {
    run(async {
        let arena = Arena::builder().size(16 << 20).build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sender = tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&[7; 5000]).await.unwrap();
        });
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = buffer(&arena, 2 << 20);
        assert_eq!(buffer.fill_from_async(&mut stream).await.unwrap(), 5000);
        sender.await.unwrap();
        let message = buffer.freeze();
        assert!(message.len() == 5000 && message.iter().all(|&byte| byte == 7));
        assert_eq!(arena.stats().in_use(), 8192);
    });
}

#[test]
fn a_full_buffer_stops_and_the_rest_is_still_there() {
    run(async {
        let arena = Arena::builder().size(16 << 20).build().unwrap();
        let (mut near, mut far) = duplex(64);
        far.write_all(b"0123456789").await.unwrap();
        let mut four = buffer(&arena, 4);
        assert_eq!(four.fill_from_async(&mut near).await.unwrap(), 4);
        assert_eq!(four.read_from_async(&mut near).await.unwrap(), 0);
        assert_eq!(four.filled(), b"0123");
        let mut rest = [0; 6];
        near.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"456789");
    });
}

#[test]
fn nothing_is_lost_when_a_read_is_given_up() {
    run(async {
        let arena = Arena::builder().size(16 << 20).build().unwrap();
        let (mut near, mut far) = duplex(64);
        let mut buffer = buffer(&arena, 100);
        far.write_all(b"ab").await.unwrap();
        // It waits for the buffer to fill up, and is dropped when the time is over.
        let waited = tokio::time::timeout(Duration::from_millis(20), buffer.fill_from_async(&mut near)).await;
        assert!(waited.is_err());
        far.write_all(b"cd").await.unwrap();
        drop(far);
        assert_eq!(buffer.fill_from_async(&mut near).await.unwrap(), 2);
        assert_eq!(buffer.filled(), b"abcd");
    });
}

#[test]
fn an_error_comes_through_and_what_came_before_stays() {
    run(async {
        let arena = Arena::builder().size(16 << 20).build().unwrap();
        let mut source = three_bytes_then_a_reset();
        let mut buffer = buffer(&arena, 100);
        let error = buffer.fill_from_async(&mut source).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(buffer.filled(), b"abc");
    });
}

fn three_bytes_then_a_reset() -> impl tokio::io::AsyncRead + Unpin {
    struct Source(bool);
    impl tokio::io::AsyncRead for Source {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            into: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            if std::mem::replace(&mut self.0, true) {
                return std::task::Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
            }
            into.put_slice(b"abc");
            std::task::Poll::Ready(Ok(()))
        }
    }
    Source(false)
}

/// It reads into a buffer of its own, and hands that out in place of the one that it was given.
struct Swaps;

impl AsyncRead for Swaps {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        *room = ReadBuf::new(Box::leak(Box::new([1; 100])));
        room.advance(50);
        Poll::Ready(Ok(()))
    }
}

/// Else what an earlier owner left in the room would be told as read.
#[test]
fn bytes_read_elsewhere_are_not_taken_for_bytes_of_the_buffer() {
    run(async {
        let arena = Arena::builder().size(16 << 20).build().unwrap();
        let mut one = buffer(&arena, 100);
        let mut pieces = arena.alloc_scattered(100, 4096).unwrap();
        let swapped = tokio::spawn(async move {
            let _ = one.read_from_async(&mut Swaps).await;
            one.filled().len()
        });
        assert!(swapped.await.unwrap_err().is_panic());
        let swapped = tokio::spawn(async move {
            let _ = pieces.read_from_async(&mut Swaps).await;
            pieces.len()
        });
        assert!(swapped.await.unwrap_err().is_panic());
        assert_eq!(arena.stats().in_use(), 0);
    });
}
