//! Memory in pieces: each a block of its own, so that what survives of a read is whole pieces, and
//! no block is ever split.

pub(crate) mod buffer;
pub(crate) mod frozen;
#[cfg(all(any(feature = "io-uring", feature = "monoio"), target_os = "linux", not(tailpin_portable)))]
pub(crate) mod io_vector;
pub(crate) mod pieces;
pub(crate) mod slices;
