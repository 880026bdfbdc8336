//! A kernel over tailpin, tailpin-mm and tailpin-futex, which boots on QEMU and runs scenarios on
//! the MMU. `tailpin boot` builds it, boots it and reads its report.

#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod apic;
mod boot;
mod breaks;
mod cpus;
mod machine;
mod report;
mod rounds;
mod scenarios;
mod scheduler;
mod traps;
