//! Figures that cost the same whatever the arena's size, for a scrape every few seconds.

use std::fmt;

use tailpin::Order;

use crate::memory::bytes_of;
use crate::shared_state::Inner;

/// Pageblocks at the end of an arena that are looked at for a free block of more than 2 MiB.
const LOOK: u64 = Order::MAX.frames() / Order::HUGE.frames();

/// Figures of an arena at one moment, and counts since it was built: from
/// [`Arena::counters`](crate::Arena::counters). All sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// In use or reserved.
    pub in_use: usize,
    /// What the system has given memory to, in use or free: an upper bound.
    pub resident: usize,
    /// What may be in use, if there is a limit.
    pub limit: Option<usize>,
    /// Requests that wait at this moment.
    pub waiting: usize,
    /// A free block of this size is likely to be found: a power of two, or 0. A request may find a
    /// larger one, as it gathers free pages first;
    /// [`Arena::largest_free`](crate::Arena::largest_free) does that too.
    pub largest_free: usize,
    /// Huge pages that are split at this moment, because single pages of them went back.
    pub split_huge_pages: u64,
    /// Requests that were refused, at once or after they had waited.
    pub refused: u64,
    /// Of these, requests that were served from the heap in its place:
    /// [`Arena::alloc_or_heap`](crate::Arena::alloc_or_heap).
    pub on_heap: u64,
    /// Requests that had to wait for the arena's limit.
    pub waited: u64,
    /// Releases, called for or of the arena's own accord.
    pub releases: u64,
    /// What they gave back to the system.
    pub released: u64,
    /// What the system would not take of them.
    pub stuck: u64,
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { in_use, resident, waiting, refused, waited, released, .. } = self;
        write!(f, "{in_use} bytes in use, {resident} resident, {waiting} requests wait; so far ")?;
        write!(f, "{refused} were refused, {waited} waited, {released} bytes went back")
    }
}

pub(crate) fn counters(inner: &Inner) -> Counters {
    let events = &inner.events;
    let (releases, released, stuck) = events.released();
    Counters {
        in_use: bytes_of(inner.budget.used()),
        resident: bytes_of(inner.residency.there()),
        limit: inner.limit(),
        waiting: inner.budget.waiting(),
        largest_free: likely_largest(inner).map_or(0, |order| order.bytes() as usize),
        split_huge_pages: inner.residency.split_pageblocks(),
        refused: events.refused(),
        on_heap: events.on_heap(),
        waited: inner.budget.waited(),
        releases,
        released,
        stuck,
    }
}

/// The largest free block that a look at the end of the arena finds, or hints lead to: the
/// allocator fills the beginning first.
fn likely_largest(inner: &Inner) -> Option<Order> {
    let all = inner.frames();
    let (mut free, mut at) = (0, all.end.head(Order::HUGE));
    let mut best = None;
    for _ in 0..LOOK {
        let Some(before) = at.get().checked_sub(Order::HUGE.frames()).map(tailpin::Pfn::new) else { break };
        if before < all.start || inner.zone.used_in_pageblock(before) != 0 {
            break;
        }
        (free, at) = (free + 1_u64, before);
        let fits = free.ilog2() + u32::from(Order::HUGE.get());
        let aligned = at.get().trailing_zeros();
        best = best.max(Order::new(fits.min(aligned).min(u32::from(Order::MAX.get())) as u8));
    }
    best.max(inner.zone.likely_largest())
}
