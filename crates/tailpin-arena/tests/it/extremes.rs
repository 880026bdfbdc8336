//! Each public function that takes a number, with the smallest and the largest there are. The tests
//! are built with overflow checks, so arithmetic that wraps is a panic here; what is asserted is
//! what a caller without them sees as well.

use std::fmt::Debug;
use std::future::Future;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tailpin_arena::{
    AllocError, Arena, Backing, BuildError, HugeSize, Kept, Pace, Policy, ReadBuffer, SliceError, Stop,
};

use crate::common::{HUGE, MIB, PAGE};

const MAX: usize = usize::MAX;

/// Numbers around every border.
fn numbers() -> impl Iterator<Item = usize> + Clone {
    (0..64).flat_map(|shift| [(1_usize << shift) - 1, 1 << shift, (1 << shift) + 1]).chain([MAX - 1, MAX])
}

fn arena() -> Arena {
    Arena::builder().size(4 * MIB).build().unwrap()
}

fn is_as_it_was(arena: &Arena) {
    assert_eq!((arena.stats().in_use(), arena.audit().violations()), (0, 0));
}

fn panics<T>(call: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(call)).is_err()
}

#[test]
fn sizes_of_arenas() {
    let hugetlb = [HugeSize::Mib2, HugeSize::Gib1].map(Backing::HugeTlb);
    let files = [false, true].map(|huge| Backing::Memfd { huge });
    for backing in [Backing::Anonymous].into_iter().chain(hugetlb).chain(files) {
        // From a mebibyte on one after the other may be built; the larger ones are more than any
        // address space.
        for size in numbers().filter(|size| *size == 0 || *size > 1 << 48) {
            let error = Arena::builder().size(size).backing(backing).build().unwrap_err();
            match error {
                BuildError::BadSize { bytes } => assert_eq!(bytes, size),
                BuildError::OutOfMemory { .. }
                | BuildError::Zone(_)
                | BuildError::HugePageShortage { .. } => {}
                BuildError::System { .. } | BuildError::FileLimit { .. } => {
                    assert!(matches!(backing, Backing::Memfd { .. }), "{error}");
                }
                _ => panic!("{backing:?}, {size}: {error:?}"),
            }
        }
    }
    for bytes in [0, 1, PAGE - 1] {
        let error = Arena::builder().over_memory(vec![0; bytes]).build().unwrap_err();
        assert_eq!(error, BuildError::TooSmall { bytes });
    }
    let odd = Arena::builder().over_memory(vec![0; 5 * PAGE + 1]).build().unwrap();
    assert!([4 * PAGE, 5 * PAGE].contains(&odd.size()));
    is_as_it_was(&odd);
}

#[test]
fn lengths_of_buffers() {
    let arena = arena();
    for len in numbers() {
        let is_refused = |result: Result<tailpin_arena::Buffer, AllocError>| match result {
            Ok(buffer) => {
                assert!(buffer.len() == len && len <= 4 * MIB && buffer.capacity() >= len.max(PAGE))
            }
            Err(AllocError::TooLarge { asked }) => assert!(asked == len && len > 1 << 30),
            Err(AllocError::OutOfMemory { asked, .. }) => {
                assert!(asked == len && len > 4 * MIB && len <= 1 << 30)
            }
            Err(error) => panic!("{len}: {error}"),
        };
        is_refused(arena.alloc(len));
        is_refused(arena.alloc_tagged(len, "extreme"));
        is_refused(arena.alloc_zeroed(len));
        let mut buffer = arena.alloc(10_000).unwrap();
        buffer.truncate(len);
        assert_eq!(buffer.len(), len.min(10_000));
        assert!(arena.worst_holders(len).len() <= len.min(1));
    }
    is_as_it_was(&arena);
}

fn check<R: std::ops::RangeBounds<usize> + Clone + Debug>(whole: &tailpin_arena::Slice, range: R) {
    // By arithmetic that can't overflow.
    let start = match range.start_bound().cloned() {
        Included(at) => at as i128,
        Excluded(at) => at as i128 + 1,
        Unbounded => 0,
    };
    let end = match range.end_bound().cloned() {
        Included(at) => at as i128 + 1,
        Excluded(at) => at as i128,
        Unbounded => whole.len() as i128,
    };
    match whole.try_slice(range.clone()) {
        Ok(part) => {
            assert!(start <= end && end <= whole.len() as i128, "{range:?}");
            assert_eq!(part.len() as i128, end - start);
            assert_eq!(*whole.keep_part(range, Policy::default()), *part);
            assert!(part.footprint() < part.len() + 2 * PAGE && part.retained_bytes() == 0);
        }
        Err(SliceError::OutOfRange { .. }) => assert!(start > end || end > whole.len() as i128, "{range:?}"),
        Err(error) => panic!("{range:?}: {error}"),
    }
}

