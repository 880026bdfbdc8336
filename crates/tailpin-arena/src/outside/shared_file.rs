//! A shared arena, read from its file: page words, and what each process keeps by its ledger.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use tailpin::{FrameRange, Order, Pfn};

use super::copy::{ArenaCopy, FRAMES, PageWordCopy};
use super::error::LookError;
use super::look::{Holder, Look};
use super::source::Source;
use crate::history::Start;
use crate::memory::{PAGE_BYTES, PAGE_SIZE, bytes_of};
use crate::shared::{FileParts, Identity, LedgerEntry, SharedError};

/// A word of the file: 128 bits, of which the lower half is the value.
const WIDE: u64 = 2 * size_of::<u64>() as u64;
/// Bytes of the page words of a pageblock.
const WIDE_PAGEBLOCK: u64 = FRAMES as u64 * WIDE;
const _: () = assert!(WIDE_PAGEBLOCK.is_multiple_of(PAGE_BYTES));

/// How many keep each page of a pageblock, and the last of them that was seen to.
type Keepers = [(u16, u16); FRAMES];

/// The file of a shared arena, open to be read. Its parts never change.
#[derive(Debug)]
pub(super) struct SharedFile {
    source: Source,
    parts: FileParts,
}

impl SharedFile {
    pub(super) fn open(file: File) -> Result<Self, LookError> {
        let failed = |error: io::Error| LookError::System {
            doing: "read the file",
            errno: error.raw_os_error().unwrap_or(0),
        };
        let mut header = [0; 40];
        match file.read_exact_at(&mut header, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(LookError::NotAnArena),
            read => read.map_err(failed)?,
        }
        let header = std::array::from_fn(|i| u64::from_ne_bytes(header.as_chunks::<8>().0[i]));
        let bytes = file.metadata().map_err(failed)?.len();
        let parts = FileParts::of(header, bytes).map_err(|error| match error {
            SharedError::OtherVersion => LookError::OtherVersion { theirs: None },
            _ => LookError::NotAnArena,
        })?;
        Ok(Self { source: Source::File(file, 0), parts })
    }

    fn data(&self) -> FrameRange {
        FrameRange::new(Pfn::new(0), self.parts.pages)
    }

    /// The values of wide words of the file from `at` on that are not zero, with their numbers.
    fn each_value(&self, at: u64, words: u64, mut each: impl FnMut(usize, u64)) -> Result<(), LookError> {
        self.source.each_word(at..at + words * WIDE, |half, value| {
            if half.is_multiple_of(2) {
                each(half / 2, value);
            }
        })
    }

    fn copy_page_words(&self) -> Result<PageWordCopy, LookError> {
        // The file has neither history nor notes.
        let mut copy = PageWordCopy::for_frames(self.data())?;
        let begin = self.parts.page_words_at;
        let all = begin..begin + self.parts.pages * WIDE;
        for run in self.source.touched(all.start..all.end.next_multiple_of(PAGE_BYTES))? {
            let pageblock = |at: u64| (at - begin) / WIDE_PAGEBLOCK;
            let reached = pageblock(run.start)..pageblock(run.end - 1) + 1;
            let end = (reached.end as usize).min(copy.touched.len());
            copy.touched[(reached.start as usize).min(end)..end].fill(true);
        }
        let words = copy.words.pages;
        self.each_value(begin, self.parts.pages, |i, value| words[i].store(value, Ordering::Relaxed))?;
        Ok(copy)
    }

    pub(super) fn look(&self) -> Result<Look, LookError> {
        let still = PageWordCopy::until_still(|| self.copy_page_words())?;
        let copy = ArenaCopy::over(still, self.data(), Start::now())?;
        let data = self.parts.data_at..self.parts.data_at + bytes_of(self.parts.pages) as u64;
        let mut resident = 0;
        for run in self.source.touched(data.clone())? {
            resident += run.end - run.start;
            for page in (run.start - data.start) / PAGE_BYTES..(run.end - data.start) / PAGE_BYTES {
                copy.residency().mark(Pfn::new(page), Order::PAGE);
            }
        }
        Ok(Look::with(copy, self.holders()?, Vec::new(), None, Some(resident)))
    }

