//! Traits of other crates, each a feature.

pub(crate) mod allocator_api;
pub(crate) mod arrow;
pub(crate) mod bytes;
pub(crate) mod compio;
pub mod foyer;
pub mod io_uring;
pub(crate) mod monoio;
pub(crate) mod tokio;
pub mod vm_memory;
