//! How an arena is made.

use std::fmt;
use std::thread::available_parallelism;

use tailpin::{FrameRange, OneWord, Zone, ZoneConfig, ZoneLayout};

use crate::arena::Arena;
use crate::arena_ptr::Root;
use crate::error::BuildError;
use crate::memory::backing::Backing;
use crate::memory::fork::ForkMark;
use crate::memory::mapping::Advice;
use crate::memory::system;
use crate::memory::{Data, PAGE_SIZE, PlainMemory, WordCounts, Words, lock_limit, round_up, why};
use crate::observe::history::History;
use crate::observe::stats::LeakReport;
use crate::reclaim::residency::Residency;
use crate::settings::Settings;
use crate::shared_state::Parts;

/// Of the mappings a process may have, broken up areas may be one in this many; each costs two.
const MAP_SHARE: u64 = 8;

/// Makes an [`Arena`]. Everything has a default but the size.
///
/// ```
/// use tailpin_arena::{Arena, Backing};
///
/// let arena = Arena::builder().size(64 << 20).backing(Backing::Memfd { huge: false }).build()?;
/// assert!(arena.abilities().share.is_yes());
/// # Ok::<(), tailpin_arena::BuildError>(())
/// ```
#[must_use]
pub struct Builder {
    size: usize,
    backing: Option<Backing>,
    memory: Option<PlainMemory>,
    populate: bool,
    settings: Settings,
}

impl Default for Builder {
    fn default() -> Self {
        let settings = Settings {
            keep_resident: 0,
            locked: false,
            small_page_areas: system::max_map_count() / MAP_SHARE,
            on_leak: None,
        };
        Self { size: 0, backing: None, memory: None, populate: false, settings }
    }
}

impl Builder {
    /// Size in bytes, rounded up to whole huge pages (2 MiB, or 1 GiB with such hugetlb pages).
    /// Address space, not memory: what is never used costs nothing, except with hugetlb pages,
    /// which are taken at once.
    pub fn size(mut self, bytes: usize) -> Self {
        self.size = bytes;
        self
    }

    /// Where the memory comes from; [`Backing::Anonymous`] if nothing is said.
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

    /// How many 2 MiB areas may be broken up into small pages at a time, because some of their
    /// pages went back to the system while others are in use. Each costs the process up to two
    /// mappings of those it may have (`vm.max_map_count`); the default leaves three quarters of
    /// them to others.
    pub fn small_page_areas(mut self, areas: u64) -> Self {
        self.settings.small_page_areas = areas;
        self
    }

    /// Called if slices or buffers are left when the last handle of the arena goes. They stay
    /// valid, and the memory stays until the last of them goes; this is to find the ones that were
    /// kept by mistake.
    pub fn on_leak(mut self, report: fn(&LeakReport)) -> Self {
        self.settings.on_leak = Some(report);
        self
    }

