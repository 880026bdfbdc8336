#![doc = include_str!("../README.md")]

#[cfg(not(target_os = "linux"))]
compile_error!("tailpin-arena knows the memory of Linux and no other");

// What takes numbers of a caller's computes with them checked, or says why it can't overflow.
#[deny(clippy::arithmetic_side_effects)]
mod arena;
mod backing;
#[deny(clippy::arithmetic_side_effects)]
mod buffer;
#[deny(clippy::arithmetic_side_effects)]
mod builder;
mod census;
#[cfg(feature = "compio")]
mod defined;
mod error;
mod fork;
mod giving;
mod history;
mod inner;
#[deny(clippy::arithmetic_side_effects)]
mod keep;
mod life;
mod mapping;
#[deny(clippy::arithmetic_side_effects)]
mod memory;
mod memory_file;
mod release;
#[deny(clippy::arithmetic_side_effects)]
mod releaser;
mod residency;
pub mod shared;
#[deny(clippy::arithmetic_side_effects)]
mod slice;
mod stats;
mod system;
mod witness;

// What others read into, keep and count.
#[deny(clippy::arithmetic_side_effects)]
mod discard;
#[deny(clippy::arithmetic_side_effects)]
mod footprint;
#[deny(clippy::arithmetic_side_effects)]
mod read_buffer;

// Friends, each a feature.
#[cfg(feature = "allocator-api2")]
#[deny(clippy::arithmetic_side_effects)]
mod allocator_api;
#[cfg(feature = "arrow")]
#[deny(clippy::arithmetic_side_effects)]
mod arrow;
#[cfg(feature = "bytes")]
#[deny(clippy::arithmetic_side_effects)]
mod bytes;
#[cfg(feature = "compio")]
#[deny(clippy::arithmetic_side_effects)]
mod compio;
#[cfg(feature = "foyer")]
#[deny(clippy::arithmetic_side_effects)]
pub mod foyer;
#[cfg(feature = "io-uring")]
#[deny(clippy::arithmetic_side_effects)]
pub mod io_uring;
#[cfg(feature = "monoio")]
#[deny(clippy::arithmetic_side_effects)]
mod monoio;
#[cfg(feature = "tokio")]
#[deny(clippy::arithmetic_side_effects)]
mod tokio;
#[cfg(feature = "vm-memory")]
#[deny(clippy::arithmetic_side_effects)]
pub mod vm_memory;

pub use arena::{Arena, Registration};
pub use backing::{Abilities, Ability, Backing, HugeSize, Reason};
pub use buffer::Buffer;
pub use builder::Builder;
pub use error::{AllocError, BuildError, ReleaseError, SliceError};
pub use keep::{Kept, Policy};
pub use memory::PlainMemory;
pub use release::{Released, Stop};
pub use releaser::{Pace, Releaser};
pub use slice::Slice;
pub use stats::{Holder, LeakReport, Stats};

pub use read_buffer::ReadBuffer;

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
