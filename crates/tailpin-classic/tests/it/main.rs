//! What a user of the crate does; the protocol's own tests stand beside the code.

mod examples;
mod extremes;
