//! The frame allocator: which frames are free.
//!
//! [`pageblock`] keeps one cache line of bits and a row map per 2 MiB, [`runs`] finds blocks in
//! words, [`hint_bitmap`] holds the packed hints that make the best place quick to find,
//! [`run_index`] sorts them by order and fullness, [`pool`] allocates from all of it,
//! [`uncoalesced`] holds hints to single pages and whole pageblocks that were freed and are not yet
//! coalesced, [`cpu_cache`] is what each CPU remembers of those. Nothing here knows a zone or a
//! protocol: [`zone`](crate::zone) brings both together. Nothing is ever written into the frames
//! themselves, and there is no lock and no state in which a thread has to wait for another.

pub(crate) mod cpu_cache;
pub(crate) mod hint_bitmap;
pub(crate) mod layout;
pub(crate) mod pageblock;
pub(crate) mod pool;
pub(crate) mod run_index;
mod runs;
pub(crate) mod uncoalesced;
