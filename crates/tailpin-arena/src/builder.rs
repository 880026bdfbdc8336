//! How an arena is made.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use tailpin::{FrameRange, OneWord, Zone, ZoneConfig, ZoneLayout};

use crate::arena::Arena;
use crate::arena_ptr::Root;
use crate::backing::Backing;
use crate::budget::Budget;
use crate::budget::counts::UNLIMITED;
use crate::budget::tags::Tags;
use crate::budget::watermark::{Levels, Pressure, Watermark};
use crate::error::BuildError;
use crate::events::Events;
use crate::history::{History, Start};
use crate::memory::abilities::GivesBack;
use crate::memory::description::{Description, TagNames, describe};
use crate::memory::fork::ForkMark;
use crate::memory::mapped::{locks_all, why};
use crate::memory::system;
use crate::memory::{Data, Keeper, PAGE_SIZE, PlainMemory, WordCounts, Words, bytes_of, round_up};
use crate::observe::stats::LeakReport;
use crate::own_zones::OwnZones;
use crate::page_notes::PageNotes;
use crate::reclaim::follow;
use crate::residency::Residency;
use crate::settings::{ReleaseBy, Settings};
use crate::shared_state::Inner;
use crate::thread_slot::{current_index, slots};
use crate::try_lock::TryLock;

/// Address space of an arena of which neither size nor limit was said. It takes half a millisecond
/// and no memory.
const DEFAULT_SIZE: usize = 64 << 30;
/// Address space for each byte of the limit: so many times the buffers of 2 MiB may be kept by one
/// page each before none is free.
const SIZE_PER_LIMIT: usize = 512;
/// More is only taken if the limit alone is more: it takes a millisecond for each 256 GiB.
const MOST_SIZE: usize = 256 << 30;
/// Less is not tried where the system grants no more.
const LEAST_SIZE: usize = 1 << 30;

/// Memory of the heap for each byte of the limit: it is not as plentiful as address space. So much
/// is enough for pieces of any size, and for buffers of which little or nothing is kept.
const HEAP_PER_LIMIT: usize = 4;
/// Memory of the heap of an arena of which neither size nor limit was said.
const DEFAULT_HEAP: usize = 512 << 20;

/// Free memory above which it goes back, where nothing else was said.
const DEFAULT_ABOVE: usize = 32 << 20;

/// Of the mappings a process may have, broken up pageblocks may be one in this many; each costs
/// two.
const MAP_SHARE: u64 = 8;

/// Makes an [`Arena`]. Everything has a default.
///
/// ```
/// use tailpin_arena::{Arena, Backing};
///
/// let arena = Arena::builder().limit(64 << 20).backing(Backing::Memfd { huge: false }).build()?;
/// assert!(arena.abilities().share.is_yes());
/// # Ok::<(), tailpin_arena::BuildError>(())
/// ```
#[must_use]
pub struct Builder {
    size: Option<usize>,
    limit: Option<usize>,
    release_above: Option<usize>,
    levels: Option<Levels>,
    backing: Option<Backing>,
    memory: Option<PlainMemory>,
    populate: bool,
    without_origins: bool,
    on_leak: Option<fn(&LeakReport)>,
    settings: Settings,
}

impl Default for Builder {
    fn default() -> Self {
        let settings = Settings {
            keep_resident: 0,
            release_above: Some(0),
            release_by: ReleaseBy::default(),
            locked: false,
            split_huge_pages: system::max_map_count() / MAP_SHARE,
        };
        Self {
            size: None,
            limit: None,
            release_above: None,
            levels: None,
            backing: None,
            memory: None,
            populate: false,
            without_origins: false,
            on_leak: None,
            settings,
        }
    }
}

