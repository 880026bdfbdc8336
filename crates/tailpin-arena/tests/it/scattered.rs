//! Memory in pieces, and every kind of reader into it.

use crate::common;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSliceMut, Read, Seek, Write};
use std::sync::Arc;
use std::thread;

use bytes::{Buf, BufMut, Bytes};
use common::{HUGE, MIB, PAGE, again, role};
use tailpin_arena::{
    AllocError, Arena, Backing, HugeSize, IoVector, Scattered, ScatteredBuffer, Slice, SliceError,
};

fn arena() -> Arena {
    Arena::builder().size(64 * MIB).limit(16 * MIB).build().unwrap()
}

fn byte(at: usize) -> u8 {
    (at ^ at >> 8 ^ at >> 16) as u8
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(byte).collect()
}

fn filled(arena: &Arena, len: usize, piece: usize) -> ScatteredBuffer {
    let mut buffer = arena.alloc_scattered(len, piece).unwrap();
    assert_eq!(buffer.write(&content(len)).unwrap(), len);
    assert!(buffer.is_full());
    buffer
}

fn is_empty(arena: &Arena) {
    assert_eq!((arena.in_use(), arena.stats().in_use()), (0, 0));
    assert_eq!(arena.audit().violations(), 0);
}

/// A file with `len` bytes of content.
fn file(len: usize) -> File {
    let name = std::ffi::CString::new("tailpin-scattered").unwrap();
    // SAFETY: the name is a string; what is returned is a new descriptor.
    let mut file =
        unsafe { <File as std::os::fd::FromRawFd>::from_raw_fd(libc::memfd_create(name.as_ptr(), 0)) };
    file.write_all(&content(len)).unwrap();
    file.rewind().unwrap();
    file
}

#[test]
fn pieces_of_all_sizes_hold_what_was_written() {
    let arena = arena();
    for piece in [PAGE, 2 * PAGE, 16 * PAGE, MIB, HUGE] {
        for len in [1, PAGE, PAGE + 1, 3 * PAGE - 1, 16 * PAGE, 17 * PAGE + 5, 4 * MIB] {
            let buffer = filled(&arena, len, piece);
            assert_eq!((buffer.capacity(), buffer.len(), buffer.piece()), (len, len, piece));
            assert_eq!(arena.in_use(), len.div_ceil(piece) * piece);
            assert_eq!(buffer.filled().flatten().copied().collect::<Vec<_>>(), content(len));
            let all = buffer.freeze();
            // Whole pages behind what was filled are free.
            assert_eq!(arena.in_use(), len.div_ceil(PAGE) * PAGE, "{len} in {piece}");
            assert!(all == *content(len));
            assert_eq!(all.to_vec(), content(len));
            drop(all);
            is_empty(&arena);
        }
    }
}

#[test]
fn what_cannot_be_pieces_is_refused() {
    let arena = arena();
    for piece in [0, 1, PAGE - 1, 3 * PAGE, 4 * MIB, usize::MAX] {
        assert_eq!(arena.alloc_scattered(PAGE, piece).unwrap_err(), AllocError::BadPiece { piece });
    }
    assert!(matches!(arena.alloc_scattered(usize::MAX, PAGE), Err(AllocError::OverLimit { .. })));
    assert!(matches!(arena.try_alloc_scattered(16 * MIB + 1, PAGE), Err(AllocError::OverLimit { .. })));
    let none = arena.alloc_scattered(0, PAGE).unwrap();
    assert!(none.is_full() && none.is_empty() && none.filled().next().is_none());
    assert!(none.freeze().is_empty());
    // No block of a piece's size: told, and nothing is lost.
    let small = Arena::builder().size(HUGE).build().unwrap();
    let kept: Vec<Slice> = (0..4).map(|_| small.alloc(HUGE / 4).unwrap().freeze().slice(0..1)).collect();
    let refused = small.try_alloc_scattered(HUGE / 2, HUGE / 2).unwrap_err();
    assert!(
        matches!(refused, AllocError::OutOfMemory { asked, largest_free, .. }
            if asked == HUGE / 2 && largest_free == HUGE / 8),
        "{refused}"
    );
    assert_eq!(small.in_use(), 4 * PAGE);
    // In pages all of it can be had, to the last one.
    let all = small.try_alloc_scattered(508 * PAGE, PAGE).unwrap();
    assert!(small.try_alloc_scattered(1, PAGE).is_err());
    drop((kept, all));
    is_empty(&small);
}