#[test]
fn ranges_of_slices() {
    let arena = arena();
    for len in [0, 1, PAGE, 3 * PAGE + 5] {
        let whole = arena.alloc(len).unwrap().freeze();
        let near = [0, 1, len.saturating_sub(1), len, len + 1, PAGE];
        let ends: Vec<usize> = numbers().step_by(7).chain(near).chain([MAX - 1, MAX]).collect();
        for &a in &ends {
            check(&whole, a..);
            check(&whole, ..a);
            check(&whole, ..=a);
            check(&whole, (Excluded(a), Unbounded));
            for &b in &ends {
                check(&whole, a..b);
                check(&whole, a..=b);
                check(&whole, (Excluded(a), Included(b)));
                check(&whole, (Excluded(a), Excluded(b)));
            }
        }
        check(&whole, ..);
        assert!(panics(|| whole.keep_part(MAX.., Policy::default())));
        assert!(panics(|| whole.slice(..=MAX)) && panics(|| whole.slice((Excluded(MAX), Unbounded))));
    }
    is_as_it_was(&arena);
}

#[test]
fn ranges_of_discards_and_counts_of_bytes() {
    let arena = arena();
    let mut buffer = arena.alloc(3 * PAGE + 5).unwrap();
    let len = buffer.len();
    for (a, b) in numbers().flat_map(|a| numbers().step_by(5).chain([len]).map(move |b| (a, b))) {
        let fits = a <= b && b <= len;
        assert_eq!(panics(|| buffer.discard(a..b).unwrap()), !fits, "{a}..{b}");
    }
    let mut buffer = ReadBuffer::new(buffer);
    for n in numbers() {
        buffer.clear();
        assert_eq!(panics(|| buffer.advance(n)), n > len);
        let left = len - buffer.filled().len();
        for more in [left + 1, MAX - 1, MAX] {
            assert!(panics(|| buffer.advance(more)));
        }
        assert_eq!(buffer.spare().len(), left);
    }
    drop(buffer);
    for bytes in numbers() {
        let kept = arena.alloc(5).unwrap().freeze().keep(Policy::CopyBelow(bytes));
        assert_eq!(matches!(kept, Kept::Copied(_)), 5 < bytes);
    }
    is_as_it_was(&arena);
}

#[test]
fn targets_thresholds_and_times() {
    for keep in numbers() {
        let builder = Arena::builder().size(4 * MIB).keep_resident(keep).split_huge_pages(keep as u64);
        let arena = builder.build().unwrap();
        arena.alloc(HUGE).unwrap().fill(1);
        let released = arena.release(MAX).unwrap();
        assert!(arena.stats().free >= keep.min(HUGE), "{keep}: {released}");
        assert_eq!(released.stopped, if keep == 0 { Stop::NothingLeft } else { Stop::Watermark }, "{keep}");
        assert!(arena.release(0).is_ok_and(|released| released.stopped != Stop::MapLimit));
        is_as_it_was(&arena);
    }
    let arena = arena();
    let kept = arena.alloc(HUGE).unwrap().freeze().slice(0..1);
    for target in numbers() {
        assert_eq!(arena.release(target).unwrap().asked, target);
    }
    drop(kept);
    for interval in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        for step in [0, 1, MAX] {
            let releaser = arena.spawn_releaser(Pace { step, interval }).unwrap();
            assert!(releaser.stop().is_ok());
        }
    }
    is_as_it_was(&arena);
}

/// The answer of a request where nothing is in use, so that it has nothing to wait for.
fn answer<T>(request: impl Future<Output = T>) -> T {
    match pin!(request).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("it waits for nothing"),
    }
}

/// Of so many bytes where `most` can be had, asked for by any number. Errors name what was asked.
fn is_answered<T>(asked: usize, most: usize, len: impl Fn(&T) -> usize, result: Result<T, AllocError>) {
    match result {
        Ok(made) => assert!(len(&made) >= asked && asked <= most, "{asked}"),
        Err(AllocError::BadPiece { .. }) => {}
        Err(error) => assert!(asked > most, "{asked}: {error}"),
    }
}

