//! The one file that is a shared arena: a header, who uses it, journals, words, the data. Everything in it is found by
//! its distance from the beginning, so it may be mapped anywhere.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::io::Errno;
use tailpin::{FrameRange, OneWord, Order, Pfn, ZoneLayout};

use crate::mapping::{Harmless, Mapping, Source};
use crate::memory::{AREA, PAGE};
use crate::memory_file::{self, FileError};

use super::error::SharedError;
use super::journal::{JOURNAL_WORDS, STEPS};
use super::ledger::Ledger;
use super::operation::Lives;
use super::owners::Place;
use super::word::{MOST_JOURNALS, Told, Word};

/// Threads of one owner that can be in an operation at the same time.
pub(super) const THREADS: usize = 8;
/// Most owners at the same time.
pub(super) const MOST_OWNERS: usize = MOST_JOURNALS / THREADS;

const MAGIC: u64 = u64::from_le_bytes(*b"tailpin\0");

/// Differs between versions, whose operations may take other steps.
const VERSION: u64 = {
    let mut sum = 0xcbf2_9ce4_8422_2325u64 ^ (STEPS * THREADS) as u64;
    let mut i = 0;
    while i < env!("CARGO_PKG_VERSION").len() {
        sum = (sum ^ env!("CARGO_PKG_VERSION").as_bytes()[i] as u64).wrapping_mul(0x100_0000_01b3);
        i += 1;
    }
    sum
};

/// How large a shared arena is; the rest follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Geometry {
    pub(super) pages: usize,
    pub(super) owners: usize,
}

/// Where the parts begin, in bytes.
struct Places {
    owners: usize,
    told: usize,
    lives: usize,
    page_words: usize,
    area_words: usize,
    ledger: usize,
    journals: usize,
    data: usize,
    end: usize,
}

