//! Copies within an arena.

use crate::arena::Arena;
use crate::error::AllocError;
use crate::handles::fragments::LONGEST;
use crate::handles::keep::Policy;
use crate::handles::slice::Slice;
use crate::memory::PAGE_SIZE;
use crate::thread_slot::current_index;

impl Arena {
    /// A copy of these bytes in the arena. Short ones, of up to 1 KiB, share pages: each is a slice
    /// with a pin of its own, and a page is free when the last of them is gone and it is not being
    /// filled any more. One page for each CPU is being filled, and in use, from the first such copy
    /// on.
    ///
    /// In place of a box for each record: the arena's limit and its figures cover copies too. Waits
    /// for the limit as [`Arena::alloc`] does, for one page at a time.
    ///
    /// ```
    /// # use tailpin_arena::Arena;
    /// let arena = Arena::builder().limit(16 << 20).build()?;
    /// let names: Vec<_> = (0..100).map(|i| arena.copy(format!("name {i}").as_bytes()).unwrap()).collect();
    /// assert_eq!(&names[7][..], b"name 7");
    /// assert!(arena.in_use() <= 4096 * std::thread::available_parallelism()?.get());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`AllocError`]; the arena is as it was.
    pub fn copy(&self, bytes: &[u8]) -> Result<Slice, AllocError> {
        if bytes.is_empty() {
            return Ok(Slice::default());
        }
        let inner = self.inner();
        if inner.is_child() {
            return Err(AllocError::ForkedChild);
        }
        if bytes.len() <= LONGEST {
            let cpu = current_index();
            let copy = self.fragments().copy(self.root(), cpu, bytes);
            if let Some(copy) = copy {
                return Ok(copy);
            }
            let page = self.alloc(PAGE_SIZE)?;
            if let Some(copy) = self.fragments().copy_to(self.root(), cpu, page, bytes) {
                return Ok(copy);
            }
        }
        let mut buffer = self.alloc(bytes.len())?;
        buffer.copy_from_slice(bytes);
        Ok(buffer.freeze())
    }

    /// Keeps the bytes of a slice of any arena the cheaper way, as [`Slice::keep`] does; but what
    /// is small becomes a [copy](Arena::copy) in this arena, so that what comes is a slice either
    /// way.
    ///
    /// # Errors
    /// [`AllocError`], with nothing kept.
    pub fn keep(&self, slice: Slice, policy: Policy) -> Result<Slice, AllocError> {
        let Policy::CopyBelow(least) = policy;
        if slice.len() < least { self.copy(&slice) } else { Ok(slice) }
    }
}
