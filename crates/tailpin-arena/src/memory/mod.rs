//! The two pieces of memory of an arena: its data, and the words that say what becomes of it.
//!
//! What is Linux's of it lies in modules of their own. Elsewhere the modules of [`stand_in`] take
//! their names: types of which there is no value, as no memory there is the system's, and answers
//! that say so. Nothing else asks which system it is, but for the parts of the crate that are
//! Linux's as a whole.

pub(crate) mod abilities;
pub(crate) mod heap;
mod words;

#[cfg(all(target_os = "linux", not(tailpin_portable)))]
#[expect(
    clippy::arithmetic_side_effects,
    reason = "places in a description, which has 8192 words, and lengths that were bounded before"
)]
pub(crate) mod description;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
pub(crate) mod fork;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
pub(crate) mod mapped;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
pub(crate) mod mapping;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
pub(crate) mod memory_file;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
pub(crate) mod system;

#[cfg(not(all(target_os = "linux", not(tailpin_portable))))]
mod stand_in;
#[cfg(not(all(target_os = "linux", not(tailpin_portable))))]
pub(crate) use stand_in::{description, fork, mapped, mapping, system};

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU64};

use tailpin::{Order, Pfn};

use crate::backing::{Backing, HugeSize};
use crate::error::{BuildError, ReleaseError};
use crate::memory::heap::HeapMemory;
use crate::memory::mapped::Mapped;
use crate::memory::mapping::Mapping;
use crate::memory::system::Errno;

pub(crate) use tailpin::{PAGE_BYTES, PAGE_SIZE};

/// Frames of the largest block.
const MOST: u64 = Order::MAX.frames();
/// Bytes of so many pages, which all are some arena's.
pub(crate) const fn bytes_of(pages: u64) -> usize {
    (pages as usize).saturating_mul(PAGE_SIZE)
}

/// Bytes of a pageblock: the smallest huge page.
pub(crate) const PAGEBLOCK_SIZE: usize = Order::HUGE.bytes() as usize;

/// Memory for [`Builder::over_memory`](crate::Builder::over_memory): only the whole 4 KiB pages
/// within it are used.
pub struct PlainMemory {
    memory: NonNull<[u8]>,
    owned: bool,
}

// SAFETY: the bytes belong to this value alone, exclusively borrowed for good or owned.
unsafe impl Send for PlainMemory {}
// SAFETY: as above; `&PlainMemory` gives no access to the bytes.
unsafe impl Sync for PlainMemory {}

impl From<&'static mut [u8]> for PlainMemory {
    fn from(memory: &'static mut [u8]) -> Self {
        Self { memory: NonNull::from(memory), owned: false }
    }
}

impl From<Box<[u8]>> for PlainMemory {
    fn from(memory: Box<[u8]>) -> Self {
        Self { memory: NonNull::from(Box::leak(memory)), owned: true }
    }
}

impl From<Vec<u8>> for PlainMemory {
    fn from(memory: Vec<u8>) -> Self {
        memory.into_boxed_slice().into()
    }
}

impl Drop for PlainMemory {
    fn drop(&mut self) {
        if self.owned {
            // SAFETY: the pointer came from a box of this very slice, and this is the only place
            // that takes it back.
            drop(unsafe { Box::from_raw(self.memory.as_ptr()) });
        }
    }
}

/// What keeps the data there.
pub(crate) enum Keeper {
    Mapped(Mapped),
    Heap(HeapMemory),
    #[expect(dead_code, reason = "kept for its drop")]
    Plain(PlainMemory),
}

/// The data of an arena: `pages` pages from `base` on, the first of which has the number `first`.
pub(crate) struct Data {
    pub(crate) base: NonNull<u8>,
    pub(crate) first: Pfn,
    pub(crate) pages: u64,
    pub(crate) keeper: Keeper,
}

