//! The tests of this crate that see it from outside, in one program, since each program has to be
//! linked.

#[macro_use]
mod common;

mod accesses;
mod allocator;
mod audit;
mod between_cpus;
mod claim;
mod dead_thread;
mod examples;
mod extremes;
mod found;
mod handles;
mod interrupted;
mod last_slice;
mod late_memory;
mod leave_service;
mod local;
mod lookup;
mod many;
mod misuse;
mod model;
mod panics;
mod parked;
mod placement;
mod refused;
mod rest;
mod run_places;
mod runs;
mod slices;
mod stopped_thread;
mod stress;
mod tokens;
mod touched;
mod truth;
