//! Reclaim: memory that goes back to the system, which, how, and what the kernel says of it.

#[deny(clippy::arithmetic_side_effects)]
pub(crate) mod discard;
#[deny(clippy::arithmetic_side_effects)]
pub(crate) mod follow;
pub(crate) mod madvise;
pub(crate) mod pagemap;
pub(crate) mod release;
#[deny(clippy::arithmetic_side_effects)]
pub(crate) mod releaser;