impl Data {
    /// Memory of the caller's. Frame numbers are such that a block is as aligned in memory as its
    /// order says.
    pub(crate) fn plain(memory: PlainMemory) -> Result<Self, BuildError> {
        let bytes = memory.memory.len();
        let begin = memory.memory.as_ptr().cast::<u8>() as usize;
        let skip = begin.wrapping_neg() % PAGE_SIZE;
        let pages = bytes.saturating_sub(skip) / PAGE_SIZE;
        if pages == 0 {
            return Err(BuildError::TooSmall { bytes });
        }
        // SAFETY: `skip` is less than `bytes`, as a page fits behind it.
        let base = unsafe { memory.memory.cast::<u8>().add(skip) };
        let first = Pfn::new((base.addr().get() as u64 / PAGE_BYTES) % MOST);
        Ok(Self { base, first, pages: pages as u64, keeper: Keeper::Plain(memory) })
    }

    /// Memory of this backing, aligned for the largest block that it can contain. `words` bytes are
    /// added to a shared file behind the data.
    pub(crate) fn new(backing: Backing, size: usize, words: usize) -> Result<Self, BuildError> {
        let align = size.next_power_of_two().clamp(PAGEBLOCK_SIZE, Order::MAX.bytes() as usize);
        let keeper = match backing {
            Backing::Plain => return Err(BuildError::NoMemoryGiven),
            Backing::Heap => {
                let memory = HeapMemory::zeroed(size, align);
                Keeper::Heap(memory.ok_or(BuildError::OutOfMemory { bytes: size })?)
            }
            Backing::Anonymous | Backing::HugeTlb(_) | Backing::Memfd { .. } => {
                Keeper::Mapped(Mapped::new(backing, size, align, words)?)
            }
        };
        let base = match &keeper {
            Keeper::Mapped(mapped) => mapped.mapping().base(),
            Keeper::Heap(memory) => memory.base(),
            Keeper::Plain(_) => return Err(BuildError::NoMemoryGiven),
        };
        Ok(Self { base, first: Pfn::new(0), pages: (size / PAGE_SIZE) as u64, keeper })
    }

    pub(crate) fn mapped(&self) -> Option<&Mapped> {
        match &self.keeper {
            Keeper::Mapped(mapped) => Some(mapped),
            Keeper::Heap(_) | Keeper::Plain(_) => None,
        }
    }

    pub(crate) fn mapping(&self) -> Option<&Mapping> {
        self.mapped().map(Mapped::mapping)
    }

    /// Leaves the data mapped when this is dropped.
    pub(crate) fn disown(&mut self) {
        match &mut self.keeper {
            Keeper::Mapped(mapped) => mapped.disown(),
            Keeper::Heap(_) | Keeper::Plain(_) => {}
        }
    }
}

/// The error of a release for what the kernel answered.
pub(crate) fn release_failed(doing: &'static str) -> impl Fn(Errno) -> ReleaseError {
    move |errno| ReleaseError::System { doing, errno: errno.raw_os_error() }
}

/// Notes in the place of a word.
const NOTES_PER_WORD: usize = size_of::<AtomicU64>() / size_of::<AtomicU16>();

/// How many words each part of the metadata has; they follow each other in this order, each at a
/// cache line, as false sharing would slow both neighbours down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WordCounts {
    /// One per frame: the page words.
    pub(crate) pages: usize,
    /// The frame allocator's.
    pub(crate) allocator: usize,
    /// One per frame: who was given it, and when.
    pub(crate) history: usize,
    /// Which frames the system has given memory to.
    pub(crate) residency: usize,
    /// A note of 16 bits per frame.
    pub(crate) notes: usize,
}

impl WordCounts {
    const LINE: usize = 8;

    /// Where each part begins, and last where all end; `None` beyond an address space.
    fn starts(&self) -> Option<[usize; 6]> {
        let mut starts = [0; 6];
        let mut end = 0_usize;
        let notes = self.notes.div_ceil(NOTES_PER_WORD);
        for (i, n) in (1..).zip([self.pages, self.allocator, self.history, self.residency, notes]) {
            end = end.checked_add(n)?.checked_next_multiple_of(Self::LINE)?;
            starts[i] = end;
        }
        Some(starts)
    }

