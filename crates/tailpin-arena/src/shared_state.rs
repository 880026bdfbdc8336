//! What all handles of an arena share.

use std::any::Any;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, Weak};
use std::thread::Thread;

use tailpin::{FrameRange, Local, Order, Pfn, Zone};

use crate::backing::{Ability, Backing, Reason};
use crate::budget::Budget;
use crate::budget::counts::UNLIMITED;
use crate::budget::tags::Tags;
use crate::error::ReleaseError;
use crate::events::Events;
use crate::history::History;
use crate::memory::description::Description;
use crate::memory::fork::ForkMark;
use crate::memory::system::{self, Errno};
use crate::memory::{Data, PAGE_SIZE, PAGEBLOCK_SIZE, Words, bytes_of, release_failed};
use crate::own_zones::OwnZones;
use crate::page_notes::PageNotes;
use crate::residency::Residency;
use crate::settings::Settings;
use crate::thread_slot::ThreadSlot;
use crate::try_lock::TryLock;

/// Free pages above the watermark at which a release is due: 2 MiB.
pub(crate) const DUE: u64 = Order::HUGE.frames();

/// Everything behind an arena. Of one process; what is in the words of a memory file means the same
/// in any.
pub(crate) struct Inner {
    /// What readers in other processes find. First, so that it is gone before what it tells of;
    /// where the system refused it, why.
    pub(crate) description: Result<Description, Reason>,
    pub(crate) zone: Zone<'static>,
    /// The same, as threads with slots of their own use it.
    pub(crate) own_zones: OwnZones,
    /// Pages that may be in use; and what keeps the arena there.
    pub(crate) budget: Budget,
    pub(crate) tags: Tags,
    pub(crate) notes: PageNotes,
    /// The user's handles, for a thread that needs the arena for longer than the pages it frees.
    /// Written once, by the thread that makes the first handle.
    pub(crate) handles: OnceLock<Weak<dyn Any + Send + Sync>>,
    pub(crate) history: History,
    pub(crate) residency: Residency,
    pub(crate) events: Events,
    pub(crate) settings: Settings,
    pub(crate) backing: Backing,
    /// The page words once more, with the frame of the first: all that a count on a frame needs.
    /// Written by the protocol alone.
    pub(crate) page_words: &'static [AtomicU64],
    pub(crate) page_base: Pfn,
    /// Registrations that forbid giving memory back. Any thread that has a handle counts up, and
    /// down when its [`Registration`](crate::Registration) goes.
    pub(crate) registrations: AtomicU64,
    /// Held by the thread that gives memory back.
    pub(crate) releasing: TryLock,
    /// Held by the thread that takes the small pages from a pageblock for a huge one.
    pub(crate) restoring: TryLock,
    /// Where the next release begins to look for single pages. Written by the thread that has
    /// locked `releasing`.
    pub(crate) release_from: AtomicU64,
    /// Where the next bounded look at who keeps what begins. Written by the thread that looked
    /// last.
    pub(crate) holders_from: AtomicU64,
    /// Called by a thread that has freed pages, and is about to give so many back to the budget,
    /// when a release is due.
    pub(crate) release_due: Option<fn(&Self, u64)>,
    /// Free pages above the watermark that the last release could not give back. Written by the
    /// thread that released, or found fewer.
    pub(crate) left_over: AtomicU64,
    /// The thread that releases, where the arena has one. Written once, by the thread that builds
    /// the arena.
    pub(crate) releaser: OnceLock<Thread>,
    /// In a process whose memory is shared, says whether this is a forked child.
    pub(crate) fork: Option<ForkMark>,
    pub(crate) data: Data,
    /// Last: everything above uses the words.
    pub(crate) words: Words,
}

// SAFETY: of the fields only `data` is not `Send` and `Sync`: its addresses are of memory that
// belongs to the process. Counts on frames settle which thread may read or write there.
unsafe impl Send for Inner {}
// SAFETY: `&Inner` gives the same access from any thread, for the same reason.
unsafe impl Sync for Inner {}

/// What the page walk looks at: the words of an arena, or a copy of them.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) zone: &'a Zone<'static>,
    pub(crate) history: &'a History,
    pub(crate) notes: &'a PageNotes,
    pub(crate) residency: &'a Residency,
    /// Bytes that may be in use, if there is a limit.
    pub(crate) limit: Option<usize>,
    pub(crate) frames: FrameRange,
    /// Bytes of all words.
    pub(crate) metadata: usize,
    /// Of a copy, which pageblocks have words that were ever written; the zone's pool is not to be
    /// asked.
    pub(crate) touched: Option<&'a [bool]>,
}

impl View<'_> {
    /// Whether a pageblock is known to be free without a look at its pages.
    pub(crate) fn is_free(&self, pageblock: Pfn) -> bool {
        match self.touched {
            Some(touched) => !touched.get(self.pageblock_of(pageblock)).is_some_and(|touched| *touched),
            None => self.zone.used_in_pageblock(pageblock) == 0,
        }
    }

    /// The number of the pageblock that a page is in.
    pub(crate) fn pageblock_of(&self, page: Pfn) -> usize {
        (page.get().saturating_sub(self.zone.span().start.get()) / Order::HUGE.frames()) as usize
    }

    /// Where a page is in the data, in bytes.
    pub(crate) fn offset_of(&self, page: Pfn) -> usize {
        page.get().saturating_sub(self.frames.start.get()) as usize * PAGE_SIZE
    }
}

impl Inner {
    /// Tells readers in other processes the limit of this moment.
    pub(crate) fn tell_limit(&self) {
        if let Ok(description) = &self.description {
            description.set_limit(self.limit());
        }
    }

