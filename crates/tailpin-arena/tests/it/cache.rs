//! A cache in steady state whose reads come in pieces, in an arena that has room for the cache and
//! for one read: nothing is ever refused, however long it goes on.

use tailpin_arena::{Arena, PAGE_SIZE as PAGE, Slice};

const CACHE: usize = 320 * PAGE / 5 * 4;
const READ: usize = 320 * PAGE / 5;

/// Reads of a fifth of the arena, of which one block in `one_of` is admitted and replaces any
/// other.
fn goes_round(reads: u32, one_of: usize) {
    // The whole pages of it are as many as cache and read need, wherever it begins.
    let arena = Arena::builder().over_memory(vec![0; CACHE + READ + PAGE - 1]).build().unwrap();
    assert_eq!(arena.size(), CACHE + READ);
    let mut cache: Vec<Option<(u32, Slice)>> = vec![None; CACHE / PAGE];
    let mut seed = 0x9E37_79B9_u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) as usize
    };
    for read in 0..reads {
        let mut buffer = match arena.try_alloc_scattered(READ, PAGE) {
            Ok(buffer) => buffer,
            Err(error) => panic!("read {read} of {reads}: {error}"),
        };
        for mut block in buffer.spare_slices() {
            for piece in block.chunks_mut(PAGE) {
                piece[..4].copy_from_slice(&read.to_le_bytes());
            }
        }
        buffer.advance(READ);
        let whole = buffer.freeze();
        for at in (0..READ).step_by(PAGE).filter(|_| next() % one_of == 0).collect::<Vec<_>>() {
            let block = whole.contiguous(at..at + PAGE).unwrap();
            let slot = next() % cache.len();
            if let Some((stamp, evicted)) = cache[slot].replace((read, block)) {
                assert_eq!(evicted[..4], stamp.to_le_bytes());
            }
        }
    }
    let kept = cache.iter().flatten().count();
    assert_eq!((kept, arena.in_use()), (cache.len(), CACHE), "the cache is full");
    assert_eq!(arena.counters().refused, 0);
    drop(cache);
    assert_eq!((arena.in_use(), arena.audit().violations()), (0, 0));
}

#[test]
fn reads_go_round_in_an_arena_a_quarter_larger_than_the_cache() {
    goes_round(5_000, 20);
    goes_round(2_000, 2);
}

#[test]
#[ignore = "half a minute of processor time"]
fn a_million_reads_go_round_in_an_arena_a_quarter_larger_than_the_cache() {
    goes_round(1_000_000, 20);
    goes_round(1_000_000, 2);
}
