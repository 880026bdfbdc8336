//! Back ends over this library's arena.

use std::fs::File;
use std::ops::Range;
use tailpin::PAGE_SIZE;
use tailpin_arena::{AllocError, Arena, Kept, Policy, ReadBuffer, ReleaseBy, Slice};

use super::keeper::{BUFFER, KeepError, Keeper};

/// A survivor is a slice that keeps its pages, or a copy, as the policy says. What is free goes
/// back to the kernel.
#[derive(Debug)]
pub(crate) struct Pinned {
    arena: Arena,
    whole: Option<Slice>,
    policy: Policy,
    copied: u64,
}

impl Pinned {
    /// Over an arena of this many bytes, most of which are never touched.
    pub(crate) fn new(bytes: usize, policy: Policy) -> Result<Self, KeepError> {
        // What is free goes back by `give_back`, which is timed, and by no drop.
        let builder = Arena::builder().size(bytes).release_by(ReleaseBy::Poll);
        let arena = builder.build().map_err(|error| KeepError::Arena(error.to_string()))?;
        Ok(Self { arena, whole: None, policy, copied: 0 })
    }
}

impl Keeper for Pinned {
    type Kept = Kept;

    fn fill(&mut self, log: &mut File, want: usize) -> Result<usize, KeepError> {
        let mut bytes = want;
        let buffer = loop {
            match self.arena.alloc_tagged(bytes, "log") {
                Ok(buffer) => break buffer,
                // Survivors lie all over the arena: room there is, but in smaller pieces.
                Err(AllocError::OutOfMemory { .. }) if bytes > PAGE_SIZE => {
                    bytes = (bytes / 2).max(PAGE_SIZE)
                }
                Err(AllocError::OutOfMemory { .. }) => return Err(KeepError::NoMemory { bytes: want }),
                Err(error) => return Err(KeepError::Arena(error.to_string())),
            }
        };
        let mut buffer = ReadBuffer::new(buffer);
        let got = buffer.fill_from(log).map_err(KeepError::Log)?;
        self.whole = Some(buffer.freeze());
        Ok(got)
    }

    fn buffer(&self) -> &[u8] {
        self.whole.as_deref().unwrap_or_default()
    }

    fn keep(&mut self, range: Range<usize>) -> Kept {
        let whole = self.whole.as_ref().expect("kept from a buffer that was filled");
        let kept = whole.slice(range).keep(self.policy);
        if let Kept::Copied(bytes) = &kept {
            self.copied += bytes.len() as u64;
        }
        kept
    }

    fn done(&mut self) {
        self.whole = None;
    }

    fn retained(&self) -> u64 {
        self.arena.stats().in_use() as u64 + self.copied
    }

    fn give_back(&mut self) -> Result<u64, KeepError> {
        // One read's worth stays, as the copying back end keeps its buffer: the next read would
        // only fetch it again.
        self.release(self.arena.stats().free.saturating_sub(BUFFER))
    }

    fn finish(&mut self) -> Result<u64, KeepError> {
        self.release(usize::MAX)
    }
}

impl Pinned {
    fn release(&self, target: usize) -> Result<u64, KeepError> {
        let released = self.arena.release(target).map_err(|error| KeepError::Arena(error.to_string()))?;
        Ok(released.returned as u64)
    }
}
