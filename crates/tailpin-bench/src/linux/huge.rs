//! Memory of this process in transparent huge pages.

use std::collections::BTreeSet;
use std::io;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};
use tailpin::PAGE_SIZE;

const BLOCK: usize = BLOCK_PAGES * PAGE_SIZE;
/// Pages of a huge page.
pub(crate) const BLOCK_PAGES: usize = 512;

/// Huge pages in a row, all touched, none of their words zero. Pages are counted from the first.
///
/// Nothing is ever read through it, and nothing else has its addresses.
pub(crate) struct HugeMemory {
    /// The first huge page.
    first: NonNull<u8>,
    blocks: usize,
    /// Bytes before and behind that stay inaccessible: other memory in huge pages next to this
    /// would be one mapping with it, and what the kernel tells is told of a mapping.
    around: [usize; 2],
    /// Pages that were unmapped.
    holes: BTreeSet<usize>,
}

// SAFETY: the mapping is this value's alone, from whatever thread.
unsafe impl Send for HugeMemory {}
// SAFETY: through a shared reference the kernel is asked to do something, or a byte is written
// atomically: several threads may do either.
unsafe impl Sync for HugeMemory {}

impl HugeMemory {
    /// `blocks` huge pages.
    ///
    /// # Errors
    /// In words, if the system has no memory or gives no huge pages.
    pub(crate) fn new(blocks: usize) -> Result<Self, String> {
        let (len, flags) = ((blocks + 2) * BLOCK, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: a new mapping, where the kernel likes.
        let mapped = unsafe { mmap_anonymous(null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, flags) };
        let mapped = mapped.map_err(|error| format!("no memory: {error}"))?.cast::<u8>();
        let before = BLOCK - mapped.addr() % BLOCK;
        let around = [before, 2 * BLOCK - before];
        // SAFETY: at most a block is skipped, and there are two blocks more than are used.
        let (first, last) = unsafe { (mapped.add(before), mapped.add(before + blocks * BLOCK)) };
        let first = NonNull::new(first).ok_or("mapped at zero")?;
        let memory = Self { first, blocks, around, holes: BTreeSet::new() };
        for (end, len) in [mapped, last].into_iter().zip(around) {
            // SAFETY: an end of the new mapping, to which no other reference exists yet.
            unsafe { mprotect(end.cast(), len, MprotectFlags::empty()) }
                .map_err(|error| error.to_string())?;
        }
        memory.advise(0, blocks * BLOCK_PAGES, Advice::LinuxHugepage).map_err(|error| error.to_string())?;
        // SAFETY: the mapping is that long, and this function alone has it.
        unsafe { memory.first.as_ptr().write_bytes(0x5a, blocks * BLOCK) };
        match memory.huge_blocks()? {
            huge if huge == blocks => Ok(memory),
            huge => Err(format!("only {huge} of {blocks} transparent huge pages were given")),
        }
    }

    /// Where a page is, or the end.
    fn page(&self, page: usize) -> *mut u8 {
        assert!(page <= self.blocks * BLOCK_PAGES);
        self.first.as_ptr().wrapping_add(page * PAGE_SIZE)
    }

    fn advise(&self, page: usize, pages: usize, advice: Advice) -> io::Result<()> {
        assert!(page + pages <= self.blocks * BLOCK_PAGES);
        // SAFETY: the pages are this value's, and no caller relies on what is in them.
        Ok(unsafe { madvise(self.page(page).cast(), pages * PAGE_SIZE, advice) }?)
    }

    /// How many are still mapped as huge pages, as the kernel tells.
    pub(crate) fn huge_blocks(&self) -> Result<usize, String> {
        let smaps = std::fs::read_to_string("/proc/self/smaps").map_err(|error| format!("smaps: {error}"))?;
        let (start, end) = (self.first.addr().get(), self.first.addr().get() + self.blocks * BLOCK);
        let (mut inside, mut kib) = (false, 0);
        for line in smaps.lines() {
            let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
            let ends = range.and_then(|(from, to)| {
                Some((usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?))
            });
            if let Some((from, to)) = ends {
                inside = from < end && start < to;
            } else if let Some(amount) = line.strip_prefix("AnonHugePages:").filter(|_| inside) {
                kib += amount.trim().trim_end_matches(" kB").parse::<usize>().unwrap_or(0);
            }
        }
        Ok(kib * 1024 / BLOCK)
    }

    /// Says of one page that it will not be used soon, for which the kernel splits the huge page
    /// around it, if it can.
    pub(crate) fn cold(&self, page: usize) -> io::Result<()> {
        self.advise(page, 1, Advice::LinuxCold)
    }

    /// Drops the contents of one page.
    pub(crate) fn drop_contents(&self, page: usize) -> io::Result<()> {
        self.advise(page, 1, Advice::LinuxDontNeed)
    }

    /// Unmaps one page, once.
    pub(crate) fn unmap(&mut self, page: usize) -> io::Result<()> {
        assert!(!self.holes.contains(&page), "page {page} was unmapped before");
        assert!(page < self.blocks * BLOCK_PAGES);
        // SAFETY: the page is this value's, and noted as gone so that it is not unmapped again.
        unsafe { munmap(self.page(page).cast(), PAGE_SIZE) }?;
        self.holes.insert(page);
        Ok(())
    }

    /// Writes to each huge page.
    pub(crate) fn touch(&self) {
        for block in 0..self.blocks {
            // SAFETY: the page is this value's, for as long as it lives; while it is shared nothing
            // but this writes to it.
            let byte = unsafe { AtomicU8::from_ptr(self.page(block * BLOCK_PAGES)) };
            // Relaxed: what counts is that it is written.
            byte.store(0x5b, Ordering::Relaxed);
        }
    }

    /// Where some pages are, for the kernel to pin them.
    pub(crate) fn bytes(&self, page: usize, pages: usize) -> (NonNull<u8>, usize) {
        assert!(page + pages <= self.blocks * BLOCK_PAGES && self.holes.is_empty());
        // SAFETY: within the mapping, as was just checked.
        (unsafe { self.first.add(page * PAGE_SIZE) }, pages * PAGE_SIZE)
    }
}

impl Drop for HugeMemory {
    fn drop(&mut self) {
        let [before, after] = self.around;
        let end = self.blocks * BLOCK_PAGES;
        for (start, len) in [(self.page(0).wrapping_sub(before), before), (self.page(end), after)] {
            // SAFETY: an end of this value's mapping, to which no reference was ever made.
            let _ = unsafe { munmap(start.cast(), len) };
        }
        let mut from = 0;
        for to in self.holes.iter().copied().chain([end]) {
            if to > from {
                // SAFETY: these pages are this value's and still mapped; no reference to them
                // outlives it.
                let _ = unsafe { munmap(self.page(from).cast(), (to - from) * PAGE_SIZE) };
            }
            from = to + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_PAGES, HugeMemory};

    #[test]
    fn a_page_dropped_from_a_huge_page_leaves_no_huge_mapping() {
        let mut memory = match HugeMemory::new(2) {
            Ok(memory) => memory,
            Err(why) => return println!("skipped: {why}"),
        };
        assert_eq!(memory.huge_blocks(), Ok(2));
        memory.drop_contents(7).unwrap();
        assert_eq!(memory.huge_blocks(), Ok(1));
        memory.unmap(BLOCK_PAGES + 9).unwrap();
        assert_eq!(memory.huge_blocks(), Ok(0));
    }
}
