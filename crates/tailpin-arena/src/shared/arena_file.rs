//! The one file that is a shared arena: a header, the table of owners, journals, words, the data.
//! Everything in it is found by its distance from the beginning, so it may be mapped anywhere.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{OFlags, fcntl_getfl, fstatfs};
use rustix::io::Errno;
use tailpin::{FrameRange, OneWord, Order, Pfn, ZoneLayout};

use crate::memory::mapping::{Advice, Mapping, Source};
use crate::memory::memory_file::{self, FileError};
use crate::memory::{PAGE_SIZE, PAGEBLOCK_SIZE};

use super::error::SharedError;
use super::generations::Generations;
use super::journal::{JOURNAL_WORDS, STEPS};
use super::ledger::Ledger;
use super::owners::OwnerEntry;
use super::word::{AcknowledgedSteps, MOST_JOURNALS, Word};

/// Threads of one owner that can be in an operation at the same time.
pub(super) const THREADS: usize = 8;
/// Most owners at the same time.
pub(super) const MOST_OWNERS: usize = MOST_JOURNALS / THREADS;

/// What the file is called in `/proc`.
pub(crate) const FILE_NAME: &str = "tailpin-shared";

const MAGIC: u64 = u64::from_le_bytes(*b"tailpin\0");

/// Counted up when the parts of the file change.
const LAYOUT: u64 = 2;

/// Differs between versions, whose operations may take other steps.
const VERSION: u64 = hash(
    hash(0xcbf2_9ce4_8422_2325, &(LAYOUT << 32 | (STEPS * THREADS) as u64).to_ne_bytes()),
    env!("CARGO_PKG_VERSION").as_bytes(),
);

/// FNV-1a, continued from `sum`.
const fn hash(mut sum: u64, bytes: &[u8]) -> u64 {
    let mut i = 0;
    while i < bytes.len() {
        sum = (sum ^ bytes[i] as u64).wrapping_mul(0x100_0000_01b3);
        i += 1;
    }
    sum
}

/// `statfs` says so of hugetlb memory.
const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;

/// How large a shared arena is; the rest follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Geometry {
    pub(super) pages: usize,
    pub(super) owners: usize,
}

/// What a reader of the file alone has to know of it, offsets in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileParts {
    pub(crate) pages: u64,
    /// Places for owners, and CPU slots of the zone.
    pub(crate) owners: usize,
    /// One entry for each owner: 128 bits, the lower half the process or 0.
    pub(crate) owners_at: u64,
    /// One word for each page: 128 bits, the lower half the page word.
    pub(crate) page_words_at: u64,
    /// For each owner one word for each page: 128 bits, the lower half a ledger entry.
    pub(crate) ledger_at: u64,
    pub(crate) data_at: u64,
}

impl FileParts {
    /// What the first words of a file of `bytes` bytes tell of the rest.
    pub(crate) fn of(header: [u64; 5], bytes: u64) -> Result<Self, SharedError> {
        let bytes = usize::try_from(bytes).map_err(|_| SharedError::NotAnArena)?;
        let geometry = Geometry::of_header(header, bytes)?;
        let offsets = geometry.offsets();
        Ok(Self {
            pages: geometry.pages as u64,
            owners: geometry.owners,
            owners_at: offsets.owners as u64,
            page_words_at: offsets.page_words as u64,
            ledger_at: offsets.ledger as u64,
            data_at: offsets.data as u64,
        })
    }
}

/// Where the parts begin, in bytes.
struct Offsets {
    owners: usize,
    acknowledged: usize,
    generations: usize,
    page_words: usize,
    allocator_words: usize,
    ledger: usize,
    journals: usize,
    data: usize,
    end: usize,
}

impl Geometry {
    /// Sizes that make an arena.
    pub(super) fn check(self) -> Result<Self, SharedError> {
        let pageblock = Order::HUGE.frames() as usize;
        if self.pages == 0 || !self.pages.is_multiple_of(pageblock) || self.pages > 1 << 32 {
            return Err(SharedError::BadSize { bytes: self.pages.saturating_mul(PAGE_SIZE) });
        }
        if self.owners == 0 || self.owners > MOST_OWNERS {
            return Err(SharedError::TooManyOwners { owners: self.owners, most: MOST_OWNERS });
        }
        Ok(self)
    }

