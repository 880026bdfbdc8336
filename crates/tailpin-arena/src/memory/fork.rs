//! How a forked child notices that it is one.
//!
//! Private memory is copied by a fork, counts and contents alike: both processes have a whole arena
//! of their own, and nothing needs noticing. Shared memory is not copied: a child that dropped the
//! slices it inherited would take counts that are its parent's. So such mappings stay with the
//! parent, and this page, which a fork wipes, says who one is.

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io;
use rustix::mm::{Advice, madvise};
use tailpin::PAGE_SIZE;

use crate::memory::mapping::{Mapping, Source};

/// One word that reads 1 in the process that made it, and 0 in its forked children.
pub(crate) struct ForkMark {
    page: Mapping,
}

impl ForkMark {
    pub(crate) fn new() -> io::Result<Self> {
        let page = Mapping::new(Source::Anonymous, PAGE_SIZE, PAGE_SIZE)?;
        // SAFETY: the page is this value's own; its contents change only in a child, where that is
        // the purpose.
        unsafe { madvise(page.base().as_ptr().cast(), page.len(), Advice::LinuxWipeOnFork) }?;
        let mark = Self { page };
        mark.word().store(1, Ordering::Relaxed);
        Ok(mark)
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: the page is mapped, aligned, initialised and only ever used as this atomic while
        // `self` lives.
        unsafe { self.page.base().cast::<AtomicU32>().as_ref() }
    }

    /// Relaxed: written once before it is shared; what wipes it is the start of another process.
    pub(crate) fn is_child(&self) -> bool {
        self.word().load(Ordering::Relaxed) == 0
    }
}
