//! The frame allocator: which frames are free.
//!
//! [`allocator`] is the whole of it, over any protocol: [`take_frames`] says where the frames of a
//! request come from, [`free_sink`] where they go, [`uncoalesced`] is the short way of pages and
//! pageblocks from one to the other, [`set_aside`] takes frames out of service, [`config`] and
//! [`hooks`] are what a caller may say to it. Below: [`pageblock`] keeps one cache line of bits and
//! a row map per 2 MiB, [`runs`] finds blocks in words, [`hint_bitmap`] holds the packed hints that
//! make the best place quick to find, [`run_index`] sorts them by order and fullness, [`pool`]
//! allocates from all of it, [`uncoalesced_hints`] lead to single pages and whole pageblocks that
//! were freed and are not yet coalesced, [`cpu_cache`] is what each CPU remembers of those.
//!
//! Nothing here knows a zone or a handle: [`zone`](crate::zone) is made of an allocator. Nothing is
//! ever written into the frames themselves, and there is no lock and no state in which a thread has
//! to wait for another.

pub(crate) mod allocator;
pub(crate) mod config;
pub(crate) mod cpu_cache;
mod free_run;
mod free_sink;
pub(crate) mod hint_bitmap;
pub(crate) mod hooks;
pub(crate) mod ids;
mod late_memory;
pub(crate) mod layout;
pub(crate) mod own_places;
pub(crate) mod pageblock;
mod parked;
pub(crate) mod pool;
pub(crate) mod run_index;
pub(crate) mod run_request;
mod runs;
pub(crate) mod set_aside;
mod take_frames;
mod take_run;
mod uncoalesced;
pub(crate) mod uncoalesced_hints;

#[cfg(test)]
mod tests;