impl Arena {
    /// Sets up a new arena: what it is to be is said to the [`Builder`].
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl Builder {
    /// The most that may be in use at a time, in bytes, rounded down to whole pages: buffers, and
    /// every page that a slice keeps, until its last pin goes. A request beyond it waits, or is
    /// told so: see [`Arena::alloc`]. Without it, the size is the limit, and requests never wait.
    ///
    /// Memory that is free and not yet given back to the system does not count, see
    /// [`Builder::keep_resident`].
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = Some(bytes);
        self
    }

    /// Has `call` called when `high` bytes are in use or reserved, and again when it is `low` or
    /// less, by the thread whose request or drop that is. A place to shed what can be had again, or
    /// to stop taking on work. What is told may be up to a thirty-second of the limit more than
    /// what is in use.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use tailpin_arena::Arena;
    ///
    /// let told = Arc::new(Mutex::new(Vec::new()));
    /// let tell = Arc::clone(&told);
    /// let arena = Arena::builder()
    ///     .limit(64 << 20)
    ///     .watermarks(48 << 20, 32 << 20, move |pressure| tell.lock().unwrap().push(pressure.high))
    ///     .build()?;
    /// let buffers = [arena.alloc(30 << 20)?, arena.alloc(30 << 20)?];
    /// assert_eq!(*told.lock().unwrap(), [true]);
    /// drop(buffers);
    /// assert_eq!(*told.lock().unwrap(), [true, false]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn watermarks(
        mut self,
        high: usize,
        low: usize,
        call: impl Fn(Pressure) + Send + Sync + 'static,
    ) -> Self {
        self.levels = Some(Levels::new(high, low, Arc::new(call)));
        self
    }

    /// Size in bytes, rounded up to whole huge pages (2 MiB, or 1 GiB with such hugetlb pages).
    /// Address space, not memory: what is never used costs nothing, except with hugetlb pages,
    /// which are taken at once.
    ///
    /// By default it is plenty: 512 times the [limit](Builder::limit), within 64 to 256 GiB, so
    /// that buffers of 2 MiB are not refused for want of address space though one page is kept of
    /// each; less where the system grants no more (`ulimit -v`). Hugetlb, populated and locked
    /// arenas are as large as the limit instead. Memory of the heap is not as plentiful: by default
    /// an arena of [`Backing::Heap`] takes four times the limit, or 512 MiB without one, and to
    /// align its blocks it asks the allocator for up to twice the size.
    pub fn size(mut self, bytes: usize) -> Self {
        self.size = Some(bytes);
        self
    }

    /// Where the memory comes from; [`Backing::Anonymous`] if nothing is said, and off Linux
    /// [`Backing::Heap`], the only one there besides memory of the caller's.
    pub fn backing(mut self, backing: Backing) -> Self {
        self.backing = Some(backing);
        self
    }

    /// Uses memory of the caller's: a `&'static mut [u8]`, a `Box<[u8]>` or a `Vec<u8>`. The size
    /// is what whole 4 KiB pages lie within it. Nothing of it is ever given back to the system.
    ///
    /// ```
    /// use tailpin_arena::Arena;
    /// let arena = Arena::builder().over_memory(vec![0; 1 << 20]).build()?;
    /// assert!(arena.size() >= (1 << 20) - 4096);
    /// assert!(!arena.abilities().give_back_4k.is_yes());
    /// # Ok::<(), tailpin_arena::BuildError>(())
    /// ```
    pub fn over_memory(mut self, memory: impl Into<PlainMemory>) -> Self {
        self.memory = Some(memory.into());
        self
    }

    /// Populates all the memory now (`MAP_POPULATE`), so that a shortage is an error here. Hugetlb
    /// arenas always do.
    pub fn populate(mut self, populate: bool) -> Self {
        self.populate = populate;
        self
    }

    /// Locks the memory (`mlock`), which also populates it. A locked arena gives nothing back.
    /// Memory of the heap or of the caller's can't be locked: to ask for it is an error.
    pub fn lock(mut self, lock: bool) -> Self {
        self.settings.locked = lock;
        self
    }

    /// Free memory, in bytes, that [`Arena::release`] leaves in the arena: what is reused within
    /// microseconds should not be given back, as that costs up to a millisecond for 2 MiB. Default
    /// 0. Huge pages go whole or stay, so nearly 2 MiB more may be left.
    pub fn keep_resident(mut self, bytes: usize) -> Self {
        self.settings.keep_resident = bytes;
        self
    }

    /// Free memory, in bytes, above which it goes back to the system without a call: what the
    /// system has given memory to is at no time more than what is in use, this, 2 MiB, and half a
    /// MiB for each CPU. Default 32 MiB, or what [`Builder::keep_resident`] says if that is more.
    ///
    /// Less of it makes an arena follow its use more closely, at more work: memory that is used
    /// again within moments is better kept. Who does the work [`Builder::release_by`] says. Nothing
    /// goes back so of memory that was taken at once: hugetlb pages, populated or locked memory,
    /// and the caller's own.
    pub fn release_above(mut self, bytes: usize) -> Self {
        self.release_above = Some(bytes);
        self
    }

    /// Which thread gives back what is free above [`Builder::release_above`]; [`ReleaseBy::Drops`]
    /// if nothing is said.
    ///
    /// ```
    /// use tailpin_arena::{Arena, ReleaseBy};
    ///
    /// let arena = Arena::builder().limit(64 << 20).release_above(4 << 20).release_by(ReleaseBy::Drops).build()?;
    /// let mut buffer = arena.alloc(32 << 20)?;
    /// buffer.fill(1);
    /// assert_eq!(arena.resident(), 32 << 20);
    /// drop(buffer);
    /// assert!(arena.resident() <= 7 << 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn release_by(mut self, thread: ReleaseBy) -> Self {
        self.settings.release_by = thread;
        self
    }

    /// Notes of no buffer where it began, and when: it is handed out without a look at the clock.
    /// Then [`Arena::worst_holders`] and `tailpin holders` name none, and [`Slice::age`] is zero;
    /// [`Arena::stats`], tags and limits are as they were.
    ///
    /// [`Slice::age`]: crate::Slice::age
    ///
    /// ```
    /// use tailpin_arena::Arena;
    ///
    /// let arena = Arena::builder().size(16 << 20).without_origins().build()?;
    /// let kept = arena.alloc(4096)?.freeze();
    /// assert_eq!((kept.age().as_nanos(), arena.worst_holders(1).len()), (0, 0));
    /// assert_eq!(arena.stats().in_use(), 4096);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn without_origins(mut self) -> Self {
        self.without_origins = true;
        self
    }

    /// How many 2 MiB pageblocks may be broken up into small pages at a time, because some of their
    /// pages went back to the system while others are in use. Each costs the process up to two
    /// mappings of those it may have (`vm.max_map_count`); the default leaves three quarters of
    /// them to others.
    pub fn split_huge_pages(mut self, pageblocks: u64) -> Self {
        self.settings.split_huge_pages = pageblocks;
        self
    }

    /// Called if slices or buffers are left when the last handle of the arena goes. They stay
    /// valid, and the memory stays until the last of them goes; this is to find the ones that were
    /// kept by mistake.
    pub fn on_leak(mut self, report: fn(&LeakReport)) -> Self {
        self.on_leak = Some(report);
        self
    }

    /// Builds the arena.
    ///
    /// # Errors
    /// [`BuildError`]; nothing is left behind.
    pub fn build(mut self) -> Result<Arena, BuildError> {
        match (self.memory.take(), self.backing) {
            (Some(memory), None | Some(Backing::Plain)) => {
                self.assemble(Backing::Plain, Data::plain(memory)?)
            }
            (None, Some(Backing::Plain)) | (Some(_), Some(_)) => Err(BuildError::NoMemoryGiven),
            (None, backing) => self.build_over(backing.unwrap_or_default()),
        }
    }

    /// Over memory of this backing: of the size that was said, or of as much as can be had.
    fn build_over(&self, backing: Backing) -> Result<Arena, BuildError> {
        if let Some(size) = self.size {
            return self.build_sized(backing, size);
        }
        let limit = self.limit.unwrap_or(0);
        let (wanted, least) = if backing == Backing::Heap {
            let wanted = if limit > 0 { limit.saturating_mul(HEAP_PER_LIMIT) } else { DEFAULT_HEAP };
            (wanted, limit.max(PAGE_SIZE))
        } else if self.populate
            || self.settings.locked
            || matches!(backing, Backing::HugeTlb(_))
            || locks_all()?
        {
            // Each byte of it is memory.
            return self.build_sized(backing, limit);
        } else {
            let wanted = limit.saturating_mul(SIZE_PER_LIMIT);
            (wanted.clamp(DEFAULT_SIZE, MOST_SIZE).max(limit), LEAST_SIZE.max(limit))
        };
        let mut size = wanted;
        loop {
            match self.build_sized(backing, size) {
                Err(BuildError::OutOfMemory { .. } | BuildError::FileLimit { .. }) if size / 2 >= least => {
                    size /= 2;
                }
                done => return done,
            }
        }
    }

    fn build_sized(&self, backing: Backing, bytes: usize) -> Result<Arena, BuildError> {
        let size = round_up(bytes, backing).ok_or(BuildError::BadSize { bytes })?;
        let frames = FrameRange::new(tailpin::Pfn::new(0), (size / PAGE_SIZE) as u64);
        let words = word_counts(frames, slots())?.bytes().ok_or(BuildError::BadSize { bytes: size })?;
        self.assemble(backing, Data::new(backing, size, words)?)
    }

    fn assemble(&self, backing: Backing, mut data: Data) -> Result<Arena, BuildError> {
        let size = bytes_of(data.pages);
        let gives_back = GivesBack::of(backing, self.settings.locked, false);
        // Memory that was taken at once goes back by no drop.
        let stays = self.populate || matches!(backing, Backing::HugeTlb(_)) || !gives_back.huge.is_yes();
        let above = self.release_above.unwrap_or_else(|| DEFAULT_ABOVE.max(self.settings.keep_resident));
        let settings =
            Settings { release_above: (!stays).then_some((above / PAGE_SIZE) as u64), ..self.settings };
        let release_due: Option<fn(&Inner, u64)> = match settings.release_by {
            _ if stays => None,
            ReleaseBy::Drops => Some(follow::by_drops),
            ReleaseBy::Thread => Some(follow::by_thread),
            ReleaseBy::Poll => None,
        };
        let ranges = [FrameRange::new(data.first, data.pages)];
        let counts = word_counts(ranges[0], slots())?;
        let words = Words::new(counts, &data)?;
        let start = Start::now();
        // Where the system refuses it, the arena goes untold, and says so.
        let description = describe(backing, &data, &words, counts, start.ticks);
        let told = description.as_ref().ok();
        let fork = keep_from_children(backing, &data, &words, told)?;
        let layout = ZoneLayout::new(&ranges, slots()).map_err(BuildError::Zone)?;
        let config = ZoneConfig::default().cpu(current_index);
        let zone = Zone::new(layout, config, words.pages, words.allocator).map_err(BuildError::Zone)?;
        let base = zone.span().start;
        let by_pageblock = matches!(backing, Backing::HugeTlb(_) | Backing::Heap | Backing::Plain)
            || backing.gets_huge_pages().map_err(|errno| why(errno, "ask for huge pages", size, backing))?;
        let residency = Residency::new(words.residency, layout.span_frames(), base, by_pageblock);
        let there = self.fill(backing, &mut data)?;
        if there {
            residency.mark_all();
        }
        let history = History::new(words.history, base, start);
        let history = if self.without_origins { history.without_records() } else { history };
        let notes = PageNotes::new(words.notes, base);
        let tags = Tags::new(told.map_or(TagNames::UNTOLD, Description::names));
        let limit = self.limit.map_or(UNLIMITED, |bytes| (bytes / PAGE_SIZE) as u64);
        let budget = Budget::new(limit, self.levels.clone().map(Watermark::new));
        let inner = Inner {
            description,
            page_base: base,
            page_words: words.pages,
            zone,
            own_zones: OwnZones::new(),
            budget,
            tags,
            notes,
            handles: OnceLock::new(),
            history,
            residency,
            events: Events::default(),
            settings,
            backing,
            registrations: AtomicU64::new(0),
            releasing: TryLock::default(),
            restoring: TryLock::default(),
            release_from: AtomicU64::new(0),
            holders_from: AtomicU64::new(0),
            release_due,
            left_over: AtomicU64::new(0),
            releaser: OnceLock::new(),
            fork,
            data,
            words,
        };
        inner.tell_limit();
        let arena = Arena::new(Root::new(inner), self.on_leak);
        if release_due.is_some() && settings.release_by == ReleaseBy::Thread {
            start_releaser(&arena)?;
        }
        Ok(arena)
    }

    /// Populates and locks the memory if that is wanted; whether all of it has memory now.
    fn fill(&self, backing: Backing, data: &mut Data) -> Result<bool, BuildError> {
        let cannot_lock = GivesBack::of(backing, false, false).huge.reason();
        match (&mut data.keeper, cannot_lock.filter(|_| self.settings.locked)) {
            (Keeper::Mapped(mapped), _) => mapped.fill(backing, self.populate, self.settings.locked),
            (_, Some(reason)) => Err(BuildError::Refused(reason)),
            (Keeper::Heap(memory), None) => {
                if self.populate {
                    memory.populate();
                }
                Ok(self.populate || locks_all()?)
            }
            // The arena can't know what is under memory of the caller's: all of it counts as
            // populated.
            (Keeper::Plain(_), None) => Ok(true),
        }
    }
}

