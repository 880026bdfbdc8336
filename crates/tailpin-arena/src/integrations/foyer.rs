//! `foyer`: a cache whose weights are what its entries keep in memory.

use std::io::{self, Read, Write};
use std::ops::Deref;

use ::foyer::{self, Code, Error, Weighter};

use crate::handles::keep::Kept;
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

/// What a `foyer::HybridCache` can have for a value: a [`Slice`] of an arena, pinned while it is in
/// memory, which goes to the disk as its bytes. What comes back from there is a copy on the heap.
///
/// ```
/// use foyer::HybridCache;
/// use tailpin_arena::foyer::{HybridBytes, hybrid_weigher};
/// use tailpin_arena::{Arena, Policy};
///
/// # fn insert(arena: &Arena, cache: &HybridCache<u64, HybridBytes>) -> Result<(), Box<dyn std::error::Error>> {
/// let read = arena.alloc(64 << 10)?.freeze();
/// cache.insert(7, HybridBytes::from(read.slice(8192..24_576)));
/// cache.insert(8, HybridBytes::from(read.slice(100..300).keep(Policy::default())));
/// # Ok(())
/// # }
/// # let _ = hybrid_weigher::<u64>;
/// ```
///
/// A type of its own, as foyer implements [`Code`] for all that `serde` can write where it is built
/// with that feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HybridBytes(pub Kept);

impl From<Slice> for HybridBytes {
    fn from(slice: Slice) -> Self {
        Self(Kept::Pinned(slice))
    }
}

impl From<Kept> for HybridBytes {
    fn from(kept: Kept) -> Self {
        Self(kept)
    }
}

impl Deref for HybridBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Length, then the bytes.
impl Code for HybridBytes {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        let write = |writer: &mut dyn Write| {
            writer.write_all(&(self.len() as u64).to_le_bytes())?;
            writer.write_all(self)
        };
        write(writer).map_err(Error::io_error)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let mut len = [0; size_of::<u64>()];
        reader.read_exact(&mut len).map_err(Error::io_error)?;
        let len = u64::from_le_bytes(len);
        // No room is made for more than follows, whatever the length says.
        let mut bytes = Vec::new();
        let read = reader.take(len).read_to_end(&mut bytes).map_err(Error::io_error)?;
        if (read as u64) < len {
            return Err(Error::io_error(io::Error::from(io::ErrorKind::UnexpectedEof)));
        }
        Ok(Self(Kept::Copied(bytes.into_boxed_slice())))
    }

    fn estimated_size(&self) -> usize {
        size_of::<u64>().saturating_add(self.len())
    }
}

/// Weighs by what is kept: the pages that a slice touches, or the length of a copy.
pub fn hybrid_weigher<K>() -> impl Weighter<K, HybridBytes> {
    |_key: &K, bytes: &HybridBytes| match &bytes.0 {
        Kept::Pinned(slice) => slice.footprint(),
        Kept::Copied(bytes) => bytes.len(),
    }
}
