//! What an arena was built to do.

/// Which thread gives memory back to the system that is free above a watermark; see
/// [`Builder::release_above`](crate::Builder::release_above).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReleaseBy {
    /// The thread whose drop brings so much about, within that drop: about 10 microseconds for each
    /// MiB that is free in whole pageblocks of 2 MiB, 300 where single pages go.
    #[default]
    Drops,
    /// A thread of the arena's own, which sleeps until there is something to do, and ends with the
    /// arena's last handle. It delays no drop.
    Thread,
    /// None, but when the program calls [`Arena::poll_release`](crate::Arena::poll_release) or
    /// [`Arena::release`](crate::Arena::release).
    Poll,
}

/// What an arena was built to do; it never changes.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) keep_resident: usize,
    /// Pages that may be free and have memory before a release is due; `None` if none ever is.
    pub(crate) release_above: Option<u64>,
    pub(crate) release_by: ReleaseBy,
    pub(crate) locked: bool,
    pub(crate) split_huge_pages: u64,
}
