//! Exceptions and interrupts: descriptor tables, handlers, accesses that may fault, programs in
//! ring 3.

#![allow(unsafe_code)]

use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use tailpin_mm::{Access, Space, VirtAddr};
use x86_64::PrivilegeLevel;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::registers::control::Cr2;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::idt::InterruptDescriptorTable;
use x86_64::structures::tss::TaskStateSegment;

use crate::breakable::Breakable;
use crate::breaks::{self, Break};
use crate::cpus::{self, CPUS, MAX_CPUS};
use crate::machine::{self, ROUNDS};
use crate::{apic, say};

/// Bytes of each stack, as in `boot.s`.
const STACK_BYTES: usize = 0x1_0000;

#[repr(C, align(4096))]
struct Stack(UnsafeCell<[u64; STACK_BYTES / 8]>);

// SAFETY: each is used by one CPU only, as its stack; `deepest` reads what it left there.
unsafe impl Sync for Stack {}

impl Stack {
    const fn new() -> Self {
        Self(UnsafeCell::new([0; STACK_BYTES / 8]))
    }
}

/// The stacks that the CPUs run on. `boot.s` finds them.
#[unsafe(no_mangle)]
static cpu_stacks: [Stack; MAX_CPUS] = [const { Stack::new() }; MAX_CPUS];

/// The stacks of handlers: page faults, interrupts, and everything else (system calls, too).
static HANDLER_STACKS: [[Stack; 3]; MAX_CPUS] = [const { [const { Stack::new() }; 3] }; MAX_CPUS];
const PAGE_FAULTS: u16 = 0;
const INTERRUPTS: u16 = 1;
const OTHERS: u16 = 2;

const KERNEL_CODE: SegmentSelector = SegmentSelector(8);
const KERNEL_DATA: SegmentSelector = SegmentSelector(16);
/// The first task state segment: after null, kernel code and data, one unused, user data (0x20) and
/// user code (0x28).
const FIRST_TASK: u16 = 0x30;

struct Tables {
    gdt: GlobalDescriptorTable<32>,
    idt: InterruptDescriptorTable,
    tasks: [TaskStateSegment; MAX_CPUS],
}

struct TablesCell(UnsafeCell<Tables>);

// SAFETY: written by `make_tables` while one CPU runs; from then on only read, by the processors.
unsafe impl Sync for TablesCell {}

static TABLES: TablesCell = TablesCell(UnsafeCell::new(Tables {
    gdt: GlobalDescriptorTable::empty(),
    idt: InterruptDescriptorTable::new(),
    tasks: [const { TaskStateSegment::new() }; MAX_CPUS],
}));

unsafe extern "C" {
    fn page_fault_stub();
    fn general_protection_stub();
    fn double_fault_stub();
    fn invalid_opcode_stub();
    fn shootdown_stub();
    fn wake_stub();
    fn system_call_stub();
    fn probe_begin();
    fn probe_end();
    fn probe_faulted();
    fn probe_read(address: u64, value: *mut u64) -> u64;
    fn probe_read_half(address: u64, value: *mut u32) -> u64;
    fn probe_write(address: u64, value: u64) -> u64;
    fn enter_user(rip: u64, rsp: u64, saved: *const u64, rdi: u64) -> u64;
    fn leave_user(saved: u64, value: u64) -> !;
}

/// Fills the tables that all CPUs share. Called once, before the other CPUs run.
pub(crate) fn make_tables() {
    // SAFETY: one CPU runs, and has not loaded them.
    let Tables { gdt, idt, tasks } = unsafe { &mut *TABLES.0.get() };
    gdt.append(Descriptor::kernel_code_segment());
    gdt.append(Descriptor::kernel_data_segment());
    gdt.append(Descriptor::UserSegment(0));
    gdt.append(Descriptor::user_data_segment());
    gdt.append(Descriptor::user_code_segment());
    for (task, stacks) in tasks.iter_mut().zip(&HANDLER_STACKS) {
        let end = |stack: u16| {
            x86_64::VirtAddr::from_ptr(stacks[usize::from(stack)].0.get().cast::<u8>()) + STACK_BYTES as u64
        };
        for stack in [PAGE_FAULTS, INTERRUPTS, OTHERS] {
            task.interrupt_stack_table[usize::from(stack)] = end(stack);
        }
        task.privilege_stack_table[0] = end(OTHERS);
    }
    for task in &*tasks {
        // SAFETY: the segment is in a static.
        gdt.append(unsafe { Descriptor::tss_segment_unchecked(task) });
    }
    // An entry of the interrupt table takes over the code segment of the moment it is made, so the
    // segments come first. Else the first fault is a double fault.
    load_segments();
    let at = |stub: unsafe extern "C" fn()| x86_64::VirtAddr::new(stub as *const () as u64);
    // SAFETY: the stubs are such handlers, and the stacks are set in every CPU's task segment.
    unsafe {
        idt.page_fault.set_handler_addr(at(page_fault_stub)).set_stack_index(PAGE_FAULTS);
        idt.general_protection_fault.set_handler_addr(at(general_protection_stub)).set_stack_index(OTHERS);
        idt.double_fault.set_handler_addr(at(double_fault_stub)).set_stack_index(OTHERS);
        idt.invalid_opcode.set_handler_addr(at(invalid_opcode_stub)).set_stack_index(OTHERS);
        idt[apic::SHOOTDOWN].set_handler_addr(at(shootdown_stub)).set_stack_index(INTERRUPTS);
        idt[apic::WAKE].set_handler_addr(at(wake_stub)).set_stack_index(INTERRUPTS);
        idt[0x80].set_handler_addr(at(system_call_stub)).set_privilege_level(PrivilegeLevel::Ring3);
    }
}

