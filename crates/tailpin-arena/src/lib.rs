#![doc = include_str!("../README.md")]

mod arena;
mod backing;
mod buffer;
mod builder;
mod census;
mod error;
mod fork;
mod history;
mod inner;
mod keep;
mod life;
mod mapping;
mod memory;
mod residency;
mod slice;
mod stats;
mod system;

pub use arena::{Arena, Registration};
pub use backing::{Abilities, Ability, Backing, HugeSize, Reason};
pub use buffer::Buffer;
pub use builder::Builder;
pub use error::{AllocError, BuildError, ReleaseError, SliceError};
pub use keep::{Kept, Policy};
pub use memory::PlainMemory;
pub use slice::Slice;
pub use stats::{Holder, LeakReport, Stats};

/// Handles go to other threads, and outlive whoever made them.
const _: () = {
    const fn shared<T: Send + Sync + 'static>() {}
    shared::<Arena>();
    shared::<Buffer>();
    shared::<Slice>();
    shared::<Kept>();
    shared::<Registration>();
};
