//! The kernel this runs on, as a peer: what it does with huge pages, pins and processes.

mod huge;
mod pins;
mod process;
mod vmstat;

pub(crate) use huge::{BLOCK_PAGES, HugeMemory};
pub(crate) use pins::{Registered, Spliced};
pub(crate) use process::fork_and_wait;
pub(crate) use vmstat::free_pages;