    /// The arena.
    ///
    /// # Errors
    /// [`BuildError`]; nothing is left behind.
    pub fn build(self) -> Result<Arena, BuildError> {
        let Self { size, backing, memory, populate, settings } = self;
        let (backing, size) = match (&memory, backing) {
            (Some(_), None | Some(Backing::Plain)) => (Backing::Plain, 0),
            (None, Some(Backing::Plain)) | (Some(_), Some(_)) => return Err(BuildError::NoMemoryGiven),
            (None, backing) => {
                let backing = backing.unwrap_or_default();
                (backing, round_up(size, backing).ok_or(BuildError::BadSize { bytes: size })?)
            }
        };
        let slots = available_parallelism().map_or(1, usize::from);
        let shape = |data: FrameRange| -> Result<_, BuildError> {
            let ranges = [data];
            let layout = ZoneLayout::new(&ranges, slots).map_err(BuildError::Zone)?;
            let frames = layout.span_frames();
            Ok(WordCounts {
                pages: layout.page_words::<OneWord<'_>>(),
                areas: layout.area_words(),
                history: frames as usize,
                residency: Residency::words(frames),
            })
        };
        let data = match memory {
            Some(memory) => Data::plain(memory)?,
            None => {
                let frames = FrameRange::new(tailpin::Pfn::new(0), (size / PAGE_SIZE) as u64);
                let words = shape(frames)?.bytes().ok_or(BuildError::BadSize { bytes: size })?;
                Data::mapped(backing, size, words)?
            }
        };
        let ranges = [FrameRange::new(data.first, data.pages)];
        let words = Words::new(shape(ranges[0])?, &data)?;
        let fork = keep_from_children(backing, &data, &words)?;
        let layout = ZoneLayout::new(&ranges, slots).map_err(BuildError::Zone)?;
        let config = ZoneConfig::default().cpu(system::current_cpu);
        let zone = Zone::new(layout, config, words.pages, words.areas).map_err(BuildError::Zone)?;
        let base = zone.span().start;
        let by_area = matches!(backing, Backing::HugeTlb(_) | Backing::Plain)
            || backing.gets_huge_pages().map_err(|errno| why(errno, "ask for huge pages", size, backing))?;
        let residency = Residency::new(words.residency, base, by_area);
        let there = fill(backing, populate, settings.locked, &data)?;
        if there {
            residency.mark_all();
        }
        let history = History::new(words.history, base);
        let parts = Parts { zone, history, residency, settings, backing, fork, data, words };
        Ok(Arena::new(Root::new(parts)))
    }
}

/// Memory that a forked child must not have stays with the parent: shared memory, whose counts are
/// the parent's, and hugetlb memory, of which a write in either process could find no page to copy
/// to, and kill it.
fn keep_from_children(backing: Backing, data: &Data, words: &Words) -> Result<Option<ForkMark>, BuildError> {
    let failed = |errno| why(errno, "keep memory from forked children", PAGE_SIZE, Backing::Anonymous);
    let Some(mapping) = data.mapping() else { return Ok(None) };
    if backing == Backing::Anonymous {
        return Ok(None);
    }
    mapping.advise(0..mapping.len(), Advice::DontFork).map_err(failed)?;
    words.mapping().advise(0..words.mapping().len(), Advice::DontFork).map_err(failed)?;
    ForkMark::new().map_err(failed).map(Some)
}

/// Populates all of the memory if that is wanted; whether all of it has memory now.
fn fill(backing: Backing, populate: bool, lock: bool, data: &Data) -> Result<bool, BuildError> {
    let Some(mapping) = data.mapping() else {
        // The arena can't know what is under memory of the caller's: all of it counts as populated.
        return Ok(true);
    };
    if lock {
        mapping.lock().map_err(|errno| match errno {
            rustix::io::Errno::NOMEM | rustix::io::Errno::PERM => lock_limit(mapping.len()),
            _ => why(errno, "lock memory", mapping.len(), backing),
        })?;
    }
    if populate || matches!(backing, Backing::HugeTlb(_)) {
        let free = if let Backing::HugeTlb(size) = backing { system::free_huge_pages(size) } else { 0 };
        let populated = mapping.advise(0..mapping.len(), Advice::Populate);
        populated.map_err(|errno| match why(errno, "populate memory", mapping.len(), backing) {
            // The ones that were populated are not free at this moment.
            BuildError::HugePageShortage { size, needed, .. } => {
                BuildError::HugePageShortage { size, needed, free }
            }
            other => other,
        })?;
    }
    // Where all of the process is locked (`mlockall`), this mapping is too, and has memory.
    Ok(lock || populate || matches!(backing, Backing::HugeTlb(_)) || mapping.is_locked(0..mapping.len()))
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("size", &self.size)
            .field("backing", &self.backing)
            .field("populate", &self.populate)
            .field("lock", &self.settings.locked)
            .field("keep_resident", &self.settings.keep_resident)
            .finish_non_exhaustive()
    }
}