#[test]
fn requests_of_each_kind() {
    let whole = Arena::builder().size(4 * MIB).build().unwrap();
    let limited = Arena::builder().size(4 * MIB).limit(MIB).build().unwrap();
    // What is reserved is a part of the limit, and no memory yet.
    for (arena, limit, reservable) in [(&whole, 4 * MIB, MAX), (&limited, MIB, MIB)] {
        for (number, n) in numbers().enumerate() {
            let tag = arena.tag(&format!("extreme {number}")).unwrap();
            let buffer = |buffer: &tailpin_arena::Buffer| buffer.len();
            let reserved = |reserved: &tailpin_arena::Reservation| reserved.left();
            // Lengths of a block are powers of two.
            is_answered(n, limit, buffer, arena.try_alloc(n));
            is_answered(n, limit, buffer, answer(arena.alloc_async(n)));
            is_answered(n, limit, buffer, tag.alloc(n));
            is_answered(n, limit, buffer, tag.try_alloc(n));
            is_answered(n, limit, buffer, answer(tag.alloc_async(n)));
            is_answered(n, reservable, reserved, arena.reserve(n));
            is_answered(n, reservable, reserved, arena.try_reserve(n));
            is_answered(n, reservable, reserved, answer(arena.reserve_async(n)));
            is_answered(n, reservable, reserved, tag.reserve(n));
            is_answered(n, reservable, reserved, tag.try_reserve(n));
            is_answered(n, reservable, reserved, answer(tag.reserve_async(n)));
            for time in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
                is_answered(n, reservable, reserved, arena.reserve_timeout(n, time));
                is_answered(n, reservable, reserved, tag.reserve_timeout(n, time));
            }
            // What the heap is asked for has to be there.
            if n <= 8 * MIB {
                let mut buffer = arena.alloc_or_heap(n);
                assert_eq!((buffer.len(), buffer.is_on_heap()), (n, n > limit));
                for less in [n, n / 2, 0, MAX] {
                    buffer.truncate(less);
                    assert!(buffer.len() <= less);
                }
            }
            for piece in [0, PAGE - 1, PAGE, HUGE, 2 * HUGE, 1 << 63, MAX] {
                let pieces = |pieces: &tailpin_arena::ScatteredBuffer| pieces.capacity();
                let good = piece.is_power_of_two() && (PAGE..=HUGE).contains(&piece);
                let most = if good { limit / piece * piece } else { 0 };
                is_answered(n, most, pieces, arena.alloc_scattered(n, piece));
                is_answered(n, most, pieces, arena.try_alloc_scattered(n, piece));
                is_answered(n, most, pieces, answer(arena.alloc_scattered_async(n, piece)));
                is_answered(n, most, pieces, tag.alloc_scattered(n, piece));
                is_answered(n, most, pieces, tag.try_alloc_scattered(n, piece));
                is_answered(n, most, pieces, answer(tag.alloc_scattered_async(n, piece)));
                let mut all = arena.reserve(limit).unwrap();
                is_answered(n, most, pieces, all.alloc_scattered(n, piece));
                drop(all);
                let got = arena.alloc_up_to(n, piece);
                assert_eq!(got.is_ok(), piece <= limit, "{n}, {piece}");
                assert!(
                    got.is_ok_and(|got| got.len() >= piece && got.len() <= n.max(piece)) || piece > limit
                );
            }
            let mut all = arena.reserve(limit).unwrap();
            is_answered(n, limit, buffer, all.alloc(n));
            if let Some(part) = all.split(n) {
                assert!(part.left() >= n && part.left() - n < PAGE);
            }
            all.shrink_to(n);
            assert!(all.left() <= n.saturating_add(PAGE));
            drop(all);
            assert!(arena.worst_holders_within(n, n).0.is_empty());
            tag.set_limit(n);
            is_answered(1, if n >= PAGE { limit } else { 0 }, buffer, tag.try_alloc(1));
        }
        is_as_it_was(arena);
    }
    for n in numbers() {
        limited.set_limit(n);
        assert!(limited.limit().is_none_or(|limit| limit <= n && n - limit < PAGE || n > 1 << 60));
        assert_eq!(limited.try_alloc(1).is_ok(), n >= PAGE, "{n}");
    }
}

