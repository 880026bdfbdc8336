//! The tests of this crate that see it from outside, in one program, since linking each takes long.

mod common;

#[cfg(all(feature = "std", feature = "mm"))]
mod examples;
mod exit;
mod inheritance;
mod keys;
#[cfg(feature = "mm")]
mod large_pages;
mod last_moment;
mod ltp;
mod numbers;
mod panics;
mod properties;
mod since_2019;
mod stress;
mod wake_op;