    /// What each process that has joined keeps.
    fn holders(&self) -> Result<Vec<Holder>, LookError> {
        let mut owners = Vec::new();
        self.each_value(self.parts.owners_at, self.parts.owners as u64, |owner, value| {
            owners.extend(Identity::of_entry(value).map(|identity| (owner, identity.pid())));
        })?;
        // Pageblocks of which no owner keeps a page take no memory: the file may have many.
        let pages = self.parts.pages as usize;
        let mut keepers: Vec<Option<Box<Keepers>>> = Vec::new();
        keepers.resize_with(pages.div_ceil(FRAMES), || None);
        let mut holders = Vec::new();
        for (number, (owner, pid)) in owners.into_iter().enumerate() {
            let mut holder = Holder {
                tag: None,
                pid: Some(pid),
                offset: 0,
                buffer_bytes: None,
                kept_bytes: 0,
                comes_back_bytes: 0,
                pageblocks: 0,
                references: 0,
                pins: 0,
                age: None,
            };
            let mut first = usize::MAX;
            let ledger = self.parts.ledger_at + (owner * pages) as u64 * WIDE;
            self.each_value(ledger, self.parts.pages, |page, word| {
                let LedgerEntry { pins, blocks, order } = LedgerEntry::decode(word);
                holder.pins += pins;
                holder.references += blocks;
                // A block begins at a multiple of its size; whatever else is in the file is none.
                let is_block = blocks > 0 && Pfn::new(page as u64).is_aligned(order);
                let kept = if is_block { order.frames() as usize } else { usize::from(pins > 0) };
                let (mut at, end) = (page, (page + kept).min(pages));
                while at < end {
                    let within = at % FRAMES..FRAMES.min(at % FRAMES + (end - at));
                    let pageblock =
                        keepers[at / FRAMES].get_or_insert_with(|| Box::new([(0, u16::MAX); FRAMES]));
                    at += within.len();
                    for (n, last) in &mut pageblock[within] {
                        if *last != number as u16 {
                            (*n, *last) = (*n + 1, number as u16);
                            holder.kept_bytes += PAGE_SIZE;
                        }
                    }
                }
                if kept > 0 {
                    first = first.min(page);
                }
            })?;
            holder.offset = if first == usize::MAX { 0 } else { first * PAGE_SIZE };
            holders.push(holder);
        }
        for pageblock in keepers.into_iter().flatten() {
            let mut alone = None;
            let mut is_alone = true;
            for (n, last) in pageblock.iter().filter(|(n, _)| *n > 0) {
                let holder = usize::from(*last);
                if *n == 1 {
                    holders[holder].comes_back_bytes += PAGE_SIZE;
                }
                is_alone &= *n == 1 && alone.is_none_or(|alone| alone == holder);
                alone = Some(holder);
            }
            if let Some(holder) = alone.filter(|_| is_alone) {
                holders[holder].pageblocks += 1;
            }
        }
        holders.retain(|holder| holder.kept_bytes > 0);
        Ok(holders)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, BorrowedFd};

    use super::*;
    use crate::shared::SharedArena;

    /// What a block keeps follows from its order; so one that would begin within itself is none,
    /// and a file full of such entries takes no longer to read than any other.
    #[test]
    fn entries_that_no_block_can_have_keep_nothing() {
        let arena = SharedArena::create(8 << 20, 2).unwrap();
        // SAFETY: the arena has it open.
        let fd = unsafe { BorrowedFd::borrow_raw(arena.as_raw_fd()) };
        let own = File::from(fd.try_clone_to_owned().unwrap());
        let outside = SharedFile::open(own.try_clone().unwrap()).unwrap();
        let write = |page: u64, blocks: u64, order: u64| {
            let entry = (order << 56 | blocks << 32).to_ne_bytes();
            own.write_all_at(&entry, outside.parts.ledger_at + page * WIDE).unwrap();
        };
        for page in 1..outside.parts.pages {
            write(page, 1, 1 + u64::from(page.trailing_zeros()));
        }
        assert_eq!(outside.holders().unwrap(), []);
        write(1024, 1, 10);
        let holders = outside.holders().unwrap();
        assert_eq!((holders[0].kept_bytes, holders[0].offset), (4 << 20, 4 << 20));
        assert_eq!((holders[0].comes_back_bytes, holders[0].pageblocks), (4 << 20, 2));
    }
}
