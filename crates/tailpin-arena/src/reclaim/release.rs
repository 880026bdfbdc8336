//! Which free memory goes back to the system, and how much.

#[cfg(all(target_os = "linux", not(tailpin_portable)))]
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::Ordering;

use tailpin::{Order, Pfn};

use crate::backing::{Ability, Backing, Reason};
use crate::error::ReleaseError;
use crate::memory::abilities::GivesBack;
use crate::memory::system::{Errno, lacks_mappings};
use crate::memory::{PAGE_SIZE, PAGEBLOCK_SIZE, release_failed};
use crate::observe::page_walk;
use crate::reclaim::given::{Claimed, GivenBack};
use crate::reclaim::madvise::Madvise;
use crate::shared_state::Inner;
use crate::try_lock::TryLockGuard;

/// Why a release ended where it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// As much went back as was asked for.
    Target,
    /// As much free memory is left as the arena shall keep; see
    /// [`Builder::keep_resident`](crate::Builder::keep_resident).
    Watermark,
    /// No free memory is left that the system could take.
    NothingLeft,
    /// Free pages are left, but between pages in use, and as many pageblocks have been broken up
    /// into small pages as may be at a time: each costs the process two mappings. See
    /// [`Builder::split_huge_pages`](crate::Builder::split_huge_pages).
    MapLimit,
    /// The memory was registered during the call.
    Registered,
}

/// What [`Arena::release`](crate::Arena::release) did. All sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Released {
    /// What was asked for.
    pub asked: usize,
    /// What went back by the kernel's own word: it was there before, it is not now, and where it
    /// was part of a huge page, that was split.
    pub returned: usize,
    /// Free pages that the kernel would not let go of, as something else (a transfer under way)
    /// holds their huge page. They were left as they are.
    pub stuck: usize,
    /// Why it ended.
    pub stopped: Stop,
}

impl fmt::Display for Released {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes given back, {} stuck", self.returned, self.stuck)
    }
}

/// Pageblocks that go back as one, if at all.
fn pageblocks_at_once(backing: Backing) -> usize {
    match backing {
        Backing::HugeTlb(size) => size.bytes() / PAGEBLOCK_SIZE,
        _ => 1,
    }
}

/// What kept all free memory from going back, if any is there and none went.
fn obstacle(backing: Backing, returned: usize, stopped: Stop) -> Option<Reason> {
    match backing {
        Backing::HugeTlb(size) if returned == 0 && stopped == Stop::NothingLeft => {
            Some(Reason::OnlyWholeHugePages(size))
        }
        _ => None,
    }
}

/// Whether any free page has memory.
fn has_free_memory(inner: &Inner) -> bool {
    inner.residency.there() + inner.zone.free_frames() > inner.data.pages
}

/// One call of `release`; only one is under way at a time.
pub(crate) struct ReleaseCall<'a> {
    inner: &'a Inner,
    madvise: Madvise<'a>,
    done: GivenBack,
    /// The most that may go, in bytes: the rest is to stay in the arena.
    spare: usize,
    /// Whether something was left alone for that.
    kept: bool,
    /// Last: it is unlocked when everything else is done.
    _turn: TryLockGuard<'a>,
}

impl<'a> ReleaseCall<'a> {
    pub(crate) fn begin(inner: &'a Inner) -> Result<Self, ReleaseError> {
        if inner.is_child() {
            return Err(ReleaseError::ForkedChild);
        }
        let refused = |reason| Err(ReleaseError::Refused(reason));
        let Some(mapping) = inner.data.mapping() else {
            // What is not mapped has a reason of its own.
            let huge = GivesBack::of(inner.backing, false, false).huge;
            return refused(huge.reason().unwrap_or(Reason::OnlyOnLinux));
        };
        let Some(turn) = inner.releasing.try_lock() else { return Err(ReleaseError::Busy) };
        // After the lock is taken; SeqCst: see `Arena::registered`. Before anything that takes
        // long: a thread that registers waits for the lock.
        let registered = inner.registrations.load(Ordering::SeqCst) > 0;
        let locked = !registered && inner.is_locked();
        if let Ability::No(reason) = GivesBack::of(inner.backing, locked, registered).huge {
            return refused(reason);
        }
        let madvise = Madvise::new(inner, mapping).map_err(release_failed("ask what memory is there"))?;
        Ok(Self { inner, madvise, done: GivenBack::default(), spare: usize::MAX, kept: false, _turn: turn })
    }

