//! A file read and written by a `compio` runtime.

#![cfg(feature = "compio")]

use crate::common;

use std::mem::MaybeUninit;

use compio::buf::{IntoInner, IoBuf, IoBufMut, SetLen};
use compio::fs::File;
use compio::io::{AsyncReadAt, AsyncWriteAtExt};
use compio::runtime::Runtime;
use tailpin_arena::{Arena, ReadBuffer, Slice};

fn run<T>(work: impl Future<Output = T>) -> Option<T> {
    match Runtime::new() {
        Ok(runtime) => Some(runtime.block_on(work)),
        Err(error) => {
            eprintln!("skipped: no compio runtime here: {error}");
            None
        }
    }
}

#[test]
fn what_is_written_from_a_slice_is_read_into_a_buffer() {
    let path = std::env::temp_dir().join(format!("tailpin-compio-{}", std::process::id()));
    run(async {
        let arena = Arena::builder().size(16 << 20).build().unwrap();
        let source = common::counting_up(&arena, 10_000);

        let mut file = File::create(&path).await.unwrap();
        // Only the part: the middle page.
        file.write_all_at(Slice::slice(&source, 4096..8192), 0).await.0.unwrap();
        file.close().await.unwrap();

        let file = File::open(&path).await.unwrap();
        let buffer = ReadBuffer::new(arena.alloc(2 << 20).unwrap());
        let (read, buffer) = file.read_at(buffer, 0).await.into();
        assert_eq!(read.unwrap(), 4096);
        let read = buffer.freeze();
        assert_eq!(read, Slice::slice(&source, 4096..8192));
        drop(source);
        assert_eq!(arena.stats().in_use(), 4096);

        // A part of the room only.
        let buffer = ReadBuffer::new(arena.alloc(100).unwrap());
        let (n, part) = file.read_at(buffer.slice(0..10), 5).await.into();
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
    assert_eq!((buffer.buf_len(), buffer.buf_capacity()), (0, 1000));
    buffer.extend_from_slice(b"abc").unwrap();
    assert_eq!((buffer.as_init(), buffer.filled()), (&b"abc"[..], &b"abc"[..]));
    assert!(buffer.reserve(998).is_err());
    // SAFETY: all bytes of an arena are initialised.
    let beyond = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| unsafe { buffer.set_len(1001) }));
    assert!(beyond.is_err());
    assert_eq!(buffer.freeze().as_init(), b"abc");
}

/// `as_uninit` is safe to call, so whatever safe code leaves there, what is read later is
/// initialised.
#[test]
fn what_safe_code_leaves_uninitialised_reads_as_something() {
    let arena = Arena::builder().size(8 << 20).build().unwrap();
    let spoiled = |len| {
        let mut buffer = ReadBuffer::new(arena.alloc(len).unwrap());
        buffer.extend_from_slice(b"abc").unwrap();
        buffer.as_uninit().fill(MaybeUninit::uninit());
        buffer
    };
    let is_one_value = |bytes: &[u8]| {
        let seen: Vec<u8> = bytes.to_vec();
        std::hint::black_box(&seen);
        seen == bytes && bytes.iter().all(|byte| (0..=255).contains(byte))
    };
    let mut buffer = spoiled(5000);
    assert!(is_one_value(buffer.filled()) && buffer.filled().len() == 3);
    assert!(is_one_value(buffer.spare()) && buffer.spare().len() == 4997);
    assert!(is_one_value(&spoiled(5000).freeze()));
    assert!(is_one_value(&spoiled(5000).into_buffer()));
    drop(spoiled(2 << 20));
    assert!(is_one_value(&arena.alloc(2 << 20).unwrap()));
}
