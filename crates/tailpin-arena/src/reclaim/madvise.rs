//! Giving the memory of free frames back to the system, in the order that really frees it.
//!
//! | memory | whole 2 MiB | single pages |
//! | --- | --- | --- |
//! | anonymous | `MADV_DONTNEED` | see below |
//! | hugetlb | `MADV_DONTNEED`, whole pages only | – |
//! | memfd | `FALLOC_FL_PUNCH_HOLE` | the same |
//!
//! `MADV_DONTNEED` on part of a huge page frees nothing: the kernel notes that it might split the
//! page one day. So first `MADV_NOHUGEPAGE`, or khugepaged fills the holes again; then `MADV_COLD`
//! on the first and the last page of each hole, on which the kernel splits the huge page at once;
//! then, the split seen to have happened, `MADV_DONTNEED` on all holes in one `process_madvise`.

use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::{self, Errno};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use tailpin::{FrameMask, Pfn};

use crate::memory::mapped::Mapped;
use crate::memory::mapping::{Advice, Mapping};
use crate::memory::{PAGE_SIZE, PAGEBLOCK_SIZE};
use crate::reclaim::given::{Claimed, GivenBack};
use crate::reclaim::pagemap::{Pagemap, PagemapEntry};
use crate::shared_state::Inner;

/// Returns memory by `madvise`, or by holes in the file; made for one call of `release`.
pub(crate) struct Madvise<'a> {
    inner: &'a Inner,
    mapping: &'a Mapping,
    file: Option<BorrowedFd<'a>>,
    pagemap: Pagemap,
    /// This process, for the vectored calls.
    this: Option<OwnedFd>,
}

impl<'a> Madvise<'a> {
    /// An error if there is no descriptor to ask the kernel with: what went back could not be told
    /// then.
    pub(crate) fn new(inner: &'a Inner, mapping: &'a Mapping) -> io::Result<Self> {
        Ok(Self {
            inner,
            mapping,
            file: inner.data.mapped().and_then(Mapped::file),
            pagemap: Pagemap::open()?,
            this: pidfd_open(getpid(), PidfdFlags::empty()).ok(),
        })
    }

