//! In the place of Linux's modules on systems whose memory the arena doesn't know how to ask for:
//! there memory is of the heap, or the caller's.
//!
//! What would be the system's is a type without a value, so that no line which has one is ever
//! reached; what can be asked has an answer that says why it is no.

/// Memory that the system mapped.
pub(crate) mod mapping {
    use std::ops::Range;
    use std::ptr::NonNull;
    use std::sync::atomic::AtomicU64;

    use crate::memory::system::Errno;

    pub(crate) enum Mapping {}

    pub(crate) enum Advice {
        Huge,
        Populate,
    }

    impl Mapping {
        pub(crate) fn base(&self) -> NonNull<u8> {
            match *self {}
        }

        pub(crate) fn len(&self) -> usize {
            match *self {}
        }

        /// # Safety
        /// There is no mapping to call this for.
        pub(crate) unsafe fn words(&self) -> &'static [AtomicU64] {
            match *self {}
        }

        pub(crate) fn is_locked(&self, _range: Range<usize>) -> bool {
            match *self {}
        }

        pub(crate) fn advise(&self, _range: Range<usize>, _advice: Advice) -> Result<(), Errno> {
            match *self {}
        }

        /// # Safety
        /// There is no mapping to call this for.
        pub(crate) unsafe fn discard(&self, _range: Range<usize>) -> Result<(), Errno> {
            match *self {}
        }

        pub(crate) fn disown(&mut self) {
            match *self {}
        }
    }
}

/// Data that the system mapped.
pub(crate) mod mapped {
    use crate::backing::{Backing, Reason};
    use crate::error::BuildError;
    use crate::memory::fork::ForkMark;
    use crate::memory::mapping::Mapping;
    use crate::memory::system::Errno;

    pub(crate) enum Mapped {}

    impl Mapped {
        pub(crate) fn new(_: Backing, _: usize, _: usize, _: usize) -> Result<Self, BuildError> {
            Err(BuildError::Refused(Reason::OnlyOnLinux))
        }

        pub(crate) fn mapping(&self) -> &Mapping {
            match *self {}
        }

        pub(crate) fn is_file(&self) -> bool {
            match *self {}
        }

        pub(crate) fn words(&self, _bytes: usize) -> Result<Mapping, BuildError> {
            match *self {}
        }

        pub(crate) fn fill(&self, _: Backing, _: bool, _: bool) -> Result<bool, BuildError> {
            match *self {}
        }

        pub(crate) fn keep_from_children(
            &self,
            _: Backing,
            _: Option<&Mapping>,
        ) -> Result<Option<ForkMark>, BuildError> {
            match *self {}
        }

        pub(crate) fn disown(&mut self) {
            match *self {}
        }
    }

    /// Whether all memory of the process is locked at once: not that the arena knew.
    pub(crate) fn locks_all() -> Result<bool, BuildError> {
        Ok(false)
    }

    pub(crate) fn why(errno: Errno, _: &'static str, _: usize, _: Backing) -> BuildError {
        match errno {}
    }
}

/// What a forked child notices that it is one by. Memory of the heap is copied by a fork, counts
/// and contents alike, so nothing needs noticing.
pub(crate) mod fork {
    pub(crate) enum ForkMark {}

    impl ForkMark {
        pub(crate) fn is_child(&self) -> bool {
            match *self {}
        }
    }
}

/// What readers in other processes are told: nothing.
pub(crate) mod description {
    use crate::backing::{Backing, Reason};
    use crate::memory::system::Errno;
    use crate::memory::{Data, WordCounts, Words};

    pub(crate) enum Description {}

    pub(crate) fn describe(
        _: Backing,
        _: &Data,
        _: &Words,
        _: WordCounts,
        _: u64,
    ) -> Result<Description, Reason> {
        Err(Reason::OnlyOnLinux)
    }

    impl Description {
        pub(crate) fn names(&self) -> TagNames {
            match *self {}
        }

        pub(crate) fn keep_from_children(&self) -> Result<(), Errno> {
            match *self {}
        }

        pub(crate) fn set_limit(&self, _bytes: Option<usize>) {
            match *self {}
        }

        pub(crate) fn disown(&mut self) {
            match *self {}
        }
    }

    /// Where the names of tags would be written.
    #[derive(Clone, Copy)]
    pub(crate) struct TagNames(());

    impl TagNames {
        pub(crate) const UNTOLD: Self = Self(());

        pub(crate) fn add(self, _number: u16, _name: &str) {}
    }
}

/// What this machine says of itself.
pub(crate) mod system {
    use std::time::Instant;

    /// What the system answered: nothing ever asks it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Errno {}

    impl Errno {
        pub(crate) fn raw_os_error(self) -> i32 {
            match self {}
        }
    }

    pub(crate) fn may_mean_locked(errno: Errno) -> bool {
        match errno {}
    }

    pub(crate) fn lacks_mappings(errno: Errno) -> bool {
        match errno {}
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum HugePages {
        Always,
        OnAdvice,
        Off,
    }

    /// No memory here is the kind that huge pages are asked for.
    pub(crate) fn thp() -> Result<HugePages, Errno> {
        Ok(HugePages::Off)
    }

    /// As [`thp`].
    pub(crate) fn shmem_thp() -> Result<HugePages, Errno> {
        Ok(HugePages::Off)
    }

    /// Memory that can't be given back costs no mappings.
    pub(crate) fn max_map_count() -> u64 {
        0
    }

    /// A number for this thread: there is no way to ask every system for its processor. Threads
    /// that share a number share what is kept for a processor, which costs speed, and nothing else.
    pub(crate) fn current_cpu() -> usize {
        std::thread_local! {
            static HERE: u8 = const { 0 };
        }
        // Where a thread's own variables lie differs from thread to thread, but in bits that depend
        // on the system.
        HERE.with(|here| std::ptr::from_ref(here).addr().wrapping_mul(0x9E37_79B9) >> 16)
    }

    /// Has each forked child call this, where there are forked children.
    ///
    /// # Safety
    /// It may be called in a child of a process with many threads: it does no more than change
    /// words.
    pub(crate) unsafe fn call_in_children(call: extern "C" fn()) {
        #[cfg(unix)]
        // SAFETY: as the caller says.
        unsafe {
            libc::pthread_atfork(None, None, Some(call));
        }
        #[cfg(not(unix))]
        let _ = call;
    }

    /// Whether [`process_barrier`] can be had: no system has it that is not Linux.
    pub(crate) fn has_process_barrier() -> bool {
        false
    }

    /// Not there.
    pub(crate) fn process_barrier() {
        unreachable!("nothing asks for a barrier that it was told is not there")
    }

    /// Ticks have no beginning here: see [`ticks_since`].
    pub(crate) fn ticks() -> u64 {
        0
    }

    /// Ticks since a moment, by the clock: about 32 nanoseconds each.
    pub(crate) fn ticks_since(clock: Instant, _ticks_then: u64) -> u64 {
        u64::try_from(clock.elapsed().as_nanos() >> 5).unwrap_or(u64::MAX)
    }
}
