#![doc = include_str!("../README.md")]

#[cfg(not(target_os = "linux"))]
compile_error!("tailpin-arena knows the memory of Linux and no other");

// What takes numbers of a caller's computes with them checked, or says why it can't overflow.
mod arena;
#[deny(clippy::arithmetic_side_effects)]
#[deny(clippy::arithmetic_side_effects)]
mod builder;
#[cfg(feature = "compio")]
mod defined;
mod error;
mod handles;
mod inner;
mod integrations;
#[deny(clippy::arithmetic_side_effects)]
mod liveness;
#[deny(clippy::arithmetic_side_effects)]
mod memory;
mod observe;
#[deny(clippy::arithmetic_side_effects)]
mod reclaim;
#[deny(clippy::arithmetic_side_effects)]
pub mod shared;
#[deny(clippy::arithmetic_side_effects)]
// What others read into, keep and count.
#[deny(clippy::arithmetic_side_effects)]
#[deny(clippy::arithmetic_side_effects)]
#[deny(clippy::arithmetic_side_effects)]
// Friends, each a feature.
#[cfg(feature = "allocator-api2")]
#[deny(clippy::arithmetic_side_effects)]
#[cfg(feature = "arrow")]
#[deny(clippy::arithmetic_side_effects)]
#[cfg(feature = "bytes")]
#[deny(clippy::arithmetic_side_effects)]
#[cfg(feature = "compio")]
#[deny(clippy::arithmetic_side_effects)]
#[cfg(feature = "foyer")]
#[deny(clippy::arithmetic_side_effects)]
#[cfg(feature = "io-uring")]
#[deny(clippy::arithmetic_side_effects)]
#[cfg(feature = "monoio")]
#[deny(clippy::arithmetic_side_effects)]
#[cfg(feature = "tokio")]
#[deny(clippy::arithmetic_side_effects)]
#[cfg(feature = "vm-memory")]
#[deny(clippy::arithmetic_side_effects)]
pub use arena::{Arena, Registration};
pub use builder::Builder;
pub use error::{AllocError, BuildError, ReleaseError, SliceError};
pub use handles::buffer::Buffer;
pub use handles::keep::{Kept, Policy};
pub use handles::slice::Slice;
pub use memory::PlainMemory;
pub use memory::backing::{Abilities, Ability, Backing, HugeSize, Reason};
pub use observe::stats::{Holder, LeakReport, Stats};
pub use reclaim::release::{Released, Stop};
pub use reclaim::releaser::{Pace, Releaser};

pub use handles::read_buffer::ReadBuffer;

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

pub use integrations::foyer;
pub use integrations::io_uring;
pub use integrations::vm_memory;
