//! Memory of the program's allocator: what an arena lies in where no system memory is asked for.
//! One of the few modules with `unsafe`.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use tailpin::PAGE_SIZE;

use crate::memory::words::words_at;

/// Zeroed bytes that begin at a multiple of an alignment.
pub(crate) struct HeapMemory {
    allocated: NonNull<u8>,
    layout: Layout,
    /// Within what was allocated.
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the bytes are this value's own; the type itself only hands out their address.
unsafe impl Send for HeapMemory {}
// SAFETY: as above; `&HeapMemory` gives no access to the contents.
unsafe impl Sync for HeapMemory {}

impl HeapMemory {
    /// `len` bytes at a multiple of `align`, a power of two; `None` where there are not so many.
    ///
    /// So many more bytes are asked for instead of the alignment: most allocators have large
    /// zeroed memory from the system, untouched, but clear what is to be aligned as well.
    pub(crate) fn zeroed(len: usize, align: usize) -> Option<Self> {
        let layout = Layout::array::<u8>(len.checked_add(align)?).ok()?;
        if len == 0 {
            return None;
        }
        // SAFETY: the layout has bytes.
        let allocated = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let skip = allocated.addr().get().wrapping_neg() & align.wrapping_sub(1);
        // SAFETY: less than `align`, so that `len` bytes follow within what was allocated.
        let base = unsafe { allocated.add(skip) };
        Some(Self { allocated, layout, base, len })
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// All of it, as words.
    ///
    /// # Safety
    /// The memory is aligned for words, used as atomic words only, and outlives the use of what is
    /// returned.
    pub(crate) unsafe fn words(&self) -> &'static [AtomicU64] {
        // SAFETY: the memory is readable and writable, is so long, and was zeroed; the caller
        // promises the rest.
        unsafe { words_at(self.base, self.len) }
    }

    /// Writes to each page, which has the system find memory for it.
    pub(crate) fn populate(&mut self) {
        for at in (0..self.len).step_by(PAGE_SIZE) {
            // SAFETY: within the memory, which no other value has the use of while this one is
            // borrowed exclusively. Volatile, as to write what is there already is all it is for.
            unsafe { self.base.add(at).write_volatile(0) };
        }
    }
}

impl Drop for HeapMemory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, once, and its owner has seen to it that nothing uses
        // the memory any more.
        unsafe { dealloc(self.allocated.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_the_heap_is_aligned_and_zero() {
        for (len, align) in [(PAGE_SIZE, PAGE_SIZE), (3 << 20, 2 << 20), (8 << 20, 8 << 20)] {
            let mut memory = HeapMemory::zeroed(len, align).unwrap();
            assert!(memory.base().addr().get().is_multiple_of(align));
            memory.populate();
            // SAFETY: aligned to a page, and used as words alone while `memory` is there.
            let words = unsafe { memory.words() };
            assert_eq!(words.len() * 8, len);
            assert!(words.iter().all(|word| word.load(std::sync::atomic::Ordering::Relaxed) == 0));
            words[words.len() - 1].store(7, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[test]
    fn there_is_no_memory_of_no_bytes_or_of_too_many() {
        for len in [0, isize::MAX as usize, usize::MAX] {
            assert!(HeapMemory::zeroed(len, PAGE_SIZE).is_none(), "{len}");
        }
    }
}
