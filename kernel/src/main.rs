//! A kernel over tailpin, tailpin-mm, tailpin-futex and tailpin-kernel, which boots on QEMU and
//! runs scenarios on the MMU. `tailpin boot` builds it, boots it and reads its report.

#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod apic;
mod boot;
mod breakable;
mod breaks;
mod cpus;
mod machine;
mod report;
mod scenarios;
mod scheduler;
mod traps;