    /// Whether other processes can look at the arena.
    pub(crate) fn look_ability(&self) -> Ability {
        Ability::unless(self.description.as_ref().err().copied())
    }

    /// Bytes that may be in use, if there is a limit.
    pub(crate) fn limit(&self) -> Option<usize> {
        let limit = self.budget.limit();
        (limit < UNLIMITED).then(|| bytes_of(limit))
    }

    /// What the page walk looks at.
    pub(crate) fn view(&self) -> View<'_> {
        View {
            zone: &self.zone,
            history: &self.history,
            notes: &self.notes,
            limit: self.limit(),
            residency: &self.residency,
            frames: self.frames(),
            metadata: self.words.bytes(),
            touched: None,
        }
    }

    /// Pages that are free, have memory, and are more than the watermark says, once a thread has
    /// given `leaving` pages back to the budget. What is reserved counts as in use.
    pub(crate) fn excess(&self, leaving: u64) -> u64 {
        let Some(above) = self.settings.release_above else { return 0 };
        let used = self.budget.used().saturating_sub(leaving);
        self.residency.there().saturating_sub(used).saturating_sub(above)
    }

    /// Whether so much is free that a release is due.
    #[inline(never)]
    pub(crate) fn is_due(&self, leaving: u64) -> bool {
        let excess = self.excess(leaving);
        // Relaxed: any number would do.
        let left_over = self.left_over.load(Ordering::Relaxed);
        let is_due = excess >= left_over.saturating_add(DUE);
        if !is_due && left_over > 0 {
            // What could not go may be able to by now: a look later it is tried again.
            self.left_over.store(excess.min(left_over - left_over / 8 - 1), Ordering::Relaxed);
        }
        is_due
    }

    /// The zone as this thread uses it, if the thread has a slot of its own.
    #[inline]
    pub(crate) fn own_zone(&self) -> Option<&Local<'static>> {
        self.zone_of(ThreadSlot::current())
    }

    /// The zone as the thread uses it that has this slot, if it is the thread's own.
    #[inline(always)] // A result that goes through memory costs more than all the rest.
    pub(crate) fn zone_of(&self, slot: ThreadSlot) -> Option<&Local<'static>> {
        // SAFETY: it is always this zone. No code has a way to one of these but by an `Inner` that
        // has come to its place, where it stays.
        unsafe { self.own_zones.of(slot, &self.zone) }
    }

    /// Frame numbers of the data.
    pub(crate) fn frames(&self) -> FrameRange {
        FrameRange::new(self.data.first, self.data.pages)
    }

    #[inline]
    pub(crate) fn address(&self, page: Pfn) -> NonNull<u8> {
        debug_assert!(page >= self.data.first && page <= self.frames().end);
        // SAFETY: frame numbers are the data's, or the one after it, so the address is within or at
        // its end.
        unsafe { self.data.base.add((page.get() - self.data.first.get()) as usize * PAGE_SIZE) }
    }

    #[inline]
    pub(crate) fn page_of(&self, address: NonNull<u8>) -> Pfn {
        let offset = address.as_ptr() as usize - self.data.base.as_ptr() as usize;
        self.data.first.offset((offset / PAGE_SIZE) as u64)
    }

    /// Where a pageblock begins in the mapping.
    pub(crate) fn offset_of(&self, pageblock: Pfn) -> usize {
        (pageblock.get() - self.data.first.get()) as usize * PAGE_SIZE
    }

    #[inline]
    pub(crate) fn is_child(&self) -> bool {
        self.fork.as_ref().is_some_and(ForkMark::is_child)
    }

    /// # Panics
    /// In a forked child that has no part in the memory and its words: to read there would be a
    /// segmentation fault.
    #[inline]
    pub(crate) fn assert_home(&self) {
        if self.is_child() {
            not_home();
        }
    }

    /// Whether the memory is locked: because the arena was built so, or because the process locked
    /// it since.
    pub(crate) fn is_locked(&self) -> bool {
        self.note_locked() || self.settings.locked
    }

    /// Whether any of the memory is locked, by the kernel's word (`mlock`, `mlockall`). What is
    /// locked has memory, also where the arena has not handed it out, and is marked so.
    pub(crate) fn note_locked(&self) -> bool {
        let Some(mapping) = self.data.mapping().filter(|_| !self.is_child()) else { return false };
        if !mapping.is_locked(0..mapping.len()) {
            return false;
        }
        let pageblocks = self.data.pages / Order::HUGE.frames();
        for pageblock in (0..pageblocks).map(|i| self.data.first.offset(i * Order::HUGE.frames())) {
            let begin = self.offset_of(pageblock);
            if mapping.is_locked(begin..begin + PAGEBLOCK_SIZE) {
                self.residency.mark(pageblock, Order::HUGE);
            }
        }
        true
    }

    /// What the kernel's refusal to take memory means.
    pub(crate) fn refusal(&self, errno: Errno) -> ReleaseError {
        if system::may_mean_locked(errno) && self.is_locked() {
            // The process has locked the memory since the release looked.
            return ReleaseError::Refused(Reason::Locked);
        }
        release_failed("give memory back")(errno)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.is_child() {
            // The parent's memory is not mapped here; something else may be where it was.
            self.data.disown();
            self.words.disown();
            if let Ok(description) = &mut self.description {
                description.disown();
            }
        }
    }
}

#[cold]
#[inline(never)]
fn not_home() -> ! {
    panic!("the arena's memory stayed with the parent of this forked process")
}
