//! `foyer`: a cache whose weights are what its entries keep in memory.

use ::foyer::Weighter;

use crate::handles::slice::Slice;

/// Weighs slices by [`Slice::footprint`], for `foyer::CacheBuilder::with_weighter`.
///
/// A weigher that asks for `len()` lets a cache of 200-byte slices keep twenty times its capacity.
/// One that asks for [`Slice::retained_bytes`] at insertion is told 0 while the read buffer is
/// still there, and a cache asks once only. The footprint is the most a slice can keep, whatever
/// happens around it: the cache's capacity becomes a bound on memory. Entries that share a page
/// each count it, so it may be reached early, never late.
///
/// ```
/// use foyer::{Cache, CacheBuilder};
/// use tailpin_arena::{Arena, Slice, foyer::weigher};
///
/// let arena = Arena::builder().size(16 << 20).build()?;
/// let cache: Cache<u64, Slice> =
///     CacheBuilder::new(64 << 10).with_shards(1).with_weighter(weigher()).build();
/// for block in 0..100_u64 {
///     let whole = arena.alloc(64 << 10)?.freeze();
///     cache.insert(block, whole.slice(100..300)); // 200 bytes, one page
/// }
/// assert_eq!(cache.usage(), 64 << 10);
/// assert_eq!(arena.stats().in_use(), 64 << 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn weigher<K>() -> impl Weighter<K, Slice> {
    |_key: &K, slice: &Slice| slice.footprint()
}
