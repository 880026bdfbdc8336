//! Release without a call: memory goes back as more of it comes to be free than may stay.

use std::io;
use std::sync::atomic::Ordering;
use std::thread::{self, Builder as ThreadBuilder, Thread};
use std::time::Duration;

use crate::error::ReleaseError;
use crate::memory::bytes_of;
use crate::reclaim::release::{ReleaseCall, Released};
use crate::shared_state::{DUE, Inner};

/// Times a drop gives back what others have freed since.
const ROUNDS: usize = 4;

/// How long the arena's thread waits before it tries again what could not go.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const MOST_WAIT: Duration = Duration::from_secs(10);

impl Inner {
    /// Gives back what is free above the watermark, on behalf of a thread that is about to give
    /// `leaving` pages back to the budget.
    pub(crate) fn release_excess(&self, leaving: u64) -> Result<Released, ReleaseError> {
        let excess = bytes_of(self.excess(leaving));
        let released = ReleaseCall::begin(self).and_then(|call| call.run_known(excess));
        if released != Err(ReleaseError::Busy) {
            // What could not go is not tried again until there is more.
            self.left_over.store(self.excess(leaving), Ordering::Relaxed);
        }
        released
    }

    /// A turn of the arena's thread, which has waited so long for it.
    pub(crate) fn release_turn(&self, waited: Option<Duration>) -> Option<Duration> {
        let mut given = false;
        while self.excess(0) >= DUE && self.release_excess(0).is_ok_and(|released| released.returned > 0) {
            given = true;
        }
        // What could not go is tried again, at longer and longer intervals.
        (self.excess(0) >= DUE).then(|| match waited {
            Some(before) if !given => before.saturating_mul(2).min(MOST_WAIT),
            _ => FIRST_WAIT,
        })
    }
}

/// Called by a thread that has freed pages, when a release is due: it does it.
pub(crate) fn by_drops(inner: &Inner, leaving: u64) {
    // Again if threads that found this one at it have left more, but not for ever on their behalf.
    // An error is no news to the thread that drops something: memory stays, and is used again.
    for _ in 0..ROUNDS {
        if inner.release_excess(leaving).is_err() || !inner.is_due(leaving) {
            break;
        }
    }
}

/// Has the arena's thread release what is too much: it is woken.
pub(crate) fn by_thread(inner: &Inner, _leaving: u64) {
    if let Some(thread) = inner.releaser.get() {
        thread.unpark();
    }
}

/// Starts the arena's thread. `turn` is told how long the thread has waited for it, if not to be
/// woken, and tells how long it should wait for the next; nothing once the arena is gone.
pub(crate) fn spawn(
    mut turn: impl FnMut(Option<Duration>) -> Option<Option<Duration>> + Send + 'static,
) -> io::Result<Thread> {
    let work = move || {
        let mut wait = None;
        loop {
            match wait {
                None => thread::park(),
                Some(wait) => thread::park_timeout(wait),
            }
            match turn(wait) {
                Some(next) => wait = next,
                None => return,
            }
        }
    };
    Ok(ThreadBuilder::new().name("tailpin-release".into()).spawn(work)?.thread().clone())
}

#[cfg(all(target_os = "linux", not(tailpin_portable)))]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;
    use crate::memory::{PAGE_SIZE, PAGEBLOCK_SIZE};
    use crate::settings::ReleaseBy;

    /// So much free memory, all of it due; nothing is released but by a call.
    fn due(bytes: usize, splits: u64) -> Arena {
        let builder = Arena::builder().size(bytes).split_huge_pages(splits);
        let arena = builder.release_above(0).release_by(ReleaseBy::Poll).build().unwrap();
        arena.alloc(bytes).unwrap().fill(1);
        arena
    }

    #[test]
    fn what_could_not_go_is_tried_again_at_longer_and_longer_intervals() {
        let arena = due(4 << 20, 0);
        let inner = arena.inner();
        let registered = arena.registered().unwrap();
        assert_eq!(inner.release_turn(None), Some(FIRST_WAIT));
        assert_eq!(inner.release_turn(Some(FIRST_WAIT)), Some(2 * FIRST_WAIT));
        assert_eq!(inner.release_turn(Some(MOST_WAIT)), Some(MOST_WAIT));
        drop(registered);
        assert_eq!(inner.release_turn(Some(MOST_WAIT)), None, "all of it has gone");
        assert_eq!(arena.resident(), 0);
        assert_eq!(inner.release_turn(None), None);
    }

    #[test]
    fn after_a_turn_that_gave_something_back_the_next_comes_soon() {
        let arena = due(8 << 20, 1);
        let inner = arena.inner();
        if !inner.residency.is_by_pageblock() {
            return println!("skipped: transparent huge pages are off");
        }
        // No pageblock can go as a whole, and one may be split.
        let kept: Vec<_> = (0..4).map(|_| arena.alloc(PAGEBLOCK_SIZE).unwrap().freeze().slice(..1)).collect();
        assert_eq!(inner.release_turn(Some(8 * FIRST_WAIT)), Some(FIRST_WAIT));
        assert_eq!(arena.resident(), 4 * PAGEBLOCK_SIZE - 511 * PAGE_SIZE);
        assert_eq!(inner.release_turn(Some(8 * FIRST_WAIT)), Some(16 * FIRST_WAIT));
        drop(kept);
    }

    #[test]
    fn a_drop_releases_once_and_leaves_it_to_a_thread_that_is_at_it() {
        let arena = due(4 << 20, 0);
        let inner = arena.inner();
        let turn = inner.releasing.try_lock().unwrap();
        by_drops(inner, 0);
        assert_eq!(arena.counters().releases, 0);
        assert!(inner.is_due(0), "it is not taken for what can't go");
        drop(turn);
        by_drops(inner, 0);
        assert_eq!((arena.counters().releases, arena.resident()), (1, 0));
        assert!(!inner.is_due(0));
    }
}
