//! Looking at every page, and what is told of it.

pub(crate) mod history;
pub(crate) mod page_walk;
pub(crate) mod stats;
