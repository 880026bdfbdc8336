//! The frames of a machine, as a static: runs of any number of them, named ones, memory that comes
//! later.

#![allow(unsafe_code)]

use core::fmt;
use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::{AtomicU64, Ordering};

use spin::Once;
use tailpin::{
    AddError, FrameRange, Hooks, Misuse, OneWord, PAGE_SIZE, Pfn, RunError, RunRequest, Sink, Zone,
    ZoneConfig, ZoneError, ZoneLayout,
};
use tailpin_mm::{DirectMap, FrameInfo, FrameInfos};

/// First frame that devices with 32-bit addresses don't reach.
const DMA32_END: Pfn = Pfn::new(1 << 20);

/// What memory there is, from the firmware or the loader.
#[derive(Clone, Copy, Debug)]
pub struct MemoryMap<'m> {
    /// Memory, in any order, not overlapping.
    pub memory: &'m [FrameRange],
    /// What of it is in use: the kernel's image, what the loader left, a trampoline. May overlap
    /// and reach beyond `memory`.
    pub reserved: &'m [FrameRange],
    /// Where memory may be [added](Frames::add) later; `memory` is in any case. Metadata is laid
    /// out for all of it.
    pub later: Option<FrameRange>,
}

impl MemoryMap<'_> {
    /// First to last frame that there may ever be.
    fn span(&self) -> Option<FrameRange> {
        let all = || self.memory.iter().chain(&self.later).filter(|range| range.frames() > 0);
        let start = all().map(|range| range.start).min()?;
        let end = all().map(|range| range.end).max()?;
        Some(FrameRange { start, end })
    }

    /// What of `range` is free, `taken` apart.
    fn free_in(&self, range: FrameRange, taken: FrameRange) -> impl Iterator<Item = FrameRange> {
        let mut at = range.start;
        core::iter::from_fn(move || {
            let used = || self.reserved.iter().copied().chain([taken]).filter(|used| used.frames() > 0);
            while let Some(around) = used().find(|used| used.contains(at)) {
                at = around.end;
            }
            if at >= range.end {
                return None;
            }
            let next = used().map(|used| used.start).filter(|start| *start > at).min();
            let end = next.unwrap_or(range.end).min(range.end);
            let free = FrameRange { start: at, end };
            at = end;
            Some(free)
        })
    }

    /// Every free piece of memory, `taken` apart.
    fn free(&self, taken: FrameRange) -> impl Iterator<Item = FrameRange> {
        self.memory.iter().flat_map(move |range| self.free_in(*range, taken))
    }
}

/// Settings of [`Frames`]; everything but `this_cpu` has a default.
#[derive(Clone, Copy)]
pub struct FramesConfig {
    /// CPUs, each of which gets a cache of frames.
    pub cpus: usize,
    /// Number of the CPU that calls; a wrong answer costs speed and nothing else.
    pub this_cpu: fn() -> usize,
    /// Hears of every misuse: a double free, a frame that was never handed out.
    pub sink: Option<&'static dyn Sink>,
    /// Called before a block is handed out and after it is given back, and for reclaim.
    pub hooks: Option<&'static dyn Hooks>,
    /// Below this many free frames [`Hooks::reclaim`] is called.
    pub low_watermark: u64,
}

impl FramesConfig {
    /// For `cpus` CPUs.
    pub const fn new(cpus: usize, this_cpu: fn() -> usize) -> Self {
        Self { cpus, this_cpu, sink: None, hooks: None, low_watermark: 0 }
    }
}

/// What frames are used for, for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    /// The kernel's heap.
    Heap,
    /// Memory of users.
    UserMemory,
    /// Contents of files.
    PageCache,
    /// Page tables.
    PageTable,
    /// Memory that devices reach.
    Dma,
    /// Everything else.
    Other,
}

impl Use {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Heap, Self::UserMemory, Self::PageCache, Self::PageTable, Self::Dma, Self::Other];
}

