//! Reverse mapping: from anonymous memory or an object to every place it is mapped at.
//!
//! One list for each object and for each *root*, the anonymous memory that one call of `map` made
//! and whatever forks share of it (the kernel's `anon_vma`). An entry says which space, which
//! addresses and which page of the memory the first is, so where page `index` may be mapped is
//! arithmetic. Whether it is, the page tables say.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use crate::addr::{PAGE_BYTES, VirtAddr, VirtRange};
use crate::env::Env;
use crate::env::sync::Locked;
use crate::space::{Inner, SpaceId};

/// A stretch of addresses in one space.
struct Place<'z, E: Env> {
    space: Weak<Inner<'z, E>>,
    range: VirtRange,
    first: u64,
}

/// Every place that some memory is mapped at.
pub(crate) struct Reverse<'z, E: Env> {
    places: Locked<E, BTreeMap<(SpaceId, VirtAddr), Place<'z, E>>>,
}

/// A place where a stretch of pages may be mapped.
pub(crate) struct Mapped<'z, E: Env> {
    pub(crate) space: Arc<Inner<'z, E>>,
    /// Addresses of the pages asked for.
    pub(crate) range: VirtRange,
}

impl<'z, E: Env> Reverse<'z, E> {
    pub(crate) fn new() -> Self {
        Self { places: Locked::new(BTreeMap::new()) }
    }

    /// Notes that page `first` and on are mapped at `range`.
    pub(crate) fn attach(&self, space: &Arc<Inner<'z, E>>, range: VirtRange, first: u64) {
        let place = Place { space: Arc::downgrade(space), range, first };
        self.places.write().insert((space.id, range.start), place);
    }

    /// Forgets the place that begins at `start`.
    pub(crate) fn detach(&self, space: SpaceId, start: VirtAddr) {
        self.places.write().remove(&(space, start));
    }

    /// Where pages `pages` may be mapped. A snapshot: look into each space under its lock.
    pub(crate) fn places(&self, pages: core::ops::Range<u64>) -> Vec<Mapped<'z, E>> {
        let places = self.places.read();
        let meeting = |place: &Place<'z, E>| {
            let from = pages.start.max(place.first);
            let to = pages.end.min(place.first + place.range.len() / PAGE_BYTES);
            let space = (from < to).then(|| place.space.upgrade()).flatten()?;
            let start = place.range.start.offset((from - place.first) * PAGE_BYTES);
            Some(Mapped { space, range: VirtRange::new(start, (to - from) * PAGE_BYTES) })
        };
        places.values().filter_map(meeting).collect()
    }
}

/// The anonymous memory of one call of `map`, in the space that made it and in the forks of that.
pub(crate) struct Root<'z, E: Env> {
    /// Never reused.
    pub(crate) id: u64,
    pub(crate) reverse: Reverse<'z, E>,
}