#[test]
fn limits_watermarks_and_parts_of_pieces() {
    for n in numbers() {
        let builder = Arena::builder().size(2 * MIB).release_above(n).limit(n).watermarks(n, MAX - n, |_| ());
        let arena = builder.build().unwrap();
        assert_eq!(arena.alloc(PAGE).is_ok(), n >= PAGE);
        is_as_it_was(&arena);
    }
    let arena = arena();
    let read = || arena.alloc_scattered(3 * PAGE + 5, PAGE).unwrap();
    for n in numbers() {
        let mut filled = read();
        let capacity = filled.capacity() - filled.len();
        assert_eq!(panics(|| filled.advance(n)), n > capacity, "{n}");
        #[cfg(feature = "io-uring")]
        {
            let mut vector = tailpin_arena::IoVector::from(read());
            assert_eq!(panics(|| vector.set_read(n)), n > capacity, "{n}");
            let _entry = vector.read(&std::io::stdin(), n as u64);
        }
    }
    let mut filled = read();
    filled.advance(3 * PAGE);
    let whole = filled.freeze();
    for a in numbers() {
        for b in numbers().step_by(3).chain([whole.len(), PAGE, MAX]) {
            let inside = a <= b && b <= whole.len();
            assert_eq!(whole.try_slice(a..b).is_ok(), inside, "{a}..{b}");
            let one_piece = inside && (a == b || a / PAGE == (b - 1) / PAGE);
            assert_eq!(whole.contiguous(a..b).is_ok(), one_piece, "{a}..{b}");
            let inside = b.checked_add(1).is_some_and(|end| a <= end && end <= whole.len());
            assert_eq!(panics(|| whole.slice(a..=b)), !inside, "{a}..={b}");
        }
    }
    drop(whole);
    is_as_it_was(&arena);
}

#[test]
fn processes_pageblocks_and_shared_arenas() {
    use tailpin::Order;
    use tailpin_arena::outside;
    use tailpin_arena::shared::{SharedArena, SharedError};
    for pid in (0..32).map(|shift| 1 << shift).chain([0, u32::MAX - 1, u32::MAX]) {
        drop(outside::arenas_of(pid));
    }
    let shared = match SharedArena::create(MIB, 3) {
        Ok(shared) => shared,
        Err(SharedError::NoWideAtomics) => return,
        Err(error) => panic!("{error}"),
    };
    use std::os::fd::AsRawFd;
    let file = format!("/proc/self/fd/{}", shared.as_raw_fd());
    let look = outside::shared_file(file.as_ref()).unwrap().look().unwrap();
    for n in numbers() {
        assert_eq!(look.pages_of(n).len(), if n == 0 { 512 } else { 0 }, "{n}");
        for owners in numbers().step_by(5).chain([1, 64]) {
            // From a mebibyte on one after the other may be made.
            if n == 0 || n > 1 << 48 || owners == 0 || owners > 1 << 16 {
                assert!(SharedArena::create(n, owners).is_err(), "{n}, {owners}");
            }
        }
        assert_eq!(shared.alloc(n).is_ok(), (1..=HUGE).contains(&n), "{n}");
        let block = shared.alloc(5 * PAGE).unwrap().freeze();
        for m in numbers().step_by(3) {
            assert_eq!(block.slice(n..m).is_ok(), n < m && m <= 5 * PAGE);
            assert_eq!(block.slice(5..PAGE).unwrap().slice(n..m).is_ok(), n < m && m <= PAGE - 5);
        }
    }
    let mut block = shared.alloc(5 * PAGE).unwrap().freeze();
    for order in Order::all() {
        // One that is smaller already stays as it is.
        assert_eq!(block.split_to(order), Ok(()), "{order}");
        block.merge().unwrap();
    }
    drop(block);
    assert_eq!(shared.audit().violations(), 0);
}

#[cfg(feature = "bytes")]
#[test]
fn counts_of_a_buf_mut() {
    use bytes::BufMut;
    let mut buffer = ReadBuffer::new(arena().alloc(5000).unwrap());
    buffer.put_slice(&[1; 4000]);
    for n in numbers() {
        let refused = n > buffer.remaining_mut();
        let mut again = ReadBuffer::new(arena().alloc(1000).unwrap());
        assert_eq!(again.remaining_mut(), 1000);
        // SAFETY: all bytes of an arena are initialised.
        assert_eq!(panics(|| unsafe { again.advance_mut(n) }), refused);
    }
}

