#![doc = include_str!("readme_links.md")]
#![doc = include_str!("../README.md")]
#![cfg_attr(
    not(all(target_os = "linux", not(tailpin_portable))),
    allow(dead_code, reason = "what only memory of Linux makes use of")
)]

// Arithmetic on a caller's numbers is checked, or its place says why it can't overflow.
#[deny(clippy::arithmetic_side_effects)]
mod arena;
mod arena_ptr;
#[deny(clippy::arithmetic_side_effects)]
mod arenas;
mod backing;
mod budget;
#[deny(clippy::arithmetic_side_effects)]
mod builder;
mod error;
mod events;
#[deny(clippy::arithmetic_side_effects)]
mod handles;
mod history;
mod huge;
#[deny(clippy::arithmetic_side_effects)]
mod integrations;
#[cfg(test)]
mod loom_word;
#[deny(clippy::arithmetic_side_effects)]
mod memory;
mod observe;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
pub mod outside;
mod own_zones;
mod page_notes;
mod reclaim;
#[deny(clippy::arithmetic_side_effects)]
mod requests;
mod residency;
mod settings;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
pub mod shared;
mod shared_state;
mod thread_slot;
mod try_lock;

pub use arena::{Arena, Registration};
pub use backing::{Ability, Backing, HugeSize, Reason};
pub use budget::watermark::Pressure;
pub use builder::Builder;
pub use error::{AllocError, BuildError, ReleaseError, SliceError, TooManyTags};
pub use handles::buffer::Buffer;
pub use handles::either::EitherBuffer;
pub use handles::keep::{Kept, Policy};
pub use handles::slice::Slice;
#[cfg(feature = "bytes")]
pub use integrations::bytes;
#[cfg(feature = "foyer")]
pub use integrations::foyer;
#[cfg(all(feature = "io-uring", target_os = "linux", not(tailpin_portable)))]
pub use integrations::io_uring;
#[cfg(feature = "metrics")]
pub use integrations::metrics;
#[cfg(all(feature = "vm-memory", target_os = "linux", not(tailpin_portable)))]
pub use integrations::vm_memory;
pub use memory::PlainMemory;
pub use memory::abilities::Abilities;
pub use observe::counters::Counters;
pub use observe::stats::{Holder, LeakReport, Stats};
pub use reclaim::release::{Released, Stop};
pub use reclaim::releaser::{Pace, Releaser};

pub use handles::read_buffer::ReadBuffer;
pub use handles::scattered::buffer::ScatteredBuffer;
#[cfg(all(any(feature = "io-uring", feature = "monoio"), target_os = "linux", not(tailpin_portable)))]
pub use handles::scattered::io_vector::IoVector;
pub use handles::scattered::slices::Scattered;
pub use requests::reservation::Reservation;
pub use requests::tag::Tag;
pub use settings::ReleaseBy;
pub use tailpin::PAGE_SIZE;
#[doc(hidden)]
pub use thread_slot::lay_out_for;

/// Handles go to other threads, and outlive the thread that made them.
const _: () = {
    const fn shared<T: Send + Sync + 'static>() {}
    shared::<Arena>();
    shared::<Buffer>();
    shared::<Slice>();
    shared::<EitherBuffer>();
    shared::<Kept>();
    shared::<ReadBuffer>();
    shared::<Registration>();
    shared::<Reservation>();
    shared::<Tag>();
    shared::<ScatteredBuffer>();
    shared::<Scattered>();
};
