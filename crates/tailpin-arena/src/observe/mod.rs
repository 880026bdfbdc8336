//! The page walk, and what it finds: statistics, holders, history.

pub(crate) mod history;
pub(crate) mod page_walk;
pub(crate) mod stats;
