//! The page walk, and what it finds: statistics and holders.

pub(crate) mod counters;
pub(crate) mod page_walk;
pub(crate) mod stats;