#[test]
fn a_part_keeps_the_pages_it_touches() {
    let arena = arena();
    for piece in [PAGE, 4 * PAGE] {
        let len = 12 * PAGE + 100;
        let all = filled(&arena, len, piece).freeze();
        for start in [0, 1, PAGE - 1, PAGE, 4 * PAGE - 1, 7 * PAGE + 3] {
            for n in [0, 1, 2, PAGE, PAGE + 1, 4 * PAGE, 5 * PAGE + 50] {
                let part = all.slice(start..start + n);
                assert!(part == content(len)[start..start + n]);
                // A part of the part.
                let (from, to) = (n / 3, n - n / 4);
                assert!(part.slice(from..to) == content(len)[start + from..start + to]);
                match part.contiguous(from..to) {
                    Ok(slice) => assert_eq!(slice[..], content(len)[start + from..start + to]),
                    Err(SliceError::InPieces { .. }) => {
                        assert_ne!((start + from) / piece, (start + to - 1) / piece);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
        let (start, end) = (len, len + 1);
        assert_eq!(all.try_slice(start..end).unwrap_err(), SliceError::OutOfRange { start, end, len });
        let part = all.slice(5 * PAGE - 1..6 * PAGE + 1);
        let one = all.contiguous(PAGE + 5..PAGE + 10).unwrap();
        let touched = part.footprint() + one.footprint();
        drop(all);
        assert_eq!(arena.in_use(), touched);
        assert_eq!(touched, 4 * PAGE);
        assert!(part == content(len)[5 * PAGE - 1..6 * PAGE + 1]);
        assert_eq!(one[..], content(len)[PAGE + 5..PAGE + 10]);
        drop((part, one));
        is_empty(&arena);
    }
}

/// A reader that fills as many of the ranges as it likes.
struct Vectored<'a> {
    content: &'a [u8],
    most: usize,
    calls: usize,
}

impl Read for Vectored<'_> {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        panic!("it reads into many ranges at once");
    }

    fn read_vectored(&mut self, ranges: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.calls += 1;
        let most = self.most.min(self.content.len());
        let mut left = &self.content[..most];
        for range in ranges {
            let n = left.read(range)?;
            if n == 0 {
                break;
            }
        }
        let n = most - left.len();
        self.content = &self.content[n..];
        Ok(n)
    }
}

#[test]
fn readers_of_the_standard_library() {
    let arena = arena();
    let len = 4 * MIB + 7;
    let whole = content(len);
    for most in [1 << 10, 70_001, usize::MAX] {
        let mut source = Vectored { content: &whole, most, calls: 0 };
        let mut buffer = arena.alloc_scattered(len, PAGE).unwrap();
        assert_eq!(buffer.fill_from(&mut source).unwrap(), len);
        assert!(source.calls <= len / most.min(MIB) + 2, "{} calls", source.calls);
        assert!(buffer.freeze() == *whole);
    }
    // One call of `readv` takes at most 1,024 ranges, and this file has more pieces.
    let mut file = file(len);
    for _ in 0..2 {
        file.rewind().unwrap();
        let mut buffer = arena.alloc_scattered(len + 10_000, PAGE).unwrap();
        assert_eq!(buffer.fill_from(&mut file).unwrap(), len);
        assert!(!buffer.is_full());
        assert!(buffer.freeze() == *whole);
    }
    // Nothing is read into what is not there.
    let mut buffer = filled(&arena, 10, PAGE);
    assert_eq!(buffer.read_from(&mut file).unwrap(), 0);
    buffer.clear();
    assert!(buffer.is_empty() && buffer.spare().len() == 10);
    drop(buffer);
    is_empty(&arena);
}

#[test]
fn what_is_written_comes_from_the_pieces() {
    let arena = arena();
    let all = filled(&arena, 100_000, PAGE).freeze();
    let mut file = file(0);
    let mut written = 0;
    let mut rest = all.clone();
    while !rest.is_empty() {
        let n = file.write_vectored(&rest.io_slices()).unwrap();
        rest.advance(n);
        written += n;
    }
    assert_eq!(written, 100_000);
    file.rewind().unwrap();
    let mut read = Vec::new();
    file.read_to_end(&mut read).unwrap();
    assert!(all == *read);
}

#[test]
fn bufs_and_lists_of_bytes() {
    let arena = arena();
    let mut buffer = arena.alloc_scattered(10 * PAGE, PAGE).unwrap();
    buffer.put_slice(&content(9 * PAGE));
    buffer.put_bytes(7, 10);
    assert_eq!(buffer.remaining_mut(), PAGE - 10);
    let mut all = buffer.freeze();
    assert_eq!(all.remaining(), 9 * PAGE + 10);
    let list: Vec<Bytes> = all.clone().into();
    assert_eq!(list.iter().map(Bytes::len).collect::<Vec<_>>(), [&[PAGE; 9][..], &[10]].concat());
    assert_eq!(list.concat(), all.to_vec());
    let mut head = vec![0; PAGE + 5];
    all.copy_to_slice(&mut head);
    assert_eq!(head, content(PAGE + 5));
    assert_eq!(all.get_u8(), byte(PAGE + 5));
    // Cut again where its first piece is begun.
    assert!(all.slice(..3 * PAGE) == content(9 * PAGE)[PAGE + 6..4 * PAGE + 6]);
    assert_eq!(all.contiguous(..5).unwrap()[..], content(9 * PAGE)[PAGE + 6..PAGE + 11]);
    let slices = all.clone().into_slices();
    assert_eq!((slices.len(), slices[0].len(), slices[1].len()), (9, PAGE - 6, PAGE));
    assert_eq!(all.copy_to_bytes(all.remaining()).len(), 9 * PAGE + 10 - PAGE - 6);
    assert!(all.is_empty() && all.chunk().is_empty() && all.contiguous(..).unwrap().is_empty());
    drop((list, slices, all));
    is_empty(&arena);
}

#[test]
fn tokio_reads_into_pieces() {
    let arena = arena();
    let whole = content(300_000);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut buffer = arena.alloc_scattered(250_000, 16 * PAGE).unwrap();
    let mut source = &whole[..];
    assert_eq!(runtime.block_on(buffer.fill_from_async(&mut source)).unwrap(), 250_000);
    assert!(buffer.freeze() == whole[..250_000]);
    // By the trait of its own, through `BufMut`.
    let mut buffer = arena.alloc_scattered(100_000, PAGE).unwrap();
    let read = async {
        while buffer.has_remaining_mut()
            && tokio::io::AsyncReadExt::read_buf(&mut source, &mut buffer).await? > 0
        {}
        io::Result::Ok(())
    };
    runtime.block_on(read).unwrap();
    assert!(buffer.freeze() == whole[250_000..]);
    is_empty(&arena);
}

#[test]
fn a_ring_reads_into_pieces_in_one_request() {
    let name = "a_ring_reads_into_pieces_in_one_request";
    let Ok(mut ring) = io_uring::IoUring::new(4) else {
        common::skip(name, "no io_uring here");
        return;
    };
    let arena = arena();
    let file = file(MIB);
    let mut buffer = arena.alloc_scattered(MIB, 16 * PAGE).unwrap();
    // A part of it is filled already.
    assert_eq!(buffer.write(&content(1000)).unwrap(), 1000);
    let mut vector = IoVector::from(buffer);
    let entry = vector.read(&file, 1000);
    // SAFETY: the vector is neither used nor dropped before the read is complete.
    unsafe { ring.submission().push(&entry).unwrap() };
    ring.submit_and_wait(1).unwrap();
    let read = ring.completion().next().unwrap().result();
    vector.set_read(usize::try_from(read).unwrap());
    let buffer = vector.into_buffer();
    assert!(buffer.is_full(), "a file of memory is read at once");
    let vector = IoVector::from(buffer);
    assert!(vector.is_empty());
    assert!(vector.into_buffer().freeze() == *content(MIB));
    is_empty(&arena);
}

#[test]
fn compio_reads_into_pieces() {
    use compio::io::AsyncReadAt;
    let name = "compio_reads_into_pieces";
    let Ok(runtime) = compio::runtime::Runtime::new() else {
        common::skip(name, "no io_uring here");
        return;
    };
    let path = std::env::temp_dir().join(format!("tailpin-scattered-{}", std::process::id()));
    std::fs::write(&path, content(MIB)).unwrap();
    let arena = arena();
    runtime.block_on(async {
        let file = compio::fs::File::open(&path).await.unwrap();
        let buffer = arena.alloc_scattered(MIB, 16 * PAGE).unwrap();
        let compio::BufResult(read, buffer) = file.read_vectored_at(buffer, 0).await;
        assert_eq!((read.unwrap(), buffer.len()), (MIB, MIB));
        assert!(buffer.freeze() == *content(MIB));
    });
    std::fs::remove_file(path).unwrap();
    is_empty(&arena);
}

#[test]
fn monoio_reads_into_pieces() {
    let name = "monoio_reads_into_pieces";
    if io_uring::IoUring::new(4).is_err() && common::skip(name, "no io_uring here") {
        return;
    }
    use monoio::io::AsyncReadRent;
    let arena = arena();
    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().build().unwrap();
    let (one, mut other) = std::os::unix::net::UnixStream::pair().unwrap();
    let writer = thread::spawn(move || other.write_all(&content(200_000)).unwrap());
    let buffer = arena.alloc_scattered(200_000, PAGE).unwrap();
    let buffer = runtime.block_on(async move {
        let mut stream = monoio::net::UnixStream::from_std(one).unwrap();
        let mut buffer = buffer;
        while !buffer.is_full() {
            let (read, vector) = stream.readv(IoVector::from(buffer)).await;
            assert!(read.unwrap() > 0);
            buffer = vector.into_buffer();
        }
        buffer
    });
    writer.join().unwrap();
    assert!(buffer.freeze() == *content(200_000));
    is_empty(&arena);
}

#[test]
fn tags_limits_and_reservations_count_pieces() {
    let arena = arena();
    let tag = arena.tag("scattered").unwrap();
    tag.set_limit(MIB);
    let mut all = tag.alloc_scattered(MIB - 1, 16 * PAGE).unwrap();
    assert!(matches!(tag.try_alloc_scattered(1, PAGE), Err(AllocError::OverLimit { of_tag: true, .. })));
    all.fill_from(&mut io::repeat(1)).unwrap();
    let all = all.freeze();
    assert_eq!((tag.in_use(), all.slice(..1).into_slices()[0].tag()), (MIB, Some("scattered")));
    drop(all);
    assert_eq!(tag.in_use(), 0);
    let mut reserved = arena.reserve(MIB).unwrap();
    let buffer = reserved.alloc_scattered(MIB / 2 + 1, 16 * PAGE).unwrap();
    assert_eq!(reserved.left(), MIB / 2 - 16 * PAGE);
    assert!(matches!(reserved.alloc_scattered(MIB, PAGE), Err(AllocError::OverReservation { .. })));
    drop((reserved, buffer));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let buffer = runtime.block_on(arena.alloc_scattered_async(MIB, PAGE)).unwrap();
    drop(buffer);
    let buffer = runtime.block_on(tag.alloc_scattered_async(MIB, PAGE)).unwrap();
    drop(buffer);
    is_empty(&arena);
}

/// A cache in steady state, by several threads: all reads are served, in an arena of one and a
/// quarter of what is kept.
#[test]
fn a_cache_goes_round_in_little_more_than_it_keeps() {
    const KEPT: usize = 1600; // pages, by four threads
    let arena = Arena::builder().size(KEPT * PAGE * 5 / 4 / HUGE * HUGE + HUGE).build().unwrap();
    thread::scope(|scope| {
        for thread in 0..4_usize {
            let arena = &arena;
            scope.spawn(move || {
                let mut seed = 99 + thread as u64;
                let mut next = move || {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    (seed >> 11) as usize
                };
                let mut cache: VecDeque<(u8, Slice)> = VecDeque::new();
                for round in 0..400 {
                    let stamp = (round + thread * 50) as u8;
                    let mut buffer = arena.alloc_scattered(64 * PAGE, PAGE).unwrap();
                    buffer.fill_from(&mut io::repeat(stamp)).unwrap();
                    let read = buffer.freeze();
                    for block in 0..64 {
                        if next() % 10 == 0 {
                            let at = block * PAGE;
                            cache.push_back((stamp, read.contiguous(at..at + PAGE).unwrap()));
                        }
                    }
                    drop(read);
                    while cache.len() > KEPT / 4 {
                        let (stamp, slice) = cache.remove(next() % cache.len()).unwrap();
                        assert!(slice.iter().all(|byte| *byte == stamp));
                    }
                }
            });
        }
    });
    is_empty(&arena);
}

#[test]
fn all_kinds_of_memory() {
    let arenas = [
        Arena::builder().size(4 * MIB).backing(Backing::Memfd { huge: false }).build(),
        Arena::builder().over_memory(vec![0; 4 * MIB]).build(),
        Arena::builder().size(4 * MIB).backing(Backing::HugeTlb(HugeSize::Mib2)).build(),
    ];
    for arena in arenas.into_iter().flatten() {
        let all = filled(&arena, MIB + 5, 4 * PAGE).freeze();
        let part = all.slice(4 * PAGE - 1..4 * PAGE + 1);
        drop(all);
        assert!(part == content(MIB)[4 * PAGE - 1..4 * PAGE + 1]);
        drop(part);
        is_empty(&arena);
    }
}

#[test]
fn a_forked_child_without_the_memory_gives_nothing_back() {
    let name = "a_forked_child_without_the_memory_gives_nothing_back";
    if role().is_none() {
        assert!(again(name, "alone", |_| {}), "it forks");
        return;
    }
    let arena = Arena::builder().size(HUGE).backing(Backing::Memfd { huge: false }).build().unwrap();
    let tag = arena.tag("parent").unwrap();
    let frozen = filled(&arena, 10 * PAGE, PAGE).freeze();
    let mut buffer = Some(tag.alloc_scattered(3 * PAGE, PAGE).unwrap());
    let mut parts = Some(Arc::new(frozen.slice(PAGE..3 * PAGE)));
    // SAFETY: this process has one thread that matters; the child drops and exits.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            let refused = arena.alloc_scattered(PAGE, PAGE).map(drop) == Err(AllocError::ForkedChild);
            drop(buffer.take().map(ScatteredBuffer::freeze));
            drop(parts.take());
            drop::<Scattered>(frozen);
            libc::_exit(i32::from(!refused));
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        assert_eq!(status, 0);
    }
    assert_eq!((arena.in_use(), tag.in_use()), (13 * PAGE, 3 * PAGE));
    assert!(frozen == *content(10 * PAGE));
    drop((frozen, buffer, parts));
    is_empty(&arena);
}

