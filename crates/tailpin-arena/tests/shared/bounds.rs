//! Numbers from a caller, or from another process, up to the largest there are.

use std::ops::Bound;

use tailpin::Order;
use tailpin_arena::shared::{RecoverError, SharedArena, SharedError, Token};

use super::{MIB, PAGE};

/// Around what counts, and at the ends.
fn extremes(around: &[u64]) -> Vec<u64> {
    let mut all = vec![0, 1, 1 << 32, (1 << 51) - 1, 1 << 51, 1 << 52, (1 << 63) - 1, 1 << 63];
    all.extend([u64::MAX - 4096, u64::MAX - 4095, u64::MAX - 1, u64::MAX]);
    all.extend(around.iter().flat_map(|n| [n.saturating_sub(1), *n, n + 1]));
    all
}

#[test]
fn sizes_of_arenas_and_counts_of_processes() {
    let none = |bytes, owners| SharedArena::create(bytes, owners).map(drop).unwrap_err();
    let most = 1usize << 44;
    for bytes in [0, most + 1, 1 << 52, 1 << 63, usize::MAX - (2 << 20) + 1, usize::MAX - 4095, usize::MAX] {
        assert_eq!(none(bytes, 1), SharedError::BadSize { bytes });
    }
    for owners in [0, 512, 1 << 32, 1 << 51, 1 << 58, 1 << 63, usize::MAX] {
        assert_eq!(none(MIB, owners), SharedError::TooManyOwners { owners, most: 511 });
    }
    assert_eq!(SharedArena::create(1, 511).unwrap().size(), 2 * MIB as u64);
}

#[test]
fn lengths_of_buffers() {
    let arena = SharedArena::create(8 * MIB, 1).unwrap();
    for len in extremes(&[4096, 2 << 20, 4 << 20]) {
        let len = len as usize;
        match arena.alloc(len) {
            Ok(buffer) => assert!((1..=2 << 20).contains(&len) && buffer.len() == len),
            Err(error) => {
                assert!(len == 0 || len > 2 << 20);
                assert_eq!(error, SharedError::BadLength { bytes: len });
            }
        }
    }
    assert_eq!(arena.free_bytes(), arena.size());
    // What is free, and in smaller pieces.
    let pages: Vec<_> = (0..4).map(|_| arena.alloc(2 << 20).unwrap().freeze().slice(..1).unwrap()).collect();
    let error = arena.alloc(2 << 20).map(drop).unwrap_err();
    let free = arena.size() - 4 * PAGE as u64;
    assert_eq!(error, SharedError::Exhausted { order: Order::HUGE, free });
    drop(pages);
}

#[test]
fn ranges_of_slices() {
    let arena = SharedArena::create(2 * MIB, 1).unwrap();
    let len = 3 * PAGE + 5;
    let mut buffer = arena.alloc(len).unwrap();
    for (place, byte) in buffer.iter_mut().zip((0..251).cycle()) {
        *place = byte;
    }
    let block = buffer.freeze();
    let whole = block.slice(..).unwrap();
    let ends: Vec<Bound<usize>> = extremes(&[4096, len as u64])
        .into_iter()
        .flat_map(|n| [Bound::Included(n as usize), Bound::Excluded(n as usize)])
        .chain([Bound::Unbounded])
        .collect();
    for start in &ends {
        for end in &ends {
            let first = match *start {
                Bound::Included(n) => n as u128,
                Bound::Excluded(n) => n as u128 + 1,
                Bound::Unbounded => 0,
            };
            let behind = match *end {
                Bound::Included(n) => n as u128 + 1,
                Bound::Excluded(n) => n as u128,
                Bound::Unbounded => len as u128,
            };
            let fits = first < behind && behind <= len as u128;
            for slice in [block.slice((*start, *end)), whole.slice((*start, *end))] {
                match slice {
                    Ok(slice) => assert!(
                        fits && slice[..] == block[first as usize..behind as usize],
                        "{start:?} to {end:?}"
                    ),
                    Err(SharedError::OutOfRange { len: there, .. }) => {
                        assert!(!fits && there == len, "{start:?} to {end:?}");
                    }
                    Err(other) => panic!("{start:?} to {end:?}: {other}"),
                }
            }
        }
    }
    for order in 0..=18 {
        block.split_to(Order::new(order).unwrap()).unwrap();
    }
    drop((block, whole));
    assert_eq!(arena.free_bytes(), arena.size());
}

/// A token with other numbers in it.
fn forged(offset: u64, len: u64, life: u64) -> Token {
    let mut bytes = [0; 24];
    for (place, number) in bytes.as_chunks_mut::<8>().0.iter_mut().zip([offset, len, life]) {
        *place = number.to_le_bytes();
    }
    Token::from_bytes(bytes)
}

