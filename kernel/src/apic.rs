//! The local APIC: interrupts from one CPU to another, starting the other CPUs, and giving them
//! work.

#![allow(unsafe_code)]

use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::cpus::{self, CPUS};
use crate::machine::{self, direct};

/// Vector of the interrupt that asks for an answer to a shootdown.
pub(crate) const SHOOTDOWN: u8 = 0xf0;
/// Vector of the interrupt that ends a halt.
pub(crate) const WAKE: u8 = 0xf1;

pub(crate) const BASE: u64 = 0xfee0_0000;
const ID: u64 = 0x20;
/// The register that says which kind of APIC it is.
pub(crate) const VERSION: u64 = 0x30;
const END_OF_INTERRUPT: u64 = 0xb0;
const SPURIOUS: u64 = 0xf0;
const COMMAND_LOW: u64 = 0x300;
const COMMAND_HIGH: u64 = 0x310;
/// The last command is still being sent.
const PENDING: u32 = 1 << 12;
/// INIT, and start at 0x8000, to all CPUs but this one.
const INIT_OTHERS: u32 = 0xc_4500;
const START_OTHERS: u32 = 0xc_4608;
/// Where the trampoline runs, as `START_OTHERS` says.
const TRAMPOLINE: u64 = 0x8000;

unsafe extern "C" {
    static __trampoline_loaded: u8;
    static __trampoline_bytes: u8;
}

/// Number of the next CPU that starts. Counted up in `boot.s`.
#[unsafe(no_mangle)]
static cpus_started: AtomicU32 = AtomicU32::new(1);

fn read(register: u64) -> u32 {
    // SAFETY: the APIC's registers are in the direct map, not cached, and are read as words.
    unsafe { direct::<u32>(BASE + register).read_volatile() }
}

fn write(register: u64, value: u32) {
    // SAFETY: as `read`; what the registers written here do is no access to memory of Rust's.
    unsafe { direct::<u32>(BASE + register).write_volatile(value) }
}

/// What kind of APIC this CPU has.
pub(crate) fn version() -> u32 {
    read(VERSION)
}

/// Turns this CPU's APIC on; its number.
pub(crate) fn enable() -> u32 {
    write(SPURIOUS, read(SPURIOUS) | 0x1ff);
    read(ID) >> 24
}

/// Says that an interrupt was served.
pub(crate) fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// Sends a CPU an interrupt.
pub(crate) fn send(cpu: usize, vector: u8) {
    // The two halves of the command belong together.
    machine::without_interrupts(|| {
        while read(COMMAND_LOW) & PENDING != 0 {
            core::hint::spin_loop();
        }
        // Relaxed: written before the CPU came online.
        write(COMMAND_HIGH, CPUS[cpu].apic.load(Ordering::Relaxed) << 24);
        write(COMMAND_LOW, 0x4000 | u32::from(vector));
    });
}

/// Starts all other CPUs.
pub(crate) fn start_others() {
    let bytes = (&raw const __trampoline_bytes) as usize;
    let loaded = direct::<u8>((&raw const __trampoline_loaded) as u64);
    // SAFETY: the symbol's address is the trampoline's length; the page at 0x8000 is reserved for
    // it, and no other CPU runs yet.
    unsafe { core::ptr::copy_nonoverlapping(loaded, direct::<u8>(TRAMPOLINE), bytes) };
    write(COMMAND_LOW, INIT_OTHERS);
    machine::pause(20_000_000);
    for _ in 0..2 {
        write(COMMAND_LOW, START_OTHERS);
        machine::pause(1_000_000);
    }
}

/// Work for every CPU.
type Work = *const (dyn Fn(usize) + Sync);

/// The work that CPUs with `has_work` are to do. Written by the CPU that gives it.
static WORK: AtomicPtr<Work> = AtomicPtr::new(core::ptr::null_mut());

/// Does `f` on every CPU at once, with the CPU's number, and returns when all have.
pub(crate) fn everywhere(f: &(dyn Fn(usize) + Sync)) {
    // SAFETY: only the lifetime changes. No CPU uses it after it has taken `has_work` back, and
    // this function returns after all have; a panic ends the machine.
    let work: Work = unsafe { core::mem::transmute(f) };
    // Release: pairs with the Acquire in `work_when_told`.
    WORK.store((&raw const work).cast_mut(), Ordering::Release);
    let others = 1..cpus::online();
    for cpu in others.clone() {
        // Release: pairs with the Acquire in `work_when_told`.
        CPUS[cpu].has_work.store(true, Ordering::Release);
        send(cpu, WAKE);
    }
    f(0);
    for cpu in others {
        // Acquire: pairs with the Release in `work_when_told`.
        while CPUS[cpu].has_work.load(Ordering::Acquire) {
            core::hint::spin_loop();
        }
    }
}

/// What all CPUs but the first do.
pub(crate) fn work_when_told(cpu: usize) -> ! {
    let has_work = &CPUS[cpu].has_work;
    loop {
        // Acquire: pairs with the Release in `everywhere`.
        machine::wait_for_interrupt(|| has_work.load(Ordering::Acquire));
        if has_work.load(Ordering::Acquire) {
            // SAFETY: it points to a pointer on the stack of `everywhere`, which waits for
            // `has_work` to be taken back.
            unsafe { (**WORK.load(Ordering::Acquire))(cpu) };
            // Release: pairs with the Acquire in `everywhere`.
            has_work.store(false, Ordering::Release);
        }
    }
}
