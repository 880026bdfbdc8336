//! The arenas of this process, by address: so that bytes without a handle find theirs.
//!
//! This is the one thing that is of the process and not of an arena: a `Bytes` that went through a
//! foreign library has kept its address and nothing else.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::shared_state::Inner;

/// Where an arena's data lies.
#[derive(Clone, Copy)]
struct Extent {
    start: usize,
    end: usize,
    arena: NonNull<Inner>,
}

// SAFETY: an address, and nothing is done with it here; what it leads to may be shared by threads.
unsafe impl Send for Extent {}
// SAFETY: as above.
unsafe impl Sync for Extent {}

/// By the address of the first byte.
static ARENAS: RwLock<BTreeMap<usize, Extent>> = RwLock::new(BTreeMap::new());
/// Counts changes: what a thread remembers of an earlier one is not believed.
static CHANGES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Where this thread found something last, after how many changes.
    static LAST: Cell<Option<(u64, Extent)>> = const { Cell::new(None) };
}

/// An arena's data lies there from now on.
pub(crate) fn enter(data: Range<usize>, arena: NonNull<Inner>) {
    let mut arenas = ARENAS.write().unwrap_or_else(PoisonError::into_inner);
    arenas.insert(data.start, Extent { start: data.start, end: data.end, arena });
    CHANGES.fetch_add(1, Ordering::SeqCst);
}

/// It is going to be unmapped.
pub(crate) fn leave(start: usize) {
    let mut arenas = ARENAS.write().unwrap_or_else(PoisonError::into_inner);
    arenas.remove(&start);
    // SeqCst: before the memory is unmapped. A thread that has got bytes in other memory at that
    // address sees it.
    CHANGES.fetch_add(1, Ordering::SeqCst);
}

/// The arena in which these bytes lie. It is there as long as the bytes are.
pub(crate) fn find(bytes: &[u8]) -> Option<NonNull<Inner>> {
    let start = bytes.as_ptr().addr();
    let end = start.checked_add(bytes.len())?;
    let holds = |place: &Extent| place.start <= start && end <= place.end;
    let changes = CHANGES.load(Ordering::SeqCst);
    if let Some((_, place)) = LAST.get().filter(|(then, place)| *then == changes && holds(place)) {
        return Some(place.arena);
    }
    let place = {
        let arenas = ARENAS.read().unwrap_or_else(PoisonError::into_inner);
        arenas.range(..=start).next_back().map(|(_, place)| *place).filter(holds)?
    };
    LAST.set(Some((changes, place)));
    Some(place.arena)
}