#[cfg(feature = "compio")]
#[test]
fn lengths_by_compio() {
    use compio_buf::{IoBuf, IoBufMut, SetLen};
    let arena = arena();
    for n in numbers() {
        let mut buffer = ReadBuffer::new(arena.alloc(1000).unwrap());
        // SAFETY: all bytes of an arena are initialised.
        assert_eq!(panics(|| unsafe { buffer.set_len(n) }), n > 1000);
        assert_eq!(buffer.buf_len(), if n > 1000 { 0 } else { n });
        // SAFETY: as above.
        assert!(panics(|| unsafe { SetLen::advance(&mut buffer, MAX) }));
        assert!(buffer.reserve(n).is_ok() == (n <= 1000 - buffer.buf_len()), "{n}");
    }
    is_as_it_was(&arena);
}

#[cfg(feature = "monoio")]
#[test]
fn lengths_by_monoio() {
    use monoio::buf::{IoBuf, IoBufMut};
    let arena = arena();
    for n in numbers() {
        let mut buffer = ReadBuffer::new(arena.alloc(1000).unwrap());
        // SAFETY: all bytes of an arena are initialised.
        assert_eq!(panics(|| unsafe { buffer.set_init(n) }), n > 1000);
        assert_eq!((buffer.bytes_init(), buffer.bytes_total()), (if n > 1000 { 0 } else { n }, 1000));
    }
    is_as_it_was(&arena);
}

#[cfg(feature = "vm-memory")]
#[test]
fn addresses_of_a_guest() {
    use tailpin_arena::vm_memory::GuestRegion;
    use vm_memory::{GuestAddress, GuestMemoryRegion, MemoryRegionAddress};
    let arena = arena();
    for start in numbers() {
        for bytes in numbers().step_by(3).chain([MAX]) {
            let made = GuestRegion::new(&arena, GuestAddress(start as u64), bytes);
            let can_be = bytes > 0 && start as u128 + bytes as u128 <= 1 << 64 && bytes <= 4 * MIB;
            assert_eq!(made.is_ok(), can_be, "{bytes} from {start}");
        }
    }
    let start = 1_usize << 40;
    let region = GuestRegion::new(&arena, GuestAddress(start as u64), MIB).unwrap();
    for at in numbers() {
        let host = region.get_host_address(MemoryRegionAddress(at as u64));
        assert_eq!(host.is_ok(), at < MIB);
        for count in numbers().step_by(3).chain([MAX]) {
            let inside = at as u128 + count as u128 <= MIB as u128;
            assert_eq!(
                region.get_slice(MemoryRegionAddress(at as u64), count).is_ok(),
                inside,
                "{count} at {at}"
            );
            let from = at as i128 - start as i128;
            let pages_lie_inside = from >= 0 && from % 4096 == 0 && from / 4096 + count as i128 <= 256;
            assert_eq!(
                region.inflate(GuestAddress(at as u64), count).is_ok(),
                pages_lie_inside,
                "{count} at {at}"
            );
        }
    }
    drop(region);
    is_as_it_was(&arena);
}

#[cfg(feature = "io-uring")]
#[test]
fn offsets_of_reads_and_writes() {
    use io_uring::IoUring;
    use tailpin_arena::io_uring::FixedBuffers;
    let Ok(ring) = IoUring::new(4) else { return };
    let arena = arena();
    let Ok(fixed) = FixedBuffers::register(&arena, &ring) else { return };
    let file = std::fs::File::open("/dev/zero").unwrap();
    let slice = arena.alloc(10).unwrap().freeze();
    let mut buffer = ReadBuffer::new(arena.alloc(10).unwrap());
    for offset in numbers() {
        assert!(fixed.read(&file, &mut buffer, offset as u64).is_some());
        assert!(fixed.write(&file, &slice, offset as u64).is_some());
    }
    fixed.unregister().map_err(|(_, error)| error).unwrap();
}

#[cfg(feature = "allocator-api2")]
#[test]
fn layouts_of_allocations() {
    use allocator_api2::alloc::{Allocator, Layout};
    let arena = arena();
    for size in numbers() {
        for align in (0..63).map(|shift| 1 << shift) {
            let Ok(layout) = Layout::from_size_align(size, align) else { continue };
            let Ok(memory) = arena.allocate(layout) else {
                assert!(size > 0 && size.max(align) > 4 * MIB, "{layout:?}");
                continue;
            };
            assert!(memory.len() >= size && memory.cast::<u8>().addr().get() % align == 0);
            // SAFETY: just allocated with this layout.
            unsafe { arena.deallocate(memory.cast(), layout) };
        }
    }
    is_as_it_was(&arena);
}
