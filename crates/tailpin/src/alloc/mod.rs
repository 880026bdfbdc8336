//! The frame allocator: which frames are free.
//!
//! [`area`] keeps one cache line of bits and a counter per 2 MiB area, [`tree`] the packed summaries that make an
//! area with room quick to find, [`store`] allocates from both, [`slot`] caches single pages per CPU in front, and
//! [`zone`] ties them to a page protocol. Nothing is ever written into the frames themselves, and there is no lock:
//! a CPU's cache is entered by one try; who finds it busy goes to the store.

pub(crate) mod area;
pub(crate) mod claim;
pub(crate) mod config;
pub(crate) mod hooks;
pub(crate) mod layout;
#[cfg(feature = "std")]
pub(crate) mod memory;
pub(crate) mod nodes;
pub(crate) mod slot;
pub(crate) mod store;
pub(crate) mod tree;
pub(crate) mod zone;
