//! What a slice can keep at most.

use crate::arena_ptr::Root;
use crate::handles::slice::Slice;
use crate::memory::{PAGE_SIZE, bytes_of};

impl Slice {
    /// Bytes of the pages that the slice touches: the most it can keep from reuse, whatever other
    /// handles there are. It never changes, which makes it the weight for caches (`foyer`, `moka`,
    /// `quick_cache`): the sum over all entries bounds what they keep. What this handle keeps *now*
    /// is [`Slice::retained_bytes`].
    ///
    /// ```
    /// # use tailpin_arena::Arena;
    /// # let arena = Arena::builder().size(16 << 20).build()?;
    /// let whole = arena.alloc(2 << 20)?.freeze();
    /// let record = whole.slice(4000..4200); // 200 bytes on two pages
    /// assert_eq!((record.footprint(), record.retained_bytes()), (8192, 0));
    /// drop(whole);
    /// assert_eq!((record.footprint(), record.retained_bytes()), (8192, 8192));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn footprint(&self) -> usize {
        bytes_of(self.pages().frames())
    }

    /// What bytes can keep at most that were made of a slice, or cut from one, by code that knows
    /// nothing of arenas: those of the pages they touch if they lie in an arena of this process,
    /// else their length. The weigher for caches of `Bytes` that went through
    /// `bytes::detach`.
    ///
    /// ```
    /// # use tailpin_arena::{Arena, Slice};
    /// # let arena = Arena::builder().size(16 << 20).build()?;
    /// let record = arena.alloc(2 << 20)?.freeze().slice(4000..4200);
    /// assert_eq!((Slice::footprint_of(&record), Slice::footprint_of(b"copied")), (8192, 6));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn footprint_of(bytes: &[u8]) -> usize {
        if bytes.is_empty() || Root::around(bytes).is_none() {
            return bytes.len();
        }
        let within = bytes.as_ptr().addr() % PAGE_SIZE;
        within.saturating_add(bytes.len()).div_ceil(PAGE_SIZE).saturating_mul(PAGE_SIZE)
    }
}