/// Starts the thread that gives back what is free, for as long as the arena has a handle.
fn start_releaser(arena: &Arena) -> Result<(), BuildError> {
    let weak = arena.downgrade();
    let turn = move |waited| Some(weak.upgrade()?.inner().release_turn(waited));
    let thread = follow::spawn(turn).map_err(|error| BuildError::System {
        doing: "start a thread",
        errno: error.raw_os_error().unwrap_or(0),
    })?;
    // It is the only one.
    let _: Result<(), _> = arena.inner().releaser.set(thread);
    Ok(())
}

/// How many words of which kind an arena has over these frames, with so many CPU slots.
pub(crate) fn word_counts(data: FrameRange, slots: usize) -> Result<WordCounts, BuildError> {
    let ranges = [data];
    let layout = ZoneLayout::new(&ranges, slots).map_err(BuildError::Zone)?;
    let frames = layout.span_frames();
    Ok(WordCounts {
        pages: layout.page_words::<OneWord<'_>>(),
        allocator: layout.allocator_words(),
        history: frames as usize,
        residency: Residency::words(frames),
        notes: frames as usize,
    })
}

/// Memory that a forked child must not have stays with the parent.
fn keep_from_children(
    backing: Backing,
    data: &Data,
    words: &Words,
    description: Option<&Description>,
) -> Result<Option<ForkMark>, BuildError> {
    let Some(mapped) = data.mapped() else { return Ok(None) };
    let fork = mapped.keep_from_children(backing, words.mapping())?;
    let failed = |errno| why(errno, "keep memory from forked children", PAGE_SIZE, Backing::Anonymous);
    if let Some(description) = description.filter(|_| fork.is_some()) {
        description.keep_from_children().map_err(failed)?;
    }
    Ok(fork)
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("size", &self.size)
            .field("limit", &self.limit)
            .field("watermarks", &self.levels)
            .field("backing", &self.backing)
            .field("populate", &self.populate)
            .field("lock", &self.settings.locked)
            .field("keep_resident", &self.settings.keep_resident)
            .finish_non_exhaustive()
    }
}
