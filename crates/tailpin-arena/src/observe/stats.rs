//! What an arena says of itself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Where all bytes of an arena are.
///
/// Each page is counted once, so that `in_use_whole + in_use_pages + in_use_fragments +
/// pinned_by_last_slice + free + given_back + set_aside == size`, always and exactly; `metadata` is
/// memory beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// All of the arena.
    pub size: usize,
    /// What may be in use at a time, if there is a limit.
    pub limit: Option<usize>,
    /// Kept by a buffer, or by a slice of all of it: blocks with a reference.
    pub in_use_whole: usize,
    /// Single pages kept by several pins.
    pub in_use_pages: usize,
    /// Single pages that small copies share: see [`Arena::copy`](crate::Arena::copy). In an arena
    /// [without origins](crate::Builder::without_origins) these are among the others.
    pub in_use_fragments: usize,
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
    /// The largest block that could be handed out at this moment, in bytes: a power of two from
    /// 4096 to 1 GiB, or 0 where nothing is free.
    pub largest_free: usize,
    /// Address space of the words that say all this: beside the arena, touched only where the arena
    /// is.
    pub metadata: usize,
}

impl Stats {
    /// Pages that any handle keeps, in bytes.
    pub fn in_use(&self) -> usize {
        self.in_use_whole + self.in_use_pages + self.in_use_fragments + self.pinned_by_last_slice
    }

    /// The parts of [`size`](Stats::size), which add up to it, and what people call them.
    pub fn parts(&self) -> [(usize, &'static str); 7] {
        [
            (self.in_use_whole, "in use, whole"),
            (self.in_use_pages, "in use, as pages"),
            (self.in_use_fragments, "in use, as fragments"),
            (self.pinned_by_last_slice, "by one last slice"),
            (self.free, "free, with memory"),
            (self.given_back, WITHOUT_MEMORY),
            (self.set_aside, "out of service"),
        ]
    }
}

/// The page that `tailpin top` shows: lines of at most 60 columns, without a line break at the end.
/// Shares and bars are of the memory that the arena has.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resident = self.size.saturating_sub(self.given_back).max(1);
        for (bytes, what) in self.parts() {
            let share = bytes as f64 / resident as f64;
            let (percent, bar) = (share * 100.0, "█".repeat((share * 13.0).round() as usize));
            let line = if what == WITHOUT_MEMORY {
                format!("{:>11}  {what}", of_bytes(bytes))
            } else {
                format!("{:>11}  {what:<20} {percent:5.1} %  {bar}", of_bytes(bytes))
            };
            writeln!(f, "{}", line.trim_end())?;
        }
        writeln!(f, "{:>11}  address space, the sum", of_bytes(self.size))?;
        match self.limit {
            Some(limit) => {
                writeln!(f, "{:>11}  may be in use, {} is", of_bytes(limit), of_bytes(self.in_use()))?
            }
            None => writeln!(f, "{:>11}  is in use, without a limit", of_bytes(self.in_use()))?,
        }
        writeln!(f, "{:>11}  largest free block", of_bytes(self.largest_free))?;
        write!(f, "{:>11}  words beside it, as address space", of_bytes(self.metadata))
    }
}

/// What the part is called under which the system has no memory for the arena.
const WITHOUT_MEMORY: &str = "free, without memory";

/// Bytes as people read them.
pub(crate) fn of_bytes(bytes: usize) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes.div_ceil(1024)),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30)),
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
        let kib = |bytes: usize| bytes.div_ceil(1024);
        write!(f, "{} KiB of {} KiB at {:#x}", kib(self.kept_bytes), kib(self.buffer_bytes), self.offset)?;
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
