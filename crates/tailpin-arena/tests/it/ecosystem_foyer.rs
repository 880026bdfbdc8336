//! A `foyer` cache whose capacity bounds what its entries keep.

#![cfg(feature = "foyer")]

use foyer::{
    BlockEngineConfig, Cache, CacheBuilder, Code, DeviceBuilder, FsDeviceBuilder, HybridCache,
    HybridCacheBuilder,
};
use tailpin_arena::foyer::{HybridBytes, hybrid_weigher, weigher};
use tailpin_arena::{Arena, Kept, Policy, Slice};

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

#[test]
fn what_goes_to_the_disk_comes_back_as_it_was() {
    let arena = Arena::builder().size(64 << 20).build().unwrap();
    let mut buffer = arena.alloc(64 << 10).unwrap();
    buffer.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at % 251) as u8);
    let whole = buffer.freeze();
    for part in [whole.slice(..0), whole.slice(5..6), whole.slice(4000..20_000), whole.clone()] {
        for kept in [Kept::from(part.clone()), part.clone().keep(Policy::CopyBelow(usize::MAX))] {
            let value = HybridBytes::from(kept);
            let mut written = Vec::new();
            value.encode(&mut written).unwrap();
            assert_eq!(written.len(), value.estimated_size());
            let back = HybridBytes::decode(&mut &written[..]).unwrap();
            assert_eq!((&back, &back[..]), (&value, &part[..]));
            for cut in [0, 7, written.len() - 1] {
                assert!(HybridBytes::decode(&mut &written[..cut.min(written.len() - 1)]).is_err());
            }
        }
    }
    // A length that the data does not keep costs an error and no memory.
    assert!(HybridBytes::decode(&mut &u64::MAX.to_le_bytes()[..]).is_err());
}

#[test]
fn a_hybrid_cache_keeps_slices_in_memory_and_their_bytes_on_the_disk() {
    let dir = std::env::temp_dir().join(format!("tailpin-foyer-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let arena = Arena::builder().size(64 << 20).build().unwrap();
        let device = FsDeviceBuilder::new(&dir).with_capacity(16 << 20).build().unwrap();
        let cache: HybridCache<u64, HybridBytes> = HybridCacheBuilder::new()
            .memory(CAPACITY)
            .with_shards(1)
            .with_weighter(hybrid_weigher())
            .storage()
            .with_engine_config(BlockEngineConfig::new(device).with_block_size(1 << 20))
            .build()
            .await
            .unwrap();
        for block in 0..BLOCKS {
            let mut buffer = arena.alloc(64 << 10).unwrap();
            buffer.fill(block as u8);
            cache.insert(block, buffer.freeze().slice(100..300).into());
        }
        assert!(cache.memory().usage() <= CAPACITY);
        // What is on its way to the disk is kept until it is there.
        while arena.in_use() > CAPACITY {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let mut from_disk = 0;
        for block in 0..BLOCKS {
            if let Some(entry) = cache.get(&block).await.unwrap() {
                assert_eq!(entry.value().0, [block as u8; 200]);
                from_disk += u64::from(matches!(entry.value().0, Kept::Copied(_)));
            }
        }
        assert!(from_disk > 0, "some of what was evicted is read back");
    });
    let _ = std::fs::remove_dir_all(&dir);
}
