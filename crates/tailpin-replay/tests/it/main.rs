//! What a user of the crate does; what a trace may ask for is tested beside the code.

mod examples;
mod extremes;
