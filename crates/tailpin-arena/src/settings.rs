//! What an arena was built to do.

use crate::observe::stats::LeakReport;

/// What an arena was built to do; it never changes.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) keep_resident: usize,
    pub(crate) locked: bool,
    pub(crate) small_page_areas: u64,
    pub(crate) on_leak: Option<fn(&LeakReport)>,
}
