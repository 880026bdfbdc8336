//! The tests of this crate that see it from outside, in one program, since linking each takes long.

mod bench;
mod doctor;
mod replay;
mod retain;
mod trouble;
