//! The tests of this crate that see it from outside, in one program, since each program is linked
//! by itself.

mod many_threads;
mod quick;
