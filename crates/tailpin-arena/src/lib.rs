#![doc = include_str!("../README.md")]

#[cfg(feature = "allocator-api2")]
mod allocator_api;
mod arena;
#[cfg(feature = "arrow")]
mod arrow;
mod backing;
mod buffer;
mod builder;
#[cfg(feature = "bytes")]
mod bytes;
mod census;
#[cfg(feature = "compio")]
mod compio;
mod error;
mod footprint;
mod fork;
#[cfg(feature = "foyer")]
pub mod foyer;
mod history;
mod inner;
#[cfg(feature = "io-uring")]
pub mod io_uring;
mod keep;
mod life;
mod mapping;
mod memory;
#[cfg(feature = "monoio")]
mod monoio;
mod read_buffer;
mod residency;
mod slice;
mod stats;
mod system;
#[cfg(feature = "tokio")]
mod tokio;

pub use arena::{Arena, Registration};
pub use backing::{Abilities, Ability, Backing, HugeSize, Reason};
pub use buffer::Buffer;
pub use builder::Builder;
pub use error::{AllocError, BuildError, ReleaseError, SliceError};
pub use keep::{Kept, Policy};
pub use memory::PlainMemory;
pub use read_buffer::ReadBuffer;
pub use slice::Slice;
pub use stats::{Holder, LeakReport, Stats};

/// Handles go to other threads, and outlive whoever made them.
const _: () = {
    const fn shared<T: Send + Sync + 'static>() {}
    shared::<Arena>();
    shared::<Buffer>();
    shared::<Slice>();
    shared::<Kept>();
    shared::<ReadBuffer>();
    shared::<Registration>();
};