    /// The memory of whole pageblocks that lie side by side, all of them claimed.
    pub(crate) fn give_whole(&self, pageblocks: &[Claimed<'_>]) -> io::Result<GivenBack> {
        let Some(first) = pageblocks.first() else { return Ok(GivenBack::default()) };
        let begin = self.inner.offset_of(first.pageblock());
        let range = begin..begin + pageblocks.len() * PAGEBLOCK_SIZE;
        let range = std::slice::from_ref(&range);
        // SAFETY: claimed frames are free: no handle and so no reference to their bytes exists, and
        // they are handed to no caller before the claim ends.
        let returned = self.measured(range, || unsafe { self.discard(range) })?;
        for claimed in pageblocks {
            self.inner.residency.clear(claimed.pageblock(), claimed.frames());
            let begin = self.inner.offset_of(claimed.pageblock());
            if self.inner.residency.is_split(claimed.pageblock())
                && self.mapping.advise(begin..begin + PAGEBLOCK_SIZE, Advice::Huge).is_ok()
            {
                self.inner.residency.set_huge_eligible(claimed.pageblock());
            }
        }
        Ok(GivenBack { returned, stuck: 0 })
    }

    /// The memory of some pages of a pageblock.
    pub(crate) fn give_holes(&self, holes: &Claimed<'_>) -> io::Result<GivenBack> {
        // SAFETY: claimed frames are free: no handle and so no reference to their bytes exists, and
        // they are handed to no caller before the claim ends.
        match unsafe { self.empty(holes.pageblock(), holes.frames()) }? {
            None => Ok(GivenBack { returned: 0, stuck: holes.count() as usize * PAGE_SIZE }),
            Some(given) => {
                self.inner.residency.clear(holes.pageblock(), holes.frames());
                Ok(given)
            }
        }
    }

    /// Takes the memory from some pages of a pageblock, free or in use; they read as zero then.
    /// `None` if the kernel would not split their huge page: all is as it was.
    ///
    /// # Safety
    /// There is no reference to the bytes of these pages.
    pub(crate) unsafe fn empty(&self, pageblock: Pfn, frames: &FrameMask) -> io::Result<Option<GivenBack>> {
        let inner = self.inner;
        let begin = inner.offset_of(pageblock);
        let runs = runs(frames, begin);
        // A huge page that goes whole needs no split.
        if *frames != FrameMask::ALL
            && inner.residency.is_by_pageblock()
            && !inner.residency.is_split(pageblock)
        {
            self.mapping.advise(begin..begin + PAGEBLOCK_SIZE, Advice::NoHuge)?;
            inner.residency.set_split(pageblock);
            let split = if self.file.is_none() { self.split(begin, &runs) } else { Ok(true) };
            if split != Ok(true) {
                // As it was: the pages in use keep their huge page, and a later call tries again,
                // also where the kernel refuses this advice, which has no effect on the huge page
                // that is there.
                let _ = self.mapping.advise(begin..begin + PAGEBLOCK_SIZE, Advice::Huge);
                inner.residency.set_huge_eligible(pageblock);
                return split.map(|_| None);
            }
        }
        let there = self.bytes_there(&runs);
        // SAFETY: as the caller says.
        let returned = self.measured(&runs, || unsafe { self.discard(&runs) })?;
        Ok(Some(GivenBack { returned, stuck: there.saturating_sub(returned) }))
    }

    /// Has the kernel split the huge page of a pageblock of which these holes are free. True if it
    /// is none any more.
    fn split(&self, begin: usize, runs: &[Range<usize>]) -> io::Result<bool> {
        let edges: Vec<_> = runs
            .iter()
            .flat_map(|run| [run.start..run.start + PAGE_SIZE, run.end - PAGE_SIZE..run.end])
            .collect();
        let before = self.pagemap.before_split()?;
        self.mapping.cool(self.this.as_ref(), &edges)?;
        let entries: Vec<PagemapEntry> =
            edges.iter().filter_map(|edge| self.entries(edge)).flatten().collect();
        let base = self.mapping.base().as_ptr() as usize;
        Ok(self.pagemap.was_split(&before, &entries, base + begin..base + begin + PAGEBLOCK_SIZE))
    }

    /// # Safety
    /// There is no reference to any byte of these ranges.
    unsafe fn discard(&self, ranges: &[Range<usize>]) -> io::Result<()> {
        match self.file {
            Some(file) => ranges.iter().try_for_each(|range| {
                let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(file, how, range.start as u64, range.len() as u64)
            }),
            // SAFETY: as the caller says.
            None => unsafe { self.mapping.discard_all(self.this.as_ref(), ranges) },
        }
    }

    /// Does something that takes memory away from these ranges; how much, by what the kernel has
    /// there before and after.
    fn measured(&self, ranges: &[Range<usize>], take: impl FnOnce() -> io::Result<()>) -> io::Result<usize> {
        let before = self.bytes_there(ranges);
        take()?;
        Ok(before.saturating_sub(self.bytes_there(ranges)))
    }

    fn bytes_there(&self, ranges: &[Range<usize>]) -> usize {
        let one = |range: &Range<usize>| match self.file {
            Some(file) => data_in(file, range.start as u64..range.end as u64).unwrap_or(0) as usize,
            None => {
                let entries = self.entries(range).unwrap_or_default();
                entries.iter().filter(|entry| entry.is_there()).count() * PAGE_SIZE
            }
        };
        ranges.iter().map(one).sum()
    }

    fn entries(&self, range: &Range<usize>) -> Option<Vec<PagemapEntry>> {
        self.pagemap.entries(self.mapping.base().as_ptr() as usize + range.start, range.len() / PAGE_SIZE)
    }
}

/// Bytes of a range of a file that have memory.
fn data_in(file: BorrowedFd<'_>, range: Range<u64>) -> io::Result<u64> {
    let (mut at, mut bytes) = (range.start, 0);
    while at < range.end {
        let data = match seek(file, SeekFrom::Data(at)) {
            Ok(data) => data.min(range.end),
            // No data from here to the end of the file.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error),
        };
        let hole = if data < range.end { seek(file, SeekFrom::Hole(data))?.min(range.end) } else { data };
        bytes += hole - data;
        at = hole.max(data);
    }
    Ok(bytes)
}

/// The runs of set bits, as offsets in the mapping; the pageblock begins at `begin`.
fn runs(mask: &FrameMask, begin: usize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for page in mask.iter().map(|page| page as usize) {
        let at = begin + page * PAGE_SIZE;
        match runs.last_mut() {
            Some(run) if run.end == at => run.end += PAGE_SIZE,
            _ => runs.push(at..at + PAGE_SIZE),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn only_the_data_of_a_file_with_holes_counts() {
        let file = File::from(crate::memory::memory_file::create("test", 64 * PAGE_SIZE as u64).unwrap());
        for page in [3, 4, 5, 20, 63] {
            file.write_all_at(&[1; PAGE_SIZE], (page * PAGE_SIZE) as u64).unwrap();
        }
        let data = |pages: Range<usize>| {
            let range = (pages.start * PAGE_SIZE) as u64..(pages.end * PAGE_SIZE) as u64;
            data_in(file.as_fd(), range).unwrap() as usize / PAGE_SIZE
        };
        assert_eq!((data(0..64), data(0..4), data(4..20), data(4..21)), (5, 1, 2, 3));
        assert_eq!((data(6..20), data(21..63), data(63..64), data(7..7)), (0, 0, 1, 0));
    }

    #[test]
    fn runs_are_the_set_bits() {
        let mask = FrameMask::from_words([0b1011, 1 << 63, 1, 0, 0, 0, 0, 1 << 63]);
        let page = |n: usize| 1000 * PAGE_SIZE + n * PAGE_SIZE;
        let expected = [page(0)..page(2), page(3)..page(4), page(127)..page(129), page(511)..page(512)];
        assert_eq!(runs(&mask, page(0)), expected);
        assert_eq!(runs(&FrameMask::ALL, 0), std::slice::from_ref(&(0..PAGEBLOCK_SIZE)));
        assert!(runs(&FrameMask::NONE, 0).is_empty());
    }
}
