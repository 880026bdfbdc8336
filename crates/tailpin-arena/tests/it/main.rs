//! The tests of this crate that see it from outside, in one program, since each program has to be
//! linked.

mod common;

mod budget;
mod compare;
mod copies;
mod counters;
mod ecosystem_allocator;
mod ecosystem_arrow;
mod ecosystem_bytes;
mod ecosystem_compio;
mod ecosystem_foyer;
mod ecosystem_io_uring;
mod ecosystem_monoio;
mod ecosystem_serde;
mod ecosystem_tokio;
mod ecosystem_vm_memory;
mod examples;
mod extremes;
mod follow;
mod huge;
mod life;
mod limits;
mod model;
mod outside;
mod panics;
mod read_buffer;
mod release;
mod repin;
mod scattered;
mod stress;
mod thread_slots;
mod trouble;
