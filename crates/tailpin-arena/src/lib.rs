#![doc = include_str!("../README.md")]

#[cfg(not(target_os = "linux"))]
compile_error!("tailpin-arena knows the memory of Linux and no other");

mod arena;
mod backing;
mod buffer;
mod builder;
mod census;
#[cfg(feature = "compio")]
mod defined;
mod error;
mod fork;
mod giving;
mod history;
mod inner;
mod keep;
mod life;
mod mapping;
mod memory;
mod memory_file;
mod release;
mod releaser;
mod residency;
pub mod shared;
mod slice;
mod stats;
mod system;
mod witness;

// What others read into, keep and count.
mod discard;
mod footprint;
mod read_buffer;

// Friends, each a feature.
#[cfg(feature = "allocator-api2")]
mod allocator_api;
#[cfg(feature = "arrow")]
mod arrow;
#[cfg(feature = "bytes")]
mod bytes;
#[cfg(feature = "compio")]
mod compio;
#[cfg(feature = "foyer")]
pub mod foyer;
#[cfg(feature = "io-uring")]
pub mod io_uring;
#[cfg(feature = "monoio")]
mod monoio;
#[cfg(feature = "tokio")]
mod tokio;
#[cfg(feature = "vm-memory")]
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
