//! What a slice can keep at most.

use crate::handles::slice::Slice;
use crate::memory::bytes_of;

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
}
