//! The frame allocator: which frames are free.
//!
//! [`area`] keeps one cache line of bits and a word for them to come home to per 2 MiB area,
//! [`runs`] finds blocks in words, [`tree`] holds the packed hints that make the best place quick
//! to find, [`shelf`] sorts them, [`store`] allocates from all of it, [`loose`] finds single pages
//! and whole areas that were freed and have not come back to the store, [`slot`] is what each CPU
//! remembers of that, [`zone`] ties them to a page protocol, and [`many`] hands out and takes back
//! many blocks at once. Nothing is ever written into the frames themselves, and there is no lock
//! and no state in which anybody has to wait for somebody.

pub(crate) mod area;
pub(crate) mod claim;
pub(crate) mod config;
pub(crate) mod hooks;
pub(crate) mod layout;
pub(crate) mod loose;
pub(crate) mod many;
#[cfg(feature = "std")]
pub(crate) mod memory;
pub(crate) mod nodes;
mod runs;
mod shelf;
pub(crate) mod slot;
pub(crate) mod store;
pub(crate) mod tree;
pub(crate) mod zone;
