//! A `foyer` cache whose capacity bounds what its entries keep.

#![cfg(feature = "foyer")]

use foyer::{Cache, CacheBuilder};
use tailpin_arena::foyer::weigher;
use tailpin_arena::{Arena, Slice};

const CAPACITY: usize = 256 << 10;
const BLOCKS: u64 = 400;

/// Reads blocks of 64 KiB and caches 200 bytes of each.
fn fill(arena: &Arena, cache: &Cache<u64, Slice>) {
    for block in 0..BLOCKS {
        let whole = arena.alloc(64 << 10).unwrap().freeze();
        cache.insert(block, whole.slice(100..300));
    }
}

#[test]
fn weighed_by_footprint_the_capacity_is_what_is_kept() {
    let arena = Arena::builder().size(64 << 20).build().unwrap();
    let cache = CacheBuilder::new(CAPACITY).with_shards(1).with_weighter(weigher()).build();
    fill(&arena, &cache);
    assert_eq!(cache.usage(), CAPACITY);
    assert_eq!(arena.stats().in_use(), CAPACITY);
    cache.clear();
    assert_eq!(arena.stats().in_use(), 0);
}

/// What goes wrong without it.
#[test]
fn weighed_by_length_the_cache_keeps_many_times_its_capacity() {
    let arena = Arena::builder().size(64 << 20).build().unwrap();
    let by_length = |_: &u64, slice: &Slice| slice.len();
    let cache = CacheBuilder::new(CAPACITY / 8).with_shards(1).with_weighter(by_length).build();
    fill(&arena, &cache);
    assert!(cache.usage() <= CAPACITY / 8);
    assert!(arena.stats().in_use() > CAPACITY / 8 * 15, "{}", arena.stats());
}

#[test]
fn an_entry_in_use_survives_its_eviction() {
    let arena = Arena::builder().size(64 << 20).build().unwrap();
    let cache = CacheBuilder::new(CAPACITY).with_shards(1).with_weighter(weigher()).build();
    let mut buffer = arena.alloc(100).unwrap();
    buffer.copy_from_slice(&[9; 100]);
    cache.insert(u64::MAX, buffer.freeze());
    let entry = cache.get(&u64::MAX).unwrap();
    let mine = entry.value().clone();
    drop(entry);
    fill(&arena, &cache);
    cache.remove(&u64::MAX);
    assert!(mine.iter().all(|&byte| byte == 9));
}
