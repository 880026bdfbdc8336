//! A machine for address spaces: frames that become memory when they are touched, and the zone and
//! notes over them.

use std::ptr::NonNull;

use memmap2::{Advice, MmapMut};
use tailpin::{OneWord, PAGE_BYTES, Pfn, Zone};
use tailpin_mm::{
    DirectMap, Env, FrameInfos, Mm, MmConfig, Ram, ReadSide, SpaceId, Stale, StdEnv, StdSection, Tlb,
};

use super::{Memory, zone};
use crate::lazy::huge_bytes;

const HUGE_BYTES: u64 = 2 << 20;

/// The environment in user space, over memory that is not reserved: its frames may be more than the
/// machine has.
pub(crate) struct LazyEnv {
    /// Kept for its `Drop`.
    _memory: MmapMut,
    /// The frame with number 0.
    first: NonNull<u8>,
    frames: u64,
    /// Sections and invalidations are this one's.
    std: Ram,
}

// SAFETY: the memory is this value's alone, handed out only as `DirectMap` says, for atomic access.
unsafe impl Send for LazyEnv {}
// SAFETY: as above.
unsafe impl Sync for LazyEnv {}

impl LazyEnv {
    fn new(frames: u64) -> Self {
        let mut memory = huge_bytes((frames * PAGE_BYTES + HUGE_BYTES) as usize);
        // For the sake of speed: a system that refuses forks a little slower.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(Advice::DontFork);
        let skip = memory.as_ptr().align_offset(HUGE_BYTES as usize);
        let first = NonNull::from(&mut memory[skip]);
        Self { _memory: memory, first, frames, std: Ram::new(HUGE_BYTES) }
    }

    fn sections(&self) -> &StdEnv {
        self.std.env()
    }
}

// SAFETY: the memory lives as long as `self`, begins at a multiple of 2 MiB, and frames follow each
// other in it.
unsafe impl DirectMap for LazyEnv {
    fn frame(&self, frame: Pfn) -> NonNull<u8> {
        assert!(frame.get() < self.frames, "frame {frame} is not of this memory");
        // SAFETY: within the mapping, as was just checked: it has 2 MiB more than the frames, of
        // which less were skipped.
        unsafe { self.first.add((frame.get() * PAGE_BYTES) as usize) }
    }
}

impl ReadSide for LazyEnv {
    type Section<'a> = StdSection<'a>;

    fn enter<'a>(&'a self, (): &'a ()) -> StdSection<'a> {
        self.sections().enter(&())
    }
}

impl Tlb for LazyEnv {
    type Context = ();

    fn new_context(&self, _space: SpaceId) {}

    fn invalidate(&self, (): &(), stale: Stale) {
        self.sections().invalidate(&(), stale);
    }
}

impl Env for LazyEnv {
    type Arch = <StdEnv as Env>::Arch;
    type Lock = <StdEnv as Env>::Lock;

    fn relax(&self) {
        self.sections().relax();
    }
}

/// All that spaces need but their zone, which borrows it.
pub(crate) struct Machine {
    env: LazyEnv,
    metadata: Memory,
    infos: FrameInfos<'static>,
    frames: u64,
}

impl Machine {
    /// With so many MiB of frames.
    pub(crate) fn new(mib: u64) -> Self {
        let frames = mib * 256;
        let infos = FrameInfos::new(frames);
        Self { env: LazyEnv::new(frames), metadata: Memory::new::<OneWord<'_>>(frames), infos, frames }
    }

    /// Its zone. Once.
    pub(crate) fn zone(&self) -> Zone<'_> {
        zone(&self.metadata, self.frames)
    }

    /// Address spaces over its zone. Once.
    pub(crate) fn mm<'z>(&'z self, zone: &'z Zone<'z>) -> Mm<'z, LazyEnv> {
        Mm::new(zone, &self.env, &self.infos, MmConfig::default())
            .expect("there is a page, and an entry for each")
    }
}
