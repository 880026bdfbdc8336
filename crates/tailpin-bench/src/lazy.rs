//! Zero-filled words that take memory only where they are touched.

use std::sync::atomic::AtomicU64;

use memmap2::{MmapMut, MmapOptions};

/// Words from an anonymous mapping without reservation, page-aligned.
pub(crate) struct LazyWords {
    memory: MmapMut,
}

impl LazyWords {
    /// `n` words.
    ///
    /// # Panics
    /// If there is not even the address space.
    pub(crate) fn new(n: usize) -> Self {
        Self { memory: lazy_bytes(n.max(1) * size_of::<AtomicU64>()) }
    }

    /// The words.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        let n = self.memory.len() / size_of::<AtomicU64>();
        // SAFETY: the mapping is private, page-aligned, zero-filled and `n` words long; it lives as long as the
        // borrow; and this is the only access to it, always as atomics.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast::<AtomicU64>(), n) }
    }
}

/// `n` bytes of address space that become memory when touched.
pub(crate) fn lazy_bytes(n: usize) -> MmapMut {
    MmapOptions::new().len(n).no_reserve_swap().map_anon().expect("there is address space")
}
