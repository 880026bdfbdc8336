//! What the kernel itself says of memory: whether a page is there, and whether it is part of a huge
//! page.
//!
//! Resident set sizes are no proof: a page dropped out of a huge page lowers them, and the huge
//! page keeps its memory until it is split. So what was given back is counted from
//! `/proc/self/pagemap` (is it mapped?), and only where `/proc/kpageflags` (root), or else the
//! `PAGEMAP_SCAN` call and the counters of `/proc/vmstat`, say that the huge page is none any more.

use std::fs::{self, File};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use rustix::io;

use crate::memory::PAGE_SIZE;
use crate::memory::system;

/// Bits of an entry of `/proc/self/pagemap`.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const FRAME: u64 = (1 << 55) - 1;
/// Bits of an entry of `/proc/kpageflags`: first and other pages of a compound page.
const COMPOUND: u64 = 1 << 15 | 1 << 16;

/// An entry of `/proc/self/pagemap`.
#[derive(Clone, Copy)]
pub(crate) struct PagemapEntry(u64);

impl PagemapEntry {
    /// There is memory for the page, or a place in swap.
    pub(crate) fn is_there(self) -> bool {
        self.0 & (PRESENT | SWAPPED) != 0
    }

    /// The frame, if this process may know.
    fn frame(self) -> Option<u64> {
        (self.0 & PRESENT != 0 && self.0 & FRAME != 0).then_some(self.0 & FRAME)
    }
}

/// Splits of huge pages since the machine was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Splits {
    done: u64,
    failed: u64,
}

/// What the kernel says of this process's memory (`/proc/self/pagemap`).
pub(crate) struct Pagemap {
    pagemap: Option<File>,
    /// Where frames may be looked up in it.
    flags: Option<File>,
}

/// What was known before the kernel was asked to split.
pub(crate) struct Before {
    splits: Option<Splits>,
}

impl Pagemap {
    /// An error if there is no descriptor left to ask with.
    pub(crate) fn open() -> io::Result<Self> {
        let open = |path: &str| system::if_told(File::open(path));
        let mut pagemap = Self { pagemap: open("/proc/self/pagemap")?, flags: open("/proc/kpageflags")? };
        // Of use only to those who may know their frames, which root in a container may not: is
        // there one under this?
        let here = &raw const pagemap as usize;
        let known =
            pagemap.entries(here, 1).is_some_and(|entries| entries.iter().all(|e| e.frame().is_some()));
        pagemap.flags = pagemap.flags.filter(|_| known);
        Ok(pagemap)
    }

    /// The entries of the pages from `address` on, `None` if the kernel doesn't tell.
    pub(crate) fn entries(&self, address: usize, pages: usize) -> Option<Vec<PagemapEntry>> {
        let mut bytes = vec![0; pages * 8];
        self.pagemap.as_ref()?.read_exact_at(&mut bytes, (address / PAGE_SIZE * 8) as u64).ok()?;
        Some(
            bytes
                .chunks_exact(8)
                .map(|entry| PagemapEntry(u64::from_ne_bytes(entry.try_into().unwrap_or_default())))
                .collect(),
        )
    }

    /// To be asked before the split that [`Pagemap::was_split`] is asked about.
    ///
    /// An error if there is no descriptor left to ask with.
    pub(crate) fn before_split(&self) -> io::Result<Before> {
        // With the flags of each page at hand there is no need for counters of the whole machine.
        Ok(Before { splits: if self.flags.is_some() { None } else { splits()? } })
    }

    /// Whether none of these pages, given by their entries, is part of a huge page any more.
    /// `range` is where they lie.
    pub(crate) fn was_split(&self, before: &Before, pages: &[PagemapEntry], range: Range<usize>) -> bool {
        if self.flags.is_some() {
            return pages.iter().filter_map(|page| page.frame()).all(|frame| self.is_small(frame));
        }
        let (Some(before), Ok(Some(after))) = (before.splits, splits()) else { return false };
        // The split that failed may be another process's: then this says no to be safe, and a later
        // release tries again.
        after.failed == before.failed
            && match self.is_mapped_huge(range) {
                Some(huge) => !huge,
                None => after.done > before.done,
            }
    }

    fn is_small(&self, frame: u64) -> bool {
        let mut entry = [0; 8];
        let read = self.flags.as_ref().map(|flags| flags.read_exact_at(&mut entry, frame * 8));
        matches!(read, Some(Ok(()))) && u64::from_ne_bytes(entry) & COMPOUND == 0
    }

    /// Whether any of it is mapped by a huge page; `None` if the kernel can't tell (before 6.7).
    fn is_mapped_huge(&self, range: Range<usize>) -> Option<bool> {
        const PAGE_IS_HUGE: u64 = 1 << 6;
        #[repr(C)]
        struct Region {
            start: u64,
            end: u64,
            categories: u64,
        }
        #[repr(C)]
        struct Scan {
            size: u64,
            flags: u64,
            start: u64,
            end: u64,
            walk_end: u64,
            vec: u64,
            vec_len: u64,
            max_pages: u64,
            category_inverted: u64,
            category_mask: u64,
            category_anyof_mask: u64,
            return_mask: u64,
        }
        // _IOWR('f', 16, struct pm_scan_arg)
        const PAGEMAP_SCAN: libc::c_ulong = 0xC000_6610 | (size_of::<Scan>() as libc::c_ulong) << 16;
        let mut region = Region { start: 0, end: 0, categories: 0 };
        let mut scan = Scan {
            size: size_of::<Scan>() as u64,
            flags: 0,
            start: range.start as u64,
            end: range.end as u64,
            walk_end: 0,
            vec: &raw mut region as u64,
            vec_len: 1,
            max_pages: 0,
            category_inverted: 0,
            category_mask: PAGE_IS_HUGE,
            category_anyof_mask: 0,
            return_mask: PAGE_IS_HUGE,
        };
        let pagemap = self.pagemap.as_ref()?.as_raw_fd();
        // SAFETY: the structure is what the call expects (its size goes along), `vec` points to
        // room for one region, and the range is only looked at.
        let found = unsafe { libc::ioctl(pagemap, PAGEMAP_SCAN, &raw mut scan) };
        u64::try_from(found).ok().map(|found| found > 0)
    }
}

fn splits() -> io::Result<Option<Splits>> {
    let text = system::if_told(fs::read_to_string("/proc/vmstat"))?.unwrap_or_default();
    let value = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    };
    let split = |done| Some(Splits { done, failed: value("thp_split_page_failed")? });
    Ok(value("thp_split_page").and_then(split))
}
