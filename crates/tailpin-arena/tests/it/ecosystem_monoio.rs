//! A file read and written by a `monoio` runtime.

#![cfg(feature = "monoio")]

use crate::common;

use monoio::buf::{IoBuf, IoBufMut};
use monoio::fs::File;
use monoio::{IoUringDriver, RuntimeBuilder};
use tailpin_arena::{Arena, ReadBuffer, Slice};

#[test]
fn what_is_written_from_a_slice_is_read_into_a_buffer() {
    let mut runtime = match RuntimeBuilder::<IoUringDriver>::new().build() {
        Ok(runtime) => runtime,
        Err(error) => return eprintln!("skipped: no io_uring for monoio here: {error}"),
    };
    let path = std::env::temp_dir().join(format!("tailpin-monoio-{}", std::process::id()));
    runtime.block_on(async {
        let arena = Arena::builder().size(16 << 20).build().unwrap();
        let source = common::counting_up(&arena, 10_000);

        let file = File::create(&path).await.unwrap();
        file.write_all_at(Slice::slice(&source, 4096..8192), 0).await.0.unwrap();
        file.close().await.unwrap();

        let file = File::open(&path).await.unwrap();
        let buffer = ReadBuffer::new(arena.alloc(2 << 20).unwrap());
        let (read, buffer) = file.read_at(buffer, 0).await;
        assert_eq!(read.unwrap(), 4096);
        let read = buffer.freeze();
        assert_eq!(read, Slice::slice(&source, 4096..8192));
        drop(source);
        assert_eq!(arena.stats().in_use(), 4096);

        let buffer = ReadBuffer::new(arena.alloc(100).unwrap());
        let (n, part) = file.read_at(buffer.slice_mut(0..10), 5).await;
        assert_eq!(n.unwrap(), 10);
        assert_eq!(part.into_inner().filled(), &read[5..15]);
    });
    let _ = std::fs::remove_file(path);
}

/// The trap: the trait's method of the same name keeps all of it.
#[test]
fn a_slice_cut_by_the_trait_keeps_the_whole() {
    common::a_foreign_cut_keeps_the_whole(|whole| IoBuf::slice(whole, 0..10));
}

#[test]
fn the_traits_say_what_is_there() {
    let arena = Arena::builder().size(16 << 20).build().unwrap();
    let mut buffer = ReadBuffer::new(arena.alloc(1000).unwrap());
    assert_eq!((buffer.bytes_init(), buffer.bytes_total()), (0, 1000));
    assert_eq!(buffer.read_ptr(), buffer.write_ptr().cast_const());
    // SAFETY: all bytes of an arena are initialised.
    unsafe { buffer.set_init(10) };
    assert_eq!((buffer.bytes_init(), buffer.filled().len()), (10, 10));
    let slice = buffer.freeze();
    assert_eq!((slice.read_ptr(), slice.bytes_init()), (slice.as_ptr(), 10));
}
