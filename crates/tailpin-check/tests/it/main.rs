//! The tests of this crate that see it from outside, in one program, since linking each takes long.

mod many_threads;
mod quick;
mod recorded;
