//! Reverse mapping (rmap): from an object, or from anonymous memory (`anon_vma`), to every place
//! where it is mapped.
//!
//! There is one rmap for each object and for each *anonymous root*, the memory that one call of
//! `map` made and that forks of its space share. An entry says which space, which addresses and
//! which page of the memory the first is, so where page `index` may be mapped is arithmetic.
//! Whether it is, the page tables say.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use crate::addr::{PAGE_BYTES, SpaceId, VirtAddr, VirtRange};
use crate::env::Env;
use crate::env::sync::EnvLock;

/// A range of addresses in one space that stands for pages of the memory.
struct RmapEntry<S> {
    space: Weak<S>,
    range: VirtRange,
    /// Index of the page at the first address.
    first: u64,
}

/// Every range of every space `S` at which some memory is mapped (rmap).
pub(crate) struct Rmap<E: Env, S> {
    /// Under its own lock, which a thread takes after a space's and an object's.
    entries: EnvLock<E, BTreeMap<(SpaceId, VirtAddr), RmapEntry<S>>>,
}

/// A range of a space at which pages may be mapped.
pub(crate) struct SpaceRange<S> {
    pub(crate) space: Arc<S>,
    /// Addresses of the pages asked for.
    pub(crate) range: VirtRange,
}

impl<E: Env, S> Rmap<E, S> {
    pub(crate) fn new() -> Self {
        Self { entries: EnvLock::new(BTreeMap::new()) }
    }

    /// Enters that page `first` and those after it are mapped at `range` of `space`, whose identity
    /// is `id`.
    pub(crate) fn attach(&self, space: &Arc<S>, id: SpaceId, range: VirtRange, first: u64) {
        let entry = RmapEntry { space: Arc::downgrade(space), range, first };
        self.entries.write().insert((id, range.start), entry);
    }

    /// Removes the entry of the range that begins at `start`.
    pub(crate) fn detach(&self, space: SpaceId, start: VirtAddr) {
        self.entries.write().remove(&(space, start));
    }

    /// Where `pages` may be mapped. A snapshot: the caller looks into each space under its lock.
    pub(crate) fn ranges(&self, pages: core::ops::Range<u64>) -> Vec<SpaceRange<S>> {
        let entries = self.entries.read();
        let meeting = |entry: &RmapEntry<S>| {
            let from = pages.start.max(entry.first);
            let to = pages.end.min(entry.first.saturating_add(entry.range.len() / PAGE_BYTES));
            let space = (from < to).then(|| entry.space.upgrade()).flatten()?;
            // Both are pages of the range, whose bytes can be said.
            let bytes = |pages: u64| pages.saturating_mul(PAGE_BYTES);
            let start = entry.range.start.offset(bytes(from.saturating_sub(entry.first)));
            Some(SpaceRange { space, range: VirtRange::new(start, bytes(to.saturating_sub(from))) })
        };
        entries.values().filter_map(meeting).collect()
    }
}

/// An anonymous root (`anon_vma`): the anonymous memory of one call of `map`, in the space that
/// made it and in the forks of that space.
pub(crate) struct AnonRoot<E: Env, S> {
    /// Identity of the root, never used for another one.
    pub(crate) id: u64,
    pub(crate) rmap: Rmap<E, S>,
}
