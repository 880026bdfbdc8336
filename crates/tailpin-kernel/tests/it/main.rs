//! The tests of this crate that see it from outside, in one program, since linking each takes long.

#[cfg(feature = "axallocator")]
mod arceos_pages;
mod extremes;
mod frames;
mod machine;
#[cfg(feature = "memory_set")]
mod memory_areas;
#[cfg(feature = "page_table_multiarch")]
mod paging;
mod spaces;
#[cfg(feature = "x86_64")]
mod x86_64_traits;
