//! Slices as `bytes::Bytes`, and a read buffer as a `BufMut`.

#![cfg(feature = "bytes")]

use bytes::{Buf, BufMut, Bytes};
use tailpin_arena::{Arena, ReadBuffer};

const MIB: usize = 1 << 20;

fn arena() -> Arena {
    Arena::builder().size(16 * MIB).build().unwrap()
}

#[test]
fn sliced_first_and_wrapped_second_it_keeps_its_pages() {
    let arena = arena();
    let mut buffer = arena.alloc(2 * MIB).unwrap();
    buffer[5000..5005].copy_from_slice(b"hello");
    let whole = buffer.freeze();
    let bytes = Bytes::from(whole.slice(5000..5005));
    drop(whole);
    assert_eq!(&bytes[..], b"hello");
    assert_eq!(arena.stats().in_use(), 4096);
    // Clones and parts share the one owner.
    let part = bytes.clone().slice(1..3);
    drop(bytes);
    assert_eq!(&part[..], b"el");
    assert_eq!(arena.stats().in_use(), 4096);
    drop(part);
    assert_eq!(arena.stats().in_use(), 0);
}

/// The trap: what `bytes` cuts off keeps the whole owner.
#[test]
fn wrapped_first_and_sliced_second_it_keeps_the_whole_buffer() {
    let arena = arena();
    let part = Bytes::from(arena.alloc(2 * MIB).unwrap().freeze()).slice(5000..5005);
    assert_eq!(arena.stats().in_use(), 2 * MIB);
    drop(part);
    assert_eq!(arena.stats().in_use(), 0);
}

#[test]
fn bytes_outlive_the_arena_and_cross_threads() {
    let arena = arena();
    let whole = arena.alloc_zeroed(MIB).unwrap().freeze();
    let parts: Vec<Bytes> = (0..64).map(|i| whole.slice(i * 100..i * 100 + 100).into()).collect();
    drop((whole, arena));
    let readers: Vec<_> = parts
        .into_iter()
        .map(|part| std::thread::spawn(move || part.iter().all(|&byte| byte == 0)))
        .collect();
    assert!(readers.into_iter().all(|reader| reader.join().unwrap()));
}

#[test]
fn they_are_never_unique() {
    let arena = arena();
    let bytes = Bytes::from(arena.alloc(100).unwrap().freeze());
    assert!(!bytes.is_unique());
    assert!(bytes.try_into_mut().is_err());
}

#[test]
fn an_empty_slice_is_empty_bytes_and_keeps_nothing() {
    let arena = arena();
    let bytes = Bytes::from(arena.alloc(100).unwrap().freeze().slice(7..7));
    assert!(bytes.is_empty());
    assert_eq!(arena.stats().in_use(), 0);
}

#[test]
fn a_read_buffer_takes_what_fits_and_no_more() {
    let arena = arena();
    let mut buffer = ReadBuffer::new(arena.alloc(10).unwrap());
    buffer.put_u32(0x0102_0304);
    buffer.put(&b"abc"[..]);
    assert_eq!((buffer.filled(), buffer.remaining_mut()), (&b"\x01\x02\x03\x04abc"[..], 3));
    let full = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| buffer.put_u64(1)));
    assert!(full.is_err());
    let mut bytes = Bytes::from(buffer.freeze());
    assert_eq!((bytes.get_u32(), &bytes[..3]), (0x0102_0304, &b"abc"[..]));
}
