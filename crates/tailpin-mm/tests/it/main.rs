//! The tests of this crate that see it from outside, in one program, since every program costs a
//! link.

mod common;

mod archs;
mod collapse;
mod cow;
mod ends_of_ranges;
mod examples;
mod failure;
mod faults_injected;
mod foreign;
mod interleave;
mod loaded;
mod objects;
mod oracle;
mod pins;
mod scenarios;
mod scenarios_cow;
mod scenarios_other;
mod shootdowns;
mod spaces;
mod stress;
mod translations;
