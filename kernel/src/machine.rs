//! The machine under the library: the direct map, translations, interrupts, the clock, ports, and
//! what `tailpin_mm` asks of a kernel.

#![allow(unsafe_code)]

use core::arch::asm;
use core::fmt::Write;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use tailpin::Pfn;
use tailpin_mm::arch::X86_64;
use tailpin_mm::{DirectMap, Env, ReadSide, SpaceId, Stale, Tlb, VirtRange};
use x86_64::instructions::{interrupts, port::Port};
use x86_64::registers::control::Cr3;

use crate::breaks::{self, Break, Kept};
use crate::cpus::{self, MAX_CPUS, this_cpu};
use crate::rounds::{Cpus, Rounds, Section};
use crate::{apic, boot};

/// Where all of memory is mapped.
pub(crate) const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;

/// Bytes of the direct map: one table of 1 GiB leaves.
pub(crate) const DIRECT_MAP_BYTES: u64 = 512 << 30;

/// Flushes of more pages than this drop everything instead.
const FLUSHED_ONE_BY_ONE: u64 = 64;

/// Ticks that a CPU waits for the answer of another: some ten seconds, which none takes unless it
/// never comes.
const PATIENCE: u64 = 25_000_000_000;

/// The environment of `tailpin_mm`. It has no state of its own: statics have.
pub(crate) struct Machine;

/// The one there is.
pub(crate) static MACHINE: Machine = Machine;

/// The shootdown rounds of this machine.
pub(crate) static ROUNDS: Rounds<MAX_CPUS, Kept> = Rounds::new();

/// A frame at which CPU 1 stops for a while before it accesses it, and for how many turns: what a
/// scenario needs to hold a window open.
pub(crate) static SLOW_FRAME: AtomicU64 = AtomicU64::new(u64::MAX);
const SLOW_TURNS: u32 = 100_000;

/// Turns that a CPU waits, with interrupts off, before it asks another for an answer: a window for
/// the other one to ask, too.
pub(crate) static TURNS_BEFORE_ASKING: AtomicU64 = AtomicU64::new(0);

/// The address of a physical address in the direct map.
pub(crate) fn direct<T>(physical: u64) -> *mut T {
    assert!(physical < DIRECT_MAP_BYTES, "{physical:#x} is beyond the direct map");
    (DIRECT_MAP + physical) as *mut T
}

/// The words of a frame of the zone, which all software accesses atomically only.
pub(crate) fn words(frame: Pfn) -> &'static [AtomicU64; 512] {
    assert!(boot::zone().state(frame).is_some(), "frame {frame} is not of the zone");
    // SAFETY: the direct map has every frame of the zone, for ever; nothing of Rust's lies in one,
    // and `DirectMap`'s contract is that they are accessed atomically.
    unsafe { &*direct::<[AtomicU64; 512]>(frame.get() << 12) }
}

/// Processor ticks since some moment.
pub(crate) fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Goes on after about `ticks`.
pub(crate) fn pause(ticks_to_wait: u64) {
    let start = ticks();
    while ticks() - start < ticks_to_wait {
        core::hint::spin_loop();
    }
}

/// Does `f` with interrupts off.
pub(crate) fn without_interrupts<T>(f: impl FnOnce() -> T) -> T {
    interrupts::without_interrupts(f)
}

/// Waits for the next interrupt unless `ready` says, with interrupts off, that there is no need.
pub(crate) fn wait_for_interrupt(ready: impl FnOnce() -> bool) {
    interrupts::disable();
    if ready() {
        interrupts::enable();
    } else {
        interrupts::enable_and_hlt();
    }
}

/// Turns interrupts on.
pub(crate) fn interrupts_on() {
    interrupts::enable();
}

/// Puts a page table into this CPU's root register, and so drops its translations.
pub(crate) fn load_root(root: Pfn) {
    if breaks::is(Break::Switch) && Cr3::read_raw().0.start_address().as_u64() == root.get() << 12 {
        return;
    }
    // SAFETY: the callers are `traps::in_space`, which holds the root's reference while it is
    // loaded, and the way back to the kernel's own table. Both have the upper half that this code
    // runs in.
    unsafe { asm!("mov cr3, {}", in(reg) root.get() << 12, options(nostack, preserves_flags)) };
}

/// The 512 bytes of the screen of poor machines: the first serial port.
pub(crate) struct Serial;

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let mut port = Port::<u8>::new(0x3f8);
        for byte in text.bytes() {
            // SAFETY: the data register of the first serial port; QEMU's is always ready.
            unsafe { port.write(byte) };
        }
        Ok(())
    }
}

