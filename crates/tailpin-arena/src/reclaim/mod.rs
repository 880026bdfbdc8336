//! Reclaim: memory that goes back to the system, which, how, and what the kernel says of it.

#[deny(clippy::arithmetic_side_effects)]
pub(crate) mod discard;
#[deny(clippy::arithmetic_side_effects)]
pub(crate) mod follow;
pub(crate) mod given;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
pub(crate) mod madvise;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
pub(crate) mod pagemap;
pub(crate) mod release;
#[deny(clippy::arithmetic_side_effects)]
pub(crate) mod releaser;

#[cfg(not(all(target_os = "linux", not(tailpin_portable))))]
pub(crate) mod stand_in;
#[cfg(not(all(target_os = "linux", not(tailpin_portable))))]
pub(crate) use stand_in as madvise;