impl Geometry {
    /// Sizes that make an arena.
    pub(super) fn check(self) -> Result<Self, SharedError> {
        let area = Order::HUGE.frames() as usize;
        if self.pages == 0 || !self.pages.is_multiple_of(area) || self.pages > 1 << 32 {
            return Err(SharedError::BadSize { bytes: self.pages.saturating_mul(PAGE) });
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

    fn area_words(self) -> usize {
        self.with_layout(|layout| layout.area_words())
    }

    fn places(self) -> Places {
        let mut end = PAGE;
        let mut part = |words: usize, size: usize| {
            let begin = end;
            end = (begin + words * size).next_multiple_of(PAGE);
            begin
        };
        let (small, large) = (size_of::<AtomicU64>(), size_of::<Word>());
        let owners = part(self.owners, size_of::<Place>());
        let told = part(self.journals(), small);
        let lives = part(self.pages, small);
        let page_words = part(self.with_layout(|layout| layout.page_words::<OneWord<'_, Word>>()), large);
        let area_words = part(self.area_words(), large);
        let ledger = part(self.pages * self.owners, large);
        let journals = part(JOURNAL_WORDS * self.journals(), small);
        let data = end.next_multiple_of(AREA);
        Places {
            owners,
            told,
            lives,
            page_words,
            area_words,
            ledger,
            journals,
            data,
            end: data + self.pages * PAGE,
        }
    }

    fn header(self) -> [u64; 4] {
        [MAGIC, VERSION, self.pages as u64, self.owners as u64]
    }
}

/// A mapping of the file, and its parts.
pub(super) struct Memory {
    mapping: Mapping,
    file: File,
    pub(super) geometry: Geometry,
    pub(super) owners: &'static [Place],
    pub(super) told: Told,
    pub(super) lives: Lives,
    pub(super) page_words: &'static [Word],
    pub(super) area_words: &'static [Word],
    pub(super) ledger: Ledger,
    pub(super) journals: &'static [AtomicU64],
    data: NonNull<u8>,
}

// SAFETY: the only part that is not `Send` and `Sync` by itself is the address of the data, which belongs to the process;
// who may read or write it is settled by counts on pages.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    pub(super) fn create(geometry: Geometry) -> Result<Self, SharedError> {
        let bytes = geometry.places().end as u64;
        let file = memory_file::create("tailpin-shared", bytes).map_err(|error| match error {
            FileError::Limit { limit } => SharedError::FileLimit { bytes, limit },
            FileError::System { doing, errno } => failed(doing)(errno),
        })?;
        let file = File::from(file);
        let header: Vec<u8> = geometry.header().into_iter().flat_map(u64::to_ne_bytes).collect();
        file.write_all_at(&header, 0).map_err(|error| SharedError::io("write the header", &error))?;
        Self::map(file, geometry)
    }

    pub(super) fn open(file: OwnedFd) -> Result<Self, SharedError> {
        let sealed = memory_file::is_sealed(&file);
        let file = File::from(file);
        let mut header = [0; 32];
        file.read_exact_at(&mut header, 0).map_err(|_| SharedError::NotAnArena)?;
        let word = |i: usize| u64::from_ne_bytes(header.as_chunks::<8>().0[i]);
        let geometry = Geometry { pages: word(2) as usize, owners: word(3) as usize };
        if word(0) != MAGIC {
            return Err(SharedError::NotAnArena);
        }
        if word(1) != VERSION {
            return Err(SharedError::OtherVersion);
        }
        let size = file.metadata().map_err(|error| SharedError::io("look at the file", &error))?.len();
        if !sealed || geometry.check().is_err() || geometry.places().end as u64 != size {
            return Err(SharedError::NotAnArena);
        }
        Self::map(file, geometry)
    }

    fn map(file: File, geometry: Geometry) -> Result<Self, SharedError> {
        let places = geometry.places();
        let mapping =
            Mapping::new(Source::File(file.as_fd(), 0), places.end, AREA).map_err(failed("map the file"))?;
        mapping.advise(0..places.end, Harmless::DontFork).map_err(failed("keep forks out"))?;
        // SAFETY: `data` is within the mapping.
        let data = unsafe { mapping.base().add(places.data) };
        // SAFETY: the parts lie in the file as `places` says, whose size was checked, and which can't shrink. Each is used
        // as words of its kind only, by every process that has it mapped. The lifetime is a promise of whoever has this
        // value to keep it longer than what it was given.
        let small = |at, n| unsafe { part::<AtomicU64>(&mapping, at, n) };
        // SAFETY: as above.
        let large = |at, n| unsafe { part::<Word>(&mapping, at, n) };
        // SAFETY: as above.
        let owners = unsafe { part::<Place>(&mapping, places.owners, geometry.owners) };
        let told = Told(small(places.told, geometry.journals()));
        let lives = Lives(small(places.lives, geometry.pages));
        let page_words = large(places.page_words, geometry.pages);
        let area_words = large(places.area_words, geometry.area_words());
        let words = large(places.ledger, geometry.pages * geometry.owners);
        let ledger = Ledger { words, pages: geometry.pages };
        let journals = small(places.journals, JOURNAL_WORDS * geometry.journals());
        Ok(Self {
            file,
            geometry,
            owners,
            told,
            lives,
            page_words,
            area_words,
            ledger,
            journals,
            data,
            mapping,
        })
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
        (self.geometry.pages * PAGE) as u64
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

/// Words at a place of the mapping.
///
/// # Safety
/// `n` values of type `T` lie there, for which all bit patterns are valid and which are changed atomically only; the
/// mapping outlives their use.
unsafe fn part<T>(mapping: &Mapping, at: usize, n: usize) -> &'static [T] {
    // SAFETY: the caller's promise; parts begin at pages, which is alignment enough.
    unsafe { std::slice::from_raw_parts(mapping.base().add(at).cast::<T>().as_ptr(), n) }
}

fn failed(doing: &'static str) -> impl Fn(Errno) -> SharedError {
    move |errno| SharedError::System { doing, errno: errno.raw_os_error() }
}
