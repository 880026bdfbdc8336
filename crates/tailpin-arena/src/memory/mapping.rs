//! Memory from the kernel: mapped, advised, unmapped. One of the few modules with `unsafe`.

use std::ffi::c_void;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::io;
use rustix::mm::{
    Advice as Madv, MapFlags, MsyncFlags, ProtFlags, madvise, mlock, mmap, mmap_anonymous, msync, munmap,
};

use crate::backing::HugeSize;
use crate::memory::words::words_at;

/// Most ranges in one vectored call (`UIO_MAXIOV`).
const VECTOR_LIMIT: usize = 1024;

/// A readable and writable mapping of this process, gone when dropped.
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread; the type itself only hands out its
// address.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` gives no access to the contents.
unsafe impl Sync for Mapping {}

/// What is to be mapped.
#[derive(Clone, Copy)]
pub(crate) enum Source<'f> {
    /// Private zeroed memory.
    Anonymous,
    /// Private zeroed memory of huge pages from the kernel's pool. To be populated before use: a
    /// touch that finds the pool empty is a SIGBUS.
    HugeTlb(HugeSize),
    /// A shared file, from this offset on.
    File(BorrowedFd<'f>, u64),
    /// Private memory that begins as what is in a file, and is called like it in `/proc`.
    CopyOf(BorrowedFd<'f>),
}

impl Mapping {
    /// Maps `len` bytes at an address that is a multiple of `align`, a power of two of at least
    /// 4096. Nothing is left of what fails.
    pub(crate) fn new(source: Source<'_>, len: usize, align: usize) -> io::Result<Self> {
        let around = len.checked_add(align).ok_or(io::Errno::NOMEM)?;
        // Where the kernel likes, which may do. What cannot be mapped fails here, and cleanly.
        // SAFETY: a new mapping where the kernel likes takes the place of none that exists.
        let mapping = unsafe { Self::map(std::ptr::null_mut(), source, len) }?;
        if mapping.base.addr().get().is_multiple_of(align) {
            return Ok(mapping);
        }
        drop(mapping);
        Self::reserve(around)?.replaced(source, len, align)
    }

    /// Maps `len` bytes in this reservation's place, of which nothing else is left. Their place is
    /// at no moment free for another thread to take.
    #[expect(clippy::arithmetic_side_effects, reason = "a reservation is longer by the alignment")]
    fn replaced(mut self, source: Source<'_>, len: usize, align: usize) -> io::Result<Self> {
        let before = self.base.as_ptr().align_offset(align);
        assert!(before <= self.len && len <= self.len - before, "reserved with the alignment");
        // SAFETY: within the reservation, or at its end, as was just checked.
        let (place, end) = unsafe { (self.base.add(before), self.base.add(before + len)) };
        let behind = Self { base: end, len: self.len - before - len };
        self.len = before;
        // If this fails, it is not known whether the place is still reserved or already another
        // thread's, so it is left as it is: at worst address space is lost, and only where what
        // could be mapped a moment ago cannot be mapped any more.
        // SAFETY: the place is this reservation's, so that nothing is there. Both ends of it are
        // unmapped when `self` and `behind` are dropped.
        let mapping = unsafe { Self::map(place.as_ptr().cast(), source, len) };
        drop(behind);
        mapping
    }

    /// Maps `len` bytes at this address, whatever is there, or at one that the kernel likes if it
    /// is null.
    ///
    /// # Safety
    /// Nothing uses what is mapped there.
    unsafe fn map(place: *mut c_void, source: Source<'_>, len: usize) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let fixed = if place.is_null() { MapFlags::empty() } else { MapFlags::FIXED };
        let private = MapFlags::PRIVATE | MapFlags::NORESERVE | fixed;
        // SAFETY: the caller's promise.
        let base = unsafe {
            match source {
                Source::Anonymous => mmap_anonymous(place, len, access, private),
                Source::HugeTlb(size) => {
                    let size = match size {
                        HugeSize::Mib2 => MapFlags::HUGE_2MB,
                        HugeSize::Gib1 => MapFlags::HUGE_1GB,
                    };
                    // Without a reservation: the kernel would keep the pages of a discarded range
                    // for this mapping.
                    mmap_anonymous(place, len, access, private | MapFlags::HUGETLB | size)
                }
                Source::File(file, offset) => {
                    mmap(place, len, access, MapFlags::SHARED | fixed, file, offset)
                }
                Source::CopyOf(file) => mmap(place, len, access, private, file, 0),
            }
        }?;
        Ok(Self { base: NonNull::new(base.cast()).ok_or(io::Errno::NOMEM)?, len })
    }

    /// Address space without memory.
    fn reserve(len: usize) -> io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping where the kernel likes touches nothing that exists.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::empty(), flags) }?;
        Ok(Self { base: NonNull::new(base.cast()).ok_or(io::Errno::NOMEM)?, len })
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// All of it, as words.
    ///
    /// # Safety
    /// The mapping is used as atomic words only, and outlives the use of what is returned.
    pub(crate) unsafe fn words(&self) -> &'static [AtomicU64] {
        // SAFETY: the mapping is readable and writable, begins at a page, and is so long; the
        // caller promises the rest.
        unsafe { words_at(self.base, self.len) }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Forgets the mapping: a forked child doesn't have it, and something else may be there.
    pub(crate) fn disown(&mut self) {
        self.len = 0;
    }

    /// Locks all of it into memory.
    pub(crate) fn lock(&self) -> io::Result<()> {
        // SAFETY: locking changes no contents, and the range is this mapping.
        unsafe { mlock(self.base.as_ptr().cast(), self.len) }
    }

    /// Whether any of this range is locked into memory, by whichever call.
    pub(crate) fn is_locked(&self, range: Range<usize>) -> bool {
        assert!(range.start <= range.end && range.end <= self.len, "a look stays within the mapping");
        // SAFETY: writes nothing anywhere and changes no contents: of memory that is no file on a
        // disk this call says whether it is locked, and nothing else.
        let told =
            unsafe { msync(self.base.as_ptr().add(range.start).cast(), range.len(), MsyncFlags::INVALIDATE) };
        told == Err(io::Errno::BUSY)
    }

    /// Advice that leaves the contents as they are.
    pub(crate) fn advise(&self, range: Range<usize>, advice: Advice) -> io::Result<()> {
        let advice = match advice {
            Advice::Huge => Madv::LinuxHugepage,
            Advice::NoHuge => Madv::LinuxNoHugepage,
            Advice::Populate => Madv::LinuxPopulateWrite,
            Advice::DontFork => Madv::LinuxDontFork,
        };
        assert!(range.start <= range.end && range.end <= self.len, "advice stays within the mapping");
        // SAFETY: the range lies in this mapping and none of these changes what is read from it.
        unsafe { madvise(self.base.as_ptr().add(range.start).cast(), range.len(), advice) }
    }

    /// Tells the kernel that these pages are not going to be used soon, which has it split huge
    /// pages of which they are a part. The contents stay.
    pub(crate) fn cool(&self, this: Option<&OwnedFd>, ranges: &[Range<usize>]) -> io::Result<()> {
        // SAFETY: this advice changes nothing that can be read.
        unsafe { self.advise_all(this, ranges, Madv::LinuxCold, libc::MADV_COLD) }
    }

    /// [`Mapping::discard`] for many ranges: in one call, where the kernel lets a process do that
    /// to itself (6.13).
    ///
    /// # Safety
    /// No reference into any of the ranges exists, and no other thread uses them.
    pub(crate) unsafe fn discard_all(
        &self,
        this: Option<&OwnedFd>,
        ranges: &[Range<usize>],
    ) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.advise_all(this, ranges, Madv::LinuxDontNeed, libc::MADV_DONTNEED) }
    }

    /// # Safety
    /// What [`Mapping::discard`] asks for, if the advice takes contents away.
    unsafe fn advise_all(
        &self,
        this: Option<&OwnedFd>,
        ranges: &[Range<usize>],
        advice: Madv,
        number: libc::c_int,
    ) -> io::Result<()> {
        assert!(
            ranges.iter().all(|range| range.start <= range.end && range.end <= self.len),
            "within the mapping"
        );
        // SAFETY: offsets within the mapping, as was just checked.
        let address = |range: &Range<usize>| unsafe { self.base.as_ptr().add(range.start) }.cast::<c_void>();
        if let Some(this) = this.filter(|_| (2..=VECTOR_LIMIT).contains(&ranges.len())) {
            let vector: Vec<libc::iovec> = ranges
                .iter()
                .map(|range| libc::iovec { iov_base: address(range), iov_len: range.len() })
                .collect();
            let (fd, data, n) = (this.as_raw_fd(), vector.as_ptr(), vector.len());
            // SAFETY: the vector is valid for the call, and each of its ranges lies in this
            // mapping; what the advice does to it the caller answers for.
            let done = unsafe { libc::syscall(libc::SYS_process_madvise, fd, data, n, number, 0) };
            if usize::try_from(done) == Ok(ranges.iter().map(Range::len).sum()) {
                return Ok(());
            }
            // Not all of it, or not at all (an older kernel, a filter of system calls): one by one.
            // To do it twice is harmless.
        }
        // SAFETY: as above.
        ranges.iter().try_for_each(|range| unsafe { madvise(address(range), range.len(), advice) })
    }

    /// Has the kernel forget the contents: private memory reads as zero afterwards.
    ///
    /// # Safety
    /// No reference into this range exists, and no other thread uses it.
    pub(crate) unsafe fn discard(&self, range: Range<usize>) -> io::Result<()> {
        assert!(range.start <= range.end && range.end <= self.len, "a discard stays within the mapping");
        // SAFETY: the range lies in this mapping; the caller answers for its contents.
        unsafe { madvise(self.base.as_ptr().add(range.start).cast(), range.len(), Madv::LinuxDontNeed) }
    }
}