/// Why the frames of a machine can't be managed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitError {
    /// They are already.
    AlreadyDone,
    /// There is no memory.
    NoMemory,
    /// No free piece of memory has room for the metadata.
    NoRoom {
        /// Frames that it takes.
        frames: u64,
    },
    /// The memory map makes no zone.
    Zone(ZoneError),
    /// A range of it overlaps another.
    Add(AddError),
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyDone => write!(f, "the frames are managed already"),
            Self::NoMemory => write!(f, "the memory map has no memory"),
            Self::NoRoom { frames } => {
                write!(f, "no free piece of memory has {frames} frames for the metadata")
            }
            Self::Zone(error) => write!(f, "{error}"),
            Self::Add(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for InitError {}

impl From<ZoneError> for InitError {
    fn from(error: ZoneError) -> Self {
        Self::Zone(error)
    }
}

/// What there is once the memory map is known.
struct Managed {
    zone: Zone<'static>,
    infos: FrameInfos<'static>,
    direct_map: &'static (dyn DirectMap + Sync),
    metadata: FrameRange,
}

/// The frames of a machine: a static of the kernel, of use from [`Frames::init`] on. No lock is
/// taken, interrupts may be on or off, and a handler may call it at any time.
///
/// ```
/// use tailpin_kernel::{Frames, FramesConfig, MemoryMap};
/// use tailpin::{FrameRange, Pfn};
/// # use tailpin_mm::Ram;
///
/// static FRAMES: Frames = Frames::new();
///
/// # let direct_map = Box::leak(Box::new(Ram::new(16 << 20))).env(); // a kernel has its own
/// // From the firmware: 16 MiB from frame 512 up, the first 100 frames of which are the kernel.
/// let memory = [FrameRange::new(Pfn::new(512), 4096)];
/// let reserved = [FrameRange::new(Pfn::new(512), 100)];
/// let map = MemoryMap { memory: &memory, reserved: &reserved, later: None };
/// FRAMES.init(&map, direct_map, FramesConfig::new(1, || 0))?;
///
/// let run = FRAMES.alloc(5, 1)?;                       // five frames side by side
/// FRAMES.free(FrameRange::new(run.start, 2))?;         // any part, in any number of calls
/// FRAMES.free(FrameRange::new(run.start.offset(2), 3))?;
/// let block = FRAMES.zone().alloc(tailpin::Order::HUGE)?; // and all that a zone has
/// # drop(block);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "buddy")]
#[doc(alias = "frame allocator")]
pub struct Frames {
    managed: Once<Managed>,
    /// Frames in use, by [`Use`]. Counted by the threads that allocate and free; statistics.
    used: [AtomicU64; Use::ALL.len()],
}

impl Frames {
    /// An allocator of no frames yet, for a static; [`init`](Self::init) brings them.
    pub const fn new() -> Self {
        Self { managed: Once::new(), used: [const { AtomicU64::new(0) }; Use::ALL.len()] }
    }

    /// Takes the machine's memory into service. Metadata, about 24 bytes for each frame of the
    /// map's span, goes to the first free piece that has room for it.
    ///
    /// # Errors
    /// [`InitError`].
    ///
    /// # Panics
    /// Where the direct map does that as it has not all frames of the metadata.
    pub fn init(
        &self,
        map: &MemoryMap<'_>,
        direct_map: &'static (dyn DirectMap + Sync),
        config: FramesConfig,
    ) -> Result<(), InitError> {
        let mut fresh = false;
        let managed = self.managed.try_call_once(|| {
            fresh = true;
            Managed::new(map, direct_map, config)
        })?;
        if !fresh {
            return Err(InitError::AlreadyDone);
        }
        for free in map.free(managed.metadata) {
            add(&managed.zone, free).map_err(InitError::Add)?;
        }
        Ok(())
    }

    fn managed(&self) -> &Managed {
        self.managed.get().expect("the frames are of use from `init` on")
    }

    /// The zone that they are in, for all that it has besides runs.
    ///
    /// # Panics
    /// Before [`Frames::init`].
    pub fn zone(&'static self) -> &'static Zone<'static> {
        &self.managed().zone
    }

    /// What [`Mm::new`](tailpin_mm::Mm::new) wants to know of each frame.
    ///
    /// # Panics
    /// Before [`Frames::init`].
    pub fn infos(&'static self) -> &'static FrameInfos<'static> {
        &self.managed().infos
    }

    /// The address of a frame in the direct map.
    ///
    /// # Panics
    /// Before [`Frames::init`], and if the direct map does not have the frame.
    pub fn address(&self, frame: Pfn) -> NonNull<u8> {
        self.managed().direct_map.frame(frame)
    }

    /// Where the metadata of the frames lies.
    ///
    /// # Panics
    /// Before [`Frames::init`].
    pub fn metadata(&self) -> FrameRange {
        self.managed().metadata
    }

    /// `n` frames side by side, the number of the first a multiple of `align`, a power of two.
    /// Their contents are undefined.
    ///
    /// # Errors
    /// As [`Zone::alloc_run`]; before [`Frames::init`] no frame is free.
    pub fn alloc(&self, n: u64, align: u64) -> Result<FrameRange, RunError> {
        self.request(RunRequest::new(n).aligned(align))
    }

    /// `n` frames as [`Frames::alloc`] gives them, all below 4 GiB.
    ///
    /// # Errors
    /// As [`Frames::alloc`].
    #[doc(alias = "DMA32")]
    pub fn alloc_dma32(&self, n: u64, align: u64) -> Result<FrameRange, RunError> {
        self.request(RunRequest::new(n).aligned(align).below(DMA32_END))
    }

    /// Frames for a request with all options.
    ///
    /// # Errors
    /// As [`Frames::alloc`].
    pub fn request(&self, request: RunRequest) -> Result<FrameRange, RunError> {
        match self.managed.get() {
            Some(managed) => managed.zone.raw().alloc_run(request),
            None => Err(RunError::Exhausted { frames: 0, align: 1, free_frames: 0, free_pageblocks: 0 }),
        }
    }

    /// Just these frames, if all are free.
    ///
    /// # Errors
    /// As [`Zone::alloc_run_at`].
    pub fn alloc_at(&self, range: FrameRange) -> Result<(), RunError> {
        match self.managed.get() {
            Some(managed) => managed.zone.raw().alloc_run_at(range),
            None => Err(RunError::NotInZone { range }),
        }
    }

    /// Gives frames back: any part of what was handed out, in any number of calls.
    ///
    /// # Errors
    /// The misuse, which has been reported to the sink; the frame goes out of service.
    ///
    /// # Panics
    /// Before [`Frames::init`].
    pub fn free(&self, range: FrameRange) -> Result<(), Misuse> {
        self.managed().zone.raw().free_run(range)
    }

    /// As [`Frames::alloc`], counted for a use.
    ///
    /// # Errors
    /// As [`Frames::alloc`].
    pub fn alloc_for(&self, what: Use, n: u64, align: u64) -> Result<FrameRange, RunError> {
        let run = self.alloc(n, align)?;
        // Relaxed: a statistic.
        self.used[what as usize].fetch_add(n, Ordering::Relaxed);
        Ok(run)
    }

    /// As [`Frames::free`], counted off the use that they were allocated for.
    ///
    /// # Errors
    /// As [`Frames::free`].
    pub fn free_for(&self, what: Use, range: FrameRange) -> Result<(), Misuse> {
        self.free(range)?;
        // Relaxed: a statistic. Never below none: these may have been counted for another use, or
        // for none.
        let less = |used: u64| Some(used.saturating_sub(range.frames()));
        let _ = self.used[what as usize].fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        Ok(())
    }

    /// Frames in use that were [allocated for](Frames::alloc_for) this.
    pub fn used_for(&self, what: Use) -> u64 {
        self.used[what as usize].load(Ordering::Relaxed)
    }

    /// Takes more memory into service, within what the map said may come.
    ///
    /// # Errors
    /// As [`Zone::add`]; before [`Frames::init`] there is no such range.
    #[doc(alias = "add_memory")]
    #[doc(alias = "hotplug")]
    pub fn add(&self, range: FrameRange) -> Result<(), AddError> {
        match self.managed.get() {
            Some(managed) => add(&managed.zone, range),
            None => Err(AddError::NotInZone { range }),
        }
    }

    /// Frames in service, and those of them that are free; none before [`Frames::init`].
    pub fn totals(&self) -> (u64, u64) {
        self.managed
            .get()
            .map_or((0, 0), |managed| (managed.zone.usable_frames(), managed.zone.free_frames()))
    }
}

impl Default for Frames {
    fn default() -> Self {
        Self::new()
    }
}

/// Adds all of a range, whatever other CPUs add at the same time.
fn add(zone: &Zone<'static>, range: FrameRange) -> Result<(), AddError> {
    let mut left = range;
    loop {
        match zone.add(left) {
            Err(AddError::Busy { frame }) => left = FrameRange { start: frame, end: range.end },
            other => return other,
        }
        core::hint::spin_loop();
    }
}

impl Managed {
    /// A zone with no frame in service yet, and its metadata.
    fn new(
        map: &MemoryMap<'_>,
        direct_map: &'static (dyn DirectMap + Sync),
        config: FramesConfig,
    ) -> Result<Self, InitError> {
        let span = map.span().ok_or(InitError::NoMemory)?;
        let layout = ZoneLayout::spanning(span, config.cpus)?;
        let (pages, allocator) = (layout.page_words::<OneWord<'_>>(), layout.allocator_words());
        let infos = layout.span_frames() as usize;
        let mut place = MetadataFrames { frames: 0 };
        let (pages_at, allocator_at) = (place.of::<AtomicU64>(pages), place.of::<AtomicU64>(allocator));
        let infos_at = place.of::<FrameInfo>(infos);
        let nothing = FrameRange::new(span.start, 0);
        let found = map.free(nothing).find(|free| free.frames() >= place.frames);
        let start = found.ok_or(InitError::NoRoom { frames: place.frames })?.start;
        let metadata = FrameRange::new(start, place.frames);
        let memory = Metadata::new(direct_map, metadata);
        let pages = memory.slice(pages_at, pages);
        let allocator = memory.slice(allocator_at, allocator);
        let infos = FrameInfos::from_metadata(memory.slice(infos_at, infos));
        let mut settings = ZoneConfig::default().cpu(config.this_cpu).low_watermark(config.low_watermark);
        if let Some(sink) = config.sink {
            settings = settings.sink(sink);
        }
        if let Some(hooks) = config.hooks {
            settings = settings.hooks(hooks);
        }
        let zone = Zone::new(layout, settings, pages, allocator)?;
        Ok(Self { zone, infos, direct_map, metadata })
    }
}

/// How many frames metadata takes, part by part.
struct MetadataFrames {
    frames: u64,
}

impl MetadataFrames {
    /// Where `number` values go: the first frame of so many, from the start.
    fn of<T>(&mut self, number: usize) -> u64 {
        let at = self.frames;
        self.frames += (number * size_of::<T>()).div_ceil(PAGE_SIZE) as u64;
        at
    }
}

/// What metadata is made of.
///
/// # Safety
/// Atomic words and nothing else, so it is valid whatever its bits are, and several threads may
/// access it; aligned to no more than a frame is.
unsafe trait AtomicWords {}

// SAFETY: one atomic word.
unsafe impl AtomicWords for AtomicU64 {}

// SAFETY: two atomic words, as its own documentation says.
unsafe impl AtomicWords for FrameInfo {}

const _: () = assert!(size_of::<FrameInfo>() == 2 * size_of::<AtomicU64>());

/// Memory for metadata, cleared.
struct Metadata {
    first: NonNull<u8>,
}

impl Metadata {
    fn new(direct_map: &'static dyn DirectMap, frames: FrameRange) -> Self {
        let metadata = Self { first: direct_map.frame(frames.start) };
        for (at, frame) in frames.iter().enumerate() {
            // The memory map may say more than is true: then this panics, before anything is
            // written.
            let next = direct_map.frame(frame).addr().get();
            assert_eq!(next, metadata.first.addr().get() + at * PAGE_SIZE, "frames follow each other");
        }
        for word in metadata.slice::<AtomicU64>(0, frames.frames() as usize * PAGE_SIZE / 8) {
            // Relaxed: `Once` publishes the zone that is made of it.
            word.store(0, Ordering::Relaxed);
        }
        metadata
    }

    /// `number` values from frame `frame` on, as `MetadataFrames::of` has found room for them.
    fn slice<T: AtomicWords>(&self, frame: u64, number: usize) -> &'static [T] {
        // SAFETY: `DirectMap` (whose implementer promises it) has these frames for ever, as `new`
        // has asked for each, readable, writable, consecutive and aligned, and all software
        // accesses them atomically only, as is done here.
        unsafe { slice::from_raw_parts(self.first.add(frame as usize * PAGE_SIZE).cast().as_ptr(), number) }
    }
}