/// Masks the old interrupt controllers: their timer's vector is that of a double fault.
pub(crate) fn mask_old_controllers() {
    for port in [0x21u16, 0xa1] {
        // SAFETY: the mask registers of the two 8259s; nothing here uses their interrupts.
        unsafe { Port::<u8>::new(port).write(0xff) };
    }
}

/// Ends QEMU with status `2 * code + 1`.
pub(crate) fn exit(code: u32) -> ! {
    // SAFETY: the port of QEMU's isa-debug-exit device; on a machine without it nothing listens.
    unsafe { Port::<u32>::new(0xf4).write(code) };
    loop {
        x86_64::instructions::hlt();
    }
}

/// Ring 0 writes through read-only leaves on this CPU.
pub(crate) fn clear_write_protect() {
    use x86_64::registers::control::{Cr0, Cr0Flags};
    // SAFETY: for the break that shows that the scenarios look; kernel memory is writable anyway.
    unsafe { Cr0::update(|flags| flags.remove(Cr0Flags::WRITE_PROTECT)) };
}

impl Cpus for Machine {
    fn this_cpu(&self) -> usize {
        this_cpu()
    }

    fn send_ipi(&self, cpu: usize) {
        cpus::this().asked_at.store(ticks(), Ordering::Relaxed);
        for _ in 0..TURNS_BEFORE_ASKING.load(Ordering::Relaxed) {
            core::hint::spin_loop();
        }
        apic::send(cpu, apic::SHOOTDOWN);
    }

    fn flush_all(&self) {
        x86_64::instructions::tlb::flush_all();
    }

    fn interrupts_off(&self) -> bool {
        let on = interrupts::are_enabled();
        interrupts::disable();
        on
    }

    fn interrupts_on(&self) {
        interrupts::enable();
    }

    fn relax(&self) {
        let waited = ticks() - cpus::this().asked_at.load(Ordering::Relaxed);
        assert!(waited < PATIENCE, "another CPU has given no answer for {waited} ticks");
        core::hint::spin_loop();
    }
}

/// Answers shootdowns from wherever a CPU waits.
pub(crate) fn answer_while_waiting() {
    without_interrupts(|| ROUNDS.answer(&MACHINE));
    core::hint::spin_loop();
}

/// Threads that wait for a lock answer shootdowns: its holder may wait for this CPU's answer, and
/// interrupts may be off.
pub(crate) struct Answers;

impl spin::RelaxStrategy for Answers {
    fn relax() {
        if breaks::is(Break::LockAnswers) {
            core::hint::spin_loop();
        } else {
            answer_while_waiting();
        }
    }
}

// SAFETY: the direct map has all of memory, the kernel's page tables included, at one offset, and
// it is complete before the first space is made.
unsafe impl DirectMap for Machine {
    fn frame(&self, frame: Pfn) -> NonNull<u8> {
        if frame.get() == SLOW_FRAME.load(Ordering::Relaxed) && this_cpu() == 1 {
            for _ in 0..SLOW_TURNS {
                core::hint::spin_loop();
            }
        }
        NonNull::new(direct(frame.get() << 12)).expect("the direct map does not begin at zero")
    }
}

impl ReadSide for Machine {
    type Section<'a> = Section<'a, Machine>;

    fn enter<'a>(&'a self, (): &'a ()) -> Section<'a, Machine> {
        ROUNDS.enter(self)
    }
}

/// Flushes asked for, under [`Break::LateFlush`].
static FLUSHES: AtomicU64 = AtomicU64::new(0);

impl Tlb for Machine {
    /// Nothing: a round is for all CPUs, whatever space they run.
    type Context = ();

    fn new_context(&self, _space: SpaceId) {}

    fn invalidate(&self, (): &(), stale: Stale) {
        // Two of three are made up for by the next, when counts have been given back already.
        if breaks::is(Break::LateFlush) && !FLUSHES.fetch_add(1, Ordering::Relaxed).is_multiple_of(3) {
            return;
        }
        if !breaks::is(Break::LocalFlush) {
            flush_here(stale.range);
        }
        ROUNDS.round(self, |_| true);
    }
}

fn flush_here(range: VirtRange) {
    if range.len() > FLUSHED_ONE_BY_ONE << 12 {
        x86_64::instructions::tlb::flush_all();
        return;
    }
    for page in range.start.page()..range.end.page() {
        x86_64::instructions::tlb::flush(x86_64::VirtAddr::new_truncate(page << 12));
    }
}

impl Env for Machine {
    type Arch = X86_64;
    type Lock = spin::rwlock::RwLock<(), Answers>;

    fn relax(&self) {
        answer_while_waiting();
    }
}
