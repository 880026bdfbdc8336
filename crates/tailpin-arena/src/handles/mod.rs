//! What a user has of an arena: buffers, slices, what is kept of them.

pub(crate) mod buffer;
pub(crate) mod compare;
#[cfg(feature = "compio")]
pub(crate) mod defined;
pub(crate) mod either;
#[cfg(feature = "tokio")]
pub(crate) mod fill;
pub(crate) mod footprint;
pub(crate) mod fragments;
pub(crate) mod keep;
pub(crate) mod range;
pub(crate) mod read_buffer;
pub(crate) mod repin;
pub(crate) mod scattered;
pub(crate) mod slice;
