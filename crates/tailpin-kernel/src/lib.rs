#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]
#![doc = include_str!("../README.md")]

#[cfg(test)]
extern crate std;

mod adapters;
mod cpus;
mod frames;
mod kernel;
mod rounds;
mod safeguards;

#[cfg(feature = "axallocator")]
pub use adapters::axallocator::ArceosPages;
#[cfg(feature = "memory_set")]
pub use adapters::memory_set::SpaceBackend;
#[cfg(feature = "page_table_multiarch")]
pub use adapters::page_table_multiarch::{HasFrames, Paging};
pub use cpus::{Cpus, InterruptsOff};
pub use frames::{Frames, FramesConfig, InitError, MemoryMap, Use};
pub use kernel::lock::{Answers, Mutex, RawRwLock};
pub use kernel::{Kernel, KernelEnv};
pub use rounds::{MAX_CPUS, Marks, Rounds, Section};
pub use safeguards::{AllSafeguards, Safeguard, Safeguards};
