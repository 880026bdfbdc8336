//! Zero-filled words that take memory only where they are touched.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::atomic::AtomicU64;

use memmap2::{MmapMut, MmapOptions};
use tailpin::PAGE_SIZE;

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
        Self { memory: huge_bytes(n.max(1) * size_of::<AtomicU64>()) }
    }

    /// The words.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        let n = self.memory.len() / size_of::<AtomicU64>();
        // SAFETY: the mapping is private, page-aligned, zero-filled and `n` words long; it lives as
        // long as the borrow; and this is the only access to it, always as atomics.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast::<AtomicU64>(), n) }
    }
}

impl LazyWords {
    /// Touched, a page is to bring no more than itself.
    pub(crate) fn in_small_pages(&mut self) {
        // A system without huge pages refuses, and has none.
        #[cfg(target_os = "linux")]
        let _ = self.memory.advise(memmap2::Advice::NoHugePage);
    }

    /// Pages of 4 KiB that have memory, or have been moved to swap.
    ///
    /// # Errors
    /// Where the system does not tell.
    pub(crate) fn touched_pages(&self) -> io::Result<u64> {
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "told by Linux on x86-64 only"));
        }
        /// One entry of eight bytes for each page.
        const ENTRY: usize = 8;
        /// Its bits for a page that is present or swapped out.
        const TOUCHED: u64 = 0b11 << 62;
        let mut map = File::open("/proc/self/pagemap")?;
        map.seek(SeekFrom::Start((self.memory.as_ptr().addr() / PAGE_SIZE * ENTRY) as u64))?;
        let mut entries = vec![0; self.memory.len().div_ceil(PAGE_SIZE) * ENTRY];
        map.read_exact(&mut entries)?;
        let (entries, _) = entries.as_chunks::<ENTRY>();
        Ok(entries.iter().filter(|entry| u64::from_le_bytes(**entry) & TOUCHED != 0).count() as u64)
    }
}

/// `n` bytes of address space that become memory when touched.
pub(crate) fn lazy_bytes(n: usize) -> MmapMut {
    MmapOptions::new()
        .len(n)
        .no_reserve_swap()
        .map_anon()
        .unwrap_or_else(|error| crate::cores::Hindered::end(format!("no address space: {error}")))
}

/// Zeroed bytes, in huge pages where the system has them, as a kernel maps what it knows of its
/// frames.
pub(crate) fn huge_bytes(n: usize) -> MmapMut {
    let memory = lazy_bytes(n);
    // A system without huge pages refuses, and has none.
    #[cfg(target_os = "linux")]
    let _ = memory.advise(memmap2::Advice::HugePage);
    memory
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::LazyWords;

    #[test]
    fn only_what_is_touched_has_memory() {
        let mut lazy = LazyWords::new(1 << 20);
        lazy.in_small_pages();
        let count = |lazy: &LazyWords| match lazy.touched_pages() {
            Ok(pages) => Some(pages),
            Err(error) => {
                println!("skipped: {error}");
                None
            }
        };
        let Some(none) = count(&lazy) else { return };
        assert_eq!(none, 0);
        for page in [0, 7, 2047] {
            lazy.words()[page * 512 + 3].store(1, Ordering::Relaxed);
        }
        assert_eq!(count(&lazy), Some(3));
    }
}
