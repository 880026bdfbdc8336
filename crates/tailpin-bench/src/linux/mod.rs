//! The kernel this runs on, as a peer: what it does with huge pages, pins and processes.

mod huge;
mod pins;
mod process;
mod vmstat;
#[cfg(target_arch = "x86_64")]
mod written;

pub(crate) use huge::{BLOCK_PAGES, HugeMemory};
pub(crate) use pins::{Registered, Spliced};
pub(crate) use process::fork_and_wait;
#[cfg(target_arch = "x86_64")]
pub(crate) use process::told_by_a_copy;
pub(crate) use vmstat::free_pages;
#[cfg(target_arch = "x86_64")]
pub(crate) use written::{Watch, own_addresses};