/// Advice after which every byte reads as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Use transparent huge pages.
    Huge,
    /// Use 4 KiB pages only.
    NoHuge,
    /// Have the memory there now, or say that there is none.
    Populate,
    /// A forked child doesn't get this mapping.
    DontFork,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: the mapping is this value's own, and its owner has seen to it that nothing
            // uses the memory any more. An error (the range can't be wrong) would leave it mapped:
            // a leak, nothing worse.
            let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Threads that map and unmap at the same moment get addresses from the same few holes.
    #[test]
    fn threads_that_map_at_once_all_get_their_place() {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    for round in 0..3000 {
                        let align = [4096, 2 << 20][(thread + round) % 2];
                        let mapping = Mapping::new(Source::Anonymous, 3 * 4096, align).unwrap();
                        assert_eq!(mapping.base().addr().get() % align, 0);
                        // SAFETY: the mapping's first word, this thread's alone.
                        let word = unsafe { mapping.base().cast::<usize>().as_mut() };
                        assert_eq!(std::mem::replace(word, thread), 0);
                        std::thread::yield_now();
                        assert_eq!(*word, thread);
                    }
                });
            }
        });
    }

    #[test]
    fn a_mapping_is_aligned_and_zero() {
        for shift in [12, 21, 30] {
            let mapping = Mapping::new(Source::Anonymous, 8 << 20, 1 << shift).unwrap();
            assert_eq!(mapping.base().as_ptr() as usize % (1 << shift), 0);
            assert_eq!(mapping.len(), 8 << 20);
            // SAFETY: the mapping is readable and writable for its length, and this test's alone.
            let bytes = unsafe { std::slice::from_raw_parts_mut(mapping.base().as_ptr(), mapping.len()) };
            assert!(bytes[0] == 0 && bytes[bytes.len() - 1] == 0);
            bytes[4096] = 7;
            // SAFETY: `bytes` is not used during or across this call other than by the read below.
            unsafe { mapping.discard(4096..8192) }.unwrap();
            // SAFETY: in range; read through the raw address as the contents changed behind the
            // compiler's back.
            assert_eq!(unsafe { mapping.base().add(4096).read_volatile() }, 0);
        }
    }
}