#[test]
fn more_pieces_than_there_are_is_an_error_and_costs_nothing() {
    let arena = Arena::builder().size(4 << 20).build().unwrap();
    for piece in [PAGE, 64 << 10, 2 << 20] {
        for len in [(4 << 20) + 1, 1 << 40, usize::MAX / 2, usize::MAX] {
            let refused = arena.alloc_scattered(len, piece).unwrap_err();
            assert!(
                matches!(refused, AllocError::OutOfMemory { .. } | AllocError::OverLimit { .. }),
                "{refused}"
            );
        }
    }
    assert_eq!((arena.in_use(), arena.audit().violations()), (0, 0));
}

/// What takes slices takes the pieces: each is one.
#[test]
fn pieces_go_where_slices_go() {
    let arena = arena();
    let read = filled(&arena, 10 * PAGE, 2 * PAGE).freeze();
    let content = read.to_vec();
    let columns: Vec<arrow_buffer::Buffer> =
        read.clone().into_slices().into_iter().map(arrow_buffer::Buffer::from).collect();
    assert_eq!(columns.iter().flat_map(|column| column.to_vec()).collect::<Vec<_>>(), content);
    let cache = foyer::CacheBuilder::new(6 * PAGE).with_shards(1);
    let cache: foyer::Cache<u64, Slice> = cache.with_weighter(tailpin_arena::foyer::weigher()).build();
    for (number, piece) in (0_u64..).zip(read.clone().into_slices()) {
        let text = serde_json::to_string(&piece).unwrap();
        let back: tailpin_arena::Kept = serde_json::from_str(&text).unwrap();
        assert!(back == piece[..]);
        cache.insert(number, piece);
    }
    drop((columns, read));
    assert!(cache.usage() <= 6 * PAGE && cache.usage() > 0);
    assert_eq!(arena.in_use(), cache.usage());
    drop(cache);
    is_empty(&arena);
}