    /// Where the words of pages, of history, of residency and of notes are, in bytes.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "`bytes` has checked that all ends in an address space"
    )]
    pub(crate) fn observed(&self) -> Option<[Range<u64>; 4]> {
        self.bytes()?;
        let starts = self.starts()?;
        let part = |at: usize, n: usize| (at * size_of::<u64>()) as u64..((at + n) * size_of::<u64>()) as u64;
        let notes = starts[5] - starts[4];
        Some([
            part(starts[0], self.pages),
            part(starts[2], self.history),
            part(starts[3], self.residency),
            part(starts[4], notes),
        ])
    }

    /// All of it, in whole pages; `None` beyond an address space.
    pub(crate) fn bytes(&self) -> Option<usize> {
        self.starts()?[5].checked_mul(size_of::<u64>())?.checked_next_multiple_of(PAGE_SIZE)
    }
}

/// Where the words are.
enum WordsKeeper {
    Mapped(Mapping),
    Heap(HeapMemory),
}

/// The metadata: words that mean the same wherever they are mapped, zero at first and touched only
/// when used. In a shared file they lie behind the data; else they are of the same origin as that,
/// or the heap's where it is the caller's.
pub(crate) struct Words {
    keeper: WordsKeeper,
    /// The parts below, one behind the other.
    pub(crate) all: &'static [AtomicU64],
    pub(crate) pages: &'static [AtomicU64],
    pub(crate) allocator: &'static [AtomicU64],
    pub(crate) history: &'static [AtomicU64],
    pub(crate) residency: &'static [AtomicU64],
    pub(crate) notes: &'static [AtomicU16],
}

impl Words {
    pub(crate) fn new(counts: WordCounts, data: &Data) -> Result<Self, BuildError> {
        let too_large = BuildError::BadSize { bytes: bytes_of(data.pages) };
        let Some(bytes) = counts.bytes() else { return Err(too_large) };
        let keeper = match data.mapped() {
            Some(mapped) => WordsKeeper::Mapped(mapped.words(bytes)?),
            None => {
                let memory = HeapMemory::zeroed(bytes, PAGE_SIZE);
                WordsKeeper::Heap(memory.ok_or(BuildError::OutOfMemory { bytes })?)
            }
        };
        Self::over(counts, keeper).ok_or(too_large)
    }

    /// Words in a mapping, which is as long as they are; `None` if there can't be so many.
    pub(crate) fn in_mapping(counts: WordCounts, mapping: Mapping) -> Option<Self> {
        Self::over(counts, WordsKeeper::Mapped(mapping))
    }

    fn over(counts: WordCounts, keeper: WordsKeeper) -> Option<Self> {
        let starts = counts.starts()?;
        // SAFETY: the memory is used as atomic words only. The lifetime is a promise of this
        // value's owner to drop it after the last use of the slices.
        let all = unsafe {
            match &keeper {
                WordsKeeper::Mapped(mapping) => mapping.words(),
                WordsKeeper::Heap(memory) => memory.words(),
            }
        };
        let notes = all[starts[4]..].as_ptr().cast::<AtomicU16>();
        Some(Self {
            keeper,
            all,
            // SAFETY: as above: behind the words of the other parts, as long as `starts` says, and
            // used as atomic notes only, but in a copy, which is made before the first use.
            notes: unsafe { std::slice::from_raw_parts(notes, counts.notes) },
            pages: &all[starts[0]..][..counts.pages],
            allocator: &all[starts[1]..][..counts.allocator],
            history: &all[starts[2]..][..counts.history],
            residency: &all[starts[3]..][..counts.residency],
        })
    }

    /// What the system mapped for them.
    pub(crate) fn mapping(&self) -> Option<&Mapping> {
        match &self.keeper {
            WordsKeeper::Mapped(mapping) => Some(mapping),
            WordsKeeper::Heap(_) => None,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.all)
    }

    /// Leaves the words mapped when this is dropped.
    pub(crate) fn disown(&mut self) {
        match &mut self.keeper {
            WordsKeeper::Mapped(mapping) => mapping.disown(),
            WordsKeeper::Heap(_) => {}
        }
    }
}

/// Rounds a size up to whole huge pages of the backing; `None` if there is no such size.
pub(crate) fn round_up(bytes: usize, backing: Backing) -> Option<usize> {
    let unit = match backing {
        Backing::HugeTlb(HugeSize::Gib1) => HugeSize::Gib1.bytes(),
        _ => PAGEBLOCK_SIZE,
    };
    let rounded = bytes.checked_next_multiple_of(unit)?;
    (bytes > 0 && rounded < isize::MAX as usize).then_some(rounded)
}
