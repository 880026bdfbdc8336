//! Memory in pieces: each a block of its own, so that what survives of a read is whole pieces, and
//! no block is ever split.

pub(crate) mod buffer;
#[cfg(any(feature = "io-uring", feature = "monoio"))]
pub(crate) mod io_vector;
pub(crate) mod pieces;
pub(crate) mod slices;
