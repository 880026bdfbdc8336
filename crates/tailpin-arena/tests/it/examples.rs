//! The examples run as they are. Those that take minutes, or a file of the caller's, are left out.

#[cfg(feature = "arrow")]
#[path = "../../examples/arrow_columns.rs"]
mod arrow_columns;
#[cfg(feature = "bytes")]
#[path = "../../examples/bytes_slices.rs"]
mod bytes_slices;
#[cfg(feature = "compio")]
#[path = "../../examples/compio_file.rs"]
mod compio_file;
#[cfg(feature = "foyer")]
#[path = "../../examples/foyer_cache.rs"]
mod foyer_cache;
#[cfg(feature = "vm-memory")]
#[path = "../../examples/guest_balloon.rs"]
mod guest_balloon;
#[cfg(feature = "monoio")]
#[path = "../../examples/monoio_file.rs"]
mod monoio_file;
#[cfg(feature = "tokio")]
#[path = "../../examples/tokio_headers.rs"]
mod tokio_headers;
#[cfg(feature = "allocator-api2")]
#[path = "../../examples/vec_in_arena.rs"]
mod vec_in_arena;
