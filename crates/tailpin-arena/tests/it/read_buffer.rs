//! A buffer that is being filled, and memory taken from a buffer in use.

use std::io::{self, Read, Write};

use crate::common::off_linux;
use tailpin_arena::{Arena, ReadBuffer, Reason, ReleaseError};

const MIB: usize = 1 << 20;

/// Gives its bytes a few at a time, with an interruption before each.
struct Trickle<'b>(&'b [u8], bool);

impl Read for Trickle<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let n = into.len().min(3).min(self.0.len());
        into[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

#[test]
fn it_fills_to_the_end_of_the_source_or_its_own() {
    let arena = Arena::builder().size(16 * MIB).build().unwrap();
    let mut buffer = ReadBuffer::new(arena.alloc(10).unwrap());
    assert_eq!(buffer.fill_from(&mut Trickle(b"01234567", false)).unwrap(), 8);
    assert_eq!((buffer.spare().len(), buffer.is_full()), (2, false));
    assert_eq!(buffer.filled(), b"01234567");
    let mut more = Trickle(b"89abc", false);
    assert_eq!(buffer.fill_from(&mut more).unwrap(), 2);
    assert_eq!((buffer.filled(), more.0), (&b"0123456789"[..], &b"abc"[..]));
    assert_eq!(buffer.write(b"x").unwrap(), 0);
    assert_eq!(buffer.write_all(b"x").unwrap_err().kind(), io::ErrorKind::WriteZero);
    buffer.clear();
    buffer.write_all(b"again").unwrap();
    assert_eq!(buffer.freeze(), *b"again".as_slice());
}

#[test]
fn an_error_keeps_what_came_before() {
    let arena = Arena::builder().size(16 * MIB).build().unwrap();
    let mut buffer = ReadBuffer::new(arena.alloc(100).unwrap());
    let mut source = (&b"abc"[..]).chain(Broken);
    assert_eq!(buffer.fill_from(&mut source).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(buffer.filled(), b"abc");
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

#[test]
fn pages_that_were_not_filled_are_free_at_once() {
    let arena = Arena::builder().size(16 * MIB).build().unwrap();
    let mut buffer = ReadBuffer::from(arena.alloc(2 * MIB).unwrap());
    buffer.write_all(&[7; 5000]).unwrap();
    let mut shorter = buffer.into_buffer();
    shorter[4999] = 8;
    assert_eq!((shorter.len(), arena.stats().in_use()), (5000, 8192));
    drop(shorter);
    let empty = ReadBuffer::new(arena.alloc(2 * MIB).unwrap()).freeze();
    assert_eq!((empty.len(), arena.stats().in_use()), (0, 0));
}

#[test]
fn more_than_fits_is_never_filled() {
    let arena = Arena::builder().size(16 * MIB).build().unwrap();
    let mut buffer = ReadBuffer::new(arena.alloc(10).unwrap());
    buffer.advance(10);
    let beyond = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| buffer.advance(1)));
    assert!(beyond.is_err());
    assert_eq!(buffer.filled().len(), 10);
}

#[test]
fn the_footprint_is_the_pages_it_touches() {
    let arena = Arena::builder().size(16 * MIB).build().unwrap();
    let whole = arena.alloc(10 * 4096).unwrap().freeze();
    for (range, pages) in
        [(0..0, 0), (0..1, 1), (0..4096, 1), (4095..4097, 2), (1..10 * 4096, 10), (100..4196, 2)]
    {
        assert_eq!(whole.slice(range.clone()).footprint(), pages * 4096, "{range:?}");
    }
}

#[test]
fn discarded_pages_read_as_zero_and_their_neighbours_as_before() {
    if off_linux("discarded_pages_read_as_zero_and_their_neighbours_as_before") {
        return;
    }
    let arena = Arena::builder().size(16 * MIB).build().unwrap();
    let mut buffer = arena.alloc(4 * MIB).unwrap();
    buffer.fill(0xA5);
    // Over the border of two huge pages, and neither end on a page.
    let range = MIB + 5..3 * MIB + 4095;
    let discarded = buffer.discard(range.clone()).unwrap();
    assert_eq!(discarded.asked, 2 * MIB - 4096);
    assert_eq!((discarded.returned, discarded.stuck), (discarded.asked, 0));
    for (at, byte) in buffer.iter().enumerate() {
        let gone = (MIB + 4096..3 * MIB).contains(&at);
        assert_eq!(*byte, if gone { 0 } else { 0xA5 }, "byte {at}");
    }
    // They are in use as before, and can be filled again, discarded again, and freed.
    assert_eq!(arena.stats().in_use(), 4 * MIB);
    buffer.fill(1);
    assert_eq!(buffer.discard(0..4 * MIB).unwrap().returned, 4 * MIB);
    assert_eq!(buffer.discard(10..20).unwrap().asked, 0);
    drop(buffer);
    assert_eq!(arena.audit().violations(), 0);
    arena.release(usize::MAX).unwrap();
    assert!(arena.alloc(4 * MIB).unwrap().len() == 4 * MIB);
}

#[test]
fn a_discard_that_is_refused_changes_nothing() {
    if off_linux("a_discard_that_is_refused_changes_nothing") {
        return;
    }
    let arena = Arena::builder().size(4 * MIB).build().unwrap();
    let mut buffer = arena.alloc(MIB).unwrap();
    buffer.fill(9);
    let registered = arena.registered().unwrap();
    assert_eq!(buffer.discard(0..MIB).unwrap_err(), ReleaseError::Refused(Reason::Registered));
    drop(registered);
    assert!(buffer.iter().all(|&byte| byte == 9));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| buffer.discard(0..MIB + 1))).is_err());
}