fn load_segments() {
    // SAFETY: the table is in a static and has these segments; no reference to it is used mutably
    // while this one is.
    unsafe {
        (*TABLES.0.get()).gdt.load_unsafe();
        CS::set_reg(KERNEL_CODE);
        SS::set_reg(KERNEL_DATA);
        DS::set_reg(KERNEL_DATA);
        ES::set_reg(KERNEL_DATA);
    }
}

/// Makes this CPU ready: it is number `cpu` from now on.
pub(crate) fn set_up_cpu(cpu: usize) {
    load_segments();
    let task = SegmentSelector(FIRST_TASK + 16 * cpu as u16);
    // SAFETY: `make_tables` has put the CPU's task segment there, and filled the interrupt table.
    unsafe {
        x86_64::instructions::tables::load_tss(task);
        (*TABLES.0.get()).idt.load_unsafe();
    }
    // Relaxed: read by others after the CPU has come online.
    CPUS[cpu].apic.store(apic::enable(), Ordering::Relaxed);
    if breaks::is(Break::WriteProtect) {
        machine::clear_write_protect();
    }
}

/// Which CPU this is: from the task register, which works in both rings and in handlers without
/// `swapgs`.
pub(crate) fn task_register_cpu() -> usize {
    let task: u16;
    // SAFETY: reads the task register.
    unsafe { asm!("str {0:x}", out(reg) task, options(nomem, nostack, preserves_flags)) };
    usize::from(task.saturating_sub(FIRST_TASK) / 16)
}

/// Bytes of a CPU's own stack and of its page-fault handler's that were ever used.
pub(crate) fn deepest(cpu: usize) -> (usize, usize) {
    let used = |stack: &Stack| {
        let words = stack.0.get().cast::<u64>();
        let untouched = (0..STACK_BYTES / 8)
            // SAFETY: within the stack; its CPU may write to it, which a volatile read allows for.
            .position(|word| unsafe { words.add(word).read_volatile() } != 0)
            .unwrap_or(STACK_BYTES / 8);
        STACK_BYTES - untouched * 8
    };
    (used(&cpu_stacks[cpu]), used(&HANDLER_STACKS[cpu][usize::from(PAGE_FAULTS)]))
}

/// The space that each CPU runs.
static SPACES: [AtomicPtr<Space<'static, Breakable>>; MAX_CPUS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];

/// Does `f` with `space` loaded on this CPU; its page faults are served.
pub(crate) fn in_space<T>(space: &Space<'static, Breakable>, f: impl FnOnce() -> T) -> T {
    let slot = &SPACES[cpus::this_cpu()];
    // Relaxed: only this CPU reads it.
    slot.store((&raw const *space).cast_mut(), Ordering::Relaxed);
    space.switch_to();
    let result = f();
    space.mm().switch_to_kernel();
    slot.store(core::ptr::null_mut(), Ordering::Relaxed);
    result
}

/// Reads a word as the processor does, `None` if the fault is refused.
pub(crate) fn read(address: VirtAddr) -> Option<u64> {
    let mut value = 0;
    check_probe(address);
    // SAFETY: a user's address: no memory of Rust's. A fault there is served or ends the probe.
    (unsafe { probe_read(address.get(), &raw mut value) } == 0).then_some(value)
}

/// Reads 32 bits as the processor does, as registers of devices want it.
pub(crate) fn read_half(address: VirtAddr) -> Option<u32> {
    let mut value = 0;
    check_probe(address);
    // SAFETY: as `read`.
    (unsafe { probe_read_half(address.get(), &raw mut value) } == 0).then_some(value)
}

/// Writes a word as the processor does; whether that was allowed.
pub(crate) fn write(address: VirtAddr, value: u64) -> bool {
    check_probe(address);
    // SAFETY: as `read`.
    unsafe { probe_write(address.get(), value) == 0 }
}

fn check_probe(address: VirtAddr) {
    assert!(address.get() < 1 << 47, "probes are for users' addresses");
}

/// The stack pointer that `leave_user` goes back to, of each CPU.
static BEFORE_USER: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// What a program in ring 3 came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UserEnd {
    /// It left by a system call, with this value.
    Left(u64),
    /// A fault was refused.
    Refused,
}

