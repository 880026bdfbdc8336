//! The machine under the library: the direct map, translations, interrupts, the clock, ports, and
//! what the kit asks of a kernel.

#![allow(unsafe_code)]

use core::arch::asm;
use core::fmt::Write;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use tailpin::{FrameRange, Kind, Pfn};
use tailpin_kernel::{Cpus, Frames, Kernel, Rounds};
use tailpin_mm::arch::X86_64;
use tailpin_mm::{CacheType, DirectMap, Map, Prot};
use x86_64::instructions::{interrupts, port::Port};
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::mapper::CleanUp;
use x86_64::structures::paging::{
    FrameDeallocator, Mapper, OffsetPageTable, Page, PageSize, PageTable, PageTableFlags, PhysFrame,
};

use crate::breakable::Breakable;
use crate::breaks::{self, Break, Kept};
use crate::cpus::{self, MAX_CPUS, this_cpu};
use crate::{apic, boot};

/// Where all of memory is mapped.
pub(crate) const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;

/// Bytes of the direct map: one table of 1 GiB leaves.
pub(crate) const DIRECT_MAP_BYTES: u64 = 512 << 30;

/// Ticks that a CPU waits for the answer of another: some ten seconds, which none takes unless it
/// never comes.
const PATIENCE: u64 = 25_000_000_000;

/// This kernel, as the kit knows it. It has no state of its own: statics have.
pub(crate) struct Machine;

/// The one there is.
pub(crate) static MACHINE: Machine = Machine;

/// The shootdown rounds of this machine.
pub(crate) static ROUNDS: Rounds<Kept> = Rounds::new();

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

/// The words of a frame that is in service, which all software accesses atomically only.
pub(crate) fn words(frame: Pfn) -> &'static [AtomicU64; 512] {
    let kind = boot::FRAMES.zone().state(frame).map(|state| state.kind);
    assert!(kind.is_some_and(|kind| kind != Kind::Reserved), "frame {frame} is not in service");
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

/// The first serial port.
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
        for _ in 0..TURNS_BEFORE_ASKING.load(Ordering::Relaxed) {
            core::hint::spin_loop();
        }
        apic::send(cpu, apic::SHOOTDOWN);
    }

    fn flush_all(&self) {
        x86_64::instructions::tlb::flush_all();
    }

    fn flush(&self, address: u64, pages: u64) {
        if breaks::is(Break::LocalFlush) {
            return;
        }
        for page in 0..pages {
            x86_64::instructions::tlb::flush(x86_64::VirtAddr::new_truncate(address + (page << 12)));
        }
    }

    fn interrupts_off(&self) -> bool {
        let on = interrupts::are_enabled();
        interrupts::disable();
        // A round begins so, and each turn of waiting for a lock.
        cpus::this().off_since.store(ticks(), Ordering::Relaxed);
        on
    }

    fn interrupts_on(&self) {
        interrupts::enable();
    }

    fn relax(&self) {
        let waited = ticks() - cpus::this().off_since.load(Ordering::Relaxed);
        assert!(waited < PATIENCE, "another CPU has given no answer for {waited} ticks");
        core::hint::spin_loop();
    }
}

/// Answers shootdowns from wherever a CPU waits.
pub(crate) fn answer_while_waiting() {
    ROUNDS.answer_while_waiting(&MACHINE);
}

// SAFETY: the direct map has all of memory, the kernel's page tables included, at one offset, and
// it is complete before the first frame is handed out. `clear` and `copy` write to their frames
// only: `rep stosb` and `rep movsb` take each byte as it is at some moment.
unsafe impl DirectMap for Machine {
    fn frame(&self, frame: Pfn) -> NonNull<u8> {
        if frame.get() == SLOW_FRAME.load(Ordering::Relaxed) && this_cpu() == 1 {
            for _ in 0..SLOW_TURNS {
                core::hint::spin_loop();
            }
        }
        NonNull::new(direct(frame.get() << 12)).expect("the direct map does not begin at zero")
    }

    fn clear(&self, first: Pfn, frames: u64) {
        let (to, bytes) = (self.frame(first).as_ptr(), frames << 12);
        // SAFETY: these frames, which the caller has and no other thread accesses.
        unsafe {
            asm!("rep stosb", inout("rdi") to => _, inout("rcx") bytes => _, in("al") 0u8, options(nostack, preserves_flags))
        };
    }

