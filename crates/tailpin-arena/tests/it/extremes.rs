//! Each public function that takes a number, with the smallest and the largest there are. The tests
//! are built with overflow checks, so arithmetic that wraps is a panic here; what is asserted is
//! what a caller without them sees as well.

use std::fmt::Debug;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
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
