//! The data of an arena in memory that Linux mapped for it: made, populated, locked, and kept from
//! forked children.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Resource, getrlimit};
use tailpin::PAGE_SIZE;

use crate::backing::Backing;
use crate::error::BuildError;
use crate::memory::fork::ForkMark;
use crate::memory::mapping::{Advice, Mapping, Source};
use crate::memory::memory_file::{self, FileError};
use crate::memory::system::{self, Errno};

/// Mapped data, with the file that it is in if there is one.
pub(crate) struct Mapped {
    mapping: Mapping,
    /// Behind the data it has the arena's words.
    file: Option<OwnedFd>,
}

impl Mapped {
    /// Memory of this backing at a multiple of `align`. `words` bytes are added to a shared file
    /// behind the data.
    pub(crate) fn new(backing: Backing, size: usize, align: usize, words: usize) -> Result<Self, BuildError> {
        let huge_pages =
            backing.gets_huge_pages().map_err(|errno| why(errno, "ask for huge pages", size, backing))?;
        let failed = |errno| why(errno, "map memory", size, backing);
        let (mapping, file) = match backing {
            Backing::Anonymous => (Mapping::new(Source::Anonymous, size, align).map_err(failed)?, None),
            Backing::HugeTlb(huge) => {
                let align = align.max(huge.bytes());
                (Mapping::new(Source::HugeTlb(huge), size, align).map_err(failed)?, None)
            }
            Backing::Memfd { .. } => {
                let bytes = size.checked_add(words).ok_or(BuildError::BadSize { bytes: size })?;
                let file =
                    memory_file::create("tailpin-arena", bytes as u64).map_err(|error| match error {
                        FileError::Limit { limit } => BuildError::FileLimit { bytes, limit },
                        FileError::System { doing, errno } => why(errno, doing, bytes, backing),
                    })?;
                let mapping = Mapping::new(Source::File(file.as_fd(), 0), size, align).map_err(failed)?;
                (mapping, Some(file))
            }
            Backing::Heap | Backing::Plain => return Err(BuildError::NoMemoryGiven),
        };
        if huge_pages {
            mapping.advise(0..size, Advice::Huge).map_err(failed)?;
        }
        Ok(Self { mapping, file })
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    pub(crate) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// So many bytes of words: behind the data in a file, else a mapping of their own.
    pub(crate) fn words(&self, bytes: usize) -> Result<Mapping, BuildError> {
        let source = match self.file() {
            Some(file) => Source::File(file, self.mapping.len() as u64),
            None => Source::Anonymous,
        };
        Mapping::new(source, bytes, PAGE_SIZE)
            .map_err(|errno| why(errno, "map metadata", bytes, Backing::Anonymous))
    }

    /// Populates all of the memory if that is wanted; whether all of it has memory now.
    pub(crate) fn fill(&self, backing: Backing, populate: bool, lock: bool) -> Result<bool, BuildError> {
        let mapping = &self.mapping;
        if lock {
            mapping.lock().map_err(|errno| match errno {
                Errno::NOMEM | Errno::PERM => lock_limit(mapping.len()),
                _ => why(errno, "lock memory", mapping.len(), backing),
            })?;
        }
        let from_pool = matches!(backing, Backing::HugeTlb(_));
        if populate || from_pool {
            let free = if let Backing::HugeTlb(size) = backing { system::free_huge_pages(size) } else { 0 };
            let populated = mapping.advise(0..mapping.len(), Advice::Populate);
            populated.map_err(|errno| match why(errno, "populate memory", mapping.len(), backing) {
                // The ones that were populated are not free at this moment.
                BuildError::HugePageShortage { size, needed, .. } => {
                    BuildError::HugePageShortage { size, needed, free }
                }
                other => other,
            })?;
        }
        // Where all of the process is locked (`mlockall`), this mapping is too, and has memory.
        Ok(lock || populate || from_pool || mapping.is_locked(0..mapping.len()))
    }

    /// Memory that a forked child must not have stays with the parent: shared memory, whose counts
    /// are the parent's, and hugetlb memory, of which a write in either process could find no page
    /// to copy to, and kill it.
    pub(crate) fn keep_from_children(
        &self,
        backing: Backing,
        words: Option<&Mapping>,
    ) -> Result<Option<ForkMark>, BuildError> {
        let failed = |errno| why(errno, "keep memory from forked children", PAGE_SIZE, Backing::Anonymous);
        if backing == Backing::Anonymous {
            return Ok(None);
        }
        for mapping in [Some(&self.mapping), words].into_iter().flatten() {
            mapping.advise(0..mapping.len(), Advice::DontFork).map_err(failed)?;
        }
        ForkMark::new().map_err(failed).map(Some)
    }

    /// Leaves the data mapped when this is dropped.
    pub(crate) fn disown(&mut self) {
        self.mapping.disown();
    }
}

/// Whether all that the process maps is locked at once (`mlockall`), and so has memory.
pub(crate) fn locks_all() -> Result<bool, BuildError> {
    let failed = |errno| why(errno, "map memory", PAGE_SIZE, Backing::Anonymous);
    let probe = Mapping::new(Source::Anonymous, PAGE_SIZE, PAGE_SIZE).map_err(failed)?;
    Ok(probe.is_locked(0..PAGE_SIZE))
}

/// The cause behind the kernel's answer to a request for memory.
pub(crate) fn why(errno: Errno, doing: &'static str, bytes: usize, backing: Backing) -> BuildError {
    // EFAULT is what populating says where a touch would be a SIGBUS.
    if errno == Errno::NOMEM || errno == Errno::FAULT {
        if let Backing::HugeTlb(size) = backing {
            let needed = bytes.div_ceil(size.bytes()) as u64;
            return BuildError::HugePageShortage { size, needed, free: system::free_huge_pages(size) };
        }
        let (maps, limit) = (system::map_count(), system::max_map_count());
        // A few mappings come and go with what reads the count.
        return if maps.saturating_add(4) >= limit {
            BuildError::MapLimit { maps, limit }
        } else {
            BuildError::OutOfMemory { bytes }
        };
    }
    if errno == Errno::AGAIN {
        // All that the process maps is locked at once, as by `mlockall(MCL_FUTURE)`.
        return lock_limit(bytes);
    }
    BuildError::System { doing, errno: errno.raw_os_error() }
}

/// The error for `bytes` that the process may not lock, with its limit.
fn lock_limit(bytes: usize) -> BuildError {
    BuildError::LockLimit { bytes, limit: getrlimit(Resource::Memlock).current }
}
