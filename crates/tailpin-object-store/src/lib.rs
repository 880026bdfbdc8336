#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod counters;
mod land;
mod ranges;
mod store;

pub use counters::Counters;
pub use store::{ArenaStore, WhenFull};