    fn copy(&self, from: Pfn, to: Pfn, frames: u64) {
        let (from, to, bytes) = (self.frame(from).as_ptr(), self.frame(to).as_ptr(), frames << 12);
        // SAFETY: as `clear`; what other threads write to `from` at the same time is no memory of
        // Rust's, and is copied as it is when the instruction comes to it.
        unsafe {
            asm!("rep movsb", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") bytes => _, options(nostack, preserves_flags))
        };
    }
}

impl Kernel for Machine {
    type Arch = X86_64;
    type Safeguards = Kept;

    fn kernel() -> &'static Self {
        &MACHINE
    }

    fn rounds() -> &'static Rounds<Kept> {
        &ROUNDS
    }

    fn cpus() -> usize {
        MAX_CPUS
    }

    fn write_root(&self, table: Option<Pfn>) {
        let root = table.unwrap_or_else(boot::kernel_root);
        if breaks::is(Break::Switch) {
            // A CPU that is to leave a space stays on its table, and has nothing to do when it
            // comes back.
            let loaded = Cr3::read_raw().0.start_address().as_u64() >> 12;
            if table.is_none() || loaded == root.get() {
                return;
            }
        }
        // SAFETY: the kernel's own table, or that of a space, which stays one for as long as it is
        // loaded. Both have the upper half that this code runs in.
        unsafe { asm!("mov cr3, {}", in(reg) root.get() << 12, options(nostack, preserves_flags)) };
    }
}

/// The registers of the local APIC, for users to read.
pub(crate) fn apic_for_users() -> Map<'static, Breakable> {
    let registers = FrameRange::new(Pfn::new(apic::BASE >> 12), 1);
    // SAFETY: no memory; to read them changes nothing that the kernel relies on.
    unsafe { Map::foreign(registers, CacheType::Uncached, Prot::READ) }
}

/// The mapper of crate `x86_64` over a new top-level table in this frame of the caller's, which has
/// the kernel's half.
pub(crate) fn mapper(root: PhysFrame) -> OffsetPageTable<'static> {
    let table = direct::<PageTable>(root.start_address().as_u64());
    let kernel = direct::<PageTable>(boot::kernel_root().get() << 12);
    // SAFETY: the table is the caller's, and all of memory is mapped at this offset. The kernel's
    // table is complete, and is only read.
    unsafe {
        table.write(PageTable::new());
        for entry in 256..512 {
            (&mut *table)[entry] = (&*kernel)[entry].clone();
        }
        OffsetPageTable::new(&mut *table, x86_64::VirtAddr::new(DIRECT_MAP))
    }
}

/// Maps a frame of the caller's, with tables from the kernel's frames.
pub(crate) fn map<S: PageSize>(
    mapper: &mut OffsetPageTable<'static>,
    page: Page<S>,
    frame: PhysFrame<S>,
    flags: PageTableFlags,
) -> Result<(), &'static str>
where
    OffsetPageTable<'static>: Mapper<S>,
{
    // SAFETY: a page of users' addresses, at which nothing of the kernel's is.
    let flush = unsafe { mapper.map_to(page, frame, flags, &mut &boot::FRAMES) };
    flush.map_err(|_| "it can't be mapped")?.ignore();
    Ok(())
}

/// Does `f` with a mapper's table loaded on this CPU.
pub(crate) fn in_table<T>(mapper: &OffsetPageTable<'static>, f: impl FnOnce() -> T) -> T {
    let root = (&raw const *mapper.level_4_table()) as u64 - DIRECT_MAP;
    // SAFETY: it has the kernel's half, and lives during the call.
    unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags)) };
    let result = f();
    MACHINE.write_root(None);
    result
}

/// Gives back a mapper's tables, which map nothing of users any more.
pub(crate) fn end_table(mut mapper: OffsetPageTable<'static>, root: PhysFrame) {
    let users = Page::range_inclusive(
        Page::containing_address(x86_64::VirtAddr::new(0)),
        Page::containing_address(x86_64::VirtAddr::new((1 << 47) - 1)),
    );
    // SAFETY: no CPU has the table loaded.
    unsafe {
        mapper.clean_up_addr_range(users, &mut &boot::FRAMES);
        (&boot::FRAMES).deallocate_frame(root);
    }
}

/// Gives back a frame that nothing maps.
pub(crate) fn free_frame<S: PageSize>(frame: PhysFrame<S>)
where
    &'static Frames: FrameDeallocator<S>,
{
    // SAFETY: the frame is the caller's.
    unsafe { (&boot::FRAMES).deallocate_frame(frame) };
}
