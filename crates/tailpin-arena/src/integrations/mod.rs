//! Integrations: traits of other crates for an arena's types, each a feature.

#[cfg(any(feature = "allocator-api2", feature = "allocator-api2-02"))]
pub(crate) mod allocator_api;
#[cfg(any(feature = "arrow", feature = "arrow-58", feature = "arrow-59"))]
pub(crate) mod arrow;
#[cfg(feature = "bytes")]
pub mod bytes;
#[cfg(feature = "compio")]
pub(crate) mod compio;
#[cfg(feature = "foyer")]
pub mod foyer;
#[cfg(all(feature = "io-uring", target_os = "linux", not(tailpin_portable)))]
pub mod io_uring;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(all(feature = "monoio", target_os = "linux", not(tailpin_portable)))]
pub(crate) mod monoio;
#[cfg(feature = "serde")]
pub(crate) mod serde;
#[cfg(feature = "tokio")]
pub(crate) mod tokio;
#[cfg(all(feature = "vm-memory", target_os = "linux", not(tailpin_portable)))]
pub mod vm_memory;