fn numbers(token: Token) -> [u64; 3] {
    [0, 1, 2].map(|i| u64::from_le_bytes(token.to_bytes().as_chunks::<8>().0[i]))
}

#[test]
fn tokens_of_anything() {
    let arena = SharedArena::create(2 * MIB, 1).unwrap();
    let mut buffer = arena.alloc(4 * PAGE).unwrap();
    buffer.fill(7);
    let block = buffer.freeze();
    let slice = block.slice(PAGE + 1..3 * PAGE).unwrap();
    let [offset, len, life] = numbers(slice.token());
    let first = offset - offset % PAGE as u64 - PAGE as u64;
    let used = first..first + 4 * PAGE as u64;
    let mut adopted = 0;
    for offset in extremes(&[offset, used.end, arena.size()]) {
        for len in extremes(&[len, 4096, arena.size()]) {
            for life in [0, 1, life, life & !1, life.wrapping_add(2), u64::MAX] {
                let end = u128::from(offset) + u128::from(len);
                let fits = len > 0 && offset >= used.start && end <= used.end.into();
                match arena.adopt(forged(offset, len, life)) {
                    Ok(slice) => {
                        assert!(fits && life == numbers(block.slice(..).unwrap().token())[2]);
                        assert!(slice.len() as u64 == len && slice.iter().all(|byte| *byte == 7));
                        adopted += 1;
                    }
                    Err(error) => assert_eq!(error, SharedError::Stale, "{offset:#x} {len:#x} {life:#x}"),
                }
            }
        }
    }
    assert!(adopted > 10, "{adopted}");
    drop((slice, block));
    let audit = arena.audit();
    assert_eq!((audit.violations(), audit.free, audit.pinned), (0, audit.frames, 0), "{audit}");
}

/// What lies behind frozen pages is not to be read by a token of theirs.
#[test]
fn every_page_of_a_token_is_looked_at() {
    let arena = SharedArena::create(2 * MIB, 1).unwrap();
    // All pages are in use, so behind each but the last there is another one, which is being
    // written.
    let mut buffers: Vec<_> = std::iter::from_fn(|| arena.alloc(PAGE).ok()).collect();
    assert_eq!(buffers.len(), 512);
    let frozen = buffers.swap_remove(200).freeze();
    let slice = frozen.slice(..).unwrap();
    let [offset, len, life] = numbers(slice.token());
    assert!(offset > 0 && offset + 4096 < arena.size());
    assert_eq!(arena.adopt(forged(offset, len, life)).unwrap().len(), PAGE);
    for (offset, len) in
        [(offset, len + 1), (offset, 2 * len), (offset - 1, len + 1), (offset - len, 3 * len)]
    {
        assert_eq!(arena.adopt(forged(offset, len, life)).map(drop), Err(SharedError::Stale));
    }
    // Nor if what is behind is settled, but by others.
    let others: Vec<_> = buffers.into_iter().map(|buffer| buffer.freeze()).collect();
    assert_eq!(arena.adopt(forged(offset, len + 1, life)).map(drop), Err(SharedError::Stale));
    drop((others, slice, frozen));
    let audit = arena.audit();
    assert_eq!((audit.violations(), audit.free, audit.pinned), (0, audit.frames, 0), "{audit}");
}

/// An adoption that ends at a page which is not in use leaves no pin on those before it, in however
/// many steps they came.
#[test]
fn a_pin_refused_half_way_leaves_none() {
    let arena = SharedArena::create(4 * MIB, 1).unwrap();
    for (of, pages) in [(4, 5), (64, 65), (128, 129), (128, 192), (256, 257)] {
        let block = arena.alloc(of * PAGE).unwrap().freeze();
        let slice = block.slice(..).unwrap();
        let [offset, _, life] = numbers(slice.token());
        drop(slice);
        let token = forged(offset, (pages * PAGE) as u64, life);
        assert_eq!(arena.adopt(token).map(drop), Err(SharedError::Stale));
        let audit = arena.audit();
        assert_eq!((audit.violations(), audit.pinned), (0, 0), "{pages} pages: {audit}");
        drop(block);
        assert_eq!(arena.free_bytes(), arena.size(), "{pages} pages");
    }
}

#[test]
fn an_owner_of_another_arena_is_none_of_this_one() {
    let (few, many) = (SharedArena::create(MIB, 1).unwrap(), SharedArena::create(MIB, 3).unwrap());
    let path = super::path_of(&many);
    // SAFETY: the file is from `create`, and this process uses nothing but this crate on it.
    let attach = || unsafe { SharedArena::attach(super::open(&path)) }.unwrap();
    let (_second, third) = (attach(), attach());
    assert_eq!(few.recover(third.me()), Err(RecoverError::Gone(third.me())));
}
