//! The tests of this crate that see it from outside, in one program, since each program is linked
//! by itself.

mod bench;
mod doctor;
mod replay;
mod retain;
mod trouble;
