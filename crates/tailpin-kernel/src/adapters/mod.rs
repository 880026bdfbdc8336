//! Frames and spaces for code that speaks the traits of other crates, each a feature.

#[cfg(feature = "axallocator")]
pub(crate) mod axallocator;
#[cfg(feature = "memory_set")]
pub(crate) mod memory_set;
#[cfg(feature = "page_table_multiarch")]
pub(crate) mod page_table_multiarch;
#[cfg(feature = "x86_64")]
mod x86_64;
