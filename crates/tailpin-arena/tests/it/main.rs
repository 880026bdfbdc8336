//! The tests of this crate that see it from outside, in one program, since each program has to be
//! linked.

// What looks at the kernel to know what became of memory, and so is Linux's.
#[cfg(target_os = "linux")]
mod common;

mod cache;
mod heap;

// What asks for no more than an arena of the heap can, but looks at the kernel on the way. With
// `--cfg tailpin_portable` these are what shows that such an arena does as others do.
#[cfg(target_os = "linux")]
mod budget;
#[cfg(target_os = "linux")]
mod compare;
#[cfg(target_os = "linux")]
mod copies;
#[cfg(target_os = "linux")]
mod ecosystem_allocator;
#[cfg(target_os = "linux")]
mod ecosystem_arrow;
#[cfg(target_os = "linux")]
mod ecosystem_bytes;
#[cfg(target_os = "linux")]
mod ecosystem_foyer;
#[cfg(target_os = "linux")]
mod ecosystem_serde;
#[cfg(target_os = "linux")]
mod ecosystem_tokio;
#[cfg(target_os = "linux")]
mod model;
#[cfg(target_os = "linux")]
mod read_buffer;

// What the system has a part in.
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
mod counters;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
mod ecosystem_compio;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
mod ecosystem_io_uring;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
mod ecosystem_monoio;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
mod ecosystem_vm_memory;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
mod examples;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
mod extremes;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
mod follow;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
mod huge;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
mod life;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
mod limits;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
mod outside;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
mod panics;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
mod release;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
mod repin;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
mod scattered;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
mod stress;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
mod thread_slots;
#[cfg(all(target_os = "linux", not(tailpin_portable)))]
mod trouble;
