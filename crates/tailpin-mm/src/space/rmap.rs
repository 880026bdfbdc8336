//! Reverse mapping: from anonymous memory or an object to every place it is mapped at.
//!
//! One list for each object and for each *root*, the anonymous memory that one call of `map` made
//! and whatever forks share of it (the kernel's `anon_vma`). An entry says which space, which
//! addresses and which page of the memory the first is, so where page `index` may be mapped is
//! arithmetic. Whether it is, the page tables say.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use crate::addr::{PAGE_BYTES, SpaceId, VirtAddr, VirtRange};
use crate::env::Env;
use crate::env::sync::Locked;

/// A stretch of addresses in one space.
struct RmapEntry<S> {
    space: Weak<S>,
    range: VirtRange,
    first: u64,
}

/// Every place that some memory is mapped at.
pub(crate) struct Rmap<E: Env, S> {
    entries: Locked<E, BTreeMap<(SpaceId, VirtAddr), RmapEntry<S>>>,
}

/// A place where a stretch of pages may be mapped.
pub(crate) struct SpaceRange<S> {
    pub(crate) space: Arc<S>,
    /// Addresses of the pages asked for.
    pub(crate) range: VirtRange,
}

impl<E: Env, S> Rmap<E, S> {
    pub(crate) fn new() -> Self {
        Self { entries: Locked::new(BTreeMap::new()) }
    }

    /// Notes that page `first` and on are mapped at `range`.
    pub(crate) fn attach(&self, space: &Arc<S>, id: SpaceId, range: VirtRange, first: u64) {
        let entry = RmapEntry { space: Arc::downgrade(space), range, first };
        self.entries.write().insert((id, range.start), entry);
    }

    /// Forgets the place that begins at `start`.
    pub(crate) fn detach(&self, space: SpaceId, start: VirtAddr) {
        self.entries.write().remove(&(space, start));
    }

    /// Where pages `pages` may be mapped. A snapshot: look into each space under its lock.
    pub(crate) fn ranges(&self, pages: core::ops::Range<u64>) -> Vec<SpaceRange<S>> {
        let entries = self.entries.read();
        let meeting = |entry: &RmapEntry<S>| {
            let from = pages.start.max(entry.first);
            let to = pages.end.min(entry.first + entry.range.len() / PAGE_BYTES);
            let space = (from < to).then(|| entry.space.upgrade()).flatten()?;
            let start = entry.range.start.offset((from - entry.first) * PAGE_BYTES);
            Some(SpaceRange { space, range: VirtRange::new(start, (to - from) * PAGE_BYTES) })
        };
        entries.values().filter_map(meeting).collect()
    }
}

/// The anonymous memory of one call of `map`, in the space that made it and in the forks of that.
pub(crate) struct AnonRoot<E: Env, S> {
    /// Never reused.
    pub(crate) id: u64,
    pub(crate) rmap: Rmap<E, S>,
}
