//! The tests of this crate that see it from outside, in one program, since linking each takes long.

#[cfg(feature = "bench")]
mod bench;
mod boot;
mod capture;
#[cfg(feature = "check")]
mod check;
mod doctor;
mod first_run;
mod outside;
mod replay;
mod retain;
mod trouble;
