//! What an arena says of itself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Where all bytes of an arena are.
///
/// Each page is counted once, so that `in_use_whole + in_use_pages + pinned_by_last_slice + free +
/// given_back + set_aside == size`, always and exactly; `metadata` is memory beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// All of the arena.
    pub size: usize,
    /// Kept by a buffer, or by a slice of all of it: blocks with a reference.
    pub in_use_whole: usize,
    /// Single pages kept by several pins.
    pub in_use_pages: usize,
    /// Single pages kept by one pin: free as soon as that slice, with its clones of several pages,
    /// is gone.
    pub pinned_by_last_slice: usize,
    /// Free, and the system has memory under it (at most: memory handed out but never written
    /// counts).
    pub free: usize,
    /// Free, and the system has the memory: it was given back, or was never needed yet.
    pub given_back: usize,
    /// Out of service after a misuse or a memory failure.
    pub set_aside: usize,
    /// Address space of the words that say all this: beside the arena, touched only where the arena
    /// is.
    pub metadata: usize,
}

impl Stats {
    /// Pages that any handle keeps, in bytes.
    pub fn in_use(&self) -> usize {
        self.in_use_whole + self.in_use_pages + self.pinned_by_last_slice
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: usize| bytes as f64 / (1 << 20) as f64;
        write!(
            f,
            "{:.1} MiB = {:.1} whole + {:.1} in pages + {:.1} by a last slice + {:.1} free + {:.1} given back + {:.1} set aside; {:.1} MiB metadata",
            mib(self.size),
            mib(self.in_use_whole),
            mib(self.in_use_pages),
            mib(self.pinned_by_last_slice),
            mib(self.free),
            mib(self.given_back),
            mib(self.set_aside),
            mib(self.metadata)
        )
    }
}

/// A buffer of which some pages are still in use, from
/// [`Arena::worst_holders`](crate::Arena::worst_holders).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Where in the arena the buffer began, in bytes.
    pub offset: usize,
    /// Size of the block it was, in bytes: a power of two.
    pub buffer_bytes: usize,
    /// Bytes of it still in use: what comes back when all of them let go.
    pub kept_bytes: usize,
    /// References to a block of it: the buffer, or slices of all of it.
    pub references: usize,
    /// Pins on its pages, added up. Clones of a slice of several pages share its pins.
    pub pins: usize,
    /// How long ago it was allocated.
    pub age: Duration,
    /// The tag it was allocated with.
    pub tag: Option<Arc<str>>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes at {:#x}", self.kept_bytes, self.buffer_bytes, self.offset)?;
        write!(
            f,
            ", {} references, {} pins, for {:.1} s",
            self.references,
            self.pins,
            self.age.as_secs_f64()
        )?;
        if let Some(tag) = &self.tag {
            write!(f, ", {tag}")?;
        }
        Ok(())
    }
}

/// What was left when the last handle of an arena went; see
/// [`Builder::on_leak`](crate::Builder::on_leak).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeakReport {
    /// Bytes of all pages still in use.
    pub bytes: usize,
    /// Whose they are.
    pub holders: Vec<Holder>,
}

impl fmt::Display for LeakReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of the arena are still in use", self.bytes)?;
        self.holders.iter().try_for_each(|holder| write!(f, "\n  {holder}"))
    }
}
