//! tailpin itself, under either protocol: the whole life of a block, from request to handle to
//! drop.

use std::io;
use std::sync::atomic::AtomicU64;

use tailpin::{Block, FrameRange, OneWord, Order, Pfn, Protocol, Zone, ZoneConfig, ZoneLayout};
use tailpin_classic::Classic;

use super::Frames;
use crate::cores;
use crate::lazy::LazyWords;

/// Per-CPU caches of each zone: one for each seat there can be.
const SLOTS: usize = 16;

/// The metadata memory of a zone.
pub(crate) struct Memory {
    pages: LazyWords,
    allocator: LazyWords,
    bytes: usize,
}

impl Memory {
    pub(crate) fn new<P: Protocol>(frames: u64) -> Self {
        with_layout(frames, |layout| Self {
            pages: LazyWords::new(layout.page_words::<P>()),
            allocator: LazyWords::new(layout.allocator_words()),
            bytes: layout.metadata_bytes::<P>(),
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The allocator's part.
    pub(crate) fn allocator_words(&self) -> &[AtomicU64] {
        self.allocator.words()
    }

    /// Has it come in pages of 4 KiB, never in huge ones.
    pub(crate) fn in_small_pages(&mut self) {
        self.pages.in_small_pages();
        self.allocator.in_small_pages();
    }

    /// Pages of the frames' words and of the allocator's part that were ever touched.
    pub(crate) fn touched_pages(&self) -> io::Result<(u64, u64)> {
        Ok((self.pages.touched_pages()?, self.allocator.touched_pages()?))
    }
}

fn with_layout<R>(frames: u64, work: impl FnOnce(ZoneLayout<'_>) -> R) -> R {
    let ranges = [FrameRange::new(Pfn::new(0), frames)];
    work(ZoneLayout::new(&ranges, SLOTS).expect("a zone has frames"))
}

/// A zone over that memory.
pub(crate) fn zone<'m, P>(memory: &'m Memory, frames: u64) -> Zone<'m, P>
where
    P: tailpin::Attach<'m> + Protocol<Word = std::sync::atomic::AtomicU64>,
{
    let config = ZoneConfig::default().cpu(cores::current);
    with_layout(frames, |layout| {
        Zone::with_protocol(layout, config, memory.pages.words(), memory.allocator.words())
    })
    .expect("the memory was made for this layout")
}

/// A protocol's name in the tables.
pub(crate) trait Named: Protocol {
    const SUBJECT: &'static str;
}

impl Named for OneWord<'_> {
    const SUBJECT: &'static str = "tailpin";
}

impl Named for Classic<'_> {
    const SUBJECT: &'static str = "tailpin-classic";
}

/// A zone as a subject.
pub(crate) struct Ours<'z, P: Protocol> {
    zone: &'z Zone<'z, P>,
    bytes: usize,
}

impl<'z, P: Protocol> Ours<'z, P> {
    pub(crate) fn new(zone: &'z Zone<'z, P>, bytes: usize) -> Self {
        Self { zone, bytes }
    }
}

impl<'z, P: Named> Frames for Ours<'z, P> {
    type Held = Block<'z, P>;
    const NAME: &'static str = P::SUBJECT;

    #[inline]
    fn take(&self, order: u8) -> Option<Self::Held> {
        self.zone.alloc(Order::new(order)?).ok()
    }

    #[inline]
    fn give(&self, held: Self::Held, _order: u8) {
        drop(held);
    }

    fn frame(&self, held: &Self::Held) -> u64 {
        held.pfn().get()
    }

    fn metadata_bytes(&self) -> Option<usize> {
        Some(self.bytes)
    }
}