    fn frames(self) -> [FrameRange; 1] {
        [FrameRange::new(Pfn::new(0), self.pages as u64)]
    }

    /// Of the zone.
    fn with_layout<R>(self, f: impl FnOnce(ZoneLayout<'_>) -> R) -> R {
        // One slot for each owner: a process that dies leaves nothing in another one's.
        f(ZoneLayout::new(&self.frames(), self.owners).expect("an arena has pages"))
    }

    fn journals(self) -> usize {
        self.owners * THREADS
    }

    fn allocator_words(self) -> usize {
        self.with_layout(|layout| layout.allocator_words())
    }

    fn offsets(self) -> Offsets {
        let mut end = PAGE_SIZE;
        let mut part = |words: usize, size: usize| {
            let begin = end;
            end = (begin + words * size).next_multiple_of(PAGE_SIZE);
            begin
        };
        let (small, large) = (size_of::<AtomicU64>(), size_of::<Word>());
        let owners = part(self.owners, size_of::<OwnerEntry>());
        let acknowledged = part(self.journals(), small);
        let generations = part(self.pages, small);
        let page_words = part(self.with_layout(|layout| layout.page_words::<OneWord<'_, Word>>()), large);
        let allocator_words = part(self.allocator_words(), large);
        let ledger = part(self.pages * self.owners, large);
        let journals = part(JOURNAL_WORDS * self.journals(), small);
        let data = end.next_multiple_of(PAGEBLOCK_SIZE);
        Offsets {
            owners,
            acknowledged,
            generations,
            page_words,
            allocator_words,
            ledger,
            journals,
            data,
            end: data + self.pages * PAGE_SIZE,
        }
    }

    /// The sizes that the header of a file of `bytes` bytes tells.
    fn of_header([magic, version, pages, owners, sum]: [u64; 5], bytes: usize) -> Result<Self, SharedError> {
        match magic {
            MAGIC => {}
            0 => return Err(SharedError::Unfinished),
            _ => return Err(SharedError::NotAnArena),
        }
        if version != VERSION {
            return Err(SharedError::OtherVersion);
        }
        let number = |word| usize::try_from(word).map_err(|_| SharedError::NotAnArena);
        let geometry = Self { pages: number(pages)?, owners: number(owners)? };
        let fits = geometry.check().is_ok() && geometry.offsets().end == bytes;
        if !fits || geometry.description()[3] != sum {
            return Err(SharedError::NotAnArena);
        }
        Ok(geometry)
    }

    /// What the header says behind the magic number; the last word is a sum over the others.
    fn description(self) -> [u64; 4] {
        let (pages, owners) = (self.pages as u64, self.owners as u64);
        [VERSION, pages, owners, hash(hash(VERSION, &pages.to_ne_bytes()), &owners.to_ne_bytes())]
    }
}

/// A mapping of the file, and its parts.
pub(super) struct ArenaFile {
    mapping: Mapping,
    file: File,
    pub(super) geometry: Geometry,
    pub(super) owners: &'static [OwnerEntry],
    pub(super) acknowledged: AcknowledgedSteps,
    pub(super) generations: Generations,
    pub(super) page_words: &'static [Word],
    pub(super) allocator_words: &'static [Word],
    pub(super) ledger: Ledger,
    pub(super) journals: &'static [AtomicU64],
    data: NonNull<u8>,
}

// SAFETY: the only part that is not `Send` and `Sync` as it is is the address of the data, which
// belongs to the process; counts on pages settle which thread may read or write there.
unsafe impl Send for ArenaFile {}
// SAFETY: a shared reference to it gives out the address alone, and atomic words.
unsafe impl Sync for ArenaFile {}

impl ArenaFile {
    /// A file that is no arena yet: it becomes one by [`ArenaFile::publish`].
    pub(super) fn create(geometry: Geometry) -> Result<Self, SharedError> {
        let bytes = geometry.offsets().end as u64;
        let file = memory_file::create(FILE_NAME, bytes).map_err(|error| match error {
            FileError::Limit { limit } => SharedError::FileLimit { bytes, limit },
            FileError::System { doing, errno } => failed(doing)(errno),
        })?;
        let file = File::from(file);
        let mapping = map(&file, bytes as usize)?;
        Ok(Self::over(file, mapping, geometry))
    }

    /// Makes the file an arena, for all processes that have it: the last step of its creator, after
    /// every word is as it is to be.
    pub(super) fn publish(&self) {
        let [magic, description @ ..] = header(&self.mapping);
        for (word, value) in description.iter().zip(self.geometry.description()) {
            // Relaxed: published by the next line.
            word.store(value, Ordering::Relaxed);
        }
        // Release: pairs with the Acquire in `open`. A process that finds the number finds all that
        // was written before it.
        magic.store(MAGIC, Ordering::Release);
    }

    /// A file from another process. Nothing in it is believed before it was checked, and it is not
    /// even mapped if its length could change.
    pub(super) fn open(file: OwnedFd) -> Result<Self, SharedError> {
        let flags = fcntl_getfl(&file).map_err(failed("look at the descriptor"))?;
        // In the huge pages of the kernel's pool a touch that finds the pool empty is a SIGBUS;
        // `create` makes no such file.
        let in_pool = fstatfs(&file).is_ok_and(|system| system.f_type as u64 == HUGETLBFS_MAGIC);
        let sealed = memory_file::is_sealed(&file);
        let file = File::from(file);
        if !sealed || in_pool {
            return Err(Self::why_not(&file));
        }
        if flags & OFlags::RWMODE != OFlags::RDWR {
            return Err(SharedError::NotWritable);
        }
        let bytes = file.metadata().map_err(|error| SharedError::io("look at the file", &error))?.len();
        let bytes = usize::try_from(bytes).map_err(|_| SharedError::NotAnArena)?;
        if bytes == 0 || !bytes.is_multiple_of(PAGE_SIZE) {
            return Err(SharedError::NotAnArena);
        }
        let mapping = map(&file, bytes)?;
        // In this order. Acquire: pairs with the Release in `publish`.
        let header = header(&mapping).each_ref().map(|word| word.load(Ordering::Acquire));
        let geometry = Geometry::of_header(header, bytes)?;
        Ok(Self::over(file, mapping, geometry))
    }

    /// Why a file is not even mapped: earlier versions sealed theirs in another way.
    fn why_not(file: &File) -> SharedError {
        let mut words = [0; 16];
        let read = file.read_exact_at(&mut words, 0).is_ok();
        let [magic, version] = [0, 1].map(|i| u64::from_ne_bytes(words.as_chunks::<8>().0[i]));
        if read && magic == MAGIC && version != VERSION {
            SharedError::OtherVersion
        } else {
            SharedError::NotAnArena
        }
    }

    fn over(file: File, mapping: Mapping, geometry: Geometry) -> Self {
        let offsets = geometry.offsets();
        // SAFETY: `data` is within the mapping.
        let data = unsafe { mapping.base().add(offsets.data) };
        // SAFETY: the parts lie in the file as `offsets` says, whose size both callers have
        // compared with it, and which can't shrink. Each is used as words of its kind only, by
        // every process that has it mapped. The owner of this value promises by the lifetime to
        // keep it longer than what it was given.
        let small = |at, n| unsafe { part::<AtomicU64>(&mapping, at, n) };
        // SAFETY: as above.
        let large = |at, n| unsafe { part::<Word>(&mapping, at, n) };
        // SAFETY: as above.
        let owners = unsafe { part::<OwnerEntry>(&mapping, offsets.owners, geometry.owners) };
        let acknowledged = AcknowledgedSteps(small(offsets.acknowledged, geometry.journals()));
        let generations = Generations(small(offsets.generations, geometry.pages));
        let page_words = large(offsets.page_words, geometry.pages);
        let allocator_words = large(offsets.allocator_words, geometry.allocator_words());
        let words = large(offsets.ledger, geometry.pages * geometry.owners);
        let ledger = Ledger { words, pages: geometry.pages };
        let journals = small(offsets.journals, JOURNAL_WORDS * geometry.journals());
        Self {
            file,
            geometry,
            owners,
            acknowledged,
            generations,
            page_words,
            allocator_words,
            ledger,
            journals,
            data,
            mapping,
        }
    }

    pub(super) fn layout<R>(&self, f: impl FnOnce(ZoneLayout<'_>) -> R) -> R {
        self.geometry.with_layout(f)
    }

    /// Where the memory begins in this process.
    pub(super) fn base(&self) -> usize {
        self.mapping.base().as_ptr() as usize
    }

    /// Bytes of data.
    pub(super) fn size(&self) -> u64 {
        (self.geometry.pages * PAGE_SIZE) as u64
    }

    /// The address of a byte of the data, or of the one behind the last.
    pub(super) fn address(&self, offset: u64) -> NonNull<u8> {
        assert!(offset <= self.size(), "within the data");
        // SAFETY: the data are so many bytes from there on, within the mapping.
        unsafe { self.data.add(offset as usize) }
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// A forked child does not have the mapping.
    pub(super) fn disown(&mut self) {
        self.mapping.disown();
    }
}

/// All of the file, in this process and not in its forked children.
fn map(file: &File, bytes: usize) -> Result<Mapping, SharedError> {
    let mapping =
        Mapping::new(Source::File(file.as_fd(), 0), bytes, PAGEBLOCK_SIZE).map_err(failed("map the file"))?;
    mapping.advise(0..bytes, Advice::DontFork).map_err(failed("keep forks out"))?;
    Ok(mapping)
}

/// The first words: the magic number, then [what the arena is](Geometry::description).
fn header(mapping: &Mapping) -> &[AtomicU64; 5] {
    // SAFETY: a mapping begins at a page and has at least one, which is this header's and used as
    // atomic words only.
    unsafe { mapping.base().cast().as_ref() }
}

/// Words at a place of the mapping.
///
/// # Safety
/// `n` values of type `T` lie there, for which all bit patterns are valid and which are changed
/// atomically only; the mapping outlives their use.
unsafe fn part<T>(mapping: &Mapping, at: usize, n: usize) -> &'static [T] {
    // SAFETY: the caller's promise; parts begin at pages, which is alignment enough.
    unsafe { std::slice::from_raw_parts(mapping.base().add(at).cast::<T>().as_ptr(), n) }
}

fn failed(doing: &'static str) -> impl Fn(Errno) -> SharedError {
    move |errno| SharedError::System { doing, errno: errno.raw_os_error() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMALL: Geometry = Geometry { pages: 512, owners: 2 };

    fn attach(file: &File) -> Result<(), SharedError> {
        ArenaFile::open(file.try_clone().unwrap().into()).map(drop)
    }

    /// What a creator that was cut short leaves.
    #[test]
    fn a_file_is_no_arena_before_all_of_it_is_written() {
        let memory = ArenaFile::create(SMALL).unwrap();
        assert_eq!(attach(&memory.file), Err(SharedError::Unfinished));
        // All but the last word, in whichever order it becomes visible.
        let [magic, description @ ..] = header(&memory.mapping);
        for (word, value) in description.iter().zip(SMALL.description()).rev() {
            word.store(value, Ordering::Relaxed);
            assert_eq!(attach(&memory.file), Err(SharedError::Unfinished));
        }
        // The last word and not all of the others.
        magic.store(MAGIC, Ordering::Relaxed);
        attach(&memory.file).unwrap();
        for word in description {
            let value = word.swap(0, Ordering::Relaxed);
            assert!(attach(&memory.file).is_err());
            word.store(value, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_file_that_may_only_be_read_is_refused() {
        let memory = ArenaFile::create(SMALL).unwrap();
        memory.publish();
        attach(&memory.file).unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&memory.file));
        assert_eq!(attach(&File::open(path).unwrap()), Err(SharedError::NotWritable));
    }

    #[test]
    fn a_sealed_file_of_no_whole_number_of_pages_is_refused() {
        for bytes in [0, 1, PAGE_SIZE as u64 - 1, PAGE_SIZE as u64 + 1] {
            let file = File::from(memory_file::create("test", bytes).unwrap());
            assert_eq!(attach(&file), Err(SharedError::NotAnArena), "{bytes} bytes");
        }
    }

    #[test]
    fn a_file_of_the_huge_page_pool_is_refused() {
        use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
        let flags = MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
        let Ok(file) = memfd_create("pool", flags) else {
            return println!("skipped: this system has no hugetlb files");
        };
        ftruncate(&file, 16 << 20).unwrap();
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).unwrap();
        assert_eq!(attach(&File::from(file)), Err(SharedError::NotAnArena));
    }

    #[test]
    fn sizes_up_to_the_largest_number() {
        let extremes =
            [0, 1, 511, 512, 1 << 32, (1 << 32) + 512, 1 << 52, 1 << 63, usize::MAX - 511, usize::MAX];
        for pages in extremes {
            for owners in [0, 1, MOST_OWNERS, MOST_OWNERS + 1, 1 << 32, 1 << 63, usize::MAX] {
                let geometry = Geometry { pages, owners };
                let fits = (pages == 512 || pages == 1 << 32) && (owners == 1 || owners == MOST_OWNERS);
                assert_eq!(geometry.check().is_ok(), fits, "{geometry:?}");
                if fits {
                    let offsets = geometry.offsets();
                    assert!(offsets.data >= JOURNAL_WORDS * THREADS * owners * 8, "{geometry:?}");
                    assert_eq!(offsets.end - offsets.data, pages * PAGE_SIZE);
                    assert!(offsets.ledger + pages * owners * 16 <= offsets.journals, "{geometry:?}");
                }
            }
        }
    }

    /// A number of the header: the right one, or another.
    fn number(right: u64) -> impl Strategy<Value = u64> {
        prop_oneof![
            4 => Just(right),
            1 => (0..64u32).prop_map(move |bit| right ^ 1 << bit),
            1 => prop::sample::select(vec![0, 1, 511, 512, 1024, 1 << 32, 1 << 52, 1 << 63, u64::MAX]),
            1 => any::<u64>(),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

        /// Whatever the header says, of files of whatever length, it is an arena or an error.
        #[test]
        fn headers_are_not_believed(
            magic in number(MAGIC),
            version in number(VERSION),
            pages in number(512),
            owners in number(2),
            sum in prop_oneof![4 => Just(None), 1 => any::<u64>().prop_map(Some)],
            length in prop_oneof![
                3 => Just(SMALL.offsets().end as u64),
                1 => 0..40_000_000u64,
                1 => (0..10_000u64).prop_map(|pages| pages * PAGE_SIZE as u64),
            ],
        ) {
            // A sum that is right for what stands there, so that each number is looked at for what
            // it is.
            let by_numbers = hash(hash(version, &pages.to_ne_bytes()), &owners.to_ne_bytes());
            let words = [magic, version, pages, owners, sum.unwrap_or(by_numbers)];
            let file = File::from(memory_file::create("test", length).unwrap());
            let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_ne_bytes).collect();
            let written = file.write_all_at(&bytes[..bytes.len().min(length as usize)], 0);
            prop_assert!(written.is_ok());
            let right = magic == MAGIC && version == VERSION && sum.is_none_or(|sum| sum == by_numbers);
            let geometry = Geometry { pages: pages as usize, owners: owners as usize };
            let right = right && geometry.check().is_ok() && geometry.offsets().end as u64 == length;
            prop_assert_eq!(attach(&file).is_ok(), right, "{:?} of {} bytes", words, length);
        }
    }
}