const REFUSED: u64 = u64::MAX;

/// Runs a program in ring 3, in the space that is loaded, with `argument` in RDI. It ends by
/// `int 0x80`, with its value in RDI, or by a fault that is refused.
pub(crate) fn run_user(program: VirtAddr, stack: VirtAddr, argument: u64) -> UserEnd {
    let saved = BEFORE_USER[cpus::this_cpu()].as_ptr();
    // SAFETY: the program runs in ring 3, where it reaches what its space maps for users, and comes
    // back by `leave_user` with the saved stack pointer.
    let value = unsafe { enter_user(program.get(), stack.get(), saved, argument) };
    // A handler ended it, with interrupts off.
    machine::interrupts_on();
    if value == REFUSED { UserEnd::Refused } else { UserEnd::Left(value) }
}

/// What the stubs push, from the last to the first.
#[repr(C)]
struct Frame {
    r15_to_rdi: [u64; 11],
    rsi: u64,
    rdx: u64,
    rcx: u64,
    rax: u64,
    code: u64,
    rip: u64,
    cs: u64,
    flags: u64,
    rsp: u64,
    ss: u64,
}

impl Frame {
    fn rdi(&self) -> u64 {
        self.r15_to_rdi[10]
    }

    fn is_user(&self) -> bool {
        self.cs & 3 == 3
    }
}

/// Bits of a page fault's error code.
const WRITE: u64 = 2;
const FETCH: u64 = 16;

#[unsafe(no_mangle)]
extern "C" fn page_fault(frame: &mut Frame) {
    let address = VirtAddr::new(Cr2::read_raw());
    let cpu = cpus::this();
    cpu.faults.fetch_add(1, Ordering::Relaxed);
    // Relaxed: only this CPU writes it.
    let space = SPACES[cpus::this_cpu()].load(Ordering::Relaxed);
    let access = match frame.code {
        code if code & FETCH != 0 => Access::Execute,
        code if code & WRITE != 0 => Access::Write,
        _ => Access::Read,
    };
    let error = if space.is_null() {
        None
    } else {
        // SAFETY: `in_space` has a reference to it while the pointer is there, on this CPU.
        match unsafe { &*space }.fault(address, access) {
            Ok(()) => return,
            Err(error) => Some(error),
        }
    };
    cpu.refused.fetch_add(1, Ordering::Relaxed);
    let at = |label: unsafe extern "C" fn()| label as *const () as u64;
    if (at(probe_begin)..at(probe_end)).contains(&frame.rip) {
        frame.rip = at(probe_faulted);
        return;
    }
    if frame.is_user() {
        leave(REFUSED);
    }
    panic!("page fault at {address}, code {:#x}, rip {:#x}: {error:?}", frame.code, frame.rip);
}

/// Ends the program that runs in ring 3 on this CPU.
fn leave(value: u64) -> ! {
    let saved = BEFORE_USER[cpus::this_cpu()].load(Ordering::Relaxed);
    // SAFETY: called only for a frame of ring 3, so `enter_user` has saved it on this CPU, and its
    // caller waits.
    unsafe { leave_user(saved, value) }
}

#[unsafe(no_mangle)]
extern "C" fn general_protection(frame: &mut Frame) {
    if frame.is_user() {
        leave(REFUSED);
    }
    panic!("general protection at rip {:#x}, code {:#x}", frame.rip, frame.code);
}

#[unsafe(no_mangle)]
extern "C" fn invalid_opcode(frame: &mut Frame) {
    if frame.is_user() {
        leave(REFUSED);
    }
    panic!("invalid opcode at rip {:#x}", frame.rip);
}

#[unsafe(no_mangle)]
extern "C" fn double_fault(frame: &mut Frame) {
    panic!("double fault at rip {:#x}, rsp {:#x}", frame.rip, frame.rsp);
}

#[unsafe(no_mangle)]
extern "C" fn shootdown_interrupt(_frame: &mut Frame) {
    cpus::this().shootdowns.fetch_add(1, Ordering::Relaxed);
    ROUNDS.answer(&machine::MACHINE);
    apic::end_of_interrupt();
}

#[unsafe(no_mangle)]
extern "C" fn wake_interrupt(_frame: &mut Frame) {
    apic::end_of_interrupt();
}

#[unsafe(no_mangle)]
extern "C" fn system_call(frame: &mut Frame) {
    leave(frame.rdi());
}

/// Prints what each CPU has come to.
pub(crate) fn summary() {
    for (cpu, state) in CPUS.iter().enumerate().take(cpus::online()) {
        let (own, faults) = deepest(cpu);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        say!(
            "cpu {cpu} faults={} refused={} shootdowns={} stack_bytes={own} fault_stack_bytes={faults}",
            count(&state.faults),
            count(&state.refused),
            count(&state.shootdowns),
        );
    }
}

const _: () = assert!(size_of::<Frame>() == 21 * 8);