    /// What returns memory, while this call has the lock.
    pub(crate) fn madvise(&self) -> &Madvise<'a> {
        &self.madvise
    }

    /// Gives back up to `asked` bytes, and leaves what
    /// [`Builder::keep_resident`](crate::Builder::keep_resident) says.
    pub(crate) fn run(mut self, asked: usize) -> Result<Released, ReleaseError> {
        self.inner.zone.drain();
        let keep = self.inner.settings.keep_resident;
        if keep > 0 {
            self.spare = page_walk::stats(self.inner).free.saturating_sub(keep) / PAGE_SIZE * PAGE_SIZE;
        }
        self.give_spare(asked)
    }

    /// Gives back up to `bytes` bytes, which is known to be no more than may go.
    pub(crate) fn run_known(mut self, bytes: usize) -> Result<Released, ReleaseError> {
        self.inner.zone.drain();
        self.spare = bytes;
        self.give_spare(bytes)
    }

    fn give_spare(mut self, asked: usize) -> Result<Released, ReleaseError> {
        let spare = self.spare;
        let budget = asked.min(spare);
        let stopped = self.give(budget).map_err(|errno| self.inner.refusal(errno))?;
        let stopped = match stopped {
            Stop::Target if spare < asked => Stop::Watermark,
            Stop::NothingLeft if self.kept => Stop::Watermark,
            other => other,
        };
        if let Some(reason) = obstacle(self.inner.backing, self.done.returned, stopped)
            && has_free_memory(self.inner)
        {
            return Err(ReleaseError::Refused(reason));
        }
        let released = Released { asked, returned: self.done.returned, stuck: self.done.stuck, stopped };
        self.inner.events.release(released.returned, released.stuck);
        Ok(released)
    }

    fn give(&mut self, budget: usize) -> Result<Stop, Errno> {
        let unit = pageblocks_at_once(self.inner.backing);
        for pageblocks in self.huge_pages(unit) {
            if let Some(stop) = self.stop(budget) {
                return Ok(stop);
            }
            self.give_pageblocks(pageblocks, unit)?;
        }
        if matches!(self.inner.backing, Backing::HugeTlb(_)) {
            return Ok(self.stop(budget).unwrap_or(Stop::NothingLeft));
        }
        let mut end = Stop::NothingLeft;
        // Not always in the same order, or pageblocks that are stuck would keep others from being
        // tried.
        let pageblocks = self.inner.residency.pageblocks_worth_a_look();
        let from = self.inner.release_from.load(Ordering::Relaxed) as usize % pageblocks.len().max(1);
        for &pageblock in pageblocks[from..].iter().chain(&pageblocks[..from]) {
            if let Some(stop) = self.stop(budget) {
                return Ok(stop);
            }
            if !self.give_pages(pageblock, budget)? {
                end = Stop::MapLimit;
            }
            self.inner.release_from.fetch_add(1, Ordering::Relaxed);
        }
        Ok(self.stop(budget).unwrap_or(end))
    }

    fn stop(&self, budget: usize) -> Option<Stop> {
        if self.done.returned + self.done.stuck >= budget {
            Some(Stop::Target)
        } else if self.inner.registrations.load(Ordering::SeqCst) > 0 {
            Some(Stop::Registered)
        } else {
            None
        }
    }

    /// Whether so many bytes more would be of what is to stay.
    fn is_to_stay(&mut self, bytes: usize) -> bool {
        let stays = self.done.returned.saturating_add(bytes) > self.spare;
        self.kept |= stays;
        stays
    }

    /// The last pageblocks of all huge pages of `n` pageblocks that may have memory, the last
    /// first: the allocator fills the first first.
    fn huge_pages(&self, n: usize) -> Vec<Pfn> {
        let n = n as u64;
        let last = |pageblock: Pfn| {
            let pageblock = pageblock.get() / Order::HUGE.frames();
            Pfn::new((pageblock / n * n + n - 1) * Order::HUGE.frames())
        };
        let mut ends: Vec<Pfn> =
            self.inner.residency.pageblocks_worth_a_look().into_iter().map(last).collect();
        ends.dedup();
        ends
    }

    /// The huge page of `n` pageblocks that ends with the one at `last`, if all of it is free and
    /// any of it is there, or it is to be eligible for huge pages again.
    fn give_pageblocks(&mut self, last: Pfn, n: usize) -> Result<(), Errno> {
        let (zone, residency) = (&self.inner.zone, &self.inner.residency);
        let first = Pfn::new(last.get() - (n as u64 - 1) * Order::HUGE.frames());
        let pageblocks = (0..n as u64).map(|i| first.offset(i * Order::HUGE.frames()));
        let there =
            pageblocks.clone().map(|pageblock| residency.of(pageblock).count() as usize * PAGE_SIZE).sum();
        let worth = |pageblock| residency.is_split(pageblock) || !residency.of(pageblock).is_empty();
        if !pageblocks.clone().all(|pageblock| zone.used_in_pageblock(pageblock) == 0)
            || !pageblocks.clone().any(worth)
        {
            return Ok(());
        }
        if self.is_to_stay(there) {
            return Ok(());
        }
        let claimed: Vec<Claimed<'_>> =
            pageblocks.map_while(|pageblock| zone.claim_pageblock(pageblock)).collect();
        if claimed.len() == n {
            self.add(self.madvise.give_whole(&claimed)?);
        }
        Ok(())
    }

    /// Free pages of a pageblock that is partly in use; false if there may be some but no more
    /// pageblocks may be broken up.
    fn give_pages(&mut self, pageblock: Pfn, budget: usize) -> Result<bool, Errno> {
        let (zone, residency) = (&self.inner.zone, &self.inner.residency);
        let there = residency.of(pageblock);
        let used = zone.used_in_pageblock(pageblock);
        if used == 0 || used == Order::HUGE.frames() || there.is_empty() {
            return Ok(true);
        }
        let breaks_up = residency.is_by_pageblock() && !residency.is_split(pageblock);
        if breaks_up && residency.split_pageblocks() >= self.inner.settings.split_huge_pages {
            return Ok(false);
        }
        let mut claimed: Claimed<'_> = zone.claim(pageblock, &there);
        if breaks_up && self.is_to_stay(claimed.count() as usize * PAGE_SIZE) {
            return Ok(true);
        }
        if !breaks_up {
            // All holes of a huge page go at once, as it is split for them; of small pages no more
            // than asked for.
            let left = budget - self.done.returned - self.done.stuck;
            if left < claimed.count() as usize * PAGE_SIZE {
                let some = claimed.frames().lowest(left.div_ceil(PAGE_SIZE) as u64);
                drop(claimed);
                claimed = zone.claim(pageblock, &some);
            }
        }
        if claimed.count() == 0 {
            return Ok(true);
        }
        match self.madvise.give_holes(&claimed) {
            Ok(given) => {
                self.add(given);
                Ok(true)
            }
            Err(errno) if lacks_mappings(errno) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    fn add(&mut self, given: GivenBack) {
        self.done.returned += given.returned;
        self.done.stuck += given.stuck;
    }
}
