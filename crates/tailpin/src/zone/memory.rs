//! Metadata memory from the heap, where there is one.

use core::sync::atomic::AtomicU64;
use std::collections::TryReserveError;
use std::vec::Vec;

use crate::error::ZoneError;
use crate::one_word::OneWord;
use crate::protocol::{Attach, Protocol};

use super::Zone;
use crate::alloc::config::ZoneConfig;
use crate::alloc::layout::ZoneLayout;

/// Words in a cache line.
const LINE_WORDS: usize = 8;

/// Zero-filled metadata memory for one zone, where an allocator is at hand.
pub struct ZoneMemory {
    pages: Vec<AtomicU64>,
    allocator: Vec<AtomicU64>,
}

impl ZoneMemory {
    /// Memory for a one-word zone of this layout.
    ///
    /// # Panics
    /// If there is no memory for the words, see [`try_for_protocol`](Self::try_for_protocol).
    pub fn for_layout(layout: &ZoneLayout<'_>) -> Self {
        Self::for_protocol::<OneWord<'_>>(layout)
    }

    /// Memory for a zone of this layout under another protocol.
    ///
    /// # Panics
    /// As [`for_layout`](Self::for_layout).
    pub fn for_protocol<P: Protocol<Word = AtomicU64>>(layout: &ZoneLayout<'_>) -> Self {
        Self::try_for_protocol::<P>(layout).expect("no memory for the words of the zone")
    }

    /// Memory for a zone of this layout under another protocol, where the words may be too many for
    /// this machine or the process's limits.
    ///
    /// # Errors
    /// [`TryReserveError`] if there is no memory for them.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "the layout has seen that all words fit into memory, with a line to spare"
    )]
    pub fn try_for_protocol<P: Protocol<Word = AtomicU64>>(
        layout: &ZoneLayout<'_>,
    ) -> Result<Self, TryReserveError> {
        let zeroed = |n: usize| -> Result<Vec<AtomicU64>, TryReserveError> {
            let mut words = Vec::new();
            words.try_reserve_exact(n)?;
            words.resize_with(n, || AtomicU64::new(0));
            Ok(words)
        };
        Ok(Self {
            pages: zeroed(layout.page_words::<P>())?,
            allocator: zeroed(layout.allocator_words() + LINE_WORDS - 1)?,
        })
    }

    /// The zone over this memory. Once: a second zone over the same memory finds frames in use that
    /// it never handed out, and refuses them as misuse.
    ///
    /// # Errors
    /// As [`Zone::new`].
    pub fn zone<'m>(&'m self, layout: ZoneLayout<'_>, config: ZoneConfig<'m>) -> Result<Zone<'m>, ZoneError> {
        self.zone_with_protocol(layout, config)
    }

    /// As [`ZoneMemory::zone`], for a protocol that the type of the zone names.
    ///
    /// # Errors
    /// As [`Zone::new`].
    #[expect(clippy::arithmetic_side_effects, reason = "constants")]
    pub fn zone_with_protocol<'m, P: Attach<'m> + Protocol<Word = AtomicU64>>(
        &'m self,
        layout: ZoneLayout<'_>,
        config: ZoneConfig<'m>,
    ) -> Result<Zone<'m, P>, ZoneError> {
        // A pageblock's bits are one cache line if the first of them begins one.
        let skip = self.allocator.as_ptr().align_offset(LINE_WORDS * size_of::<u64>()).min(LINE_WORDS - 1);
        Zone::with_protocol(layout, config, &self.pages, &self.allocator[skip..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alloc::ids::PageblockId;
    use crate::frame::{FrameRange, Pfn};

    /// Vectors of several sizes begin anywhere in a line.
    #[test]
    fn the_bits_of_a_pageblock_are_one_cache_line_and_the_memory_is_no_more_than_that_takes() {
        for pageblocks in 1..20 {
            let ranges = [FrameRange::new(Pfn::new(0), pageblocks * 512)];
            let layout = ZoneLayout::new(&ranges, 1).unwrap();
            let memory = ZoneMemory::for_layout(&layout);
            let zone = memory.zone(layout, ZoneConfig::default()).unwrap();
            let bits = zone.pool().pageblock(PageblockId::FIRST).bits;
            assert!(bits.as_ptr().addr().is_multiple_of(64));
            let [pages, allocator] = [&memory.pages, &memory.allocator].map(Vec::len);
            assert_eq!((pages as u64, allocator), (pageblocks * 512, layout.allocator_words() + 7));
        }
    }
}
